"""What happened, in words: one line for each fact that a commit records or that a builder says. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.records.ledger import EntryRecord, Transaction

#: Where a line comes from: the demonstration's own doing, a commit of the ledger, a builder's process.
Source = Literal["demo", "ledger", "process"]

#: What a builder that has made its package is heard to say.
MADE = "has made the package"
_MODULE = re.compile(r"\[(\d+)/(\d+)\] ([^,]+)")


@dataclass(frozen=True)
class Event:
    """One line of the story, `seconds` after its beginning. `commit` is the one that records it."""

    seconds: float
    who: str
    source: Source
    text: str
    commit: str | None = None


def short(token: str) -> str:
    """Returns the part of a fencing token that orders it: epoch and number."""
    return ".".join(token.split(".")[:2])


def progress(line: str) -> int | None:
    """Returns how far a build has come by a line: its module's number; None for another line."""
    found = _MODULE.match(line)
    return int(found[1]) if found else None


def heard(line: str) -> str | None:
    """Returns what a line of a building process tells in the story; None for one that tells nothing new."""
    if found := _MODULE.match(line):
        number, of, name = found.groups()
        return f"builds {name} ({number} of {of})"
    if line.startswith("== packages: success"):
        return MADE
    if not line.strip() or line.startswith(("== ", "fetching ")):
        return None
    return line


class Narrator:
    """Tells the ledger's transactions one after the other; jobs are numbered as they are ordered."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def name(self, job_id: str) -> str:
        """Returns what a job is called in the story."""
        number = self._numbers.setdefault(job_id, len(self._numbers) + 1)
        return f"job {number}"

    def tell(self, record: Transaction) -> list[tuple[str, str]]:
        """Returns who did what, by a transaction; what was refused did nothing."""
        if record.kind == "genesis":
            return [("ledger", "begins")]
        told = []
        for entry in record.entries:
            text = self._text(entry) if entry.outcome.get("ok") else None
            if text is not None:
                told.append((str(entry.request.get("builder", "?")), text))
        return told

    def _text(self, entry: EntryRecord) -> str | None:
        request, value = entry.request, dict(entry.outcome.get("value") or {})
        job = self.name(str(request.get("job_id") or value.get("job_id") or "")) if _of_a_job(entry) else ""
        match request.get("kind"):
            case "job.create":
                return f"orders {job} for {request.get('target') or 'whoever comes first'}"
            case "job.claim" | "job.start":
                return f"takes {job}: attempt {value.get('attempt')}, token {short(str(value.get('token')))}"
            case "job.complete":
                return _result(job, request, value)
            case "job.requeue":
                return f"puts {job} back, token {short(str(request.get('token')))} is void: {_proof(entry)}"
            case "lock.break":
                lost = f"; {job} waits again, token {short(str(request.get('token')))} is void" if job else ""
                return f"frees {request.get('name')} by force{lost}"
            case "message.send":
                return f"writes to {request.get('to')}: {request.get('subject')}"
            case "message.read":
                return "has read its message"
            case "withdraw":
                return "takes back what a dead process had asked for"
            case kind:
                return str(kind)


def _of_a_job(entry: EntryRecord) -> bool:
    value = entry.outcome.get("value") or {}
    return bool(entry.request.get("job_id") or value.get("job_id"))


def _result(job: str, request: dict[str, Any], value: dict[str, Any]) -> str:
    token = short(str(request.get("token")))
    if not value.get("accepted"):
        return f"reports {job} under token {token}, which is void: kept as late, it does not count"
    seconds = float(request.get("duration_seconds") or 0.0)
    return f"reports {job} under token {token}: {request.get('outcome')} after {seconds:.1f} s"


def _proof(entry: EntryRecord) -> str:
    seen = entry.evidence.observations
    if process := seen.get("process_dead"):
        pid = str(process).split("/")[-2:-1]
        return f"its process{f' {pid[0]}' if pid else ''} is dead"
    if silence := seen.get("silence_seconds"):
        return f"its builder was silent for {float(silence):.0f} s"
    return "without proof"

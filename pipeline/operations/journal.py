"""What an attempt leaves on disk, so that whoever comes after a crash can find it, end it and report it.

    <work>/attempts/<job>.<attempt>/attempt.json   which attempt this is, and under which token
                                   /completion/    the report, complete before it is named so
    <work>/damaged/<job>.<attempt>/     a report that could not be read, put aside
    <work>/jobs/<job>.<attempt>/    its tree, and the journal of its processes (builds.workspace)

Everything is written to a temporary name, fsynced and renamed; the folder too is fsynced, and so are those
above an attempt's. A report is renamed as one folder, and goes as one: an attempt that was reported gets a
hidden name before anything of it is removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.edge.disk import flush_folder
from pipeline.edge.plain_file import read_plain
from pipeline.errors import PipelineError, RecordInvalid
from pipeline.records.base import dump_json, load_json
from pipeline.records.requests import JobComplete, parse_request

_REQUEST = "request.json"
_REMOVING = ".removing-"
_REBUILD = "Look at it by hand, or build again."

Step = Callable[[str], None]


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt on this machine."""

    job_id: str
    attempt: int
    token: str
    builder: str
    branch: str
    commit: str
    process: str


def folder_of(work: Path, job_id: str, attempt: int) -> Path:
    """Returns the folder of an attempt."""
    return work / "attempts" / f"{job_id}.{attempt}"


def job_of(folder: Path) -> str:
    """Returns the job of an attempt's folder, whatever is in it."""
    return folder.name.rpartition(".")[0]


def attempts(work: Path) -> list[Path]:
    """Returns the folders of all attempts that left something here."""
    place = work / "attempts"
    if not place.is_dir():
        return []
    return sorted(p for p in place.iterdir() if not p.name.startswith(".") and p.is_dir())


def write(folder: Path, record: AttemptRecord, step: Step = lambda name: None) -> None:
    """Notes an attempt, durably. `step` is told each point on which a crash could fall."""
    _make(folder)
    write_durably(folder / "attempt.json", dump_json(asdict(record)), step)


def read(folder: Path) -> AttemptRecord | None:
    """Reads an attempt's note; None where there is none, or one that a power loss cut.

    Where the note is damaged and a report was kept, the report says the same.
    """
    try:
        raw = load_json(read_plain(folder / "attempt.json"), str(folder))
        found = AttemptRecord(**{name: raw[name] for name in AttemptRecord.__dataclass_fields__})
    except (OSError, PipelineError, KeyError, TypeError):
        return _told_by_report(folder)
    texts = [value for name, value in asdict(found).items() if name != "attempt"]
    if type(found.attempt) is not int or not all(isinstance(text, str) for text in texts):
        return _told_by_report(folder)
    return found


def _told_by_report(folder: Path) -> AttemptRecord | None:
    """Returns what a kept report says of its attempt; branch, commit and process are not in it."""
    try:
        kept = read_completion(folder)
    except RecordInvalid:
        return None
    job_id, _, attempt = folder.name.rpartition(".")
    if kept is None or job_id != kept[0]["job_id"] or not attempt.isdecimal():
        return None
    request = kept[0]
    return AttemptRecord(job_id, int(attempt), request["token"], request["builder"], "", "", "")


def _make(folder: Path) -> None:
    """Makes an attempt's folder so that its name outlives a power loss, as what is in it does."""
    folder.mkdir(parents=True, exist_ok=True)
    for above in (folder.parent, folder.parent.parent):
        flush_folder(above)


def remove(folder: Path) -> None:
    """Forgets an attempt that was reported. Half removed it is nobody's attempt; `clear` finishes it."""
    hidden = folder.with_name(f"{_REMOVING}{folder.name}")
    with suppress(OSError):
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        # Before its files go: after a power loss it must not be there again without them.
        flush_folder(folder.parent)
        shutil.rmtree(hidden, ignore_errors=True)


def clear(work: Path) -> None:
    """Finishes removals that were interrupted."""
    for hidden in (work / "attempts").glob(f"{_REMOVING}*"):
        shutil.rmtree(hidden, ignore_errors=True)


def write_completion(
    folder: Path, request: dict[str, Any], payloads: dict[str, bytes], step: Step = lambda name: None
) -> None:
    """Keeps a report until the ledger has it: whole, or not there."""
    if not folder.is_dir():
        _make(folder)
    making = folder / f"completion.{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    for name, data in {**payloads, _REQUEST: dump_json(request)}.items():
        _write_synced(making / name, data)
        step(f"{name} synced")
    flush_folder(making)
    making.rename(folder / "completion")
    step("completion renamed")
    flush_folder(folder)


def keeps_report(folder: Path) -> bool:
    """Says whether a report is kept there, readable or not: then the attempt is not over."""
    return (folder / "completion").is_dir()


def read_completion(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]] | None:
    """Returns a kept report, or None. Raises RecordInvalid for one that is damaged."""
    place = folder / "completion"
    if not place.is_dir():
        return None
    name = str(place / _REQUEST)
    try:
        raw = load_json(read_plain(place / _REQUEST), name, remedy=_REBUILD)
        request = parse_request(raw)
        payloads = {p.name: read_plain(p) for p in place.iterdir() if p.name != _REQUEST}
    except OSError as exc:
        raise RecordInvalid(exc.filename or name, "", f"{exc.strerror}", remedy=_REBUILD) from exc
    if not isinstance(request, JobComplete):
        raise RecordInvalid(name, "kind", "is no report of a build", remedy=_REBUILD)
    return dict(raw), payloads


def put_aside(folder: Path) -> Path:
    """Moves a report that cannot be read out of the way, and returns where it is now. It is never removed."""
    work = folder.parent.parent
    place = work / "damaged" / folder.name
    place.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while place.exists():
        number += 1
        place = place.with_name(f"{folder.name}-{number}")
    (folder / "completion").rename(place)
    return place


def write_durably(place: Path, data: bytes, step: Step = lambda name: None) -> None:
    """Writes a file so that after a power loss it is there whole, or as it was before."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    _write_synced(temporary, data)
    step(f"{place.name} synced")
    temporary.replace(place)
    step(f"{place.name} renamed")
    flush_folder(place.parent)


def _write_synced(place: Path, data: bytes) -> None:
    with place.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

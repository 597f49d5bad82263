"""What is kept of a build's output in the ledger: events, a bounded readable log, and a summary.

The whole raw log stays beside the artifacts (`artifacts.compress_log`). What is made here is small and masked
(`secrets`), because it is written into history. Reading a raw log takes constant memory, however long it or
one of its lines is.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from pipeline.records.builds import Failure, Manifest, ModuleTime, Stage
from pipeline.records.secrets import Masker, mask

MAXIMUM_READABLE_BYTES: Final = 64 * 1024
_HEAD_BYTES: Final = 8 * 1024
_ERROR_BYTES: Final = 24 * 1024
_TAIL_BYTES: Final = 12 * 1024
_TABLE_BYTES: Final = 16 * 1024
#: Lines that are shown around an error.
_BEFORE: Final = 3
_AFTER: Final = 6
_LINE_CHARACTERS: Final = 400
#: What a line's number and end take in a readable log: empty lines fill it, too.
_NUMBER_BYTES: Final = 10
#: What is kept of a line before it is cleaned: escape sequences and letters of several bytes may go yet.
_KEPT_BYTES: Final = _LINE_CHARACTERS * 8
_READ_BYTES: Final = 64 * 1024
_BLOCK_BYTES: Final = 128 * 1024
#: How many different errors are told apart; further ones only count.
_DIFFERENT_ERRORS: Final = 2000
_SUMMARY_BYTES: Final = 24 * 1024
_SLOWEST: Final = 10

_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,500}(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ERROR: Final = re.compile(
    rb"^(?:\x1b\[[0-9;]*m)*\[(?:\x1b\[[0-9;]*m)*ERROR|BUILD FAILURE|^E: |\berror:|^ERROR\b|"
    rb"^npm (?:ERR!|error)|"
    rb"\*\*\* .{0,200}(?:Error|Stop|No rule)|^(?:make|dpkg|dh|fatal)[a-z_-]*: .{0,40}(?:error|failed|fatal)|"
    rb"^fatal: |^Exception in thread|OutOfMemoryError|No space left on device|^Killed$|"
    rb"Tests run:.{0,60}(?:FAILURE|ERROR)!|returned exit code [1-9]"
)
#: What a line, or a whole block of them, is looked through for first: without one of these, no error.
_ERROR_WORDS: Final = (
    b"ERR",
    b"rror:",
    b"FAILURE",
    b"E: ",
    b"npm error",
    b"*** ",
    b"fatal",
    b"Exception in",
    b"OutOfMemory",
    b"No space",
    b"Killed",
    b"exit code",
    b"failed",
)
_KEY_WORD: Final = b"PRIVATE KEY"
#: Lines of Maven's that begin like errors and say nothing.
_EMPTY_ERROR: Final = re.compile(
    r"\[ERROR\]\s*(?:$|\[Help|To see the full|Re-run Maven|For more information)"
)


@dataclass(frozen=True)
class LogFacts:
    """What stands above a readable log. Times are seconds, `failure` None for a success."""

    job_id: str
    builder: str
    branch: str
    commit: str
    status: str
    duration_seconds: float
    failure: Failure | None = None
    stages: Sequence[Stage] = ()
    modules: Sequence[ModuleTime] = ()
    modules_expected: int | None = None


def clean(line: str) -> str:
    """Returns a line of a log as a person reads it: no escape sequences, what a carriage return left."""
    text = _ANSI.sub("", line.rstrip("\r\n"))
    if "\r" in text:
        text = text.rpartition("\r")[2]
    text = _CONTROL.sub("", text)
    if len(text) > _LINE_CHARACTERS:
        text = f"{text[:_LINE_CHARACTERS]} … ({len(text) - _LINE_CHARACTERS} more characters)"
    return text


def readable_log(raw_log: Path, facts: LogFacts) -> bytes:
    """Returns the log that is kept in the ledger: at most 64 KiB of UTF-8, masked.

    Facts and cause, the per-module table, the head of the raw log, every error with its surroundings, and
    the tail. Line numbers are those of the raw log. A raw log that is not there is said to be missing.
    """
    return readable(scan(raw_log), facts)


def scan(raw_log: Path) -> LogScan:
    """Reads a raw log once; `readable` then needs nothing but what stands above it. Raises nothing."""
    found = LogScan()
    try:
        with raw_log.open("rb") as file:
            found.read(file)
    except OSError as exc:
        found.problem = exc.strerror
    return found


def readable(scan: LogScan, facts: LogFacts) -> bytes:
    """Returns the readable log of what was scanned: see `readable_log`."""
    out = [_header(facts), _module_table(facts)]
    if scan.problem is not None:
        out.append(f"\nThe raw log cannot be read: {scan.problem}\n")
        return _bounded("".join(out), MAXIMUM_READABLE_BYTES)
    out.append(f"\n== Head (of {scan.lines} lines) ==\n" + "\n".join(scan.head) + "\n")
    if scan.errors:
        left = f", {scan.errors_left_out} of them not shown" if scan.errors_left_out else ""
        out.append(f"\n== Errors ({scan.errors}{left}) ==\n" + "\n".join(scan.windows) + "\n")
    tail = scan.tail()
    if tail:
        out.append("\n== Tail ==\n" + "\n".join(tail) + "\n")
    return _bounded("".join(out), MAXIMUM_READABLE_BYTES)


class _Line(NamedTuple):
    """One line that may be shown: its number, its bytes (a long one's first), inside a key or not."""

    number: int
    data: bytes
    in_key: bool

    def shown(self) -> str:
        """Returns the line numbered, cleaned and masked. What is inside a private key is not shown at all."""
        text = clean(self.data.decode(errors="replace"))
        return f"{self.number:>7}  {'***** (private key)' if self.in_key else mask(text)}"


class LogScan:
    """One pass over a raw log. Everything that it keeps is bounded.

    Blocks without any word of an error are only counted; the last lines of the latest are kept for what may
    come after them. `problem` says why the log could not be read.
    """

    def __init__(self) -> None:
        self.head: list[str] = []
        self.head_lines = 0
        self.windows: list[str] = []
        self.recent: deque[_Line] = deque()
        self.lines = 0
        self.errors = 0
        self.errors_left_out = 0
        self.problem: str | None = None
        self._masker = Masker()
        self._seen: set[str] = set()
        self._recent_bytes = 0
        self._head_left = _HEAD_BYTES
        self._errors_left = _ERROR_BYTES
        self._shown_to = 0
        self._after = 0

    def read(self, file: BinaryIO) -> None:
        """Reads a whole log."""
        while block := file.read(_BLOCK_BYTES):
            if not block.endswith(b"\n"):
                block += file.readline(_READ_BYTES)
            if self._is_quiet(block):
                self._pass_over(block)
            else:
                for line in _split(block):
                    self._take(line)
            while not block.endswith(b"\n") and (block := file.readline(_READ_BYTES)):
                pass  # the rest of an endless line

    def tail(self) -> list[str]:
        """Returns the last lines, without those that the head has."""
        return [line.shown() for line in self.recent if line.number > self.head_lines]

    def _is_quiet(self, block: bytes) -> bool:
        busy = self._head_left > 0 or self._after > 0 or self._masker.in_key or _KEY_WORD in block
        return not busy and not any(word in block for word in _ERROR_WORDS)

    def _pass_over(self, block: bytes) -> None:
        start = block.find(b"\n", max(0, len(block) - 2 * _TAIL_BYTES)) + 1
        passed = block.count(b"\n", 0, start)
        lines = _split(block[start:])
        for number, line in enumerate(lines, self.lines + passed + 1):
            self._remember(_Line(number, line[:_KEPT_BYTES], False))
        self.lines += passed + len(lines)

    def _remember(self, line: _Line) -> None:
        self.recent.append(line)
        self._recent_bytes += len(line.data) + _NUMBER_BYTES
        while self._recent_bytes > _TAIL_BYTES and len(self.recent) > _BEFORE:
            self._recent_bytes -= len(self.recent.popleft().data) + _NUMBER_BYTES

    def _take(self, data: bytes) -> None:
        self.lines += 1
        was_in_key = self._masker.in_key
        self._masker.skip(data)
        line = _Line(self.lines, data[:_KEPT_BYTES], was_in_key or self._masker.in_key)
        if self._head_left > 0:
            text = line.shown()
            self._head_left -= len(text.encode()) + 1
            if self._head_left > 0:
                self.head.append(text)
                self.head_lines = line.number
        if any(word in data for word in _ERROR_WORDS) and _ERROR.search(line.data):
            self._take_error(line)
        if self._after > 0 and line.number > self._shown_to:
            self._keep([line])
            self._after -= 1
        self._remember(line)

    def _take_error(self, line: _Line) -> None:
        text = clean(line.data.decode(errors="replace"))
        if _EMPTY_ERROR.match(text):
            return
        self.errors += 1
        key = re.sub(r"\d+", "#", text)
        if self._errors_left <= 0:
            self.errors_left_out += 1
        elif key not in self._seen:
            if len(self._seen) < _DIFFERENT_ERRORS:
                self._seen.add(key)
            before = [one for one in list(self.recent)[-_BEFORE:] if one.number > self._shown_to]
            if before and self.windows and before[0].number > self._shown_to + 1:
                self.windows.append("  …")
            self._keep([*before, line])
            self._after = _AFTER

    def _keep(self, lines: Sequence[_Line]) -> None:
        if self._errors_left > 0:
            texts = [line.shown() for line in lines]
            self.windows += texts
            self._errors_left -= sum(len(text.encode()) + 1 for text in texts)
            self._shown_to = lines[-1].number


def _split(block: bytes) -> list[bytes]:
    """Returns a block's lines without their ends. A carriage return alone ends none."""
    lines = block.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _header(facts: LogFacts) -> str:
    rows = [
        f"job      {facts.job_id}",
        f"builder  {facts.builder}",
        f"branch   {facts.branch}",
        f"commit   {facts.commit}",
        f"status   {facts.status}, after {facts.duration_seconds:.0f} s",
    ]
    if facts.stages:
        stages = ", ".join(f"{stage.name} {stage.duration_seconds:.1f} s" for stage in facts.stages)
        rows.append(f"stages   {stages}")
    if facts.failure is not None:
        failure = facts.failure
        where = f" in {failure.module}" if failure.module else ""
        line = f" (line {failure.line})" if failure.line else ""
        rows.append(f"failure  {failure.failure_class}{where}{line}: {clean(failure.message)}")
        if failure.remedy:
            rows.append(f"remedy   {clean(failure.remedy)}")
    return mask("\n".join(rows)) + "\n"


def _module_table(facts: LogFacts) -> str:
    if not facts.modules:
        return ""
    of = f" of {facts.modules_expected}" if facts.modules_expected else ""
    rows = [f"\n== Modules ({len(facts.modules)}{of}) =="]
    for module in facts.modules:
        took = "" if module.duration_seconds is None else f"{module.duration_seconds:9.1f} s"
        rows.append(f"{module.status:<8} {took:>11}  {clean(module.name)}")
    return _bounded(mask("\n".join(rows)) + "\n", _TABLE_BYTES).decode()


def _bounded(text: str, maximum: int) -> bytes:
    """Returns UTF-8 of at most `maximum` bytes; what is too long loses its end, at a line, and says so."""
    data = text.encode(errors="replace")
    if len(data) <= maximum:
        return data
    note = b"\n(cut here: too long)\n"
    kept = data[: maximum - len(note)]
    return kept[: kept.rfind(b"\n") if b"\n" in kept else len(kept)].decode(errors="ignore").encode() + note


def summary_markdown(facts: LogFacts, manifest: Manifest | None = None) -> str:
    """Returns a build's summary for people: cause, stages, slowest modules, artifacts. At most 24 KiB."""
    verdict = {"success": "succeeded"}.get(facts.status, facts.status)
    out = [f"# {_cell(facts.branch)} at `{facts.commit[:12]}` {_cell(verdict)} on {_cell(facts.builder)}", ""]
    out.append(f"Job `{_cell(facts.job_id)}`, {facts.duration_seconds:.0f} s.")
    if facts.failure is not None:
        out += _failure_lines(facts.failure)
    if facts.stages:
        out += ["", "| stage | seconds | |", "|---|--:|---|"]
        out += [f"| {_cell(one.name)} | {one.duration_seconds:.1f} | {one.status} |" for one in facts.stages]
    timed = [one for one in facts.modules if one.duration_seconds is not None]
    if timed:
        slowest = sorted(timed, key=lambda one: -(one.duration_seconds or 0.0))[:_SLOWEST]
        done = sum(one.status == "success" for one in facts.modules)
        of = facts.modules_expected or len(facts.modules)
        out += ["", f"{done} of {of} modules; the slowest:", "", "| module | seconds |", "|---|--:|"]
        out += [f"| {_cell(one.name)} | {one.duration_seconds or 0.0:.1f} |" for one in slowest]
    if manifest is not None and manifest.artifacts:
        out += ["", f"{manifest.artifact_count} artifacts, {manifest.total_size_bytes} bytes.", ""]
        out += ["| artifact | bytes | SHA-256 |", "|---|--:|---|"]
        rows = (f"| {_cell(one.name)} | {one.size_bytes} | `{one.sha256}` |" for one in manifest.artifacts)
        out += rows
    return _bounded(mask("\n".join(out) + "\n"), _SUMMARY_BYTES).decode()


def _failure_lines(failure: Failure) -> list[str]:
    where = f" in `{_cell(failure.module)}`" if failure.module else ""
    line = f", line {failure.line} of the log" if failure.line else ""
    lines = ["", f"**{failure.failure_class}**{where}{line}:", "", f"    {clean(failure.message)}"]
    return lines + (["", f"Remedy: {clean(failure.remedy)}"] if failure.remedy else [])


def _cell(text: str) -> str:
    """Returns text that stays in its cell and marks nothing up."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", clean(text.replace("\n", " ")))

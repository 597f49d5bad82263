"""The structured log of one build, written while it runs and valid whenever it is killed.

    NAME.jsonl    a header and one line an event, appended as they happen
    NAME.json     the canonical record, written when the build has ended; the other goes then

Bounded: past `MAXIMUM_EVENTS` only errors are kept, past a reserve nothing, and the last event says how many
were left out. Texts are masked and cut.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from pipeline.builds.logs import clean
from pipeline.edge.clock import Clock
from pipeline.errors import RecordInvalid
from pipeline.records.base import dump, validate
from pipeline.records.builds import LogEvent, StructuredLog
from pipeline.records.secrets import mask

MAXIMUM_EVENTS: Final = 2000
_RESERVE: Final = 200
_MESSAGE_CHARACTERS: Final = 1000
_DETAILS: Final = 20
_MAXIMUM_LINE_BYTES: Final = 256 * 1024

Level = Literal["debug", "info", "warning", "error"]


class StructuredLogWriter:
    """Writes one build's events. `identity` has log_id, job_id, server, branch and commit."""

    def __init__(self, path: Path, identity: Mapping[str, str], clock: Clock) -> None:
        """Begins the log `path` (`….json`). Raises OSError if it cannot be written."""
        self._path = path
        self._lines = path.with_suffix(".jsonl")
        self._clock = clock
        self._kept = self._left_out = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._lines.open("ab", buffering=0)
        self._torn = False
        self._header = {**identity, "started_at": _stamp(clock.now())}
        self._append(self._header)

    def event(self, level: Level, message: str, **details: Any) -> None:
        """Writes one event. A full disk loses the event, never the build."""
        limit = MAXIMUM_EVENTS + (_RESERVE if level == "error" else 0)
        if self._kept >= limit:
            self._left_out += 1
            return
        self._kept += 1
        event = LogEvent(
            timestamp=self._clock.now(),
            level=level,
            message=_short(message),
            details={key: _detail(value) for key, value in list(details.items())[:_DETAILS]},
        )
        self._append(event.model_dump(mode="json"))

    def close(self, status: str, exit_code: int | None, duration_seconds: float | None) -> StructuredLog:
        """Ends the log and returns the record, which is then on disk in its canonical form.

        On a full disk the record is returned all the same, and the lines stay as they are.
        """
        if self._left_out:
            self._kept = 0
            self.event("warning", f"{self._left_out} more events were left out")
        self._file.close()
        events = _events(_rows(self._lines))
        ended = {"status": status, "exit_code": exit_code, "duration_seconds": duration_seconds}
        ended["completed_at"] = _stamp(self._clock.now())
        record = validate(StructuredLog, {**self._header, "events": events, **ended}, str(self._path))
        fresh = self._path.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                file.write(dump(record))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
            self._lines.unlink(missing_ok=True)
        except OSError:
            fresh.unlink(missing_ok=True)
        return record

    def __enter__(self) -> StructuredLogWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _append(self, value: Mapping[str, Any]) -> None:
        line = json.dumps(value, ensure_ascii=False).encode(errors="replace") + b"\n"
        try:
            written = self._file.write(b"\n" + line if self._torn else line)
            self._torn = written != len(line) + self._torn
        except OSError:
            self._torn = True
        self._left_out += self._torn


def recover(lines: Path) -> StructuredLog:
    """Makes a record of what a killed writer left, `status` "unknown"; a torn last line is left out.

    Raises RecordInvalid if not even the header is there.
    """
    try:
        rows = _rows(lines)
    except OSError as exc:
        raise RecordInvalid(str(lines), "", f"cannot be read: {exc.strerror}") from exc
    if not rows or "job_id" not in rows[0]:
        raise RecordInvalid(str(lines), "", "has no header")
    open_ = {"status": "unknown", "exit_code": None, "completed_at": None, "duration_seconds": None}
    return validate(StructuredLog, {**rows[0], "events": _events(rows[1:]), **open_}, str(lines))


def _rows(lines: Path) -> list[dict[str, Any]]:
    rows = []
    with lines.open("rb") as file:
        while line := file.readline(_MAXIMUM_LINE_BYTES):
            row = _row(line)
            if row is not None:
                rows.append(row)
    return rows


def _events(rows: Sequence[dict[str, Any]]) -> list[LogEvent]:
    return [event for row in rows if (event := _event(row)) is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _event(row: dict[str, Any]) -> LogEvent | None:
    try:
        return validate(LogEvent, row, "event")
    except RecordInvalid:
        return None


def _detail(value: Any) -> Any:
    return value if isinstance(value, int | float | bool) or value is None else _short(str(value))


def _short(text: str) -> str:
    cleaned = mask("\n".join(clean(line) for line in text.splitlines()[:20]))
    return cleaned if len(cleaned) <= _MESSAGE_CHARACTERS else cleaned[:_MESSAGE_CHARACTERS] + " …"


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

"""Who waits for a busy machine: a folder beside its lock, in which the kernel knows who is alive.

    <machine lock>.waiting/<id>     one waiter: when it last showed life, then its note; kept locked by it

A waiter that was killed leaves its file unlocked, and whoever looks next removes it. One that is stopped
(Ctrl-Z) keeps its file locked and shows no life: it is passed over after `SILENT_SECONDS`, and has its place
back when it goes on. Where no folder can be made nobody is seen waiting: then luck decides.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.records.base import dump_json, load_json

#: A waiter that has shown no life for so long is passed over.
SILENT_SECONDS = 15.0
_LIFE_BYTES = 24
_NOTE_BYTES = 16 * 1024


@dataclass(frozen=True)
class Waiter:
    """One process that waits for the machine with a queued job.

    `queue` tells ledgers apart: within one, commit order is known. `since` is when it began to wait, in
    seconds since boot.
    """

    id: str
    queue: str
    job_id: str
    priority: int
    since: float
    builder: str


class WaitingRoom:
    """The folder of waiters beside one machine's lock."""

    def __init__(self, machine_lock: Path) -> None:
        self.folder = machine_lock.with_name(f"{machine_lock.name}.waiting")

    @contextmanager
    def entered(self, waiter: Waiter) -> Iterator[Seat]:
        """Is seen by others as long as the block runs and the process lives."""
        seat = Seat(self._sit_down(waiter))
        try:
            seat.show_life(waiter.since)
            yield seat
        finally:
            if seat.handle is not None:
                with suppress(OSError):
                    (self.folder / waiter.id).unlink()
                os.close(seat.handle)
                with suppress(OSError):
                    self.folder.rmdir()

    def waiters(self, now: float) -> list[Waiter]:
        """Returns the living waiters that have shown life lately. Files of dead ones are removed."""
        try:
            places = sorted(self.folder.iterdir())
        except OSError:
            return []
        found = (self._look(place, now) for place in places)
        return [waiter for waiter in found if waiter is not None]

    def _sit_down(self, waiter: Waiter) -> int | None:
        """Makes the waiter's file and keeps it locked; None where it cannot be made."""
        place = self.folder / waiter.id
        try:
            while True:
                self.folder.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # the last one who left took the folder along
                    handle = os.open(place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
                    fcntl.flock(handle, fcntl.LOCK_EX)
                    # Somebody who looked before it was locked took it for a dead one's.
                    if place.stat().st_ino == os.fstat(handle).st_ino:
                        os.pwrite(handle, dump_json(asdict(waiter)), _LIFE_BYTES)
                        return handle
                    os.close(handle)
        except OSError:
            return None

    def _look(self, place: Path, now: float) -> Waiter | None:
        try:
            handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read(os.read(handle, _NOTE_BYTES), place, now)
            place.unlink(missing_ok=True)
            return None
        except OSError:
            return None
        finally:
            os.close(handle)


class Seat:
    """A waiter's place in the room. `handle` is None where it has none: then nobody sees it wait."""

    def __init__(self, handle: int | None) -> None:
        self.handle = handle

    def show_life(self, now: float) -> None:
        """Notes that this waiter still looks at whose turn it is."""
        if self.handle is not None:
            with suppress(OSError):  # a full disk makes it look stopped, and no more
                os.pwrite(self.handle, f"{now:{_LIFE_BYTES - 1}.3f}\n".encode(), 0)


def _read(data: bytes, place: Path, now: float) -> Waiter | None:
    """Reads a waiter's file; None for one that is silent, or not a waiter's at all."""
    try:
        if not now - float(data[:_LIFE_BYTES]) <= SILENT_SECONDS:  # NaN is no sign of life
            return None
        raw = load_json(data[_LIFE_BYTES:], str(place))
        note = Waiter(**{each.name: raw[each.name] for each in fields(Waiter)})
        kinds = (str(note.queue), str(note.job_id), str(note.builder), int(note.priority), float(note.since))
    except (PipelineError, ValueError, KeyError, TypeError, OverflowError):
        return None
    queue, job_id, builder, priority, since = kinds
    return Waiter(place.name, queue, job_id, priority, since, builder)

"""A lock file whose holder has to show life: one that was stopped (Ctrl-Z) is passed over after a deadline.

It only saves work. Non-guarantee: that there is one holder; a stopped one that wakes up holds it still.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StoreError


class LivingLock:
    """One process's handle on a lock file. All times are seconds since boot."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._held: int | None = None

    @contextmanager
    def try_hold(self, now: float, deadline: float) -> Iterator[bool]:
        """Yields True to the one process that holds it, False to the others, without waiting.

        A holder that has shown no life for `deadline` seconds is passed over: its file is unlinked, and the
        next who comes holds a new one. Raises StoreError where the file cannot be made.
        """
        try:
            handle = os.open(self._place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise StoreError(
                f"The lock {self._place} cannot be made: {exc.strerror}.",
                remedy="Free space there, and give this user write access.",
            ) from exc
        try:
            holds = _try_lock(handle)
            if holds:
                self._held = handle
                self.show_life(now)
            elif _last_life(handle, now) < now - deadline and self._is_at(handle):
                self._place.unlink(missing_ok=True)
            yield holds
        finally:
            self._held = None
            os.close(handle)

    def show_life(self, now: float) -> None:
        """Says that this process, if it holds the lock, is not stopped."""
        if self._held is not None:
            os.pwrite(self._held, b"%-31.3f\n" % now, 0)

    def _is_at(self, handle: int) -> bool:
        try:
            return os.fstat(handle).st_ino == self._place.stat().st_ino
        except FileNotFoundError:
            return False


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_life(handle: int, now: float) -> float:
    try:
        return float(os.pread(handle, 32, 0))
    except ValueError:
        return now  # its holder has only just begun

"""The lock that keeps two builds from running on one machine. No clock, no ledger: the kernel holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.records.base import load_json


class MachineLock:
    """Held for the life of the process at most; a process that dies frees it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._handle: int | None = None

    def try_hold(self, note: str) -> bool:
        """Takes the lock without waiting; `note` (JSON) tells others who holds it. Raises StoreError."""
        if self._handle is not None:
            return True
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            while True:
                handle = os.open(self.place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(handle)
                    return False
                # Removed and made anew between open and lock: then this lock is nobody's.
                if self._is_still(handle):
                    break
                os.close(handle)
        except OSError as exc:
            raise StoreError(
                f"The machine's lock {self.place} cannot be used: {exc.strerror}.",
                remedy="Set `machine_lock` to a file on local disk that this user may write.",
            ) from exc
        os.ftruncate(handle, 0)
        os.pwrite(handle, note.encode(), 0)
        self._handle = handle
        return True

    def release(self) -> None:
        """Frees the lock; the file stays."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def holder(self) -> dict[str, str]:
        """Returns the note of who held it last; empty where there is none."""
        try:
            found = load_json(self.place.read_bytes(), str(self.place))
        except Exception:  # a note is for people: an unreadable one says nothing
            return {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def _is_still(self, handle: int) -> bool:
        try:
            return os.fstat(handle).st_ino == self.place.stat().st_ino
        except FileNotFoundError:
            return False

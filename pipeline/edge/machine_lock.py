"""The lock that keeps two builds from running on one machine. No clock, no ledger: the kernel holds it.

The file's content is a note for people: who holds the lock. Where the note cannot be written, on a full disk
or in a file that this user may only read, the lock holds all the same.

The lock lies where anybody may put files. So no link to it is followed, and no note is written into a file
that has another name besides: what stands there would be somebody else's.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from pipeline.errors import PipelineError, StoreError
from pipeline.records.base import load_json

#: Where a file may not be opened for writing, but perhaps for reading, which is enough to lock it.
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_NOTE_BYTES = 64 * 1024
_HERE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_REMEDIES = {
    errno.ELOOP: "Remove that link, or set `machine_lock` to another file.",
    errno.ENOSPC: "Free space on that disk, or set `machine_lock` to a file on another one.",
    errno.EDQUOT: "Free space within this user's quota, or set `machine_lock` to another file.",
}
_ELSEWHERE = "Set `machine_lock` to a file on local disk that this user may write."


class MachineLock:
    """Held for the life of the process at most; a process that dies frees it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._handle: int | None = None

    def try_hold(self, note: str) -> bool:
        """Takes the lock without waiting; `note` (JSON) tells others who holds it. Raises StoreError.

        A note that cannot be written is left out: nobody is told whose the lock is then.
        """
        if self._handle is not None:
            return True
        try:
            while True:
                handle = self._open()
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
            remedy = _REMEDIES.get(exc.errno or 0, _ELSEWHERE)
            raise StoreError(
                f"The machine's lock {self.place} cannot be used: {exc.strerror}.", remedy=remedy
            ) from exc
        self._handle = handle
        with suppress(OSError):
            if os.fstat(handle).st_nlink == 1:
                os.ftruncate(handle, 0)
                os.pwrite(handle, note.encode(), 0)
        return True

    def release(self) -> None:
        """Frees the lock; the file stays."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def holder(self) -> dict[str, str]:
        """Returns the note of who held it last; empty where there is none."""
        try:
            handle = os.open(self.place, os.O_RDONLY | _HERE)
            try:
                found = load_json(os.read(handle, _NOTE_BYTES), str(self.place))
            finally:
                os.close(handle)
        except (OSError, PipelineError):  # a note is for people: an unreadable one says nothing
            return {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def _open(self) -> int:
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.place, os.O_CREAT | os.O_RDWR | _HERE, 0o666)
        except OSError as exc:
            if exc.errno not in _NOT_WRITABLE:
                raise
            with suppress(OSError):
                return os.open(self.place, os.O_RDONLY | _HERE)
            raise

    def _is_still(self, handle: int) -> bool:
        try:
            return os.fstat(handle).st_ino == self.place.stat().st_ino
        except FileNotFoundError:
            return False

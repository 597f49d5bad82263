"""File systems of a run's own, small enough to be filled: tmpfs, in mounts that end with the run."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

_NEW_NAMESPACE, _PRIVATE, _RECURSIVE = 0x20000, 1 << 18, 1 << 14
_DETACH = 2
_LIBC = ctypes.CDLL(None, use_errno=True)


def leave_namespace() -> bool:
    """Gives this process, and all it starts, mounts of its own from now on. False: it may not."""
    if _LIBC.unshare(_NEW_NAMESPACE) != 0:
        return False
    return bool(_LIBC.mount(b"none", b"/", None, _PRIVATE | _RECURSIVE, None) == 0)


def mount_small(place: Path, megabytes: int) -> bool:
    """Mounts an empty file system of so many megabytes there. False: it may not."""
    place.mkdir(parents=True, exist_ok=True)
    size = f"size={megabytes}m".encode()
    return bool(_LIBC.mount(b"cluster", os.fsencode(place), b"tmpfs", 0, size) == 0)


def unmount(place: Path) -> None:
    """Takes a mount away, now or as soon as nobody uses it."""
    _LIBC.umount2(os.fsencode(place), _DETACH)


@cache
def can_mount() -> bool:
    """Says whether this user may mount, tried in a process of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if leave_namespace() and mount_small(Path("/tmp"), 1) else 1)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0

"""Reads a file that must be a plain one: no link is followed, nothing is waited for, memory is bounded.

What lies in a folder of the pipeline's own may have been put there by anybody: a FIFO would hang its reader,
a link leads elsewhere, a device never ends.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

LIMIT_BYTES: Final = 64 << 20


def open_plain(place: Path, *, follow: bool = False) -> BinaryIO:
    """Opens a regular file for reading, unbuffered. Raises OSError, also for a link unless `follow`."""
    link = 0 if follow else os.O_NOFOLLOW
    try:
        handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | link)
    except OSError as exc:
        if exc.errno == errno.ELOOP and place.is_symlink() and not follow:
            raise OSError(errno.ELOOP, "is a symbolic link", str(place)) from exc
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "is no regular file", str(place))
    return os.fdopen(handle, "rb", buffering=0)


def read_plain(place: Path, *, limit: int = LIMIT_BYTES, follow: bool = False) -> bytes:
    """Returns a regular file's bytes. Raises OSError as `open_plain` does, and past `limit`."""
    with open_plain(place, follow=follow) as file:
        data = bytearray()
        while block := file.read(min(1 << 20, limit + 1 - len(data))):
            data += block
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit} bytes", str(place))
    return bytes(data)

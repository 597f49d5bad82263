"""Finds regular files below a root and hashes them, each through one descriptor that no name can redirect.

Nothing is followed: a symbolic link, a FIFO, a device or an unreadable file is told as what it is, and makes
nobody wait. A root that is itself a file is a set of that one file.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from typing import Iterator, List, NamedTuple

from pipeline.compare.reader.limits import Limits, Unreadable
from pipeline.compare.reader.regions import Region

_DEPTH = 64
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Found(NamedTuple):
    """One name below a root: its path, and an open descriptor or why there is none."""

    path: bytes
    descriptor: int
    problem: str | None


class OpenFile:
    """One file that stays open until the comparison ends; its bytes are hashed again when that is asked."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.status = os.fstat(descriptor)
        self.region = Region(descriptor, 0, self.status.st_size)

    def sha256(self) -> bytes:
        """Hashes every byte that is there now. Raises Unreadable where the file has changed since."""
        self.region.release()
        digest = self.region.sha256()
        now = os.fstat(self.descriptor)
        if (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns):
            raise Unreadable("changed while it was read")
        return digest


def find(root: bytes, limits: Limits, name: bytes = b"") -> Iterator[Found]:
    """Yields what lies below a root, sorted by path. Who takes a descriptor closes it.

    A root that is a file is found as `name`, or else as what it is called.

    Raises Unreadable where the root is not there, is a link, or holds more than is taken.
    """
    root = root.rstrip(b"/") or b"/"  # with one at its end, a link would be followed
    try:
        descriptor = os.open(root, _FLAGS)
    except OSError as exc:
        why = "is a symbolic link" if exc.errno == errno.ELOOP else exc.strerror
        raise Unreadable("%s cannot be opened: %s" % (os.fsdecode(root), why)) from exc
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        yield Found(name or root.rsplit(b"/", 1)[-1], descriptor, None)
        return
    if not stat.S_ISDIR(mode):
        os.close(descriptor)
        raise Unreadable("%s is neither a folder nor a regular file" % os.fsdecode(root))
    try:
        for number, found in enumerate(_below(descriptor, b"", 0, limits)):
            if number >= limits.entries:
                raise Unreadable("%s holds more than %d names" % (os.fsdecode(root), limits.entries))
            yield found
    finally:
        os.close(descriptor)


def _below(folder: int, path: bytes, depth: int, limits: Limits) -> Iterator[Found]:
    if depth > _DEPTH:
        yield Found(path, -1, "lies deeper than %d folders" % _DEPTH)
        return
    for name in _names(folder, limits):
        whole = path + name
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=folder)
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE):
                most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
                raise Unreadable("there are more files than may be open at once here (%d)" % most) from exc
            yield Found(whole, -1, _why(exc))
            continue
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            try:
                yield from _below(descriptor, whole + b"/", depth + 1, limits)
            finally:
                os.close(descriptor)
        elif stat.S_ISREG(mode):
            yield Found(whole, descriptor, None)
        else:
            os.close(descriptor)
            yield Found(whole, -1, "is no regular file")


def _names(folder: int, limits: Limits) -> List[bytes]:
    """Returns the names in a folder, sorted; of a folder without end not more than are taken."""
    found: List[bytes] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(found) == limits.entries:
                    raise Unreadable("a folder holds more than %d names" % limits.entries)
                found.append(os.fsencode(entry.name))
    except OSError as exc:
        raise Unreadable("a folder cannot be read: %s" % exc.strerror) from exc
    return sorted(found)


def _why(exc: OSError) -> str:
    if exc.errno == errno.ELOOP:
        return "is a symbolic link"
    if exc.errno == errno.ENXIO:
        return "is no regular file"
    return "cannot be opened: %s" % exc.strerror

"""Runs of bytes of open files, and the spool that holds what was unpacked.

A container inside a file is a part of that file's bytes where it is stored as it is, and a part of the spool
where it had to be unpacked first. Either way it is a `Region`, read at random and hashed in blocks, and
nothing of its size is ever held in memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from functools import cached_property
from typing import IO, Iterable, Iterator

from pipeline.compare.reader.limits import Limits, Unreadable

BLOCK = 1 << 18


class Region:
    """`length` bytes of an open file, from its byte `start` on.

    Reads through one block that is kept, so that reading small things one after the other costs few calls.
    """

    __slots__ = ("_at", "_block", "descriptor", "length", "start")

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        self.descriptor = descriptor
        self.start = start
        self.length = length
        self._at = 0
        self._block = b""

    def part(self, offset: int, length: int) -> Region:
        """Returns a run of bytes inside this one. Raises Unreadable where it is not inside."""
        if offset < 0 or length < 0 or offset + length > self.length:
            raise Unreadable("ends before the %d bytes from byte %d that it promises" % (length, offset))
        return Region(self.descriptor, self.start + offset, length)

    def read(self, offset: int, length: int) -> bytes:
        """Returns exactly `length` bytes from `offset` on. Raises Unreadable where there are fewer."""
        if offset < 0 or length < 0 or offset + length > self.length:
            raise Unreadable("ends before the %d bytes from byte %d that it promises" % (length, offset))
        begin = offset - self._at
        if begin >= 0 and begin + length <= len(self._block):
            return self._block[begin : begin + length]
        if length >= BLOCK:
            return self._exactly(offset, length)
        self._block = self._exactly(offset, min(BLOCK, self.length - offset))
        self._at = offset
        return self._block[:length]

    def blocks(self, offset: int = 0) -> Iterator[bytes]:
        """Yields the bytes from `offset` on, a block at a time."""
        while offset < self.length:
            block = self._exactly(offset, min(BLOCK, self.length - offset))
            yield block
            offset += len(block)

    def sha256(self) -> bytes:
        """Returns the SHA-256 of all its bytes, 32 bytes."""
        if self.length <= BLOCK:
            return hashlib.sha256(self.read(0, self.length)).digest()
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.digest()

    def release(self) -> None:
        """Gives back the block that is kept; the next read fetches one again."""
        self._block = b""

    def _exactly(self, offset: int, length: int) -> bytes:
        data = os.pread(self.descriptor, length, self.start + offset)
        if len(data) == length:
            return data
        parts = [data]
        missing = length - len(data)
        while missing:
            data = os.pread(self.descriptor, missing, self.start + offset + length - missing)
            if not data:
                raise Unreadable("became shorter while it was read")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)


class Spool:
    """One nameless file that holds what was unpacked, made when something is. It is gone with the process.

    Raises Unreadable where the disk is full or `limits.expanded` is passed: a bomb costs that much at most.
    """

    def __init__(self, limits: Limits, folder: str | None = None) -> None:
        self.limits = limits
        self.folder = folder or "the folder for temporary files"
        self._asked = folder
        self._end = 0

    @cached_property
    def _file(self) -> IO[bytes]:
        try:
            self.folder = self._asked or tempfile.gettempdir()
            return tempfile.TemporaryFile(dir=self.folder, buffering=0)
        except OSError as exc:
            raise Unreadable("cannot unpack into %s: %s" % (self.folder, exc.strerror)) from exc

    def keep(self, blocks: Iterable[bytes]) -> Region:
        """Writes the blocks behind what is there, and returns where they lie."""
        begin = end = self._end
        for block in blocks:
            if self._end != end:
                raise AssertionError("somebody else wrote to the spool between two blocks")
            self._write(block)
            end = self._end
        return Region(self._file.fileno(), begin, self._end - begin)

    def _write(self, block: bytes) -> None:
        if self._end + len(block) > self.limits.expanded:
            raise Unreadable("unpacks to more than the %d bytes that are taken" % self.limits.expanded)
        left = memoryview(block)
        while left:
            try:
                count = os.pwrite(self._file.fileno(), left, self._end)
            except OSError as exc:
                told = "is full" if exc.errno == errno.ENOSPC else "failed: %s" % exc.strerror
                raise Unreadable("cannot be unpacked: the disk of %s %s" % (self.folder, told)) from exc
            self._end += count
            left = left[count:]

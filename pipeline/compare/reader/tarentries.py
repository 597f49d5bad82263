"""The entries of a tar, one after the other: headers, what stands in front of them, where their bytes lie.

Stricter than any tar program. Where two of them read a tar in different ways it is strange, or not read.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Tuple

from pipeline.compare.reader import tarheaders
from pipeline.compare.reader.limits import Limits, Unreadable
from pipeline.compare.reader.regions import Region
from pipeline.compare.reader.tarheaders import BLOCK, Head, Record

#: Types with bytes behind the header. Of "7", and of types that this reader does not know, readers differ.
_FILES = (b"0", b"\0", b"7", b"S")
_EMPTY = (b"1", b"2", b"3", b"4", b"5", b"6")
_ZEROS = bytes(BLOCK)


class Extension(NamedTuple):
    """A header that says more of the next one: its own header, its bytes, and the records that they are."""

    head: Head
    data: bytes
    records: List[Record]


class Entry(NamedTuple):
    """One entry. `maps` are the blocks of a sparse file's map behind the header; `end` is where it ends.

    `name`, `link` and `size` count for all: from the extensions where these say it, else from the header.
    `everywhere` are the records of a global header.
    """

    at: int
    extensions: Tuple[Extension, ...]
    head: Head
    maps: bytes
    offset: int
    size: int
    end: int
    name: bytes
    link: bytes
    records: Dict[bytes, bytes]
    everywhere: bytes


class Entries:
    """Reads a tar from its first byte on. `strange` and `end` (of the last entry) are known afterwards."""

    def __init__(self, region: Region, limits: Limits) -> None:
        self.region = region
        self.limits = limits
        self.strange: List[Tuple[str, bytes]] = []
        self.end = 0

    def __iter__(self) -> Iterator[Entry]:
        """Yields the entries in their order. Raises Unreadable where one is cut short or not well formed."""
        self.end = 0
        while self.end < self.region.length:
            entry = self.entry(self.end)
            if entry is None:
                break
            yield entry
            self.end = entry.end

    def entry(self, at: int) -> Entry | None:
        """Returns the entry that begins at this byte, or None: there begins what ends the tar."""
        begin = at
        extensions: List[Extension] = []
        while True:
            if self.region.length - at < BLOCK and not extensions:
                return None
            raw = self.region.read(at, BLOCK)
            if raw == _ZEROS:
                if extensions:
                    raise Unreadable("ends behind a header that belongs to a next one")
                return None
            head = tarheaders.parse(raw)
            at += BLOCK
            if head.type not in (b"x", b"L", b"K"):
                return self._entry(begin, extensions, head, at)
            data = self._data(head, at)
            extensions.append(self._extension(head, data, extensions))
            at += len(data) + self._padding(at + len(data))

    def _extension(self, head: Head, data: bytes, before: List[Extension]) -> Extension:
        if any(one.head.type == head.type for one in before):
            told = b"".join([one.data for one in before] + [data])
            self.strange.append(("two headers of one kind for one entry", told))
        if head.type == b"x":
            found = self._records(data)
            for key in (b"path", b"linkpath"):
                for one in found:
                    if one.key == key and b"\0" in one.value:
                        self.strange.append(("a name with a zero byte", one.value))
            return Extension(head, data, found)
        if data.find(b"\0") != len(data) - 1:
            self.strange.append(("a long name that does not end with its only zero byte", data))
        return Extension(head, data, [])

    def _records(self, data: bytes) -> List[Record]:
        found = tarheaders.records(data)
        if len({one.key for one in found}) != len(found):
            self.strange.append(("a PAX record twice", data))
        return found

    def _entry(self, begin: int, extensions: List[Extension], head: Head, at: int) -> Entry:
        name = head.prefix + b"/" + head.name if head.prefix else head.name
        link, size = head.link, head.size
        values: Dict[bytes, bytes] = {}
        long_names = [one for one in extensions if one.head.type != b"x"]
        for one in long_names:
            text = one.data.split(b"\0", 1)[0]
            name, link = (text, link) if one.head.type == b"L" else (name, text)
        for one in extensions:
            values.update(tarheaders.latest(one.records))
        if long_names and values:
            told = b"".join(one.data for one in extensions)
            self.strange.append(("GNU and PAX headers for one entry", told))
        name, link = values.get(b"path", name), values.get(b"linkpath", link)
        if b"size" in values:
            size = self._size(values[b"size"], head)
        everywhere = b""
        maps = self._maps(head, at)
        at += len(maps)
        if head.type == b"g":
            everywhere = self._data(head, at)
            self._check_global(self._records(everywhere))
            if extensions:
                told = b"".join(one.data for one in extensions)
                self.strange.append(("a header for a global one", told))
        elif head.type in _EMPTY:
            if size:
                raise Unreadable("has an entry of type %r with a size of %d" % (head.type, size))
        elif head.type not in _FILES:
            self.strange.append(("a type that readers take differently", head.type))
        if size < 0:
            raise Unreadable("has an entry of %d bytes" % size)
        self.region.part(at, size)  # is it all there?
        end = at + size + self._padding(at + size)
        return Entry(begin, tuple(extensions), head, maps, at, size, end, name, link, values, everywhere)

    def _size(self, told: bytes, head: Head) -> int:
        if not told.isdigit() or len(told) > 20:
            raise Unreadable("has a PAX record with the size %r" % told[:40])
        if head.size not in (0, int(told)):
            self.strange.append(("two sizes of one entry", told))
        return int(told)

    def _check_global(self, found: List[Record]) -> None:
        for one in found:
            if one.key in (b"path", b"linkpath", b"size") or one.key.startswith(b"GNU.sparse."):
                raise Unreadable("has a global PAX record of %r, which readers take differently" % one.key)

    def _maps(self, head: Head, at: int) -> bytes:
        """Returns the blocks that go on with the map of an old GNU sparse file."""
        blocks: List[bytes] = []
        more = head.type == b"S" and head.raw[482]
        while more:
            if len(blocks) * BLOCK > self.limits.field:
                raise Unreadable("has a sparse file with a map of more than %d bytes" % self.limits.field)
            block = self.region.read(at + len(blocks) * BLOCK, BLOCK)
            blocks.append(block)
            more = block[504]
        return b"".join(blocks)

    def _data(self, head: Head, at: int) -> bytes:
        if not 0 <= head.size <= self.limits.field:
            raise Unreadable("has a header that adds %d bytes" % head.size)
        return self.region.read(at, head.size)

    def _padding(self, at: int) -> int:
        """Returns how many bytes fill the block; notes those that are not zero."""
        count = -at % BLOCK
        if count:
            padding = self.region.read(at, count)
            if padding.strip(b"\0"):
                self.strange.append(("padding", padding))
        return count

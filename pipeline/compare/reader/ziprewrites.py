"""Writes a zip file again with one cause of difference set to one value, and nothing else touched.

Refused, by Unreadable: strange files, signed jars, and whatever a normaliser cannot set without hiding more
than its cause: the order of names that stand twice or lead to one file, a manifest that a streaming reader
would not find, content whose crc is wrong. Names, modes, comments and all extra fields but times stay.
"""

from __future__ import annotations

import heapq
import marshal
import re
import struct
import zlib
from array import array
from collections import deque
from typing import Collection, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from pipeline.compare.reader.contents import inflate
from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.regions import BLOCK, Region, Spool
from pipeline.compare.reader.ziprecords import (
    CENTRAL,
    ENCRYPTED,
    END,
    END64,
    FULL,
    LOCAL,
    LOCATOR,
    STREAMED,
    ZIP64,
    End,
    Entry,
    Local,
    Oddities,
    apart,
    blocks_of,
    entries,
    entry_at,
    find_end,
    local_at,
)

TIMES, ORDER, COMPRESSION = "zip-times", "zip-order", "zip-compression"

_FIRST_DAY = struct.pack("<2H", 0, 1 << 5 | 1)
#: Names that may be another entry's too once they are unpacked: then the later one wins.
_ALIAS = re.compile(rb"^$|^/|//|(^|/)\.\.?(/|$)|[\\\0]")
_UNICODE_PATH = 0x7075
_TYPE, _LINK = 0o170000, 0o120000
_EXTENDED_TIME, _NTFS_TIME = 0x5455, 0x000A
#: Flags that say how content is packed: two for the level, one for sizes that follow it.
_PACKING = 0x0006 | STREAMED
_PLAIN_VERSION = 20
#: What some readers look for at the front only, in small letters.
_FOLDER, _FRONT = b"meta-inf/", (b"meta-inf/manifest.mf", b"mimetype")
_MOST_LEADING = 3
_SIGNATURES = (b".rsa", b".dsa", b".ec")
_RUN_ENTRIES, _RUN_BYTES, _PAGE_ENTRIES = 20_000, 4 << 20, 128

#: A name and where its entry stands in the directory; by the same place, new content and its crc.
_Named = Tuple[bytes, int]
_Contents = Dict[int, Tuple[Region, int]]


class _Task(NamedTuple):
    """What is written: the entries at `order` in the directory, with `contents` in place of their own."""

    region: Region
    end: End
    order: Iterable[int]
    contents: _Contents
    times: bool
    store: bool


def plan(
    region: Region, chosen: Collection[str], inside: dict[tuple[bytes, int], Region], spool: Spool
) -> Iterator[bytes]:
    """Returns the new bytes of a file that is not strange. Raises Unreadable where that must not be: now, or
    when the bytes are taken.

    Nothing is written into the spool any more once this has returned.
    """
    end = find_end(region, Oddities())
    survey = _Survey(inside)
    order = array("Q")
    names = survey.watch(region, end, order)
    if ORDER in chosen:
        order = array("Q", _by_name(names, survey, spool))
        survey.check_order()
    else:
        deque(names, maxlen=0)
        survey.check_places()
    survey.check_all()
    task = _Task(region, end, order, survey.contents, TIMES in chosen, COMPRESSION in chosen)
    return _gathered(_written(task))


class _Survey:
    """What has to be known of all entries before the first is written."""

    def __init__(self, inside: dict[tuple[bytes, int], Region]) -> None:
        self.contents: _Contents = {}
        self.leading: list[int] = []
        self._inside = inside
        self._names = {name for name, _ in inside}
        self._counts: dict[bytes, int] = {}
        self._signed: set[bytes] = set()
        self._late: bytes | None = None
        self._alias: bytes | None = None
        self._shuffled = False
        self.twice = False

    def watch(self, region: Region, end: End, order: array[int]) -> Iterator[_Named]:
        """Yields each name with where its entry stands, and learns on the way."""
        at, reached, front = 0, 0, True
        for entry in entries(region, end, Oddities()):
            self._shuffled = self._shuffled or entry.offset < reached
            reached = entry.offset
            order.append(at)
            small = entry.name.lower()
            front = front and len(self.leading) < _MOST_LEADING and small in (_FOLDER, *_FRONT)
            if front:
                self.leading.append(at)
            elif small in _FRONT and self._late is None:
                self._late = entry.name
            if self._alias is None and _is_alias(entry):
                self._alias = entry.name
            yield entry.name, at
            if small.startswith(_FOLDER) and small.endswith((b".sf", *_SIGNATURES)):
                self._signed.add(b".sf" if small.endswith(b".sf") else b"key")
            if entry.name in self._names:
                self._replace(entry, at)
            at += CENTRAL.size + len(entry.name) + len(entry.extra) + len(entry.comment)

    def _replace(self, entry: Entry, at: int) -> None:
        occurrence = self._counts.get(entry.name, 0)
        self._counts[entry.name] = occurrence + 1
        content = self._inside.get((entry.name, occurrence))
        if content is not None:
            crc = 0
            for block in content.blocks():
                crc = zlib.crc32(block, crc)
            self.contents[at] = content, crc

    def check_order(self) -> None:
        """Raises Unreadable where order says more than the order."""
        if self.twice:
            raise Unreadable("has two entries of one name: their order decides, so it is kept")
        if self._alias is not None:
            told = self._alias.decode("utf-8", "replace")
            raise Unreadable("has an entry, %s, that may lead to another: their order is kept" % told)
        if self._late is not None:
            told = self._late.decode("utf-8", "replace")
            raise Unreadable("has its %s behind other entries: the order decides, so it is kept" % told)

    def check_places(self) -> None:
        """Raises Unreadable where the directory's order is another than that of the entries."""
        if self._shuffled:
            raise Unreadable("has entries in another order than its directory, which only %s sets" % ORDER)

    def check_all(self) -> None:
        """Raises Unreadable where nothing may be rewritten, or content is given for what is not there."""
        if len(self._signed) == 2:
            raise Unreadable("is a signed jar, which is never rewritten")
        if len(self.contents) != len(self._inside):
            raise Unreadable("lacks an entry whose content is to be replaced")


def _is_alias(entry: Entry) -> bool:
    """Says whether an entry, unpacked, may be or lead to what another name says."""
    if _ALIAS.search(entry.name) or entry.fields[15] >> 16 & _TYPE == _LINK:
        return True
    return any(kind == _UNICODE_PATH for kind, _ in blocks_of(entry.extra) or ())


def _by_name(names: Iterable[_Named], survey: _Survey, spool: Spool) -> Iterator[int]:
    """Yields where entries stand: first those that lead, then by name. Sorts in runs through the spool."""
    runs: List[List[Region]] = []
    run: List[_Named] = []
    held = 0
    for named in names:
        run.append(named)
        held += len(named[0])
        if len(run) >= _RUN_ENTRIES or held >= _RUN_BYTES:
            runs.append(_kept(sorted(run), spool))
            run, held = [], 0
    run.sort()
    yield from survey.leading
    last: bytes | None = None
    for name, at in heapq.merge(run, *map(_loaded, runs)):
        if name == last:
            survey.twice = True
        last = name
        if at not in survey.leading:
            yield at


def _kept(run: list[_Named], spool: Spool) -> list[Region]:
    pages = (run[start : start + _PAGE_ENTRIES] for start in range(0, len(run), _PAGE_ENTRIES))
    return [spool.keep([marshal.dumps(page)]) for page in pages]


def _loaded(pages: list[Region]) -> Iterator[_Named]:
    for page in pages:
        yield from marshal.loads(b"".join(page.blocks()))  # our own, nameless file; no block is kept


def _gathered(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the same bytes in fewer blocks."""
    held: list[bytes] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += len(block)
        if size >= BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _written(task: _Task) -> Iterator[bytes]:
    """Yields entries, directory and end. The directory is read twice, so that it is never held."""
    offset = reached = 0
    offsets = array("Q")
    for at, entry in _walk(task):
        offsets.append(offset)
        reads = task.region.read if entry.offset == reached else apart(task.region)
        local = local_at(reads, entry, task.region.length)
        reached = local.data + entry.packed + len(local.descriptor)
        for block in _entry(task, entry, local, task.contents.get(at)):
            offset += len(block)
            yield block
    start = offset
    for (at, entry), place in zip(_walk(task), offsets):
        block = _central(task, entry, task.contents.get(at), place)
        offset += len(block)
        yield block
    yield _ending(task.end, start, offset)


def _walk(task: _Task) -> Iterator[tuple[int, Entry]]:
    directory = task.region.part(task.end.start, task.end.stop - task.end.start)
    reached = 0
    for at in task.order:
        near = at == reached
        entry = entry_at(directory.read if near else apart(directory), at, task.end.base)
        reached = at + CENTRAL.size + len(entry.name) + len(entry.extra) + len(entry.comment)
        yield at, entry


def _entry(task: _Task, entry: Entry, local: Local, content: tuple[Region, int] | None) -> Iterator[bytes]:
    """Yields an entry's header and bytes."""
    region = task.region
    fields = list(LOCAL.unpack(local.raw))
    extra = _timeless(local.extra) if task.times else local.extra
    stored = task.store or content is not None
    if stored:
        own = _unpacked(region, entry, local)
        size, crc = (content[0].length, content[1]) if content else (entry.size, entry.fields[7])
        extra = _sized(fields, extra, size)
        fields[1], fields[2], fields[3] = _plain(entry)
        fields[6] = crc
    fields[10] = len(extra)
    head = LOCAL.pack(*fields)
    yield (head[:10] + _FIRST_DAY + head[14:] if task.times else head) + local.name + extra
    if not stored:
        yield from region.part(local.data, entry.packed).blocks()
        yield local.descriptor
    elif content is None:
        yield from own
    else:
        deque(own, maxlen=0)
        yield from content[0].blocks()


def _central(task: _Task, entry: Entry, content: tuple[Region, int] | None, offset: int) -> bytes:
    """Returns an entry of the directory."""
    fields = list(entry.fields)
    extra = _timeless(entry.extra) if task.times else entry.extra
    packed, size = entry.packed, entry.size
    if task.store or content is not None:
        fields[2], fields[3], fields[4] = _plain(entry)
        if content is not None:
            size, fields[7] = content[0].length, content[1]
        packed = size
    values = []
    for place, value in ((9, size), (8, packed), (16, offset)):
        if fields[place] == FULL:
            values.append(value)
        else:
            fields[place] = _short(value)
    extra = _valued(extra, values)
    fields[11] = len(extra)
    head = CENTRAL.pack(*fields)
    if task.times:
        head = head[:12] + _FIRST_DAY + head[16:]
    return head + entry.name + extra + entry.comment


def _plain(entry: Entry) -> tuple[int, int, int]:
    """Returns the version needed, flags and method of an entry whose content is stored as it is."""
    needed, flags = entry.fields[2], entry.fields[3] & ~_PACKING
    return (_PLAIN_VERSION if needed <= _PLAIN_VERSION else needed), flags, 0


def _unpacked(region: Region, entry: Entry, local: Local) -> Iterator[bytes]:
    """Yields the content of an entry. Raises Unreadable, at the end at the latest, where it is not so."""
    raw = region.part(local.data, entry.packed)
    if entry.fields[3] & ENCRYPTED or entry.fields[4] not in (0, 8):
        raise Unreadable("has an entry that is coded in a way that is not read here")
    crc = 0
    for block in inflate(raw, entry.size) if entry.fields[4] else raw.blocks():
        crc = zlib.crc32(block, crc)
        yield block
    if crc != entry.fields[7]:
        raise Unreadable("has an entry whose crc is %08x, not %08x" % (crc, entry.fields[7]))


def _sized(fields: list[int], extra: bytes, size: int) -> bytes:
    """Sets both sizes in a local header, there or in its zip64 extra; returns the extra."""
    values = []
    for place in (8, 7):
        if fields[place] == FULL:
            values.append(size)
        else:
            fields[place] = _short(size)
    if not values and any(kind == ZIP64 for kind, _ in blocks_of(extra) or ()):
        raise Unreadable("has a zip64 extra that nothing refers to")
    return _valued(extra, values)


def _short(value: int) -> int:
    if value >= FULL:
        raise Unreadable("would need zip64, which it is not written with")
    return value


def _valued(extra: bytes, values: list[int]) -> bytes:
    """Returns an extra with other values at the front of its zip64 block."""
    if not values:
        return extra
    parts = []
    for kind, data in blocks_of(extra) or ():
        if kind == ZIP64:
            data = struct.pack("<%dQ" % len(values), *values) + data[8 * len(values) :]
        parts.append(struct.pack("<2H", kind, len(data)) + data)
    return b"".join(parts)


def _timeless(extra: bytes) -> bytes:
    """Returns an extra without times. Raises Unreadable where more than times would go with them."""
    if not extra:
        return extra
    found = blocks_of(extra)
    if found is None:
        raise Unreadable("has extra fields that are not made of blocks")
    kept = []
    for kind, data in found:
        if kind not in (_EXTENDED_TIME, _NTFS_TIME):
            kept.append(struct.pack("<2H", kind, len(data)) + data)
        elif not (_is_extended(data) if kind == _EXTENDED_TIME else _is_ntfs(data)):
            raise Unreadable("has times in an extra field that hold more than times")
    return b"".join(kept)


def _is_extended(data: bytes) -> bool:
    """A byte that says which of three times there are; a directory has the first alone."""
    if not data or data[0] > 7:
        return False
    return len(data) in (1 + 4 * bin(data[0]).count("1"), 1 + 4 * (data[0] & 1))


def _is_ntfs(data: bytes) -> bool:
    """Four bytes of zeros, and one attribute of three times."""
    return len(data) == 32 and data[:8] == b"\0\0\0\0\1\0\x18\0"


def _ending(end: End, start: int, stop: int) -> bytes:
    """Returns the records of the end for a directory from `start` to `stop`, in the form they had."""
    fields = list(END.unpack(end.record))
    size = stop - start
    if not end.record64:
        fields[5], fields[6] = _short(size), _short(start)
        return END.pack(*fields) + end.comment
    for place, value in ((5, size), (6, start)):
        if fields[place] != FULL:
            fields[place] = _short(value)
    whole = list(END64.unpack_from(end.record64))
    whole[8], whole[9] = size, start
    locator = list(LOCATOR.unpack(end.locator))
    locator[2] = stop
    record = END64.pack(*whole) + end.record64[END64.size :]
    return record + LOCATOR.pack(*locator) + END.pack(*fields) + end.comment

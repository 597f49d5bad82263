"""One zip, jar or war without what only tells when and in what order it was written.

The rules are those of `archive_rewriting`. Compressed bytes are copied as they are wherever an entry's
contents stay. Nothing but the standard library is imported: this runs inside builds.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

Buffer = bytes | memoryview

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END_64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64: Final = struct.Struct("<4sIQI")
_IN_64: Final = 0xFFFFFFFF
_ENCRYPTED, _DESCRIPTOR_FOLLOWS = 0x1, 0x8
_STORED, _DEFLATED = 0, 8
_UNIX: Final = 3
_FILE, _FOLDER, _UNKNOWN_MODE = 0o100000, 0o040000, 0o7777
_READ_ONLY: Final = 0x1
#: Seconds since 1970 at 1980, where the time of a zip begins; 100 ns between 1601 and 1970.
_DOS_BEGINS: Final = 315_532_800
_NTFS_BEGINS: Final = 116_444_736_000_000_000
_NTFS_SECOND: Final = 10_000_000
#: Kinds of extra fields.
_EXTENDED, _OLD_UNIX, _NTFS, _OWNERS = 0x5455, 0x5855, 0x000A, 0x7875
#: No entry is looked into that is longer.
_MOST_BYTES: Final = 1 << 30
_JAXB_DATE: Final = re.compile(rb"(?<=Generated on: )\d{4}\.\d\d\.\d\d at \d\d:\d\d:\d\d [AP]M [A-Z]{2,5}\b")
_COPYRIGHT: Final = re.compile(rb"(?<=Copyright )(\d{4})(?:-(\d{4}))?(?= )")


class NotUnderstoodError(Exception):
    """An archive that is left as it is. Its text says why."""


@dataclass(frozen=True)
class Day:
    """The commit's time, in seconds since 1970, as archives and texts write it."""

    seconds: int

    @property
    def utc(self) -> datetime:
        return datetime.fromtimestamp(max(self.seconds, _DOS_BEGINS), UTC)

    @property
    def dos(self) -> int:
        """Date and time in one number that grows with time, in steps of two seconds."""
        return _dos(self.utc)

    @property
    def dos_limit(self) -> int:
        """What is later was written by this build: in UTC by some writers, in local time by others."""
        return min(self.dos, _dos(self.utc.astimezone()))


#: Returns what an archive of this name and content becomes, or None where it stays.
Inner = Callable[[str, bytes], bytes | None]


@dataclass
class _Entry:
    """One entry. `span` begins with its local header and ends where the next entry begins."""

    made_by: int
    needed: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    compressed: int
    size: int
    disk: int
    internal: int
    external: int
    offset: int
    name: bytes
    extra: bytes
    comment: bytes
    span: Buffer = b""
    #: What it holds from now on, compressed; None where it stays.
    content: bytes | None = None

    @property
    def header(self) -> tuple[int, ...]:
        """The local header's numbers, after its signature."""
        numbers: tuple[int, ...] = _LOCAL.unpack_from(self.span)[1:]
        return numbers

    @property
    def data_at(self) -> int:
        return _LOCAL.size + sum(self.header[8:10])

    @property
    def local_extra(self) -> bytes:
        return bytes(self.span[self.data_at - self.header[9] : self.data_at])

    def text(self) -> bytes | None:
        """Returns the contents, or None where they are of a kind that is not looked into."""
        if self.flags & _ENCRYPTED or self.size > _MOST_BYTES or self.method not in (_STORED, _DEFLATED):
            return None
        packed = self.span[self.data_at : self.data_at + self.compressed]
        found = bytes(packed) if self.method == _STORED else zlib.decompressobj(-15).decompress(packed)
        if zlib.crc32(found) != self.crc:
            raise NotUnderstoodError(f"the entry {self.name!r} is damaged")
        return found

    def replace(self, content: bytes) -> None:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = content if self.method == _STORED else packer.compress(content) + packer.flush()
        self.content, self.crc = packed, zlib.crc32(content)
        self.size, self.compressed = len(content), len(packed)
        self.flags &= ~_DESCRIPTOR_FOLLOWS


@dataclass(frozen=True)
class _Directory:
    """The entries, and what follows them: the end records in fields, and the archive's comment."""

    entries: list[_Entry]
    end: tuple[Any, ...]
    end_64: tuple[Any, ...] | None
    comment: bytes


def rewritten_zip(data: Buffer, day: Day, inner: Inner) -> list[Buffer] | None:
    """Returns the parts that a zip becomes, or None where it stays. Raises NotUnderstoodError."""
    found = _read(memoryview(data))
    entries = sorted(found.entries, key=lambda entry: entry.offset)
    late = any(_is_late(entry, day) for entry in entries)
    signed = any(re.fullmatch(rb"META-INF/[^/]*\.SF", entry.name) for entry in entries)
    changed = False if signed else _edit(entries, day, inner)
    if not (late or changed):
        return None
    if late and len({entry.name for entry in entries}) == len(entries):
        entries.sort(key=_place)
    parts: list[Buffer] = []
    records: list[bytes] = []
    at = 0
    for entry in entries:
        if late:
            _settle(entry, day)
        local = _local(entry, day if late else None)
        records.append(_record(entry, at))
        at += sum(map(len, local))
        parts += local
    return [*parts, *records, *_ending(found, at, sum(map(len, records)))]


# -- reading -------------------------------------------------------------------------------------------------


def _read(data: memoryview) -> _Directory:
    tail = bytes(data[max(0, len(data) - _END.size - 0xFFFF) :])
    within = tail.rfind(b"PK\x05\x06")
    last = len(data) - len(tail) + within
    if within < 0 or len(data) - last < _END.size:
        raise NotUnderstoodError("it has no end record")
    end, comment = _END.unpack_from(data, last), bytes(data[last + _END.size :])
    if len(comment) != end[7] or end[1] or end[2]:
        raise NotUnderstoodError("something follows its end record, or it has several disks")
    end_64 = _end_64(data, last) if 0xFFFF in end[3:5] or _IN_64 in end[5:7] else None
    count, size, start = end_64[7:10] if end_64 else end[4:7]
    stop = last - (_END_64.size + _LOCATOR_64.size if end_64 else 0)
    if start + size != stop:
        raise NotUnderstoodError("its directory is not right before its end")
    entries, at = [], start
    for _ in range(count):
        entry, at = _entry(data, at)
        entries.append(entry)
    if at != stop:
        raise NotUnderstoodError("its directory is longer than its entries")
    _give_spans(data, entries, start)
    return _Directory(entries, end, end_64, comment)


def _end_64(data: memoryview, last: int) -> tuple[Any, ...] | None:
    place = last - _LOCATOR_64.size
    if place < 0 or bytes(data[place : place + 4]) != b"PK\x06\x07":
        return None  # exactly 65,535 entries need none
    at = _LOCATOR_64.unpack_from(data, place)[2]
    end_64 = _END_64.unpack_from(data, at)
    if end_64[0] != b"PK\x06\x06" or at + _END_64.size != place:
        raise NotUnderstoodError("its zip64 records are of a kind of their own")
    return end_64


def _entry(data: memoryview, at: int) -> tuple[_Entry, int]:
    fields = _CENTRAL.unpack_from(data, at)
    at += _CENTRAL.size
    texts = []
    for length in fields[10:13]:
        texts.append(bytes(data[at : at + length]))
        at += length
    entry = _Entry(*fields[1:10], *fields[13:17], *texts)
    if fields[0] != b"PK\x01\x02" or entry.disk or _IN_64 in (entry.compressed, entry.size, entry.offset):
        raise NotUnderstoodError("an entry is longer than 4 GiB, or none")
    return entry, at


def _give_spans(data: memoryview, entries: list[_Entry], stop: int) -> None:
    ordered = sorted(entries, key=lambda entry: entry.offset)
    if ordered and ordered[0].offset:
        raise NotUnderstoodError("something comes before its first entry")
    for entry, following in zip(ordered, [*(one.offset for one in ordered[1:]), stop], strict=True):
        entry.span = data[entry.offset : following]
        known = bytes(entry.span[:4]) == b"PK\x03\x04"
        if not known or entry.data_at + entry.compressed > len(entry.span):
            raise NotUnderstoodError("entries overlap, or have no header")


# -- deciding ------------------------------------------------------------------------------------------------


def _is_late(entry: _Entry, day: Day) -> bool:
    header, limit = entry.header, day.dos_limit
    if entry.date << 16 | entry.time > limit or header[4] << 16 | header[3] > limit:
        return True
    return _latest(entry.extra) > day.seconds or _latest(entry.local_extra) > day.seconds


def _edit(entries: list[_Entry], day: Day, inner: Inner) -> bool:
    """Gives entries other contents where these hold the day of the build; says whether it did."""
    changed = False
    for entry in entries:
        name = entry.name.decode("utf-8", "replace")
        text, new = None, None
        if re.fullmatch(r"META-INF/(.*/)?[^/]*\.episode", name) and (text := entry.text()) is not None:
            new = _JAXB_DATE.sub(day.utc.strftime("%Y.%m.%d at %I:%M:%S %p UTC").encode(), text)
        elif re.fullmatch(r"META-INF/NOTICE(\.txt|\.md)?", name) and (text := entry.text()) is not None:
            new = _COPYRIGHT.sub(lambda years: _until(years, day.utc.year), text)
        elif name.lower().endswith((".jar", ".war", ".zip", ".tgz", ".tar.gz")):
            text = entry.text()
            new = None if text is None else inner(name, text)
        if new is not None and new != text:
            entry.replace(new)
            changed = True
    return changed


def _until(years: re.Match[bytes], year: int) -> bytes:
    """Returns the years of a copyright that ends with the year of the build, or as they were."""
    first, last = int(years[1]), int(years[2] or years[1])
    if last <= year:
        return years[0]
    return b"%d-%d" % (first, year) if first < year else b"%d" % year


def _place(entry: _Entry) -> tuple[int, bytes]:
    """Sorts by name. Readers of streams look for a jar's manifest at its beginning."""
    first = (b"mimetype", b"META-INF/", b"META-INF/MANIFEST.MF")
    return first.index(entry.name) if entry.name in first else len(first), entry.name


def _settle(entry: _Entry, day: Day) -> None:
    """Gives a file or a folder a time and a mode that do not come from how the writer's own files lay about.

    Old plugins write 07777 where they could not tell; and a jar that comes out of a Maven repository is old
    and read-only or new and writable, depending on the repository.
    """
    entry.time, entry.date = day.dos & 0xFFFF, day.dos >> 16
    entry.extra = _dated(entry.extra, day)
    entry.external &= ~_READ_ONLY
    if entry.made_by >> 8 != _UNIX:
        return
    mode = entry.external >> 16
    if entry.name.endswith(b"/"):
        known = mode & 0o170000 == _FOLDER and mode & 0o7777 != _UNKNOWN_MODE
        mode = mode if known else _FOLDER | 0o755
    elif mode & 0o7777 == _UNKNOWN_MODE or not mode & 0o111:
        mode = (mode & 0o170000 or _FILE) | 0o644
    entry.external = mode << 16 | (entry.external & 0xFFFF)


# -- writing -------------------------------------------------------------------------------------------------


def _local(entry: _Entry, day: Day | None) -> list[Buffer]:
    """Returns an entry with its local header; with a day, that is its time."""
    needed, flags, method, time, date, crc, compressed, size, name_length, extra_length = entry.header
    extra = entry.local_extra
    if day is not None:
        time, date, extra = entry.time, entry.date, _dated(extra, day)
    name = bytes(entry.span[_LOCAL.size : _LOCAL.size + name_length])
    rest: Buffer = entry.span[entry.data_at :]
    if entry.content is not None:
        flags, rest = entry.flags, entry.content
        crc, compressed, size = entry.crc, entry.compressed, entry.size
    numbers = (needed, flags, method, time, date, crc, compressed, size, name_length, extra_length)
    return [_LOCAL.pack(b"PK\x03\x04", *numbers) + name + extra, rest]


def _record(entry: _Entry, offset: int) -> bytes:
    packed = _CENTRAL.pack(
        b"PK\x01\x02",
        entry.made_by,
        entry.needed,
        entry.flags,
        entry.method,
        entry.time,
        entry.date,
        entry.crc,
        entry.compressed,
        entry.size,
        len(entry.name),
        len(entry.extra),
        len(entry.comment),
        entry.disk,
        entry.internal,
        entry.external,
        offset,
    )
    return packed + entry.name + entry.extra + entry.comment


def _ending(found: _Directory, start: int, size: int) -> Iterator[bytes]:
    end = list(found.end)
    if found.end_64 is not None:
        yield _END_64.pack(*found.end_64[:8], size, start)
        yield _LOCATOR_64.pack(b"PK\x06\x07", 0, start + size, 1)
    for field, value in ((5, size), (6, start)):
        end[field] = end[field] if found.end_64 and end[field] == _IN_64 else value
    yield _END.pack(*end) + found.comment


def _dos(at: datetime) -> int:
    date = max(at.year - 1980, 0) << 9 | at.month << 5 | at.day
    return date << 16 | at.hour << 11 | at.minute << 5 | at.second // 2


def _times(extra: bytes) -> Iterator[tuple[int, str, bool]]:
    """Yields where in extra fields there is a time, in which form, and whether it counts as Windows does."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        at, stop = at + 4, at + 4 + length
        if stop > len(extra):
            return
        if kind == _EXTENDED:
            yield from ((place, "<i", False) for place in range(at + 1, stop - 3, 4))
        elif kind == _OLD_UNIX and length >= 8:
            yield from ((place, "<i", False) for place in (at, at + 4))
        elif kind == _NTFS and length == 32:
            yield from ((place, "<Q", True) for place in range(at + 8, stop, 8))
        at = stop


def _latest(extra: bytes) -> int:
    """Returns the latest time that extra fields hold, in seconds since 1970; 0 for none."""
    found = ((struct.unpack_from(form, extra, at)[0], ntfs) for at, form, ntfs in _times(extra))
    return max(((time - _NTFS_BEGINS) // _NTFS_SECOND if ntfs else time for time, ntfs in found), default=0)


def _dated(extra: bytes, day: Day) -> bytes:
    """Returns extra fields with the day in the place of each time, and 0 for the numbers of users."""
    new, at = bytearray(extra), 0
    for place, form, ntfs in _times(extra):
        struct.pack_into(form, new, place, day.seconds * _NTFS_SECOND + _NTFS_BEGINS if ntfs else day.seconds)
    while at + 4 <= len(new):
        kind, length = struct.unpack_from("<HH", new, at)
        at, stop = at + 4, at + 4 + length
        if kind == _OWNERS:
            _forget_owners(new, at + 1, min(stop, len(new)))
        elif kind == _OLD_UNIX and length == 12 and stop <= len(new):
            new[at + 8 : stop] = bytes(4)
        at = stop
    return bytes(new)


def _forget_owners(extra: bytearray, at: int, stop: int) -> None:
    while at < stop:
        length = extra[at]
        extra[at + 1 : min(at + 1 + length, stop)] = bytes(min(length, stop - at - 1))
        at += 1 + length

"""The records of a zip file: its end, its directory, and what stands in front of each entry's bytes.

Everything a record says is kept, also what contradicts another; what contradicts is noted, see `Oddities`.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Callable, Iterator, NamedTuple

from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import Listing
from pipeline.compare.reader.regions import Region

#: Signature; made by, needed, flags, method, time, date; crc, packed, size; lengths of name, extra and
#: comment; disk, internal; external, offset.
CENTRAL = struct.Struct("<4s6H3L5H2L")
#: Signature; needed, flags, method, time, date; crc, packed, size; lengths of name and extra.
LOCAL = struct.Struct("<4s5H3L2H")
#: Signature; disk, directory's disk, entries here, entries; directory's size, offset; comment's length.
END = struct.Struct("<4s4H2LH")
#: Signature, length of what follows; made by, needed; then as in END.
END64 = struct.Struct("<4sQ2H2L4Q")
#: Signature; disk of the record, its offset, number of disks.
LOCATOR = struct.Struct("<4sLQL")

CENTRAL_SIGN, LOCAL_SIGN, DESCRIPTOR_SIGN = b"PK\1\2", b"PK\3\4", b"PK\7\x08"
END_SIGN, END64_SIGN, LOCATOR_SIGN = b"PK\5\6", b"PK\6\6", b"PK\6\7"
#: What a field of 32 or 16 bits holds where the zip64 record or extra holds the value.
FULL, FULL16 = 0xFFFFFFFF, 0xFFFF
ENCRYPTED, STREAMED = 0x0001, 0x0008
ZIP64 = 0x0001

Reads = Callable[[int, int], bytes]


class Oddities:
    """What contradicts in a zip file, a word each with the number of times, the first, and a digest of all.

    However many there are, they take little memory and little room in a listing.
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, bytes, hashlib._Hash]] = {}

    def note(self, what: str, value: bytes) -> None:
        """Notes one more: the word for it, and all its bytes (or their digest, with where and how many)."""
        count, first, digest = self._found.get(what, (0, shown(value), hashlib.sha256()))
        digest.update(struct.pack("<Q", len(value)) + value)
        self._found[what] = count + 1, first, digest

    def tell(self, listing: Listing) -> None:
        """Notes all of them in a listing."""
        for what, (count, first, digest) in self._found.items():
            more = b"" if count == 1 else b" and %d more" % (count - 1)
            listing.odd(what, first[:160] + more + b"; sha256 " + digest.hexdigest().encode())


class End(NamedTuple):
    """Where a zip file's directory lies, and what stands behind it.

    `start` to `stop` are the directory's bytes, `close` is where the records of the end begin, `promised` how
    many entries they promise. `base` is what has to be added to the offsets that they give. `record64` is the
    zip64 record, if there is one.
    """

    start: int
    stop: int
    close: int
    base: int
    promised: int
    record: bytes
    record64: bytes
    locator: bytes
    comment: bytes


class Entry(NamedTuple):
    """One entry as the directory has it: `fields` as in CENTRAL, and the values with zip64 taken in."""

    raw: bytes
    fields: tuple[Any, ...]
    name: bytes
    extra: bytes
    comment: bytes
    size: int
    packed: int
    offset: int
    faults: tuple[str, ...]


class Local(NamedTuple):
    """What stands at an entry's bytes: header, name, extra; its content from `data` on; `descriptor`."""

    raw: bytes
    name: bytes
    extra: bytes
    data: int
    descriptor: bytes
    faults: tuple[str, ...]


def shown(value: bytes) -> bytes:
    """Returns bytes as they stand in a table: long ones by their beginning, length and SHA-256.

    Never the same for two values: only what is cut is longer than 256 bytes.
    """
    if len(value) <= 256:
        return value
    return value[:256] + b"... %d bytes, sha256 " % len(value) + hashlib.sha256(value).hexdigest().encode()


def span(region: Region, start: int, stop: int) -> bytes:
    """Returns some bytes as they stand in a table, with where and how many they are."""
    where = b"%d bytes from byte %d: " % (stop - start, start)
    if stop - start <= 128:
        return where + region.read(start, stop - start)
    return where + b"sha256 " + region.part(start, stop - start).sha256().hex().encode()


def apart(region: Region) -> Reads:
    """Returns how to read what lies apart: nothing but that, since what follows it is not wanted next."""
    return lambda offset, length: region.part(offset, length).read(0, length)


def blocks_of(extra: bytes) -> list[tuple[int, bytes]] | None:
    """Returns the blocks of an extra field, each its id and its bytes; None where it is not made of them."""
    found, at = [], 0
    while at < len(extra):
        if at + 4 > len(extra):
            return None
        kind, length = struct.unpack_from("<2H", extra, at)
        if at + 4 + length > len(extra):
            return None
        found.append((kind, extra[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def sixty_four(extra: bytes, lacking: int, lengths: bytes) -> list[int] | None:
    """Returns the values that a zip64 extra holds: `lacking` of them, each as long as `lengths` says.

    None where there is no such block, more than one, or it holds more or less than that.
    """
    found = [data for kind, data in blocks_of(extra) or () if kind == ZIP64]
    if len(found) != 1 or len(found[0]) != sum(lengths[:lacking]):
        return None
    values, at = [], 0
    for length in lengths[:lacking]:
        values.append(int.from_bytes(found[0][at : at + length], "little"))
        at += length
    return values


def find_end(region: Region, oddities: Oddities) -> End:
    """Finds the end of a zip file and with it the directory. Raises Unreadable where there is none."""
    at, comment = _end_record(region, oddities)
    record = region.read(at, END.size)
    _, disk, first, here, count, size, offset, _ = END.unpack(record)
    close, record64, locator = _zip64(region, at, oddities)
    if record64:
        disk64, first64, here64, count64, size64, offset64 = END64.unpack_from(record64)[4:10]
        pairs = ((disk, disk64), (first, first64), (here, here64), (count, count64))
        agree = all(old in (FULL16, new) for old, new in pairs)
        if not agree or size not in (FULL, size64) or offset not in (FULL, offset64):
            oddities.note("end record contradicts the zip64 record", record + record64)
        disk, first, here, count, size, offset = disk64, first64, here64, count64, size64, offset64
    if disk or first or here != count:
        oddities.note("end record speaks of other disks", record + record64)
    start = close - size
    if count and (start < 0 or region.read(start, 4) != CENTRAL_SIGN):
        start = offset
        if start + size > close or region.read(start, 4) != CENTRAL_SIGN:
            raise Unreadable("has no directory where its end says so")
    if start < offset:
        raise Unreadable("has a directory that begins %d bytes in front of the file" % (offset - start))
    if start != offset:
        oddities.note("offsets count from another byte than the first", b"%d" % (start - offset))
    return End(start, start + size, close, start - offset, count, record, record64, locator, comment)


def _end_record(region: Region, oddities: Oddities) -> tuple[int, bytes]:
    """Returns where the end record is, and the comment. One whose comment ends with the file comes first."""
    begin = max(0, region.length - END.size - FULL16)
    tail = region.read(begin, region.length - begin)
    loose, at = -1, tail.rfind(END_SIGN)
    while at >= 0:
        if at + END.size <= len(tail):
            over = len(tail) - at - END.size - END.unpack_from(tail, at)[-1]
            if over == 0:
                break
            loose = at if over > 0 and loose < 0 else loose
        at = tail.rfind(END_SIGN, 0, at + 3)
    else:
        at = loose
    if at < 0:
        raise Unreadable("has no end record: it is no zip file, or not whole")
    stop = at + END.size + END.unpack_from(tail, at)[-1]
    if stop < len(tail):
        oddities.note("bytes behind the end", span(region, begin + stop, region.length))
    if END_SIGN in tail[at + 4 :]:
        oddities.note("another end record behind the end record", tail[at + 4 :])
    return begin + at, tail[at + END.size : stop]


def _zip64(region: Region, at: int, oddities: Oddities) -> tuple[int, bytes, bytes]:
    """Returns where the records of the end begin, and those of zip64 (nothing where there are none)."""
    if at < LOCATOR.size + END64.size:
        return at, b"", b""
    locator = region.read(at - LOCATOR.size, LOCATOR.size)
    sign, disk, offset, disks = LOCATOR.unpack(locator)
    if sign != LOCATOR_SIGN:
        return at, b"", b""
    behind = at - LOCATOR.size
    for where in (behind - END64.size, offset):
        if where + END64.size <= behind and region.read(where, 4) == END64_SIGN:
            length = 12 + END64.unpack(region.read(where, END64.size))[1]
            if length < END64.size or where + length > behind or length > FULL:
                continue
            if where + length < behind:
                oddities.note("bytes in front of the zip64 locator", span(region, where + length, behind))
            if where != offset or disk or disks > 1:
                oddities.note("zip64 locator is wrong", locator)
            return where, region.read(where, length), locator
    oddities.note("zip64 locator without a record", locator)
    return at, b"", b""


def entries(region: Region, end: End, oddities: Oddities) -> Iterator[Entry]:
    """Yields the entries in the directory's order. Raises Unreadable where it is cut."""
    directory = region.part(end.start, end.stop - end.start)
    at, count, limit, read = 0, 0, directory.length, directory.read
    while at < limit:
        if limit - at < CENTRAL.size or read(at, 4) != CENTRAL_SIGN:
            if count < end.promised:
                raise Unreadable(
                    "has a directory of %d entries, not of the %d promised" % (count, end.promised)
                )
            oddities.note("bytes in the directory that are no entry", span(directory, at, limit))
            break
        entry = entry_at(read, at, end.base)
        yield entry
        at += CENTRAL.size + len(entry.name) + len(entry.extra) + len(entry.comment)
        count += 1
    if count != end.promised:
        oddities.note("number of entries is wrong", b"%d promised" % end.promised)


def entry_at(read: Reads, at: int, base: int) -> Entry:
    """Returns the entry at a byte of the directory. Raises Unreadable where it is cut."""
    raw = read(at, CENTRAL.size)
    fields = CENTRAL.unpack(raw)
    packed, size, name_length, extra_length, comment_length, disk = fields[8:14]
    offset = fields[16]
    rest = read(at + CENTRAL.size, name_length + extra_length + comment_length)
    name = rest[:name_length]
    extra = rest[name_length : name_length + extra_length]
    faults: tuple[str, ...] = ()
    if size == FULL or packed == FULL or offset == FULL or disk == FULL16:
        lacking = [value == FULL for value in (size, packed, offset)] + [disk == FULL16]
        lengths = bytes(length for length, lacks in zip((8, 8, 8, 4), lacking) if lacks)
        values = sixty_four(extra, len(lengths), lengths)
        if values is None:
            faults += ("zip64 extra of the directory does not fit",)
        else:
            values.reverse()
            size, packed, offset = (
                values.pop() if lacks else value for lacks, value in zip(lacking, (size, packed, offset))
            )
            disk = values.pop() if values else disk
    if disk:
        faults += ("entry on another disk",)
    comment = rest[name_length + extra_length :] if comment_length else b""
    return Entry(raw, fields, name, extra, comment, size, packed, base + offset, faults)


def local_at(read: Reads, entry: Entry, length: int) -> Local:
    """Returns what stands at an entry's bytes in a file of `length` bytes.

    Raises Unreadable where that is not there.
    """
    raw = read(entry.offset, LOCAL.size)
    if raw[:4] != LOCAL_SIGN:
        raise Unreadable("has no entry at byte %d, where its directory says so" % entry.offset)
    name_length = raw[26] | raw[27] << 8
    extra_length = raw[28] | raw[29] << 8
    rest = read(entry.offset + LOCAL.size, name_length + extra_length)
    name, extra = rest[:name_length], rest[name_length:]
    data = entry.offset + LOCAL.size + name_length + extra_length
    faults: tuple[str, ...] = ()
    if raw[4:26] != entry.raw[6:28]:
        faults = _contradictions(raw, extra, entry)
    if name != entry.name:
        faults += ("name differs from the directory's",)
    if entry.packed != entry.size and not entry.fields[4] and not entry.fields[3] & ENCRYPTED:
        faults += ("stored with two sizes",)
    if data + entry.packed > length:
        raise Unreadable("ends before the %d bytes of an entry that it promises" % entry.packed)
    descriptor = b""
    if entry.fields[3] & STREAMED:
        behind = data + entry.packed
        descriptor = _descriptor(read(behind, min(24, length - behind)), entry, extra)
        if not descriptor:
            faults += ("data descriptor is missing or wrong",)
    return Local(raw, name, extra, data, descriptor, faults)


def _contradictions(raw: bytes, extra: bytes, entry: Entry) -> tuple[str, ...]:
    """Says in what a local header contradicts the directory; a streamed entry's may hold zeros."""
    _, _, flags, method, _, _, crc, packed, size, _, _ = LOCAL.unpack(raw)
    faults: tuple[str, ...] = ()
    if flags != entry.fields[3]:
        faults += ("flags differ from the directory's",)
    if method != entry.fields[4]:
        faults += ("method differs from the directory's",)
    lengths = b"\x08" * ((size == FULL) + (packed == FULL))
    if lengths:
        values = sixty_four(extra, len(lengths), lengths)
        if values is None:
            faults += ("zip64 extra does not fit",)
        else:
            values.reverse()
            size = values.pop() if size == FULL else size
            packed = values.pop() if packed == FULL else packed
    told = (crc, packed, size)
    if told != (entry.fields[7], entry.packed, entry.size) and not (flags & STREAMED and told == (0, 0, 0)):
        faults += ("crc or sizes differ from the directory's",)
    return faults


def _descriptor(behind: bytes, entry: Entry, extra: bytes) -> bytes:
    """Returns the data descriptor that these bytes begin with, or nothing where none fits."""
    crc = struct.pack("<L", entry.fields[7])
    long = crc + struct.pack("<2Q", entry.packed, entry.size)
    short = crc + struct.pack("<2L", entry.packed & FULL, entry.size & FULL)
    forms = [DESCRIPTOR_SIGN + short, DESCRIPTOR_SIGN + long, short, long]
    if entry.packed > FULL or entry.size > FULL:
        forms = [DESCRIPTOR_SIGN + long, long]
    elif any(kind == ZIP64 for kind, _ in blocks_of(extra) or ()):
        forms = [DESCRIPTOR_SIGN + long, long, DESCRIPTOR_SIGN + short, short]
    for form in forms:
        if behind.startswith(form):
            return form
    return b""

"""gzip files: one member, after RFC 1952. What follows it, another member too, is strange."""

from __future__ import annotations

import struct
import zlib
from typing import Callable, Collection, Dict, Iterator, NamedTuple, Tuple

from pipeline.compare.reader.contents import unpack_deflate
from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import DEFLATED, UNKNOWN, Inside, Known, Listing, Place, told
from pipeline.compare.reader.regions import Region, Spool
from pipeline.compare.reader.streams import NAME, replaced, unpacked

KIND = "gzip"

HEADER, COMPRESSION = "gzip-header", "gzip-compression"

#: Extra fields, comment and flags stay as they are.
NORMALISERS: Dict[str, str] = {
    HEADER: "time, name, system and compression level in a gzip's header: to 0, none, unknown and 0",
    COMPRESSION: "a gzip's data, written without compression",
}

COLUMNS = ("content",)

_MAGIC = b"\x1f\x8b\x08"
_TEXT, _CHECKED, _EXTRA, _NAMED, _COMMENTED, _RESERVED = 1, 2, 4, 8, 16, 0xE0
_TRAILER = 8
_PIECE = 1 << 15
_UNKNOWN = 255


class _Header(NamedTuple):
    """A gzip's header, and how long it is. What is not there is None."""

    flags: int
    time: int
    level: int
    system: int
    extra: bytes | None
    name: bytes | None
    comment: bytes | None
    check: int | None
    length: int
    wrong: bool


class _Member(NamedTuple):
    """The first member: its header, its data and their SHA-256, where its deflate stream and it end."""

    header: _Header
    data: Region
    digest: str
    stream: Tuple[int, int]
    trailer: bytes
    end: int


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are a gzip file."""
    return region.length > len(_MAGIC) and region.read(0, len(_MAGIC)) == _MAGIC


def read(region: Region, spool: Spool) -> Listing:
    """Returns the one entry, unpacked, and the fields. Raises Unreadable where it is cut short or damaged."""
    return _listing(region, _member(region, spool), spool)


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Yields the gzip with the normalisers used and, with gzip-compression only, its data replaced.

    Raises Unreadable where it is strange, or where data is to be replaced but stay compressed as it was:
    no two versions of zlib promise the same bytes.
    """
    listing = known.listing or read(region, spool)
    data = replaced(listing, COMPRESSION, normalisers, inside)
    return _rewritten(region, _header(region, spool.limits.field), normalisers, data)


def _rewritten(
    region: Region, header: _Header, normalisers: Collection[str], data: Region
) -> Iterator[bytes]:
    yield _written(header) if HEADER in normalisers else region.read(0, header.length)
    if COMPRESSION in normalisers:
        yield from _stored(data)
    else:
        yield from region.blocks(header.length)


def _member(region: Region, spool: Spool) -> _Member:
    header = _header(region, spool.limits.field)
    check = 0

    def summed(ended: Callable[[int], None]) -> Iterator[bytes]:
        nonlocal check
        for block in unpack_deflate(region, header.length, ended):
            check = zlib.crc32(block, check)
            yield block

    data, digest, length = unpacked(summed, spool)
    behind = header.length + length
    trailer = region.read(behind, _TRAILER)
    if trailer != struct.pack("<II", check, data.length & 0xFFFFFFFF):
        raise Unreadable("has not the checksum or the size that it says")
    stream = (header.length, length)
    return _Member(header, data, digest, stream, trailer, behind + _TRAILER)


def _listing(region: Region, member: _Member, spool: Spool) -> Listing:
    listing = Listing(KIND, COLUMNS, spool)
    header = member.header
    listing.field("flags", str(header.flags))
    listing.field("mtime", str(header.time))
    listing.field("xfl", str(header.level))
    listing.field("os", str(header.system))
    for what, value in (("extra", header.extra), ("name", header.name), ("comment", header.comment)):
        if value is not None:
            listing.field(what, told(value))
    if header.check is not None:
        listing.field("header crc", "%04x" % header.check)
    offset, length = member.stream
    listing.field("deflate", region.part(offset, length).sha256().hex())
    listing.field("crc", "%08x" % struct.unpack("<II", member.trailer)[0])
    listing.field("isize", str(struct.unpack("<II", member.trailer)[1]))
    if header.wrong:
        listing.odd("the checksum of the header is wrong")
    if header.flags & _RESERVED:
        listing.odd("flags that no reader knows", bytes([header.flags]))
    if member.end < region.length:
        behind = region.part(member.end, region.length - member.end)
        listing.left("another member" if matches(behind, b"") else "bytes behind the end", behind)
    listing.add(NAME, (member.digest.encode(),), Place(offset, length, DEFLATED, member.data.length))
    listing.unpacked = member.data
    return listing.finish()


def _header(region: Region, most: int) -> _Header:
    flags, time, level, system = struct.unpack("<BIBB", region.read(3, 7))
    at = 10
    extra = name = comment = check = None
    if flags & _EXTRA:
        size = struct.unpack("<H", region.read(at, 2))[0]
        extra = region.read(at + 2, size)
        at += 2 + size
    if flags & _NAMED:
        name = _text(region, at, most)
        at += len(name) + 1
    if flags & _COMMENTED:
        comment = _text(region, at, most)
        at += len(comment) + 1
    wrong = False
    if flags & _CHECKED:
        check = struct.unpack("<H", region.read(at, 2))[0]
        wrong = check != zlib.crc32(region.read(0, at)) & 0xFFFF
        at += 2
    return _Header(flags, time, level, system, extra, name, comment, check, at, wrong)


def _text(region: Region, at: int, most: int) -> bytes:
    """Returns the bytes up to the next zero byte. Raises Unreadable where there is none in reach."""
    found = region.read(at, max(0, min(most, region.length - at)))
    end = found.find(b"\0")
    if end < 0:
        raise Unreadable("has a text in its header that does not end within %d bytes" % most)
    return found[:end]


def _written(header: _Header) -> bytes:
    flags = header.flags & ~_NAMED
    parts = [_MAGIC, struct.pack("<BIBB", flags, 0, 0, _UNKNOWN)]
    if header.extra is not None:
        parts += [struct.pack("<H", len(header.extra)), header.extra]
    if header.comment is not None:
        parts += [header.comment, b"\0"]
    written = b"".join(parts)
    if header.check is not None:
        written += struct.pack("<H", zlib.crc32(written) & 0xFFFF)
    return written


def _stored(data: Region) -> Iterator[bytes]:
    """Yields data as a deflate stream of stored pieces of 32 KiB, an empty last one, and the trailer."""
    check = 0
    for block in data.blocks():
        check = zlib.crc32(block, check)
        parts = []
        for at in range(0, len(block), _PIECE):
            piece = block[at : at + _PIECE]
            parts += [struct.pack("<BHH", 0, len(piece), len(piece) ^ 0xFFFF), piece]
        yield b"".join(parts)
    yield struct.pack("<BHH", 1, 0, 0xFFFF) + struct.pack("<II", check, data.length & 0xFFFFFFFF)

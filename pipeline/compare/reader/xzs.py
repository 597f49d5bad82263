"""xz files: one stream. What follows it, another stream or padding too, is strange."""

from __future__ import annotations

import struct
import zlib
from typing import Collection, Dict, Iterator

from pipeline.compare.reader.contents import unpack_xz
from pipeline.compare.reader.listings import UNKNOWN, XZ, Inside, Known, Listing, Place
from pipeline.compare.reader.regions import Region, Spool
from pipeline.compare.reader.streams import NAME, Stream, replaced, unpacked

KIND = "xz"

COMPRESSION = "xz-compression"

NORMALISERS: Dict[str, str] = {COMPRESSION: "an xz file's data, written without compression"}

COLUMNS = ("content",)

_MAGIC = b"\xfd7zXZ\0"
_FOOTER = 12
_CHECKS = {0: "none", 1: "CRC32", 4: "CRC64", 10: "SHA-256"}
_PIECE = 1 << 16
#: A stream's flags with CRC32, and a block's header: one filter, LZMA2 with a dictionary of 64 KiB.
_FLAGS = b"\0\x01"
_BLOCK = b"\x02\0\x21\x01\x08\0\0\0"


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are an xz file."""
    return region.length >= len(_MAGIC) and region.read(0, len(_MAGIC)) == _MAGIC


def read(region: Region, spool: Spool) -> Listing:
    """Returns the one entry, unpacked, and the fields.

    Raises Unreadable where it is cut short or damaged, or wants more memory than `limits.decoder`.
    """
    return _listing(region, _stream(region, spool), spool)


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Yields the xz with xz-compression used and, with that only, its data replaced.

    Raises Unreadable where it is strange, or where data is to be replaced but stay compressed as it was:
    no two versions of liblzma promise the same bytes.
    """
    data = replaced(known.listing or read(region, spool), COMPRESSION, normalisers, inside)
    return _stored(data) if COMPRESSION in normalisers else region.blocks()


def _stream(region: Region, spool: Spool) -> Stream:
    return unpacked(lambda ended: unpack_xz(region, spool.limits.decoder, ended), spool)


def _listing(region: Region, stream: Stream, spool: Spool) -> Listing:
    listing = Listing(KIND, COLUMNS, spool)
    flags = region.read(len(_MAGIC), 2)
    listing.field("check", _CHECKS.get(flags[1], str(flags[1])))
    size = 4 * region.read(12, 1)[0]
    if size:
        # Filters and size of the dictionary: what was asked of the compressor, as far as it is told.
        listing.field("first block's header", region.read(12, size + 4).hex())
    footer = region.read(stream.length - _FOOTER, _FOOTER)
    listing.field("index", "%d bytes" % (4 * struct.unpack("<I", footer[4:8])[0] + 4))
    listing.field("stream", region.part(0, stream.length).sha256().hex())
    if stream.length < region.length:
        behind = region.part(stream.length, region.length - stream.length)
        listing.left("another stream" if matches(behind, b"") else "bytes behind the end", behind)
    listing.add(NAME, (stream.digest.encode(),), Place(0, stream.length, XZ, stream.data.length))
    listing.unpacked = stream.data
    return listing.finish()


def _stored(data: Region) -> Iterator[bytes]:
    """Yields data as an xz stream of one block in LZMA2's uncompressed pieces, 64 KiB each, with CRC32."""
    yield _MAGIC + _FLAGS + _sum(_FLAGS) + _BLOCK + _sum(_BLOCK)
    check = 0
    unpadded = len(_BLOCK) + 4
    first = True
    for block in data.blocks():
        check = zlib.crc32(block, check)
        parts = []
        for at in range(0, len(block), _PIECE):
            piece = block[at : at + _PIECE]
            parts += [struct.pack(">BH", 1 if first else 2, len(piece) - 1), piece]
            unpadded += 3 + len(piece)
            first = False
        yield b"".join(parts)
    unpadded += 1 + 4
    yield b"\0" + bytes(-(unpadded - 4) % 4) + struct.pack("<I", check)
    index = b"\0\x01" + _number(unpadded) + _number(data.length)
    index += bytes(-len(index) % 4)
    footer = struct.pack("<I", len(index) // 4) + _FLAGS
    yield index + _sum(index) + _sum(footer) + footer + b"YZ"


def _sum(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


def _number(value: int) -> bytes:
    """Returns a number as an index has it: seven bits a byte, the lowest first."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)

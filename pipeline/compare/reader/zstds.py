"""zstd files: one frame. What follows it, another frame or one that decoders skip too, is strange."""

from __future__ import annotations

import struct
from typing import Collection, Dict, Iterator

from pipeline.compare.reader.listings import UNKNOWN, ZSTD, Inside, Known, Listing, Place
from pipeline.compare.reader.regions import Region, Spool
from pipeline.compare.reader.streams import NAME, Stream, replaced, unpacked
from pipeline.compare.reader.zstandard import unpack_zstd

KIND = "zstd"

COMPRESSION = "zstd-compression"

NORMALISERS: Dict[str, str] = {COMPRESSION: "a zstd file's data, written without compression or checksum"}

COLUMNS = ("content",)

_MAGIC = b"\x28\xb5\x2f\xfd"
_PIECE = 1 << 17
#: A frame's header: no checksum, no size, a window of 128 KiB.
_HEADER = b"\0\x38"


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are a zstd file."""
    return region.length >= len(_MAGIC) and region.read(0, len(_MAGIC)) == _MAGIC


def read(region: Region, spool: Spool) -> Listing:
    """Returns the one entry, unpacked, and the fields.

    Raises Unreadable where it is cut short or damaged, or wants more memory than `limits.decoder`,
    and where this machine has no libzstd.
    """
    return _listing(region, _stream(region, spool), spool)


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Yields the zstd with zstd-compression used and, with that only, its data replaced.

    Raises Unreadable where it is strange, or where data is to be replaced but stay compressed as it was:
    no two versions of libzstd promise the same bytes.
    """
    data = replaced(known.listing or read(region, spool), COMPRESSION, normalisers, inside)
    return _stored(data) if COMPRESSION in normalisers else region.blocks()


def _stream(region: Region, spool: Spool) -> Stream:
    return unpacked(lambda ended: unpack_zstd(region, spool.limits.decoder, ended), spool)


def _listing(region: Region, stream: Stream, spool: Spool) -> Listing:
    listing = Listing(KIND, COLUMNS, spool)
    # What stands there says whether a window, a size, a checksum or a dictionary follow.
    listing.field("descriptor", "%02x" % region.read(len(_MAGIC), 1)[0])
    listing.field("frame", region.part(0, stream.length).sha256().hex())
    if stream.length < region.length:
        behind = region.part(stream.length, region.length - stream.length)
        listing.left("another frame" if matches(behind, b"") else "bytes behind the end", behind)
    listing.add(NAME, (stream.digest.encode(),), Place(0, stream.length, ZSTD, stream.data.length))
    listing.unpacked = stream.data
    return listing.finish()


def _stored(data: Region) -> Iterator[bytes]:
    """Yields data as a frame of raw blocks of 128 KiB, and an empty last one."""
    yield _MAGIC + _HEADER
    for block in data.blocks():
        parts = []
        for at in range(0, len(block), _PIECE):
            piece = block[at : at + _PIECE]
            parts += [struct.pack("<I", len(piece) << 3)[:3], piece]
        yield b"".join(parts)
    yield b"\x01\0\0"

"""zstd files: one frame. What follows it, another frame or one that decoders skip too, is strange."""

from __future__ import annotations

import hashlib
import struct
from typing import Collection, Dict, Iterator, List, NamedTuple

from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import ZSTD, Inside, Listing, Place
from pipeline.compare.reader.regions import Region, Spool
from pipeline.compare.reader.zstandard import unpack_zstd

KIND = "zstd"

COMPRESSION = "zstd-compression"

NORMALISERS: Dict[str, str] = {COMPRESSION: "a zstd file's data, written without compression or checksum"}

COLUMNS = ("content",)
NAME = b"data"

_MAGIC = b"\x28\xb5\x2f\xfd"
_PIECE = 1 << 17
#: A frame's header: no checksum, no size, a window of 128 KiB.
_HEADER = b"\0\x38"


class _Stream(NamedTuple):
    """The first frame: its data and their SHA-256, and how long it is."""

    data: Region
    digest: str
    length: int


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are a zstd file."""
    return region.length >= len(_MAGIC) and region.read(0, len(_MAGIC)) == _MAGIC


def read(region: Region, spool: Spool) -> Listing:
    """Returns the one entry, unpacked, and the fields.

    Raises Unreadable where it is cut short or damaged, or wants more memory than `limits.decoder`,
    and where this machine has no libzstd.
    """
    return _listing(region, _stream(region, spool), spool)


def rewrite(region: Region, normalisers: Collection[str], inside: Inside, spool: Spool) -> Iterator[bytes]:
    """Yields the zstd with zstd-compression used and, with that only, its data replaced.

    Raises Unreadable where it is strange, or where data is to be replaced but stay compressed as it was:
    no two versions of libzstd promise the same bytes.
    """
    stream = _stream(region, spool)
    listing = _listing(region, stream, spool)
    if listing.strange:
        raise Unreadable("is not normalised: %s" % listing.strange[0])
    new = inside.get((NAME, 0))
    if len(inside) != (new is not None):
        raise Unreadable("has not all of the entries that are to be replaced")
    if COMPRESSION in normalisers:
        return _stored(stream.data if new is None else new)
    if new is not None:
        raise Unreadable("is not written anew without %s" % COMPRESSION)
    return region.blocks()


def _stream(region: Region, spool: Spool) -> _Stream:
    lengths: List[int] = []
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for block in unpack_zstd(region, spool.limits.decoder, lengths.append):
            digest.update(block)
            yield block

    data = spool.keep(hashed())
    return _Stream(data, digest.hexdigest(), lengths[0])


def _listing(region: Region, stream: _Stream, spool: Spool) -> Listing:
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

"""The bytes of one entry: a part of its container where they are stored, else unpacked into the spool."""

from __future__ import annotations

import lzma
import zlib
from typing import Callable, Iterator

from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import DEFLATED, NOTHING, STORED, XZ, ZSTD, Place
from pipeline.compare.reader.regions import BLOCK, Region, Spool
from pipeline.compare.reader.zstandard import unpack_zstd


def content(container: Region, place: Place, spool: Spool) -> Region:
    """Returns the unpacked bytes of an entry.

    Raises Unreadable where they are coded in a way that is not read, do not unpack, unpack to another size
    than the container says, or leave bytes of their place unused.
    """
    if place.coding == STORED:
        return container.part(place.offset, place.length)
    if place.coding == NOTHING:
        return container.part(0, 0)
    if place.coding == XZ:
        return spool.keep(_whole(unpack_xz, container.part(place.offset, place.length), place.size, spool))
    if place.coding == ZSTD:
        return spool.keep(_whole(unpack_zstd, container.part(place.offset, place.length), place.size, spool))
    if place.coding != DEFLATED:
        raise Unreadable("is coded as %s, which is not read here" % place.coding)
    return spool.keep(inflate(container.part(place.offset, place.length), place.size))


def inflate(raw: Region, size: int) -> Iterator[bytes]:
    """Yields what a raw deflate stream unpacks to: `size` bytes, and all of the stream is used up."""
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    try:
        for block in raw.blocks():
            while block:
                if decoder.eof:
                    raise Unreadable("has %d bytes behind the end of its deflate stream" % len(block))
                data = decoder.decompress(block, BLOCK)
                block = decoder.unconsumed_tail or decoder.unused_data
                total += len(data)
                if total > size:
                    raise Unreadable("unpacks to more than the %d bytes that are promised" % size)
                if data:
                    yield data
        while not decoder.eof:
            data = decoder.decompress(b"", BLOCK)
            if not data:
                break
            total += len(data)
            yield data
    except zlib.error as exc:
        raise Unreadable("does not unpack: %s" % exc) from exc
    if not decoder.eof or total != size:
        raise Unreadable("unpacks to %d bytes, not to the %d that are promised" % (total, size))


def unpack_deflate(region: Region, offset: int, ended: Callable[[int], None]) -> Iterator[bytes]:
    """Yields what the raw deflate stream that begins at `offset` unpacks to, and tells how long it is.

    Nothing bounds it but who takes it (the spool does). Raises Unreadable where it is cut short or is none.
    """
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    used = 0
    try:
        for block in region.blocks(offset):
            used += len(block)
            while block and not decoder.eof:
                data = decoder.decompress(block, BLOCK)
                block = decoder.unconsumed_tail
                if data:
                    yield data
            if decoder.eof:
                break
        while not decoder.eof:
            data = decoder.decompress(b"", BLOCK)
            if not data:
                raise Unreadable("ends before its deflate stream does")
            yield data
    except zlib.error as exc:
        raise Unreadable("does not unpack: %s" % exc) from exc
    ended(used - len(decoder.unused_data))


def unpack_xz(region: Region, memory: int, ended: Callable[[int], None]) -> Iterator[bytes]:
    """Yields what the xz stream at the beginning unpacks to, and tells how long it is.

    Nothing bounds what comes out but who takes it (the spool does). Raises Unreadable where the stream is
    cut short or damaged, or where its decoder wants more than `memory` bytes.
    """
    blocks = region.blocks()
    used = 0
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=memory)
        while not decoder.eof:
            block = b""
            if decoder.needs_input:
                block = next(blocks, b"")
                used += len(block)
                if not block:
                    raise Unreadable("ends before its xz stream does")
            data = decoder.decompress(block, BLOCK)
            if data:
                yield data
    except lzma.LZMAError as exc:
        raise Unreadable("does not unpack: %s" % exc) from exc
    ended(used - len(decoder.unused_data))


def _whole(
    unpack: Callable[[Region, int, Callable[[int], None]], Iterator[bytes]],
    raw: Region,
    size: int,
    spool: Spool,
) -> Iterator[bytes]:
    total = 0
    lengths: list[int] = []
    for data in unpack(raw, spool.limits.decoder, lengths.append):
        total += len(data)
        if total > size:
            raise Unreadable("unpacks to more than the %d bytes that are promised" % size)
        yield data
    if total != size or lengths != [raw.length]:
        raise Unreadable("does not unpack to the %d bytes that are promised" % size)

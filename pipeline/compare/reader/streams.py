"""What formats of one compressed stream share: unpacked once, hashed on the way, written anew or not."""

from __future__ import annotations

import hashlib
from typing import Callable, Collection, Iterable, Iterator, List, NamedTuple

from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import Inside, Listing
from pipeline.compare.reader.regions import Region, Spool

#: The name of the one entry.
NAME = b"data"


class Stream(NamedTuple):
    """The first stream: its data and their SHA-256, and how long it is, packed."""

    data: Region
    digest: str
    length: int


def unpacked(blocks: Callable[[Callable[[int], None]], Iterable[bytes]], spool: Spool) -> Stream:
    """Keeps what `blocks` yields in the spool; it is handed a callable that is told the packed length."""
    lengths: List[int] = []
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for block in blocks(lengths.append):
            digest.update(block)
            yield block

    data = spool.keep(hashed())
    return Stream(data, digest.hexdigest(), lengths[0])


def replaced(listing: Listing, normaliser: str, given: Collection[str], inside: Inside) -> Region:
    """Returns what is to be the data: those of `inside`, or those that are there.

    Raises Unreadable where the file is strange, or where data is to be replaced but stay compressed as it
    was: no two versions of a compressor promise the same bytes.
    """
    if listing.strange:
        raise Unreadable("is not normalised: %s" % listing.strange[0])
    data = listing.unpacked
    if data is None:
        raise AssertionError("a stream's listing holds what it unpacks to")
    new = inside.get((NAME, 0))
    if len(inside) != (new is not None):
        raise Unreadable("has not all of the entries that are to be replaced")
    if new is None:
        return data
    if normaliser not in given:
        raise Unreadable("is not written anew without %s" % normaliser)
    return new

"""zstd files: known by their first bytes, not read. The standard library has no decoder for them."""

from __future__ import annotations

from typing import Collection, Dict, Iterator

from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import Inside, Listing
from pipeline.compare.reader.regions import Region, Spool

KIND = "zstd"

NORMALISERS: Dict[str, str] = {}

_MAGIC = b"\x28\xb5\x2f\xfd"
_REASON = "is a zstd file, which is not read; have the package built with dpkg-deb -Zxz or -Zgzip"


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are a zstd file."""
    return region.length >= len(_MAGIC) and region.read(0, len(_MAGIC)) == _MAGIC


def read(region: Region, spool: Spool) -> Listing:
    """Raises Unreadable."""
    raise Unreadable(_REASON)


def rewrite(region: Region, normalisers: Collection[str], inside: Inside, spool: Spool) -> Iterator[bytes]:
    """Raises Unreadable."""
    raise Unreadable(_REASON)

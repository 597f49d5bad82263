"""The manifest of a jar: a row a header, in its order. What is no header is a row without a name."""

from __future__ import annotations

import re
from typing import Collection, Dict, Iterator, List, NamedTuple

from pipeline.compare.reader import values
from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import UNKNOWN, Inside, Known, Listing
from pipeline.compare.reader.regions import Region, Spool

KIND = "manifest"

#: Of the main section alone: what is said of single entries stays.
NORMALISERS: Dict[str, str] = dict(values.NORMALISERS)

COLUMNS = ("value", "form")

_NAME = b"META-INF/MANIFEST.MF"
_MOST = 1 << 20
_LINES = re.compile(rb"([^\r\n]*)(\r\n|\r|\n|\Z)")
_HEADER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9_-]{0,69}): (.*)")


class _Header(NamedTuple):
    """One header: its lines as they stand, its value put together, and whether it is of the main section."""

    name: bytes
    value: bytes
    pieces: List[bytes]
    endings: List[bytes]
    main: bool


def matches(region: Region, name: bytes) -> bool:
    """Says whether this is called a manifest, and is text."""
    if name != _NAME and not name.endswith(b"/" + _NAME):
        return False
    return 0 < region.length <= _MOST and b"\0" not in region.read(0, region.length)


def read(region: Region, spool: Spool) -> Listing:
    """Returns the headers."""
    listing = Listing(KIND, COLUMNS, spool)
    for header in _headers(region):
        endings = b" ".join(ending.hex().encode() for ending in header.endings)
        breaks = b" ".join(b"%d" % len(piece) for piece in header.pieces[:-1])
        listing.add(header.name, (header.value, endings + b" " + breaks), None)
    return listing.finish()


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Yields the manifest with the normalisers used. Raises Unreadable where there is anything inside."""
    if inside:
        raise Unreadable("has no entries that can be replaced")
    written = []
    for header in _headers(region):
        new = header.value
        if header.main and header.name:
            new = values.replaced(header.name, header.value, normalisers, known.values)
        if new == header.value:
            written += [part for both in zip(header.pieces, header.endings) for part in both]
        else:
            written += [header.name + b": " + new, header.endings[0]]
    return iter([b"".join(written)])


def _headers(region: Region) -> Iterator[_Header]:
    held: _Header | None = None
    main = True
    for match in _LINES.finditer(region.read(0, region.length)):
        text, ending = match.groups()
        if held is not None and text.startswith(b" "):
            held.pieces.append(text)
            held.endings.append(ending)
            held = held._replace(value=held.value + text[1:])
            continue
        if held is not None:
            yield held
            held = None
        if not text and not ending:
            return
        found = _HEADER.fullmatch(text)
        if found:
            held = _Header(found.group(1), found.group(2), [text], [ending], main)
        else:
            main = main and bool(text)
            yield _Header(b"", text, [text], [ending], False)
    if held is not None:
        yield held

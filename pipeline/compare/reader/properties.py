"""Java's properties files: a row a line. Comments are rows named "#", and blank lines have no name.

A line that a backslash goes on with is a row of its own, and is never normalised.
"""

from __future__ import annotations

import re
from typing import Collection, Dict, Iterator, NamedTuple

from pipeline.compare.reader import values
from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import UNKNOWN, Inside, Known, Listing
from pipeline.compare.reader.regions import Region, Spool

KIND = "properties"

DATE = "properties-date"

NORMALISERS: Dict[str, str] = {
    DATE: "a comment that is nothing but the date that java.util.Properties writes, to 1970",
    **values.NORMALISERS,
}

COLUMNS = ("value", "form")

_MOST = 1 << 20
_LINES = re.compile(rb"([^\r\n]*)(\r\n|\r|\n|\Z)")
_FIELD = re.compile(rb"([ \t\f]*)((?:\\.|[^\\=: \t\f])+)([ \t\f]*[=:]?[ \t\f]*)(.*)", re.S)
_DATE = re.compile(
    rb"#(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-3]\d"
    rb" [0-2]\d:[0-5]\d:[0-6]\d [A-Z][A-Za-z0-9:+-]{0,9} \d{4}"
)
_FIRST_DAY = b"#Thu Jan 01 00:00:00 UTC 1970"
_ESCAPED = re.compile(rb"\\([:=#! \\])")


class _Line(NamedTuple):
    """One line: the four parts make it up. `plain`: it is one field, begun and ended in this line."""

    indent: bytes
    name: bytes
    between: bytes
    value: bytes
    ending: bytes
    plain: bool


def matches(region: Region, name: bytes) -> bool:
    """Says whether this is called a properties file, and is text."""
    if not name.endswith(b".properties") or not 0 < region.length <= _MOST:
        return False
    return b"\0" not in region.read(0, region.length)


def read(region: Region, spool: Spool) -> Listing:
    """Returns the lines."""
    listing = Listing(KIND, COLUMNS, spool)
    for line in _lines(region):
        form = b"%d %s %s" % (len(line.indent), line.between.hex().encode(), line.ending.hex().encode())
        listing.add(line.name, (line.value, form + line.indent.hex().encode()), None)
    return listing.finish()


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Yields the file with the normalisers used. Raises Unreadable where there is anything inside."""
    if inside:
        raise Unreadable("has no entries that can be replaced")
    written = []
    for line in _lines(region):
        value = line.value
        if line.name == b"#" and DATE in normalisers and _DATE.fullmatch(value):
            value = _FIRST_DAY
        elif line.plain:
            plain = _ESCAPED.sub(rb"\1", value)
            new = values.replaced(line.name, plain, normalisers, known.values)
            value = value if new == plain else new
        name = b"" if line.name == b"#" else line.name
        written.append(line.indent + name + line.between + value + line.ending)
    return iter([b"".join(written)])


def _lines(region: Region) -> Iterator[_Line]:
    goes_on = False
    for match in _LINES.finditer(region.read(0, region.length)):
        text, ending = match.groups()
        if not text and not ending:
            return
        bare = text.lstrip(b" \t\f")
        indent = text[: len(text) - len(bare)]
        field = _FIELD.fullmatch(text)
        if goes_on:
            goes_on = _goes_on(text)
            yield _Line(b"", b"", b"", text, ending, False)
        elif bare[:1] in (b"#", b"!"):
            yield _Line(indent, b"#", b"", bare, ending, False)
        elif field is None:
            goes_on = _goes_on(text)
            yield _Line(b"", b"", b"", text, ending, False)
        else:
            goes_on = _goes_on(text)
            indent, name, between, value = field.groups()
            yield _Line(indent, name, between, value, ending, not goes_on)


def _goes_on(text: bytes) -> bool:
    return (len(text) - len(text.rstrip(b"\\"))) % 2 == 1

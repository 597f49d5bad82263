"""What stands in a container, as a table: one row an entry, one column a property, in the container's order.

Two tables are held against each other without sending them. First one digest a column travels: equal ones
prove equal columns. Of a column that differs, sums a bucket (entries by the hash of their name) say where,
and only the entries of those buckets are sent. Rows lie in the spool: a million cost no memory.

Sums and buckets only find the place; they prove nothing. What proves agreement is the SHA-256 of whole files.
"""

from __future__ import annotations

import hashlib
import marshal
import re
import struct
import zlib
from typing import Collection, Dict, Iterable, Iterator, Mapping, NamedTuple, Sequence, Tuple

from pipeline.compare.reader.limits import check_entries, check_name
from pipeline.compare.reader.regions import Region, Spool

_ROWS = 512
#: A sum that is the same by accident hides a place, and nothing more.
_SUM_BYTES = 6
_TOLD = 256
#: What a long value is told as; a short one that reads so is told so as well, lest it pass for a long one.
_CUT = re.compile(r"\d+ bytes, sha256 [0-9a-f]{64}")

#: How the bytes of an entry lie in its container: as they are, as a raw deflate stream, as an xz stream, as a
#: zstd frame, or not there at all.
STORED, DEFLATED, XZ, ZSTD, NOTHING = "stored", "deflated", "xz", "zstd", "nothing"

#: An entry of a container: its name, and which of those with this name it is (0: the first).
Key = Tuple[bytes, int]
#: What takes the place of the content of some entries.
Inside = Dict[Key, Region]


class Place(NamedTuple):
    """Where an entry's bytes lie in its container: `length` bytes from `offset` on, coded as `coding`.

    `size` is what the container says they unpack to; it is believed only as a bound.
    """

    offset: int
    length: int
    coding: str
    size: int


class Row(NamedTuple):
    """One entry. `values` stand in the order of the listing's columns, readable ASCII wherever they can."""

    name: bytes
    values: tuple[bytes, ...]
    place: Place | None


class Listing:
    """The table of one container.

    `kind` names the format. `fields` are the container's own properties, which belong to no entry, each by
    its name; `strange` says what a strict reader finds wrong although it can go on (a gap between entries, a
    header that contradicts another). A strange container is never normalised. `unpacked` holds the content
    of the only entry where it had to be unpacked to be read at all.
    """

    def __init__(self, kind: str, columns: Sequence[str], spool: Spool) -> None:
        self.kind = kind
        self.columns = tuple(columns)
        self.fields: dict[str, str] = {}
        self.strange: list[str] = []
        self.unpacked: Region | None = None
        self.count = 0
        self._spool = spool
        self._chunks: list[Region] = []
        self._rows: list[tuple[bytes, tuple[bytes, ...], Place | None]] = []
        self._digests = [hashlib.sha256() for _ in range(len(self.columns) + 1)]
        self._seen: set[int] = set()
        self._again: set[int] = set()

    @property
    def duplicates(self) -> bool:
        """Says whether a name may stand here twice; never no where one does."""
        return bool(self._again)

    def field(self, name: str, value: str) -> None:
        """Notes a property of the container itself; a second one of the same name is numbered."""
        told, number = name, 2
        while told in self.fields:
            told, number = "%s (%d)" % (name, number), number + 1
        self.fields[told] = value

    def odd(self, what: str, value: bytes = b"") -> None:
        """Notes bytes that no rule of the format gives a place: the word for them, and what they are."""
        self.strange.append(what)
        self.field("strange: " + what, told(value))

    def left(self, what: str, part: Region) -> None:
        """Notes a run of bytes as `odd` does, however long it is."""
        if part.length <= _TOLD:
            self.odd(what, part.read(0, part.length))
        else:
            self.strange.append(what)
            self.field("strange: " + what, "%d bytes, sha256 %s" % (part.length, part.sha256().hex()))

    def add(self, name: bytes, values: tuple[bytes, ...], place: Place | None) -> None:
        """Adds an entry. Raises Unreadable where there are too many, or the name is too long."""
        self.count += 1
        check_entries(self.count, self._spool.limits)
        check_name(name, self._spool.limits)
        mark = hash(name)
        (self._again if mark in self._seen else self._seen).add(mark)
        self._rows.append((name, values, place))
        if len(self._rows) == _ROWS:
            self._flush()

    def finish(self) -> Listing:
        """Ends the table and returns it."""
        if self._rows:
            self._flush()
        self._seen = set()
        return self

    def digests(self) -> list[str]:
        """Returns one SHA-256 of the names and one of each column, hexadecimal, in the container's order."""
        return [digest.hexdigest() for digest in self._digests]

    def rows(self) -> Iterator[Row]:
        """Yields the entries in the container's order. Only after `finish`."""
        for chunk in self._chunks:
            for name, values, place in marshal.loads(b"".join(chunk.blocks())):  # our own, nameless file
                yield Row(name, values, None if place is None else Place(*place))

    def sums(self, columns: Sequence[int], bits: int) -> list[list[str]]:
        """Returns the sums of the 2**bits buckets of each column (0: the names), hexadecimal, order apart."""
        mask = (1 << bits) - 1
        totals = [[0] * (mask + 1) for _ in columns]
        for name, occurrence, row in self._numbered():
            bucket = zlib.crc32(name) & mask
            key = b"%d %d " % (len(name), occurrence) + name
            for total, column in zip(totals, columns):
                value = row.values[column - 1] if column else b""
                total[bucket] += int.from_bytes(hashlib.sha256(key + value).digest()[:_SUM_BYTES], "big")
        limit = 1 << (8 * _SUM_BYTES)
        return [["%x" % (one % limit) for one in total] for total in totals]

    def within(self, buckets: Iterable[int], bits: int) -> Iterator[tuple[int, int, Row]]:
        """Yields the entries of some buckets: place in the container (0: the first), occurrence, row."""
        mask, wanted = (1 << bits) - 1, frozenset(buckets)
        for index, (name, occurrence, row) in enumerate(self._numbered()):
            if zlib.crc32(name) & mask in wanted:
                yield index, occurrence, row

    def find(self, wanted: Collection[tuple[bytes, int]]) -> dict[tuple[bytes, int], Row]:
        """Returns those of the entries that are there, by name and occurrence (0: the first), in one pass."""
        names, found = {name for name, _ in wanted}, {}
        for name, occurrence, row in self._numbered():
            if name in names and (name, occurrence) in wanted:
                found[name, occurrence] = row
        return found

    def _numbered(self) -> Iterator[tuple[bytes, int, Row]]:
        """Yields name, occurrence and row. Only names that come again are counted, and remembered."""
        counts: dict[bytes, int] = {}
        for row in self.rows():
            if self._again and hash(row.name) in self._again:
                occurrence = counts.get(row.name, 0)
                counts[row.name] = occurrence + 1
                yield row.name, occurrence, row
            else:
                yield row.name, 0, row

    def _flush(self) -> None:
        names = [row[0] for row in self._rows]
        for index, digest in enumerate(self._digests):
            column = names if index == 0 else [row[1][index - 1] for row in self._rows]
            digest.update(struct.pack("<%dI" % len(column), *map(len, column)))
            digest.update(b"".join(column))
        self._chunks.append(
            self._spool.keep(
                [
                    marshal.dumps(
                        [(name, values, place and tuple(place)) for name, values, place in self._rows]
                    )
                ]
            )
        )
        self._rows = []


class Known(NamedTuple):
    """What a `rewrite` need not find out again: the container's listing; and the side's recorded values.

    `values` are what was recorded of where this side was built, by `host`, `user`, `path` and `time`.
    """

    listing: Listing | None = None
    values: Mapping[str, bytes] = {}


#: Nothing is known beforehand.
UNKNOWN = Known()


def told(value: bytes) -> str:
    """Returns bytes as they travel: short ones as they are, long ones by length and SHA-256."""
    text = value.decode("utf-8", "surrogateescape")
    if len(value) <= _TOLD and not _CUT.fullmatch(text):
        return text
    return "%d bytes, sha256 %s" % (len(value), hashlib.sha256(value).hexdigest())

"""Zip files: jar, war, whl and what else is one.

Each entry is a row in the directory's order. `place` and content are told by raw bytes: what an entry unpacks
to is not looked at here. Every other byte of the file stands in a column, in a field, or is strange.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from typing import Collection, Iterator

from pipeline.compare.reader import ziprewrites
from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import DEFLATED, STORED, UNKNOWN, Inside, Known, Listing, Place
from pipeline.compare.reader.regions import BLOCK, Region, Spool
from pipeline.compare.reader.ziprecords import (
    CENTRAL,
    CENTRAL_SIGN,
    ENCRYPTED,
    END,
    END64,
    END_SIGN,
    FULL,
    FULL16,
    LOCAL_SIGN,
    LOCATOR,
    End,
    Entry,
    Local,
    Oddities,
    Reads,
    apart,
    entries,
    find_end,
    local_at,
    shown,
    span,
)

KIND = "zip"
#: Names of files that are one even where other bytes stand in front of the first entry.
SUFFIXES = (b".zip", b".jar", b".war", b".ear", b".whl")
#: `extra`: extra fields of directory and local header. `attributes`: versions, flags and attributes.
#: `coding`: method and packed size. `claims`: crc and size that are promised. `layout`: where a local header
#: says it otherwise, data descriptor, zip64, a place out of order. `content`: SHA-256 as it is packed.
COLUMNS = ("time", "extra", "attributes", "comment", "coding", "claims", "layout", "content")

NORMALISERS = {
    ziprewrites.TIMES: "times of entries set to 1980-01-01, extra fields of times left out",
    ziprewrites.ORDER: "entries sorted by name; what has to come first stays there",
    ziprewrites.COMPRESSION: "content stored as it is, without data descriptors",
}

_METHODS = {0: STORED, 8: DEFLATED}
_KNOWN_WORDS = 4096


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are a zip file: they begin as one, or end as one.

    A comment at the end is looked past only where the name is a zip file's.
    """
    if region.length < 4:
        return False
    if region.read(0, 4) in (LOCAL_SIGN, END_SIGN):
        return True
    if not name.lower().endswith(SUFFIXES):
        return _ends_as_one(region)
    begin = max(0, region.length - END.size - FULL16)
    return END_SIGN in region.read(begin, region.length - begin)


def _ends_as_one(region: Region) -> bool:
    """Says whether the last bytes are an end record, and a directory lies right in front of it: a program
    with a zip file behind it runs as what it begins as, whatever it is called.
    """
    if region.length < END.size + CENTRAL.size:
        return False
    at = region.length - END.size
    sign, _, _, _, count, size, _, comment = END.unpack(region.read(at, END.size))
    if sign != END_SIGN or comment or not count or size > at:
        return False
    return region.read(at - size, 4) == CENTRAL_SIGN


def outline(region: Region) -> None:
    """Raises Unreadable where the file has no directory at its end, or one that is cut. Reads its end."""
    find_end(region, Oddities())


def read(region: Region, spool: Spool) -> Listing:
    """Returns what stands in a zip file. Raises Unreadable where it is cut, or entries cannot be found."""
    listing = Listing(KIND, COLUMNS, spool)
    oddities = Oddities()
    end = find_end(region, oddities)
    if len(end.record64) > spool.limits.field:
        raise Unreadable("has a zip64 record of %d bytes" % len(end.record64))
    words = _Words()
    spans = _Spans(end.start)
    for entry in entries(region, end, oddities):
        ordered = entry.offset == spans.reached
        reads = region.read if ordered else apart(region)
        local = local_at(reads, entry, region.length)
        stop = local.data + entry.packed + len(local.descriptor)
        spans.add(entry.offset, stop, region.length)
        for fault in entry.faults + local.faults:
            oddities.note(fault, b"entry %d: " % listing.count + local.raw + local.name)
        values = (
            words.time(entry, local),
            _extra(entry.extra, local.extra) if entry.extra or local.extra else b"",
            words.attributes(entry),
            shown(entry.comment),
            words.coding(entry) + b" %d" % entry.packed,
            b"%08x %d" % (entry.fields[7], entry.size),
            _layout(entry, local, ordered),
            _content(region, reads, local.data, entry.packed),
        )
        listing.add(entry.name, values, _place(entry, local))
    listing.finish()
    spans.check(region, oddities)
    _tell_end(region, end, listing, oddities)
    oddities.tell(listing)
    return listing


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Returns the file's bytes after those of `normalisers` that are its own, with other content `inside`.

    Raises Unreadable where it is strange or signed, or a normaliser must not be used: at once, or while the
    bytes are taken.
    """
    listing = known.listing or read(region, spool)
    if listing.strange:
        raise Unreadable("is strange and not rewritten: %s" % listing.strange[0])
    return ziprewrites.plan(region, [one for one in normalisers if one in NORMALISERS], inside, spool)


def _content(region: Region, reads: Reads, data: int, packed: int) -> bytes:
    if packed > BLOCK:
        return region.part(data, packed).sha256().hex().encode()
    return hashlib.sha256(reads(data, packed)).hexdigest().encode()


def _extra(central: bytes, local: bytes) -> bytes:
    return shown(central.hex().encode()) + b"/" + shown(local.hex().encode())


def _layout(entry: Entry, local: Local, ordered: bool) -> bytes:
    """Returns how an entry lies: nothing where it follows the last, and its header is the directory's."""
    words = b""
    if not ordered:
        words += b"at byte %d; " % entry.offset
    fields = entry.fields
    if fields[8] == FULL or fields[9] == FULL or fields[16] == FULL or fields[13]:
        lacks = b"".join(b"%d" % (value == FULL) for value in (fields[9], fields[8], fields[16]))
        words += b"zip64 " + lacks + b" disk %d; " % fields[13]
    if local.descriptor:
        words += b"descriptor of %d bytes; " % len(local.descriptor)
    if local.raw[4:10] != entry.raw[6:12]:
        words += b"local version, flags, method %s; " % local.raw[4:10].hex().encode()
    if local.raw[14:26] != entry.raw[16:28]:
        words += b"local crc, sizes %s; " % local.raw[14:26].hex().encode()
    return words


def _place(entry: Entry, local: Local) -> Place | None:
    if not entry.packed and not entry.size and entry.name.endswith(b"/"):
        return None
    flags, method = entry.fields[3], entry.fields[4]
    coding = "encrypted" if flags & ENCRYPTED else _METHODS.get(method) or "method %d" % method
    return Place(local.data, entry.packed, coding, entry.size)


def _tell_end(region: Region, end: End, listing: Listing, oddities: Oddities) -> None:
    """Notes what the end of the file says; its numbers follow from the rows, or are strange."""
    if end.stop < end.close:
        oddities.note("bytes behind the directory", span(region, end.stop, end.close))
    if end.comment:
        listing.field("comment", shown(end.comment).decode("utf-8", "surrogateescape"))
    if end.record64:
        made, needed = END64.unpack_from(end.record64)[2:4]
        fulls = (FULL16, FULL16, FULL16, FULL16, FULL, FULL)
        told = "made by %d, needs %d; end record leaves out %s; %d disks; more %s" % (
            made,
            needed,
            "".join("%d" % (value == full) for value, full in zip(END.unpack(end.record)[1:], fulls)),
            LOCATOR.unpack(end.locator)[3],
            shown(end.record64[END64.size :].hex().encode()).decode(),
        )
        listing.field("zip64", told)


class _Spans:
    """Where the entries lie, to tell what no entry owns and what more than one does. 16 bytes an entry."""

    def __init__(self, limit: int) -> None:
        self.reached = 0
        self._limit = limit
        self._total = 0
        self._starts = array("Q")
        self._stops = array("Q")
        self._straight = True

    def add(self, start: int, stop: int, length: int) -> None:
        """Adds the next one. Raises Unreadable where they are longer together than the file: a bomb."""
        self._total += stop - start
        if self._total > length:
            raise Unreadable("has entries that overlap: together they are longer than the file")
        self._straight = self._straight and start == self.reached
        self.reached = stop
        self._starts.append(start)
        self._stops.append(stop)

    def check(self, region: Region, oddities: Oddities) -> None:
        """Notes every byte in front of the directory that belongs to no entry, and every overlap."""
        starts, stops, reached = self._starts, self._stops, 0
        order = () if self._straight else sorted(range(len(starts)), key=starts.__getitem__)
        for index in order:
            if starts[index] > reached:
                what = "bytes between entries" if reached else "bytes in front of the first entry"
                oddities.note(what, span(region, reached, starts[index]))
            elif starts[index] < reached:
                oddities.note("entries that overlap", b"at byte %d" % starts[index])
            reached = max(reached, stops[index])
        if self._straight:
            reached = self.reached
        if reached < self._limit:
            what = "bytes between entries and directory" if reached else "bytes in front of the directory"
            oddities.note(what, span(region, reached, self._limit))
        elif reached > self._limit:
            oddities.note("entries that overlap the directory", b"to byte %d" % reached)


class _Words:
    """Words for what many entries share, made once each."""

    def __init__(self) -> None:
        self._known: dict[object, bytes] = {}

    def time(self, entry: Entry, local: Local) -> bytes:
        """Returns when an entry was changed, and what the local header says where that differs."""
        raw, other = entry.raw[12:16], local.raw[10:14]
        told = self._known.get(raw) or self._keep(raw, _moment(raw))
        return told if raw == other else told + b" local " + _moment(other)

    def attributes(self, entry: Entry) -> bytes:
        """Returns versions, flags and attributes."""
        fields = entry.fields
        key = (fields[1], fields[2], fields[3], fields[14], fields[15])
        told = self._known.get(key)
        return told or self._keep(
            key, b"made by %d, needs %d, flags %04x, internal %04x, external %08x" % key
        )

    def coding(self, entry: Entry) -> bytes:
        """Returns the name of a method."""
        method = entry.fields[4]
        return _METHODS.get(method, "method %d" % method).encode()

    def _keep(self, key: object, told: bytes) -> bytes:
        if len(self._known) >= _KNOWN_WORDS:
            self._known.clear()
        self._known[key] = told
        return told


def _moment(raw: bytes) -> bytes:
    """Returns a date and time of DOS as it stands there, whether there is such a day or not."""
    time, date = struct.unpack("<2H", raw)
    parts = (1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, (time & 31) * 2)
    return b"%d-%02d-%02d %02d:%02d:%02d" % parts

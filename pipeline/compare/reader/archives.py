"""ar archives, and Debian's packages, which are ar archives of three members.

Strict where dpkg is not: it installs the first of two data members and never looks behind it.
"""

from __future__ import annotations

import re
from typing import Collection, Dict, Iterator, NamedTuple

from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import STORED, UNKNOWN, Inside, Known, Listing, Place
from pipeline.compare.reader.regions import Region, Spool

#: Of both. The listing of a package says "deb".
KIND = "ar"

#: The members' times alone. Names, owners, modes, order and every byte of a member stay as they are.
NORMALISERS: Dict[str, str] = {"ar-times": "the time of every member of an ar archive or package, to 0"}

COLUMNS = ("time", "owner", "mode", "form", "content")

_MAGIC = b"!<arch>\n"
_HEADER = 60
_END = b"`\n"
CONTROL = re.compile(rb"control\.tar(\.gz|\.xz|\.zst)?")
DATA = re.compile(rb"data\.tar(\.gz|\.xz|\.zst|\.bz2|\.lzma)?")


class _Member(NamedTuple):
    """One member: its header as it stands, its name, where its bytes lie, and the byte behind them."""

    header: bytes
    name: bytes
    offset: int
    size: int
    padding: bytes


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are an ar archive."""
    return region.length >= len(_MAGIC) and region.read(0, len(_MAGIC)) == _MAGIC


def outline(region: Region) -> None:
    """Raises Unreadable where a package is cut short, or lacks one of its three members. Reads headers."""
    names = [member.name for member in _members(region)]
    if b"debian-binary" not in names:
        raise Unreadable("has no member debian-binary")
    for what, pattern in (("control", CONTROL), ("data", DATA)):
        if not any(pattern.fullmatch(name) for name in names):
            raise Unreadable("has no member with its %s" % what)


def read(region: Region, spool: Spool) -> Listing:
    """Returns the members in their order. Raises Unreadable where one is cut short or its header is none."""
    names = []
    listing = Listing(_kind(region), COLUMNS, spool)
    end = len(_MAGIC)
    for member in _members(region):
        names.append(member.name)
        time, uid, gid, mode = (member.header[a:b] for a, b in ((16, 28), (28, 34), (34, 40), (40, 48)))
        for what, value, digits in (
            ("time", time, rb"[0-9]+ *"),
            ("owner", uid, rb"[0-9]+ *"),
            ("group", gid, rb"[0-9]+ *"),
            ("mode", mode, rb"[0-7]+ *"),
        ):
            if not re.fullmatch(digits, value):
                listing.odd("a member's %s is no number" % what, value)
        if member.size % 2 and member.padding != b"\n":
            listing.odd("padding", member.padding)
        content = region.part(member.offset, member.size).sha256().hex().encode()
        owner = uid.rstrip(b" ") + b" " + gid.rstrip(b" ")
        values = (time.rstrip(b" "), owner, mode.rstrip(b" "), _form(member), content)
        listing.add(member.name, values, Place(member.offset, member.size, STORED, member.size))
        end = member.offset + member.size + len(member.padding)
    if end < region.length:
        listing.left("bytes behind the last member", region.part(end, region.length - end))
    if listing.kind == "deb":
        _check_package(names, region, listing)
    return listing.finish()


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Yields the archive with the normalisers used and the members of `inside` replaced.

    Raises Unreadable where the archive is strange, or a new member is too large for it.
    """
    listing = known.listing or read(region, spool)
    if listing.strange:
        raise Unreadable("is not normalised: %s" % listing.strange[0])
    return _rewritten(region, normalisers, inside)


def _rewritten(region: Region, normalisers: Collection[str], inside: Inside) -> Iterator[bytes]:
    occurrences: Dict[bytes, int] = {}
    used = 0
    yield _MAGIC
    for member in _members(region):
        occurrence = occurrences.get(member.name, 0)
        occurrences[member.name] = occurrence + 1
        new = inside.get((member.name, occurrence))
        header = member.header
        if "ar-times" in normalisers:
            header = header[:16] + b"0".ljust(12) + header[28:]
        if new is None:
            new = region.part(member.offset, member.size)
        else:
            used += 1
            size = b"%d" % new.length
            if len(size) > 10:
                raise Unreadable("has no room for a member of %d bytes" % new.length)
            header = header[:48] + size.ljust(10) + header[58:]
        yield header
        yield from new.blocks()
        if new.length % 2:
            yield b"\n"
    if used != len(inside):
        raise Unreadable("has not all of the members that are to be replaced")


def _kind(region: Region) -> str:
    first = region.read(len(_MAGIC), min(16, region.length - len(_MAGIC)))
    return "deb" if first.rstrip(b" /") == b"debian-binary" else KIND


def _members(region: Region) -> Iterator[_Member]:
    """Yields the members; ends where less than a header is left."""
    at = len(_MAGIC)
    while at + _HEADER <= region.length:
        header = region.read(at, _HEADER)
        size = header[48:58].rstrip(b" ")
        if header[58:] != _END or not size.isdigit():
            raise Unreadable("has no member's header at byte %d" % at)
        offset, length = at + _HEADER, int(size)
        region.part(offset, length)  # is it all there?
        behind = offset + length
        padding = region.read(behind, 1) if length % 2 and behind < region.length else b""
        yield _Member(header, _name(header), offset, length, padding)
        at = behind + len(padding)


def _name(header: bytes) -> bytes:
    """Returns a member's name without the slash that some writers end it with."""
    name = header[:16].rstrip(b" ")
    return name[:-1] if len(name) > 1 and name.endswith(b"/") and name != b"//" else name


def _form(member: _Member) -> bytes:
    """Returns how the header is spelled, as far as it is not as dpkg-deb spells it: empty is as it does."""
    parts = []
    name = member.header[:16].rstrip(b" ")
    if name != member.name:
        parts.append(b"name ends with /")
    size = member.header[48:58].rstrip(b" ")
    if size != b"%d" % member.size:
        parts.append(b"size spelled " + size)
    if member.size % 2 and member.padding != b"\n":
        parts.append(b"padding " + (member.padding.hex().encode() or b"missing"))
    return b", ".join(parts)


def _check_package(names: list[bytes], region: Region, listing: Listing) -> None:
    """Notes what dpkg would take, skip or refuse other than a reader of all members thinks."""
    first = next(_members(region))
    if region.read(first.offset, first.size if first.size < _HEADER else 0) != b"2.0\n":
        listing.odd("debian-binary does not say 2.0")
    for what, pattern in (("control", CONTROL), ("data", DATA)):
        count = sum(1 for name in names if pattern.fullmatch(name))
        if count != 1:
            listing.odd("%d %s members" % (count, what))
    order = [name for name in names if CONTROL.fullmatch(name) or DATA.fullmatch(name)]
    if len(order) > 1 and not CONTROL.fullmatch(order[0]):
        listing.odd("the data member stands before the control member")
    places = [index for index, name in enumerate(names) if DATA.fullmatch(name)]
    if places and places[0] + 1 < len(names):
        listing.odd("%d members behind the data member" % (len(names) - places[0] - 1))
    known = names[:1] + order
    if len(known) != len(names):
        listing.odd("%d members that a package does not have" % (len(names) - len(known)))

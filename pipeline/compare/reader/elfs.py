"""ELF files (programs, shared libraries, object files), opened as a table of their sections.

After the System V ABI, chapters 4 and 5: the header and the program headers are fields, each section is an
entry, and bytes that lie in no section are told as one. A file without sections, or one whose tables lead out
of it, stays one leaf.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Collection, Dict, Iterator, List, NamedTuple, Tuple

from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import NOTHING, STORED, UNKNOWN, Inside, Known, Listing, Place
from pipeline.compare.reader.regions import Region, Spool

KIND = "elf"

#: None: the bytes of a program are what it does.
NORMALISERS: Dict[str, str] = {}

COLUMNS = ("type", "flags", "address", "place", "relations", "content")

_MAGIC = b"\x7fELF"
_NO_BITS = 8
_MOST_NAMES = 1 << 20
#: By class: a section's header, a program header's length, the file header's fields from `e_entry` on.
_SECTION = {1: "IIIIIIIIII", 2: "IIQQQQIIQQ"}
_HEADER = {1: "HHIIIIIHHHHHH", 2: "HHIQQQIHHHHHH"}


class _Section(NamedTuple):
    """A section's header, as section 4.9 names its fields."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


class _Elf(NamedTuple):
    """The file's header, where the program headers lie, and the sections with their names."""

    header: Tuple[int, ...]
    programs: Region
    table: Tuple[int, int]
    sections: List[Tuple[bytes, _Section]]


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are an ELF file whose sections can be read."""
    if region.length < 52 or region.read(0, 4) != _MAGIC:
        return False
    try:
        return bool(_parse(region).sections)
    except (Unreadable, struct.error, KeyError):
        return False


def read(region: Region, spool: Spool) -> Listing:
    """Returns the sections in the order of their table. Raises Unreadable where it leads out of the file."""
    try:
        elf = _parse(region)
    except (struct.error, KeyError) as exc:
        raise Unreadable("has a damaged ELF header") from exc
    listing = Listing(KIND, COLUMNS, spool)
    listing.field("identification", region.read(0, 16).hex())
    for what, value in zip(("type", "machine", "version", "entry point"), elf.header):
        listing.field(what, "%x" % value)
    listing.field("flags", "%x" % elf.header[6])
    listing.field("sizes and counts", " ".join("%d" % each for each in elf.header[7:]))
    listing.field("tables", "program headers at %d, sections at %d" % elf.header[4:6])
    listing.field("program headers", elf.programs.sha256().hex())
    size = elf.header[7]
    taken = [(0, size), (elf.header[4], elf.header[4] + elf.programs.length), elf.table]
    for name, section in elf.sections:
        length = 0 if section.type in (0, _NO_BITS) else section.size
        part = region.part(section.offset if length else 0, length)
        taken.append((section.offset, section.offset + length))
        values = (
            b"%x" % section.type,
            b"%x" % section.flags,
            b"%x" % section.address,
            b"%d bytes at %d" % (section.size, section.offset),
            b"name %d, link %d, info %d, alignment %d, entries of %d" % (section.name, *section[6:]),
            part.sha256().hex().encode(),
        )
        coding = STORED if length else NOTHING
        listing.add(name, values, Place(section.offset, length, coding, length) if length else None)
    _rest(region, taken, listing)
    return listing.finish()


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Raises Unreadable: a program is not written anew."""
    raise Unreadable("is an ELF file, of which nothing is normalised")


def _parse(region: Region) -> _Elf:
    identification = region.read(0, 16)
    kind, order = identification[4], {1: "<", 2: ">"}[identification[5]]
    form = order + _HEADER[kind]
    header = struct.unpack(form, region.read(16, struct.calcsize(form)))
    (program_size, programs), (section_size, sections, names) = header[8:10], header[10:13]
    section = struct.Struct(order + _SECTION[kind])
    if section_size != section.size or not sections:
        raise Unreadable("has no sections")
    table = region.part(header[5], sections * section_size)
    found = [
        _Section(*section.unpack(table.read(at, section_size))) for at in range(0, table.length, section_size)
    ]
    if names >= len(found) or found[names].size > _MOST_NAMES:
        raise Unreadable("has no names for its sections")
    texts = region.part(found[names].offset, found[names].size).read(0, found[names].size)
    for each in found:
        if each.type not in (0, _NO_BITS):
            region.part(each.offset, each.size)
    return _Elf(
        header,
        region.part(header[4], program_size * programs),
        (header[5], header[5] + table.length),
        [(_name(texts, each.name), each) for each in found],
    )


def _name(texts: bytes, at: int) -> bytes:
    end = texts.find(b"\0", at)
    return texts[at:end] if 0 <= at < len(texts) and end >= 0 else b"?%d" % at


def _rest(region: Region, taken: List[Tuple[int, int]], listing: Listing) -> None:
    """Tells what lies in no section and no table: paddings as a rule."""
    digest, count, at = hashlib.sha256(), 0, 0
    for begin, end in [*sorted(taken), (region.length, region.length)]:
        if begin > at:
            part = region.part(at, begin - at)
            count += part.length
            digest.update(b"%d:" % at)
            for block in part.blocks():
                digest.update(block)
        at = max(at, end)
    listing.field("between sections", "%d bytes, sha256 %s" % (count, digest.hexdigest()))

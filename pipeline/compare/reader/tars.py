"""Tars: ustar, GNU's and PAX. Every byte of a header is in a column of its entry.

A tar does not know where it lies, and it is `control.tar` and `data.tar` whose owners, modes and order are
what a package installs: whoever asks decides which of the normalisers may be used there.
"""

from __future__ import annotations

import hashlib
import re
from typing import Collection, Dict, Iterator, List, Set, Tuple

from pipeline.compare.reader import tarheaders
from pipeline.compare.reader.limits import Unreadable, check_entries
from pipeline.compare.reader.listings import NOTHING, STORED, UNKNOWN, Inside, Known, Listing, Place
from pipeline.compare.reader.regions import BLOCK as READ
from pipeline.compare.reader.regions import Region, Spool
from pipeline.compare.reader.tarentries import Entries, Entry, Extension
from pipeline.compare.reader.tarheaders import BLOCK, Head

KIND = "tar"

TIMES, OWNERS, ORDER, PACKAGE_TIMES = "tar-times", "tar-owners", "tar-order", "deb-times"

#: None touches a mode, type, name, link, device, or any record but those of times or owners.
NORMALISERS: Dict[str, str] = {
    TIMES: "the times of all entries of a tar, to 0; never which of them are recorded",
    OWNERS: "the owners of all entries of a tar, to root; NOT for the tars of a package",
    ORDER: "the entries of a tar, sorted by name, if order has no effect; NOT for the tars of a package",
    PACKAGE_TIMES: "the times in the headers of a package's tar, to 0; no record is touched",
}

COLUMNS = ("type", "mode", "owner", "time", "link", "device", "extra", "form", "content")

_TIMES = (b"mtime", b"atime", b"ctime")
_OWNERS = (b"uid", b"gid", b"uname", b"gname")
#: Records whose values stand in another column.
_MOVED = frozenset((*_TIMES, *_OWNERS, b"path", b"linkpath", b"size"))
_RECORD = 20 * BLOCK
_SMALL = READ // 4
_WORD = re.compile(rb"[%: =]")


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are a tar: they say so, or begin with a header whose checksum is right."""
    if region.length < BLOCK:
        return False
    head = region.read(0, BLOCK)
    return head[257:262] == b"ustar" or tarheaders.right(head)


def read(region: Region, spool: Spool) -> Listing:
    """Returns the entries in their order. Raises Unreadable where one is cut short or not well formed."""
    listing = Listing(KIND, COLUMNS, spool)
    entries = Entries(region, spool.limits)
    for entry in entries:
        listing.add(entry.name, _values(entry, _content(region, entry)), _place(entry))
    for what, value in entries.strange:
        listing.odd(what, value)
    zeros = _zeros(region, entries.end)
    listing.field("end", "%d zero bytes" % zeros)
    if zeros < 2 * BLOCK:
        listing.odd("not two blocks of zeros at the end")
    behind = entries.end + zeros
    if behind < region.length:
        listing.left("bytes behind the end", region.part(behind, region.length - behind))
    return listing.finish()


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Yields the tar with the normalisers used and the content of the entries `inside` replaced.

    Raises Unreadable where the tar is strange, a new content has no room, or order may have an effect.
    """
    entries = Entries(region, spool.limits)
    places = _checked(entries, ORDER in normalisers)
    total, used = 0, 0
    occurrences: Dict[bytes, int] = {}
    wanted = {name for name, _ in inside}
    for entry in (one for one in map(entries.entry, places) if one) if places else entries:
        new = None
        if entry.name in wanted:
            occurrence = occurrences.get(entry.name, 0)
            occurrences[entry.name] = occurrence + 1
            new = inside.get((entry.name, occurrence))
            used += new is not None
        for block in _rewritten(region, entry, normalisers, new):
            total += len(block)
            yield block
    if used != len(inside):
        raise Unreadable("has not all of the entries that are to be replaced")
    yield bytes(_tail(region, entries.end, total))


def _values(entry: Entry, content: bytes) -> Tuple[bytes, ...]:
    head = entry.head
    owner, time = [_owner(head)], [b"%d" % head.mtime]
    extra = [entry.everywhere]
    form = [head.shape(_told(entry))]
    for one in entry.extensions:
        kind = one.head.type
        form.append(kind + b" " + one.head.shape(("mtime", "uid", "gid", "size", "checksum")))
        owner.append(kind + b":" + _owner(one.head))
        time.append(kind + b":%d" % one.head.mtime)
        if kind != b"x":
            extra.append(kind + b"\n")
        for record in one.records:
            moved = record.key in _MOVED
            extra.append(record.key + b"\n" if moved else record.raw)
            if record.key in _TIMES:
                time.append(record.key + b"=" + _word(record.value))
            elif record.key in _OWNERS:
                owner.append(record.key + b"=" + _word(record.value))
    if entry.maps:
        form.append(b"map " + hashlib.sha256(entry.maps).hexdigest().encode())
    if head.type == b"S" or any(key.startswith(b"GNU.sparse.") for key in entry.records):
        form.append(b"sparse")
    device = b"%d %d" % (head.major, head.minor) if head.major or head.minor else b""
    kind = (
        head.type if head.type > b" " else b"NUL" if head.type == b"\0" else b"0x" + head.type.hex().encode()
    )
    extras = b"".join(extra)
    return (
        kind,
        b"%o" % head.mode,
        b" ".join(owner),
        b" ".join(time),
        entry.link,
        device,
        extras,
        b", ".join(form),
        content,
    )


def _told(entry: Entry) -> Tuple[str, ...]:
    """Returns the fields of the header whose values stand in a column, as no extension says them anew."""
    told = tarheaders.fields(entry.head.dialect)
    if not entry.extensions and not entry.head.prefix:
        return told
    apart: Set[str] = set()
    kinds = {one.head.type for one in entry.extensions}
    if b"L" in kinds or b"path" in entry.records:
        apart |= {"name", "prefix"}
    elif entry.head.prefix:
        apart.add("prefix")  # else nobody knows where the name was split
    if b"K" in kinds or b"linkpath" in entry.records:
        apart.add("link")
    if b"size" in entry.records:
        apart.add("size")
    return tuple(field for field in told if field not in apart)


def _owner(head: Head) -> bytes:
    return b"%d:%d:%s:%s" % (head.uid, head.gid, _word(head.uname), _word(head.gname))


def _word(value: bytes) -> bytes:
    """Returns a value without what separates values: never one text for two values."""
    return _WORD.sub(lambda found: b"%%%02x" % ord(found.group()), value)


def _content(region: Region, entry: Entry) -> bytes:
    if entry.size <= _SMALL:
        return hashlib.sha256(region.read(entry.offset, entry.size)).hexdigest().encode()
    return region.part(entry.offset, entry.size).sha256().hex().encode()


def _place(entry: Entry) -> Place | None:
    """Returns where a file's bytes lie; None for what is no file, and for one stored as pieces (sparse)."""
    if entry.head.type not in (b"0", b"\0", b"7"):
        return None
    if any(key.startswith(b"GNU.sparse.") for key in entry.records):
        return None
    return Place(entry.offset, entry.size, STORED if entry.size else NOTHING, entry.size)


def _zeros(region: Region, at: int) -> int:
    count = 0
    for block in region.blocks(at):
        kept = len(block) - len(block.lstrip(b"\0"))
        count += kept
        if kept < len(block):
            break
    return count


def _checked(entries: Entries, order: bool) -> List[int]:
    """Returns where the entries begin, in the order of their names, if these are to be put in order.

    Raises Unreadable where the tar is strange, or where another order may unpack to something else: a name
    that comes twice, or in two spellings, a hard link, a global header, a name below what is no directory.
    """
    found: List[Tuple[bytes, int]] = []
    others: Set[bytes] = set()
    for count, entry in enumerate(entries, 1):
        check_entries(count, entries.limits)
        if entries.strange:
            break
        if order:
            if entry.head.type in (b"1", b"g"):
                raise Unreadable("is not put in order: it has a hard link or a global header")
            path = _path(entry.name)
            found.append((path, entry.at))
            if entry.head.type != b"5":
                others.add(path)
    if entries.strange:
        raise Unreadable("is not normalised: %s" % entries.strange[0][0])
    zeros = _zeros(entries.region, entries.end)
    if zeros < 2 * BLOCK or entries.end + zeros < entries.region.length:
        raise Unreadable("is not normalised: its end is not two blocks of zeros")
    found.sort()
    last = None
    for path, _ in found:
        if path == last:
            raise Unreadable("is not put in order: it has a name twice")
        last = path
        parts = path.split(b"/")
        if any(b"/".join(parts[:depth]) in others for depth in range(1, len(parts))):
            raise Unreadable("is not put in order: it has a name below what is no directory")
    return [at for _, at in found]


def _path(name: bytes) -> bytes:
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts or name.startswith(b"/"):
        raise Unreadable("is not put in order: it has a name that leads out of it")
    return b"/".join(parts)


def _rewritten(
    region: Region, entry: Entry, normalisers: Collection[str], new: Region | None
) -> Iterator[bytes]:
    values: Dict[bytes, bytes] = {}
    if TIMES in normalisers:
        values.update(dict.fromkeys(_TIMES, b"0"))
    if OWNERS in normalisers:
        values.update({b"uid": b"0", b"gid": b"0", b"uname": b"root", b"gname": b"root"})
    content = region.part(entry.offset, entry.size)
    head = _header(entry.head, normalisers)
    if new is not None:
        if _place(entry) is None:
            raise Unreadable("has an entry to replace that is no plain file")
        content = new
        values[b"size"] = b"%d" % new.length
        if b"size" not in entry.records or entry.head.size:
            head = tarheaders.resized(head, new.length)
    for one in entry.extensions:
        yield from _extension(one, values, normalisers)
    if entry.head.type == b"g":
        data = tarheaders.recorded(tarheaders.records(content.read(0, content.length)), values)
        yield tarheaders.resized(head, len(data)) + data + bytes(-len(data) % BLOCK)
        return
    yield head + entry.maps
    yield from content.blocks()
    yield bytes(-content.length % BLOCK)


def _extension(one: Extension, values: Dict[bytes, bytes], normalisers: Collection[str]) -> Iterator[bytes]:
    data, head = one.data, _header(one.head, normalisers)
    if one.head.type == b"x":
        data = tarheaders.recorded(one.records, values)
        head = head if len(data) == one.head.size else tarheaders.resized(head, len(data))
    yield head + data + bytes(-len(data) % BLOCK)


def _header(head: Head, normalisers: Collection[str]) -> bytes:
    raw = head.raw
    if TIMES in normalisers or PACKAGE_TIMES in normalisers:
        raw = tarheaders.fixed(raw, ("mtime",), {})
    if OWNERS in normalisers:
        names = {} if head.dialect == b"v7" else {"uname": b"root", "gname": b"root"}
        raw = tarheaders.fixed(raw, ("uid", "gid"), names)
    return raw


def _tail(region: Region, end: int, total: int) -> int:
    """Returns how many zeros end the new tar: as many as fill a record where that ended it, else the same."""
    zeros = region.length - end
    if zeros == 2 * BLOCK + -(end + 2 * BLOCK) % _RECORD:
        return 2 * BLOCK + -(total + 2 * BLOCK) % _RECORD
    return zeros

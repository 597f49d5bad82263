"""ISO 9660 images, opened as a table of their files, with the System Use fields of Rock Ridge.

After ECMA-119: the system area, volume descriptors, path tables, directories and files are read, and each
byte of the image belongs to one of them or is told as a rest. The primary descriptor's tree is the table, and
a second tree (Joliet) over the same files is told by a digest, its own files as entries named `joliet:`.
An image is compared, and nothing in it is normalised.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Collection, Dict, Iterator, List, NamedTuple, Tuple

from pipeline.compare.reader.limits import Unreadable, check_entries
from pipeline.compare.reader.listings import STORED, UNKNOWN, Inside, Known, Listing, Place
from pipeline.compare.reader.regions import Region, Spool

KIND = "iso"

#: None: what an image is for is decided by its bytes.
NORMALISERS: Dict[str, str] = {}

COLUMNS = ("kind", "time", "attributes", "place", "content")

_SECTOR = 2048
_SYSTEM_AREA = 16 * _SECTOR
_PRIMARY, _SUPPLEMENTARY, _BOOT, _TERMINATOR = 1, 2, 0, 255
_DIRECTORY, _CONTINUED = 2, 128
_MOST_DESCRIPTORS, _DEEPEST = 64, 64

#: Fields of the primary descriptor (section 8.4): name, offset, length; text but for the last four.
_FIELDS = (
    *(("system", 8, 32), ("volume", 40, 32), ("volume set", 190, 128), ("publisher", 318, 128)),
    *(("preparer", 446, 128), ("application", 574, 128), ("copyright file", 702, 37)),
    *(("abstract file", 739, 37), ("bibliographic file", 776, 37), ("created", 813, 17)),
    *(("modified", 830, 17), ("expires", 847, 17), ("effective", 864, 17)),
)
#: Where a descriptor holds sizes and places: of the volume, of the path tables, of the root folder.
_LAYOUT = ((80, 88), (132, 156), (156, 190))
#: What a record holds beside: no extended attributes, no interleaving, the first volume.
_ORDINARY = bytes(3) + b"\1\0\0\1"


class _Entry(NamedTuple):
    """A directory record (section 9.1): where it leads, and the record but for that."""

    name: bytes
    begin: int
    length: int
    flags: int
    time: bytes
    system_use: bytes


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are an ISO 9660 image."""
    return region.length >= _SYSTEM_AREA + _SECTOR and region.read(_SYSTEM_AREA, 6) == b"\x01CD001"


def read(region: Region, spool: Spool) -> Listing:
    """Returns files and folders, a folder before what it holds. Raises Unreadable."""
    return _Image(region, spool).listing()


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Raises Unreadable: an image is not written anew."""
    raise Unreadable("is an ISO image, of which nothing is normalised")


class _Image:
    def __init__(self, region: Region, spool: Spool) -> None:
        self._region, self._limits = region, spool.limits
        self._listing = Listing(KIND, COLUMNS, spool)
        self._taken: List[Tuple[int, int]] = [(0, _SYSTEM_AREA)]
        self._files: Dict[Tuple[int, int], bool] = {}
        self._count = 0
        self._digest = hashlib.sha256()

    def listing(self) -> Listing:
        listing = self._listing
        listing.field("system area", self._region.part(0, _SYSTEM_AREA).sha256().hex())
        descriptors = self._descriptors()
        for number, block in enumerate(descriptors):
            self._facts(number, block)
        trees = [block for block in descriptors if block[0] in (_PRIMARY, _SUPPLEMENTARY)]
        for block in trees:
            first = block[0] == _PRIMARY
            self._digest = hashlib.sha256()
            for begin, end in _LAYOUT:
                self._digest.update(block[begin:end])
            for path, entry in self._walk(_record(block[156:190])):
                self._tell(path, entry, first)
            what = "layout" if first else "second tree"
            listing.field(what, self._digest.hexdigest())
        self._path_tables(trees)
        self._rest()
        return listing.finish()

    def _descriptors(self) -> List[bytes]:
        """Returns the volume descriptors in their order."""
        found: List[bytes] = []
        for number in range(_MOST_DESCRIPTORS):
            at = _SYSTEM_AREA + number * _SECTOR
            block = self._region.read(at, _SECTOR)
            if block[1:6] != b"CD001":
                raise Unreadable("has a damaged volume descriptor at byte %d" % at)
            found.append(block)
            self._taken.append((at, at + _SECTOR))
            if block[0] == _TERMINATOR:
                return found
        raise Unreadable("has more than %d volume descriptors" % _MOST_DESCRIPTORS)

    def _facts(self, number: int, block: bytes) -> None:
        if block[0] != _PRIMARY:
            what = {_SUPPLEMENTARY: "second descriptor", _BOOT: "boot record", _TERMINATOR: "terminator"}
            name = what.get(block[0], "descriptor %d" % number)
            self._listing.field(name, hashlib.sha256(block).hexdigest())
            return
        rest = bytearray(block)
        for name, offset, length in _FIELDS:
            value = block[offset : offset + length]
            self._listing.field(name, value.rstrip(b" \0").decode("ascii", "backslashreplace"))
            rest[offset : offset + length] = bytes(length)
        for begin, end in _LAYOUT:
            rest[begin:end] = bytes(end - begin)
        self._listing.field("primary descriptor", hashlib.sha256(bytes(rest)).hexdigest())
        self._listing.field("sectors", "%d" % struct.unpack_from("<I", block, 80)[0])

    def _walk(self, root: _Entry) -> Iterator[Tuple[bytes, _Entry]]:
        """Yields path and record of everything below a root, each folder once."""
        left: List[Tuple[bytes, _Entry, int]] = [(b"", root, 0)]
        seen = set()
        while left:
            above, folder, depth = left.pop()
            if folder.begin in seen or depth > _DEEPEST:
                raise Unreadable("has a folder that holds itself, or too many in each other")
            seen.add(folder.begin)
            below: List[Tuple[bytes, _Entry, int]] = []
            for entry in self._records(folder):
                path = above + entry.name
                yield path, entry
                if entry.flags & _DIRECTORY:
                    below.append((path + b"/", entry, depth + 1))
            left += reversed(below)

    def _records(self, folder: _Entry) -> Iterator[_Entry]:
        """Yields the records of a folder but for itself and the one above, which are told by digest."""
        self._taken.append((folder.begin, folder.begin + folder.length))
        part = self._region.part(folder.begin, folder.length)
        at, number = 0, 0
        while at < part.length:
            length = part.read(at, 1)[0]
            if not length:  # no record crosses a sector's end
                behind = min(part.length, (at // _SECTOR + 1) * _SECTOR)
                if part.read(at, behind - at).strip(b"\0"):
                    self._listing.odd("bytes behind a folder's records")
                at = behind
                continue
            data = part.read(at, length)
            entry = _record(data)
            if number < 2:
                self._digest.update(data)
            else:
                yield entry
            number += 1
            at += length

    def _tell(self, path: bytes, entry: _Entry, first: bool) -> None:
        """Adds an entry to the table: of the second tree only a file that the first does not have."""
        self._count += 1
        check_entries(self._count, self._limits)
        place = b"%d bytes at %d" % (entry.length, entry.begin)
        self._digest.update(b"%d:" % len(path) + path + place)
        key = (entry.begin, entry.length)
        folder = bool(entry.flags & _DIRECTORY)
        if not folder:
            self._region.part(*key)
            self._taken.append((entry.begin, entry.begin + entry.length))
        if not first:
            self._digest.update(b"%d" % entry.flags + entry.time + entry.system_use)
            if folder or key in self._files:
                return
            path = b"joliet:" + path
        self._files[key] = True
        part = self._region.part(entry.begin, 0 if folder else entry.length)
        attributes = entry.system_use + self._continued(entry.system_use)
        values = (
            b"folder" if folder else b"file %02x" % entry.flags if entry.flags else b"file",
            _time(entry.time),
            _attributes(attributes),
            place,
            part.sha256().hex().encode(),
        )
        where = None if folder else Place(entry.begin, part.length, STORED, part.length)
        self._listing.add(path, values, where)

    def _continued(self, system_use: bytes) -> bytes:
        """Returns System Use fields that stand elsewhere (SUSP's CE), of one step: makers write no more."""
        at = 0
        while at + 4 <= len(system_use):
            length = system_use[at + 2]
            if length < 4:
                break
            if system_use[at : at + 2] == b"CE" and length >= 28:
                block, offset, size = (
                    int.from_bytes(system_use[at + begin : at + begin + 4], "little") for begin in (4, 12, 20)
                )
                begin = block * _SECTOR + offset
                self._taken.append((begin, begin + size))
                if size <= _SECTOR:
                    return self._region.read(begin, size)
            at += length
        return b""

    def _path_tables(self, trees: List[bytes]) -> None:
        """Tells the path tables of all trees by one digest."""
        digest = hashlib.sha256()
        for block in trees:
            (size,) = struct.unpack_from("<I", block, 132)
            for form, offset in (("<I", 140), ("<I", 144), (">I", 148), (">I", 152)):
                (sector,) = struct.unpack_from(form, block, offset)
                if sector:
                    part = self._region.part(sector * _SECTOR, size)
                    digest.update(part.sha256())
                    self._taken.append((sector * _SECTOR, sector * _SECTOR + size))
        self._listing.field("path tables", digest.hexdigest())

    def _rest(self) -> None:
        """Tells what belongs to nothing: nothing but zeroes as a rule."""
        digest, count, at = hashlib.sha256(), 0, 0
        for begin, end in [*sorted(self._taken), (self._region.length, self._region.length)]:
            if begin > at:
                for block in self._region.part(at, begin - at).blocks():
                    if block.strip(b"\0"):
                        count += len(block)
                        digest.update(b"%d:" % at + block)
                    at += len(block)
            at = max(at, end)
        self._listing.field("between files", "%d bytes, sha256 %s" % (count, digest.hexdigest()))


def _record(data: bytes) -> _Entry:
    """Reads a directory record. Raises Unreadable."""
    if len(data) < 34 or len(data) < 33 + data[32]:
        raise Unreadable("has a damaged folder record")
    name = data[33 : 33 + data[32]]
    behind = 33 + data[32] + (1 - data[32] % 2)
    sector, length = (struct.unpack_from("<I", data, offset)[0] for offset in (2, 10))
    if data[2:6] != data[9:5:-1] or data[10:14] != data[17:13:-1]:
        raise Unreadable("has a folder record whose numbers contradict each other")
    beside = data[1:2] + data[26:32]
    rest = (
        (b"" if beside == _ORDINARY else beside) + data[33 + data[32] : behind].strip(b"\0") + data[behind:]
    )
    return _Entry(_shown(name), sector * _SECTOR, length, data[25], data[18:25], rest)


def _shown(name: bytes) -> bytes:
    """Returns a name without what could be taken for a way to another folder."""
    return b".." if name == b"\1" else b"." if name == b"\0" else name.replace(b"/", b"\\x2f") or b"?"


def _attributes(data: bytes) -> bytes:
    """Returns System Use fields as they are shown: short ones in hexadecimal."""
    return data.hex().encode() if len(data) < 200 else hashlib.sha256(data).hexdigest().encode()


def _time(time: bytes) -> bytes:
    """Returns a record's time (section 9.1.5) as it is read: local, with the quarter hours from UTC."""
    year, month, day, hour, minute, second = time[:6]
    (zone,) = struct.unpack("b", time[6:])
    return b"%04d-%02d-%02d %02d:%02d:%02d %+d" % (1900 + year, month, day, hour, minute, second, zone)

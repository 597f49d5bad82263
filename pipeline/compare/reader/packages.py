"""What of a Debian package's control part follows from its files: `md5sums`, and `Installed-Size`.

Both are written anew only where that side's own files show that they were right before: a sum that was wrong
is a difference that stays.
"""

from __future__ import annotations

import hashlib
import re
from typing import Callable, Dict, List, NamedTuple, Tuple

from pipeline.compare.reader.archives import CONTROL, DATA
from pipeline.compare.reader.contents import content
from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import Inside, Key, Listing
from pipeline.compare.reader.regions import Region, Spool

MD5SUMS, INSTALLED_SIZE = "deb-md5sums", "deb-installed-size"

#: These are for the tar that holds a package's control part.
NORMALISERS: Dict[str, str] = {
    MD5SUMS: "md5sums, made anew from the package's files; only where they were right before",
    INSTALLED_SIZE: "Installed-Size, counted anew from the package's files; only where it was right before",
}

#: Kinds of container that hold one thing; a package's tars may lie in one.
STREAMS = ("gzip", "xz", "zstd")
_LINE = re.compile(rb"([0-9a-f]{32})  ([^\n]+)\n")
_SIZE = re.compile(rb"^(Installed-Size: )(\d{1,15})$", re.M)
_MOST = 16 << 20

Path = List[object]


class Tar(NamedTuple):
    """One of a package's two tars."""

    path: Path
    region: Region
    listing: Listing


#: Returns the bytes and the table of what lies at a path.
Look = Callable[[Path], Tuple[Region, Listing]]


def part_of(path: Path, look: Look) -> Tuple[str, Path] | None:
    """Returns which part of a package the tar at `path` is, "control" or "data", and the package's path."""
    at = list(path)
    while len(at) > 1 and look(at[:-1])[1].kind in STREAMS:
        at = at[:-1]
    if len(at) < 2 or look(at[:-1])[1].kind != "deb":
        return None
    name = str(at[-1][0]).encode("utf-8", "surrogateescape")  # type: ignore[index]
    return ("control" if CONTROL.fullmatch(name) else "data"), at[:-1]


class Package:
    """One package: its tars, and what its files show. Raises Unreadable where it has no such tars."""

    def __init__(self, path: Path, look: Look, spool: Spool) -> None:
        self._spool = spool
        listing = look(path)[1]
        tars = []
        for pattern in (CONTROL, DATA):
            names = [row.name for row in listing.rows() if pattern.fullmatch(row.name)]
            if len(names) != 1:
                raise Unreadable("is a package that has not one control and one data member")
            at: Path = [*path, [names[0].decode(), 0]]
            while look(at)[1].kind in STREAMS:
                at = [*at, ["data", 0]]
            tars.append(Tar(at, *look(at)))
            if tars[-1].listing.kind != "tar":
                raise Unreadable("is a package whose parts are no tars")
        self.control, self.data = tars
        self._sums: List[Tuple[bytes, bytes, Key]] | None = None

    def conffiles(self) -> List[bytes]:
        """Returns the names, with no slash in front, of files that an administrator may change."""
        text = self._member(b"conffiles")
        return (
            [line.split()[-1].lstrip(b"/") for line in text[1].splitlines() if line.split()] if text else []
        )

    def followed(self, chosen: List[str], settled: Callable[[Key], Region | None]) -> Inside:
        """Returns the control part's members that follow, for data whose entries `settled` replaces.

        Raises Unreadable where what is chosen is not there, or was not right.
        """
        found: Inside = {}
        if MD5SUMS in chosen:
            key, lines = self._summed()
            text = []
            for digest, name, entry in lines:
                new = settled(entry)
                text.append((digest if new is None else _md5(new)) + b"  " + name + b"\n")
            found[key] = self._spool.keep([b"".join(text)])
        if INSTALLED_SIZE in chosen:
            key, before, text_of = self._sized()
            size = before + self._growth(settled)
            found[key] = self._spool.keep([_SIZE.sub(lambda match: match.group(1) + b"%d" % size, text_of)])
        return found

    def _member(self, name: bytes) -> Tuple[Key, bytes] | None:
        keys = {(b"./" + name, 0), (name, 0)}
        rows = self.control.listing.find(keys)
        if not rows:
            return None
        if len(rows) > 1 or self.control.listing.duplicates:
            raise Unreadable("is a package with two members of one name in its control part")
        ((key, row),) = rows.items()
        if row.place is None or row.place.size > _MOST:
            raise Unreadable("is a package whose %s is no plain file" % name.decode())
        part = content(self.control.region, row.place, self._spool)
        return key, part.read(0, part.length)

    def _summed(self) -> Tuple[Key, List[Tuple[bytes, bytes, Key]]]:
        """Returns where md5sums is, and its lines: sum, name, entry; each of them was looked at."""
        found = self._member(b"md5sums")
        if found is None:
            raise Unreadable("is a package without md5sums")
        key, text = found
        if self._sums is None:
            lines = _LINE.findall(text)
            if b"".join(b"%s  %s\n" % line for line in lines) != text:
                raise Unreadable("is a package whose md5sums has a line that is none")
            wanted = {name: digest for digest, name in lines}
            entries: Dict[bytes, Key] = {}
            links: Dict[bytes, bytes] = {}
            kind, link = (self.data.listing.columns.index(column) for column in ("type", "link"))
            if len(wanted) != len(lines) or self.data.listing.duplicates:
                raise Unreadable("is a package that has a name twice")
            for row in self.data.listing.rows():
                name = _bare(row.name)
                if name in wanted and row.place is not None:
                    if name in entries or _md5(self._content(row.place)) != wanted[name]:
                        raise Unreadable("is a package whose md5sums are not those of its files")
                    entries[name] = (row.name, 0)
                elif name in wanted and row.values[kind] == b"1":
                    links[name] = _bare(row.values[link])
            for name, target in links.items():
                if target in entries and wanted[target] == wanted[name]:
                    entries[name] = entries[target]
            if len(entries) != len(lines):
                raise Unreadable("is a package whose md5sums names a file that it does not have")
            self._sums = [(digest, name, entries[name]) for digest, name in lines]
        return key, self._sums

    def _content(self, place: object) -> Region:
        return content(self.data.region, place, self._spool)  # type: ignore[arg-type]

    def _sized(self) -> Tuple[Key, int, bytes]:
        """Returns where control is, the Installed-Size in it, and its text. Counted as dpkg-gencontrol does:
        files and links in whole KiB, a second name of a file not at all, anything else 1; the folder of the
        control part as well, with what lay in it then.
        """
        found = self._member(b"control")
        sizes = _SIZE.findall(found[1]) if found else []
        if found is None or len(sizes) != 1:
            raise Unreadable("is a package that does not state one Installed-Size")
        total = 1
        for row in self.control.listing.rows():
            if row.place is not None and _bare(row.name) not in (b"control", b"md5sums"):
                total += _kib(row.place.size)
        kind, link = (self.data.listing.columns.index(column) for column in ("type", "link"))
        for row in self.data.listing.rows():
            if row.place is not None:
                total += _kib(row.place.size)
            elif row.values[kind] == b"2":
                total += _kib(len(row.values[link]))
            elif row.values[kind] != b"1":
                total += 1
        if total != int(sizes[0][1]):
            raise Unreadable("is a package whose Installed-Size is not that of its files")
        return found[0], total, found[1]

    def _growth(self, settled: Callable[[Key], Region | None]) -> int:
        grown = 0
        for row in self.data.listing.rows():
            new = settled((row.name, 0)) if row.place is not None else None
            if new is not None and row.place is not None:
                grown += _kib(new.length) - _kib(row.place.size)
        return grown


def _bare(name: bytes) -> bytes:
    return name[2:] if name.startswith(b"./") else name


def _kib(size: int) -> int:
    return -(-size // 1024)


def _md5(region: Region) -> bytes:
    digest = hashlib.md5()
    for block in region.blocks():
        digest.update(block)
    return digest.hexdigest().encode()

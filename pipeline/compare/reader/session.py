"""What a reader is asked, one question after the other, and what it remembers between them.

A path is a list: the name of a file, then for each container on the way the entry's name and which of those
with this name it is (0: the first). Names travel as text, in which a byte that is no UTF-8 is a surrogate.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from pipeline.compare.reader import formats, windows
from pipeline.compare.reader.contents import content
from pipeline.compare.reader.files import OpenFile, find
from pipeline.compare.reader.limits import Limits, Unreadable
from pipeline.compare.reader.listings import Listing, Row
from pipeline.compare.reader.machine import facts
from pipeline.compare.reader.normalised import Normalised
from pipeline.compare.reader.regions import Region, Spool

PROTOCOL = 1
_FEW = 48
#: So many leaves that were opened are remembered: their bytes lie in the spool, or in their container.
_LEAVES = 4096

Answer = Dict[str, Any]
Step = Tuple[bytes, int]


class Opened:
    """A file or entry that was looked into: its bytes, and its table where it is a container."""

    def __init__(self, region: Region, name: bytes, spool: Spool) -> None:
        self.region = region
        self.format = formats.recognise(region, name)
        self.listing: Listing | None = self.format.read(region, spool) if self.format else None


class Session:
    """One comparison's reading of one side."""

    def __init__(self, limits: Limits | None = None, folder: str | None = None) -> None:
        self.limits = limits or Limits()
        self.spool = Spool(self.limits, folder)
        self.files: Dict[bytes, OpenFile] = {}
        self._opened: Dict[Tuple[Any, ...], Opened] = {}
        self._leaves: Dict[Tuple[Any, ...], Opened] = {}
        self._found: Dict[Tuple[Any, ...], Row] = {}
        self._normalised = Normalised(self._at, self.spool)

    def answer(self, question: Answer) -> Answer:
        """Answers one question. What cannot be read is an answer, `{"unreadable": why}`, not an error."""
        operations: Dict[str, Callable[[Answer], Answer]] = {
            "hello": self._hello,
            "files": self._files,
            "open": self._open,
            "sums": self._sums,
            "rows": self._rows,
            "again": self._again,
            "text": self._text,
            "pieces": lambda asked: windows.pieces(asked, self._at),
            "windows": lambda asked: windows.windows(asked, self._at),
            "part": lambda asked: windows.part(asked, self._at),
            "normalise": self._normalised.answer,
            "follows": self._normalised.follows,
            "piece": self._normalised.piece,
        }
        try:
            return operations[question["ask"]](question)
        except Unreadable as exc:
            return {"unreadable": exc.reason}

    def _hello(self, question: Answer) -> Answer:
        python = "%d.%d.%d" % sys.version_info[:3]
        file = Path(question["root"]).is_file()
        return {"protocol": PROTOCOL, "python": python, "file": file, **facts()}

    def _files(self, question: Answer) -> Answer:
        told = []
        long = 0
        for found in find(os.fsencode(question["root"]), self.limits, os.fsencode(question.get("name", ""))):
            path = os.fsdecode(found.path)
            long += 6 * len(path) + 256  # at the most, as JSON
            if long > self.limits.told:
                raise Unreadable("there are more files than can be told of")
            if found.problem is not None:
                told.append({"path": path, "problem": found.problem})
                continue
            file = self.files[found.path] = OpenFile(found.descriptor)
            one: Answer = {"path": path, "size": file.status.st_size}
            one["inode"] = "%d:%d" % (file.status.st_dev, file.status.st_ino)
            one["stamp"] = "%d:%d" % (file.status.st_ino, file.status.st_ctime_ns)
            try:
                one["sha256"] = file.sha256().hex()
                one["problem"] = _unsound(file.region, found.path)
            except (Unreadable, OSError) as exc:
                one["problem"] = exc.reason if isinstance(exc, Unreadable) else str(exc.strerror)
            told.append(one)
        return {"files": told}

    def _open(self, question: Answer) -> Answer:
        told: List[Answer] = []
        self._find_together(question["paths"])
        for path in question["paths"]:
            try:
                told.append(self._told(path))
            except Unreadable as exc:
                told.append({"unreadable": exc.reason})
        return {"opened": told}

    def _told(self, path: List[Any]) -> Answer:
        opened = self._at(path)
        one: Answer = {"size": opened.region.length, "sha256": opened.region.sha256().hex()}
        listing = opened.listing
        if listing is not None:
            one.update(kind=listing.kind, columns=list(listing.columns), count=listing.count)
            one.update(fields=listing.fields, strange=listing.strange, duplicates=listing.duplicates)
            one["digests"] = listing.digests()
            if listing.count <= _FEW:
                one["rows"] = [_row(*each) for each in listing.within([0], 0)]
        return one

    def _sums(self, question: Answer) -> Answer:
        return {"sums": self._listing(question).sums(question["columns"], question["bits"])}

    def _rows(self, question: Answer) -> Answer:
        rows: List[Any] = []
        most, begin = question["most"], question.get("begin", 0)
        for each in self._listing(question).within(question["buckets"], question["bits"]):
            if len(rows) == most:
                return {"rows": rows, "cut": True}
            if each[0] >= begin:
                rows.append(_row(*each))
        return {"rows": rows, "cut": False}

    def _again(self, question: Answer) -> Answer:
        told: Answer = {}
        for name in question["files"]:
            try:
                told[name] = self.files[os.fsencode(name)].sha256().hex()
            except (Unreadable, OSError, KeyError):
                told[name] = None
        return {"digests": told}

    def _text(self, question: Answer) -> Answer:
        """Returns one small file whole, in which a byte that is no UTF-8 is a surrogate."""
        file = self.files.get(os.fsencode(question["file"]))
        if file is None:
            raise Unreadable("is not there")
        if file.region.length > question["most"]:
            raise Unreadable("is larger than %d bytes" % question["most"])
        return {"text": file.region.read(0, file.region.length).decode("utf-8", "surrogateescape")}

    def _listing(self, question: Answer) -> Listing:
        listing = self._at(question["path"]).listing
        if listing is None:
            raise Unreadable("is no container")
        return listing

    def _at(self, path: List[Any]) -> Opened:
        if len(path) > self.limits.depth:
            raise Unreadable("lies deeper than %d containers" % self.limits.depth)
        key = _key(path)
        known = self._opened.get(key) or self._leaves.get(key)
        if known is None:
            known = self._opened_at(path, key)
            known.region.release()
            if known.listing is None:  # leaves may be many
                if len(self._leaves) >= _LEAVES:
                    self._leaves.clear()
                self._leaves[key] = known
            else:
                self._opened[key] = known
        return known

    def _opened_at(self, path: List[Any], key: Tuple[Any, ...]) -> Opened:
        name = os.fsencode(path[0])
        if len(path) == 1:
            if name not in self.files:
                raise Unreadable("is not there")
            return Opened(self.files[name].region, name, self.spool)
        parent = self._at(path[:-1])
        step = _step(path)
        row = self._found.pop(key, None)
        if row is None and parent.listing is not None:
            row = parent.listing.find({step}).get(step)
        if row is None:
            raise Unreadable("is not there")
        if parent.listing is not None and parent.listing.unpacked is not None:
            return Opened(parent.listing.unpacked, step[0], self.spool)
        if row.place is None:
            return Opened(parent.region.part(0, 0), step[0], self.spool)
        return Opened(content(parent.region, row.place, self.spool), step[0], self.spool)

    def _find_together(self, paths: List[List[Any]]) -> None:
        """Looks up the entries of one container in one pass, where several of them are asked for."""
        asked: Dict[Tuple[Any, ...], List[List[Any]]] = {}
        for path in paths:
            if len(path) > 1:
                asked.setdefault(_key(path[:-1]), []).append(path)
        for group in asked.values():
            try:
                listing = self._at(group[0][:-1]).listing
            except Unreadable:
                continue  # each of them says so itself
            if listing is not None and len(group) > 1:
                found = listing.find({_step(path) for path in group})
                for path in group:
                    if _step(path) in found:
                        self._found[_key(path)] = found[_step(path)]


def _key(path: List[Any]) -> Tuple[Any, ...]:
    return tuple(each if isinstance(each, str) else tuple(each) for each in path)


def _step(path: List[Any]) -> Step:
    return os.fsencode(path[-1][0]), path[-1][1]


def _row(index: int, occurrence: int, row: Row) -> List[Any]:
    values = [value.decode("utf-8", "surrogateescape") for value in row.values]
    return [index, os.fsdecode(row.name), occurrence, values, row.place is not None]


def _unsound(region: Region, name: bytes) -> str | None:
    """Says why a file cannot be an artifact, from its outermost structure alone: empty, or cut off."""
    if region.length == 0:
        return "is empty"
    sound = formats.unsound(region, name)
    return None if sound is None else "is damaged: it " + sound

"""Answers what containers are after normalisers: their SHA-256, and nothing that would have to be believed.

The innermost come first. One that is settled is kept, and takes the place of what it was made from when the
container around it is written. What must never be touched is refused here, whatever is asked.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

from pipeline.compare.reader import packages
from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import Inside, Known, Listing
from pipeline.compare.reader.packages import Package, Path
from pipeline.compare.reader.regions import Region, Spool

Answer = Dict[str, Any]
Place = Tuple[Any, ...]
#: Folders of a jar whose files are read by name when it runs.
_SERVICES = b"META-INF/services/"
#: So many bytes of what was settled travel in one answer.
_PIECE = 2 << 20


class Normalised:
    """One session's containers as normalisers leave them. `at` returns what lies at a path."""

    def __init__(self, at: Callable[[List[Any]], Any], spool: Spool) -> None:
        self._at, self._spool = at, spool
        self._settled: Dict[Place, Region] = {}
        self._packages: Dict[Place, Package] = {}

    def answer(self, question: Answer) -> Answer:
        """Writes containers, one an item: at `path`, after the normalisers of `use`, with what is settled of
        the entries `inside`; and settles it if it is to be kept.
        """
        values = {kind: os.fsencode(value) for kind, value in question["values"].items()}
        told: List[Answer] = []
        for item in question["items"]:
            try:
                told.append(self._one(item, values))
            except Unreadable as exc:
                told.append({"unreadable": exc.reason})
        return {"normalised": told}

    def follows(self, question: Answer) -> Answer:
        """Says of packages what follows from their files, and is right: by the normalisers' names."""
        told: List[Any] = []
        for path in question["paths"]:
            right = []
            for name in packages.NORMALISERS:
                try:
                    self._package(path).followed([name], lambda key: None)
                    right.append(name)
                except Unreadable:
                    continue
            told.append(right)
        return {"follows": told}

    def piece(self, question: Answer) -> Answer:
        """Returns bytes of a container that was settled and kept, from one on, as many as travel at once."""
        region = self._settled.get(_place(question["path"]))
        if region is None:
            raise Unreadable("is not settled")
        begin = question["begin"]
        data = region.read(begin, min(_PIECE, max(0, region.length - begin)))
        region.release()
        return {"bytes": base64.b64encode(data).decode("ascii")}

    def _one(self, item: Answer, values: Dict[str, bytes]) -> Answer:
        path, use = item["path"], list(item["use"])
        opened = self._at(path)
        listing, module = opened.listing, opened.format
        if listing is None:
            raise Unreadable("is no container")
        inside: Inside = {}
        for name, occurrence in item["inside"]:
            step = (os.fsencode(name), occurrence)
            region = self._settled.get((*_place(path), step))
            if region is None:
                raise Unreadable("has an entry that is not settled")
            inside[step] = region
        if listing.kind == "zip" and any(name.startswith(_SERVICES) for name, _ in inside):
            raise Unreadable("has something to replace that is read by its name when it runs")
        if listing.kind == "tar":
            inside, use = self._tar(path, use, inside)
        foreign = [name for name in use if name not in module.NORMALISERS]
        if foreign:
            raise Unreadable("is not normalised by %s" % foreign[0])
        known = Known(listing, values)
        digest = hashlib.sha256()
        blocks = _hashed(module.rewrite(opened.region, use, inside, self._spool, known), digest)
        if item["keep"]:
            region = self._settled[_place(path)] = self._spool.keep(blocks)
            size = region.length
            region.release()
        else:
            size = sum(len(block) for block in blocks)
        return {"sha256": digest.hexdigest(), "size": size}

    def _tar(self, path: Path, use: List[str], inside: Inside) -> Tuple[Inside, List[str]]:
        """Holds a tar to what may be done to it: the two of a package install what they say."""
        part = packages.part_of(path, self._look)
        follow = [name for name in use if name in packages.NORMALISERS]
        use = [name for name in use if name not in packages.NORMALISERS]
        if part is None:
            if follow or "deb-times" in use:
                raise Unreadable("is no tar of a package")
            return inside, use
        if set(use) - {"deb-times"}:
            raise Unreadable("is a package's: of its tars the times alone are no payload")
        package = self._package(part[1])
        if part[0] == "control":
            if inside:
                raise Unreadable("is a package's control part, in which nothing else is normalised")
            here = _place(package.data.path)
            return package.followed(follow, lambda key: self._settled.get((*here, key))), use
        if follow:
            raise Unreadable("is no control part of a package")
        names = {name[2:] if name.startswith(b"./") else name.lstrip(b"/") for name, _ in inside}
        if names.intersection(package.conffiles()):
            raise Unreadable("has something to replace that is a conffile")
        return inside, use

    def _package(self, path: Path) -> Package:
        place = _place(path)
        if place not in self._packages:
            self._packages[place] = Package(path, self._look, self._spool)
        return self._packages[place]

    def _look(self, path: Path) -> Tuple[Region, Listing]:
        opened = self._at(path)
        if opened.listing is None:
            raise Unreadable("is no container")
        return opened.region, opened.listing


def _hashed(blocks: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    for block in blocks:
        digest.update(block)
        yield block


def _place(path: List[Any]) -> Place:
    return tuple(
        os.fsencode(each) if isinstance(each, str) else (os.fsencode(each[0]), each[1]) for each in path
    )

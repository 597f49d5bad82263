"""The formats that are opened, and which of them a file is. Each is a module with the same few functions.

    KIND                       its name, as it travels and is shown
    matches(region, name)      says whether these bytes are one; looks at the bytes first, at the name second
    read(region, spool)        returns the container's `Listing`; raises Unreadable
    NORMALISERS                name -> what it sets to one value, in words for a person
    rewrite(region, normalisers, inside, spool, known)
                               yields the container's bytes after those of `normalisers` that are its own,
                               with the content of the entries `inside` (`listings.Inside`) replaced; raises
                               Unreadable where the container is strange, or a normaliser is not for it.
                               `known` (`listings.Known`) saves reading the container a second time

`rewrite` writes to the spool before it returns, never while its bytes are taken: they may go into the same.

A normaliser is pure: its output depends on the container's bytes alone (of a `value-…` one also on what was
recorded of that side), and a container that it was used on stays the same when it is used again. What it
must not touch is said where it is defined.
"""

from __future__ import annotations

from types import ModuleType

from pipeline.compare.reader import (
    archives,
    classes,
    elfs,
    gzips,
    isos,
    manifests,
    properties,
    tars,
    xzs,
    zips,
    zstds,
)
from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.regions import Region

#: The first that matches wins.
FORMATS: tuple[ModuleType, ...] = (
    *(archives, zips, gzips, xzs, zstds, classes, elfs, isos, tars),
    *(properties, manifests),
)


#: What a file's name promises.
SUFFIXES: tuple[tuple[tuple[bytes, ...], ModuleType], ...] = (
    ((b".deb",), archives),
    (zips.SUFFIXES, zips),
)


def recognise(region: Region, name: bytes) -> ModuleType | None:
    """Returns the format of some bytes, or None: then they are one leaf."""
    if region.length:
        for module in FORMATS:
            if module.matches(region, name):
                return module
    return None


def unsound(region: Region, name: bytes) -> str | None:
    """Says what is wrong with a file whose name promises a format, from its outermost structure alone.

    Cheap: no content is unpacked or hashed. None where nothing is, or where the name promises nothing.
    """
    for suffixes, module in SUFFIXES:
        if name.endswith(suffixes):
            if not module.matches(region, name):
                return "is no %s" % module.KIND
            try:
                module.outline(region)
            except Unreadable as exc:
                return exc.reason
    return None

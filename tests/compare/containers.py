"""What the tests of the reader share: bytes as an open file, and what a listing says as plain values."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest

from pipeline.compare.reader.contents import content
from pipeline.compare.reader.limits import Limits, Unreadable
from pipeline.compare.reader.listings import Listing
from pipeline.compare.reader.regions import Region, Spool

SMALL = Limits(entries=1000, expanded=64 << 20)


class Bytes:
    """Regions and a spool over nameless files, which are gone with this object."""

    def __init__(self, limits: Limits = SMALL) -> None:
        self.spool = Spool(limits)
        self._files: list[Any] = []

    def region(self, data: bytes) -> Region:
        file = tempfile.TemporaryFile()  # noqa: SIM115
        self._files.append(file)
        file.write(data)
        file.flush()
        return Region(file.fileno(), 0, len(data))

    def __enter__(self) -> Bytes:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (*self._files, self.spool._file):
            file.close()


def said(module: ModuleType, data: bytes, limits: Limits = SMALL) -> Any:
    """Returns all that a listing says of these bytes, or the word for bytes that are no such container."""
    with Bytes(limits) as held:
        region = held.region(data)
        if not module.matches(region, b""):
            return "a leaf", data
        found = module.read(region, held.spool)
        rows = [(row.name, row.values) for row in found.rows()]
        return found.kind, found.fields, found.digests(), rows


def listing(module: ModuleType, data: bytes, limits: Limits = SMALL) -> Listing:
    """Reads a container. Its rows are gone with the spool."""
    with Bytes(limits) as held:
        found: Listing = module.read(held.region(data), held.spool)
        return found


def rows(module: ModuleType, data: bytes) -> list[dict[str, str]]:
    """Returns the entries: each column's value, and the "name"."""
    with Bytes() as held:
        found = module.read(held.region(data), held.spool)
        return [
            {
                "name": row.name.decode(),
                **{key: value.decode() for key, value in zip(found.columns, row.values, strict=True)},
            }
            for row in found.rows()
        ]


def opened(module: ModuleType, data: bytes) -> list[tuple[bytes, bytes]]:
    """Returns names and contents of the entries that have a place."""
    pairs = []
    with Bytes() as held:
        region = held.region(data)
        for row in module.read(region, held.spool).rows():
            if row.place is not None:
                part = content(region, row.place, held.spool)
                pairs.append((row.name, part.read(0, part.length)))
    return pairs


def rewritten(
    module: ModuleType,
    data: bytes,
    *normalisers: str,
    inside: Mapping[tuple[bytes, int], bytes] | None = None,
) -> bytes:
    """Returns a container's bytes after normalisers, kept in the spool that unpacked it."""
    with Bytes() as held:
        new = {key: held.region(value) for key, value in (inside or {}).items()}
        kept = held.spool.keep(module.rewrite(held.region(data), normalisers, new, held.spool))
        return kept.read(0, kept.length)


def refused(module: ModuleType, data: bytes, limits: Limits = SMALL) -> str:
    """Returns why a container is not read; fails where it is."""
    with pytest.raises(Unreadable) as caught:
        said(module, data, limits)
    return caught.value.reason


def each_flip_shows(
    module: ModuleType, data: bytes, mend: Callable[[bytes, int], bytes] = lambda data, at: data
) -> int:
    """Returns how many bytes there are, each of which alters what is said, or is refused, when it changes.

    `mend` makes right what only guards the byte changed at a place, so that not the guard alone is tried.
    """
    before = said(module, data)
    shown = 0
    for at in range(len(data)):
        for mask in (0x01, 0xA0):
            changed = mend(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :], at)
            try:
                after = said(module, changed)
            except Unreadable:
                continue
            assert after != before or changed == data, f"byte {at} changed by {mask:#x} is not seen"
        shown += 1
    return shown


def tar(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    """Returns a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for one in members:
            info, data = one if isinstance(one, tuple) else (one, b"")
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, **values: Any) -> tarfile.TarInfo:
    """Returns an entry of a tar, 0644 and of the time 1700000000 unless told."""
    info = tarfile.TarInfo(name)
    info.mtime = 1700000000
    for key, value in values.items():
        setattr(info, key, value)
    return info


def ar(*members: tuple[bytes, bytes], time: int = 1700000000) -> bytes:
    """Returns an ar archive."""
    parts = [b"!<arch>\n"]
    for name, data in members:
        parts.append(b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name, time, 0, 0, b"100644", len(data)))
        parts.append(data + b"\n" * (len(data) % 2))
    return b"".join(parts)


def program(*command: str, data: bytes) -> str:
    """Runs a program on these bytes, its input and the file `{}` of its command; returns what it prints."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        done = subprocess.run(
            [file.name if word == "{}" else word for word in command],
            input=data,
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

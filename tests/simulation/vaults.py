"""Policies, sealed reports and promoted sets on virtual disks.

`operations.trust`, `policy`, `attest`, `secret`, `promote` and `promoted` run as they are. Stand-ins are what
they do to a real disk: locks between processes, copying and hashing files, walking a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from pipeline.builds.artifact_sets import Problem
from pipeline.coordination import reveals, rounds
from pipeline.coordination import trust as rules
from pipeline.errors import PromotionInvalid
from pipeline.operations import attest, promote, promoted, secret, trust
from pipeline.records.builds import Manifest
from pipeline.records.promotion import PromotedFile
from tests.simulation import disk
from tests.simulation.builds import MAKER
from tests.simulation.disk import File, VirtualPath

if TYPE_CHECKING:
    from tests.simulation.scheduler import Program

_LOOK_SECONDS = 0.2


@contextmanager
def file_lock(place: Any, *words: Any) -> Iterator[None]:
    """Stands for `edge.file_lock.file_lock`: the kernel frees it when its program is gone."""
    node, path = place.node, place.parts
    place.parent.mkdir(parents=True, exist_ok=True)
    strand = node.world.scheduler.current
    me: Program = strand.program
    held: dict[Any, Program] = node.file_locks
    while (holder := held.get(path)) is not None and not holder.dead and holder is not me:
        node.disk_step("file lock")
        node.step("sleep", _LOOK_SECONDS)
    held[path] = me
    try:
        yield
    finally:
        if held.get(path) is me:
            del held[path]


def _copy(source: VirtualPath, target: VirtualPath) -> tuple[int, str]:
    """Stands for `promoted._copy`."""
    data = disk.read_plain(source)
    target.node.disk_step("copy")
    disk.write_synced(target, data)
    return len(data), hashlib.sha256(data).hexdigest()


def _files(folder: VirtualPath, before: str = "") -> dict[str, bytes]:
    """Returns every file below a folder by its path there."""
    found = {}
    for one in folder.iterdir():
        here = one.found()
        if isinstance(here, File):
            found[before + one.name] = here.data
        else:
            found |= _files(one, f"{before}{one.name}/")
    return found


def insist_on_files(folder: VirtualPath, wanted: list[PromotedFile]) -> None:
    """Stands for `promoted._insist_on_files`."""
    root, listed = folder / promoted.FILES, {each.name: each for each in wanted}
    folder.node.disk_step("files hashed")
    found = _files(root) if root.is_dir() else {}
    for name in sorted(found.keys() ^ listed.keys()):
        what = "missing" if name in listed else "extra"
        raise PromotionInvalid(f"`{root / name}` is {what}.", reason=what)
    for name, each in sorted(listed.items()):
        if (len(found[name]), hashlib.sha256(found[name]).hexdigest()) != (each.size_bytes, each.sha256):
            raise PromotionInvalid(f"`{root / name}` has other bytes.", reason="other-bytes")


def verify(manifest: Manifest, folder: VirtualPath) -> list[Problem]:
    """Stands for `artifact_sets.verify`."""
    folder.node.disk_step("set verified")
    found = _files(folder)
    return [
        Problem("checksum", each.path, "has other bytes")
        for each in manifest.artifacts
        if hashlib.sha256(found.get(each.path, b"")).hexdigest() != each.checksums.get("sha256")
    ]


def _with_step(real: Any) -> Any:
    """As the product's; a program may die before it."""

    def write_durably(place: VirtualPath, data: bytes) -> None:
        place.node.disk_step("statement written")
        real(place, data)

    return write_durably


@contextmanager
def virtual_vaults() -> Iterator[None]:
    """Lets policies, sealed reports and promoted sets lie on virtual disks for a while."""
    trees = SimpleNamespace(rmtree=disk.remove_tree)
    writes = _with_step(trust.write_durably)
    read: Callable[..., bytes] = disk.read_plain
    statements = lru_cache(2048)(trust.read_statement)
    stand_ins: list[tuple[Any, str, Any]] = [
        *((module, "read_statement", statements) for module in (trust, attest, rules, rounds, reveals)),
        (trust, "file_lock", file_lock),
        *((module, "read_plain", read) for module in (trust, secret, promote)),
        *((module, "write_durably", writes) for module in (trust, secret, promoted)),
        *((module, "shutil", trees) for module in (secret, promote, promoted)),
        (promoted, "process_mark", MAKER.get),
        *(
            (module, "flush_folder", lambda folder: disk.flush_folder(folder))
            for module in (trust, secret, promoted)
        ),
        (promoted, "_copy", _copy),
        (promoted, "_insist_on_files", insist_on_files),
        (attest, "verify", verify),
        (attest, "_public_files", lambda signing_key: iter(())),
    ]
    with ExitStack() as stack:
        for owner, name, stand_in in stand_ins:
            stack.enter_context(patch.object(owner, name, stand_in))
        yield

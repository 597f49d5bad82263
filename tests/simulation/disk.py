"""A machine's folders: what programs see of them, and apart from it what a power loss leaves.

As on a real disk a file's bytes outlive a power loss once the file was synced, and a name once its folder
was. What was not synced may be there or not; a folder's names change together, as a journal of the file
system sees to it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.simulation.dice import Dice

if TYPE_CHECKING:
    from tests.simulation.node import Node


class File:
    """A file's bytes, and those that are on disk."""

    __slots__ = ("data", "synced")

    def __init__(self, data: bytes = b"", synced: bytes = b"") -> None:
        self.data, self.synced = data, synced

    def copy(self) -> File:
        return File(self.data, self.data)

    def lose(self, dice: Dice) -> None:
        if self.data != self.synced:
            self.data = dice.pick((self.data, self.synced, self.data[: len(self.data) // 2]))
        self.synced = self.data


class Folder:
    """A folder's names, and those that are on disk."""

    __slots__ = ("names", "synced")

    def __init__(self, names: Mapping[str, File | Folder] | None = None) -> None:
        self.names: dict[str, File | Folder] = dict(names or {})
        self.synced = dict(self.names)

    def copy(self) -> Folder:
        """Returns the same as a disk of its own: what programs see, all of it on disk."""
        return Folder({name: each.copy() for name, each in self.names.items()})

    def lose(self, dice: Dice) -> None:
        """Loses power: what is left is on disk."""
        if self.names != self.synced and dice.chance(0.5):
            self.names = dict(self.synced)
        for each in self.names.values():
            each.lose(dice)
        self.synced = dict(self.names)


class VirtualPath:
    """As much of a path as journals, artifacts, policies and promoted sets use."""

    __slots__ = ("node", "parts")

    def __init__(self, node: Node, *parts: str) -> None:
        self.node, self.parts = node, parts

    # ------------------------------------------------------------ names

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def parent(self) -> VirtualPath:
        return VirtualPath(self.node, *self.parts[:-1])

    def __truediv__(self, name: str) -> VirtualPath:
        return VirtualPath(self.node, *self.parts, *str(name).split("/"))

    def with_name(self, name: str) -> VirtualPath:
        return self.parent / name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VirtualPath) and (self.node, self.parts) == (other.node, other.parts)

    def __hash__(self) -> int:
        return hash(self.parts)

    def __lt__(self, other: VirtualPath) -> bool:
        return self.parts < other.parts

    def __str__(self) -> str:
        return "/".join(("", self.node.name, *self.parts))

    # ------------------------------------------------------------ looking

    def found(self) -> File | Folder | None:
        """Returns what is there."""
        here: File | Folder | None = self.node.folders
        for part in self.parts:
            here = here.names.get(part) if isinstance(here, Folder) else None
        return here

    def folder(self) -> Folder:
        here = self.found()
        if not isinstance(here, Folder):
            raise self._error(errno.ENOENT)
        return here

    def is_dir(self) -> bool:
        return isinstance(self.found(), Folder)

    def exists(self) -> bool:
        return self.found() is not None

    def iterdir(self) -> list[VirtualPath]:
        return [self / name for name in self.folder().names]

    def glob(self, pattern: str) -> list[VirtualPath]:
        return [one for one in self.iterdir() if fnmatchcase(one.name, pattern)] if self.is_dir() else []

    def read_bytes(self) -> bytes:
        here = self.found()
        if not isinstance(here, File):
            raise self._error(errno.ENOENT)
        return here.data

    def lstat(self) -> SimpleNamespace:
        if self.found() is None:
            raise self._error(errno.ENOENT)
        return SimpleNamespace(st_mode=stat.S_IFDIR if self.is_dir() else stat.S_IFREG)

    # ------------------------------------------------------------ changing

    def mkdir(self, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
        if self.is_dir():
            if not exist_ok:
                raise self._error(errno.EEXIST)
            return
        self._insist_on_room()
        if parents and self.parts[:-1]:
            self.parent.mkdir(parents=True, exist_ok=True)
        self.parent.folder().names[self.name] = Folder()

    def write(self, data: bytes, *, synced: bool) -> None:
        """Replaces a file's bytes; on a full disk the file is left behind, empty."""
        made = self.parent.folder().names[self.name] = File()
        self._insist_on_room()
        made.data = data
        if synced:
            made.synced = data

    def rename(self, target: VirtualPath) -> None:
        goes = target.name.startswith(".removing-") and self.parts[0] == "artifacts"
        if goes:
            self.node.disk_step("set removed")
        there, here = target.found(), self.found()
        if here is None:
            raise self._error(errno.ENOENT)
        if isinstance(there, Folder) and there.names:
            raise target._error(errno.ENOTEMPTY)
        if goes:
            self.node.world.keeping.removes(self)
        del self.parent.folder().names[self.name]
        target.parent.folder().names[target.name] = here

    replace = rename

    def unlink(self, missing_ok: bool = False) -> None:
        if self.found() is None and not missing_ok:
            raise self._error(errno.ENOENT)
        self.parent.folder().names.pop(self.name, None)

    def symlink_to(self, target: str) -> None:
        """A link is a file here whose bytes are what it leads to."""
        self.write(target.encode(), synced=True)

    def chmod(self, mode: int) -> None:
        pass

    def sync(self) -> None:
        """Makes a folder's names durable."""
        here = self.folder()
        here.synced = dict(here.names)

    def remove(self) -> None:
        """Removes a file, or a folder from within, one name after the other: a program may die between."""
        here = self.found()
        if here is None:
            return
        for one in sorted(self.iterdir()) if isinstance(here, Folder) else []:
            one.remove()
        self.node.disk_step("removal")
        above = self.parent.found()
        if isinstance(above, Folder):
            above.names.pop(self.name, None)

    def _insist_on_room(self) -> None:
        if self.node.disk_full:
            self.node.world.hit("outbox-full", self.node.at)
            raise self._error(errno.ENOSPC)

    def _error(self, number: int) -> OSError:
        return OSError(number, os.strerror(number), str(self))


def write_synced(place: VirtualPath, data: bytes) -> None:
    """Stands for `journal._write_synced`."""
    place.write(data, synced=True)


def flush_folder(folder: VirtualPath) -> None:
    """Stands for `edge.disk.flush_folder`."""
    folder.sync()


def remove_tree(folder: VirtualPath, ignore_errors: bool = False) -> None:
    """Stands for `shutil.rmtree`."""
    if not folder.exists():
        if not ignore_errors:
            raise folder._error(errno.ENOENT)
        return
    folder.remove()


def read_plain(place: Any, **options: Any) -> bytes:
    """Stands for the reader of plain files, which follows no link; there are none here."""
    data: bytes = place.read_bytes()
    return data

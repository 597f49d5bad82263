"""A look into a source tree before it is checked out: a folder, or one commit of a git repository."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.edge import process
from pipeline.errors import CommandFailed, SourceError

#: No file that preflight reads is longer; a longer one counts as absent.
_MAXIMUM_BYTES = 32 * 1024 * 1024


class Tree(Protocol):
    """The files of one state of a source tree, by path from its root with `/` between the parts."""

    def has(self, path: str) -> bool:
        """Says whether there is a regular file of this path."""

    def read(self, path: str) -> bytes | None:
        """Returns a file's bytes, or None if there is no such file."""

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Returns the bytes of those files that are there."""

    def digest(self, paths: Iterable[str]) -> str:
        """Returns a digest that changes when one of the files does, without reading more than it must."""


class FolderTree:
    """A source tree in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, path: str) -> bool:
        return (self._root / path).is_file()

    def read(self, path: str) -> bytes | None:
        try:
            with (self._root / path).open("rb") as file:
                data = file.read(_MAXIMUM_BYTES + 1)
        except OSError:
            return None
        return data if len(data) <= _MAXIMUM_BYTES else None

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        return {path: data for path in paths if (data := self.read(path)) is not None}

    def digest(self, paths: Iterable[str]) -> str:
        hashed = hashlib.sha256()
        for path in sorted(paths):
            data = self.read(path)
            if data is not None:
                hashed.update(path.encode() + b"\0" + hashlib.sha256(data).digest())
        return hashed.hexdigest()


class GitTree:
    """A commit's tree in a repository without a working tree: two git processes for any number of files.

    `ahead` says of a path whether its bytes will be asked for: all of these are read with the first that is.
    """

    def __init__(self, git_dir: Path, commit: str, ahead: Callable[[str], bool] = lambda path: False) -> None:
        """Lists the tree. Raises SourceError if the repository lacks the commit."""
        self._ahead: Callable[[str], bool] | None = ahead
        self._known: dict[str, bytes] = {}
        self._git = ["git", f"--git-dir={os.fspath(git_dir)}"]
        try:
            done = process.run([*self._git, "ls-tree", "-r", "-z", "--full-tree", commit], timeout=120)
        except CommandFailed as exc:
            raise SourceError(f"Commit {commit} cannot be read: {exc.message}") from exc
        self._blobs: dict[str, str] = {}
        for row in done.stdout.decode("utf-8", "surrogateescape").split("\0"):
            facts, tab, path = row.partition("\t")
            words = facts.split(" ")
            if tab and words[1] == "blob" and words[0] in ("100644", "100755"):
                self._blobs[path] = words[2]

    def has(self, path: str) -> bool:
        return path in self._blobs

    def read(self, path: str) -> bytes | None:
        return self.read_all([path]).get(path)

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        asked = [path for path in dict.fromkeys(paths) if path in self._blobs]
        unknown = [path for path in asked if path not in self._known]
        if unknown and self._ahead is not None:
            unknown = [*dict.fromkeys([*unknown, *filter(self._ahead, self._blobs)])]
            self._ahead = None
        self._known |= self._read(unknown)
        return {path: self._known[path] for path in asked if path in self._known}

    def _read(self, wanted: Sequence[str]) -> dict[str, bytes]:
        if not wanted:
            return {}
        asked = "".join(f"{self._blobs[path]}\n" for path in wanted).encode()
        out = process.run([*self._git, "cat-file", "--batch"], input=asked, timeout=120).stdout
        found: dict[str, bytes] = {}
        at = 0
        for path in wanted:
            end = out.index(b"\n", at)
            words = out[at:end].split(b" ")
            if len(words) != 3:  # "<id> missing": a shallow or damaged repository
                at = end + 1
                continue
            size = int(words[2])
            found[path] = out[end + 1 : end + 1 + size]
            at = end + 1 + size + 1
        return found

    def digest(self, paths: Iterable[str]) -> str:
        rows = (f"{path}\0{self._blobs[path]}\n" for path in sorted(paths) if path in self._blobs)
        return hashlib.sha256("".join(rows).encode("utf-8", "surrogateescape")).hexdigest()

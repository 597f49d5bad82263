"""Git's object formats, written and read in process, and trees changed without an index. Pure.

Formats: git's own documentation, `gitformat-pack(5)` and "Git Internals - Git Objects" of the Git book.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.errors import LedgerError, LedgerTooLarge
from pipeline.records.decisions import View

FILE_MODE = "100644"
TREE_MODE = "40000"
#: The largest object of a ledger that is read. What builds leave there is a thousandth of it.
LARGEST_OBJECT_BYTES = 64 << 20
RENEW = "Remove the clone beside the outbox (`*.git`): the next command makes it anew."


class Object(NamedTuple):
    """One git object. `kind` is blob, tree or commit."""

    oid: str
    kind: str
    data: bytes


class TreeEntry(NamedTuple):
    mode: str
    oid: str


@dataclass(frozen=True)
class Commit:
    """The parts of a commit that the ledger looks at."""

    tree: str
    parents: tuple[str, ...]
    message: str


def too_large(oid: str, size_bytes: int, limit: int) -> LedgerTooLarge:
    """Returns the error of an object that is not read."""
    return LedgerTooLarge(
        f"Git object {oid[:12]} has {size_bytes:,} bytes; more than {limit:,} are not read.",
        size_bytes,
        remedy="Look who pushed it, and move the branch back to the commit before.",
    )


Read = Callable[[str], Object | None]


def make(kind: str, data: bytes) -> Object:
    """Returns the object with its id (SHA-1, as every git before 3.0 writes by default)."""
    return Object(hashlib.sha1(b"%s %d\0" % (kind.encode(), len(data)) + data).hexdigest(), kind, data)


EMPTY_TREE = make("tree", b"")


def make_commit(tree: str, parents: Iterable[str], author: str, epoch_seconds: int, message: str) -> Object:
    """Returns a commit; `author` is `Name <address>`."""
    who = f"{author} {epoch_seconds} +0000"
    lines = [f"tree {tree}", *(f"parent {p}" for p in parents), f"author {who}", f"committer {who}"]
    return make("commit", ("\n".join(lines) + "\n\n" + message).encode())


def parse_commit(data: bytes) -> Commit:
    """Reads a commit's headers and message."""
    head, _, message = data.partition(b"\n\n")
    tree, parents = "", []
    for line in head.split(b"\n"):
        if line.startswith(b"tree "):
            tree = line[5:].decode()
        elif line.startswith(b"parent "):
            parents.append(line[7:].decode())
    return Commit(tree, tuple(parents), message.decode(errors="replace"))


def parse_tree(data: bytes) -> dict[str, TreeEntry]:
    """Reads a tree. Names that are not UTF-8 keep their bytes as surrogates."""
    entries, at = {}, 0
    while at < len(data):
        space, zero = data.index(b" ", at), data.index(b"\0", at)
        name = data[space + 1 : zero].decode(errors="surrogateescape")
        entries[name] = TreeEntry(data[at:space].decode(), data[zero + 1 : zero + 21].hex())
        at = zero + 21
    return entries


def make_tree(entries: Mapping[str, TreeEntry]) -> Object:
    """Returns a tree in git's order: by bytes, a folder's name counted with a slash behind it."""

    def order(item: tuple[str, TreeEntry]) -> bytes:
        name = item[0].encode(errors="surrogateescape")
        return name + b"/" if item[1].mode == TREE_MODE else name

    parts = [
        entry.mode.encode() + b" " + name.encode(errors="surrogateescape") + b"\0" + bytes.fromhex(entry.oid)
        for name, entry in sorted(entries.items(), key=order)
    ]
    return make("tree", b"".join(parts))


class TreeView(View):
    """A committed tree to read from; each object is read once."""

    def __init__(self, read: Read, root: str, like: TreeView | None = None) -> None:
        """`like` is a tree that shares most of its folders with this one; they are not read again."""
        self.root = root
        self._read = read
        shared = like._trees if like and len(like._trees) < 200 else {}
        self._trees: dict[str, dict[str, TreeEntry]] = dict(shared)

    def entries(self, oid: str) -> dict[str, TreeEntry]:
        """Returns a tree's entries. Raises LedgerError where the object is missing."""
        if oid == EMPTY_TREE.oid:
            return {}
        if oid not in self._trees:
            found = self._read(oid)
            if found is None or found.kind != "tree":
                raise LedgerError(f"Tree {oid} is missing from the local clone.", remedy=RENEW)
            self._trees[oid] = parse_tree(found.data)
        return self._trees[oid]

    def entry(self, path: str) -> TreeEntry | None:
        """Returns the entry at a path, or None."""
        parts, oid = path.split("/"), self.root
        for part in parts[:-1]:
            step = self.entries(oid).get(part)
            if step is None or step.mode != TREE_MODE:
                return None
            oid = step.oid
        return self.entries(oid).get(parts[-1])

    def read(self, path: str) -> bytes | None:
        entry = self.entry(path)
        if entry is None or entry.mode == TREE_MODE:
            return None
        try:
            found = self._read(entry.oid)
        except LedgerTooLarge as exc:
            raise LedgerTooLarge(
                f"`{path}` is not read: {exc.message}",
                exc.size_bytes,
                remedy=f"Restore it from an earlier commit of the branch: `git log -- {path}`.",
            ) from exc
        if found is None:
            raise LedgerError(f"The content of `{path}` is missing from the local clone.", remedy=RENEW)
        return found.data

    def names(self, folder: str) -> list[str]:
        entry = self.entry(folder) if folder else TreeEntry(TREE_MODE, self.root)
        return sorted(self.entries(entry.oid)) if entry and entry.mode == TREE_MODE else []

    def walk(self) -> Iterator[tuple[str, TreeEntry]]:
        """Yields every file with its path."""
        pending = [("", self.root)]
        while pending:
            prefix, oid = pending.pop()
            for name, entry in self.entries(oid).items():
                if entry.mode == TREE_MODE:
                    pending.append((f"{prefix}{name}/", entry.oid))
                else:
                    yield prefix + name, entry


class Overlay(View):
    """A view with writes laid over it; None removes a file."""

    def __init__(self, below: View, writes: Mapping[str, bytes | None] | None = None) -> None:
        self.below = below
        self.writes: dict[str, bytes | None] = dict(writes or {})

    def read(self, path: str) -> bytes | None:
        return self.writes[path] if path in self.writes else self.below.read(path)

    def names(self, folder: str) -> list[str]:
        prefix = f"{folder}/" if folder else ""
        found = set(self.below.names(folder))
        for path, data in self.writes.items():
            if path.startswith(prefix):
                name, slash, _ = path[len(prefix) :].partition("/")
                if data is not None:
                    found.add(name)
                elif not slash:
                    found.discard(name)
        return sorted(found)


@dataclass
class _Folder:
    files: dict[str, bytes | None] = field(default_factory=dict)
    folders: dict[str, _Folder] = field(default_factory=dict)


def write_tree(base: TreeView, writes: Mapping[str, bytes | None]) -> tuple[str, list[Object]]:
    """Returns the root of `base` with `writes` laid over it, and the objects that are new."""
    top = _Folder()
    for path, data in writes.items():
        *folders, name = path.split("/")
        folder = top
        for part in folders:
            folder = folder.folders.setdefault(part, _Folder())
        folder.files[name] = data
    made: list[Object] = []
    root = _write_folder(base, base.root, top, made)
    return root or EMPTY_TREE.oid, made


def _write_folder(base: TreeView, oid: str | None, folder: _Folder, made: list[Object]) -> str | None:
    entries = dict(base.entries(oid)) if oid else {}
    for name, data in folder.files.items():
        if data is None:
            entries.pop(name, None)
            continue
        blob = make("blob", data)
        made.append(blob)
        entries[name] = TreeEntry(FILE_MODE, blob.oid)
    for name, below in folder.folders.items():
        old = entries.get(name)
        new = _write_folder(base, old.oid if old and old.mode == TREE_MODE else None, below, made)
        if new is None:
            entries.pop(name, None)
        else:
            entries[name] = TreeEntry(TREE_MODE, new)
    if not entries:
        return None
    tree = make_tree(entries)
    made.append(tree)
    return tree.oid


def changed_paths(before: TreeView, after: TreeView) -> list[str]:
    """Returns the paths of files that differ between two trees, sorted; equal folders are not opened."""
    found: list[str] = []
    pending: list[tuple[str, str | None, str | None]] = [("", before.root, after.root)]
    while pending:
        prefix, left, right = pending.pop()
        one = before.entries(left) if left else {}
        two = after.entries(right) if right else {}
        for name in one.keys() | two.keys():
            old, new = one.get(name), two.get(name)
            if old == new:
                continue
            old_tree = old.oid if old and old.mode == TREE_MODE else None
            new_tree = new.oid if new and new.mode == TREE_MODE else None
            if old_tree or new_tree:
                pending.append((f"{prefix}{name}/", old_tree, new_tree))
            if (old and not old_tree) or (new and not new_tree):
                found.append(prefix + name)
    return sorted(found)

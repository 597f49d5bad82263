"""What a tree holds beside its own blobs: submodules, and files in Git LFS."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.edge.credentials import Access, split_credentials
from pipeline.edge.git import git, git_long
from pipeline.errors import SourceError

_LFS_FILTER = {
    "filter.lfs.clean": "git-lfs clean -- %f",
    "filter.lfs.smudge": "git-lfs smudge -- %f",
    "filter.lfs.process": "git-lfs filter-process",
    "filter.lfs.required": "true",
}


@dataclass(frozen=True)
class Submodule:
    """A repository that a tree pins at `path` (relative to the tree) to `commit`."""

    path: str
    address: str
    commit: str


def submodules_of(tree: Path, source: str) -> list[Submodule]:
    """Reads the submodules of a checked-out tree. Relative addresses are meant from `source`.

    An entry without an address is left out, as git does. Raises SourceError for a `.gitmodules` that would
    put something outside the tree, or names a directory of this machine when the source is not one.
    """
    if not (tree / ".gitmodules").is_file():
        return []
    settings = _settings_of(tree)
    found = []
    for row in git("ls-files", "--stage", "-z", cwd=tree).stdout.split(b"\0"):
        mode, _, rest = row.partition(b" ")
        if mode != b"160000":
            continue
        commit, _, path = rest.partition(b"\t")
        name = os.fsdecode(path)
        address = settings.get(name)
        if address is None:
            continue
        if not (tree / name).resolve().is_relative_to(tree.resolve()):
            raise SourceError(f"The submodule {name!r} lies outside the tree.")
        address = _absolute(address, source)
        if split_credentials(address).is_local and not split_credentials(source).is_local:
            raise SourceError(f"The submodule {name!r} names a directory of this machine: {address}.")
        found.append(Submodule(name, address, commit.split()[0].decode()))
    return found


def _settings_of(tree: Path) -> dict[str, str]:
    """Returns path -> address of `.gitmodules`."""
    listed = git("config", "--file", ".gitmodules", "--null", "--list", cwd=tree, check=False).stdout
    values = dict(entry.partition(b"\n")[::2] for entry in listed.split(b"\0") if entry)
    by_path = {}
    for key, value in values.items():
        if key.startswith(b"submodule.") and key.endswith(b".path"):
            address = values.get(key[: -len(b"path")] + b"url")
            if address is not None:
                by_path[os.fsdecode(value)] = os.fsdecode(address)
    return by_path


def _absolute(address: str, source: str) -> str:
    if not address.startswith(("./", "../")):
        return address
    head, slash, path = source.partition("://")
    if slash:
        host, _, path = path.partition("/")
        return f"{head}://{host}{posixpath.normpath(f'/{path}/{address}')}"
    host, colon, path = ("", "", source) if source.startswith("/") else source.partition(":")
    return f"{host}{colon}{posixpath.normpath(f'{path}/{address}')}"


def checkout_large_files(
    tree: Path, access: Access, store: Path, cancelled: Callable[[], str | None]
) -> list[str]:
    """Replaces LFS pointers by their files, which are kept in `store`. Returns notes.

    Raises SourceError when the tree needs Git LFS and it is not installed, CommandFailed when a file cannot
    be had.
    """
    if not _uses_lfs(tree):
        return []
    if git("lfs", "version", check=False).returncode != 0:
        raise SourceError(
            f"The source {access.address} keeps files in Git LFS, and `git lfs` is not installed here.",
            remedy="Run `apt-get install git-lfs`, or `invoke doctor --install`.",
        )
    store.mkdir(parents=True, exist_ok=True)
    for key, value in {**_LFS_FILTER, "lfs.storage": str(store)}.items():
        git("config", "--local", key, value, cwd=tree)
    # What the store has is put in place without the network; only then is the remote asked for the rest.
    git_long("lfs", "checkout", cwd=tree, cancelled=cancelled)
    missing = [line for line in git("lfs", "ls-files", cwd=tree).text.splitlines() if line[11:12] == "-"]
    if missing:
        git_long("lfs", "pull", "origin", cwd=tree, access=access, cancelled=cancelled)
    return [f"{len(missing)} files fetched from Git LFS."] if missing else []


def _uses_lfs(tree: Path) -> bool:
    try:
        index = (tree / ".git" / "index").read_bytes()
    except OSError:
        index = b""
    # Up to version 3 the index spells every path; version 4 leaves out what a path shares with the last one.
    if 2 <= int.from_bytes(index[4:8]) <= 3 and b".gitattributes" not in index:
        return False
    listed = git("ls-files", "-z", "--", ":(glob)**/.gitattributes", cwd=tree).stdout
    for name in listed.split(b"\0"):
        path = tree / os.fsdecode(name)
        if name and path.is_file() and b"filter=lfs" in path.read_bytes():
            return True
    return False

"""What a build was made from beside its recipe, as it is found on the builder when the build has ended."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pipeline.builds.debcontrol import stanzas
from pipeline.builds.environment import listing
from pipeline.builds.submodules import submodules_of
from pipeline.builds.tree import GitTree, Tree
from pipeline.edge.git import git
from pipeline.records.builds import Inputs, Recipe

DEPENDENCIES: Final = "dependencies.txt"
CONTROL: Final = "debian/control"
CHANGELOG: Final = "debian/changelog"
_ENTRY: Final = re.compile(r"[a-z0-9][a-z0-9+.-]* \((?P<version>[^()\s]+)\)")
#: What of a Maven repository gets into a build; the rest is Maven's own bookkeeping.
_DEPENDENCY: Final = re.compile(r"[^_.].*\.(?:jar|pom|war|zip|aar|tar\.gz)")
_LOCK: Final = "package-lock.json"
_NOT_LOOKED_INTO: Final = frozenset({".git", "node_modules", "target"})


def expected_packages(tree: Tree, architecture: str) -> list[str]:
    """Returns the file names of the packages that a tree makes, by its own control file and changelog.

    An empty list where it says of none, or not which version: then nothing is expected, and nothing agrees.
    """
    found = tree.read_all([CONTROL, CHANGELOG])
    control = found.get(CONTROL, b"").decode(errors="replace")
    first = next(
        (line for line in found.get(CHANGELOG, b"").decode(errors="replace").splitlines() if line.strip()), ""
    )
    entry = _ENTRY.match(first)
    if entry is None:
        return []
    version = entry["version"].rpartition(":")[2]
    return sorted(
        f"{package}_{version}_{built}.deb"
        for stanza in stanzas(control)
        if (package := stanza.get("package")) and (built := _built_for(stanza, architecture))
    )


def _built_for(stanza: Mapping[str, str], architecture: str) -> str | None:
    """Returns the architecture in a package's file name; None for one that is not built here."""
    if stanza.get("package-type", "deb") != "deb":
        return None
    profiles = re.findall(r"<([^<>]*)>", stanza.get("build-profiles", ""))
    if profiles and not any(all(word.startswith("!") for word in each.split()) for each in profiles):
        return None
    words = stanza.get("architecture", "").split()
    if "all" in words:
        return "all"
    return architecture if {"any", "linux-any", f"any-{architecture}", architecture} & set(words) else None


def collect_inputs(
    tree: Path, repository: Path, recipe: Recipe, architecture: str
) -> tuple[Inputs, dict[str, bytes]]:
    """Looks at what a build was made from; returns it with the files of the lists that it names.

    `tree` is the checked-out source, `repository` the job's Maven repository. Raises SourceError for a tree
    that is no repository any more, OSError for what cannot be read.
    """
    commit = GitTree(tree / ".git", recipe.commit, lambda path: path in (CONTROL, CHANGELOG))
    dependencies, data = listing(DEPENDENCIES, sorted(_dependencies(repository)))
    inputs = Inputs(
        tree=git("rev-parse", "--verify", f"{recipe.commit}^{{tree}}", cwd=tree).text.strip(),
        expected=expected_packages(commit, architecture) if recipe.packages else [],
        submodules={each.path: each.commit for each in submodules_of(tree, recipe.source)},
        npm_locks=dict(_npm_locks(tree)),
        dependencies=dependencies,
    )
    return inputs, {DEPENDENCIES: data}


def _dependencies(repository: Path) -> Iterator[str]:
    for folder, subfolders, names in os.walk(repository):
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if _DEPENDENCY.fullmatch(name) and path.is_file():
                yield f"{path.relative_to(repository).as_posix()} {_sha256(path)}"


def _npm_locks(tree: Path) -> Iterator[tuple[str, str]]:
    for folder, subfolders, names in os.walk(tree):
        subfolders[:] = sorted(name for name in subfolders if name not in _NOT_LOOKED_INTO)
        if _LOCK in names and (path := Path(folder, _LOCK)).is_file():
            yield path.relative_to(tree).as_posix(), _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

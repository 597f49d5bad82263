"""What is in the artifact store: listing, verifying and pruning. Nothing here ever changes a set's files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final, Literal, NamedTuple

from pipeline.builds.artifacts import MANIFEST, leftover, process_mark, read_set, set_folder
from pipeline.edge.disk import flush_folder
from pipeline.errors import ArtifactsInvalid
from pipeline.records.builds import Manifest
from pipeline.records.names import is_name

_BLOCK_BYTES: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

#: Epoch and counter of the token that a set was built under: what was granted later has the higher rank.
Rank = tuple[int, int]

Kind = Literal["missing", "extra", "size", "checksum", "symlink", "type", "unreadable", "manifest"]


@dataclass(frozen=True)
class Problem:
    """One way in which a folder differs from its manifest."""

    kind: Kind
    path: str
    message: str


@dataclass(frozen=True)
class ArtifactSet:
    """One folder of the store. `manifest` is None where it cannot be read; `problem` then says why."""

    folder: Path
    manifest: Manifest | None
    problem: str | None
    size_bytes: int

    @property
    def name(self) -> str:
        """Returns `<job>.<token>`."""
        return self.folder.name


@dataclass(frozen=True)
class PrunePlan:
    """What would be removed, and why each of the others stays. Nothing is done yet."""

    remove: tuple[ArtifactSet, ...]
    keep: tuple[tuple[ArtifactSet, str], ...]
    leftovers: tuple[Path, ...]

    @property
    def freed_bytes(self) -> int:
        """Returns how much room carrying it out gives back, leftovers not counted."""
        return sum(one.size_bytes for one in self.remove)


def verify(manifest: Manifest, folder: Path) -> list[Problem]:
    """Holds a folder against a manifest: every byte of every file, and nothing that is not listed.

    Returns all problems, in the order of the paths; none means equal. Raises nothing for bad content.
    """
    problems = list(_manifest_problems(manifest))
    listed: dict[str, tuple[int, str | None]] = {}
    for artifact in manifest.artifacts:
        if _safe(artifact.path):
            listed[artifact.path] = (artifact.size_bytes, artifact.checksums.get("sha256"))
    if manifest.log is not None and _safe(manifest.log.path):
        listed[manifest.log.path] = (manifest.log.size_bytes, manifest.log.sha256)
    for listing in manifest.listings:
        if _safe(listing.path):
            listed[listing.path] = (listing.size_bytes, listing.sha256)
    found: set[str] = set()
    for path, entry_problem in _files(folder):
        found.add(path)
        if entry_problem is not None:
            problems.append(entry_problem)
        elif path in listed:
            problems += _file_problems(folder, path, *listed[path])
        elif path != MANIFEST:
            problems.append(Problem("extra", path, "is not in the manifest"))
    problems += [Problem("missing", path, "is not there") for path in listed if path not in found]
    return sorted(problems, key=lambda problem: (problem.path, problem.kind))


def _manifest_problems(manifest: Manifest) -> Iterator[Problem]:
    """Finds what a manifest says against itself."""
    paths = [artifact.path for artifact in manifest.artifacts]
    for artifact in manifest.artifacts:
        if not _safe(artifact.path):
            yield Problem("manifest", artifact.path, "is a path that leaves the set")
        if not _DIGEST.fullmatch(artifact.checksums.get("sha256", "")):
            yield Problem("manifest", artifact.path, "has no SHA-256 in the manifest")
        if paths.count(artifact.path) > 1:
            yield Problem("manifest", artifact.path, "is listed more than once")
    if manifest.artifact_count != len(paths):
        message = f"says {manifest.artifact_count} artifacts and lists {len(paths)}"
        yield Problem("manifest", MANIFEST, message)
    total = sum(artifact.size_bytes for artifact in manifest.artifacts)
    if manifest.total_size_bytes != total:
        message = f"says {manifest.total_size_bytes} bytes in all, the artifacts' sizes are {total}"
        yield Problem("manifest", MANIFEST, message)


def _safe(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(path) and "\0" not in path and not pure.is_absolute() and ".." not in pure.parts


def _files(folder: Path) -> Iterator[tuple[str, Problem | None]]:
    """Yields every entry below a folder that is no folder itself, with what is wrong about its kind."""
    failed: list[OSError] = []
    for at, folders, names in os.walk(folder, onerror=failed.append):
        for name in sorted([*names, *(one for one in folders if (Path(at) / one).is_symlink())]):
            whole = Path(at) / name
            path = whole.relative_to(folder).as_posix()
            try:
                mode = whole.lstat().st_mode
            except OSError as exc:
                yield path, Problem("unreadable", path, exc.strerror or str(exc))
                continue
            if stat.S_ISLNK(mode):
                yield path, Problem("symlink", path, "is a symbolic link")
            elif not stat.S_ISREG(mode):
                yield path, Problem("type", path, "is no regular file")
            else:
                yield path, None
    for error in failed:
        path = os.path.relpath(error.filename or folder, folder)
        yield path, Problem("unreadable", path, error.strerror or str(error))


def _file_problems(folder: Path, path: str, size: int, sha256: str | None) -> Iterator[Problem]:
    digest, count = hashlib.sha256(), 0
    try:
        descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                count += len(block)
    except OSError as exc:
        yield Problem("unreadable", path, exc.strerror or str(exc))
        return
    if count != size:
        yield Problem("size", path, f"has {count} bytes, the manifest says {size}")
    if sha256 is not None and digest.hexdigest() != sha256:
        yield Problem("checksum", path, f"has the SHA-256 {digest.hexdigest()}, the manifest says {sha256}")


def list_sets(root: Path) -> list[ArtifactSet]:
    """Returns every set of the store, newest first; what cannot be read is among them, with the reason.

    No link is followed. One that leads out of the store, or nowhere, is listed as what cannot be read; so is
    a folder above the sets that this user may not look into.
    """
    sets = []
    for entry in _entries(root, 3):
        if entry.problem is not None:
            sets.append(ArtifactSet(entry.path, None, entry.problem, 0))
        elif not entry.path.name.startswith("."):
            sets.append(_look(entry.path))
    return sorted(sets, key=_age, reverse=True)


def leftovers(root: Path) -> list[Path]:
    """Returns the folders that processes which are gone have left unfinished, by name."""
    return sorted(entry.path for entry in _entries(root, 3) if entry.problem is None and leftover(entry.path))


class _Entry(NamedTuple):
    """A folder of the store, or what stands where one should be, and why it is not looked into."""

    path: Path
    problem: str | None = None


def _entries(folder: Path, depth: int, root: Path | None = None) -> Iterator[_Entry]:
    """Yields the folders `depth` levels down (builder, branch, set), and what keeps from looking for more."""
    root = root or folder
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as exc:
        yield _Entry(folder, f"{folder} cannot be read: {exc.strerror}")
        return
    for entry in entries:
        path = Path(entry.path)
        # `lost+found`, and whatever else lies beside the builders, is nobody's set.
        if (depth == 3 and not is_name("builder", path.name)) or (depth == 2 and path.name.startswith(".")):
            continue
        if entry.is_symlink():
            target = Path(os.path.realpath(path))
            if not (target.is_relative_to(os.path.realpath(root)) and target.is_dir()):
                yield _Entry(path, f"{path} is a symbolic link out of the store, which is not followed")
        elif entry.is_dir(follow_symlinks=False):
            if depth == 1:
                yield _Entry(path)
            else:
                yield from _entries(path, depth - 1, root)


def newest_of(root: Path, builder: str, branch: str) -> Iterator[Manifest]:
    """Yields the manifests of one builder's sets of a branch, newest first, those that can be read.

    Reads one after the other, as they are taken: the names of jobs and tokens sort by time.
    """
    group = set_folder(root, builder, branch, "job", "token").parent
    for folder in sorted(group.glob("[!.]*"), reverse=True):
        if folder.is_symlink():
            continue
        try:
            manifest = read_set(folder)
        except ArtifactsInvalid:
            continue
        if manifest.branch == branch and manifest.server == builder:
            yield manifest


def _look(folder: Path) -> ArtifactSet:
    size = 0
    for at, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(at) / name).lstat().st_size
            except OSError:
                continue
    try:
        return ArtifactSet(folder, read_set(folder), None, size)
    except ArtifactsInvalid as exc:
        return ArtifactSet(folder, None, exc.message, size)


def _age(one: ArtifactSet) -> tuple[float, str]:
    if one.manifest is not None:
        return one.manifest.created_at.timestamp(), one.name
    try:
        return one.folder.stat().st_mtime, one.name
    except OSError:
        return 0.0, one.name


def _as_granted(
    sets: Sequence[ArtifactSet], granted: Callable[[ArtifactSet], Rank | None]
) -> list[ArtifactSet]:
    """Returns sets, which come newest first by date, with those that have a rank in the order of their ranks.

    They share the places that they have by date, so that the others stay where they are among them.
    """
    ranked = [(rank, one) for one in sets if (rank := granted(one)) is not None]
    inorder = iter([one for _, one in sorted(ranked, key=lambda each: each[0], reverse=True)])
    return [one if granted(one) is None else next(inorder) for one in sets]


def plan_prune(
    sets: Sequence[ArtifactSet],
    unfinished: Sequence[Path] = (),
    *,
    keep: int,
    referenced: Collection[str],
    running_since: datetime | None,
    granted: Callable[[ArtifactSet], Rank | None] = lambda one: None,
    running_from: Rank | None = None,
) -> PrunePlan:
    """Decides what may go of `sets`, which come newest first: all but the newest `keep` of each builder and
    branch, and what was left `unfinished`.

    `referenced` holds names (`<job>.<token>`) and job ids that the ledger or the outbox refers to: they
    stay. So does what is not older than the beginning of a running job, and what cannot be read. Which is
    newer the ledger says, by the rank of its grants, of all sets that it knows; a date only of the others.
    """
    remove: list[ArtifactSet] = []
    stay: list[tuple[ArtifactSet, str]] = []
    counted: dict[Path, int] = {}
    for one in _as_granted(sets, granted):
        group, rank = one.folder.parent, granted(one)
        if one.manifest is None:
            # It takes nobody's place among the newest: who knows what it is.
            stay.append((one, f"its manifest cannot be read ({one.problem})"))
            continue
        counted[group] = counted.get(group, 0) + 1
        if counted[group] <= keep:
            stay.append((one, f"among the newest {keep}"))
        elif one.name in referenced or one.manifest.job_id in referenced:
            stay.append((one, "the ledger or the outbox refers to it"))
        elif (rank is not None and running_from is not None and rank >= running_from) or (
            running_since is not None and one.manifest.created_at >= running_since
        ):
            stay.append((one, "not older than a running job"))
        else:
            remove.append(one)
    return PrunePlan(tuple(remove), tuple(stay), tuple(unfinished))


def carry_out(plan: PrunePlan) -> int:
    """Removes what a plan says and returns how many sets and leftovers went.

    A set is renamed out of sight first, so that a half-removed one is never listed, nor after a power
    loss.
    """
    count = 0
    for one in plan.remove:
        hidden = one.folder.parent / f".removing-{process_mark()}-{one.name}"
        try:
            one.folder.rename(hidden)
        except FileNotFoundError:
            continue
        flush_folder(hidden.parent)
        shutil.rmtree(hidden)
        count += 1
    return count + _remove_all(plan.leftovers)


def _remove_all(folders: Sequence[Path]) -> int:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return len(folders)

"""The source: one cached bare clone per repository, and a clone of its own for each job, pinned to a commit.

A job's tree is a clone, not a linked worktree: Java's git library (JGit, in Maven plugins that record the
commit) cannot read linked ones. Its objects are hard links to the cache's, so it costs no time and no disk,
and neither a later fetch nor the removal of the cache touches it.

A cached clone survives `kill -9` at any moment: it is made under another name and renamed, git adds packs and
references atomically, and locks that a killed git left are removed, which is safe because every use of the
cached clone holds its lock file.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pipeline.builds.job_clone import fill_tree, make_job_clone
from pipeline.builds.submodules import checkout_large_files, submodules_of
from pipeline.edge.credentials import Access, split_credentials
from pipeline.edge.file_lock import file_lock
from pipeline.edge.git import DAMAGED, git, git_long, source_error
from pipeline.errors import (
    BranchNotFound,
    BuildFailed,
    CommandFailed,
    CommitNotFound,
    SourceError,
    UsageError,
)
from pipeline.records.names import check_name

_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}\Z")
_LISTING_SECONDS = 90.0
#: Each fetch adds a pack; past this many they are made one.
_MOST_PACKS = 40


@dataclass(frozen=True)
class Resolved:
    """A branch resolved to a commit. `source` has no credentials; `commit_time` is in seconds since 1970.

    `notes` say in words what is not as usual: a commit off its branch, a remote out of reach.
    """

    source: str
    branch: str
    commit: str
    commit_time: int
    on_branch: bool = True
    notes: tuple[str, ...] = ()


class Sources:
    """The cached clones below one directory. Several processes may use it at once.

    `say` is told of waiting and of long steps, `cancelled` is asked while git works.
    """

    def __init__(
        self,
        cache: Path,
        *,
        say: Callable[[str], None] = lambda text: None,
        cancelled: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._cache = cache
        self._say = say
        self._cancelled = cancelled
        #: By host: what was given for one repository of it, submodules and later builds of it need as well.
        self._known: dict[str, Access] = {}

    def until(self, cancelled: Callable[[], str | None]) -> Sources:
        """Returns the same with another way to cancel; what it knows of hosts stays."""
        other = Sources(self._cache, say=self._say, cancelled=cancelled)
        other._known = self._known
        return other

    def resolve(self, source: str, branch: str, commit: str | None = None) -> Resolved:
        """Finds the commit to build and brings it into the cache.

        `commit`, when given, is a full or abbreviated id; it need not be on the branch. A remote out of
        reach is an error only when the cache lacks the commit. Raises UsageError, SourceError,
        BranchNotFound (which lists near names), CommitNotFound.
        """
        check_name("branch", branch)
        if commit is not None and not _COMMIT.match(commit):
            raise UsageError(f"{commit!r} cannot be a commit: it is 7 to 64 hexadecimal digits.")
        access = self._remember(source)
        heads, trouble = self._list_heads(access)
        if heads is not None and branch not in heads:
            raise _branch_not_found(access, branch, heads)
        with self._open(access, heads) as clone:
            if clone is None:
                raise trouble or SourceError(f"The source {access.address} has no commits.")
            notes = []
            cached = _heads_of(clone)
            if heads is None:
                notes.append(f"Not asked for news, cached state used: {trouble}")
                if branch not in cached:
                    raise trouble or _branch_not_found(access, branch, cached)
            else:
                self._update(clone, access, branch, heads, cached)
            newest = cached[branch].oid if heads is None else heads[branch]
            head = cached.get(branch)
            if commit is None and head is not None and head.oid == newest and head.seconds is not None:
                oid, seconds, on_branch = head.oid, head.seconds, True  # as on most days: nothing more to ask
            else:
                oid = self._find(clone, access, branch, commit)
                seconds = int(git("show", "-s", "--format=%ct", "--end-of-options", oid, cwd=clone).text)
                on_branch = _succeeds("merge-base", "--is-ancestor", oid, f"refs/heads/{branch}", cwd=clone)
            if not on_branch:
                notes.append(f"Commit {oid[:12]} is not on branch {branch}.")
            if (clone / "shallow").exists():
                notes.append("The cached clone is shallow: older history is missing.")
        return Resolved(access.address, branch, oid, seconds, on_branch, tuple(notes))

    def checkout(self, resolved: Resolved, into: Path) -> list[str]:
        """Makes a clean clone at `into` (absent or empty), on the branch, at exactly that commit.

        Submodules and large files included; no hook is run; nothing is fetched that the cache has.
        Returns notes. Raises SourceError, BuildFailed (cancelled).
        """
        access = self._remember(resolved.source)
        if into.exists() and any(into.iterdir()):
            raise SourceError(f"{into} is not empty: a source is only checked out into a new directory.")
        into.mkdir(parents=True, exist_ok=True)
        try:
            with self._open(access, None) as clone:
                if clone is None:
                    raise SourceError(
                        f"The cached clone of {access.address} is gone.", remedy="Run the command again."
                    )
                make_job_clone(
                    clone, into, resolved.source, resolved.branch, resolved.commit, self._cancelled
                )
            fill_tree(clone, into, resolved.branch, self._cancelled)
            lfs_store = self._cache / "lfs" / _digest(access.address)
            notes = checkout_large_files(into, access, lfs_store, self._cancelled)
        except CommandFailed as exc:
            raise source_error(access, exc) from exc
        for sub in submodules_of(into, resolved.source):
            self._checkout_submodule(sub.address, sub.commit, into / sub.path, notes)
        return notes

    def clone_of(self, resolved: Resolved) -> Path:
        """Returns the cached clone that holds a resolved commit, to read from."""
        return self._cache / "sources" / f"{_digest(resolved.source)}.git"

    # -- the cached clone ------------------------------------------------------------------------------

    def _remember(self, source: str) -> Access:
        access = split_credentials(source)
        if access.user is not None:
            self._known[access.host] = access
        known = self._known.get(access.host) if access.host else None
        return access if known is None else replace(known, address=access.address)

    def _list_heads(self, access: Access) -> tuple[dict[str, str] | None, SourceError | None]:
        """Asks the remote for its branches. Returns them, or None and the reason."""
        try:
            listed = git(
                "ls-remote", "--heads", "--", access.address, access=access, timeout=_LISTING_SECONDS
            ).text
        except CommandFailed as exc:
            return None, source_error(access, exc)
        rows = [line.split("\t", 1) for line in listed.splitlines() if "\t" in line]
        return {name.removeprefix("refs/heads/"): oid for oid, name in rows}, None

    @contextmanager
    def _open(self, access: Access, heads: dict[str, str] | None) -> Iterator[Path | None]:
        """Holds the cached clone's lock; gives its path, or None when there is none and it can't be made."""
        place = self._cache / "sources" / f"{_digest(access.address)}.git"

        def waiting() -> None:
            self._say(f"waiting for another process that uses the cached clone of {access.address}")

        with file_lock(place.with_suffix(".lock"), waiting, self._insist_on_going_on):
            for stale in place.parent.glob(f"{place.stem}.tmp-*"):
                shutil.rmtree(stale)
            if place.exists():
                _repair(place)
            elif heads:
                _make_bare(place, sha256=len(next(iter(heads.values()))) == 64)
            yield place if place.exists() else None

    def _insist_on_going_on(self) -> None:
        if (reason := self._cancelled()) is not None:
            raise BuildFailed(
                f"Cancelled while it waited for the cached clone: {reason}.", failure_class="cancelled"
            )

    def _update(
        self, clone: Path, access: Access, branch: str, heads: dict[str, str], cached: dict[str, _Head]
    ) -> None:
        """Makes the cached branch what the remote says; fetches only when its commit is not there yet."""
        for gone in cached.keys() - heads.keys():
            # A branch `a` that is left would stand in the way of `a/b`.
            git("update-ref", "-d", f"refs/heads/{gone}", cwd=clone)
        head = cached.get(branch)
        if head is not None and head.oid == heads[branch] and head.seconds is not None:
            return
        if _has_commit(clone, heads[branch]):
            git("update-ref", f"refs/heads/{branch}", heads[branch], cwd=clone)
            return
        self._fetch(clone, access, f"+refs/heads/{branch}:refs/heads/{branch}")
        if len(list((clone / "objects" / "pack").glob("*.pack"))) > _MOST_PACKS:
            git_long("repack", "-a", "-d", "-q", cwd=clone)

    def _fetch(self, clone: Path, access: Access, *refspecs: str) -> None:
        self._say(f"fetching {refspecs[0].rpartition(':')[2]} from {access.address}")
        words = ["fetch", "--quiet", "--force", "--update-shallow", "--no-write-fetch-head"]
        words += ["--no-recurse-submodules"]

        def fetch(*more: str) -> None:
            git_long(
                *words,
                *more,
                "--",
                access.address,
                *refspecs,
                cwd=clone,
                access=access,
                cancelled=self._cancelled,
            )

        try:
            try:
                fetch()
            except CommandFailed as exc:
                if not re.search(DAMAGED, exc.stderr_tail):
                    raise
                # A partial clone, say: its tips are whole, its history is not.
                self._say(f"{access.address} lacks objects of its history: fetching without history")
                fetch("--depth=1")
        except CommandFailed as exc:
            raise source_error(access, exc) from exc

    def _find(self, clone: Path, access: Access, branch: str, commit: str | None) -> str:
        """Returns the full id of the commit to build, which the cache then has."""
        wanted = f"refs/heads/{branch}" if commit is None else commit.lower()
        found = _full_id(clone, wanted)
        if found is None and commit is not None and len(commit) in (40, 64):
            # A commit of no branch: hosted services give it by its id.
            with contextlib.suppress(SourceError):
                self._fetch(clone, access, wanted)
            found = _full_id(clone, wanted)
        if found is None:
            raise CommitNotFound(
                f"Commit {wanted} is not in {access.address}, or its abbreviation names several.",
                remedy=f"Give the full id of a commit that was pushed, for instance of `git log {branch}`.",
            )
        return found

    def _checkout_submodule(self, address: str, commit: str, into: Path, notes: list[str]) -> None:
        """Checks a submodule out like a source of its own, on a branch called `pinned`."""
        access = self._remember(address)
        heads, trouble = self._list_heads(access)
        with self._open(access, heads) as clone:
            if clone is None:
                raise trouble or SourceError(f"The submodule {access.address} has no commits.")
            if not _has_commit(clone, commit):
                if trouble is not None:
                    raise trouble
                self._fetch(clone, access, "+refs/heads/*:refs/heads/*")
            self._find(clone, access, "pinned", commit)
        pinned = Resolved(access.address, "pinned", commit, 0)
        notes += [f"{into.name}: {note}" for note in self.checkout(pinned, into)]


# -- git's files ---------------------------------------------------------------------------------------------


def _make_bare(place: Path, *, sha256: bool) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f"{place.stem}.tmp-", dir=place.parent))
    git(
        "init",
        "--quiet",
        "--bare",
        "--template=",
        f"--object-format={'sha256' if sha256 else 'sha1'}",
        cwd=temporary,
    )
    temporary.rename(place)


def _repair(clone: Path) -> None:
    """Removes what a killed git left in a cached clone: locks and half-received packs."""
    for lock in (*clone.glob("*.lock"), *clone.joinpath("refs").rglob("*.lock")):
        lock.unlink()
    for part in clone.glob("objects/pack/tmp_*"):
        part.unlink()


class _Head(NamedTuple):
    """A cached branch. `seconds` is its commit's time; None where a commit of the clone is missing."""

    oid: str
    seconds: int | None


def _heads_of(clone: Path) -> dict[str, _Head]:
    words = "%(objectname) %(committerdate:unix) %(refname:lstrip=2)"
    listed = git("for-each-ref", f"--format={words}", "refs/heads", cwd=clone, check=False)
    if listed.returncode != 0:
        plain = words.replace("%(committerdate:unix)", "")
        listed = git("for-each-ref", f"--format={plain}", "refs/heads", cwd=clone)
    rows = (row.split(" ", 2) for row in listed.text.splitlines())
    return {name: _Head(oid, int(seconds) if seconds else None) for oid, seconds, name in rows}


def _succeeds(*words: str, cwd: Path) -> bool:
    return git(*words, cwd=cwd, check=False).returncode == 0


def _has_commit(clone: Path, oid: str) -> bool:
    return _succeeds("cat-file", "-e", f"{oid}^{{commit}}", cwd=clone)


def _full_id(clone: Path, name: str) -> str | None:
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    found = git(*words, cwd=clone, check=False)
    return found.text.splitlines()[-1] if found.returncode == 0 and found.text else None


def _branch_not_found(access: Access, branch: str, heads: Collection[str]) -> BranchNotFound:
    import difflib  # only a branch that is not there needs it

    by_lower = {name.lower(): name for name in heads}
    near = [by_lower[name] for name in difflib.get_close_matches(branch.lower(), by_lower, n=5, cutoff=0.5)]
    if near:
        advice = "Near names: " + ", ".join(f"`{name}`" for name in near) + "."
    else:
        advice = f"It has {len(heads)} branches: `git ls-remote --heads {access.address}` lists them."
    return BranchNotFound(f"There is no branch `{branch}` in {access.address}.", remedy=advice)


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:20]

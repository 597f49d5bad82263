"""The clone of a job's own: the cached clone's objects by hard links, one branch, and the tags it can reach.

It is made with as few git processes as there have to be, `git init` and `git checkout`: the rest is a few
small files. Nothing of it is flushed to disk: after a power loss the job begins anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.edge.git import cancelled_at, git, git_long

_UNFLUSHED = {"core.fsync": "none"}
#: A tree whose packs are no larger is checked out in a second or two: a watchdog would cost more than it
#: saves. Cancelled it can be all the same.
_SMALL_BYTES = 32 << 20
_UMASK = 0o022
_SHORT_SECONDS = 600.0


def make_job_clone(
    clone: Path,
    into: Path,
    source: str,
    branch: str,
    commit: str,
    cancelled: Callable[[], str | None] = lambda: None,
) -> None:
    """Makes a repository at `into`, an empty directory, on a branch of this name; nothing is checked out.

    `source` becomes the address of its remote. Raises CommandFailed, BuildFailed (cancelled).
    """
    words = ["--quiet", "--template=", f"--initial-branch={branch}"]
    words.append(f"--object-format={'sha256' if len(commit) == 64 else 'sha1'}")
    git("init", *words, cwd=into, settings=_UNFLUSHED)
    own = into / ".git"
    _link_objects(clone, own, cancelled)
    refs = {f"refs/heads/{branch}": commit, f"refs/remotes/origin/{branch}": commit}
    if _may_have_tags(clone):
        refs |= _tags(clone, commit)
    if _keeps_refs_as_files(own):
        for name, oid in refs.items():
            (own / name).parent.mkdir(parents=True, exist_ok=True)
            (own / name).write_text(f"{oid}\n", encoding="ascii")
    else:
        orders = "".join(f"create {name} {oid}\n" for name, oid in refs.items())
        git("update-ref", "--stdin", cwd=into, input=orders.encode(), settings=_UNFLUSHED)
    with (own / "config").open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(_settings(source, branch)))


def fill_tree(
    clone: Path,
    into: Path,
    branch: str,
    cancelled: Callable[[], str | None],
    small_bytes: int = _SMALL_BYTES,
) -> None:
    """Checks the branch out; one of more than `small_bytes` also ends with a pipeline that is killed.

    The modes of its files are the same under every umask: archives of a build hold them.
    Raises CommandFailed, BuildFailed (cancelled).
    """
    words = ("checkout", "--quiet", "--force", branch, "--")
    packs = sum(path.stat().st_size for path in clone.glob("objects/pack/*.pack"))
    if packs <= small_bytes:
        git(*words, cwd=into, settings=_UNFLUSHED, timeout=_SHORT_SECONDS, cancelled=cancelled, umask=_UMASK)
    else:
        git_long(*words, cwd=into, settings=_UNFLUSHED, cancelled=cancelled)


def _link_objects(clone: Path, own: Path, cancelled: Callable[[], str | None]) -> None:
    for folder, _, names in os.walk(clone / "objects"):
        target = own / "objects" / Path(folder).relative_to(clone / "objects")
        target.mkdir(exist_ok=True)
        if (reason := cancelled()) is not None:  # where nothing can be linked, all of it is copied
            raise cancelled_at("clone", reason)
        for name in names:
            if not name.startswith("tmp_"):
                _link_or_copy(Path(folder, name), target / name)
    if (clone / "shallow").exists():
        shutil.copy(clone / "shallow", own / "shallow")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy(source, target)


def _keeps_refs_as_files(repository: Path) -> bool:
    return not (repository / "reftable").exists()


def _may_have_tags(clone: Path) -> bool:
    if not _keeps_refs_as_files(clone) or any((clone / "refs" / "tags").glob("*")):
        return True
    packed = clone / "packed-refs"
    return packed.exists() and b" refs/tags/" in packed.read_bytes()


def _tags(clone: Path, commit: str) -> dict[str, str]:
    """Returns the tags that a commit can reach: what was tagged later must not change its build."""
    words = ("--format=%(objectname) %(refname)", f"--merged={commit}", "refs/tags")
    rows = (row.split(" ", 1) for row in git("for-each-ref", *words, cwd=clone).text.splitlines())
    return {name: oid for oid, name in rows}


def _settings(source: str, branch: str) -> Iterator[str]:
    yield '[remote "origin"]\n'
    yield f"\turl = {_quoted(source)}\n"
    yield f"\tfetch = {_quoted(f'+refs/heads/{branch}:refs/remotes/origin/{branch}')}\n"
    yield f"[branch {_quoted(branch)}]\n"
    yield "\tremote = origin\n"
    yield f"\tmerge = {_quoted(f'refs/heads/{branch}')}\n"


def _quoted(text: str) -> str:
    """Returns a text as git's configuration quotes it. Addresses and branches hold no control characters."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

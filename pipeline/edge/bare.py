"""Bare repositories of our own: made so that their writes survive a power loss, and kept small."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pipeline.edge.git_remote import environment
from pipeline.edge.process import run
from pipeline.errors import CommandFailed
from pipeline.records import paths

#: Maintenance: about this many loose objects make it due; what nothing reaches is kept for so long.
_LOOSE_LIMIT = 4096
_PACK_LIMIT = 20
_GRACE = "2.hours.ago"
_OWNED = "pipeline.owned"


def make_bare(folder: Path, *, branch: str = paths.DEFAULT_BRANCH) -> None:
    """Makes a bare repository whose writes survive a power loss and whose branches keep their history.

    Made beside its place and renamed, so that a half-made one is never used; of two at once one wins.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = folder.with_name(f"{folder.name}.{os.getpid()}.making")
    run(["git", "init", "--quiet", "--bare", f"--initial-branch={branch}", making], env=environment())
    settings = {
        "core.fsync": "all",
        "core.fsyncMethod": "batch",
        "receive.denyDeletes": "true",
        "receive.denyNonFastForwards": "true",
        "gc.auto": "0",
        "receive.autogc": "false",
        _OWNED: "true",
    }
    for key, value in settings.items():
        run(["git", "--git-dir", making, "config", key, value], env=environment())
    try:
        making.rename(folder)
    except OSError as exc:
        run(["rm", "-rf", "--", making])
        if not (folder / "HEAD").exists():
            raise CommandFailed(f"{folder} cannot be made: {exc.strerror}") from exc


def is_due(folder: Path) -> bool:
    """Says whether a repository, if there is one, has so many loose objects that they should be packed."""
    try:
        return len(list((folder / "objects/17").iterdir())) * 256 >= _LOOSE_LIMIT
    except OSError:
        return False


def maintain_bare(folder: Path, timeout: float) -> None:
    """Prunes and packs a repository, if it is our own. `timeout` bounds each step, in seconds.

    Safe against whoever reads and writes meanwhile: what is younger than two hours stays, whether
    anything reaches it or not. Steps aside for a push that is being received and for another maintenance.
    """
    git = ["git", "--git-dir", str(folder)]
    if run([*git, "config", _OWNED], env=environment(), check=False).returncode != 0:
        return
    with (folder / "maintenance.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        hour_ago = os.fstat(lock.fileno()).st_mtime - 3600
        if any(p.stat().st_mtime > hour_ago for p in (folder / "objects").glob("*incoming*")):
            return
        steps = [["prune", f"--expire={_GRACE}"], ["repack", "-d", "--quiet"]]
        if len(list((folder / "objects/pack").glob("*.pack"))) >= _PACK_LIMIT:
            steps.append(["repack", "-d", "--quiet", "--geometric=2"])
        for step in steps:
            run([*git, *step], env=environment(), timeout=timeout, check=False)

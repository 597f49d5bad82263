"""A job's own directory, and the place where the build sees it.

    <work>/jobs/<job>.<attempt>/
      build/cloudstack/     the source tree; packages land in its parent, `build/`
      home/                 HOME; home/.m2/repository is the job's own Maven repository
      bin/                  stand-ins that come first on PATH
      tmp/                  TMPDIR
      journal.json          while something runs: what (see `edge.survivors`)
      state.json            how far the build got, for a resumed one

The tree's path gets into what is built (webpack's source maps hold it). So where the machine allows a mount
namespace, the whole directory is bound over FIXED_ROOT, for the build's processes alone: nothing is made on
the host, and every builder builds in /media/build/cloudstack. /media is there on every Debian and Ubuntu, it
is a place for mounts, and servers keep nothing in it; what is mounted there the build cannot see.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.builds.maven_repository import Populated, populate
from pipeline.edge.mounts import probe_mounts
from pipeline.edge.plain_file import read_plain
from pipeline.edge.process import run
from pipeline.errors import BuildFailed, RecordInvalid, UsageError
from pipeline.records.base import load_json
from pipeline.records.names import check_name

FIXED_ROOT = "/media"
_TREE = "build/cloudstack"
_REMOVING = ".removing-"
_EMPTY_SETTINGS = "<settings/>\n"


@dataclass(frozen=True)
class Place:
    """Where builds lie: `fixed`, at the path that every builder uses, or `why` not.

    `at` is where a build sees its directory if it is `fixed`; another one only where it is made again.
    """

    work: Path
    fixed: bool
    why: str | None = None
    at: str = FIXED_ROOT

    def build_path(self, job: str, attempt: int) -> str:
        """Returns the path of the tree as the build sees it: for the recipe."""
        root = self.at if self.fixed else str(self.work / "jobs" / f"{job}.{attempt}")
        return f"{root}/{_TREE}"


@dataclass(frozen=True)
class Workspace:
    """The directory of one attempt. Paths are the host's; `inside` gives the build's."""

    root: Path
    fixed: bool
    at: str = FIXED_ROOT

    @property
    def tree(self) -> Path:
        return self.root / _TREE

    @property
    def output(self) -> Path:
        """Where packages land: the tree's parent."""
        return self.tree.parent

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def repository(self) -> Path:
        return self.home / ".m2" / "repository"

    @property
    def settings(self) -> Path:
        """The job's Maven settings; empty ones until somebody writes others."""
        return self.home / ".m2" / "settings.xml"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def journal(self) -> Path:
        return self.root / "journal.json"

    @property
    def mounts(self) -> list[tuple[str, str]]:
        """What the build's processes get mounted."""
        return [(str(self.root), self.at)] if self.fixed else []

    def inside(self, path: Path) -> str:
        """Returns a path as the build sees it."""
        if self.fixed and path.is_relative_to(self.root):
            return str(Path(self.at) / path.relative_to(self.root))
        return str(path)

    def note(self, **facts: object) -> None:
        """Keeps facts about how far the build got."""
        path = self.root / "state.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({**self.facts(), **facts}, sort_keys=True), encoding="utf-8")
        temporary.replace(path)

    def facts(self) -> dict[str, object]:
        """Returns what was noted; empty where nothing was."""
        try:
            found = load_json(read_plain(self.root / "state.json"), "state.json")
        except (OSError, RecordInvalid):
            return {}
        return found if isinstance(found, dict) else {}


def choose_place(
    work: Path,
    needed: Iterable[Path | str] = (),
    probe: Callable[[str, str], str | None] = probe_mounts,
    *,
    reproducible: bool = True,
) -> Place:
    """Finds out where builds on this machine lie. `needed` are paths that a build has to see: cache, tools.

    One that need not be `reproducible` lies at a path of its own.

    Raises UsageError when there is no fixed path and `work` holds a space: Maven's own options cannot.
    """
    work = work.resolve()
    hidden = [str(path) for path in needed if _is_under(Path(path), Path(FIXED_ROOT))]
    if not reproducible:
        why: str | None = "the recipe does not ask for the same packages everywhere (`reproducible`)"
    elif hidden:
        why = f"the build needs {hidden[0]}, which a mount on {FIXED_ROOT} would hide"
    elif not Path(FIXED_ROOT).is_dir() or Path(FIXED_ROOT).is_symlink():
        why = f"there is no directory {FIXED_ROOT} to mount on"
    else:
        work.mkdir(parents=True, exist_ok=True)
        why = probe(str(work), FIXED_ROOT)
    if why is not None and any(char.isspace() or char in "'\"$\\" for char in str(work)):
        raise UsageError(
            f"Builds cannot lie in {str(work)!r}: without a mount namespace ({why}) their path gets into "
            "Maven's options, which hold no spaces or quotes.",
            remedy="Set `work` to a directory without such characters.",
        )
    return Place(work, fixed=why is None, why=why)


def create(
    place: Place, job: str, attempt: int, cache: Path, leave_out: Collection[str] = ()
) -> tuple[Workspace, Populated]:
    """Makes the directory of one attempt, with a Maven repository over `<cache>/maven`.

    `leave_out` are folders of the cache that this job does not take. Raises BuildFailed (disk) when the
    disk is full, UsageError for a directory that is there already.
    """
    workspace = make(place, job, attempt)
    return workspace, fill(workspace, cache, leave_out)


def make(place: Place, job: str, attempt: int) -> Workspace:
    """Makes the directory of one attempt, without a Maven repository. Raises as `create`."""
    workspace = Workspace(place.work / "jobs" / f"{check_name('job', job)}.{attempt}", place.fixed, place.at)
    with _said_when_full(workspace.root):
        try:
            workspace.root.mkdir(parents=True)
        except FileExistsError as exc:
            raise UsageError(
                f"The directory of this attempt is there already: {workspace.root}.",
                remedy="`invoke recover` clears what former builds left.",
            ) from exc
        for folder in (workspace.output, workspace.home / ".m2", workspace.bin, workspace.temporary):
            folder.mkdir(parents=True)
        workspace.settings.write_text(_EMPTY_SETTINGS, encoding="utf-8")
    return workspace


def fill(workspace: Workspace, cache: Path, leave_out: Collection[str] = ()) -> Populated:
    """Makes an attempt's Maven repository over `<cache>/maven`. Raises as `create`."""
    with _said_when_full(workspace.root):
        return populate(cache / "maven", workspace.repository, leave_out)


@contextmanager
def _said_when_full(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BuildFailed(
            f"The disk of {root.parents[1]} is full.",
            failure_class="disk",
            remedy="Free disk space: `invoke artifacts.prune --keep 3` shows what can go.",
        ) from exc


def find(place: Place, job: str, attempt: int) -> Workspace | None:
    """Returns the directory of a former attempt, to go on in it; None when it is gone."""
    workspace = Workspace(place.work / "jobs" / f"{check_name('job', job)}.{attempt}", place.fixed, place.at)
    return workspace if workspace.tree.is_dir() else None


def leftovers(work: Path) -> list[Path]:
    """Returns the directories of attempts that lie below `work`, oldest name first."""
    jobs = work / "jobs"
    if not jobs.is_dir():
        return []
    return sorted(path for path in jobs.iterdir() if path.is_dir() and not path.name.startswith("."))


def remove(root: Path) -> None:
    """Removes an attempt's directory. Half removed it bears another name, and `clear` finishes it."""
    doomed = root.with_name(f"{_REMOVING}{root.name}")
    try:
        root.rename(doomed)
    except FileNotFoundError:
        return
    _remove_tree(doomed)


def clear(work: Path) -> None:
    """Finishes removals that were interrupted."""
    for doomed in (work / "jobs").glob(f"{_REMOVING}*"):
        _remove_tree(doomed)


def _remove_tree(root: Path) -> None:
    # A program of its own: it is quicker by half, and the pipeline's other threads go on meanwhile.
    if run(["rm", "-rf", "--", root], check=False).returncode == 0:
        return
    # A build may leave directories without write permission.
    for folder, subfolders, _ in os.walk(root):
        for name in subfolders:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(root)


def _is_under(path: Path, root: Path) -> bool:
    return path.is_relative_to(root) or path.resolve().is_relative_to(root)

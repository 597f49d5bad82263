"""Runs one build: Maven and the packaging, in one pass over the reactor. Knows of no queue and no ledger.

    environment and command (`commands`) -> supervised process tree (`edge.supervisor`)
        -> log file, lines -> progress, clues (`progress`, `failure`) -> events, outcome

CloudStack's `debian/rules` runs the whole reactor itself. So Maven runs once, and the two recorded stages,
`maven` and `packages`, are told apart in the output: the first ends where Maven says BUILD SUCCESS or
BUILD FAILURE. While it runs, cancellation, disk and memory are looked at; the timeout is the watchdog's.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from pipeline.builds import commands
from pipeline.builds.commands import Surroundings
from pipeline.builds.eta import time_left
from pipeline.builds.failure import Clues, Ending, classify
from pipeline.builds.progress import ModuleFinished, ModuleStarted, Progress, ReactorFinished
from pipeline.builds.workspace import Workspace
from pipeline.edge.lines import Lines, strip_ansi
from pipeline.edge.resources import Resources, SystemResources
from pipeline.edge.supervisor import Ended, Standby, Supervised
from pipeline.errors import CommandFailed, UsageError
from pipeline.records.builds import Failure, Manifest, ModuleTime, Recipe, Stage

StageName = Literal["maven", "packages"]
_PRUNED = frozenset({".git", "node_modules", "src", "debian"})
_BESIDE = ("-sources.jar", "-tests.jar", "-javadoc.jar")
_GIB = 1 << 30


@dataclass(frozen=True)
class StageStarted:
    name: str


@dataclass(frozen=True)
class StageFinished:
    name: str
    seconds: float
    status: Literal["success", "failed", "skipped"]


@dataclass(frozen=True)
class TimeLeft:
    """How long the build still takes, going by the last successful ones."""

    seconds: float


@dataclass(frozen=True)
class Notice:
    """Something that a person should know; the build goes on."""

    text: str


BuildEvent = StageStarted | StageFinished | ModuleStarted | ModuleFinished | TimeLeft | Notice


@dataclass(frozen=True)
class Limits:
    """When a running build is ended: less than this many bytes left, looked at this often."""

    disk_bytes: int = _GIB
    memory_bytes: int = 256 << 20
    interval_seconds: float = 2.0
    time_left_seconds: float = 5.0


@dataclass(frozen=True)
class BuildOutcome:
    """What a build left. Paths are the host's. `failure` is None exactly for status `success`.

    `packages` are the DEBs with their .changes and .buildinfo, `jars` the reactor's jars and wars. `left`
    are the pids of processes that could not be ended.
    """

    status: Literal["success", "failed"]
    failure: Failure | None
    stages: tuple[Stage, ...]
    modules: tuple[ModuleTime, ...]
    packages: tuple[Path, ...]
    jars: tuple[Path, ...]
    exit_status: int | None
    killed_by: int | None
    peak_memory_bytes: int
    cpu_seconds: float
    log_path: Path
    log_bytes: int
    log_lines: int
    resumed: bool = False
    notes: tuple[str, ...] = ()
    left: tuple[int, ...] = ()


def build(
    recipe: Recipe,
    workspace: Workspace,
    around: Surroundings,
    *,
    log_path: Path,
    on_event: Callable[[BuildEvent], None] = lambda event: None,
    cancelled: Callable[[], str | None] = lambda: None,
    history: Sequence[Manifest] = (),
    limits: Limits | None = None,
    resources: Resources | None = None,
    standby: Standby | None = None,
) -> BuildOutcome:
    """Builds the tree of `workspace` and says how it ended; a failed build is an outcome, not an exception.

    `cancelled` returns why the build shall end, or None; it is asked twice a second. `history` are manifests
    of the last successful builds, newest first. `standby` is a watchdog that has started already. With
    `recipe.resumed_from` the build goes on after Maven, in the directory of the attempt that failed;
    UsageError is raised where that cannot be.
    """
    resumed = recipe.resumed_from is not None
    if resumed:
        why = commands.why_not_resumable(recipe, workspace)
        if why is not None:
            raise UsageError(f"The build cannot be resumed: {why}.", remedy="Build anew: `invoke job.retry`.")
        commands.rewind_packaging(workspace.tree)
        shutil.rmtree(workspace.tree / "debian" / "tmp", ignore_errors=True)
    run = _Run(recipe, workspace, on_event, history, limits or Limits(), resources or SystemResources())
    return run.run(around, log_path, cancelled, standby)


class _Run:
    """One build while it runs."""

    def __init__(
        self,
        recipe: Recipe,
        workspace: Workspace,
        on_event: Callable[[BuildEvent], None],
        history: Sequence[Manifest],
        limits: Limits,
        resources: Resources,
    ) -> None:
        self._recipe = recipe
        self._workspace = workspace
        self._on_event = on_event
        self._limits = limits
        self._resources = resources
        self._past = [manifest.modules for manifest in history]
        self._past_packaging = [
            stage.duration_seconds for past in history for stage in past.stages if stage.name == "packages"
        ]
        self._resumed = recipe.resumed_from is not None
        self._packages = self._resumed or (recipe.packages and commands.has_packaging(workspace.tree))
        self._stage: StageName = "packages" if self._resumed else "maven"
        self._progress = Progress(recipe.threads)
        self._clues = Clues(stage=self._stage)
        self._lines = Lines()
        self._line = 0
        self._maven_ended: float | None = None
        self._next_look = 0.0
        self._next_estimate = 0.0
        self._stages: list[Stage] = []
        self._notes: list[str] = []

    def run(
        self,
        around: Surroundings,
        log_path: Path,
        cancelled: Callable[[], str | None],
        standby: Standby | None,
    ) -> BuildOutcome:
        recipe, workspace = self._recipe, self._workspace
        if recipe.packages and not self._packages:
            self._notice("The tree has no debian/rules: Maven installs it, and there will be no packages.")
        self._on_event(StageStarted(self._stage))
        self._line = _line_count(log_path)
        with log_path.open("ab", buffering=0) as log:
            tree = Supervised(
                commands.command(recipe, workspace, around),
                cwd=workspace.inside(workspace.tree),
                env=commands.environment(recipe, workspace, around),
                marker=around.marker,
                journal=workspace.journal,
                deadline_seconds=recipe.timeout_seconds or None,
                umask=int(recipe.umask, 8),
                mounts=[*workspace.mounts, *around.mounts],
                host=around.host,
                user=around.user,
                standby=standby,
            )
            writer = _LogWriter(log, tree)
            try:
                with tree:
                    ended = tree.run(
                        lambda data: self._take(writer, data, tree), poll=lambda at: self._look(at, cancelled)
                    )
            except CommandFailed as exc:
                # The program is not there, or the namespace is not to be had: a failed build like any other.
                writer.write(f"{exc}\n".encode())
                return self._outcome(_never_started(), exc, log_path)
            for text in self._lines.close():
                self._read(text, ended.seconds)
        return self._outcome(ended, None, log_path)

    # -- while it runs -------------------------------------------------------------------------------

    def _take(self, writer: _LogWriter, data: bytes, tree: Supervised) -> None:
        writer.write(data)
        lines = self._lines.feed(data)
        if lines:
            at = tree.elapsed()
            for line in lines:
                self._read(line, at)

    def _read(self, line: str, at: float) -> None:
        self._line += 1
        line = strip_ansi(line)
        self._clues.feed(self._line, line)
        for event in self._progress.feed(line, at):
            if not isinstance(event, ReactorFinished):
                self._on_event(event)
            elif self._stage == "maven":
                self._end_maven(event)

    def _end_maven(self, event: ReactorFinished) -> None:
        self._end_stage(event.at, success=event.success)
        if not event.success:
            return
        self._maven_ended = event.at
        self._workspace.note(maven="success", commit=self._recipe.commit)
        if self._packages:
            self._stage = self._clues.stage = "packages"
            self._on_event(StageStarted("packages"))

    def _end_stage(self, at: float, *, success: bool) -> None:
        seconds = round(at - sum(stage.duration_seconds for stage in self._stages), 3)
        status: Literal["success", "failed"] = "success" if success else "failed"
        self._stages.append(Stage(name=self._stage, duration_seconds=seconds, status=status))
        self._on_event(StageFinished(self._stage, seconds, status))

    def _look(self, at: float, cancelled: Callable[[], str | None]) -> str | None:
        """Returns why the build has to end now, or None. The first word names the kind for `classify`."""
        why = cancelled()
        if why is not None:
            return f"cancelled: {why}"
        if at >= self._next_estimate:
            self._next_estimate = at + self._limits.time_left_seconds
            self._estimate(at)
        if at < self._next_look:
            return None
        self._next_look = at + self._limits.interval_seconds
        disk = self._resources.disk_free_bytes(self._workspace.root)
        if disk < self._limits.disk_bytes:
            return f"disk: {disk / _GIB:.1f} GiB are left, {self._limits.disk_bytes / _GIB:.1f} are needed."
        memory = self._resources.memory_available_bytes()
        if memory < self._limits.memory_bytes:
            floor = self._limits.memory_bytes >> 20
            return f"memory: {memory >> 20} MiB are left, {floor} are needed."
        return None

    def _estimate(self, at: float) -> None:
        if self._resumed:
            left = self._past_packaging[0] - at if self._past_packaging else None
        else:
            packaging = self._past_packaging if self._packages else ()
            modules = self._progress.modules()
            left = time_left(self._past, modules, at, packaging=packaging, maven_ended=self._maven_ended)
        if left is not None:
            self._on_event(TimeLeft(max(0.0, left)))

    def _notice(self, text: str) -> None:
        self._notes.append(text)
        self._on_event(Notice(text))

    # -- afterwards ----------------------------------------------------------------------------------

    def _outcome(self, ended: Ended, problem: CommandFailed | None, log_path: Path) -> BuildOutcome:
        success = ended.exit_status == 0 and ended.reason is None and self._maven_came_through()
        self._close_stages(ended, success=success)
        if ended.left:
            self._notice(f"Processes that could not be ended: {', '.join(map(str, ended.left))}.")
        failure = None if success else self._failure(ended, problem)
        return BuildOutcome(
            status="success" if success else "failed",
            failure=failure,
            stages=tuple(self._stages),
            modules=tuple(self._progress.modules()),
            packages=tuple(_packages(self._workspace.output)),
            jars=tuple(sorted(_jars(self._workspace.tree))),
            exit_status=ended.exit_status,
            killed_by=ended.killed_by,
            peak_memory_bytes=ended.peak_memory_bytes,
            cpu_seconds=ended.cpu_seconds,
            log_path=log_path,
            log_bytes=log_path.stat().st_size,
            log_lines=self._line,
            resumed=self._resumed,
            notes=tuple(self._notes),
            left=ended.left,
        )

    def _close_stages(self, ended: Ended, *, success: bool) -> None:
        """Ends the stage that runs; one that was never reached is recorded as skipped."""
        if self._stage not in {stage.name for stage in self._stages}:
            self._end_stage(ended.seconds, success=success)
        if self._packages and self._stage == "maven":
            self._stages.append(Stage(name="packages", duration_seconds=0.0, status="skipped"))

    def _maven_came_through(self) -> bool:
        return self._resumed or self._progress.finished is True

    def _failure(self, ended: Ended, problem: CommandFailed | None) -> Failure:
        if problem is not None:
            values = {"class": "toolchain", "message": problem.message, "remedy": problem.remedy}
            return Failure.model_validate(values)
        ending = Ending(self._stage, ended.exit_status, ended.killed_by, ended.reason, ended.oom_kills)
        tree = self._workspace.tree
        seen = (self._workspace.inside(tree), str(tree))
        return classify(ending, self._clues, self._progress.modules(), tree=seen)


class _LogWriter:
    """Writes the raw log. A disk that is full ends the build; what is read after that is still parsed."""

    def __init__(self, log: BinaryIO, tree: Supervised) -> None:
        self._log = log
        self._tree = tree
        self._broken = False

    def write(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            while data:
                data = data[self._log.write(data) :]
        except OSError as exc:
            self._broken = True
            what = "the disk is full" if exc.errno in (errno.ENOSPC, errno.EDQUOT) else str(exc.strerror)
            self._tree.end(f"disk: the log cannot be written, {what}.")


def _line_count(path: Path) -> int:
    """Returns the lines of a log that is continued: line numbers are those of the whole file."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def _never_started() -> Ended:
    return Ended(exit_status=None, killed_by=None, reason=None, seconds=0.0)


def _packages(output: Path) -> list[Path]:
    found = [*output.glob("*.deb"), *output.glob("*.changes"), *output.glob("*.buildinfo")]
    return sorted(path for path in found if path.is_file())


def _jars(tree: Path) -> Iterator[Path]:
    """Yields every module's own jars and wars, which lie directly in its target folder.

    Sources, tests and what shade leaves of the original are no results of a build.
    """
    for folder, subfolders, names in os.walk(tree):
        if Path(folder).name == "target":
            subfolders.clear()
            for name in names:
                aside = name.startswith("original-") or name.endswith(_BESIDE)
                if name.endswith((".jar", ".war")) and not aside and not Path(folder, name).is_symlink():
                    yield Path(folder, name)
        subfolders[:] = [name for name in subfolders if name not in _PRUNED]

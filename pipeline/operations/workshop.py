"""Makes a job's build again, in another environment if need be: real builds, in a folder of their own.

Nothing of it gets into the ledger or among the artifacts. The folder of the rebuilds bears the name of one
whose removal was begun, so that whatever a killed command leaves of it goes with the next recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from pipeline.builds import workspace
from pipeline.builds.stage import Stage, Values, look
from pipeline.builds.workspace import Place
from pipeline.errors import Interrupted, PipelineError
from pipeline.operations.attempt import wanted_of
from pipeline.operations.construct import construct
from pipeline.operations.failures import failure_of, of_os_error
from pipeline.operations.prepare import Prepared, prepare
from pipeline.operations.site import Site
from pipeline.records.builds import Environment, Failure, FailureClass, Manifest, Recipe
from pipeline.records.jobs import Job
from pipeline.records.secrets import mask_record

#: A removal that was begun: `recover` finishes it.
_FOLDER: Final = ".removing-rebuilds"
_TOKEN: Final = "rebuild"


@dataclass(frozen=True)
class Made:
    """One build that was made again: the folder of its files, or why there is none, and when it ran.

    `hopeless` says that no other would come further: the disk is full.
    """

    folder: Path | None
    problem: str | None
    begun: datetime
    ended: datetime
    seconds: float
    hopeless: bool = False


class Maker(Protocol):
    """Makes builds again. What the operation of rebuilding needs of a machine."""

    #: What differs from what was recorded, in sentences.
    notes: list[str]

    def why_not(self, thing: str, value: str) -> str | None:
        """Returns why a build here cannot have a value of a thing, or None where it can."""

    def exact(self, thing: str, value: str) -> bool:
        """Says whether it would have just this value."""

    def make(self, values: Values) -> Made:
        """Makes one build with these values. Raises Interrupted."""


class Workshop:
    """The one that builds for real. Use `open_workshop`, which removes what it leaves."""

    def __init__(
        self,
        site: Site,
        job: Job,
        prepared: Prepared,
        stage: Stage,
        folder: Path,
        stop: Callable[[], str | None],
    ) -> None:
        self._site, self._job, self._prepared, self._stage = site, job, prepared, stage
        self._folder, self._stop = folder, stop
        self._count = 0
        self.notes: list[str] = []

    def why_not(self, thing: str, value: str) -> str | None:
        """Returns why a build here cannot have a value of a thing, or None where it can."""
        return self._stage.why_not(thing, value)

    def exact(self, thing: str, value: str) -> bool:
        """Says whether it would have just this value."""
        return self._stage.exact(thing, value)

    def make(self, values: Values) -> Made:
        """Makes one build with these values. Raises Interrupted."""
        self._count += 1
        clock = self._site.clock
        begun, started = clock.now(), clock.boottime()
        variation = self._stage.variation(values)
        place = self._stage.place(self._folder, values.get("folder", ""))
        prepared = replace(self._prepared, recipe=variation.of_recipe(self._prepared.recipe), place=place)
        settings = replace(
            self._site.settings, work=self._folder, artifacts=self._folder / "made" / str(self._count)
        )
        site = replace(self._site, settings=settings, variation=variation, seal=None, sign=None)
        if variation.backwards and not place.fixed:
            # What lists files backwards would lie over itself.
            problem = "the order of files can be reversed only where the build sees another folder"
            return Made(None, problem, begun, begun, 0.0)
        failure: Failure | None = None
        kept: Path | None = None
        with _mount_point(place):
            try:
                job = self._job
                built = construct(site, job, _TOKEN, job.attempt, prepared, self._stop, lambda facts: None)
                failure = built.failure
                kept = built.folder if built.status == "succeeded" else None
            except PipelineError as exc:
                failure = failure_of(exc)
            except OSError as exc:
                failure = of_os_error(exc)
        if (why := self._stop()) is not None:
            raise Interrupted(
                f"Building again was {why}.", remedy="`invoke compare` shows the comparison as it was before."
            )
        with suppress(OSError, PipelineError):
            workspace.remove(place.work / "jobs" / f"{self._job.id}.{self._job.attempt}")
        return Made(
            kept,
            None if kept else _words(failure),
            begun,
            clock.now(),
            clock.boottime() - started,
            failure is not None and failure.failure_class == FailureClass.DISK,
        )


@contextmanager
def open_workshop(
    site: Site, job: Job, manifest: Manifest, stop: Callable[[], str | None]
) -> Iterator[Workshop]:
    """Prepares to make a job's build again, by the recipe of its manifest; removes all of it afterwards.

    Raises what keeps any build from beginning (SourceError, PreflightFailed, ConfigInvalid).
    """
    own = replace(site, variation=None)
    prepared = prepare(own, wanted_of(job))
    folder = site.settings.work / "jobs" / _FOLDER
    _clear(folder)
    try:
        environment = prepared.environment or Environment()
        stage = look(environment, folder, site.settings.work.parent)
        recipe = as_recorded(prepared.recipe, manifest.recipe)
        workshop = Workshop(site, job, replace(prepared, recipe=recipe), stage, folder, stop)
        workshop.notes += changed_since(prepared.recipe, manifest.recipe)
        yield workshop
    finally:
        _clear(folder)


def as_recorded(now: Recipe, recorded: Recipe | None) -> Recipe:
    """Returns a recorded recipe with this machine's tools; what was masked in it as it is now. PURE."""
    if recorded is None:
        return now
    shown = mask_record(now)
    fields = {
        name: getattr(now if getattr(shown, name) == getattr(recorded, name) else recorded, name)
        for name in type(now).model_fields
        if name != "toolchain"
    }
    own = {name: now.environment[name] for name in ("JAVA_HOME",) if name in now.environment}
    environment = {**fields["environment"], **own}
    return now.model_copy(update={**fields, "environment": environment})


def changed_since(recipe: Recipe, recorded: Recipe | None) -> list[str]:
    """Says which tools are others now than when the build was made first. PURE."""
    then, now = (recorded.toolchain if recorded else None), recipe.toolchain
    if then is None or now is None:
        return []
    changed = [
        f"{name} {getattr(then, name)} → {getattr(now, name)}"
        for name in type(now).model_fields
        if getattr(then, name) != getattr(now, name)
    ]
    return [f"Tools have changed since it was built first: {', '.join(changed)}."] if changed else []


@contextmanager
def _mount_point(place: Place) -> Iterator[None]:
    """Has a directory where a build is to see its own, while it runs."""
    made: list[Path] = []
    if place.fixed:
        at = Path(place.at)
        made = [each for each in (at, *at.parents) if not each.exists()]
        at.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for each in made:
            with suppress(OSError):
                each.rmdir()


def _clear(folder: Path) -> None:
    if folder.exists():
        workspace.clear(folder.parent.parent)


def _words(failure: Failure | None) -> str:
    if failure is None:
        return "nothing was built"
    where = f" in {failure.module}" if failure.module else ""
    remedy = f" {failure.remedy}" if failure.remedy else ""
    return f"{failure.failure_class}{where}: {failure.message}{remedy}"

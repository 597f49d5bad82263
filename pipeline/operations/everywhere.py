"""Has every builder build one commit, and waits; compares whatever is new; sets times side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from pipeline.errors import ComparisonIncomplete, Interrupted, LedgerUnreachable, RecordInvalid, UsageError
from pipeline.operations import site as sites
from pipeline.operations.agreement import Reach, all_jobs, compare_builds
from pipeline.operations.attempt import Interruption
from pipeline.operations.build import Order, build
from pipeline.operations.choosing import Asked, choose, latest
from pipeline.operations.queue import manifest_path
from pipeline.operations.report import Report
from pipeline.operations.site import Site
from pipeline.records.base import load
from pipeline.records.builds import Manifest
from pipeline.records.comparison import Comparison
from pipeline.records.decisions import View
from pipeline.records.jobs import Job

#: So often the ledger is asked whether others have finished.
LOOK_SECONDS: Final = 10.0

Run = Callable[[Site, Order], list[Report]]


def build_everywhere(
    site: Site, asked: Asked, *, others: bool = True, stop: Interruption | None = None, run: Run = build
) -> Asked:
    """Has every builder that lacks it build the commit that is asked for; returns what to compare then.

    The others' jobs are ordered first, then this machine builds, then it waits for them; without `others`
    only this machine builds. A branch without a commit is its newest commit; nothing is what was built last.
    Raises ComparisonIncomplete where one does not succeed, Interrupted while it waits: the orders stay.
    """
    if asked.jobs:
        raise UsageError("A job was built already.", remedy="Give --build with --branch or --commit.")
    jobs = all_jobs(site.state().view)
    newest = latest(jobs, asked)
    if newest is None and not asked.branch:
        raise UsageError(
            "Which branch is to be built?", remedy="`invoke compare --build --branch ExternalNew`"
        )
    branch = asked.branch or (newest.branch if newest else "")
    commit = newest.commit if newest and (asked.commit or not asked.branch) else asked.commit or None
    names = [each.name for each in sites.registry(site.state(fresh=False).view).builders if each.builds]
    names = [name for name in names if name == site.builder or others]
    ordered = []
    for name in sorted(names, key=lambda name: name == site.builder):
        if commit and _has(jobs, name, branch, commit):
            continue
        on = None if name == site.builder else name
        report = run(site, Order(branch=branch, commit=commit, on=on))[-1]
        commit = report.commit
        if report.status not in ("queued", "succeeded"):
            raise ComparisonIncomplete(
                f"{name} has not built {branch} at {report.commit[:12]} ({report.status}).",
                remedy=f"`invoke job.show {report.job_id}` tells why.",
            )
        if report.status == "queued":
            ordered.append(report.job_id)
    _wait(site, ordered, stop or Interruption())
    return Asked(commit=commit or "", branch=branch)


def _has(jobs: Sequence[Job], builder: str, branch: str, commit: str) -> bool:
    return any(
        (job.assigned_to, job.branch, job.commit, job.outcome) == (builder, branch, commit, "succeeded")
        for job in jobs
    )


def _wait(site: Site, ids: Sequence[str], stop: Interruption) -> None:
    """Waits until jobs have ended. Raises ComparisonIncomplete for one that did not succeed."""
    told: dict[str, str] = {}
    with stop.listening():
        while True:
            jobs = [job for job in all_jobs(_view(site)) if job.id in ids]
            for job in jobs:
                if told.get(job.id) != job.status:
                    told[job.id] = job.status
                    site.say(f"{job.target or job.assigned_to}: {job.id} is {job.outcome or job.status}")
                if job.ended and job.outcome != "succeeded":
                    who = job.assigned_to or job.target
                    raise ComparisonIncomplete(
                        f"{who} has not built {job.branch}: {job.id} is {job.outcome}.",
                        remedy=f"`invoke job.show {job.id}` tells why.",
                    )
            if all(job.ended for job in jobs):
                return
            if (reason := stop.reason()) is not None:
                raise Interrupted(f"{reason[0].upper()}{reason[1:]}. Still ordered: {', '.join(ids)}.")
            site.clock.sleep(LOOK_SECONDS)


def _view(site: Site) -> View:
    """Returns the ledger's state; what was seen last while the remote does not answer."""
    try:
        return site.state().view
    except LedgerUnreachable:
        return site.state(fresh=False).view


def watch(
    site: Site, asked: Asked, ways: Sequence[Reach], stop: Interruption | None = None
) -> Iterator[Comparison]:
    """Yields a comparison whenever there are builds to compare that were not compared yet, until a signal."""
    stop = stop or Interruption()
    seen: list[str] = []
    with stop.listening():
        while stop.reason() is None:
            with suppress(ComparisonIncomplete):
                found = [job.id for job in choose(all_jobs(_view(site)), asked)]
                if found != seen:
                    seen = found
                    yield compare_builds(site, asked, ways)
            site.clock.sleep(LOOK_SECONDS)


@dataclass(frozen=True)
class Timings:
    """How long stages and modules took, in seconds: name -> one value for each builder, None: not run."""

    commit: str
    builders: list[str]
    stages: dict[str, list[float | None]] = field(default_factory=dict)
    modules: dict[str, list[float | None]] = field(default_factory=dict)


def timings(site: Site, asked: Asked) -> Timings:
    """Sets the times of builds of one commit side by side. Raises ComparisonIncomplete for a bad manifest."""
    view = site.state().view
    jobs = choose(all_jobs(view), asked)
    made = []
    for job in jobs:
        path = manifest_path(job) or ""
        try:
            made.append(load(Manifest, view.read(path) or b"", path))
        except RecordInvalid as exc:
            raise ComparisonIncomplete(f"The manifest of {job.id} cannot be read: {exc.message}") from exc
    stages = [{each.name: each.duration_seconds for each in one.stages} for one in made]
    modules = [{each.name: each.duration_seconds for each in one.modules} for one in made]
    return Timings(jobs[0].commit, [str(job.assigned_to) for job in jobs], _beside(stages), _beside(modules))


def _beside(
    sides: Sequence[dict[str, float]] | Sequence[dict[str, float | None]],
) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for side in sides for name in side)
    return {name: [side.get(name) for side in sides] for name in names}

"""Has every builder build one commit, and waits; compares whatever is new; sets times side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pipeline.errors import (
    ComparisonIncomplete,
    Interrupted,
    LedgerUnreachable,
    NotRevealed,
    PipelineError,
    RecordInvalid,
    UsageError,
)
from pipeline.operations import site as sites
from pipeline.operations.agreement import Reach, all_jobs, compare_builds
from pipeline.operations.attempt import Interruption
from pipeline.operations.build import Order, build
from pipeline.operations.choosing import Asked, choose, latest
from pipeline.operations.ordering import commit_of
from pipeline.operations.queue import find, manifest_path
from pipeline.operations.report import Report
from pipeline.operations.rounds import insist_on_reveals, round_of_all, waiting_round
from pipeline.operations.secret import reveal_ready
from pipeline.operations.site import Site
from pipeline.records.base import load
from pipeline.records.builds import Manifest
from pipeline.records.comparison import Comparison
from pipeline.records.decisions import View
from pipeline.records.jobs import Job

#: So often the ledger is asked whether others have finished.
LOOK_SECONDS: Final = 10.0

Run = Callable[[Site, Order], list[Report]]
#: Finds which commit an order means.
Resolve = Callable[[Site, Order], str]
#: Returns the site of a builder that is on this machine.
Become = Callable[[str], Site]


def build_everywhere(
    site: Site,
    asked: Asked,
    *,
    here: Sequence[str] = (),
    become: Become | None = None,
    stop: Interruption | None = None,
    run: Run = build,
    resolve: Resolve = commit_of,
) -> Asked:
    """Has every builder that lacks it build the commit that is asked for; returns what to compare then.

    The others' jobs are ordered first, then this machine builds, then it waits for them. Where all builders
    are `here`, only this one builds, and on a branch where builders commit first, all do, each as `become`
    says. There all are ordered as one round; it is waited for until each has revealed. A branch without a
    commit is its newest commit; nothing is what was built last. Raises ComparisonIncomplete where one does
    not succeed, Interrupted while it waits: the orders stay.
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
    if len(names) > 1 and site.commits_first(branch):
        order = Order(branch=branch, commit=commit or resolve(site, Order(branch=branch)))
        mine = {name: become(name) for name in here} if become else {site.builder: site}
        return _in_a_round(site, order, names, mine, stop or Interruption(), run)
    names = [name for name in names if name == site.builder or not here]
    ordered = []
    for name in sorted(names, key=lambda name: name == site.builder):
        if commit and _has(jobs, name, branch, commit):
            continue
        on = None if name == site.builder else name
        report = run(site, Order(branch=branch, commit=commit, on=on))[-1]
        commit = report.commit
        _insist_on_success(name, report)
        if report.status == "queued":
            ordered.append(report.job_id)
    _wait(site, ordered, stop or Interruption())
    return Asked(commit=commit or "", branch=branch)


def _in_a_round(
    site: Site, order: Order, names: Sequence[str], mine: dict[str, Site], stop: Interruption, run: Run
) -> Asked:
    """Has all builders build a commit in one round, those of this machine here; waits for all reveals.

    A round in which all have committed is not made again: what one says is known by now.
    """
    view = site.state(fresh=False).view
    its = round_of_all(view, all_jobs(view), order.branch, order.commit or "", names)
    if its is None:
        reports = run(site, replace(order, on=",".join(names)))
        jobs = {report.builder: report.job_id for report in reports}
    else:
        site.say(f"All have built {order.branch} at {str(order.commit)[:12]} already, in round {its.id}.")
        jobs = dict(its.participants)
    for name, own in mine.items():
        job, _ = find(own.state().view, jobs[name]) if name in jobs else (None, None)
        if job is not None and job.status == "queued":
            _insist_on_success(name, run(own, replace(order, job=job.id))[-1])
    _wait(site, list(jobs.values()), stop)
    _wait_for_reveals(site, list(jobs.values()), list(mine.values()), stop)
    return Asked(jobs=tuple(jobs.values()))


def _wait_for_reveals(site: Site, ids: Sequence[str], mine: Sequence[Site], stop: Interruption) -> None:
    """Reveals what is sealed here, and waits until the others have."""
    told = ""
    with stop.listening():
        while True:
            for own in mine:
                reveal_quietly(own)
            waits = waiting_round(_view(site), ids[0])
            if waits is None:
                return
            if waits.words() != told:
                told = waits.words()
                site.say(told)
            if (reason := stop.reason()) is not None:
                raise Interrupted(f"{reason[0].upper()}{reason[1:]}. {told}")
            site.clock.sleep(LOOK_SECONDS)


def reveal_quietly(site: Site) -> None:
    """Reveals what may be revealed; where the remote does not answer, the next look does."""
    try:
        reveal_ready(site)
    except PipelineError as exc:
        site.say(f"Nothing is revealed now: {exc.message}")


def _insist_on_success(name: str, report: Report) -> None:
    if report.status not in ("queued", "succeeded"):
        raise ComparisonIncomplete(
            f"{name} has not built {report.branch} at {report.commit[:12]} ({report.status}).",
            remedy=f"`invoke job.show {report.job_id}` tells why.",
        )


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
    """Yields a comparison whenever there are builds to compare that were not compared yet, until a signal.

    What is sealed here is revealed on the way, once all have committed; whose reveal is waited for is said.
    """
    stop = stop or Interruption()
    seen: list[str] = []
    told = ""
    with stop.listening():
        while stop.reason() is None:
            reveal_quietly(site)
            try:
                view = _view(site)
                jobs = choose(all_jobs(view), asked)
                if (found := [job.id for job in jobs]) != seen:
                    insist_on_reveals(view, jobs)
                    seen = found
                    yield compare_builds(site, asked, ways)
            except NotRevealed as exc:
                if exc.message != told:
                    told = exc.message
                    site.say(told)
            except ComparisonIncomplete:
                pass  # there are no two builds yet, or one cannot be read now
            site.clock.sleep(LOOK_SECONDS)


@dataclass(frozen=True)
class Timings:
    """How long stages and modules took, in seconds: name -> one value for each builder, None: not run."""

    commit: str
    builders: list[str]
    stages: dict[str, list[float | None]] = field(default_factory=dict)
    modules: dict[str, list[float | None]] = field(default_factory=dict)


def timings(site: Site, asked: Asked) -> Timings:
    """Sets the times of builds of one commit side by side. Raises ComparisonIncomplete for a bad manifest, or
    for one that is not revealed yet.
    """
    view = site.state().view
    jobs = choose(all_jobs(view), asked)
    insist_on_reveals(view, jobs)
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

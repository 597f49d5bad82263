"""The second builder of the embedded default: it builds on this machine what the first has built."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.errors import ComparisonIncomplete
from pipeline.operations.agreement import all_jobs
from pipeline.operations.attempt import wanted_of
from pipeline.operations.build import Order, build
from pipeline.operations.choosing import Asked, latest
from pipeline.operations.report import Report
from pipeline.operations.site import Site
from pipeline.records.jobs import Job


def make_up(
    site: Site,
    asked: Asked,
    names: Sequence[str],
    become: Callable[[str], Site],
    run: Callable[[Site, Order], list[Report]] = build,
) -> list[Report]:
    """Has each of the embedded builders that has not built it yet build what was built last.

    `become` returns the site of another builder of this machine. Raises ComparisonIncomplete for a build that
    does not succeed, and what keeps one from beginning.
    """
    jobs = all_jobs(site.state().view)
    newest = latest(jobs, asked)
    if newest is None:
        return []
    have = {
        job.assigned_to
        for job in jobs
        if job.outcome == "succeeded" and (job.commit, job.branch) == (newest.commit, newest.branch)
    }
    return [_build(become(name), newest, run) for name in names if name not in have]


def _build(site: Site, job: Job, run: Callable[[Site, Order], list[Report]]) -> Report:
    """Builds a job's commit by the same order."""
    wanted = wanted_of(job)
    varied = site.variation
    if varied is not None:
        how = f"as user {varied.user} on host {varied.host}" if varied.user else "in another folder"
        site.say(
            f"{site.builder} builds {job.branch} at {job.commit[:12]} {how}, time zone {varied.timezone} …"
        )
        if varied.why:
            site.say(
                f"Note: user and host name stay the same, for this machine does not let them: {varied.why}."
            )
    order = Order(
        branch=job.branch,
        commit=job.commit,
        source=wanted.source,
        packages=wanted.packages,
        keep_going=wanted.keep_going,
        recipe=wanted.recipe,
        timeout_minutes=wanted.timeout_seconds // 60 if wanted.timeout_seconds else None,
    )
    report = run(site, order)[-1]
    if report.status != "succeeded":
        failure = f": {report.failure.message}" if report.failure else ""
        raise ComparisonIncomplete(
            f"{site.builder} has not built {job.branch} at {job.commit[:12]} ({report.status}){failure}",
            remedy=f"`invoke job.log {report.job_id}` shows why.",
        )
    return report

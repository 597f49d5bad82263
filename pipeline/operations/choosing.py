"""Which builds are compared: of one commit, the newest success of each builder. PURE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.errors import ComparisonIncomplete, NotFound, UsageError
from pipeline.records.jobs import Job

_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True)
class Asked:
    """What is to be compared: jobs by id, or the newest of a commit or of a branch; nothing: the newest."""

    jobs: tuple[str, ...] = ()
    commit: str = ""
    branch: str = ""

    def __post_init__(self) -> None:
        if self.commit and not _COMMIT.fullmatch(self.commit):
            raise UsageError(f"{self.commit!r} is no commit: it is 7 to 64 hexadecimal digits.")
        if self.jobs and (self.commit or self.branch):
            raise UsageError(
                "A job is of one commit and one branch already.",
                remedy="Give --job, or --commit and --branch.",
            )

    @property
    def words(self) -> str:
        """Returns in words what of."""
        of = " at ".join(each for each in (self.branch, self.commit[:12]) if each)
        return of and f" of {of}"


def choose(jobs: Sequence[Job], asked: Asked) -> list[Job]:
    """Returns the builds to compare, by their builders' names. `jobs` come in commit order.

    Of the newest commit that two builders have built, each builder's newest; what is asked for narrows that.
    Jobs that are named are taken as they are, also of other commits or of one builder: the verdict is about
    them. Raises NotFound for a job that is not there, ComparisonIncomplete for builds that are not.
    """
    if len(asked.jobs) > 1:
        return _both([_named(jobs, id) for id in dict.fromkeys(asked.jobs)], asked)
    built = [job for job in jobs if job.type == "build" and job.outcome == "succeeded" and job.assigned_to]
    if asked.jobs:
        one = _named(jobs, asked.jobs[0])
        others = [job for job in built if (job.commit, job.branch) == (one.commit, one.branch)]
        return _both([one, *_newest([job for job in others if job.assigned_to != one.assigned_to])], asked)
    fitting = [
        job
        for job in built
        if (not asked.branch or job.branch == asked.branch) and job.commit.startswith(asked.commit)
    ]
    for newest in reversed(fitting):
        found = _newest([j for j in fitting if (j.commit, j.branch) == (newest.commit, newest.branch)])
        if len(found) > 1:
            return sorted(found, key=lambda job: job.assigned_to or "")
    return _both(_newest(fitting[-1:]), asked)


def latest(jobs: Sequence[Job], asked: Asked) -> Job | None:
    """Returns the newest successful build of what was asked for, whoever made it."""
    built = [job for job in jobs if job.type == "build" and job.outcome == "succeeded" and job.assigned_to]
    if asked.jobs:
        built = [job for job in built if job.id in asked.jobs]
    return next(
        (
            job
            for job in reversed(built)
            if (not asked.branch or job.branch == asked.branch) and job.commit.startswith(asked.commit)
        ),
        None,
    )


def _newest(built: Sequence[Job]) -> list[Job]:
    return list({job.assigned_to: job for job in built}.values())


def _both(found: list[Job], asked: Asked) -> list[Job]:
    if len(found) > 1:
        return found
    have = (
        f"{found[0].assigned_to} alone has a build at {found[0].commit[:12]}"
        if found
        else "there is no build"
    )
    raise ComparisonIncomplete(
        f"No commit{asked.words} has been built by two builders: {have}.",
        remedy="`invoke compare --build` has every builder build it, and waits.",
    )


def _named(jobs: Sequence[Job], id: str) -> Job:
    job = next((job for job in jobs if job.id == id), None)
    if job is None:
        raise NotFound(f"No job {id}.", reason="not-found", remedy="`invoke job.list --all` shows every job.")
    if job.outcome != "succeeded" or not job.assigned_to:
        raise ComparisonIncomplete(
            f"Job {id} has made nothing that could be compared: it is {job.outcome or job.status}.",
            remedy="Name a job that has succeeded: `invoke job.list --all`.",
        )
    return job

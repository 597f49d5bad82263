"""What an order says beside what is to be built: after which jobs it runs, how often it is tried again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from pipeline.errors import NotFound, Refused, UsageError
from pipeline.operations import site as sites
from pipeline.operations.queue import archived
from pipeline.operations.site import Site
from pipeline.records.builds import FailureClass
from pipeline.records.jobs import Job
from pipeline.records.names import check_name

#: What may pass when it is tried again without a change; a number alone is for these.
PASSING = (
    FailureClass.SOURCE,
    FailureClass.DEPENDENCY,
    FailureClass.TEST,
    FailureClass.TIMEOUT,
    FailureClass.UNKNOWN,
)
#: What is counted apart, or is no failure.
_NEVER = (FailureClass.CANCELLED, FailureClass.LOST)
_MOST = 20


def read_retries(text: str) -> dict[str, int]:
    """Reads `2`, for each class that may pass the next time, or `test=2,dependency=3`. Raises UsageError."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if len(words) == 1 and "=" not in words[0]:
        return dict.fromkeys([each.value for each in PASSING], _count(words[0]))
    found: dict[str, int] = {}
    allowed = [each.value for each in FailureClass if each not in _NEVER]
    for word in words:
        name, _, number = (part.strip() for part in word.partition("="))
        if name not in allowed or name in found:
            what = "is given twice" if name in found else "is no class of failure that is tried again"
            raise UsageError(f"--retries: {name!r} {what}.", remedy=f"Use some of: {', '.join(allowed)}.")
        found[name] = _count(number)
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 2 or int(text) > _MOST:
        raise UsageError(
            f"--retries: {text!r} is no number of retries.",
            remedy=f"Give 0 to {_MOST}, or classes with numbers: `test=2,dependency=3`.",
        )
    return int(text)


def needed(site: Site, ids: Sequence[str]) -> list[Job]:
    """Returns the jobs that an order is to run after, as the queue has them; not those archived as succeeded.

    Raises NotFound for an id that is no job, with near ones, and Refused for a job that has ended without
    success: what waits for it would never run.
    """
    if not ids:
        return []
    view = site.state().view
    jobs = {job.id: job for job in sites.jobs(view).jobs}
    sealed = {job.id: job for _, job in archived(view)} if set(ids) - jobs.keys() else {}
    for id in dict.fromkeys(check_name("job", id) for id in ids):
        job = jobs.get(id) or sealed.get(id)
        if job is None:
            near = ", ".join(get_close_matches(id, [*jobs, *sealed]))
            raise NotFound(
                f"There is no job `{id}` that this one could run after; nothing was ordered.",
                reason="not-found",
                remedy=f"Near it: {near}." if near else "`invoke job.list --all` shows every job.",
            )
        if job.ended and job.outcome != "succeeded":
            raise Refused(
                f"Job `{id}` {job.outcome}: what is to run after it never would. Nothing was ordered.",
                reason="dependency-failed",
                remedy=f"`invoke job.retry {id}`, and name the new job.",
            )
    return [jobs[id] for id in dict.fromkeys(ids) if id in jobs]


def said(after: Sequence[str], retries: Mapping[str, int]) -> str:
    """Returns conditions in words; nothing where there are none."""
    words = [f"after {', '.join(after)}"] if after else []
    tried = [f"{name} {count}" for name, count in sorted(retries.items()) if count]
    return "; ".join([*words, *([f"tried again: {', '.join(tried)}"] if tried else [])])

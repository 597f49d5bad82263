"""Jobs as people and agents see them: list, show, cancel, retry."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.errors import NotFound
from pipeline.operations import site as sites
from pipeline.operations.site import Site
from pipeline.records import paths
from pipeline.records.base import load
from pipeline.records.decisions import View
from pipeline.records.jobs import Job, JobArchive
from pipeline.records.names import check_name

_ARCHIVE = "coordination/archive/jobs"


def archived(view: View) -> Iterator[tuple[str, Job]]:
    """Yields sealed jobs with the path of their archive, newest first."""
    for folder in reversed(view.names(_ARCHIVE)):
        for name in reversed(view.names(f"{_ARCHIVE}/{folder}")):
            path = f"{_ARCHIVE}/{folder}/{name}"
            for job in reversed(load(JobArchive, view.read(path) or b"", path).jobs):
                yield path, job


def find(view: View, job_id: str) -> tuple[Job, str | None]:
    """Returns a job, and the archive it is sealed in (None: it is in the queue file). Raises NotFound."""
    for job in sites.jobs(view).jobs:
        if job.id == job_id:
            return job, None
    for path, job in archived(view):
        if job.id == job_id:
            return job, path
    raise NotFound(f"No job {job_id}.", reason="not-found", remedy="`invoke job.list --all` shows every job.")


def list_jobs(site: Site, *, everything: bool = False) -> list[Job]:
    """Returns the jobs of the queue file in commit order; `everything` puts the sealed ones before them."""
    view = site.state().view
    live = list(sites.jobs(view).jobs)
    return [*reversed([job for _, job in archived(view)]), *live] if everything else live


def show(site: Site, job_id: str) -> Job:
    """Returns one job, sealed or not."""
    return find(site.state().view, check_name("job", job_id))[0]


def cancel(site: Site, job_id: str, reason: str = "") -> Job:
    """Cancels a job: a queued one ends at once, a running one once its builder sees it."""
    site.ask({"kind": "job.cancel", "job_id": check_name("job", job_id), "reason": reason or "by hand"})
    return show(site, job_id)


def retry(site: Site, job_id: str, *, resume: bool = False, on: str | None = None) -> Job:
    """Orders a new job that repeats an ended one.

    One that goes on from what the other left is for the builder where that lies, unless `on` names one.
    """
    old, archive = find(site.state().view, check_name("job", job_id))
    on = on or (old.assigned_to if resume else None)
    new = f"job_{site.random.op()}"
    request = {"kind": "job.retry", "id": new, "job_id": job_id, "archive": archive, "resume": resume}
    if on:
        request["target"] = check_name("builder", on)
    site.ask({**request, "requested_by": site.builder})
    return show(site, new)


def waiting(job: Job) -> str:
    """Says who may run a job that was put back into the queue, and how another builder gets it."""
    if job.target is None:
        return f"{job.id} waits for any builder: `invoke work --once` runs it."
    return (
        f"{job.id} waits for {job.target}, where it was ordered for: `invoke work --once` there runs it. For"
        f" another builder: `invoke job.cancel {job.id}`, then `invoke job.retry {job.id} --on BUILDER`."
    )


def log_of(site: Site, job_id: str) -> bytes:
    """Returns the readable log of a job's last attempt, as the ledger keeps it. Raises NotFound."""
    view = site.state().view
    job, _ = find(view, check_name("job", job_id))
    data = view.read(job.log) if job.log else None
    if data is None:
        raise NotFound(
            f"Job {job_id} has no log in the ledger yet ({job.status}).",
            reason="not-found",
            remedy="`invoke job.log --follow` shows the log of a job that runs on this machine.",
        )
    return data


def manifest_path(job: Job) -> str | None:
    """Returns the path of a job's manifest in the ledger."""
    if job.manifest:
        return job.manifest
    return paths.manifest(job.assigned_to, job.id, job.attempt) if job.assigned_to and job.attempt else None

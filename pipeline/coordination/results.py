"""Results: what a builder reports at the end of an attempt.

Result, manifest, logs, status, last build, the message to the peers and the release of the builder are ONE
decision. A result counts if and only if it presents the job's current token. Any other is kept, since it
was work, under a path of its own with the token in it, and applied to nothing.
"""

from __future__ import annotations

from typing import Any

from pipeline.coordination import mailbox, queue, rounds
from pipeline.coordination.draft import Answer, Draft, replaced
from pipeline.records import paths
from pipeline.records.base import Record
from pipeline.records.builders import LastBuild
from pipeline.records.builds import Manifest, StructuredLog
from pipeline.records.jobs import Job
from pipeline.records.messages import MessageType
from pipeline.records.requests import JobComplete

_WORDS: dict[str, tuple[str, MessageType]] = {
    "succeeded": ("success", "info"),
    "failed": ("failed", "error"),
    "cancelled": ("idle", "warning"),
}


def complete(draft: Draft, request: JobComplete) -> Answer:
    """Takes a result: the job ends, or is tried again if its class of failure allows for that.

    Of one that takes part in a round only a commitment is taken, and nothing that says what was made.
    """
    job = queue.find(draft, request.job_id)
    if refused := rounds.keep_secret(draft, request, job):
        return refused
    if job is None or job.status != "running" or job.token != request.token:
        return _keep_late(draft, request, job)
    builder = job.assigned_to or request.builder
    failure = request.failure
    if failure is None and request.outcome == "cancelled":
        failure = queue.cancelled(job.cancel_requested or f"stopped on {builder}")
    stamp = f"{job.started_at or draft.now:%Y%m%dT%H%M%SZ}-{job.id}.{job.attempt}"
    kept = keep_payloads(draft, builder, stamp, paths.manifest(builder, job.id, job.attempt))
    job = replaced(
        job,
        duration_seconds=request.duration_seconds,
        failures=job.failures + (request.outcome == "failed"),
        failure=failure,
        manifest=kept.get("manifest"),
        log=kept.get("log"),
    )
    _leave(draft, job, request)
    limit = job.retries.get(failure.failure_class, 0) if failure else 0
    if request.outcome == "failed" and job.failures <= limit:
        also = queue.hand_back(draft, job)
    else:
        also = queue.end(draft, job, request.outcome, failure)
    job = queue.find(draft, job.id) or job
    _tell(draft, request, job, also)
    return queue.standing(job) | {"accepted": True, "late": False, "also_ended": also, "kept": kept}


def _leave(draft: Draft, job: Job, request: JobComplete) -> None:
    """Frees the builder; a cancelled build is no build to remember."""
    word, _ = _WORDS[request.outcome]
    status: dict[str, Any] = {"status": word}
    if word != "idle":
        status["last_build"] = LastBuild(
            id=job.id,
            status="success" if word == "success" else "failed",
            completed_at=draft.now,
            duration_seconds=request.duration_seconds,
            artifacts=request.artifacts,
        )
    facts = request.facts if request.builder == job.assigned_to else None
    queue.leave_machine(draft, job, facts, **status)


def _keep_late(draft: Draft, request: JobComplete, job: Job | None) -> dict[str, Any]:
    late = f"{request.job_id}.late-{request.token}"
    stamp = f"{draft.now:%Y%m%dT%H%M%SZ}-{late}"
    kept = keep_payloads(draft, request.builder, stamp, paths.manifest(request.builder, late, 0))
    if job is not None:
        queue.put(draft, replaced(job, late_results=job.late_results + 1))
    now = queue.standing(job) if job else {"job_id": request.job_id, "status": None, "outcome": None}
    return now | {"accepted": False, "late": True, "also_ended": [], "kept": kept}


def keep_payloads(draft: Draft, builder: str, stamp: str, manifest: str) -> dict[str, str]:
    """Writes what an attempt left, and returns where: payload name -> path."""
    places: dict[str, tuple[str, type[Record] | None]] = {
        "manifest": (manifest, Manifest),
        "log": (paths.build_log(builder, stamp), None),
        "summary": (paths.summary(builder, stamp), None),
        "structured": (paths.structured_log(builder, stamp), StructuredLog),
    }
    given = {name: place for name, place in places.items() if name in draft.context.payloads}
    for name, (path, model) in given.items():
        draft.keep(path, draft.context.payloads[name], model)
    return {name: path for name, (path, _) in given.items()}


def _tell(draft: Draft, request: JobComplete, job: Job, also: list[str]) -> None:
    """Tells the peers how it ended: with what it made, or why and what to do."""
    what = f"{job.branch} at {job.commit[:10]} on {request.builder}"
    lines = [
        f"Job `{job.id}`, attempt {job.attempt}, {request.outcome} after {request.duration_seconds:.0f} s."
    ]
    if failure := request.failure:
        module = f" in module {failure.module}" if failure.module else ""
        lines.append(f"Cause ({failure.failure_class}{module}): {failure.message}")
        lines += [f"Remedy: {failure.remedy}"] if failure.remedy else []
    lines += [f"Made: {name}" for name in request.artifacts]
    lines += [f"Ended with it: {id}" for id in also]
    if job.status == "queued":
        lines.append("It is in the queue again.")
    elif job.outcome != "succeeded":
        lines.append(queue.again(job))
    _, kind = _WORDS[request.outcome]
    mailbox.notify(draft, request.builder, kind, f"{request.outcome.capitalize()}: {what}", "\n".join(lines))

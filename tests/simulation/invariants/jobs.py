"""Jobs: none is lost, ended twice, skipped, or claimed by two."""

from __future__ import annotations

from typing import Any

from pipeline.coordination import queue
from pipeline.coordination.presence import STALE_SECONDS
from pipeline.records.jobs import Job, JobArchive
from tests.simulation.invariants.base import Step, fail, read


def jobs_are_conserved(step: Step) -> None:
    if step.after.jobs is step.before.jobs:
        return None
    now = {job.id for job in step.after.jobs.jobs}
    sealed: list[Job] = []
    for path, data in step.changed.items():
        if path.startswith(queue.ARCHIVES) and data is not None:
            sealed += read(JobArchive, data, path).jobs
    for job in step.before.jobs.jobs:
        if job.id not in now and all(each.id != job.id for each in sealed):
            return fail("jobs-are-conserved", step, f"job {job.id} is gone")
    for each in sealed:
        if each.id in now or not each.ended or each.id in step.history.sealed_jobs:
            return fail("jobs-are-conserved", step, f"job {each.id} is sealed, and open or sealed already")
        step.history.sealed_jobs[each.id] = step.position
    if len(now) != len(step.after.jobs.jobs):
        return fail("jobs-are-conserved", step, "a job is there twice")
    for job in step.after.jobs.jobs:
        if job.id in step.history.sealed_jobs and step.history.sealed_jobs[job.id] != step.position:
            return fail("jobs-are-conserved", step, f"job {job.id} is back from its archive")
        step.history.jobs.setdefault(job.id, step.position)
    return None


def terminal_is_terminal(step: Step) -> None:
    """A job that ended stays as it is: what comes late is counted, what it had committed to is revealed."""
    if step.after.jobs is step.before.jobs:
        return None
    now = {job.id: job for job in step.after.jobs.jobs}
    shown = {
        entry.request["job_id"]
        for entry in step.record.entries
        if entry.request["kind"] == "build.reveal" and entry.outcome["ok"]
    }
    for job in step.before.jobs.jobs:
        after = now.get(job.id)
        free: dict[str, Any] = {"late_results": job.late_results}
        if job.id in shown and job.manifest is None:
            free |= {"manifest": None, "log": None}
        same = after is None or after.model_copy(update=free) == job
        if job.ended and not same:
            return fail("terminal-is-terminal", step, f"job {job.id} ended {job.outcome}, and changed")
    for job in step.after.jobs.jobs:
        if job.ended != (job.outcome is not None):
            return fail("terminal-is-terminal", step, f"job {job.id} is {job.status} with {job.outcome}")
    return None


def one_job_a_builder(step: Step) -> None:
    """Running jobs and the builders' own locks are the same pairs, with the same tokens."""
    if step.after.jobs is step.before.jobs and step.after.locks is step.before.locks:
        return
    running = sorted(
        (j.assigned_to or "", j.id, j.token) for j in step.after.jobs.jobs if j.status == "running"
    )
    locks = sorted((k.owner, k.job_id, k.token) for k in step.after.locks.locks if k.job_id is not None)
    if running != locks or len({each[0] for each in running}) != len(running):
        fail("one-job-a-builder", step, f"running {running}, locked {locks}")


def dependencies_hold(step: Step) -> None:
    if step.after.jobs is step.before.jobs:
        return None
    outcomes: dict[str, Any] = {job.id: job.outcome for job in step.after.jobs.jobs}
    for job in step.after.jobs.jobs:
        if not job.depends_on or job.ended:
            continue
        needed = [outcomes.get(id, "sealed") for id in job.depends_on]
        if job.status == "running" and any(each != "succeeded" for each in needed):
            return fail("dependencies-hold", step, f"job {job.id} runs although {job.depends_on}: {needed}")
        if any(each not in ("succeeded", None) for each in needed):
            return fail("dependencies-hold", step, f"job {job.id} waits for {needed}")
    return None


def executions_are_accounted_for(step: Step) -> None:
    """An attempt is the first, or follows a recorded loss, a recorded failure, or a withdrawal."""
    if step.after.jobs is step.before.jobs:
        return None
    for entry in step.record.entries:
        if entry.request["kind"] == "withdraw" and entry.outcome["ok"]:
            for id in entry.outcome["value"]["jobs"]:
                step.history.withdrawn[id] = step.history.withdrawn.get(id, 0) + 1
    for job in step.after.jobs.jobs:
        if job.attempt <= 1:
            continue
        most = 1 + job.losses + job.failures + step.history.withdrawn.get(job.id, 0)
        if job.attempt > most:
            return fail("executions-are-accounted-for", step, f"job {job.id} is at attempt {job.attempt}")
    for job in step.after.jobs.jobs:
        if job.losses > job.maximum_losses + 1 or (job.losses > job.maximum_losses and not job.ended):
            return fail("executions-are-accounted-for", step, f"job {job.id} was lost {job.losses} times")
    return None


def served_in_order(step: Step) -> None:
    """A claim that names no job gets the most urgent that is ready for its builder, the oldest of equals."""
    entry = step.record.entries[0] if step.record.entries else None
    if entry is None or step.by_hand or entry.request["kind"] != "job.claim" or not entry.outcome["ok"]:
        return
    if entry.request.get("job_id") is not None:
        return
    builder = entry.request["builder"]
    done = {job.id for job in step.before.jobs.jobs if job.outcome == "succeeded"}
    ready = [
        job
        for job in step.before.jobs.jobs
        if job.status == "queued" and job.target in (None, builder) and done.issuperset(job.depends_on)
    ]
    first = min(ready, key=lambda job: job.priority, default=None)
    if first is None or first.id != entry.outcome["value"]["job_id"]:
        fail("served-in-order", step, f"{entry.outcome['value']['job_id']} before {first and first.id}")


def cancel_is_honoured(step: Step) -> None:
    if step.after.jobs is not step.before.jobs:
        for job in step.after.jobs.jobs:
            if job.status == "queued" and job.cancel_requested is not None:
                return fail(
                    "cancel-is-honoured", step, f"job {job.id} waits again although {job.cancel_requested}"
                )
    return None


def loss_has_proof(step: Step) -> None:
    """A job is taken from its holder after long silence, or because its process is dead: truly dead."""
    for entry in step.record.entries:
        if entry.request["kind"] != "job.requeue" or not entry.outcome["ok"]:
            continue
        seen = entry.evidence.observations
        process = seen.get("process_dead")
        if process and step.alive(process):
            return fail("loss-has-proof", step, f"{process}, declared dead, is alive")
        if not process and seen.get("silence_seconds", 0) < STALE_SECONDS:
            return fail("loss-has-proof", step, f"silent for {seen.get('silence_seconds')} s only")
    return None


INVARIANTS = (
    jobs_are_conserved,
    terminal_is_terminal,
    one_job_a_builder,
    dependencies_hold,
    executions_are_accounted_for,
    served_in_order,
    cancel_is_honoured,
    loss_has_proof,
)

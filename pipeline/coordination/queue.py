"""The queue of jobs: orders, claims, and every way in which a job ends or comes back.

A job's token is the fence around it: only who presents the current one may report, and every change of
hands puts a new one. Claim, attempt, token, the builder's lock and its status are ONE decision.

Guarantees: one running job a builder; a job that ended never changes again (but for the count of results
that came late); dependencies are jobs that were there first, so they make no circles, and one that ends
without success ends all that wait for it.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pipeline.coordination import leases, mailbox
from pipeline.coordination.draft import Answer, Draft, replaced
from pipeline.coordination.presence import STALE_SECONDS, set_status, unknown_builder, unproven
from pipeline.records import paths, requests
from pipeline.records.builders import CurrentJob
from pipeline.records.builds import Failure, FailureClass
from pipeline.records.decisions import Refusal
from pipeline.records.jobs import Job, JobArchive
from pipeline.records.locks import Waiter
from pipeline.records.rounds import RoundOf

#: `jobs.json` holds, beside the open jobs, between one and two tails of ended ones.
TAIL = 50

#: The folder of what is sealed.
ARCHIVES = paths.job_archive(0).rsplit("/", 2)[0] + "/"

_ORDER = set(requests.Order.model_fields) - {"kind", "builder"}


# Orders


def create(draft: Draft, request: requests.JobCreate) -> Answer:
    """Puts a job into the queue. The same order again changes nothing."""
    job = _order(draft, request)
    return job if isinstance(job, Refusal) else _queued(draft, job)


def start(draft: Draft, request: requests.JobStart) -> Answer:
    """Creates a job and claims it. A busy builder refuses, or with `wait` leaves the job in the queue."""
    job = _order(draft, request, start_op=draft.context.op)
    if isinstance(job, Refusal):
        return job
    refused = _claim_refused(draft, job, request)
    if refused is None:
        return _claim(draft, job, request)
    if refused.reason == "busy" and request.wait:
        return leases.waits_while_holding(draft, request.holder, True) or _queued(draft, job)
    return refused


def retry(draft: Draft, request: requests.JobRetry) -> Answer:
    """Orders by hand what an ended job was: a new job, which names the old one."""
    old = find_anywhere(draft, request.job_id, request.archive)
    if old is None:
        return not_found(draft, request.job_id)
    if not old.ended:
        remedy = f"Wait, or run `invoke job.cancel {old.id}`."
        return Refusal("not-ended", f"Job `{old.id}` is {old.status}: it may succeed yet.", remedy)
    again = requests.Order(
        **old.model_dump(include=_ORDER - {"id", "depends_on", "target", "requested_by", "options"}),
        kind="job.create",
        builder=request.builder,
        id=request.id,
        target=request.target or old.target,
        requested_by=request.requested_by,
        options=old.options | {"resume": request.resume},
    )
    job = _order(draft, again, retry_of=old.id)
    return job if isinstance(job, Refusal) else _queued(draft, job) | {"retry_of": old.id}


def _order(draft: Draft, order: requests.Order, **more: Any) -> Job | Refusal:
    job = Job(created_at=draft.now, **order.model_dump(include=_ORDER), **more)
    if known := find(draft, job.id):
        if known.model_dump(include=_ORDER) == job.model_dump(include=_ORDER):
            return known
        return Refusal("duplicate", f"Another job has the id `{job.id}`.", "Order it under an id of its own.")
    for id in job.depends_on:
        needed = find(draft, id)
        if needed is None:
            return not_found(draft, id)
        if needed.ended and needed.outcome != "succeeded":
            remedy = f"Run `invoke job.retry {id}` and depend on the new job."
            return Refusal("dependency-failed", f"Job `{id}`, which it depends on, {needed.outcome}.", remedy)
    if job.target is not None and (refused := unknown_builder(draft, job.target)):
        return refused
    draft.jobs = replaced(draft.jobs, jobs=[*draft.jobs.jobs, job])
    return job


# Claims


def claim(draft: Draft, request: requests.JobClaim) -> Answer:
    """Gives a builder the job that it names, or else the most urgent that fits, the oldest of equals."""
    if request.job_id is not None:
        job = find(draft, request.job_id)
        if job is None:
            return not_found(draft, request.job_id)
    else:
        queued = [each for each in draft.jobs.jobs if each.status == "queued"]
        own = [each for each in queued if each.target in (None, request.builder)]
        ready = [each for each in own if not _blocked_by(draft, each)]
        if not ready:
            return Refusal("nothing-to-do", f"No job in the queue is ready for {request.builder}.")
        job = min(ready, key=lambda each: each.priority)
    return _claim_refused(draft, job, request) or _claim(draft, job, request)


def _claim(draft: Draft, job: Job, request: requests.JobStart | requests.JobClaim) -> dict[str, Any]:
    builder, op = request.builder, draft.context.op
    asker = Waiter(op=op, names=[], owner=builder, ttl_seconds=0, interval_seconds=0, holder=request.holder)
    lock = leases.grant(draft, asker, leases.MACHINE + builder, job.id)
    job = replaced(
        job,
        status="running",
        assigned_to=builder,
        started_at=draft.now,
        token=lock.token,
        attempt=job.attempt + 1,
    )
    put(draft, job)
    current = CurrentJob(id=job.id, branch=job.branch, commit=job.commit, started_at=draft.now)
    set_status(draft, builder, request.facts, status="building", current_job=current)
    taken = standing(job) | {"token": job.token, "attempt": job.attempt}
    pointer = draft.get(RoundOf, paths.round_of(job.id))
    return taken | {"round": pointer.round} if pointer else taken


def _claim_refused(draft: Draft, job: Job, request: requests.JobStart | requests.JobClaim) -> Refusal | None:
    builder = request.builder
    refused = unknown_builder(draft, builder) or leases.waits_while_holding(draft, request.holder, False)
    if refused:
        return refused
    if job.ended:
        return _ended(job)
    if job.status == "running":
        return Refusal("taken", f"Job `{job.id}` runs on {job.assigned_to} (token {job.token}).")
    if job.target not in (None, builder):
        return Refusal("not-for-you", f"Job `{job.id}` is for {job.target}, not for {builder}.")
    if blocked := _blocked_by(draft, job):
        return Refusal("blocked", f"Job `{job.id}` waits for job `{blocked[0]}` to succeed.")
    lock = leases.find(draft, leases.MACHINE + builder)
    if lock is None:
        return None
    remedy = f"Wait, or if its process is gone run `invoke recover` on {builder}."
    return Refusal("busy", f"Builder {builder} runs job `{lock.job_id}` (token {lock.token}).", remedy)


def _blocked_by(draft: Draft, job: Job) -> list[str]:
    """Returns the dependencies that have not succeeded yet; none of them is sealed before it is asked."""
    outcomes = {each.id: each.outcome for each in draft.jobs.jobs} if job.depends_on else {}
    return [id for id in job.depends_on if outcomes.get(id) != "succeeded"]


# Ends


def cancel(draft: Draft, request: requests.JobCancel) -> Answer:
    """Ends a queued job. Of a running one it asks its holder, which still works, to end it."""
    job = find(draft, request.job_id)
    if job is None or job.ended:
        return _ended(job) if job else not_found(draft, request.job_id)
    why = f"cancelled by {request.builder}" + (f": {request.reason}" if request.reason else "")
    also: list[str] = []
    if job.status == "queued":
        also = end(draft, job, "cancelled", cancelled(why))
    elif job.cancel_requested is None:
        put(draft, replaced(job, cancel_requested=why))
    return standing(find(draft, job.id) or job) | {"also_ended": also}


def requeue(draft: Draft, request: requests.JobRequeue) -> Answer:
    """Gives up an attempt, by its exact token, once it is known that nobody works on it."""
    job = find(draft, request.job_id)
    if job is None:
        return not_found(draft, request.job_id)
    if job.status != "running" or job.token != request.token:
        return Refusal("fenced", f"Job `{job.id}` is {job.status} (token {job.token}), not under that token.")
    own = request.builder == job.assigned_to
    who = f"{job.assigned_to}, which runs job `{job.id}`,"
    return unproven(draft, who, STALE_SECONDS, dead_process=own) or lose(draft, job, request.builder)


def lose(draft: Draft, job: Job, by: str) -> dict[str, Any]:
    """Counts a loss, and puts the job back or, where it was lost too often, gives it up."""
    job = replaced(job, losses=job.losses + 1)
    leave_machine(draft, job, status="idle")
    also = hand_back(draft, job)
    job = find(draft, job.id) or job
    if job.outcome == "dead":
        body = (
            f"Job `{job.id}` was lost {job.losses} times, the last time on {job.assigned_to}.\n{again(job)}"
        )
        mailbox.notify(draft, by, "error", f"Given up: {job.branch} at {job.commit[:10]}", body)
    return standing(job) | {"losses": job.losses, "also_ended": also}


def undo(draft: Draft, op: str) -> list[str]:
    """Takes back what an operation began: its claim, and the job that it created only to run it."""
    undone = []
    for job in draft.jobs.jobs:
        claimed = job.status == "running" and leases.granting_op(job.token) == op
        created = job.start_op == op and (claimed or job.status == "queued")
        if created:
            job = replaced(job, cancel_requested="withdrawn: its asker was gone before it began")
        if claimed:
            leave_machine(draft, job, status="idle")
        if claimed or created:
            hand_back(draft, job)
            undone.append(job.id)
    return undone


def hand_back(draft: Draft, job: Job) -> list[str]:
    """Puts a job that nobody runs any more back into the queue, or ends it; returns what ended with it.

    Either way under a new token, so that nothing that its last holder still presents is accepted.
    """
    job = replaced(job, token=draft.new_token(draft.context.op))
    if job.cancel_requested is not None:
        return end(draft, job, "cancelled", cancelled(job.cancel_requested))
    if job.losses > job.maximum_losses:
        return end(draft, job, "dead", Failure(failure_class=FailureClass.LOST, message="lost too often"))
    put(draft, replaced(job, status="queued", assigned_to=None, started_at=None))
    return []


def end(draft: Draft, job: Job, outcome: str, failure: Failure | None) -> list[str]:
    """Ends a job for good, with every job that can no longer run because of it; returns those."""
    ended = [job.id]
    put(draft, _at_end(draft, job, outcome, failure))
    # In the file's order a job comes after those that it depends on, so one pass reaches all.
    for each in draft.jobs.jobs if outcome != "succeeded" else []:
        if each.status == "queued" and not set(ended).isdisjoint(each.depends_on):
            why = f"job `{job.id}`, on which it depends, {outcome}"
            put(draft, _at_end(draft, each, "cancelled", cancelled(why)))
            ended.append(each.id)
    _seal(draft)
    return ended[1:]


def _at_end(draft: Draft, job: Job, outcome: str, failure: Failure | None) -> Job:
    return replaced(
        job,
        status="completed" if outcome == "succeeded" else "failed",
        outcome=outcome,
        cancelled=outcome == "cancelled",
        completed_at=draft.now,
        failure=failure,
    )


def leave_machine(draft: Draft, job: Job, facts: requests.Facts | None = None, **status: Any) -> None:
    """Frees the builder that ran a job, and says so in its status."""
    lock = leases.find(draft, leases.MACHINE + (job.assigned_to or ""))
    if lock is not None and lock.job_id == job.id:
        leases.free(draft, lock, None)
        set_status(draft, lock.owner, facts, current_job=None, **status)


# The file


def find(draft: Draft, id: str) -> Job | None:
    """Returns a job that is open, or ended lately."""
    return next((job for job in draft.jobs.jobs if job.id == id), None)


def put(draft: Draft, job: Job) -> None:
    """Replaces a job by its next state."""
    jobs = [job if each.id == job.id else each for each in draft.jobs.jobs]
    draft.jobs = replaced(draft.jobs, jobs=jobs)


def _seal(draft: Draft) -> None:
    """Moves the oldest ended jobs into an archive of this transaction, once there are two tails of them.

    A job that an open one depends on stays, because a claim looks at it. A transaction that has sealed
    already leaves the rest to the next one: an archive is written once.
    """
    jobs, path = draft.jobs.jobs, paths.job_archive(draft.context.ordinal)
    if sum(job.ended for job in jobs) <= 2 * TAIL or draft.exists(path):
        return
    needed = {id for job in jobs if not job.ended for id in job.depends_on}
    sealed = [job for job in jobs if job.ended and job.id not in needed][:TAIL]
    gone = {job.id for job in sealed}
    draft.put(path, JobArchive(ordinal=draft.context.ordinal, jobs=sealed))
    draft.jobs = replaced(draft.jobs, jobs=[job for job in jobs if job.id not in gone])


def find_anywhere(draft: Draft, id: str, archive: str | None) -> Job | None:
    """Returns a job that is open, ended lately, or sealed where the asker says."""
    found = find(draft, id)
    if found is not None or archive is None or not archive.startswith(ARCHIVES):
        return found
    sealed = draft.get(JobArchive, archive)
    return next((job for job in sealed.jobs if job.id == id), None) if sealed else None


# Words


def standing(job: Job) -> dict[str, Any]:
    """Returns what every outcome says of its job."""
    return {"job_id": job.id, "status": job.status, "outcome": job.outcome}


def again(job: Job) -> str:
    """Returns what to do about a job that ended without success."""
    return f"To run it again: `invoke job.retry {job.id}`."


def not_found(draft: Draft, id: str) -> Refusal:
    """Refuses a job id that is not in the file, and offers near ones."""
    near = ", ".join(get_close_matches(id, [job.id for job in draft.jobs.jobs]))
    remedy = f"Near it: {near}." if near else "Run `invoke job.list`."
    return Refusal("not-found", f"No job `{id}` is open or ended lately.", remedy)


def _queued(draft: Draft, job: Job) -> dict[str, Any]:
    """Returns the standing of a job with its place in the queue: 1 for the next."""
    queued = [each for each in draft.jobs.jobs if each.status == "queued"]
    order = [each.id for each in sorted(queued, key=lambda each: each.priority)]
    return standing(job) | {"position": order.index(job.id) + 1 if job.id in order else None}


def cancelled(why: str) -> Failure:
    """Returns why a job ended that nothing was wrong with."""
    return Failure(failure_class=FailureClass.CANCELLED, message=why)


def _ended(job: Job) -> Refusal:
    return Refusal("ended", f"Job `{job.id}` has ended already ({job.outcome}).", again(job))

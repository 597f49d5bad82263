"""What the queue can leave out: tokens, claims, results, losses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from pipeline.coordination import queue, results
from pipeline.coordination.draft import Draft, replaced
from pipeline.coordination.leases import Silence
from pipeline.operations import rescue
from tests.simulation.mutants.registry import decides, instead, mutant

mutant(
    "token-reused",
    "refs",
    "everything",
    "a token's number is not counted up",
    (Draft, "new_token", instead(lambda draft, op: f"{draft.ledger.epoch}.{draft.ledger.next_token}.{op}")),
)
mutant(
    "token-of-nobody",
    "refs",
    "restores",
    "a token does not say whose operation it was given to",
    (Draft, "new_token", lambda real: lambda draft, op: real(draft, "019b7766-nobody")),
)
mutant(
    "blocked-is-claimed",
    "queue",
    "losses",
    "a claim does not look at dependencies",
    (queue, "_blocked_by", instead(lambda draft, job: [])),
)
mutant(
    "requeue-by-age",
    "rescue",
    "losses",
    "a running job is put back without proof",
    (queue, "unproven", instead(lambda *words, **more: None)),
    (rescue, "STALE_SECONDS", instead(20.0)),
)


def _by_age(site: Any, token: str, nonce: Any, read: Any) -> Silence:
    jobs = rescue.sites.jobs(site.state(fresh=False).view).jobs
    ages = [(site.clock.now() - job.started_at).total_seconds() for job in jobs if job.token == token]
    return Silence(nonce, 0.0, max(ages, default=0.0) + rescue.STALE_SECONDS / 2)


mutant(
    "age-for-silence",
    "rescue",
    "losses",
    "the age of an attempt is taken for its silence",
    (rescue, "_observe", instead(_by_age)),
)


def _newest_first(draft: Any, request: Any) -> Any:
    jobs = replaced(draft.jobs, jobs=draft.jobs.jobs[::-1])
    view = SimpleNamespace(jobs=jobs)
    ready = [j for j in view.jobs.jobs if j.status == "queued" and j.target in (None, request.builder)]
    ready = [job for job in ready if not queue._blocked_by(draft, job)]
    job = min(ready, key=lambda each: each.priority, default=None)
    if request.job_id is not None or job is None:
        return None
    return queue._claim_refused(draft, job, request) or queue._claim(draft, job, request)


mutant(
    "newest-first",
    "queue",
    "losses",
    "of equal jobs the newest is served first",
    decides(
        "job.claim",
        lambda real: lambda draft, request: _newest_first(draft, request) or real(draft, request),
    ),
)


def _any_token(real: Any) -> Any:
    def complete(draft: Any, request: Any) -> Any:
        job = queue.find(draft, request.job_id)
        if job is not None and job.status == "running":
            request = request.model_copy(update={"token": job.token})
        return real(draft, request)

    return complete


mutant(
    "result-without-token",
    "queue",
    "losses",
    "a result is taken whatever token it shows",
    decides("job.complete", _any_token),
)


def _never_current(real: Any) -> Any:
    return lambda draft, request: results._keep_late(draft, request, queue.find(draft, request.job_id))


mutant(
    "result-turned-down",
    "queue",
    "losses",
    "a result under the current token is kept as late",
    decides("job.complete", _never_current),
)


def _same_token(real: Any) -> Any:
    def hand_back(draft: Any, job: Any) -> Any:
        with patch.object(Draft, "new_token", lambda self, op: job.token):
            return real(draft, job)

    return hand_back


mutant(
    "requeue-keeps-token",
    "queue",
    "losses",
    "a job that is put back keeps its token",
    (queue, "hand_back", _same_token),
)


def _cancelled_at_once(real: Any) -> Any:
    def cancel(draft: Any, request: Any) -> Any:
        job = queue.find(draft, request.job_id)
        if job is None or job.status != "running":
            return real(draft, request)
        return queue.standing(job) | {
            "also_ended": queue.end(draft, job, "cancelled", queue.cancelled("now"))
        }

    return cancel


mutant(
    "cancelled-at-once",
    "queue",
    "losses",
    "a cancelled job that runs ends at once",
    decides("job.cancel", _cancelled_at_once),
)
mutant(
    "cancel-forgotten",
    "queue",
    "losses",
    "a cancelled job that is put back runs again",
    (queue, "hand_back", lambda real: lambda draft, job: _put_back(draft, job)),
)


def _put_back(draft: Any, job: Any) -> list[str]:
    job = replaced(
        job, token=draft.new_token(draft.context.op), status="queued", assigned_to=None, started_at=None
    )
    queue.put(draft, job)
    return []


mutant(
    "losses-uncounted",
    "queue",
    "losses",
    "a loss is not counted",
    (queue, "hand_back", lambda real: lambda draft, job: real(draft, replaced(job, losses=0))),
)
mutant(
    "no-dead-letter",
    "queue",
    "losses",
    "a job that is lost too often is put back for ever",
    (
        queue,
        "hand_back",
        lambda real: lambda draft, job: real(draft, job) if job.cancel_requested else _put_back(draft, job),
    ),
)
mutant(
    "machine-kept",
    "queue",
    "everything",
    "a report does not free its builder",
    (queue, "leave_machine", instead(lambda *words, **more: None)),
)
mutant(
    "ended-job-moves",
    "queue",
    "everything",
    "a retry by hand puts the ended job back",
    decides("job.retry", lambda real: lambda draft, request: _again(draft, request) or real(draft, request)),
)


def _again(draft: Any, request: Any) -> Any:
    job = queue.find(draft, request.job_id)
    if job is None or not job.ended:
        return None
    queue.put(
        draft,
        replaced(
            job,
            status="queued",
            outcome=None,
            assigned_to=None,
            completed_at=None,
            cancelled=False,
            cancel_requested=None,
        ),
    )
    return queue.standing(job)


mutant(
    "dependants-wait",
    "queue",
    "everything",
    "what depends on a failed job stays in the queue",
    (
        queue,
        "end",
        lambda real: (
            lambda draft, job, outcome, failure: (
                queue.put(draft, queue._at_end(draft, job, outcome, failure)),
                [],
            )[1]
        ),
    ),
)


def _unsealed(real: Any) -> Any:
    def seal(draft: Any) -> None:
        if len(draft.jobs.jobs) > 6:
            gone = next((job.id for job in draft.jobs.jobs if job.ended), None)
            draft.jobs = replaced(draft.jobs, jobs=[job for job in draft.jobs.jobs if job.id != gone])

    return seal


mutant(
    "removed-before-sealed",
    "queue",
    "losses",
    "an ended job leaves the file in another commit than it is sealed",
    (queue, "_seal", _unsealed),
    (Draft, "_check_conserved", instead(lambda *words: None)),
)

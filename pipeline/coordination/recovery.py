"""What crosses the queue and the leases: an asker that is gone, a lock broken by hand, a rewound ledger."""

from __future__ import annotations

from typing import Any

from pipeline.coordination import leases, queue
from pipeline.coordination.draft import Answer, Draft, replaced
from pipeline.records.locks import Lock, Predecessor, Vacancy
from pipeline.records.requests import LockBreak, LockLeave, RaiseEpoch, Withdraw

#: Two repairs that know nothing of each other choose the same epoch once in 16 million times.
EPOCH_DIGITS = 6


def withdraw(draft: Draft, request: Withdraw) -> dict[str, Any]:
    """Undoes what an operation was granted, in the state as it is NOW.

    Its record may be trimmed and its locks may have changed hands: only what still bears its id is touched.
    Its asker is dead as far as this store can know: where the store was copied, it may live and work. So a
    lock goes as one that is broken does, and the outcome says whose it is: no asker may take it for a grant.
    """
    undone = leases.leave(draft, request.op, may_work=True)
    return undone | {"jobs": queue.undo(draft, request.op), "withdrawn": request.op}


def leave_queue(draft: Draft, request: LockLeave) -> dict[str, Any]:
    """Takes a waiter out of the queue; what it was granted meanwhile is given back."""
    return leases.leave(draft, request.op)


def break_lock(draft: Draft, request: LockBreak) -> Answer:
    """Breaks a lock by its exact token; with a builder's own lock, the job that it runs is lost."""
    lock = leases.find(draft, request.name)
    job = queue.find(draft, lock.job_id) if lock and lock.job_id else None
    if lock is None or job is None or job.token != lock.token or lock.token != request.token:
        return leases.break_lock(draft, request)
    lost = queue.lose(draft, job, request.builder)
    return lost | {"broken": lock.name, "owner": lock.owner, "token": lock.token}


def raise_epoch(draft: Draft, request: RaiseEpoch) -> dict[str, Any]:
    """Begins an epoch above every one seen, in which no earlier token is current.

    Who repairs a rewind that is repaired already joins the epoch that it finds.
    """
    state, seen = draft.ledger, max(request.seen, default=0)
    news = [tip for tip in request.abandoned_tips if tip not in state.abandoned_tips]
    if not news and state.epoch >= seen:
        return {"epoch": state.epoch, "joined": True}
    epoch = max(state.epoch, seen) + 1 + int(draft.evidence.random[:EPOCH_DIGITS], 16)
    draft.ledger = replaced(state, epoch=epoch, abandoned_tips=[*state.abandoned_tips, *news])
    running = {
        job.id: draft.new_token(draft.context.op) for job in draft.jobs.jobs if job.status == "running"
    }
    for job in draft.jobs.jobs:
        if job.id in running:
            queue.put(draft, replaced(job, token=running[job.id]))
    before = [
        *map(leases.predecessor, draft.locks.locks),
        *(each.predecessor for each in draft.locks.vacated),
    ]
    longest = max([*(each.ttl_seconds for each in before), *request.abandoned_locks.values()], default=0.0)
    locks = [_put_aside(draft, lock, running, longest) for lock in draft.locks.locks]
    draft.locks = replaced(draft.locks, locks=locks)
    for name in sorted(set(request.abandoned_locks) - {lock.name for lock in locks}):
        unknown = Predecessor(owner="unknown", token=None, ttl_seconds=longest)
        leases.vacate(draft, Vacancy(name=name, predecessor=unknown, cautious=True))
    return {"epoch": epoch, "joined": False, "jobs": list(running), "locks": [lock.name for lock in locks]}


def _put_aside(draft: Draft, lock: Lock, running: dict[str, str], longest: float) -> Lock:
    """Returns a lock under a token that nobody was told: its holder, on either side, is put aside."""
    token = running.get(lock.job_id or "") or draft.new_token(draft.context.op)
    if lock.job_id is not None:
        return replaced(lock, token=token)
    before = replaced(leases.predecessor(lock), ttl_seconds=longest)
    return replaced(lock, token=token, predecessor=before, cautious=True)

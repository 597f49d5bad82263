"""Leases: named locks on things outside the ledger, their queues, and the arithmetic of trust.

A lock is held under a fencing token for a time to live, which its holder renews on its heartbeat ref.

Guarantees: one holder a lock; tokens strictly increase; waiters are served in commit order, with all of
their locks at once; a lock that was taken by force carries its predecessor's trace, however often it
changes hands, until a holder has waited for it.
Not guaranteed: that a holder has stopped. Only its own watchdog, and the token that the thing guarded asks
for, can see to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.coordination.draft import Answer, Draft, replaced
from pipeline.coordination.presence import unproven
from pipeline.records import requests
from pipeline.records.decisions import Refusal
from pipeline.records.locks import Lock, Predecessor, Vacancy, Waiter

#: A lease outlives two renewals that were lost: its ttl is at least this many intervals.
RENEWALS_PER_TTL = 3
#: By how much a clock may run fast or slow, and what a challenger adds for a read that comes late.
DRIFT = 0.01
GRACE_SECONDS = 5.0
#: The part of a budget of pushes that is for renewals: they come first.
RENEWAL_SHARE = 0.5
#: What a holder leaves itself to stop its work in.
MARGIN_SECONDS = 2.0
#: Locks with this prefix go with a job's token and are not asked for by themselves.
MACHINE = "builder/"

_TERMS = {"ttl_seconds", "interval_seconds", "purpose", "holder"}


# Trust. All times are seconds of one host's CLOCK_BOOTTIME.


def trust_ends(first_push: float, ttl: float, drift: float = DRIFT, margin: float = MARGIN_SECONDS) -> float:
    """Returns start of the first push + ttl × (1 − drift) − margin: when a holder must have stopped.

    Of a renewal that was pushed twice, the FIRST push counts: the server may have taken that one.
    """
    return first_push + ttl * (1 - drift) - margin


def silence_needed(ttl: float, drift: float = DRIFT, grace: float = GRACE_SECONDS) -> float:
    """Returns ttl × (1 + drift) + grace: how long a challenger must have seen no change."""
    return ttl * (1 + drift) + grace


def interval_for_budget(pushes_a_minute: float, builders: int, share: float = RENEWAL_SHARE) -> float:
    """Returns 60 × builders ÷ (pushes a minute × share): the shortest interval between a builder's pushes.

    One budget for the repository, divided among the builders. Each has one pusher for all that it renews,
    and `share` is theirs; the rest is for transactions.
    """
    return 60 * max(builders, 1) / (pushes_a_minute * share)


@dataclass(frozen=True)
class Silence:
    """For how long one nonce was seen to stay the same: a value, which a store can keep.

    It begins at the END of the first read that showed the nonce (None, no entry, is one), lasts to the
    BEGINNING of the last, and begins anew with another nonce, another boot, or a clock that went back. So
    however long its observer was held up, in a read or after it, nothing of that counts.
    """

    nonce: str | None
    since: float
    until: float
    boot_id: str = ""

    @classmethod
    def observed(
        cls, before: Silence | None, nonce: str | None, boot_id: str, read: tuple[float, float]
    ) -> Silence:
        """Returns what is known after a read from one boot time to another, by what was known `before`."""
        begun, ended = read
        if before is None:
            return cls(nonce, ended, ended, boot_id)
        return before.feed(ended, nonce, boot_id, begun=begun)

    def feed(
        self, ended: float, nonce: str | None, boot_id: str = "", *, begun: float | None = None
    ) -> Silence:
        """Returns what is known after a read that began and ended at these boot times, by default at once."""
        if (nonce, boot_id) != (self.nonce, self.boot_id) or ended < self.until:
            return Silence(nonce, ended, ended, boot_id)
        return Silence(nonce, self.since, max(self.until, ended if begun is None else begun), boot_id)

    @property
    def seconds(self) -> float:
        return self.until - self.since

    def is_silent(self, ttl: float, drift: float = DRIFT, grace: float = GRACE_SECONDS) -> bool:
        """Says whether a holder that was granted this ttl cannot trust its lease any more."""
        return self.seconds >= silence_needed(ttl, drift, grace)


def holder_must_wait(
    lock: Lock, nonce_seen_now: str | None, drift: float = DRIFT, grace: float = GRACE_SECONDS
) -> float:
    """Returns for how many seconds a new holder waits before it works: 0.0 if nobody may work before it.

    `nonce_seen_now` is the predecessor's, read once more AFTER the grant: one that renewed between the
    challenger's last read and the takeover is trusted for a whole ttl yet.
    """
    before = lock.predecessor
    if before is None or (before.nonce == nonce_seen_now and not lock.cautious):
        return 0.0
    return silence_needed(before.ttl_seconds, drift, grace)


# Decisions


def acquire(draft: Draft, request: requests.LockAcquire) -> Answer:
    """Grants all of the locks, or queues for all of them, or refuses."""
    names = sorted(set(request.names))
    refused = _terms_refused(request, names) or waits_while_holding(draft, request.holder, request.wait)
    if refused:
        return refused
    _queue_up(draft, request, names)
    serve(draft)
    op, waiters = draft.context.op, draft.ledger.waiters
    if granted := granted_to(draft, op):
        return _terms(granted)
    before = [each for each in waiters if each.op != op and not set(names).isdisjoint(each.names)]
    if request.wait:
        return {"granted": False, "waiting": True, "op": op, "position": len(before) + 1}
    held = next((lock for lock in draft.locks.locks if lock.name in names), None)
    if held is not None:
        return _held(held)
    what = f"{before[0].owner} waits for {_quoted(before[0].names)} and comes first."
    return Refusal("held", what, "Wait for your turn.")


def release(draft: Draft, request: requests.LockRelease) -> Answer:
    """Gives back the locks whose tokens are still current; refuses if none is."""
    held = {name: find(draft, name) for name in sorted(request.locks)}
    current = [lock for name, lock in held.items() if lock and lock.token == request.locks[name]]
    refused = _reserved(list(held))
    if refused or not current:
        return refused or not_current(*next(iter(held.items())))
    for lock in current:
        free(draft, lock, None if request.waited else _trace(lock))
    serve(draft)
    released = [lock.name for lock in current]
    return {"released": released, "fenced": [name for name in held if name not in released]}


def break_lock(draft: Draft, request: requests.LockBreak) -> Answer:
    """Frees a lock by its exact token; whoever gets it next waits for as long as its holder may work."""
    lock = find(draft, request.name)
    if lock is None or lock.token != request.token:
        return not_current(request.name, lock)
    free(draft, lock, Vacancy(name=lock.name, predecessor=predecessor(lock), cautious=True))
    serve(draft)
    return {"broken": lock.name, "owner": lock.owner, "token": lock.token}


def take_over(draft: Draft, request: requests.LockTakeover) -> Answer:
    """Puts a silent holder aside. The lock goes to the first of its queue: to the asker if none waits."""
    lock = find(draft, request.name)
    if lock is None or lock.token != request.token:
        return not_current(request.name, lock)
    silence = silence_needed(lock.ttl_seconds or 0.0)
    refused = _terms_refused(request, [lock.name])
    refused = refused or unproven(draft, f"{lock.owner}, who holds `{lock.name}`,", silence)
    if refused:
        return refused
    # Of a holder before this one nobody knows that it stopped: then its silence proves too little.
    doubt = lock.cautious or lock.predecessor is not None
    free(draft, lock, Vacancy(name=lock.name, predecessor=predecessor(lock, request.nonce), cautious=doubt))
    if all(waiter.holder != request.holder for waiter in draft.ledger.waiters):
        _queue_up(draft, request, [lock.name])
    serve(draft)
    _drop(draft, draft.context.op)
    taken = find(draft, lock.name)
    if taken is None or taken.holder != request.holder:
        return {"granted": False, "put_aside": lock.token}
    return _terms(granted_to(draft, granting_op(taken.token) or "")) | {"put_aside": lock.token}


def ready(draft: Draft, request: requests.LockReady) -> Answer:
    """Forgets a lock's predecessor: the holder has waited for it."""
    lock = find(draft, request.name)
    if lock is None or lock.token != request.token:
        return not_current(request.name, lock)
    if lock.predecessor is not None:
        waited = replaced(lock, predecessor=None, cautious=False)
        locks = [waited if each is lock else each for each in draft.locks.locks]
        draft.locks = replaced(draft.locks, locks=locks)
    return {"ready": lock.name}


def evict(draft: Draft, request: requests.LockEvict) -> Answer:
    """Removes a waiter that fell silent for as many of its own intervals as a holder may lose."""
    waiter = next((each for each in draft.ledger.waiters if each.op == request.op), None)
    if waiter is None:
        return Refusal("not-waiting", f"Nobody waits under operation {request.op}.")
    silence = silence_needed(RENEWALS_PER_TTL * waiter.interval_seconds)
    refused = unproven(draft, f"{waiter.owner}, who waits for {_quoted(waiter.names)},", silence)
    return refused or leave(draft, waiter.op) | {"owner": waiter.owner}


def leave(draft: Draft, op: str, *, may_work: bool = False) -> dict[str, Any]:
    """Takes an operation out of the queue, and gives back what it was granted.

    `may_work`: it is not the asker that says so, who may work under it where nobody looked. Then the next
    holder has to wait, as after a break.
    """
    left = _drop(draft, op)
    granted = [lock for lock in granted_to(draft, op) if lock.job_id is None]
    for lock in granted:
        forced = Vacancy(name=lock.name, predecessor=predecessor(lock), cautious=True)
        free(draft, lock, forced if may_work else _trace(lock))
    serve(draft)
    return {"left": left, "released": [lock.name for lock in granted]}


# What decisions are made of


def serve(draft: Draft) -> None:
    """Grants, in order, to every waiter that is first in ALL its queues and finds ALL its locks free."""
    taken = {lock.name for lock in draft.locks.locks}
    served = set()
    for waiter in draft.ledger.waiters:
        if taken.isdisjoint(waiter.names):
            served.add(waiter.op)
            for name in waiter.names:
                grant(draft, waiter, name)
        taken.update(waiter.names)
    if served:
        left = [waiter for waiter in draft.ledger.waiters if waiter.op not in served]
        draft.ledger = replaced(draft.ledger, waiters=left)


def grant(draft: Draft, waiter: Waiter, name: str, job_id: str | None = None) -> Lock:
    """Gives a free lock away, under a new token and with its last holder's trace.

    The only place where a lock comes to be held. With `job_id` it is a builder's own and needs no renewal.
    """
    left = next((each for each in draft.locks.vacated if each.name == name), None)
    lock = Lock(
        name=name,
        owner=waiter.owner,
        timestamp=draft.now,
        token=draft.new_token(waiter.op),
        job_id=job_id,
        predecessor=left and left.predecessor,
        cautious=left is not None and left.cautious,
        **waiter.model_dump(include={"purpose", "holder"} if job_id else _TERMS),
    )
    locks = sorted([*draft.locks.locks, lock], key=lambda each: each.name)
    vacated = [each for each in draft.locks.vacated if each is not left]
    draft.locks = replaced(draft.locks, locks=locks, vacated=vacated)
    return lock


def free(draft: Draft, lock: Lock, left: Vacancy | None) -> None:
    """Makes a lock free, and keeps what its next holder must know."""
    locks = [each for each in draft.locks.locks if each.name != lock.name]
    draft.locks = replaced(draft.locks, locks=locks)
    if left is not None:
        vacate(draft, left)


def vacate(draft: Draft, left: Vacancy) -> None:
    """Notes of a free lock that somebody may still work under it."""
    others = [each for each in draft.locks.vacated if each.name != left.name]
    draft.locks = replaced(draft.locks, vacated=sorted([*others, left], key=lambda each: each.name))


def predecessor(lock: Lock, nonce: str | None = None) -> Predecessor:
    """Returns a holder as its successor must know it, with the longest ttl that may still run."""
    longest = max(lock.ttl_seconds or 0.0, lock.predecessor.ttl_seconds if lock.predecessor else 0.0)
    return Predecessor(owner=lock.owner, token=lock.token, nonce=nonce, ttl_seconds=longest)


def find(draft: Draft, name: str) -> Lock | None:
    """Returns a held lock."""
    return next((lock for lock in draft.locks.locks if lock.name == name), None)


def granting_op(token: str | None) -> str | None:
    """Returns the operation that a token was granted to; None for a token of another form."""
    parts = (token or "").split(".", 2)
    return parts[2] if len(parts) == 3 else None


def granted_to(draft: Draft, op: str) -> list[Lock]:
    """Returns the locks that are held under an operation's tokens."""
    return [lock for lock in draft.locks.locks if granting_op(lock.token) == op]


def waits_while_holding(draft: Draft, holder: str, wait: bool) -> Refusal | None:
    """Refuses what could end in a circle: a process that waits takes nothing else meanwhile, and one that
    holds a lock or a machine does not wait.
    """
    waiting = [each.names for each in draft.ledger.waiters if each.holder == holder]
    held = [lock.name for lock in draft.locks.locks if lock.holder == holder] if wait else []
    if not waiting and not held:
        return None
    does = f"waits for {_quoted(waiting[0])}" if waiting else f"holds {_quoted(held)}"
    return Refusal(
        "hold-and-wait",
        f"This process {does} already; two that wait like this could wait for each other.",
        "Ask for all the locks in one request, or give back the one that it has first.",
    )


def not_current(name: str, lock: Lock | None) -> Refusal:
    """Refuses a token that is not, or no longer, the lock's own."""
    if lock is None:
        return Refusal("not-held", f"Lock `{name}` is held by nobody.")
    return Refusal("fenced", f"That is not its current token. {_held(lock).message}", _held(lock).remedy)


def _queue_up(draft: Draft, request: requests.Lease, names: list[str]) -> None:
    terms = request.model_dump(include=_TERMS)
    waiter = Waiter(op=draft.context.op, names=names, owner=request.builder, **terms)
    draft.ledger = replaced(draft.ledger, waiters=[*draft.ledger.waiters, waiter])


def _drop(draft: Draft, op: str) -> bool:
    left = [each for each in draft.ledger.waiters if each.op != op]
    if len(left) == len(draft.ledger.waiters):
        return False
    draft.ledger = replaced(draft.ledger, waiters=left)
    return True


def _trace(lock: Lock) -> Vacancy | None:
    """Returns what stays of a predecessor for whom the holder, as far as is known, never waited."""
    if lock.predecessor is None:
        return None
    return Vacancy(name=lock.name, predecessor=lock.predecessor, cautious=lock.cautious)


def _terms(granted: list[Lock]) -> dict[str, Any]:
    tokens = {lock.name: lock.token for lock in granted}
    return {"granted": True, "tokens": tokens, "after": [lock.name for lock in granted if lock.predecessor]}


def _terms_refused(request: requests.Lease, names: list[str]) -> Refusal | None:
    least = RENEWALS_PER_TTL * request.interval_seconds
    if request.ttl_seconds >= least:
        return _reserved(names)
    return Refusal(
        "ttl-too-short",
        f"Renewed every {request.interval_seconds:g} s, a lease of {request.ttl_seconds:g} s is too short.",
        f"Ask for {least:g} s or more.",
    )


def _reserved(names: list[str]) -> Refusal | None:
    own = [name for name in names if name.startswith(MACHINE)]
    remedy = "It comes with the job's claim and goes with its end."
    return Refusal("reserved", f"Lock `{own[0]}` belongs to its builder's job.", remedy) if own else None


def _held(lock: Lock) -> Refusal:
    purpose = f" for “{lock.purpose}”" if lock.purpose else ""
    return Refusal(
        "held",
        f"Lock `{lock.name}` is held by {lock.owner} (token {lock.token}){purpose}.",
        f"Wait, or run `invoke lock.break {lock.name} --token {lock.token}`.",
    )


def _quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

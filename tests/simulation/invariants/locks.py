"""Locks: who waits is served in order, and nobody is put aside without proof."""

from __future__ import annotations

from typing import Any

from pipeline.coordination.leases import DRIFT, GRACE_SECONDS, MACHINE
from tests.simulation.invariants.base import Step, fail
from tests.simulation.invariants.tokens import _tokens


def waiters_are_served_in_order(step: Step) -> None:
    """Who was granted passed nobody who was before it in one of its queues and still waits."""
    if step.after.locks is step.before.locks:
        return None
    waiting = {waiter.op for waiter in step.after.ledger.waiters}
    granted = {lock.token.split(".", 2)[2] for lock in step.after.locks.locks if lock.token}
    before = step.before.ledger.waiters
    for at, waiter in enumerate(before):
        if waiter.op in granted:
            passed = [e.op for e in before[:at] if e.op in waiting and set(e.names) & set(waiter.names)]
            if passed:
                return fail("waiters-are-served-in-order", step, f"{waiter.op} passed {passed}")
    old = {lock.token for lock in step.before.locks.locks}
    new = {entry.op for entry in step.record.entries if entry.request["kind"] != "ledger.raise_epoch"}
    for lock in step.after.locks.locks:
        if lock.token in old or lock.job_id is not None or (lock.token or "..").split(".", 2)[2] not in new:
            continue
        passed = [e.op for e in before if e.op in waiting and lock.name in e.names]
        if passed:
            return fail("waiters-are-served-in-order", step, f"{lock.token} passed {passed}")
    return None


def waiters_have_a_reason(step: Step) -> None:
    if step.after.locks is step.before.locks and step.after.ledger.waiters == step.before.ledger.waiters:
        return None
    taken = {lock.name for lock in step.after.locks.locks}
    for waiter in step.after.ledger.waiters:
        if taken.isdisjoint(waiter.names):
            return fail("waiters-have-a-reason", step, f"{waiter.op} could be served")
        taken.update(waiter.names)
    return None


def nobody_holds_and_waits(step: Step) -> None:
    waiting = [waiter.holder for waiter in step.after.ledger.waiters]
    if waiting:
        held = {lock.holder for lock in step.after.locks.locks}
        if len(set(waiting)) != len(waiting) or not held.isdisjoint(waiting):
            fail("nobody-holds-and-waits", step, waiting)


_FORCED = {"lock.takeover": "token", "lock.break": "token"}


def doubt_is_carried(step: Step) -> None:
    """Who holds a lock from which somebody was put aside by force knows it, with the longest time to wait."""
    if step.after.locks is step.before.locks:
        return None
    held = {lock.token: lock for lock in step.before.locks.locks}
    waited = _waited(step)
    after: dict[str, Any] = {each.name: each for each in step.after.locks.vacated}
    after |= {lock.name: lock for lock in step.after.locks.locks}
    doubts: dict[str, float] = {}
    for before in [*step.before.locks.locks, *step.before.locks.vacated]:
        trusted = before.predecessor is not None and before.predecessor.ttl_seconds > 0
        if before.predecessor is not None and trusted and before.name not in waited:
            doubts[before.name] = before.predecessor.ttl_seconds
    for entry in step.record.entries:
        lock = held.get(str(entry.request.get("token")))
        if entry.request["kind"] in _FORCED and entry.outcome["ok"] and lock is not None and not lock.job_id:
            doubts[lock.name] = max(doubts.get(lock.name, 0.0), lock.ttl_seconds or 0.0)
    for name, ttl in doubts.items():
        if name.startswith(MACHINE):
            continue  # goes with its job's token; nobody waits for it
        carries = getattr(after.get(name), "predecessor", None)
        if carries is None or carries.ttl_seconds < ttl:
            return fail("doubt-is-carried", step, f"{name}: nobody knows of a holder trusted for {ttl} s")
    return None


def _waited(step: Step) -> set[str]:
    """Returns the locks of which a holder says that it has waited for those before it."""
    found: set[str] = set()
    for entry in step.record.entries:
        if entry.outcome["ok"] and entry.request["kind"] == "lock.ready":
            found.add(entry.request["name"])
        elif entry.outcome["ok"] and entry.request["kind"] == "lock.release" and entry.request.get("waited"):
            found.update(entry.outcome["value"]["released"])
    return found


def eviction_has_silence(step: Step) -> None:
    """A holder is put aside after its ttl, and a waiter after three of its intervals, each and drift."""
    locks = {lock.token: lock for lock in step.before.locks.locks}
    waiters = {waiter.op: waiter for waiter in step.before.ledger.waiters}
    for entry in step.record.entries:
        kind, request = entry.request["kind"], entry.request
        if not entry.outcome["ok"] or kind not in ("lock.takeover", "lock.evict"):
            continue
        lock, waiter = locks.get(str(request.get("token"))), waiters.get(str(request.get("op")))
        ttl = (lock.ttl_seconds or 0.0) if lock and kind == "lock.takeover" else 0.0
        ttl = 3 * waiter.interval_seconds if waiter and kind == "lock.evict" else ttl
        seen = entry.evidence.observations.get("silence_seconds", 0.0)
        if seen < ttl * (1 + DRIFT) + GRACE_SECONDS:
            return fail("eviction-has-silence", step, f"{request} after {seen} s")
    return None


def withdrawals_take_back(step: Step) -> None:
    """After a withdrawal nothing bears the token of what was withdrawn."""
    gone = [
        e.request["op"] for e in step.record.entries if e.request["kind"] == "withdraw" and e.outcome["ok"]
    ]
    for op in gone:
        for token, whose in _tokens(step.after).items():
            if token.split(".", 2)[2] == op and not whose.startswith("job"):
                return fail("withdrawals-take-back", step, f"{whose} keeps {token}")
        if any(waiter.op == op for waiter in step.after.ledger.waiters):
            return fail("withdrawals-take-back", step, f"{op} still waits")
    return None


INVARIANTS = (
    waiters_are_served_in_order,
    waiters_have_a_reason,
    nobody_holds_and_waits,
    doubt_is_carried,
    eviction_has_silence,
    withdrawals_take_back,
)

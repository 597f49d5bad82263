"""A lease on something outside the ledger, held around work on it.

    with hold(site, pulse, ["promotion"], ttl=30) as lease:
        ...                      # every step asks lease.insist() first, and presents lease.tokens

The holder's side of docs/explanation/ledger.md, Leases:
    1. acquire (or wait in commit order, renewing the place in the queue)
    2. after a takeover or a break: wait until nobody before can be working any more
    3. the first renewal, and a read of the ledger that begins after it was acknowledged
    4. work, while a thread renews; trust is extended only by renewal AND read
    5. release by exact token
A challenger puts a silent holder aside by `lock.takeover`, with its own observation as evidence.

Guarantee: `insist` returns only while no other process can hold the lease, as long as clocks drift by no
more than `leases.DRIFT`. Non-guarantee: a process that is suspended between `insist` and its next step; the
thing guarded has to compare the token.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.coordination import leases
from pipeline.coordination.leases import Silence
from pipeline.edge.git_objects import TreeView, parse_commit
from pipeline.edge.identity import boot_id
from pipeline.edge.ref_store import RefStore
from pipeline.errors import Fenced, LeaseHeld, PipelineError, Refused
from pipeline.operations import site as sites
from pipeline.operations.pulse import Pulse
from pipeline.operations.site import Site
from pipeline.records import paths
from pipeline.records.base import load
from pipeline.records.builders import Heartbeat
from pipeline.records.decisions import View
from pipeline.records.locks import Lock, Locks


@dataclass
class Lease:
    """Held locks. `tokens` maps each name to its fencing token; `trusted_until` is on CLOCK_BOOTTIME."""

    tokens: dict[str, str]
    ttl: float
    clock: Callable[[], float]
    trusted_until: float = 0.0
    lost: str | None = None
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def insist(self) -> None:
        """Returns if the lease can be trusted now. Raises Fenced otherwise: stop, and undo nothing."""
        with self._guard:
            if self.lost is None and self.clock() < self.trusted_until:
                return
        raise Fenced(
            f"The lease on {', '.join(self.tokens)} cannot be trusted any more"
            + (f": {self.lost}." if self.lost else ": it was not renewed in time."),
            reason="fenced",
            remedy="Stop the work, then ask for the lease again.",
        )

    def extend(self, drawn: float) -> None:
        """Extends trust after a renewal whose nonce was drawn at `drawn` and a ledger read after it."""
        with self._guard:
            self.trusted_until = max(self.trusted_until, leases.trust_ends(drawn, self.ttl))


@contextmanager
def hold(
    site: Site,
    pulse: Pulse,
    names: Sequence[str],
    *,
    ttl: float,
    interval: float | None = None,
    patience: float | None = None,
    purpose: str = "",
    renewing: Callable[[], Pulse] | None = None,
) -> Iterator[Lease]:
    """Holds all of `names` or none. `renewing` opens a pulse for the renewing thread; None renews nothing.

    Raises LeaseHeld when `patience` seconds of waiting were not enough, and Refused for impossible terms.
    """
    every = interval or ttl / leases.RENEWALS_PER_TTL
    me = f"{site.holder()[:80]}/{site.random.hex()[:12]}"
    terms = {"holder": me, "ttl_seconds": ttl, "interval_seconds": every, "purpose": purpose}
    value = site.ask(
        {"kind": "lock.acquire", "names": list(names), "wait": patience != 0, **terms}, kind="attached"
    )
    if not value.get("granted"):
        value = _wait(site, pulse, str(value["op"]), list(names), terms, patience)
    tokens = {name: str(token) for name, token in value["tokens"].items()}
    lease = Lease(tokens, ttl, site.clock.boottime)
    stop = threading.Event()
    thread: threading.Thread | None = None
    try:
        waited = _wait_for_predecessors(site, lease)
        _renew(site, pulse, pulse.refs, lease)
        if renewing is not None:
            thread = threading.Thread(target=_keep, args=(site, renewing, lease, every, stop), daemon=True)
            thread.start()
        yield lease
    finally:
        stop.set()
        if thread is not None:
            thread.join(timeout=ttl)
        for token in tokens.values():
            pulse.stop(token)
    try:
        site.ask({"kind": "lock.release", "locks": tokens, "waited": waited})
    except Refused as exc:
        raise Fenced(f"The lease was lost before it was given back: {exc.message}", reason="fenced") from exc


def _keep(
    site: Site, renewing: Callable[[], Pulse], lease: Lease, every: float, stop: threading.Event
) -> None:
    pulse = renewing()
    while not stop.wait(every):
        try:
            _renew(site, pulse, pulse.refs, lease)
        except Fenced:
            return
        except PipelineError:
            continue  # trust runs out by itself


def _renew(site: Site, pulse: Pulse, refs: RefStore, lease: Lease) -> None:
    """One renewal: fresh nonces, an acknowledged push, and then a read that still shows every token."""
    drawn = site.clock.boottime()
    for token in lease.tokens.values():
        pulse.renew("leases", token, site.random.hex())
    held = {lock.name: lock.token for lock in read_locks(refs)}
    gone = [name for name, token in lease.tokens.items() if held.get(name) != token]
    if gone:
        lease.lost = f"{gone[0]} was put aside"
        lease.insist()
    lease.extend(drawn)


def _wait(
    site: Site, pulse: Pulse, op: str, names: list[str], terms: dict[str, Any], patience: float | None
) -> dict[str, Any]:
    """Waits for the grant, renews the place in the queue, and puts silent ones before it aside."""
    until = None if patience is None else site.clock.boottime() + patience
    every = float(terms["interval_seconds"])
    seen: dict[str, Silence] = {}
    next_renewal = 0.0
    try:
        while True:
            now = site.clock.boottime()
            if now >= next_renewal:
                pulse.renew("waiting", op, site.random.hex())
                next_renewal = now + every
            view = site.state().view
            mine = {
                x.name: x.token for x in sites.locks(view).locks if x.token and x.token.endswith(f".{op}")
            }
            if mine:
                return {"tokens": mine}
            if until is not None and now >= until:
                raise LeaseHeld(f"{', '.join(names)}: not free within {patience:g} s.", reason="held")
            _challenge(site, view, names, terms, seen)
            site.clock.sleep(min(0.05, every / 10))
    except BaseException:
        site.ledger.enqueue({"kind": "lock.leave", "builder": site.builder, "op": op})
        raise
    finally:
        pulse.stop(op)


def _challenge(
    site: Site, view: View, names: list[str], terms: dict[str, Any], seen: dict[str, Silence]
) -> None:
    """Observes the holders and waiters before this one; takes over what was silent for long enough."""
    beats = _beats(site)
    for lock in sites.locks(view).locks:
        if lock.name not in names or lock.token is None or lock.ttl_seconds is None:
            continue
        silence = _observe(site, seen, lock.token, _nonce(beats, "leases", lock.owner, lock.token))
        if silence.is_silent(lock.ttl_seconds):
            _try(
                site,
                {
                    "kind": "lock.takeover",
                    "name": lock.name,
                    "token": lock.token,
                    "nonce": silence.nonce,
                    **terms,
                },
                silence,
            )
    for waiter in site.state(fresh=False).state.waiters:
        if waiter.holder == terms["holder"] or set(waiter.names).isdisjoint(names):
            continue
        silence = _observe(site, seen, waiter.op, _nonce(beats, "waiting", waiter.owner, waiter.op))
        if silence.is_silent(leases.RENEWALS_PER_TTL * waiter.interval_seconds):
            _try(site, {"kind": "lock.evict", "op": waiter.op}, silence)


def _try(site: Site, request: dict[str, Any], silence: Silence) -> None:
    try:
        site.ask(request, kind="attached", observations={"silence_seconds": silence.seconds})
    except Refused:
        return  # somebody else was quicker, or it moved


def _observe(site: Site, seen: dict[str, Silence], name: str, nonce: str | None) -> Silence:
    now = site.clock.boottime()
    before = seen.get(name)
    after = before.feed(now, nonce, boot_id()) if before else Silence(nonce, now, now, boot_id())
    seen[name] = after
    return after


def _wait_for_predecessors(site: Site, lease: Lease) -> bool:
    """Waits until nobody who held the locks before can be working: the read AFTER the grant decides."""
    beats = _beats(site)
    longest = 0.0
    for lock in sites.locks(site.state().view).locks:
        if lease.tokens.get(lock.name) == lock.token and lock.predecessor is not None:
            before = lock.predecessor
            nonce = _nonce(beats, "leases", before.owner, before.token or "")
            longest = max(longest, leases.holder_must_wait(lock, nonce))
    if longest:
        site.clock.sleep(longest)
    return True


def _beats(site: Site) -> dict[str, Heartbeat]:
    refs = site.ledger.refs
    _, there = refs.beats(paths.HEARTBEAT_PREFIX)
    found = {}
    for ref, data in refs.beat_data(list(there)).items():
        try:
            found[ref.removeprefix(paths.HEARTBEAT_PREFIX)] = load(Heartbeat, data, ref)
        except PipelineError:
            continue
    return found


def _nonce(beats: dict[str, Heartbeat], kind: str, owner: str, name: str) -> str | None:
    beat = beats.get(owner)
    return getattr(beat, kind).get(name) if beat else None


def read_locks(refs: RefStore) -> list[Lock]:
    """Reads the locks from the remote now, past every cache of the outbox."""
    tip = refs.fetch()
    commit = refs.read(tip) if tip else None
    data = TreeView(refs.read, parse_commit(commit.data).tree).read(paths.LOCKS) if commit else None
    return list(load(Locks, data, paths.LOCKS).locks) if data else []

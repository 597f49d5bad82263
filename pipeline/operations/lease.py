"""A lease on something outside the ledger, held around work on it.

    with hold(site, ["promotion"], ttl=30) as lease:
        ...                      # every step asks lease.insist() first, and presents lease.tokens

The holder's side of docs/explanation/ledger.md, Leases:
    1. acquire, or wait in commit order (`waiter`)
    2. after a takeover or a break: wait until nobody before can be working any more, and renew meanwhile
    3. a renewal, and a read of the ledger that begins after it was acknowledged: now the lease is trusted
    4. work, while a thread renews; trust is extended only by renewal AND read
    5. release by exact token, also after an exception
A program that runs under a lease is ended by a process of its own before trust ends: `guarded`.

Guarantee: `insist` returns only while no other process can hold the lease, as long as clocks drift by no
more than `leases.DRIFT`. Non-guarantee: a process that is suspended between `insist` and its next step; the
thing guarded has to compare the token.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pipeline.coordination import leases
from pipeline.edge.git_objects import TreeView, parse_commit
from pipeline.edge.ref_store import RefStore
from pipeline.errors import Fenced, LedgerError, LedgerUnreachable, PipelineError, Refused
from pipeline.operations import site as sites
from pipeline.operations.pulse import Pulse
from pipeline.operations.site import Site
from pipeline.operations.waiter import Terms, acquire, nonce_of
from pipeline.records import paths
from pipeline.records.base import load
from pipeline.records.locks import Lock, Locks

ReadLocks = Callable[[RefStore], list[Lock]]

#: After a renewal that failed, the next is tried after this part of the interval.
_RETRIES_PER_INTERVAL = 5
#: How long the end of a renewal that is under way is waited for before the lock is given back.
_JOIN_SECONDS = 5.0


@dataclass
class Lease:
    """Held locks. `tokens` maps each name to its fencing token; `trusted_until` is on CLOCK_BOOTTIME.

    `lost` says in words why it is not ours any more. With `keep` it is not given back: somebody may still
    work under it. `waited` is true once nobody who held the locks before can be working.
    """

    tokens: dict[str, str]
    ttl: float
    clock: Callable[[], float]
    trusted_until: float = 0.0
    lost: str | None = None
    keep: bool = False
    waited: bool = False
    _follower: Callable[[float], None] | None = None
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
            if self._follower is not None:
                self._follower(self.trusted_until)

    @contextmanager
    def followed(self, follower: Callable[[float], None]) -> Iterator[None]:
        """Tells `follower` until when the lease is trusted, now and whenever it is extended."""
        with self._guard:
            self._follower = follower
            follower(self.trusted_until)
        try:
            yield
        finally:
            with self._guard:
                self._follower = None


@contextmanager
def hold(
    site: Site,
    names: Sequence[str],
    *,
    ttl: float,
    interval: float | None = None,
    patience: float | None = None,
    purpose: str = "",
) -> Iterator[Lease]:
    """Holds all of `names` or none while the block runs. `patience` is for how many seconds it waits.

    None waits as long as it takes, 0 not at all. Raises LeaseHeld when the wait was not long enough, Refused
    for impossible terms, LedgerError where the remote cannot be used, and, at the end, Fenced where the lease
    was lost before it was given back. A release that gets no answer stays in the outbox.
    """
    every = max(interval or ttl / leases.RENEWALS_PER_TTL, site.least_interval)
    holder = f"{site.holder()[:80]}/{site.random.hex()[:12]}"
    terms = Terms(tuple(dict.fromkeys(names)), ttl, every, holder, purpose)
    pulse = site.make_pulse()
    granted = acquire(site, pulse, terms, patience)
    lease = Lease(granted.tokens, ttl, site.clock.boottime)
    try:
        if granted.after:
            _wait_for_predecessors(site, pulse, lease, every)
        lease.waited = True
        _begin(site, pulse, lease)
        with _kept(site, lease, every):
            yield lease
    except BaseException:
        with suppress(PipelineError):
            _give_back(site, pulse, lease)
        raise
    _give_back(site, pulse, lease)


def _give_back(site: Site, pulse: Pulse, lease: Lease) -> None:
    """Releases what is still ours, by exact token. Raises Fenced if any of it was lost, LedgerError."""
    for token in lease.tokens.values():
        pulse.stop(token)
    if lease.keep:
        return
    try:
        value = site.ask({"kind": "lock.release", "locks": lease.tokens, "waited": lease.waited})
    except Refused as exc:
        raise Fenced(f"The lease was lost before it was given back: {exc.message}", reason="fenced") from exc
    if value.get("fenced"):
        gone = ", ".join(value["fenced"])
        raise Fenced(f"The lease on {gone} was lost before it was given back.", reason="fenced")


@contextmanager
def _kept(site: Site, lease: Lease, every: float) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=_keep, args=(site, lease, every, stop), name="lease", daemon=True)
    # A terminal's keys are meant for the work: the git of a renewal, in the same group, does not hear them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGQUIT})
    thread.start()  # it, and what it starts, has this mask for good
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=_JOIN_SECONDS)


def _keep(site: Site, lease: Lease, every: float, stop: threading.Event) -> None:
    """Renews until it is stopped or the lease is lost. Where it can't, trust runs out by itself."""
    pulse: Pulse | None = None
    wait = every
    while not stop.wait(wait):
        begun = site.clock.boottime()
        try:
            pulse = pulse or site.make_pulse(own=True)
            _renew(site, pulse, lease, read_locks)
            wait = max(0.0, every - (site.clock.boottime() - begun))
        except Fenced:
            return
        except (PipelineError, OSError):
            wait = every / _RETRIES_PER_INTERVAL


def _begin(site: Site, pulse: Pulse, lease: Lease) -> None:
    """The renewal that the work begins after; a remote that does not answer is asked again for a while."""
    until = site.clock.boottime() + site.settings.patience_seconds
    while True:
        try:
            _renew(site, pulse, lease)
            return
        except LedgerUnreachable:
            if site.clock.boottime() >= until:
                raise
            site.clock.sleep(0.5)


def _renew(site: Site, pulse: Pulse, lease: Lease, read: ReadLocks | None = None) -> None:
    """One renewal: fresh nonces, an acknowledged push, and then a read that still shows every token.

    `read` is for another thread than the one that the outbox belongs to.
    """
    drawn = site.clock.boottime()
    pulse.renew("leases", {token: site.random.hex() for token in lease.tokens.values()})
    locks = read(pulse.refs) if read else sites.locks(site.state().view).locks
    held = {lock.name: lock for lock in locks}
    for name, token in lease.tokens.items():
        now = held.get(name)
        if now is None or now.token != token:
            by = f"{now.owner} holds it now (token {now.token})" if now else "it was freed by force"
            lease.lost = f"`{name}` was taken away, {by}"
            lease.insist()
    lease.extend(drawn)


def _wait_for_predecessors(site: Site, pulse: Pulse, lease: Lease, every: float) -> None:
    """Waits until nobody who held the locks before can be working: the read AFTER the grant decides.

    Renews meanwhile, or whoever is next would see this holder silent by the time it may begin.
    """
    standing, beats = site.survey()
    mine = [x for x in sites.locks(standing.view).locks if lease.tokens.get(x.name) == x.token]
    after = {x.name: x.predecessor for x in mine if x.predecessor is not None}
    longest = max(
        (
            leases.holder_must_wait(x, nonce_of(beats, "leases", before.owner, before.token or ""))
            for x in mine
            if (before := after.get(x.name))
        ),
        default=0.0,
    )
    until = site.clock.boottime() + longest
    if longest:
        who = " and ".join(sorted({before.owner for before in after.values()}))
        site.say(f"{who} held it before and may still work under it: waiting for {longest:.0f} s.")
    while (left := until - site.clock.boottime()) > 0:
        with suppress(LedgerError):
            _renew(site, pulse, lease)
        site.clock.sleep(min(every, left))
    for name in after:
        with suppress(LedgerError):  # saves the next holder a wait, no more
            site.ask({"kind": "lock.ready", "name": name, "token": lease.tokens[name]})


def read_locks(refs: RefStore) -> list[Lock]:
    """Reads the locks from the remote now, past every cache of the outbox."""
    tip = refs.fetch()
    commit = refs.read(tip) if tip else None
    data = TreeView(refs.read, parse_commit(commit.data).tree).read(paths.LOCKS) if commit else None
    return list(load(Locks, data, paths.LOCKS).locks) if data else []

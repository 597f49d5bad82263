"""A process that wants locks: asks, waits in commit order, and puts aside who has fallen silent before it.

The challenger's side of docs/explanation/ledger.md, Leases. One read of the remote shows the branch and every
heartbeat. Silence is that a holder's (or an earlier waiter's) nonce is the same, or absent, from the end of
the first read that showed it, for its whole time to live and more, on this machine's own clock. Then the
ledger is asked to put it aside, with what was seen as evidence; the ledger decides, and serves in order.

Reads grow rarer the longer nothing happens: a pause is a tenth of the time that was waited, 5 s at most, and
longer than the read itself took. Who is next learns of its turn at most that much later.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.coordination import leases
from pipeline.coordination.leases import Silence, granting_op
from pipeline.errors import LeaseHeld, LedgerBusy, LedgerUnreachable, OutcomeUnknown, PipelineError, Refused
from pipeline.ledger.history import Standing
from pipeline.operations import site as sites
from pipeline.operations.pulse import Kind, Pulse
from pipeline.operations.sightings import keep, recall
from pipeline.operations.site import Site
from pipeline.records.builders import Heartbeat
from pipeline.records.locks import Lock, Waiter

_SHORTEST_PAUSE, _LONGEST_PAUSE, _PAUSE_SHARE = 0.03, 5.0, 0.1
#: Heartbeats are looked at no more often: what is silent is so for many seconds.
_LOOK_SECONDS = 1.0
#: How long an asker that gives up tries to tell the ledger; afterwards the outbox does.
_LEAVE_SECONDS = 10.0

Beats = Mapping[str, Heartbeat]


@dataclass(frozen=True)
class Terms:
    """What is asked for: all of `names` or none, for `ttl` seconds, renewed every `interval`."""

    names: tuple[str, ...]
    ttl: float
    interval: float
    holder: str
    purpose: str = ""

    def request(self) -> dict[str, Any]:
        """Returns the terms as a request states them."""
        return {
            "holder": self.holder,
            "ttl_seconds": self.ttl,
            "interval_seconds": self.interval,
            "purpose": self.purpose,
        }


@dataclass(frozen=True)
class Granted:
    """Tokens by name, and the locks of which somebody else may still believe that they are his."""

    tokens: dict[str, str]
    after: list[str] = field(default_factory=list)


def acquire(site: Site, pulse: Pulse, terms: Terms, patience: float | None) -> Granted:
    """Returns once all the locks are granted. `patience` as for `lease.hold`.

    Raises LeaseHeld that names the holder, Refused for impossible terms, LedgerError. Whatever is raised,
    nothing stays granted and no place in a queue stays taken, except where the remote does not answer: then
    the outbox holds the withdrawal.
    """
    place = _Place(site, pulse, terms)
    granted = place.join(wait=patience != 0)
    if granted is not None:
        return granted
    try:
        return place.wait(patience)
    except BaseException:
        place.leave()
        raise


def nonce_of(beats: Beats, kind: Kind, owner: str, name: str) -> str | None:
    """Returns the nonce that a holder or a waiter drew last, as its builder's heartbeat shows it."""
    beat = beats.get(owner)
    return getattr(beat, kind).get(name) if beat else None


class _Place:
    """This process's place in the queue, and what it has seen of those before it."""

    def __init__(self, site: Site, pulse: Pulse, terms: Terms) -> None:
        self._site, self._pulse, self._terms = site, pulse, terms
        self._op = ""
        self._seen: dict[str, Silence] = {}
        self._said = ""
        self._next_renewal = self._next_look = 0.0
        self._read = 0.0, 0.0

    # -- the queue -----------------------------------------------------------------------------------

    def join(self, *, wait: bool) -> Granted | None:
        """Asks for the locks; None: a place in the queue."""
        site, terms = self._site, self._terms
        request = {"kind": "lock.acquire", "names": list(terms.names), "wait": wait, **terms.request()}
        try:
            value = site.ask(request, kind="attached")
        except LeaseHeld:
            # Who never waits may still have seen enough, over several commands.
            if not wait and (granted := self._glance()):
                return granted
            raise
        except PipelineError:
            raise
        except BaseException:
            # Interrupted: what may have been granted meanwhile is given back now, not at the next command.
            with suppress(PipelineError):
                site.ledger.deliver(_LEAVE_SECONDS)
            raise
        if value.get("granted"):
            return Granted(_tokens(value), list(value.get("after", [])))
        self._op = str(value["op"])
        # It is in the queue as of now; nobody can find it silent before three intervals have passed.
        self._next_renewal = site.clock.boottime() + terms.interval
        return None

    def leave(self) -> None:
        """Gives the place up, and whatever was granted meanwhile."""
        self._pulse.stop(self._op)
        with suppress(PipelineError):
            self._site.ask({"kind": "lock.leave", "op": self._op}, patience=_LEAVE_SECONDS)

    def wait(self, patience: float | None) -> Granted:
        """Waits for the grant, renews the place, and has silent ones before it put aside."""
        clock = self._site.clock
        begun = changed = clock.boottime()
        until = None if patience is None else begun + patience
        tip, standing = "", None
        self._next_look = begun + _LOOK_SECONDS
        while True:
            begun = clock.boottime()
            try:
                self._renew()
                standing, granted = self._look(begun)
                if granted is not None:
                    self._pulse.stop(self._op)
                    return granted
            except (LedgerUnreachable, LedgerBusy, OutcomeUnknown) as exc:
                self._say(f"{exc.message} Still waiting.")
            now = clock.boottime()
            if standing is not None and standing.tip != tip:
                changed, tip = now, standing.tip
            if until is not None and now >= until:
                self._remember(standing)
                raise self._held(standing, f"not free within {patience:g} s")
            pause = min(_LONGEST_PAUSE, self._terms.interval / 3, _PAUSE_SHARE * (now - changed))
            pause = max(_SHORTEST_PAUSE, pause, min(now - begun, 1.0))
            clock.sleep(pause if until is None else min(pause, max(0.0, until - now)))

    def _look(self, now: float) -> tuple[Standing, Granted | None]:
        """Reads the ledger, now and then with the heartbeats. Returns what was granted, if it was."""
        beats: Beats | None = None
        if now >= self._next_look:
            standing, beats = self._survey()
            self._next_look = now + _LOOK_SECONDS
        else:
            standing = self._site.state()
        granted = self._granted(standing)
        if granted is None and all(waiter.op != self._op for waiter in standing.state.waiters):
            self._say("The place in the queue was lost: this process was silent for too long. Asking again.")
            self._pulse.stop(self._op)
            granted = self.join(wait=True)
        elif granted is None:
            self._say(self._words(standing))
            granted = self._challenge(standing, beats) if beats is not None else None
        return standing, granted

    def _renew(self) -> None:
        now = self._site.clock.boottime()
        if now >= self._next_renewal:
            self._pulse.renew("waiting", {self._op: self._site.random.hex()})
            self._next_renewal = now + self._terms.interval

    def _granted(self, standing: Standing) -> Granted | None:
        mine = [x for x in sites.locks(standing.view).locks if granting_op(x.token) == self._op]
        tokens = {x.name: x.token for x in mine if x.token is not None}
        return Granted(tokens, [x.name for x in mine if x.predecessor]) if tokens else None

    def _survey(self) -> tuple[Standing, Beats]:
        """Reads ledger and heartbeats, and notes from when to when."""
        begun = self._site.clock.boottime()
        found = self._site.survey()
        self._read = begun, self._site.clock.boottime()
        return found

    # -- those before it -----------------------------------------------------------------------------

    def _challenge(self, standing: Standing, beats: Beats) -> Granted | None:
        """Observes holders and earlier waiters, and asks the ledger to put aside who was silent enough."""
        for lock in self._holders(standing):
            assert lock.token is not None
            silence = self._observe(lock.token, nonce_of(beats, "leases", lock.owner, lock.token), lock.name)
            if silence.is_silent(lock.ttl_seconds or 0.0) and (granted := self._take_over(lock, silence)):
                return granted
        for waiter in self._before(standing):
            silence = self._observe(waiter.op, nonce_of(beats, "waiting", waiter.owner, waiter.op))
            if silence.is_silent(leases.RENEWALS_PER_TTL * waiter.interval_seconds):
                self._site.say(
                    f"{waiter.owner}, which waits, was silent for {silence.seconds:.0f} s: put aside."
                )
                self._ask({"kind": "lock.evict", "op": waiter.op}, silence)
        return None

    def _take_over(self, lock: Lock, silence: Silence) -> Granted | None:
        """Has a silent holder put aside. The lock goes to the first of its queue, whoever asked for that."""
        self._site.say(f"{lock.owner} was silent for {silence.seconds:.0f} s: it loses `{lock.name}`.")
        request = {"kind": "lock.takeover", "name": lock.name, "token": lock.token, "nonce": silence.nonce}
        value = self._ask({**request, **self._terms.request()}, silence)
        if not value.get("granted"):
            return None
        tokens = _tokens(value)
        if set(tokens) == set(self._terms.names):
            return Granted(tokens, list(value.get("after", [])))
        # Our place was gone by then, so that this one was given to us alone: all or none.
        self._site.ask({"kind": "lock.release", "locks": tokens, "waited": False})
        return None

    def _glance(self) -> Granted | None:
        """One look by a process that does not wait. What it has seen is kept for the next one."""
        standing, beats = self._survey()
        holders = self._holders(standing)
        if len(self._terms.names) > 1 or not holders:
            return None
        granted = self._challenge(standing, beats)
        self._remember(standing)
        return granted

    def _ask(self, request: dict[str, Any], silence: Silence) -> dict[str, Any]:
        try:
            return self._site.ask(request, kind="attached", observations={"silence_seconds": silence.seconds})
        except Refused:
            return {}  # somebody else was quicker, or it moved

    def _holders(self, standing: Standing) -> list[Lock]:
        """Returns the holders of what is wanted, as far as they renew themselves."""
        held = sites.locks(standing.view).locks
        return [x for x in held if x.name in self._terms.names and x.token and x.ttl_seconds is not None]

    def _before(self, standing: Standing) -> list[Waiter]:
        """Returns those who wait for any of the same locks and come first."""
        found = []
        for waiter in standing.state.waiters:
            if waiter.op == self._op:
                break
            if not set(waiter.names).isdisjoint(self._terms.names):
                found.append(waiter)
        return found

    def _observe(self, name: str, nonce: str | None, lock: str | None = None) -> Silence:
        """Takes in what the last read has shown. Whatever was waited for since then is no silence."""
        before = self._seen.get(name) or (self._recall(lock, name) if lock else None)
        after = Silence.observed(before, nonce, self._site.boot(), self._read)
        self._seen[name] = after
        return after

    def _recall(self, lock: str, token: str) -> Silence | None:
        seen = recall(self._site, f"lock/{lock}", token=token)
        return seen if seen is not None and seen.nonce is not None else None

    def _remember(self, standing: Standing | None) -> None:
        """Keeps what was seen of the holders for a later command; but for no nonce, which may have come and
        gone between two commands.
        """
        for lock in self._holders(standing) if standing else []:
            seen = self._seen.get(lock.token or "")
            if seen is not None and seen.nonce is not None:
                keep(self._site, f"lock/{lock.name}", seen, token=lock.token or "")

    # -- words ---------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._site.say(text)

    def _words(self, standing: Standing) -> str:
        ahead = len(self._before(standing))
        holders = [_holding(x) for x in sites.locks(standing.view).locks if x.name in self._terms.names]
        return f"Waiting: place {ahead + 1} in the queue. {' '.join(holders)}".rstrip()

    def _held(self, standing: Standing | None, what: str) -> LeaseHeld:
        """Returns the error of a wait that was too short: who holds it, who comes first, what to do."""
        names = ", ".join(f"`{name}`" for name in self._terms.names)
        every = sites.locks(standing.view).locks if standing else []
        held = [x for x in every if x.name in self._terms.names]
        told = [_holding(x) for x in held]
        if standing is not None and (ahead := len(self._before(standing))):
            told.append(f"{ahead} {'waits' if ahead == 1 else 'wait'} before this process.")
        lock = next((x for x in held if x.token), None)
        force = (
            f", or, if {lock.owner} is really gone: `invoke lock.break {lock.name} --token {lock.token}`"
            if lock
            else ""
        )
        return LeaseHeld(
            " ".join([f"{names}: {what}.", *told]), reason="held", remedy=f"Wait longer (`--wait`){force}."
        )


def _holding(lock: Lock) -> str:
    purpose = f" for “{lock.purpose}”" if lock.purpose else ""
    return f"`{lock.name}` is held by {lock.owner}{purpose}."


def _tokens(value: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(token) for name, token in value["tokens"].items()}

"""What leases can leave out: of the decisions, of challengers and of holders."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from pipeline.coordination import leases
from pipeline.coordination.draft import Draft, replaced
from pipeline.coordination.leases import Silence
from pipeline.operations import lease
from pipeline.operations.pulse import Pulse
from tests.simulation import world as worlds
from tests.simulation.mutants.registry import decides, instead, mutant
from tests.simulation.node import VirtualClock

mutant(
    "takeover-keeps-token",
    "leases",
    "takeover",
    "a takeover passes the old token on",
    decides("lock.takeover", lambda real: lambda draft, request: _inherited(real, draft, request)),
)


def _inherited(real: Any, draft: Any, request: Any) -> Any:
    with patch.object(Draft, "new_token", lambda self, op: request.token):
        return real(draft, request)


def _backwards(real: Any) -> Any:
    def serve(draft: Any) -> None:
        waiters = draft.ledger.waiters
        draft.ledger = replaced(draft.ledger, waiters=waiters[::-1])
        real(draft)
        left = {waiter.op for waiter in draft.ledger.waiters}
        draft.ledger = replaced(draft.ledger, waiters=[w for w in waiters if w.op in left])

    return serve


mutant(
    "waiter-skipped",
    "leases",
    "takeover",
    "the last of a queue is served first",
    (leases, "serve", _backwards),
)
mutant(
    "nobody-served",
    "leases",
    "takeover",
    "a lock that is given back is given to nobody",
    decides("lock.release", lambda real: lambda draft, request: _unserved(real, draft, request)),
)


def _unserved(real: Any, draft: Any, request: Any) -> Any:
    with patch.object(leases, "serve", lambda draft: None):
        return real(draft, request)


mutant(
    "predecessor-forgotten",
    "leases",
    "takeover",
    "a lock taken by force keeps no trace of its holder",
    (leases, "free", lambda real: lambda draft, lock, left: real(draft, lock, None)),
)
mutant(
    "takeover-unproven",
    "challenger",
    "takeover",
    "a holder is put aside without silence",
    (leases, "unproven", instead(lambda *words, **more: None)),
    (Silence, "is_silent", instead(lambda self, ttl, *words: self.seconds > 1.0)),
)
mutant(
    "silence-from-the-start",
    "challenger",
    "takeover",
    "silence is counted from the first look, whatever changed",
    (
        Silence,
        "feed",
        instead(lambda self, ended, nonce, boot_id="", **read: Silence(nonce, self.since, ended, boot_id)),
    ),
)
mutant(
    "no-second-look",
    "lease holder",
    "takeover",
    "after a takeover the old heartbeat is not read again",
    (leases, "holder_must_wait", instead(lambda lock, nonce, *words: 0.0)),
)
mutant(
    "trust-from-the-answer",
    "lease holder",
    "takeover",
    "trust is counted from the answer, not from the push",
    (lease, "_renew", instead(lambda site, pulse, held, read=None: _renewed_late(site, pulse, held))),
)


def _renewed_late(site: Any, pulse: Any, held: Any) -> None:
    for _ in range(5):
        try:
            pulse.renew("leases", {token: site.random.hex() for token in held.tokens.values()})
            break
        except lease.PipelineError:
            continue
    lease.read_locks(pulse.refs)
    held.extend(site.clock.boottime() + held.ttl / 2)


mutant(
    "trust-without-reading",
    "lease holder",
    "takeover",
    "trust is extended without reading the ledger",
    (lease, "_renew", instead(lambda site, pulse, held, read=None: _unread(site, pulse, held))),
)


def _unread(site: Any, pulse: Any, held: Any) -> None:
    drawn = site.clock.boottime()
    pulse.renew("leases", {token: site.random.hex() for token in held.tokens.values()})
    held.extend(drawn)


mutant(
    "nonce-repeats",
    "lease holder",
    "takeover",
    "every renewal carries the same nonce",
    (
        Pulse,
        "renew",
        lambda real: (
            lambda self, kind, nonces, progress=None: real(
                self, kind, dict.fromkeys(nonces, "same"), progress
            )
        ),
    ),
)


def _strangers_left_out(real: Any) -> Any:
    def collect(self: Pulse, last: bytes | None) -> Any:
        heartbeat, stopped = real(self, last)
        strangers = {each.name for _, each, _ in self._entries() if each.process == "elsewhere"}
        own = {
            kind: {name: nonce for name, nonce in getattr(heartbeat, kind).items() if name not in strangers}
            for kind in ("leases", "waiting")
        }
        return heartbeat.model_copy(update=own), stopped

    return collect


mutant(
    "strangers-left-out",
    "lease holder",
    "copies",
    "a copy of a store leaves out what the original renews",
    (Pulse, "_collect", _strangers_left_out),
)
mutant(
    "wall-clock",
    "lease holder",
    "takeover",
    "leases run on the wall clock",
    (VirtualClock, "boottime", instead(lambda self: self._node.wall())),
)
mutant(
    "no-watchdog",
    "lease holder",
    "takeover",
    "nothing ends the work when trust ends",
    (worlds.World, "watch", instead(lambda *words: None)),
    (lease.Lease, "insist", instead(lambda self: None)),
)

"""Deliberate bugs of the product, by name: each leaves one rule out, and a named invariant has to notice.

For tests only. `planted` puts one into the product's place for the length of a run. Those of the ledger
itself are taken over from tests/ledger/mutants.py; where they replaced a fake there, they replace a virtual
machine's part here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from pipeline.coordination import leases, mailbox, queue, reducer, results
from pipeline.coordination.draft import Draft, replaced
from pipeline.coordination.leases import Silence
from pipeline.ledger import chain
from pipeline.ledger.branch import Branch
from pipeline.ledger.leader import Leader
from pipeline.operations import lease, rescue
from pipeline.operations.pulse import Pulse
from pipeline.records import paths
from tests.ledger import mutants as old
from tests.simulation import world as worlds
from tests.simulation.node import VirtualClock, VirtualLivingLock, VirtualProcesses, VirtualRandomness
from tests.simulation.server import Server

Change = tuple[Any, str, Callable[[Any], Any]]


@dataclass(frozen=True)
class Mutant:
    """One bug: the part that it is in, what is left out, and the profile in which it is looked for."""

    part: str
    text: str
    profile: str
    changes: tuple[Change, ...]


MUTANTS: dict[str, Mutant] = {}


def mutant(name: str, part: str, profile: str, text: str, *changes: Change) -> None:
    """Registers a mutant."""
    MUTANTS[name] = Mutant(part, text, profile, changes)


def taken_over(name: str, part: str, profile: str, **instead: Any) -> None:
    """Registers a mutant of the ledger's own tests; `instead` names what it replaces here."""
    known = old.MUTANTS[name]
    changes = [(instead.get("owner", owner), word, make) for (owner, word), make in known.changes.items()]
    mutant(name, part, profile, known.text, *changes)


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Puts a mutant into the product for a while."""
    with ExitStack() as stack:
        for owner, word, make in MUTANTS[name].changes if name else ():
            stack.enter_context(patch.object(owner, word, make(getattr(owner, word))))
        yield


def instead(function: Any) -> Callable[[Any], Any]:
    """Returns a maker of the same stand-in, whatever was there."""
    return lambda real: function


# ---------------------------------------------------------------- transaction and store

for _name, _part, _profile in (
    ("no-record", "chain", "everything"),
    ("number-alone", "transaction", "odd-disks"),
    ("no-search", "transaction", "odd-disks"),
    ("search-once", "transaction", "odd-disks"),
    ("numbered-at-drain", "store", "two-leaders"),
    ("reborn-unseen", "store", "rivals"),
    ("no-deadline", "store", "two-leaders"),
    ("no-compare", "store", "rivals"),
    ("drop-pushed", "store", "rivals"),
    ("refused-early", "transaction", "rivals"),
    ("no-doubt", "store", "rivals"),
    ("first-parents", "chain", "hands"),
    ("unbound-record", "chain", "hands"),
    ("joins-any-repair", "transaction", "rewinds"),
    ("mark-read-after", "transaction", "rewinds"),
    ("rewind-unnoticed", "transaction", "rewinds"),
    ("not-held", "store", "rivals"),
    ("unknown-is-new", "transaction", "odd-disks"),
):
    _instead = {"owner": VirtualLivingLock} if _name == "no-deadline" else {}
    taken_over(_name, _part, _profile, **_instead)
taken_over("attached-lives-on", "store", "two-leaders", owner=VirtualProcesses)
taken_over("epoch-plus-one", "refs", "rewinds", owner=VirtualRandomness)
taken_over("drain-gives-up", "recovery", "losses")

_counter = itertools.count()
mutant(
    "counted-ops",
    "transaction",
    "everything",
    old.MUTANTS["counted-ops"].text,
    (
        VirtualRandomness,
        "op",
        instead(lambda self: f"op{int(self._node.wall()) % 7:04d}{self._node.dice.bits(5)}"),
    ),
)


def _says_whether_it_writes(real: Any) -> Any:
    def plan(self: Leader, outbox: Any) -> Any:
        made = real(self, outbox)
        self._branch.writes = made is None or bool(made.commit)  # type: ignore[attr-defined]
        return made

    return plan


def _unless_it_writes(real: Any) -> Any:
    def fetch(self: Branch, read: Any = None) -> str:
        return (None if getattr(self, "writes", True) else self.store.tip()) or str(real(self, read))

    return fetch


mutant(
    "cached-tip",
    "transaction",
    "rivals",
    old.MUTANTS["cached-tip"].text,
    (Leader, "_plan", _says_whether_it_writes),
    (Branch, "fetch", _unless_it_writes),
)


def _forgetful(real: Any) -> Any:
    def completed(state: Any, batch: Any, outcomes: Any) -> Any:
        writers = real(state, batch, outcomes)
        return writers | {batch.writer: writers[batch.writer].model_copy(update={"completed": {}})}

    return completed


mutant("no-receipt", "chain", "everything", "no receipt is written", (chain, "_completed", _forgetful))
mutant(
    "settled-too-far",
    "store",
    "two-leaders",
    "`settled` reaches the oldest entry that is held",
    (
        Leader,
        "_plan",
        lambda real: (
            lambda self, outbox: real(self, outbox._replace(floor=outbox.floor + (len(outbox.entries) > 1)))
        ),
    ),
    (chain, "_completed", lambda real: lambda *words: _lenient(real, *words)),
)


def _lenient(real: Any, state: Any, batch: Any, outcomes: Any) -> Any:
    items = [item for item in batch.items if item.sequence > batch.settled]
    return real(state, replace(batch, items=items), outcomes)


def _early(real: Any) -> Any:
    def carry(self: Leader, plan: Any, tries: int, until: float) -> bool:
        self._store.settle(plan.writer, {e.op: plan.outcomes[e.sequence] for e in plan.entries})
        return bool(real(self, plan, tries, until))

    return carry


mutant(
    "answers-before-the-push",
    "transaction",
    "everything",
    "group commit answers before its push is known",
    (Leader, "_carry", _early),
)
mutant(
    "push-without-lease",
    "refs",
    "everything",
    "a push does not compare what it replaces",
    (Server, "move", lambda real: lambda self, commit, expected: real(self, commit, self.tip)),
)


def _stubborn(real: Any) -> Any:
    def carry(self: Leader, plan: Any, tries: int, until: float) -> bool:
        try:
            return bool(real(self, plan, tries, until))
        except worlds.REFUSALS:
            return False

    return carry


mutant(
    "refusal-not-believed",
    "transaction",
    "everything",
    "a hook's refusal is tried again and again",
    (Leader, "_carry", _stubborn),
)
mutant(
    "clock-in-a-decision",
    "chain",
    "everything",
    "a decision reads a clock",
    (
        reducer,
        "decide",
        lambda real: (
            lambda view, request, evidence, context: real(
                view,
                request,
                evidence.model_copy(update={"now": evidence.now + timedelta(seconds=next(_counter))}),
                context,
            )
        ),
    ),
)
mutant(
    "unlooked-batch",
    "chain",
    "two-leaders",
    "a batch is decided without looking up what is done",
    (chain, "lookup", instead(lambda state, writer, sequence, op: None)),
)
mutant(
    "pushes-nothing-new",
    "transaction",
    "everything",
    "an answer that needs no push is pushed",
    (Leader, "_plan", lambda real: lambda self, outbox: _always_pushed(real, self, outbox)),
)


def _always_pushed(real: Any, self: Leader, outbox: Any) -> Any:
    with patch.object(chain, "advance", _changed(chain.advance)):
        return real(self, outbox)


def _changed(real: Any) -> Any:
    return lambda *words: replace(real(*words), changed=True)


# ---------------------------------------------------------------- tokens and jobs

mutant(
    "token-reused",
    "refs",
    "everything",
    "a token's number is not counted up",
    (Draft, "new_token", instead(lambda draft, op: f"{draft.ledger.epoch}.{draft.ledger.next_token}.{op}")),
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


def _by_age(site: Any, token: str, nonce: Any) -> Silence:
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
    (
        queue,
        "claim",
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


def _decides(kind: str, make: Callable[[Any], Any]) -> Change:
    return (reducer, "_DECISIONS", lambda real: {**real, kind: make(real[kind])})


MUTANTS["newest-first"] = replace(
    MUTANTS["newest-first"],
    changes=(
        _decides(
            "job.claim",
            lambda real: lambda draft, request: _newest_first(draft, request) or real(draft, request),
        ),
    ),
)
mutant(
    "result-without-token",
    "queue",
    "losses",
    "a result is taken whatever token it shows",
    _decides("job.complete", _any_token),
)


def _never_current(real: Any) -> Any:
    return lambda draft, request: results._keep_late(draft, request, queue.find(draft, request.job_id))


mutant(
    "result-turned-down",
    "queue",
    "losses",
    "a result under the current token is kept as late",
    _decides("job.complete", _never_current),
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
    _decides("job.cancel", _cancelled_at_once),
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
    _decides("job.retry", lambda real: lambda draft, request: _again(draft, request) or real(draft, request)),
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

# ---------------------------------------------------------------- leases

mutant(
    "takeover-keeps-token",
    "leases",
    "takeover",
    "a takeover passes the old token on",
    _decides("lock.takeover", lambda real: lambda draft, request: _inherited(real, draft, request)),
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
    _decides("lock.release", lambda real: lambda draft, request: _unserved(real, draft, request)),
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
        instead(lambda self, boottime, nonce, boot_id="": Silence(nonce, self.since, boottime, boot_id)),
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

# ---------------------------------------------------------------- recovery

mutant(
    "looking-kills",
    "recovery",
    "losses",
    "recovery holds a living process for dead",
    (VirtualProcesses, "alive", lambda real: lambda self, process: process == self._me),
)
mutant(
    "epoch-keeps-tokens",
    "recovery",
    "rewinds",
    "a repair leaves the epoch as it is",
    _decides("ledger.raise_epoch", lambda real: lambda draft, request: _no_epoch(real, draft, request)),
)


def _no_epoch(real: Any, draft: Any, request: Any) -> Any:
    answer = real(draft, request)
    draft.ledger = replaced(draft.ledger, epoch=1, next_token=1)
    return answer


# ---------------------------------------------------------------- mailbox


def _for_all(real: Any) -> Any:
    def mark(draft: Any, message: Any, by: str, acknowledge: bool) -> bool:
        for name in mailbox.recipients_of(draft, message):
            live = next(each for each in draft.messages.messages if each.id == message.id)
            real(draft, live, name, acknowledge)
        return True

    return mark


def _forgetting(real: Any) -> Any:
    def mark(draft: Any, message: Any, by: str, acknowledge: bool) -> bool:
        return _only(draft, message, by)

    return mark


def _only(draft: Any, message: Any, by: str) -> bool:
    after = replaced(message, read_by={by: draft.now}, acknowledged_by={}, read=message.recipients == [by])
    messages = [after if each is message else each for each in draft.messages.messages]
    draft.messages = replaced(draft.messages, messages=messages)
    return True


def _hasty(real: Any) -> Any:
    def seal(draft: Any) -> None:
        if len(draft.messages.messages) > 10:
            draft.messages = replaced(draft.messages, messages=draft.messages.messages[1:])

    return seal


def _overwritten(real: Any) -> Any:
    def seal(draft: Any) -> None:
        with (
            patch.multiple(mailbox, TAIL=3),
            patch.object(Draft, "exists", lambda self, path: False),
            patch.object(
                paths,
                "message_archive",
                lambda ordinal: "coordination/archive/messages/000000/000000000.json",
            ),
        ):
            real(draft)

    return seal


mutant(
    "read-for-all",
    "mailbox",
    "mail",
    "what one has read is marked for all",
    (mailbox, "_mark_live", _for_all),
)
mutant(
    "marks-forgotten",
    "mailbox",
    "mail",
    "a mark replaces those of the others",
    (mailbox, "_mark_live", _forgetting),
)
mutant(
    "automatic-loop",
    "mailbox",
    "mail",
    "an automatic reply is answered automatically",
    (mailbox, "_loop_refused", instead(lambda *words: None)),
)
mutant(
    "message-dropped",
    "mailbox",
    "mail",
    "the oldest message leaves the file, and is sealed by another commit",
    (mailbox, "_seal", _hasty),
    (Draft, "_check_conserved", instead(lambda *words: None)),
)
mutant(
    "archive-overwritten",
    "mailbox",
    "mail",
    "sealed messages go to a path that was sealed before",
    (mailbox, "_seal", _overwritten),
    (Draft, "_check_conserved", instead(lambda *words: None)),
)
mutant(
    "withdrawal-forgotten",
    "recovery",
    "two-leaders",
    "what was granted to a dead asker is not taken back",
    _decides(
        "withdraw", lambda real: lambda draft, request: {"left": False, "released": [], "jobs": ["none"]}
    ),
)

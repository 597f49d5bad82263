"""The invariants, one function each, over one step of the chain: a commit and what stood before it.

They share no rule with the decisions: each compares two states and the record between them. A function's
name is the invariant's name with dashes. Each costs what changed in the step, not what the chain is long.
Conditions under which one is promised stand in docs/explanation/cluster.md; the callers see to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from pipeline.coordination import mailbox, queue
from pipeline.coordination.leases import DRIFT, GRACE_SECONDS, MACHINE
from pipeline.coordination.presence import STALE_SECONDS
from pipeline.records.base import Record, dump, load
from pipeline.records.jobs import Job, JobArchive, Jobs
from pipeline.records.ledger import LedgerState, Transaction
from pipeline.records.locks import Lock, Locks, Token
from pipeline.records.messages import Mailbox, Message, MessageArchive, Messages
from tests.coordination.world import model_of

#: Invariants that are switched off, to show which mutants then survive. Empty but in that test.
SWITCHED_OFF: set[str] = set()


class Violated(AssertionError):
    """An invariant does not hold."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.detail = detail


def violated(name: str, detail: str) -> None:
    """Raises Violated, unless the invariant is switched off."""
    if name not in SWITCHED_OFF:
        raise Violated(name, detail)


class State(NamedTuple):
    """The files of a tree that invariants look at."""

    jobs: Jobs
    locks: Locks
    ledger: LedgerState
    messages: Messages
    mailbox: Mailbox


@dataclass
class History:
    """What the chain below a step amounts to, kept up from step to step. Values are positions in it."""

    jobs: dict[str, int] = field(default_factory=dict)
    sealed_jobs: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    sealed_messages: dict[str, int] = field(default_factory=dict)
    automatic: dict[str, int] = field(default_factory=dict)
    withdrawn: dict[str, int] = field(default_factory=dict)
    #: Every epoch that was ever begun, in any chain -> the repairs that did, and their commits.
    epochs: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    #: Every token that was ever given, in any chain -> the commits that gave it, and what to whom.
    tokens: dict[str, dict[str, str]] = field(default_factory=dict)

    def rewind(self, position: int) -> None:
        """Forgets what came after a position; tokens and epochs are remembered over all chains."""
        for kept in (self.jobs, self.sealed_jobs, self.messages, self.sealed_messages, self.automatic):
            for name in [name for name, at in kept.items() if at > position]:
                del kept[name]


@dataclass
class Step:
    """One commit: the states around it, its record, the files that changed, and what came before."""

    commit: str
    position: int
    before: State
    after: State
    record: Transaction
    changed: Mapping[str, bytes | None]
    existed: frozenset[str]
    history: History
    #: The highest token that the chain has given below this commit.
    highest: Token
    #: Whether a change by hand lies directly below.
    by_hand: bool
    alive: Callable[[str], bool]
    #: Whether a rewind took a commit back.
    lost: Callable[[str], bool]
    #: Whether it did so before the machine of an operation had seen what it gave to it (`Checker`).
    untold: Callable[[str, str, str], bool]


Invariant = Callable[[Step], None]
INVARIANTS: list[Invariant] = []


def invariant(function: Invariant) -> Invariant:
    """Registers an invariant of the chain."""
    INVARIANTS.append(function)
    return function


def named(function: Invariant) -> str:
    return function.__name__.replace("_", "-")


def fail(name: str, step: Step, detail: object) -> None:
    violated(name, f"{detail} (commit {step.commit[:10]}, ordinal {step.record.ordinal})")


# ---------------------------------------------------------------- the chain and its receipts


@invariant
def ordinal_follows(step: Step) -> None:
    if not step.after.ledger.ordinal == step.record.ordinal == step.before.ledger.ordinal + 1:
        fail("ordinal-follows", step, f"{step.record.ordinal} follows {step.before.ledger.ordinal}")


@invariant
def receipts_are_kept(step: Step) -> None:
    """A receipt stays until its writer's `settled` has passed it, and every entry leaves one."""
    for name, before in step.before.ledger.writers.items():
        after = step.after.ledger.writers.get(name)
        if after is before:
            continue
        if after is None:
            return fail("receipts-are-kept", step, f"writer {name} is forgotten")
        if after.settled < before.settled or (before.closed and not after.closed):
            return fail("receipts-are-kept", step, f"writer {name} goes back")
        if not after.closed:
            for number, done in before.completed.items():
                if int(number) > after.settled and after.completed.get(number) != done:
                    return fail("receipts-are-kept", step, f"{name}/{number} lost its receipt")
    mine = step.after.ledger.writers.get(step.record.writer)
    for entry in step.record.entries:
        receipt = mine.completed.get(str(entry.sequence)) if mine else None
        if receipt is None or (receipt.op, receipt.outcome) != (entry.op, entry.outcome):
            return fail("receipts-are-kept", step, f"{entry.op} left no receipt")
    return None


_load = lru_cache(maxsize=2000)(load)
_LISTS: dict[type[Record], tuple[str, type[Record]]] = {Jobs: ("jobs", Job), Messages: ("messages", Message)}


@lru_cache(maxsize=4000)
def _is_canonical(model: type[Record], data: bytes, path: str, indented: bool) -> bool:
    """Says whether bytes are a record in its one form; an element of a list stands further in."""
    printed = dump(load(model, data, path))
    return (printed[:-1].replace(b"\n", b"\n    ") if indented else printed) == data


def _is_valid(model: type[Record], data: bytes, path: str, whole: bool) -> bool:
    """Checks a file; of one that is a long list as a rule only what is new in it."""
    if whole or model not in _LISTS:
        return _is_canonical(model, data, path, False)
    name, element = _LISTS[model]
    head = f'  "{name}": [\n    {{'.encode()
    start, end = data.find(head), data.find(b"\n    }\n  ]")
    if start < 0 or end < 0:
        return _is_canonical(model, data, path, False)
    first, *rest = data[start + len(head) : end + 6].split(b",\n    {")
    shell = data[: start + len(head) - 6] + data[end + 9 :]
    return _is_canonical(model, shell, path, False) and all(
        _is_canonical(element, b"{" + each, path, True) for each in (first, *rest)
    )


@invariant
def records_validate(step: Step) -> None:
    for path, data in step.changed.items():
        model = model_of(path) if path.startswith(("coordination/", "build", "shared/")) else None
        if data is None or model is None or path.startswith("coordination/quarantine/"):
            continue
        try:
            ok = _is_valid(model, data, path, step.position % 50 == 0)
        except ValueError as exc:
            return fail("records-validate", step, f"{path}: {exc}")
        except Exception as exc:
            return fail("records-validate", step, f"{path}: {exc}")
        if not ok:
            return fail("records-validate", step, f"{path} is not in its one form")
    return None


@invariant
def archives_are_sealed(step: Step) -> None:
    for path in step.changed:
        if path.startswith((queue.ARCHIVES, mailbox.ARCHIVES)) and path in step.existed:
            fail("archives-are-sealed", step, f"{path} was written again")


# ---------------------------------------------------------------- tokens


def _tokens(state: State) -> dict[str, str]:
    found = {job.token: f"job {job.id}" for job in state.jobs.jobs if job.token}
    return found | {lock.token: f"lock {lock.name}" for lock in state.locks.locks if lock.token}


def grants(state: State) -> dict[str, str]:
    """Returns by token what it stands for: which job, or locks, in whose hands.

    Which locks is left out: who waits for two in one request may be given the other one first, where a rewind
    took the first back. Fences are compared for each lock alone, so that lets nobody in elsewhere.
    """
    found = {
        job.token: f"job {job.id} {job.attempt} {job.assigned_to}" for job in state.jobs.jobs if job.token
    }
    held: dict[str, set[str]] = {}
    for lock in state.locks.locks:
        if lock.token:
            held.setdefault(lock.token, set()).add(str(lock.holder))
    for text, holders in held.items():
        found[text] = f"{found.get(text, '')} locks of {', '.join(sorted(holders))}"
    return found


@invariant
def tokens_increase(step: Step) -> None:
    """Whatever token is new is above all before it in the chain, and was given in no other chain.

    But after a rewind the same operation may be given it again: in the same hands, the same job or a lock
    that it asked for, since who has not seen what was lost cannot know better; or whatever it is, if nobody
    had been told of the first.
    """
    if step.after.jobs is step.before.jobs and step.after.locks is step.before.locks:
        return None
    before = _tokens(step.before)
    for text, whose in grants(step.after).items():
        given = step.history.tokens.get(text, {})
        if text in before or step.commit in given:
            continue
        token = Token.parse(text)
        if (token.epoch, token.counter) <= (step.highest.epoch, step.highest.counter):
            return fail("tokens-increase", step, f"{whose} got {text} after {step.highest}")
        for commit, first in given.items():
            same = step.lost(commit) and first == whose
            if not same and not step.untold(token.op, commit, step.commit):
                return fail("tokens-increase", step, f"{text} was given before, in {commit[:10]}")
    return None


@invariant
def token_changes_with_hands(step: Step) -> None:
    """Who gets a job or a lock, or gets it back, does so under another token than the one before."""
    if step.after.jobs is not step.before.jobs:
        old = {job.id: job for job in step.before.jobs.jobs}
        for job in step.after.jobs.jobs:
            was = old.get(job.id)
            if was is None or was is job or job.ended:
                continue
            if (was.status, was.attempt) != (job.status, job.attempt) and was.token == job.token:
                return fail("token-changes-with-hands", step, f"job {job.id} keeps {job.token}")
    if step.after.locks is not step.before.locks:
        held = {lock.name: lock for lock in step.before.locks.locks}
        for lock in step.after.locks.locks:
            had = held.get(lock.name)
            if had is not None and had.holder != lock.holder and had.token == lock.token:
                return fail("token-changes-with-hands", step, f"lock {lock.name} keeps {lock.token}")
    return None


@invariant
def result_by_current_token(step: Step) -> None:
    """A result is accepted if and only if it presents the token that its job has."""
    for entry in step.record.entries:
        if entry.request["kind"] != "job.complete" or not entry.outcome["ok"]:
            continue
        value, presented = entry.outcome["value"], entry.request["token"]
        job = next((j for j in step.before.jobs.jobs if j.id == entry.request["job_id"]), None)
        ops = {each.op for each in step.record.entries}
        right = job is not None and job.status == "running" and job.token == presented
        right = right or presented.split(".", 2)[2] in ops
        alone = len(step.record.entries) == 1
        if value["accepted"] and not right:
            return fail("result-by-current-token", step, f"{presented} was accepted for {job and job.token}")
        if right and not value["accepted"] and alone and not step.by_hand:
            return fail("result-by-current-token", step, f"{presented} was turned down though current")
    return None


# ---------------------------------------------------------------- jobs


@invariant
def jobs_are_conserved(step: Step) -> None:
    if step.after.jobs is step.before.jobs:
        return None
    now = {job.id for job in step.after.jobs.jobs}
    sealed: list[Job] = []
    for path, data in step.changed.items():
        if path.startswith(queue.ARCHIVES) and data is not None:
            sealed += _load(JobArchive, data, path).jobs
    for job in step.before.jobs.jobs:
        if job.id not in now and all(each.id != job.id for each in sealed):
            return fail("jobs-are-conserved", step, f"job {job.id} is gone")
    for each in sealed:
        if each.id in now or not each.ended or each.id in step.history.sealed_jobs:
            return fail("jobs-are-conserved", step, f"job {each.id} is sealed, and open or sealed already")
        step.history.sealed_jobs[each.id] = step.position
    if len(now) != len(step.after.jobs.jobs):
        return fail("jobs-are-conserved", step, "a job is there twice")
    for job in step.after.jobs.jobs:
        if job.id in step.history.sealed_jobs and step.history.sealed_jobs[job.id] != step.position:
            return fail("jobs-are-conserved", step, f"job {job.id} is back from its archive")
        step.history.jobs.setdefault(job.id, step.position)
    return None


@invariant
def terminal_is_terminal(step: Step) -> None:
    if step.after.jobs is step.before.jobs:
        return None
    now = {job.id: job for job in step.after.jobs.jobs}
    for job in step.before.jobs.jobs:
        after = now.get(job.id)
        same = after is None or after.model_copy(update={"late_results": job.late_results}) == job
        if job.ended and not same:
            return fail("terminal-is-terminal", step, f"job {job.id} ended {job.outcome}, and changed")
    for job in step.after.jobs.jobs:
        if job.ended != (job.outcome is not None):
            return fail("terminal-is-terminal", step, f"job {job.id} is {job.status} with {job.outcome}")
    return None


@invariant
def one_job_a_builder(step: Step) -> None:
    """Running jobs and the builders' own locks are the same pairs, with the same tokens."""
    if step.after.jobs is step.before.jobs and step.after.locks is step.before.locks:
        return
    running = sorted(
        (j.assigned_to or "", j.id, j.token) for j in step.after.jobs.jobs if j.status == "running"
    )
    locks = sorted((k.owner, k.job_id, k.token) for k in step.after.locks.locks if k.job_id is not None)
    if running != locks or len({each[0] for each in running}) != len(running):
        fail("one-job-a-builder", step, f"running {running}, locked {locks}")


@invariant
def dependencies_hold(step: Step) -> None:
    if step.after.jobs is step.before.jobs:
        return None
    outcomes: dict[str, Any] = {job.id: job.outcome for job in step.after.jobs.jobs}
    for job in step.after.jobs.jobs:
        if not job.depends_on or job.ended:
            continue
        needed = [outcomes.get(id, "sealed") for id in job.depends_on]
        if job.status == "running" and any(each != "succeeded" for each in needed):
            return fail("dependencies-hold", step, f"job {job.id} runs although {job.depends_on}: {needed}")
        if any(each not in ("succeeded", None) for each in needed):
            return fail("dependencies-hold", step, f"job {job.id} waits for {needed}")
    return None


@invariant
def executions_are_accounted_for(step: Step) -> None:
    """An attempt is the first, or follows a recorded loss, a recorded failure, or a withdrawal."""
    if step.after.jobs is step.before.jobs:
        return None
    for entry in step.record.entries:
        if entry.request["kind"] == "withdraw" and entry.outcome["ok"]:
            for id in entry.outcome["value"]["jobs"]:
                step.history.withdrawn[id] = step.history.withdrawn.get(id, 0) + 1
    for job in step.after.jobs.jobs:
        if job.attempt <= 1:
            continue
        most = 1 + job.losses + job.failures + step.history.withdrawn.get(job.id, 0)
        if job.attempt > most:
            return fail("executions-are-accounted-for", step, f"job {job.id} is at attempt {job.attempt}")
    for job in step.after.jobs.jobs:
        if job.losses > job.maximum_losses + 1 or (job.losses > job.maximum_losses and not job.ended):
            return fail("executions-are-accounted-for", step, f"job {job.id} was lost {job.losses} times")
    return None


@invariant
def served_in_order(step: Step) -> None:
    """A claim that names no job gets the most urgent that is ready for its builder, the oldest of equals."""
    entry = step.record.entries[0] if step.record.entries else None
    if entry is None or step.by_hand or entry.request["kind"] != "job.claim" or not entry.outcome["ok"]:
        return
    if entry.request.get("job_id") is not None:
        return
    builder = entry.request["builder"]
    done = {job.id for job in step.before.jobs.jobs if job.outcome == "succeeded"}
    ready = [
        job
        for job in step.before.jobs.jobs
        if job.status == "queued" and job.target in (None, builder) and done.issuperset(job.depends_on)
    ]
    first = min(ready, key=lambda job: job.priority, default=None)
    if first is None or first.id != entry.outcome["value"]["job_id"]:
        fail("served-in-order", step, f"{entry.outcome['value']['job_id']} before {first and first.id}")


@invariant
def cancel_is_honoured(step: Step) -> None:
    if step.after.jobs is not step.before.jobs:
        for job in step.after.jobs.jobs:
            if job.status == "queued" and job.cancel_requested is not None:
                return fail(
                    "cancel-is-honoured", step, f"job {job.id} waits again although {job.cancel_requested}"
                )
    return None


@invariant
def loss_has_proof(step: Step) -> None:
    """A job is taken from its holder after long silence, or because its process is dead: truly dead."""
    for entry in step.record.entries:
        if entry.request["kind"] != "job.requeue" or not entry.outcome["ok"]:
            continue
        seen = entry.evidence.observations
        process = seen.get("process_dead")
        if process and step.alive(process):
            return fail("loss-has-proof", step, f"{process}, declared dead, is alive")
        if not process and seen.get("silence_seconds", 0) < STALE_SECONDS:
            return fail("loss-has-proof", step, f"silent for {seen.get('silence_seconds')} s only")
    return None


# ---------------------------------------------------------------- locks


@invariant
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


@invariant
def waiters_have_a_reason(step: Step) -> None:
    if step.after.locks is step.before.locks and step.after.ledger.waiters == step.before.ledger.waiters:
        return None
    taken = {lock.name for lock in step.after.locks.locks}
    for waiter in step.after.ledger.waiters:
        if taken.isdisjoint(waiter.names):
            return fail("waiters-have-a-reason", step, f"{waiter.op} could be served")
        taken.update(waiter.names)
    return None


@invariant
def nobody_holds_and_waits(step: Step) -> None:
    waiting = [waiter.holder for waiter in step.after.ledger.waiters]
    if waiting:
        held = {lock.holder for lock in step.after.locks.locks}
        if len(set(waiting)) != len(waiting) or not held.isdisjoint(waiting):
            fail("nobody-holds-and-waits", step, waiting)


_FORCED = {"lock.takeover": "token", "lock.break": "token"}


@invariant
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


@invariant
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


@invariant
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


# ---------------------------------------------------------------- messages


@invariant
def messages_are_conserved(step: Step) -> None:
    if step.after.messages is step.before.messages:
        return None
    sealed: list[Message] = []
    for path, data in step.changed.items():
        if path.startswith(mailbox.ARCHIVES) and data is not None:
            sealed += _load(MessageArchive, data, path).messages
    now = {message.id for message in step.after.messages.messages}
    gone = {message.id for message in sealed}
    for message in step.before.messages.messages:
        if message.id not in now and message.id not in gone:
            return fail("messages-are-conserved", step, f"message {message.id} is gone")
    for id in sorted(gone):
        if id in now or id in step.history.sealed_messages:
            return fail("messages-are-conserved", step, f"message {id} is sealed twice, or sealed and live")
        step.history.sealed_messages[id] = step.position
    if len(now) != len(step.after.messages.messages):
        return fail("messages-are-conserved", step, "a message is there twice")
    if step.after.mailbox.sealed != step.before.mailbox.sealed + len(sealed):
        return fail("messages-are-conserved", step, f"{step.after.mailbox.sealed} are said to be sealed")
    for message in step.after.messages.messages:
        if step.history.sealed_messages.get(message.id, step.position) != step.position:
            return fail("messages-are-conserved", step, f"message {message.id} is back from its archive")
        step.history.messages.setdefault(message.id, step.position)
    for entry in step.record.entries:
        sent = entry.request["kind"] == "message.send" and entry.outcome["ok"]
        if sent and entry.request["id"] not in step.history.messages:
            return fail("messages-are-conserved", step, f"{entry.request['id']} was sent, and is not there")
    return None


@invariant
def marks_never_go_back(step: Step) -> None:
    """Read and acknowledged are each recipient's own, and once said stay said."""
    by = {(e.request.get("builder"), e.request["kind"]) for e in step.record.entries}
    marking = {name for name, kind in by if kind in ("message.read", "message.ack")}
    if step.after.messages is not step.before.messages:
        old = {message.id: message for message in step.before.messages.messages}
        for message in step.after.messages.messages:
            was = old.get(message.id)
            if was is message:
                continue
            before = (was.read_by, was.acknowledged_by) if was else ({}, {})
            after = (message.read_by, message.acknowledged_by)
            for one, two in zip(before, after, strict=True):
                if any(two.get(name) != time for name, time in one.items()):
                    return fail("marks-never-go-back", step, f"message {message.id}: {one} became {two}")
                if was is not None and not marking.issuperset(two.keys() - one.keys()):
                    return fail("marks-are-ones-own", step, f"message {message.id} marked for {two.keys()}")
            whole = set(message.recipients) <= message.read_by.keys()
            if not message.acknowledged_by.keys() <= message.read_by.keys() or message.read != whole:
                return fail("marks-never-go-back", step, f"message {message.id} contradicts itself")
    if step.after.mailbox is not step.before.mailbox:
        known = len(step.before.mailbox.receipts)
        sealing = any(path.startswith(mailbox.ARCHIVES) for path in step.changed)
        if not sealing and step.after.mailbox.receipts[:known] != step.before.mailbox.receipts:
            return fail("marks-never-go-back", step, "a receipt of a sealed message is gone")
        for receipt in step.after.mailbox.receipts[0 if sealing else known :]:
            if not sealing and receipt.recipient not in marking:
                return fail(
                    "marks-are-ones-own", step, f"message {receipt.id} marked for {receipt.recipient}"
                )
    return None


@invariant
def automatic_replies_are_bounded(step: Step) -> None:
    """Nothing automatic answers what is automatic, nor one thread twice."""
    for entry in step.record.entries:
        request = entry.request
        if request["kind"] != "message.send" or not entry.outcome["ok"] or not request.get("auto"):
            continue
        answered = request.get("in_reply_to")
        if not answered:
            continue
        live = {message.id: message for message in step.after.messages.messages}
        message, reply = live.get(answered), live.get(request["id"])
        if message is not None and message.auto:
            return fail("automatic-replies-are-bounded", step, f"{request['id']} answers {answered}")
        thread = (reply.thread if reply else None) or answered
        if step.history.automatic.get(thread, step.position) != step.position:
            return fail("automatic-replies-are-bounded", step, f"thread {thread} was answered before")
        step.history.automatic[thread] = step.position
    return None


__all__ = ["INVARIANTS", "History", "Lock", "Record", "State", "Step", "Violated", "grants", "violated"]

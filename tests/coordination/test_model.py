"""Queue, leases and mailbox under any order of requests, against what must hold in every state.

The machine makes requests of all kinds, with tokens that are current, old or another's, and with or without
proof. It never predicts an outcome: it looks at the state after each decision, and at what changed.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.coordination import mailbox, queue
from pipeline.coordination.leases import MACHINE, holder_must_wait, silence_needed
from pipeline.records import paths
from pipeline.records.base import dump
from pipeline.records.decisions import Change
from pipeline.records.jobs import Job, JobArchive, Jobs
from pipeline.records.ledger import LedgerState
from pipeline.records.locks import Lock, Token, Waiter
from pipeline.records.messages import Mailbox, Message, MessageArchive, Messages
from tests.coordination.world import BUILDERS, COMMIT, NOW, SILENT, World

NAMES = [builder.name for builder in BUILDERS]
LOCKS = ["a", "b"]
HOLDERS = ["h0", "h1", "h2", "h3", "h4", "h5"]

builders = st.sampled_from(NAMES)
holders = st.sampled_from(HOLDERS)
proofs = st.sampled_from([{}, SILENT, {"process_dead": "pid 7"}])
picks = st.integers(0, 1_000_000)


def nearly_full() -> dict[str, bytes]:
    """Returns files in which the next few messages and ended jobs are one tail too many."""
    jobs = [
        Job(id=f"old{n}", branch="b", commit=COMMIT, created_at=NOW, status="completed", outcome="succeeded")
        for n in range(2 * queue.TAIL - 1)
    ]
    messages = [
        Message(
            id=f"old{n}",
            sender="build1",
            to="build2",
            subject="s",
            body="",
            timestamp=NOW,
            recipients=["build2"],
        )
        for n in range(2 * mailbox.TAIL - 2)
    ]
    return {paths.JOBS: dump(Jobs(jobs=jobs)), paths.MESSAGES: dump(Messages(messages=messages))}


FULL = nearly_full()


class Coordination(RuleBasedStateMachine):
    """All requests, in any order, on a state that is about to be sealed."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.files |= FULL
        self.count = 0
        self.tokens: list[str] = []
        self.ops: list[str] = []
        self.highest = Token(0, 0, "-")
        self.ended: dict[str, Job] = {}
        self.sent: list[str] = [f"old{n}" for n in range(2 * mailbox.TAIL - 2)]
        self.ordered: list[str] = [f"old{n}" for n in range(2 * queue.TAIL - 1)]
        # Holders that nobody has waited for, by lock: the longest ttl of each lock's.
        self.doubt: dict[str, float] = {}
        self.marks: dict[str, int] = {}
        self.receipts: dict[str, int] = {}

    # Asking

    def ask(self, kind: str, **fields: Any) -> dict[str, Any] | None:
        """Makes a request, checks the step that it made, and returns the outcome of what was granted."""
        before = (self.world.jobs, self.world.locks, self.world.ledger)
        self.world.twice = self.world.ordinal % 5 == 0
        answer = self.world.ask(kind, **fields)
        self.ops.append(self.world.last_op)
        if not isinstance(answer, Change):
            return None
        self.check_tokens(before[0], before[1])
        self.check_order(before[1], before[2])
        return answer.outcome

    def pick(self, of: list[Any], pick: int) -> Any:
        return of[pick % len(of)]

    def job(self, pick: int) -> str:
        """Picks a job: as a rule an open one, now and then one that ended lately."""
        live = [job.id for job in self.world.jobs.values() if not job.ended]
        return str(self.pick([*live, *self.ordered[-2:]], pick))

    def fresh(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    # Jobs

    @rule(
        priority=st.integers(1, 3),
        only=st.none() | builders,
        needs=st.lists(picks, max_size=2),
        losses=st.integers(0, 1),
        tries=st.integers(0, 2),
    )
    def order(self, priority: int, only: str | None, needs: list[int], losses: int, tries: int) -> None:
        id = self.fresh("j")
        depends_on = sorted({self.job(need) for need in needs})
        order = {"branch": "b", "commit": COMMIT, "priority": priority, "target": only}
        limits = {"maximum_losses": losses, "retries": {"test": tries}}
        if self.ask("job.create", id=id, depends_on=depends_on, **order, **limits) is not None:
            self.ordered.append(id)

    @rule(builder=builders, holder=holders, wait=st.booleans())
    def start(self, builder: str, holder: str, wait: bool) -> None:
        id = self.fresh("s")
        order = {"branch": "b", "commit": COMMIT, "builder": builder, "holder": holder, "wait": wait}
        if self.ask("job.start", id=id, **order) is not None:
            self.ordered.append(id)

    @rule(builder=builders, holder=holders, pick=st.none() | picks)
    def claim(self, builder: str, holder: str, pick: int | None) -> None:
        job = None if pick is None else self.job(pick)
        self.ask("job.claim", builder=builder, holder=holder, job_id=job)

    @precondition(lambda self: self.tokens)
    @rule(
        pick=picks,
        outcome=st.sampled_from(["succeeded", "succeeded", "failed", "failed", "cancelled"]),
        stale=st.sampled_from([False, False, False, True]),
    )
    def complete(self, pick: int, outcome: str, stale: bool) -> None:
        running = [job for job in self.world.jobs.values() if job.status == "running"]
        if not running:
            return
        job = self.pick(running, pick)
        token = self.pick(self.tokens, pick) if stale else job.token
        failure = {"class": "test", "message": "m"} if outcome == "failed" else None
        result = {"job_id": job.id, "token": token, "outcome": outcome, "failure": failure}
        said = self.ask("job.complete", builder=job.assigned_to, **result)
        assert said is not None
        assert said["accepted"] == (token == job.token)
        after = self.world.jobs.get(job.id)
        if not said["accepted"]:
            assert after == job.model_copy(update={"late_results": job.late_results + 1})

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        self.ask("job.cancel", job_id=self.job(pick))

    @rule(pick=picks, builder=builders, proof=proofs, stale=st.booleans())
    def requeue(self, pick: int, builder: str, proof: dict[str, Any], stale: bool) -> None:
        running = [job for job in self.world.jobs.values() if job.status == "running"]
        if running:
            job = self.pick(running, pick)
            token = self.pick(self.tokens, pick) if stale else job.token
            request = {"job_id": job.id, "token": token, "builder": builder, "observations": proof}
            if self.ask("job.requeue", **request) is not None:
                assert token == job.token
                assert proof

    @rule(pick=picks, resume=st.booleans())
    def retry(self, pick: int, resume: bool) -> None:
        id = self.fresh("r")
        if self.ask("job.retry", id=id, job_id=self.job(pick), resume=resume) is not None:
            self.ordered.append(id)

    # Locks

    @rule(
        names=st.lists(st.sampled_from(LOCKS), min_size=1, max_size=2),
        holder=holders,
        builder=builders,
        wait=st.booleans(),
        ttl=st.sampled_from([30, 60, 600]),
    )
    def acquire(self, names: list[str], holder: str, builder: str, wait: bool, ttl: int) -> None:
        lease = {"ttl_seconds": ttl, "interval_seconds": 10, "holder": holder, "builder": builder}
        self.ask("lock.acquire", names=names, wait=wait, **lease)

    @rule(pick=picks, waited=st.booleans(), stale=st.booleans())
    def release(self, pick: int, waited: bool, stale: bool) -> None:
        held = [lock for name, lock in self.world.locks.items() if not name.startswith(MACHINE)]
        if held:
            lock = self.pick(held, pick)
            token = self.pick(self.tokens, pick) if stale else lock.token
            if waited and token == lock.token:
                self.doubt.pop(lock.name, None)
            self.ask("lock.release", locks={lock.name: token}, waited=waited)

    @rule(pick=picks, how=st.sampled_from(["break", "takeover", "ready"]), holder=holders, proof=proofs)
    def force(self, pick: int, how: str, holder: str, proof: dict[str, Any]) -> None:
        named_locks = [lock for lock in self.world.locks.values() if lock.job_id is None]
        held = named_locks or list(self.world.locks.values())
        if pick % 5 == 0:
            held = list(self.world.locks.values())
        if not held:
            return
        lock: Lock = self.pick(held, pick)
        named = {"name": lock.name, "token": lock.token}
        lease = {"ttl_seconds": 30, "interval_seconds": 10, "holder": holder, "nonce": "n"}
        terms = lease if how == "takeover" else {}
        if self.ask(f"lock.{how}", **named, **terms, observations=proof) is None:
            return
        if how == "ready":
            self.doubt.pop(lock.name, None)
        elif not lock.name.startswith(MACHINE):
            self.doubt[lock.name] = max(self.doubt.get(lock.name, 0.0), lock.ttl_seconds or 0.0)

    @rule(pick=picks, how=st.sampled_from(["lock.evict", "lock.leave"]), proof=proofs)
    def unqueue(self, pick: int, how: str, proof: dict[str, Any]) -> None:
        waiters = self.world.ledger.waiters
        if waiters:
            self.ask(how, op=self.pick(waiters, pick).op, observations=proof)

    @precondition(lambda self: self.ops)
    @rule(pick=picks)
    def withdraw(self, pick: int) -> None:
        op = self.pick(self.ops[-8:], pick)
        self.ask("withdraw", op=op)
        assert not [
            lock for lock in self.world.locks.values() if lock.token and lock.token.endswith(f".{op}")
        ]
        assert op not in [waiter.op for waiter in self.world.ledger.waiters]

    @rule(tip=st.integers(0, 3), random=st.integers(0, 255))
    def raise_epoch(self, tip: int, random: int) -> None:
        repair = {"abandoned_tips": [f"{tip:040x}"], "random": f"{random:06x}" + "0" * 26}
        said = self.ask("ledger.raise_epoch", **repair)
        if said is not None and not said["joined"]:
            held = {name: lock for name, lock in self.world.locks.items() if not name.startswith(MACHINE)}
            ttls = [*(lock.ttl_seconds or 0.0 for lock in held.values()), *self.doubt.values()]
            self.doubt |= {name: max(ttls) for name in held}

    # Messages

    @rule(
        builder=builders,
        to=st.sampled_from([*NAMES, "all", "all"]),
        auto=st.booleans(),
        reply=st.none() | picks,
    )
    def send(self, builder: str, to: str, auto: bool, reply: int | None) -> None:
        id = self.fresh("m")
        fields: dict[str, Any] = {"to": to, "subject": "s", "body": "b", "auto": auto, "builder": builder}
        if reply is not None:
            fields["in_reply_to"] = self.pick(self.sent[-6:], reply)
        if self.ask("message.send", id=id, **fields) is not None:
            self.sent.append(id)

    @rule(builder=builders, which=st.lists(picks, min_size=1, max_size=3), ack=st.booleans())
    def mark(self, builder: str, which: list[int], ack: bool) -> None:
        ids = [self.pick(self.sent[-5:] + self.sent[:5], pick) for pick in which]
        self.ask("message.ack" if ack else "message.read", ids=ids, builder=builder)

    # What a step may do

    def check_tokens(self, jobs: dict[str, Job], locks: dict[str, Lock]) -> None:
        """Every new token is above all before it, and is given once (a job and its machine share one)."""
        known = {job.token for job in jobs.values()} | {lock.token for lock in locks.values()}
        now = {job.token for job in self.world.jobs.values()}
        now |= {lock.token for lock in self.world.locks.values()}
        for text in sorted(now - known - {None}, key=lambda text: Token.parse(str(text))):
            token = Token.parse(str(text))
            assert (token.epoch, token.counter) > (self.highest.epoch, self.highest.counter)
            self.highest = token
            self.tokens.append(str(token))

    def check_order(self, locks: dict[str, Lock], ledger: LedgerState) -> None:
        """A waiter that was served passed nobody who was before it in one of its queues and still waits."""
        waiting = {waiter.op for waiter in self.world.ledger.waiters}
        granted = {lock.token.split(".", 2)[2] for lock in self.world.locks.values() if lock.token}
        before: list[Waiter] = []
        for waiter in ledger.waiters:
            if waiter.op in granted:
                passed = [each for each in before if set(each.names) & set(waiter.names)]
                assert not [each.op for each in passed if each.op in waiting]
            before.append(waiter)

    # What holds in every state

    @invariant()
    def one_running_job_a_builder(self) -> None:
        running = {job.assigned_to: job for job in self.world.jobs.values() if job.status == "running"}
        assert len(running) == sum(job.status == "running" for job in self.world.jobs.values())
        machines = {lock.owner: lock for lock in self.world.locks.values() if lock.job_id}
        assert machines.keys() == running.keys()
        for builder, job in running.items():
            assert (machines[builder].job_id, machines[builder].token) == (job.id, job.token)
        for builder in NAMES:
            status = self.world.status(builder)
            assert (status.status == "building") == (builder in running)
            assert (status.current_job.id if status.current_job else None) == (
                running[builder].id if builder in running else None
            )

    @invariant()
    def terminal_is_terminal_and_jobs_are_conserved(self) -> None:
        sealed = [
            job
            for path in self.world.archives(queue.ARCHIVES)
            for job in self.world.load(JobArchive, path).jobs
        ]
        jobs = [*sealed, *self.world.jobs.values()]
        assert sorted(job.id for job in jobs) == sorted(self.ordered)
        for job in jobs:
            assert job.ended == (job.outcome is not None)
            if job.id in self.ended:
                late = {"late_results": self.ended[job.id].late_results}
                assert job.model_copy(update=late) == self.ended[job.id]
            elif job.ended:
                self.ended[job.id] = job

    @invariant()
    def dependencies_hold(self) -> None:
        outcomes = {id: job.outcome for id, job in (self.ended | self.world.jobs).items()}
        for job in self.world.jobs.values():
            needed = [outcomes[id] for id in job.depends_on]
            if job.status in ("running", "completed"):
                assert set(needed) <= {"succeeded"}
            if job.status == "queued":
                assert set(needed) <= {"succeeded", None}

    @invariant()
    def executions_are_accounted_for(self) -> None:
        for job in self.world.jobs.values():
            assert job.failures <= job.retries.get("test", 0) + 1
            assert job.losses <= job.maximum_losses + 1

    @invariant()
    def every_waiter_has_a_reason_to_wait(self) -> None:
        taken = set(self.world.locks)
        for waiter in self.world.ledger.waiters:
            assert taken & set(waiter.names), f"{waiter.op} could be served"
            taken |= set(waiter.names)

    @invariant()
    def nobody_holds_and_waits(self) -> None:
        waiting = [waiter.holder for waiter in self.world.ledger.waiters]
        assert len(set(waiting)) == len(waiting)
        assert not set(waiting) & {lock.holder for lock in self.world.locks.values()}

    @invariant()
    def nobody_works_before_doubt_is_over(self) -> None:
        for name, ttl in self.doubt.items():
            lock = self.world.locks.get(name)
            if lock is not None:
                assert holder_must_wait(lock, "renewed since") >= silence_needed(ttl)

    @invariant()
    def messages_are_conserved(self) -> None:
        archives = [self.world.load(MessageArchive, path) for path in self.world.archives(mailbox.ARCHIVES)]
        sealed = [message for archive in archives for message in archive.messages]
        messages = [*sealed, *self.world.messages.messages]
        said = [message for message in messages if message.id in set(self.sent)]
        assert sorted(message.id for message in said) == sorted(self.sent)
        assert len({message.id for message in messages}) == len(messages)
        box: Mailbox = self.world.mailbox
        assert box.sealed == len(sealed)
        for message in self.world.messages.messages:
            marks = len(message.read_by) + len(message.acknowledged_by)
            assert marks >= self.marks.get(message.id, 0)
            self.marks[message.id] = marks
            assert message.acknowledged_by.keys() <= message.read_by.keys() <= set(message.recipients)
            assert message.read == (set(message.recipients) <= message.read_by.keys())
        kept = sum(len(archive.receipts) for archive in archives) + len(box.receipts)
        assert kept >= self.receipts.get("all", 0)
        self.receipts["all"] = kept

    @invariant()
    def nothing_automatic_is_answered_automatically(self) -> None:
        live = {message.id: message for message in self.world.messages.messages}
        replies = [message for message in live.values() if message.auto and message.in_reply_to]
        assert len({reply.thread for reply in replies}) == len(replies)
        assert not [reply.id for reply in replies if (said := live.get(str(reply.in_reply_to))) and said.auto]


TestCoordination = Coordination.TestCase
TestCoordination.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

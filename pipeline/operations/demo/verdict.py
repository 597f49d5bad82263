"""What the whole chain shows: who built what under which token, and whether every promise held. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from pipeline.operations.demo.story import Narrator, short
from pipeline.records.jobs import Job
from pipeline.records.ledger import EntryRecord, Transaction
from pipeline.records.messages import Message


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job. `opened` and `closed` are the places in the chain, counted by entries, between
    which it held job and builder."""

    number: int
    builder: str
    token: str
    opened: int
    closed: int | None = None
    ending: str = "open"
    late: bool = False


@dataclass(frozen=True)
class JobStory:
    """One job with all its attempts. `results` counts the results that were accepted."""

    name: str
    id: str
    target: str | None
    attempts: tuple[Attempt, ...] = ()
    results: int = 0
    proofs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Promise:
    """One promise, whether it held, and what shows it."""

    promise: str
    held: bool
    shown: str


@dataclass(frozen=True)
class Facts:
    """What the verdict is given beside the chain.

    `chain_holds` is what `ledger.check` said, of `transactions`. `sent` are the ids of the messages that were
    sent here, `digests` the packages' by job. `waiting` counts what each builder's outbox has left,
    `processes` what still runs.
    """

    jobs: Sequence[Job]
    messages: Sequence[Message]
    sent: Sequence[str]
    digests: Mapping[str, str]
    waiting: Mapping[str, int]
    processes: int
    transactions: int
    chain_holds: bool


@dataclass
class _Replay:
    """The jobs as the transactions so far leave them."""

    narrator: Narrator
    jobs: dict[str, JobStory] = field(default_factory=dict)

    def take(self, entry: EntryRecord, place: int) -> None:
        if not entry.outcome.get("ok"):
            return
        request, value = entry.request, dict(entry.outcome.get("value") or {})
        kind = request.get("kind")
        id = str(value.get("job_id") or request.get("job_id") or "")
        if kind in ("job.create", "job.start"):
            self.jobs.setdefault(id, JobStory(self.narrator.name(id), id, request.get("target")))
        if kind in ("job.claim", "job.start") and "token" in value:
            self._open(id, request, value, place)
        elif kind == "job.complete":
            self._complete(id, request, value, place)
        elif kind == "job.requeue":
            proof = "its process was dead" if entry.evidence.observations.get("process_dead") else "silence"
            self._close(id, str(request["token"]), f"lost: {proof}", place)
            self.jobs[id] = replace(self.jobs[id], proofs=(*self.jobs[id].proofs, proof))
        elif kind == "lock.break" and id:
            self._close(id, str(request["token"]), "lost: its lock was broken", place)
        elif kind == "withdraw":
            for each in value.get("jobs", []):
                self._close(each, self._last(each), "withdrawn", place)

    def _open(self, id: str, request: Mapping[str, Any], value: Mapping[str, Any], place: int) -> None:
        attempt = Attempt(int(value["attempt"]), str(request["builder"]), str(value["token"]), place)
        job = self.jobs[id]
        self.jobs[id] = replace(job, attempts=(*job.attempts, attempt))

    def _complete(self, id: str, request: Mapping[str, Any], value: Mapping[str, Any], place: int) -> None:
        token = str(request["token"])
        if value.get("accepted"):
            self._close(id, token, str(request["outcome"]), place)
            self.jobs[id] = replace(self.jobs[id], results=self.jobs[id].results + 1)
        else:
            self._change(id, token, late=True)

    def _close(self, id: str, token: str, ending: str, place: int) -> None:
        self._change(id, token, ending=ending, closed=place)

    def _change(self, id: str, token: str, **fields: Any) -> None:
        job = self.jobs[id]
        attempts = (replace(a, **fields) if a.token == token else a for a in job.attempts)
        self.jobs[id] = replace(job, attempts=tuple(attempts))

    def _last(self, id: str) -> str:
        attempts = self.jobs[id].attempts
        return attempts[-1].token if attempts else ""


def replay(records: Iterable[Transaction]) -> list[JobStory]:
    """Returns every job of a chain, with its attempts, from the transactions alone, oldest first."""
    state = _Replay(Narrator())
    for place, entry in enumerate(entry for record in records for entry in record.entries):
        state.take(entry, place)
    return list(state.jobs.values())


def judge(stories: Sequence[JobStory], facts: Facts) -> list[Promise]:
    """Returns every promise of the demonstration with what the chain and the processes show of it."""
    return [
        _ends_once(stories, facts),
        _tokens_grow(stories),
        _nobody_shares(stories),
        _lost_by_proof(stories),
        _late_does_not_count(stories),
        _messages_arrive(facts),
        _same_bytes(facts),
        _nothing_waits(facts),
        Promise(
            "the whole chain computes again",
            facts.chain_holds,
            f"`ledger.check` computed {facts.transactions} transactions again",
        ),
        Promise("nothing is left running", facts.processes == 0, f"{facts.processes} processes are left"),
    ]


def _ends_once(stories: Sequence[JobStory], facts: Facts) -> Promise:
    outcomes = {job.id: job.outcome for job in facts.jobs}
    bad = [j.name for j in stories if j.results != 1 or outcomes.get(j.id) != "succeeded"]
    again = sum(len(j.attempts) > 1 for j in stories)
    shown = f"{len(stories)} jobs, {again} of them built again, one result each"
    return Promise(
        "every job ends exactly once, with success",
        bool(stories) and not bad and len(outcomes) == len(stories),
        f"not so: {', '.join(bad)}" if bad else shown,
    )


def _tokens_grow(stories: Sequence[JobStory]) -> Promise:
    opened = sorted((a for j in stories for a in j.attempts), key=lambda a: a.opened)
    numbers = [_order(a.token) for a in opened]
    shown = " < ".join(short(a.token) for a in opened)
    grow = all(one < two for one, two in pairwise(numbers))
    return Promise("every attempt has a higher token than all before it", bool(opened) and grow, shown)


def _nobody_shares(stories: Sequence[JobStory]) -> Promise:
    held: dict[str, list[Attempt]] = {}
    for job in stories:
        for attempt in job.attempts:
            held.setdefault(job.name, []).append(attempt)
            held.setdefault(attempt.builder, []).append(attempt)
    shared = [name for name, attempts in held.items() if _overlap(attempts)]
    count = sum(len(job.attempts) for job in stories)
    return Promise(
        "no job and no builder is ever held twice at once",
        bool(held) and not shared,
        f"held twice: {', '.join(shared)}" if shared else f"{count} attempts, one after the other for each",
    )


def _overlap(attempts: Sequence[Attempt]) -> bool:
    ordered = sorted(attempts, key=lambda a: a.opened)
    return any(one.closed is None or one.closed >= two.opened for one, two in pairwise(ordered))


def _lost_by_proof(stories: Sequence[JobStory]) -> Promise:
    proofs = [proof for job in stories for proof in job.proofs]
    return Promise(
        "what was killed is given up for proof of death, not for age",
        bool(proofs) and all(proof == "its process was dead" for proof in proofs),
        f"{len(proofs)} put back: {', '.join(sorted(set(proofs)))}" if proofs else "nothing was put back",
    )


def _late_does_not_count(stories: Sequence[JobStory]) -> Promise:
    late = [a for job in stories for a in job.attempts if a.late]
    counted = [a for a in late if not a.ending.startswith("lost")]
    shown = ", ".join(f"token {short(a.token)} was void" for a in late)
    return Promise(
        "a result that comes late is kept, and does not count",
        bool(late) and not counted,
        shown or "no result came late",
    )


def _messages_arrive(facts: Facts) -> Promise:
    by_id: dict[str, list[Message]] = {}
    for message in facts.messages:
        by_id.setdefault(message.id, []).append(message)
    once = [id for id in facts.sent if len(by_id.get(id, [])) == 1]
    read = sum(bool(by_id[id][0].read_by) for id in once)
    return Promise(
        "every message arrives exactly once",
        bool(facts.sent) and len(once) == len(facts.sent) and read > 0,
        f"{len(once)} of {len(facts.sent)} arrived once, {read} read",
    )


def _same_bytes(facts: Facts) -> Promise:
    different = sorted(set(facts.digests.values()))
    return Promise(
        "both builders make the same bytes",
        len(different) == 1 and len(facts.digests) == len(facts.jobs),
        f"{len(facts.digests)} packages, SHA-256 {' and '.join(digest[:12] for digest in different)}",
    )


def _nothing_waits(facts: Facts) -> Promise:
    left = [f"{count} in {name}'s" for name, count in facts.waiting.items() if count]
    return Promise(
        "no outbox holds anything back",
        bool(facts.waiting) and not left,
        ", ".join(left) or f"{len(facts.waiting)} outboxes are empty",
    )


def _order(token: str) -> tuple[int, int]:
    epoch, number = token.split(".")[:2]
    return int(epoch), int(number)

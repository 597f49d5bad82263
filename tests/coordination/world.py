"""A ledger's state without a ledger: files in memory, and requests decided on them one after the other.

Every request that a test makes is decided twice, with the memos warm and cold (but where `twice` is put
off, for long preparations), and everything written is read again; so each test also keeps the promises that
hold for all decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pipeline.coordination.reducer import decide, genesis
from pipeline.records import lists, paths
from pipeline.records.attestation import Attestation
from pipeline.records.base import Record, dump, load
from pipeline.records.builders import Builder, Dashboard, Heartbeat, Registry, Status
from pipeline.records.builds import BuildConfig, Manifest, StructuredLog
from pipeline.records.comparison import Comparisons
from pipeline.records.decisions import Change, Context, Refusal
from pipeline.records.jobs import Job, JobArchive, Jobs
from pipeline.records.ledger import Evidence, LedgerState, QuarantineArchive
from pipeline.records.locks import Lock, Locks
from pipeline.records.messages import Mailbox, MessageArchive, Messages
from pipeline.records.policy import Revocations
from pipeline.records.promotion import Promotion, PromotionHead
from pipeline.records.rounds import Commitment, Opening, Round, RoundOf

NOW = datetime(2025, 10, 29, 12, 0, 0, tzinfo=UTC)
COMMIT = "c0ffee" * 6 + "abcd"
BUILDERS = [
    Builder(name="build1", host="ll-one", address="192.0.2.1"),
    Builder(name="build2", host="ll-two", address="192.0.2.2"),
    Builder(name="build3", host="ll-three", address="192.0.2.3"),
]
SILENT = {"silence_seconds": 100_000.0}

_MODELS: dict[str, type[Record]] = {
    paths.LEDGER: LedgerState,
    paths.JOBS: Jobs,
    paths.LOCKS: Locks,
    paths.MESSAGES: Messages,
    paths.MAILBOX: Mailbox,
    paths.REGISTRY: Registry,
    paths.DASHBOARD: Dashboard,
    paths.COMPARISONS: Comparisons,
    paths.BUILD_CONFIG: BuildConfig,
}
_BY_FOLDER: dict[str, type[Record]] = {
    "/archive/messages/": MessageArchive,
    "/archive/jobs/": JobArchive,
    "/archive/quarantine/": QuarantineArchive,
    "/manifests/": Manifest,
    "/status.json": Status,
    "/heartbeat.json": Heartbeat,
    "/head.json": PromotionHead,
    "/round.json": Round,
    "/trust/jobs/": RoundOf,
    "/commitments/": Commitment,
    "/openings/": Opening,
    "/trust/promotions/": Promotion,
    "/trust/attestations/": Attestation,
    "/trust/revocations/": Revocations,
}

_load = lru_cache(maxsize=100)(load)


def model_of(path: str) -> type[Record] | None:
    """Returns what a file of the ledger has to be; None for text."""
    if path.endswith(".sig"):
        return None
    if path in _MODELS:
        return _MODELS[path]
    for part, model in _BY_FOLDER.items():
        if part in path:
            return model
    return StructuredLog if path.endswith(".json") else None


class Tree:
    """Files in memory, as a decision sees them."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def names(self, folder: str) -> list[str]:
        before = f"{folder}/" if folder else ""
        inside = (path[len(before) :] for path in self.files if path.startswith(before))
        return sorted({name.split("/", 1)[0] for name in inside})


class World:
    """The state, and the asking."""

    def __init__(self, builders: list[Builder] | None = None) -> None:
        self.files = genesis(BUILDERS if builders is None else builders, dump(BuildConfig()), NOW)
        self.ordinal = 0
        self.last_op = ""
        self.twice = True

    def ask(
        self,
        kind: str,
        *,
        as_op: str | None = None,
        random: str = "5" * 32,
        observations: Mapping[str, Any] | None = None,
        payloads: Mapping[str, bytes] | None = None,
        same_transaction: bool = False,
        **fields: Any,
    ) -> Change | Refusal:
        """Decides one request, as a transaction of its own, and applies it."""
        self.ordinal += not same_transaction
        self.last_op = as_op or f"op-{self.ordinal}"
        fields.setdefault("builder", "build1")
        if kind == "withdraw":
            del fields["builder"]
        request = {"kind": kind, **fields}
        evidence = Evidence(now=NOW, random=random, observations=dict(observations or {}))
        context = Context(self.last_op, self.ordinal, dict(payloads or {}))
        answer = decide(Tree(self.files), request, evidence, context)
        if self.twice:
            for memo in (lists.element_of, lists.whole, lists.read_parts):
                memo.cache_clear()
            assert decide(Tree(self.files), request, evidence, context) == answer, "otherwise when cold"
        if isinstance(answer, Change):
            self._apply(answer)
        return answer

    def _apply(self, change: Change) -> None:
        for path, data in change.writes.items():
            assert data is not None
            assert data != self.files.get(path), f"{path} written without a change"
            model = model_of(path)
            record = model and _load(model, data, path)
            assert record is None or not self.twice or dump(record) == data, f"{path} is not canonical"
            self.files[path] = data

    def do(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Asks for what must be granted, and returns the outcome."""
        answer = self.ask(kind, **fields)
        assert isinstance(answer, Change), answer
        return answer.outcome

    def refused(self, kind: str, **fields: Any) -> Refusal:
        """Asks for what must be refused, and proves that the refusal speaks to a person."""
        before = dict(self.files)
        answer = self.ask(kind, **fields)
        assert isinstance(answer, Refusal), answer
        assert answer.message.endswith((".", "?"))
        assert self.files == before
        return answer

    # What most tests ask for

    def order(self, id: str, **fields: Any) -> dict[str, Any]:
        return self.do("job.create", id=id, branch="ExternalNew", commit=COMMIT, **fields)

    def run(self, id: str, **fields: Any) -> str:
        """Starts a job, and returns its token."""
        fields.setdefault("holder", f"process-of-{id}")
        outcome = self.do("job.start", id=id, branch="ExternalNew", commit=COMMIT, **fields)
        return str(outcome["token"])

    def finish(self, id: str, token: str, outcome: str = "succeeded", **fields: Any) -> dict[str, Any]:
        if outcome == "failed":
            fields.setdefault("failure", {"class": "compile", "message": "cannot find symbol"})
        return self.do("job.complete", job_id=id, token=token, outcome=outcome, **fields)

    def acquire(self, *names: str, **fields: Any) -> dict[str, Any]:
        fields = {"ttl_seconds": 90, "interval_seconds": 30, "holder": "h1", **fields}
        return self.do("lock.acquire", names=list(names), **fields)

    def take(self, name: str, **fields: Any) -> str:
        """Acquires one lock, and returns its token."""
        return str(self.acquire(name, **fields)["tokens"][name])

    # What most tests look at

    def load(self, model: type[Any], path: str) -> Any:
        return _load(model, self.files[path], path)

    @property
    def jobs(self) -> dict[str, Job]:
        return {job.id: job for job in self.load(Jobs, paths.JOBS).jobs}

    @property
    def locks(self) -> dict[str, Lock]:
        return {lock.name: lock for lock in self.load(Locks, paths.LOCKS).locks}

    @property
    def ledger(self) -> LedgerState:
        state: LedgerState = self.load(LedgerState, paths.LEDGER)
        return state

    @property
    def messages(self) -> Messages:
        messages: Messages = self.load(Messages, paths.MESSAGES)
        return messages

    @property
    def mailbox(self) -> Mailbox:
        mailbox: Mailbox = self.load(Mailbox, paths.MAILBOX)
        return mailbox

    def status(self, builder: str) -> Status:
        status: Status = self.load(Status, paths.status(builder))
        return status

    def archives(self, folder: str) -> list[str]:
        return sorted(path for path in self.files if path.startswith(folder))

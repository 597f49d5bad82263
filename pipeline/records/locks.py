"""Named locks and the fencing tokens that guard them."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from pipeline.records.base import Record, Timestamp
from pipeline.records.names import BuilderName, JobId, LockName


@dataclass(frozen=True, order=True)
class Token:
    """A fencing token: increasing over the whole ledger by (epoch, counter); `op` is the granting operation.

    Two ledgers that were torn apart by a rewind can issue the same numbers, never the same `op`; so a
    guard accepts by equality of all three.
    """

    epoch: int
    counter: int
    op: str

    def __str__(self) -> str:
        return f"{self.epoch}.{self.counter}.{self.op}"

    @classmethod
    def parse(cls, text: str) -> Token:
        """Reads `epoch.counter.op`. Raises ValueError."""
        epoch, counter, op = text.split(".", 2)
        if not op:
            raise ValueError("a token ends with the operation that granted it")
        return cls(int(epoch), int(counter), op)


class Predecessor(Record):
    """The holder that was put aside; kept until its successor knows that it works no more.

    `nonce` is the last one that the challenger saw of it. `ttl_seconds` is the longest time for which it,
    or a holder before it that nobody had waited for, was trusted: the time to wait in doubt.
    """

    owner: str
    token: str | None
    nonce: str | None = None
    ttl_seconds: float = 0.0


class Lock(Record):
    """A held lock; a free one is absent. `timestamp` is when it was granted, for people only.

    `ttl_seconds` and `interval_seconds` are None for a lock that goes with its job's token (the builder's
    own), which is not renewed by itself. `cautious` makes the holder wait a whole ttl before it works
    (after a break or a raised epoch), because nobody has seen its predecessor silent. `holder` is the
    random id of the process that asked.
    """

    name: LockName
    owner: BuilderName
    timestamp: Timestamp
    token: str | None = None
    ttl_seconds: float | None = None
    interval_seconds: float | None = None
    job_id: JobId | None = None
    purpose: str = ""
    predecessor: Predecessor | None = None
    cautious: bool = False
    holder: str = ""


class Vacancy(Record):
    """A free lock whose last holder may still work: the next grant inherits both fields."""

    name: LockName
    predecessor: Predecessor
    cautious: bool


class Locks(Record):
    """`coordination/locks.json`: held locks by name, and those vacated by force that nobody took since."""

    locks: list[Lock] = Field(default_factory=list)
    vacated: list[Vacancy] = Field(default_factory=list)


class Waiter(Record):
    """Who waits for one or several locks, all or nothing; the list's order is the order of service.

    `op` is the request's operation id and names the waiter; it renews itself on the heartbeat ref under
    that name every `interval_seconds`, and silence for longer than that evicts it. `holder` is the random
    id of the process that waits.
    """

    op: str
    names: list[LockName]
    owner: BuilderName
    ttl_seconds: float
    interval_seconds: float
    purpose: str = ""
    holder: str = ""

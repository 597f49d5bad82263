"""`coordination/ledger.json`, and the record that every commit of the ledger carries in its message."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline.records.base import Record, Timestamp
from pipeline.records.locks import Waiter

FORMAT = 1


class Completion(Record):
    """That the entry with this operation id was decided, and what came of it."""

    op: str
    outcome: dict[str, Any]


class Writer(Record):
    """One store's entries: all up to `settled` were answered and taken; above it, `completed` by sequence."""

    settled: int = 0
    completed: dict[str, Completion] = Field(default_factory=dict)
    closed: bool = False


class Quarantine(Record):
    """Bytes that a foreign commit brought and that could not be adopted. They lie at `stored`."""

    path: str
    stored: str | None
    commit: str
    reason: str


class QuarantineArchive(Record):
    """A sealed file of notes of foreign changes. `ordinal` is the transaction that sealed it."""

    ordinal: int
    quarantined: list[Quarantine]


class LedgerState(Record):
    """What the older files have no place for.

    `ordinal` is the number of the last transaction. `settings` are the rules that all must share
    (dead-letter limits, lengths of tails). `quarantined` is a recent tail; older notes are sealed.
    """

    format: int = FORMAT
    ordinal: int = 0
    epoch: int = 1
    next_token: int = 1
    writers: dict[str, Writer] = Field(default_factory=dict)
    waiters: list[Waiter] = Field(default_factory=list)
    quarantined: list[Quarantine] = Field(default_factory=list)
    abandoned_tips: list[str] = Field(default_factory=list)


class Evidence(Record):
    """What a decision may know beside the state: read or drawn once, by the asker, and recorded.

    `now` is the asker's wall clock, for people. `random` is 32 hexadecimal digits. `observations` holds
    what the asker saw elsewhere (a nonce that stayed the same, a dead process).
    """

    now: Timestamp
    random: str
    observations: dict[str, Any] = Field(default_factory=dict)


class EntryRecord(Record):
    """One entry as its commit keeps it. `payloads` names large contents by their git blob id."""

    sequence: int
    op: str
    request: dict[str, Any]
    evidence: Evidence
    outcome: dict[str, Any]
    payloads: dict[str, str] = Field(default_factory=dict)


class Transaction(Record):
    """The record in a commit's message: with the parent's tree it gives the commit's tree again.

    `parent` and `tree` bind the record to its commit: an amended or rebased commit carries the same text,
    but no longer the same two ids. `recorded` names the last recorded commit when `parent` is foreign.
    `closes` is the writer that a reborn store put aside.
    """

    format: int = FORMAT
    reducer: int
    ordinal: int
    kind: Literal["genesis", "entries", "repair"] = "entries"
    parent: str | None
    tree: str
    writer: str
    settled: int
    entries: list[EntryRecord] = Field(default_factory=list)
    closes: list[str] = Field(default_factory=list)
    recorded: str | None = None
    nonce: str

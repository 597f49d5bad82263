"""What an invariant of the chain is: a function of one step, which raises Violated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.records.base import load
from pipeline.records.decisions import View
from pipeline.records.jobs import Jobs
from pipeline.records.ledger import LedgerState, Transaction
from pipeline.records.locks import Locks, Token
from pipeline.records.messages import Mailbox, Messages

if TYPE_CHECKING:
    from tests.simulation.notary import Notary

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
    #: Rounds by their path, commitments by theirs, and every SHA-256 that any file has had.
    rounds: dict[str, int] = field(default_factory=dict)
    commitments: dict[str, int] = field(default_factory=dict)
    digests: dict[bytes, int] = field(default_factory=dict)
    #: Every epoch that was ever begun, in any chain -> the repairs that did, and their commits.
    epochs: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    #: Every token that was ever given, in any chain -> the commits that gave it, and what to whom.
    tokens: dict[str, dict[str, str]] = field(default_factory=dict)

    def rewind(self, position: int) -> None:
        """Forgets what came after a position; tokens and epochs are remembered over all chains."""
        by_name: tuple[dict[Any, int], ...] = (
            *(self.jobs, self.sealed_jobs, self.messages, self.sealed_messages, self.automatic),
            *(self.rounds, self.commitments, self.digests),
        )
        for kept in by_name:
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
    #: What was there before, as the decisions saw it, and what is there now.
    tree_before: View
    tree: View
    #: Who signed what; None where nobody has noted it.
    notary: Notary | None


#: Reads a record, once for the same bytes.
read = lru_cache(maxsize=2000)(load)


def fail(name: str, step: Step, detail: object) -> None:
    violated(name, f"{detail} (commit {step.commit[:10]}, ordinal {step.record.ordinal})")

"""What is checked: the models as they are, under which bounds; mutants; and flaws that are known.

A *mutant* leaves one rule out; the named invariant has to fail. A *flaw* is something that the product's code
does, or that may happen to it, and that the models leave out unless they are told: the invariant fails, and
docs/explanation/model.md says what follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.formal.spin import Result, Search, check


@dataclass(frozen=True)
class Run:
    """One search. `breaks` names the invariant that has to fail; None: none may."""

    name: str
    model: str
    nodes: int
    bounds: str
    search: Search = "states"
    breaks: str | None = None
    size: str = "medium"
    megabytes: int = 1900

    @property
    def defines(self) -> list[str]:
        return [f"NODES={self.nodes}", *self.bounds.split()]

    def check(self, folder: Path) -> Result:
        """Searches; raises Incomplete."""
        return check(self.model, self.defines, self.search, folder, megabytes=self.megabytes)


_T, _L = "transaction", "lease"
_ONE, _ALL_KINDS = "LEADERS=1 ", "LEADERS=1 FULL=1 "

AS_IT_IS = [
    Run("two leaders, a push without an answer", _T, 2, "KILLS=0 UNKNOWNS=1"),
    Run("two leaders, a kill", _T, 2, "KILLS=1 UNKNOWNS=0"),
    Run("two leaders, a hook refuses", _T, 2, "KILLS=0 UNKNOWNS=0 HOOKS=1"),
    Run("two kills, two pushes without an answer", _T, 2, _ALL_KINDS + "KILLS=2 UNKNOWNS=2"),
    Run("a hook refuses, and the rest", _T, 2, _ONE + "HOOKS=1", size="small"),
    Run("everything ends", _T, 2, _ONE, "cycles", size="small"),
    Run("a push without an answer", _T, 3, _ONE + "KILLS=0"),
    Run("a kill", _T, 3, _ONE + "UNKNOWNS=0", size="small"),
    Run("everything ends", _T, 3, _ONE + "KILLS=0 UNKNOWNS=0", "cycles"),
    Run("a copy of the store", _T, 2, "COPY LEADERS=1 KILLS=2 UNKNOWNS=2"),
    Run("a copy of the store: everything ends", _T, 2, "COPY LEADERS=1", "cycles"),
    Run("nodes as slow as they like", _L, 2, "SESSIONS=2 BREAKS=2", size="small"),
    Run("each node its own clock", _L, 2, "SESSIONS=2 CLOCKS"),
    Run("nodes as slow as they like", _L, 3, "SESSIONS=1"),
    Run("who lives is served", _L, 2, "TIMELY SESSIONS=2", size="small"),
    Run("who lives is served: everything ends", _L, 2, "TIMELY SESSIONS=2", "cycles"),
    Run("who lives is served", _L, 3, "TIMELY SESSIONS=1"),
    Run("who lives is served: everything ends", _L, 3, "TIMELY SESSIONS=1", "cycles"),
]

LARGE = [
    Run("two leaders, a kill and a push without an answer", _T, 2, "", size="large", megabytes=6000),
    Run("a kill and a push without an answer", _T, 3, _ONE, size="large", megabytes=6000),
    Run("two leaders of a copied store, a kill", _T, 2, "COPY UNKNOWNS=0", size="large", megabytes=6000),
    Run("each node its own clock, two kills", _L, 2, "CLOCKS KILLS=2 BREAKS=2", size="large", megabytes=6000),
    Run("nodes as slow as they like, twice", _L, 3, "KILLS=0 BREAKS=0", size="large", megabytes=6000),
    Run("who lives is served", _L, 3, "TIMELY CLOCKS SESSIONS=1", size="large", megabytes=6000),
]


def _mutant(model: str, bounds: str, breaks: str, nodes: int = 2, search: Search = "shortest") -> Run:
    small = bounds.split()[0] in (
        "LOOKUP_LEFT_OUT",
        "CACHED_TIP",
        "LEDGER_NOT_READ",
        "HEARTBEAT_NOT_READ_AGAIN",
    )
    return Run(bounds.split()[0], model, nodes, bounds, search, breaks, "small" if small else "medium")


MUTANTS = [
    _mutant(_T, "REFUSED_WHILE_OPEN KILLS=0 UNKNOWNS=1", "refused-never-applied"),
    _mutant(_T, "LOOKUP_LEFT_OUT LEADERS=1 KILLS=0", "refused-never-applied"),
    _mutant(_T, "CACHED_TIP LEADERS=1 KILLS=0 UNKNOWNS=0", "refusal-was-true"),
    _mutant(_T, "NOT_COMPARED KILLS=0 UNKNOWNS=0", "refused-never-applied"),
    _mutant(_T, "NUMBERED_AT_DRAIN KILLS=0 UNKNOWNS=1", "acknowledged-is-applied"),
    _mutant(_T, "SETTLED_TOO_FAR KILLS=0 UNKNOWNS=1", "no-false-conflict"),
    _mutant(_T, "DROPPED_ALTHOUGH_PUSHED LEADERS=1 KILLS=0", "no-orphan-grant"),
    _mutant(_T, "NOT_HELD LEADERS=1 UNKNOWNS=0", "no-orphan-grant"),
    _mutant(_T, "DOUBT_FORGOTTEN LEADERS=1 KILLS=0 HOOKS=1", "no-orphan-grant"),
    _mutant(_T, "WAITS_FOR_DOUBT LEADERS=1 KILLS=0", "no-endless-run", search="cycles"),
    _mutant(_T, "OP_NOT_COMPARED COPY LEADERS=1 KILLS=0", "acknowledged-is-applied"),
    _mutant(_T, "OLD_WRITER_LEFT_OPEN COPY LEADERS=1 KILLS=0", "applied-once"),
    _mutant(_T, "SEARCH_LEFT_OUT COPY LEADERS=1 KILLS=0", "applied-once"),
    _mutant(_L, "LEDGER_NOT_READ", "no-older-token-works"),
    _mutant(_L, "HEARTBEAT_NOT_READ_AGAIN", "one-works"),
    _mutant(_L, "TRUST_FROM_LAST_PUSH", "one-works"),
    _mutant(_L, "WORK_BEFORE_RENEWAL", "one-works"),
    _mutant(_L, "DRIFT_IGNORED CLOCKS SESSIONS=1", "one-works"),
    _mutant(_L, "TOKEN_KEPT", "no-older-token-works"),
    _mutant(_L, "TRACE_LOST", "one-works"),
    _mutant(_L, "DEAD_LEFT_OUT", "one-works"),
    _mutant(_L, "OLD_NONCE SESSIONS=1", "one-works"),
    _mutant(_L, "CAUTION_LEFT_OUT SESSIONS=1 BREAKS=2 KILLS=0", "one-works", nodes=3),
    _mutant(_L, "SILENT_WHILE_WAITING TIMELY SESSIONS=1", "served", nodes=3),
    _mutant(_L, "DOES_NOT_ASK_AGAIN TIMELY SESSIONS=1", "no-dead-end"),
    _mutant(_L, "RENEWED_BY_ANOTHER TIMELY SESSIONS=1 BREAKS=0", "no-endless-run", search="cycles"),
    _mutant(_L, "UNREADABLE_IS_ABSENT", "one-works"),
    _mutant(_L, "WITHDRAWN_BY_A_COPY", "one-works"),
    _mutant(_T, "ATTACHED COPY LEADERS=1 KILLS=0", "acknowledged-is-applied"),
]

FLAWS = [
    _mutant(_T, "COPY_REFUSES COPY KILLS=0 UNKNOWNS=0", "refused-never-applied"),
]

EVERY = [*AS_IT_IS, *LARGE, *MUTANTS, *FLAWS]

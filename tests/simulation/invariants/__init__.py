"""The invariants, one function each, over one step of the chain: a commit and what stood before it.

They share no rule with the decisions: each compares two states and the record between them. A function's
name is the invariant's name with dashes. Each costs what changed in the step, not what the chain is long.
Conditions under which one is promised stand in docs/explanation/cluster.md; the callers see to them.
"""

from collections.abc import Callable

from tests.simulation.invariants import chain, jobs, locks, messages, promotions, rounds, tokens
from tests.simulation.invariants.base import SWITCHED_OFF, History, State, Step, Violated, violated
from tests.simulation.invariants.tokens import grants

#: In the order in which they are asked.
INVARIANTS: list[Callable[[Step], None]] = [
    *chain.INVARIANTS,
    *tokens.INVARIANTS,
    *jobs.INVARIANTS,
    *locks.INVARIANTS,
    *messages.INVARIANTS,
    *promotions.INVARIANTS,
    *rounds.INVARIANTS,
]


def named(function: Callable[[Step], None]) -> str:
    """Returns an invariant's name."""
    return function.__name__.replace("_", "-")


__all__ = [
    "INVARIANTS",
    "SWITCHED_OFF",
    "History",
    "State",
    "Step",
    "Violated",
    "grants",
    "named",
    "violated",
]

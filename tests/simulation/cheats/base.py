"""Attempts to cheat at promotion, by builders, promoters and whoever may write to the ledger.

Each is made with keys and files that its author has, past the product's own operations where those would not
let it. `CHEATS` is the list: what each does, and what it has to be refused as. What is refused by the ledger
is asked of the ledger; what is refused by who counts is asked of the product's decision about it.

cheats-are-refused: none is taken, and each is refused for a reason of its own. What the checker finds in the
chain it finds without any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import LedgerError, PipelineError, StoreError
from pipeline.operations.site import Site
from pipeline.records.decisions import View
from tests.simulation.dice import Dice
from tests.simulation.node import Node
from tests.simulation.promoting import (
    Promoting,
    promoting,
)
from tests.simulation.scheduler import Program

#: That an attempt was taken, which nobody may be told.
TAKEN = "taken"


@dataclass(frozen=True)
class Attempt:
    """One attempt: who makes it, on which machine, and what that one sees."""

    node: Node
    program: Program
    site: Site
    dice: Dice
    view: View

    @property
    def mine(self) -> Promoting:
        return promoting(self.node)

    @property
    def me(self) -> str:
        return self.site.builder


@dataclass(frozen=True)
class Cheat:
    """One way to cheat. `reasons` are those it is refused for, `late` what else may be true by then.

    `act` returns what it was refused as, or None where there is no opportunity.
    """

    name: str
    does: str
    reasons: frozenset[str]
    late: frozenset[str]
    act: Callable[[Attempt], str | None]


CHEATS: dict[str, Cheat] = {}


def cheat(does: str, *reasons: str, late: Sequence[str] = ()) -> Callable[..., Any]:
    """Registers a way to cheat by its function's name, with dashes."""

    def register(act: Callable[[Attempt], str | None]) -> Callable[[Attempt], str | None]:
        name = act.__name__.replace("_", "-")
        CHEATS[name] = Cheat(name, does, frozenset(reasons), frozenset(late), act)
        return act

    return register


def refused(act: Callable[[], object]) -> str:
    """Returns the reason for which something was refused. What says nothing of it goes on being raised."""
    try:
        act()
    except (LedgerError, StoreError):
        raise
    except PipelineError as exc:
        return str(getattr(exc, "reason", "") or type(exc).__name__)
    return TAKEN


def sent(site: Site, request: Mapping[str, Any], **payloads: bytes) -> dict[str, Any]:
    """Asks the ledger, in whosever name."""
    return site.ask(request, payloads=payloads)

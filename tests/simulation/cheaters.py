"""Who cheats: one of the ways in `cheats`, for which there is an opportunity."""

from __future__ import annotations

from pipeline.operations.site import Site
from tests.simulation.actors import command
from tests.simulation.builds import MAKER
from tests.simulation.cheats import CHEATS, Attempt
from tests.simulation.dice import Dice
from tests.simulation.invariants import violated
from tests.simulation.node import Node
from tests.simulation.promoting import (
    promoting,
)
from tests.simulation.scheduler import Program


@command
def cheat_somehow(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """Tries one way after the other until there is an opportunity for one."""
    MAKER.set(program.name)
    mine, names = promoting(node), list(CHEATS)
    # Those that were tried least come first, so that a run tries as many as it has opportunities for.
    names.sort(
        key=lambda name: (sum(n for (each, _), n in mine.cheats.items() if each == name), dice.fraction())
    )
    attempt = Attempt(node, program, site, dice, site.state().view)
    for name in names:
        each = CHEATS[name]
        reason = each.act(attempt)
        if reason is None:
            continue
        node.world.tell(f"{program.name}: {name} -> {reason}")
        if reason in each.reasons:
            mine.cheats[name, reason] += 1
        elif reason not in each.late:
            violated("cheats-are-refused", f"{name} by {program.name} was {reason}")
        return

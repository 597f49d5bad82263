"""Something outside the ledger, guarded by a named lock: who works on it in true time, and its fence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.records.locks import Token
from tests.simulation.invariants import violated

if TYPE_CHECKING:
    from tests.simulation.scheduler import Program
    from tests.simulation.world import World


class Work:
    """One stretch of work under a lock, from its beginning to its end in the simulator's own time."""

    __slots__ = ("name", "over", "program", "token")

    def __init__(self, name: str, program: Program, token: str) -> None:
        self.name, self.program, self.token, self.over = name, program, token, False


class Outside:
    """All guarded things. `suspended` work is outside the promise: nothing could end it in time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._works: dict[str, list[Work]] = {}
        self._fences: dict[str, tuple[Token, str]] = {}
        self.begun = 0
        self.ended_by_watchdog = 0

    def begin(self, name: str, program: Program, token: str) -> Work:
        """Notes that a program works on a thing from now on. Checks work-never-overlaps."""
        self.begun += 1
        others = [each for each in self._works.get(name, []) if not each.over]
        for other in others:
            promised = not self._world.rewound and not other.program.node.suspended
            if promised and not program.node.suspended and other.program is not program:
                violated(
                    "work-never-overlaps",
                    f"{program.name} works on {name} under {token} while {other.program.name} does under"
                    f" {other.token}",
                )
        work = Work(name, program, token)
        self._works[name] = [*others, work]
        program.closers.append(lambda: self.end(work))
        return work

    def end(self, work: Work) -> None:
        work.over = True

    def present(self, name: str, program: Program, token: str) -> bool:
        """A thing compares tokens: none below the highest it has seen, and no two holders under one number.

        Checks fence-tells-holders-apart; a rewind that nobody noticed ends the promise.
        """
        shown = Token.parse(token)
        known = self._fences.get(name)
        if known is not None and not self._world.rewound:
            highest, whose = known
            if (shown.epoch, shown.counter) < (highest.epoch, highest.counter):
                return False
            if (shown.epoch, shown.counter) == (highest.epoch, highest.counter) and whose != program.name:
                violated(
                    "fence-tells-holders-apart", f"{program.name} and {whose} both present {token} to {name}"
                )
        self._fences[name] = (shown, program.name)
        return True

"""What one run of the real cluster is drawn from, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.cluster.faults import REAL, STOPPED

#: Who makes trouble for so many seconds strikes with every fault of the seed until it has hit.
ENOUGH_SECONDS = 15.0


@dataclass(frozen=True)
class Plan:
    """Everything that one run is drawn from. `kills` a second; `mutant` names a planted bug."""

    seed: int
    nodes: int = 2
    seconds: float = 20.0
    writers: int = 6
    faults: tuple[str, ...] = REAL
    kills: float = 8.0
    ssh: bool = False
    speed: bool = False
    builds: bool = False
    #: How many seconds pass between two troubles, kills aside.
    trouble: float = 1.2
    #: For how many seconds programs and machines stay stopped: one of these.
    stopped: tuple[float, ...] = STOPPED
    mutant: str = ""

    @property
    def crew(self) -> tuple[str, ...]:
        """The roles of each machine's workers."""
        builds = ("invoke",) if self.builds else ()
        writers = self.writers // 2 if self.builds else self.writers
        return ("build", "hold", "hold", "guard", *builds, *("write",) * writers)


@dataclass
class Counts:
    """What is counted, in one run or in many."""

    transactions: int = 0
    commits: int = 0
    kills: int = 0
    answers: int = 0
    unknown: int = 0
    stamps: int = 0
    active_seconds: float = 0.0
    #: Transactions while trouble was made, if bare pushes took turns with them.
    measured: int = 0
    bare_pushes: int = 0
    bare_seconds: float = 0.0
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


@dataclass
class Result(Counts):
    """What came of one run."""

    plan: Plan = field(kw_only=True)
    violated: str | None = None
    detail: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)

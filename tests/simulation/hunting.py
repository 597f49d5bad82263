"""The checker's own proof: every planted bug is noticed by name, and not by luck of another invariant.

The table `mutants.json` has a row for each mutant: the seed at which which invariant notices it, and after
how many steps. A few need an interleaving that no profile makes likely; they are planted into the attack that
found their rule (tests/ledger), which checks a named invariant as well. Their row has that attack for a seed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import Pool
from pathlib import Path

from tests.ledger.mutants import planted as planted_in_the_ledger
from tests.ledger.test_mutants import KILLS
from tests.ledger.toy import Violated
from tests.simulation import invariants
from tests.simulation.mutants import MUTANTS
from tests.simulation.shrink import fails
from tests.simulation.world import Plan

TABLE = Path(__file__).with_name("mutants.json")
#: Mutants that need three rare things in a row, and the attack that does them.
DIRECTED = (
    "search-once", "reborn-unseen", "no-compare", "no-doubt", "joins-any-repair", "unknown-is-new",
)  # fmt: skip
#: Invariants of which it is shown that nothing else notices what they do, one of each part.
WITHOUT = (
    "trees-compute-again",
    "tokens-increase",
    "work-never-overlaps",
    "executions-are-accounted-for",
    "marks-are-ones-own",
    "history-grows-by-facts",
    "open-is-held",
)


@dataclass(frozen=True)
class Row:
    """How a mutant is killed. `steps` are those of the run that does it, `steps_in_all` of all tried."""

    mutant: str
    part: str
    text: str
    profile: str
    invariant: str | None
    seed: int | None
    attack: str | None
    steps: int
    steps_in_all: int

    @property
    def where(self) -> str:
        return self.attack or f"{self.profile} {self.seed}"


def table() -> list[Row]:
    """Reads the committed table."""
    return [Row(**each) for each in json.loads(TABLE.read_text())]


def write(rows: Iterable[Row]) -> None:
    """Replaces the committed table, in the order of the registry."""
    order = list(MUTANTS)
    lines = [
        json.dumps(asdict(row), ensure_ascii=False)
        for row in sorted(rows, key=lambda row: order.index(row.mutant))
    ]
    TABLE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def hunt(work: tuple[str, int]) -> Row:
    """Looks for the first seed at which a mutant is noticed by an invariant, out of so many."""
    name, seeds = work
    mutant, steps = MUTANTS[name], 0
    about = (name, mutant.part, mutant.text, mutant.profile)
    if name in DIRECTED:
        invariant, attack = attacked(name)
        return Row(*about, invariant, None, attack, 0, 0)
    for seed in range(seeds):
        result = fails(Plan(seed, profile=mutant.profile), name)
        steps += result.steps
        if result.violated not in (None, "no-defect"):
            return Row(*about, result.violated, seed, None, result.steps, steps)
    return Row(*about, None, None, None, 0, steps)


def attacked(name: str) -> tuple[str | None, str]:
    """Plants a mutant into the attack that found its rule. Returns the invariant that failed, and the attack.

    The attack passes without the mutant, or this raises what it raised.
    """
    attack = next(attack for attack, mutant, _ in KILLS if mutant == name)
    for planted in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            try:
                if planted:
                    with planted_in_the_ledger(name):
                        attack(Path(folder))
                else:
                    attack(Path(folder))
            except Violated as exc:
                if not planted:
                    raise
                return exc.name, attack.__name__
    return None, attack.__name__


def prove(row: Row) -> tuple[Row, str]:
    """Repeats a row: the mutant is noticed by the row's invariant, and the product passes the same seed.

    Returns the row and what is wrong with it, if anything.
    """
    if row.invariant is None:
        return row, "survives"
    if row.seed is None:
        found = attacked(row.mutant)[0]
        return row, "" if found == row.invariant else f"noticed by {found}"
    plan = Plan(row.seed, profile=row.profile)
    found = fails(plan, row.mutant).violated
    if found != row.invariant:
        return row, f"noticed by {found}"
    innocent = _innocent(plan)
    return row, f"the product itself breaks {innocent}" if innocent else ""


@lru_cache(64)
def _innocent(plan: Plan) -> str | None:
    """Returns what the product itself breaks; several mutants are killed at one seed."""
    return fails(plan).violated


def survives(work: tuple[Row, str]) -> tuple[Row, str, str | None]:
    """Runs a row with an invariant switched off. Returns what else notices the mutant, or None."""
    row, invariant = work
    invariants.SWITCHED_OFF.add(invariant)
    try:
        return row, invariant, fails(Plan(row.seed or 0, profile=row.profile), row.mutant).violated
    finally:
        invariants.SWITCHED_OFF.discard(invariant)


def prove_all(jobs: int, tick: Callable[[], None] = lambda: None) -> Iterator[tuple[Row, str]]:
    """Repeats every row, on all cores."""
    with Pool(jobs) as pool:
        for proved in pool.imap_unordered(prove, table()):
            tick()
            yield proved


def without(jobs: int, tick: Callable[[], None] = lambda: None) -> dict[str, list[tuple[str, str | None]]]:
    """Returns for each of `WITHOUT` the mutants that it kills, and what notices them while it is off."""
    work = [(row, row.invariant) for row in table() if row.seed is not None and row.invariant in WITHOUT]
    found: dict[str, list[tuple[str, str | None]]] = {name: [] for name in WITHOUT}
    with Pool(jobs) as pool:
        for row, invariant, other in pool.imap_unordered(survives, work):
            tick()
            found[invariant].append((row.mutant, other))
    return found

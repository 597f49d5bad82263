"""The virtual cluster in CI's size: seeds, repeatability, the regression corpus, mutants at their seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.simulation import hunting
from tests.simulation.cheats import CHEATS
from tests.simulation.faults import VIRTUAL
from tests.simulation.invariants import INVARIANTS, named
from tests.simulation.mutants import MUTANTS
from tests.simulation.runs import Choice
from tests.simulation.scheduler import Killed, Program, Scheduler
from tests.simulation.shrink import story
from tests.simulation.world import Plan, play

ROOT = Path(__file__).resolve().parents[2]
SEEDS = {"small": 9, "medium": 64, "large": 4000}
#: What a mutant may cost in CI's small size, in steps.
SMALL = 12_000


def test_a_killed_program_has_no_further_effect() -> None:
    """After kill -9 every step of a program ends it, in its clean-up too."""
    scheduler, done = Scheduler(), []
    program = Program("p", None)

    def body() -> None:
        try:
            scheduler.pause(5.0)
            done.append("worked")
        finally:
            with pytest.raises(Killed):
                scheduler.pause(0.0)

    scheduler.spawn(program, body)
    scheduler.at(1.0, lambda: scheduler.kill(program))
    scheduler.run(10.0)
    assert done == []
    assert scheduler.now <= 10.0


def test_a_stopped_program_goes_on_where_it_was() -> None:
    """SIGSTOP holds a program up; what was due meanwhile is done at SIGCONT, and not before."""
    scheduler, seen = Scheduler(), []
    program = Program("p", None)

    def body() -> None:
        scheduler.pause(5.0)
        seen.append(scheduler.now)

    scheduler.spawn(program, body)
    scheduler.at(1.0, lambda: scheduler.stop(program))
    scheduler.at(100.0, lambda: scheduler.go_on(program))
    scheduler.run(1000.0)
    assert seen == [100.0]


def test_every_seed_holds_and_every_fault_hits(size: str) -> None:
    """No invariant fails on any seed, and over all of them each fault of the vocabulary strikes."""
    choice = Choice()
    struck: Counter[str] = Counter()
    for seed in range(SEEDS[size]):
        result = play(choice.plan(seed))
        assert result.violated is None, f"{result.violated}: {result.detail}"
        assert result.transactions > 0
        struck.update(name for name, _ in result.hits)
    if size != "small":
        assert set(VIRTUAL) - set(struck) == set()


def test_every_cheat_is_refused_for_its_own_reason(size: str) -> None:
    """Whoever cheats is refused, and told why; over some seeds each way to cheat finds an opportunity."""
    tried: Counter[str] = Counter()
    for seed in range(2 if size == "small" else 10):
        result = play(Plan(seed, profile="cheats"))
        assert result.violated is None, f"{result.violated}: {result.detail}"
        assert [each for each in result.cheats if each[1] not in CHEATS[each[0]].reasons] == []
        tried.update(name for name, _ in result.cheats)
    assert len(tried) >= len(CHEATS) // 2
    if size != "small":
        assert set(CHEATS) - set(tried) == set()


@pytest.mark.parametrize(
    "case", json.loads(Path(__file__).with_name("corpus.json").read_text()), ids=lambda c: c["id"]
)
def test_found_once_never_again(case: dict[str, Any]) -> None:
    """A run that once broke an invariant holds."""
    plan = Plan(
        int(str(case["seed"])),
        int(str(case["nodes"])),
        int(str(case["commands"])),
        tuple(case.get("faults", VIRTUAL)),
        profile=str(case["profile"]),
    )
    result = play(plan)
    assert result.violated is None, f"{result.violated}: {result.detail}"


@pytest.mark.parametrize("row", hunting.table(), ids=lambda row: row.mutant)
def test_mutant_is_killed_by_its_invariant(row: hunting.Row, size: str) -> None:
    """Each planted bug is noticed, by name, at the seed of the table; the product passes the same seed."""
    if size == "small" and row.steps > SMALL:
        pytest.skip("dearer than the small size allows; the medium size runs it")
    assert hunting.prove(row) == (row, "")


def test_the_table_names_every_mutant() -> None:
    """No mutant is registered that the table does not tell of, and none in it survives."""
    rows = hunting.table()
    assert [row.mutant for row in rows] == list(MUTANTS)
    assert [row.mutant for row in rows if row.invariant in (None, "no-defect")] == []
    assert len(rows) - len(hunting.DIRECTED) >= 40
    assert len({named(each) for each in INVARIANTS}) == len(INVARIANTS)


@pytest.mark.parametrize("invariant", hunting.WITHOUT)
def test_no_invariant_is_idle(invariant: str) -> None:
    """With an invariant switched off a mutant that it kills is noticed by nothing else, or by another one."""
    row = next(row for row in hunting.table() if row.invariant == invariant)
    assert hunting.survives((row, invariant))[2] != invariant
    assert hunting.prove(row) == (row, "")


def test_one_seed_is_one_story() -> None:
    """A replay gives the same bytes again, in another process and under another order of hashes."""
    told = story(Plan(5, profile="losses", commands=20))
    code = (
        "import sys; from tests.simulation.shrink import story; from tests.simulation.world import Plan;"
        "sys.stdout.write(story(Plan(5, profile='losses', commands=20)))"
    )
    for order in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": order, "PYTHONPATH": str(ROOT)}
        again = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT
        )
        assert again.stdout == told, again.stderr

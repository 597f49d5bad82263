"""The whole proof's own parts: which parts run, how long runs are continued, and what the page shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.proof import records
from tests.proof.__main__ import PARTS, arguments, parts_of
from tests.simulation.runs import Choice, Total, run_all
from tests.simulation.world import Plan


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], list(PARTS)),
        (["--seeds", "10"], ["virtual"]),
        (["--real", "10"], ["real"]),
        (["--seeds", "10", "--real", "10"], ["virtual", "real"]),
        (["--fault", "kill"], ["virtual"]),
        (["--mutant", "no-record"], ["virtual"]),
        (["--part", "models", "--part", "mutants"], ["mutants", "models"]),
    ],
)
def test_flags_choose_the_parts(words: list[str], parts: list[str]) -> None:
    """Without a flag everything runs; a flag that is about one part runs that part."""
    assert parts_of(arguments(words)) == parts


def test_a_long_run_is_continued(tmp_path: Path) -> None:
    """What one call has done the next one counts and does not do again."""
    keep = tmp_path / "kept.json"
    choice = Choice(seeds=2, commands=4, nodes=2, profile="calm", jobs=1)
    first = run_all(choice, keep=keep)
    assert (first.runs, first.next_seed) == (2, 2)
    assert vars(Total.saved(keep)) == vars(first)
    more = run_all(replace(choice, seeds=3), keep=keep)
    whole = run_all(replace(choice, seeds=3))
    assert (more.runs, more.steps, more.transactions) == (3, whole.steps, whole.transactions)


def test_a_failure_survives_being_kept(tmp_path: Path) -> None:
    """A violation of an earlier call fails the run that continues it."""
    total = Total(runs=1, failures=[(Plan(7, faults=("kill",)), "applied-once", "twice")])
    total.save(tmp_path / "kept.json")
    assert Total.saved(tmp_path / "kept.json").failures == total.failures
    assert Total.saved(tmp_path / "kept.json").failed(("kill",))


def test_a_fault_that_struck_nothing_fails_a_long_run() -> None:
    """In a run of 64 seeds every fault has to have hit something; in a shorter one it is only said."""
    assert Total(runs=64).failed(("kill",))
    assert not Total(runs=63).failed(("kill",))


def test_a_cheat_that_nobody_tried_fails_a_long_run() -> None:
    """In a run of 64 seeds each way to cheat has to have been tried; where none is looked for, none."""
    total = Total(runs=64)
    total.hits["kill", "push"] = total.cheats["unsigned", "bad-signature"] = 1
    assert not total.failed(("kill",))
    assert not total.failed(("kill",), ("unsigned",))
    assert total.failed(("kill",), ("unsigned", "unknown-key"))
    assert Choice().cheats == Choice(profile="cheats").cheats != ()
    assert Choice(profile="losses").cheats == ()


def test_a_continued_run_is_one_line(tmp_path: Path) -> None:
    """Runs that are not continued are lines of their own, also on the same commit."""
    place = tmp_path / "runs.jsonl"
    line: dict[str, Any] = {"date": "2026-01-01", "commit": "c0ffee", "machine": "m"}
    records.append({**line, "layer": "virtual", "run": "a", "seeds": 1}, place)
    records.append({**line, "layer": "virtual", "run": "b", "seeds": 2}, place)
    records.append({**line, "layer": "real", "seeds": 3}, place)
    records.append({**line, "layer": "real", "seeds": 4}, place)
    records.append({**line, "layer": "virtual", "run": "a", "seeds": 5}, place)
    assert [json.loads(each)["seeds"] for each in place.read_text().splitlines()] == [2, 3, 4, 5]
    assert place.with_suffix(".md").read_text() == records.page(place)


def test_the_page_is_up_to_date() -> None:
    """docs/ shows every recorded run."""
    assert records.RECORDS.with_suffix(".md").read_text() == records.page()

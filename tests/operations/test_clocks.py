"""Is this machine's clock ahead? What the order of the ledger contradicts is refused, what is odd is said."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.edge.clock import ManualClock
from pipeline.operations import messages
from pipeline.operations.clocks import Entry, check_ahead, contradiction
from pipeline.operations.doctor import examine
from tests.operations.conftest import WHEN, MakeSite

YEARS = timedelta(days=1000)


def at(builder: str, days: float) -> Entry:
    return Entry(builder, WHEN + timedelta(days=days))


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([], None),
        ([at("me", 1000)], None),
        ([at("other", 0), at("me", 1000)], None),
        ([at("me", 1000), at("other", 0)], 1),
        ([at("me", 0.5), at("other", 0)], None),
        ([at("me", 1000), at("other", 0), at("other", 1000)], None),
        ([at("me", 1000), at("other", 0), at("third", 0.1)], 2),
        ([at("me", 5000), at("other", 0)], None),
        ([at("me", 5000), at("me", 0), at("other", 0)], None),
        ([at("me", 1000), at("other", -5)], None),
    ],
)
def test_a_later_entry_that_is_days_older_is_a_contradiction(entries: list[Entry], told: int | None) -> None:
    """Only an entry of another that follows one of this builder tells anything; the last of them counts.

    Not where this builder's lies in the future by now, its clock having been set right, nor where the other's
    is from before a moment that has passed: that clock is behind.
    """
    found = contradiction(entries, "me", WHEN + YEARS, not_before=WHEN)
    assert (entries.index(found[1]) if found else None) == told


def test_a_clock_that_is_years_ahead_is_a_finding(make_site: MakeSite, clock: ManualClock) -> None:
    """`doctor` says whose entries contradict it and by how much, until the clock is right again."""
    one, two = make_site("build1"), make_site("build2")
    clock.step_wall(YEARS.total_seconds())
    messages.send(one, ["build2"], "from the future", "")
    clock.step_wall(-YEARS.total_seconds())
    messages.send(two, ["build1"], "an answer", "")
    clock.step_wall(YEARS.total_seconds())
    found = {check.name: check for check in examine(lambda: one, say=print)}
    assert not found["clock: ahead"].ok
    assert "is ahead of build2's by 1000 days" in found["clock: ahead"].message
    assert "timedatectl" in (found["clock: ahead"].remedy or "")
    clock.step_wall(-YEARS.total_seconds())
    assert "clock: ahead" not in {check.name for check in examine(lambda: one, say=print)}
    assert "clock: ahead" not in {check.name for check in examine(lambda: two, say=print)}


def test_a_clock_that_is_set_while_the_machine_runs_is_said(make_site: MakeSite, clock: ManualClock) -> None:
    """It is a note, once: it may have been a correction. Time that passes is none."""
    one = make_site("build1")
    assert check_ahead(one, one.state().view, used=()) == []
    clock.advance(YEARS.total_seconds())
    assert check_ahead(one, one.state().view, used=()) == []
    clock.step_wall(YEARS.total_seconds())
    (note,) = check_ahead(one, one.state().view, used=())
    assert (note.ok, note.name) == (True, "clock: set")
    assert "set ahead by 1000 days" in note.message
    assert check_ahead(one, one.state().view, used=()) == []


def test_garbage_instead_of_the_last_look_is_none(make_site: MakeSite) -> None:
    """A look that is not whole is no evidence, and is replaced."""
    one = make_site("build1")
    for value in ({}, {"boot": one.boot()}, {"boot": one.boot(), "boottime": "x", "wall": None}):
        one.ledger.store.observe("clock", value)
        assert check_ahead(one, one.state().view, used=()) == []
    one.ledger.store.observe("clock", {"boot": one.boot(), "boottime": 0, "wall": float("-inf")})
    assert check_ahead(one, one.state().view, used=()) == []


def test_a_year_in_which_nothing_happened_is_said(make_site: MakeSite, tmp_path: Path) -> None:
    """Neither in the ledger nor on this machine: either both were left alone, or the clock is far ahead."""
    one = make_site("build1")
    messages.send(one, ["build2"], "the last for long", "")
    used = tmp_path / "status"
    used.touch()
    os.utime(used, (WHEN.timestamp(), WHEN.timestamp()))
    view = one.state().view
    assert check_ahead(one, view, used=[used]) == []
    one.clock = ManualClock(WHEN + YEARS, one.clock.boottime() + YEARS.total_seconds())
    (note,) = check_ahead(one, view, used=[used, tmp_path / "not there"])
    assert (note.ok, note.name) == (True, "clock: far ahead")
    assert "2026-01-02 03:04" in note.message
    fresh = datetime.now(UTC).timestamp() + 10 * YEARS.total_seconds()
    os.utime(used, (fresh, fresh))
    assert check_ahead(one, view, used=[used]) == []

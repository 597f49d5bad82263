"""Comparisons in the ledger: what is recorded, once, and how much of it stays."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.coordination.adoption import adopt
from pipeline.coordination.comparisons import MOST
from pipeline.errors import RecordInvalid
from pipeline.records import paths
from pipeline.records.base import load
from pipeline.records.comparison import Comparisons
from pipeline.records.decisions import Change, Refusal
from tests.coordination.world import COMMIT, NOW, World


def summary(number: int = 1, verdict: str = "AGREE", other: str = "build2") -> dict[str, Any]:
    """Returns what is said of two builds."""
    builds = [
        {"builder": "build1", "job_id": f"job_{number}"},
        {"builder": other, "job_id": f"job_x{number}"},
    ]
    return {
        "branch": "main",
        "commit": COMMIT,
        "builds": builds,
        "verdict": verdict,
        "independent": False,
        "artifacts": {verdict: 6},
    }


def kept(world: World) -> Comparisons:
    """Returns what the ledger keeps."""
    return load(Comparisons, world.files[paths.COMPARISONS], paths.COMPARISONS)


def test_a_comparison_is_kept_with_who_and_when() -> None:
    """The record names the operation, the builder that compared, and the time."""
    world = World()
    answer = world.ask("comparison.record", summary=summary(), builder="build3")
    assert isinstance(answer, Change)
    (one,) = kept(world).comparisons
    assert (one.id, one.by, one.at, one.verdict) == (world.last_op, "build3", NOW, "AGREE")


def test_saying_it_again_changes_nothing() -> None:
    """The same of the same builds is recorded once; another verdict on them is news."""
    world = World()
    world.ask("comparison.record", summary=summary(verdict="DIFFER"))
    before = dict(world.files)
    answer = world.ask("comparison.record", summary=summary(verdict="DIFFER"))
    assert isinstance(answer, Change)
    assert answer.outcome["changed"] is False
    assert world.files == before
    world.ask("comparison.record", summary=summary(verdict="AGREE-NORMALISED"))
    assert [each.verdict for each in kept(world).comparisons] == ["DIFFER", "AGREE-NORMALISED"]


def test_only_the_newest_stay() -> None:
    """The file is bounded: of many comparisons the last are kept, in order."""
    world = World()
    for number in range(MOST + 3):
        world.ask("comparison.record", summary=summary(number))
    jobs = [each.builds[0].job_id for each in kept(world).comparisons]
    assert jobs == [f"job_{number}" for number in range(3, MOST + 3)]


def test_a_builder_does_not_agree_with_itself() -> None:
    """Two builds of one builder are recorded as what they are, and never as agreement."""
    world = World()
    refused = world.ask("comparison.record", summary=summary(other="build1"))
    assert isinstance(refused, Refusal)
    assert refused.reason == "one-builder"
    assert paths.COMPARISONS not in world.files
    assert isinstance(
        world.ask("comparison.record", summary=summary(verdict="INCOMPARABLE", other="build1")), Change
    )


def test_who_is_not_registered_is_refused() -> None:
    """A builder that nobody knows is part of no comparison."""
    refused = World().ask("comparison.record", summary=summary(other="build9"))
    assert isinstance(refused, Refusal)
    assert refused.reason == "unknown-builder"


@pytest.mark.parametrize("change", [{"verdict": "YES"}, {"verdict": None}, {"builds": []}, {"commit": "abc"}])
def test_what_is_no_comparison_is_not_recorded(change: dict[str, Any]) -> None:
    """Another verdict than the five, or fewer than two builds, is no request."""
    with pytest.raises(RecordInvalid):
        World().ask("comparison.record", summary=summary() | change)


def test_nobody_writes_one_by_hand() -> None:
    """A comparison that a commit by hand brings is not adopted."""
    assert adopt(paths.COMPARISONS, None, b"{}").data is None

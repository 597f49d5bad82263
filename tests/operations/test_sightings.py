"""What was seen and kept on disk: whole it is evidence, anything else is said and begins anew."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.coordination.leases import Silence, silence_needed
from pipeline.edge.clock import ManualClock
from pipeline.errors import LeaseHeld
from pipeline.operations.lease import hold
from pipeline.operations.rescue import rescue
from pipeline.operations.sightings import keep, recall
from tests.operations.conftest import MakeSite
from tests.operations.test_lease import TTL, take
from tests.operations.test_recover import start

WHOLE: dict[str, Any] = {"token": "t", "nonce": "n", "since": 1.0, "until": 2.0, "boot_id": "b"}
GARBAGE: list[dict[str, Any]] = [
    {"token": "t"},
    {**WHOLE, "since": None},
    {**WHOLE, "since": "1"},
    {**WHOLE, "since": float("-inf")},
    {**WHOLE, "until": float("nan")},
    {**WHOLE, "since": 3.0},
    {**WHOLE, "nonce": ["n"]},
    {**WHOLE, "boot_id": 7},
    {key: value for key, value in WHOLE.items() if key != "token"},
]


def test_what_was_kept_is_recalled(make_site: MakeSite) -> None:
    """A sighting comes back as it was, for the token that it was of and for no other."""
    site = make_site("build1")
    seen = Silence("n", 1.0, 2.0, "another boot")
    keep(site, "lock/a", seen, token="t")
    assert recall(site, "lock/a", token="t") == seen
    assert recall(site, "lock/a", token="u") is None
    assert recall(site, "lock/b", token="t") is None


@pytest.mark.parametrize("value", GARBAGE)
def test_garbage_is_no_evidence(make_site: MakeSite, value: dict[str, Any]) -> None:
    """It is named once and forgotten; nothing is raised, and nobody is silent by it."""
    site = make_site("build1")
    said: list[str] = []
    site.say = said.append
    site.ledger.store.observe("lock/a", value)
    assert recall(site, "lock/a", token="t") is None
    assert recall(site, "lock/a", token="t") is None
    assert said == ["What was seen of `lock/a` before cannot be read: it is observed anew."]


def test_a_look_from_the_future_of_this_boot_is_none(make_site: MakeSite, clock: ManualClock) -> None:
    """A time that this machine's clock has not reached was never seen on it."""
    site = make_site("build1")
    keep(site, "lock/a", Silence("n", 1.0, clock.boottime() + 1, site.boot()), token="t")
    assert recall(site, "lock/a", token="t") is None


def test_garbage_takes_no_lock_away(make_site: MakeSite, clock: ManualClock) -> None:
    """A challenger with a damaged sighting begins to observe anew, and has the lock after a whole silence."""
    one, two = make_site("build1"), make_site("build2")
    token = take(one, "a")["a"]
    two.ledger.store.observe("lock/a", {"token": token, "nonce": "x", "since": "long ago"})
    said: list[str] = []
    two.say = said.append
    with pytest.raises(LeaseHeld), hold(two, ["a"], ttl=TTL, patience=0):
        pass
    assert any("`lock/a` before cannot be read" in each for each in said)
    clock.advance(silence_needed(TTL) + 1)
    with hold(two, ["a"], ttl=TTL, patience=0) as lease:
        lease.insist()


def test_garbage_puts_no_job_back(make_site: MakeSite, clock: ManualClock) -> None:
    """A damaged sighting of another builder's job is observed anew too."""
    token = start(make_site("build1"), "job_a")
    two = make_site("build2")
    two.state()
    two.ledger.store.observe(
        f"job/{token}", {"nonce": None, "since": float("-inf"), "until": 1.0, "boot_id": ""}
    )
    assert rescue(two) == []
    clock.advance(301)
    assert rescue(two) == ["job_a"]

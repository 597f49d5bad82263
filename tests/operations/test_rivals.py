"""Two stores under one builder's name: what the second one is told when it wants to build."""

from __future__ import annotations

import pytest

from pipeline.errors import LeaseHeld, StoreCloned
from pipeline.operations import site as sites
from pipeline.operations.build import work_once
from pipeline.operations.rivals import busy_elsewhere, known_rival, look_for_rival
from tests.operations.conftest import MakeSite
from tests.operations.test_queue import order
from tests.operations.test_recover import die, start


def test_a_builder_at_work_elsewhere_is_not_taken_for_a_dead_one(make_site: MakeSite) -> None:
    """Who may build here, while the builder's name builds in another place, hears of that and what to do."""
    one = make_site("build1")
    token = start(one, "job_a")
    namesake = make_site("build1", place="namesake")
    order(namesake, "job_b")
    with pytest.raises(StoreCloned) as caught:
        work_once(namesake)
    assert caught.value.exit_code == 32
    assert caught.value.message == (
        f"build1 is at work from another home on this machine: it runs job `job_a` (token {token})."
    )
    assert "name of its own" in (caught.value.remedy or "")
    assert f"`invoke lock.break builder/build1 --token {token}`" in (caught.value.remedy or "")
    jobs = {job.id: (job.status, job.token) for job in sites.jobs(namesake.state().view).jobs}
    assert jobs["job_a"] == ("running", token)
    assert jobs["job_b"] == ("queued", None)


def test_a_builder_on_another_machine_is_named_as_one(make_site: MakeSite) -> None:
    """Where the holder is of another machine, the words say so."""
    one = make_site("build1")
    request = {"kind": "job.start", "id": "job_a", "branch": "b", "commit": "a" * 40}
    one.ask({**request, "holder": "0123456789abcdef/elsewhere"})
    order(one, "job_b")
    with pytest.raises(StoreCloned, match="build1 is at work on another machine"):
        work_once(one)


def test_a_rival_is_known_by_what_it_writes_later(make_site: MakeSite) -> None:
    """The first look proves nothing, then every transaction of the other does, for a day."""
    one, other = make_site("build1"), make_site("build1", place="other")
    start(other, "job_a")
    order(one, "job_b")
    assert look_for_rival(one) is None
    assert look_for_rival(one) is None
    order(other, "job_c")
    one.state()
    found = look_for_rival(one)
    assert found is not None
    assert (found.writer, found.what) == ("other-writer", "job.create")
    assert found.commit == one.state().tip
    assert look_for_rival(one) is None
    assert known_rival(one) == found
    later = make_site("build1")
    later.clock.sleep(24 * 3600 + 1)
    assert known_rival(later) is None


RIVAL = {"writer": "w", "commit": "c" * 40, "what": "job.create", "seen": "2026-01-02T03:04:05+00:00"}


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"writer": "build1-writer"},
        {"writer": "build1-writer", "tip": "t", "ordinal": "x", "rival": None},
        {"writer": "build1-writer", "tip": "t", "ordinal": True, "rival": RIVAL},
        {"writer": "build1-writer", "tip": "t", "ordinal": 0, "rival": []},
        {"writer": "build1-writer", "tip": "t", "ordinal": 0, "rival": {**RIVAL, "more": 1}},
        {"writer": "build1-writer", "tip": "t", "ordinal": 0, "rival": {**RIVAL, "commit": 7}},
        {"writer": "build1-writer", "tip": "t", "ordinal": 0, "rival": {**RIVAL, "seen": "yesterday"}},
        {"writer": "build1-writer", "tip": "t", "ordinal": 0, "rival": {**RIVAL, "seen": "2026-01-02"}},
    ],
)
def test_a_look_that_cannot_be_read_is_none(make_site: MakeSite, kept: dict[str, object]) -> None:
    """What was kept of another shape proves nothing: the look begins anew, and sees what comes after it."""
    one, other = make_site("build1"), make_site("build1", place="other")
    order(one, "job_a")
    one.ledger.store.observe("rival", kept)
    assert known_rival(one) is None
    assert look_for_rival(one) is None
    order(other, "job_b")
    one.state()
    assert look_for_rival(one) is not None


def test_other_builders_and_ones_own_processes_are_no_rivals(make_site: MakeSite) -> None:
    """Neither what build2 writes nor what another process of this store writes is a second store's."""
    one, again, two = make_site("build1"), make_site("build1", "p2"), make_site("build2")
    order(one, "job_a")
    assert look_for_rival(one) is None
    order(two, "job_b")
    order(again, "job_c")
    one.state()
    assert look_for_rival(one) is None
    assert known_rival(one) is None


def test_the_claim_of_ones_own_dead_process_is_no_rival(make_site: MakeSite) -> None:
    """A claim of a dead process of this machine stays what it was: busy, and a case for `recover`."""
    one = make_site("build1")
    start(one, "job_a")
    die(one)
    back = make_site("build1", "p2")
    back.state()
    refused = LeaseHeld("Builder build1 runs job `job_a`.", reason="busy")
    assert busy_elsewhere(back, refused) is refused

"""Rescue: a silent builder's job is put back by another one, and a beating builder's is not."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.edge.clock import ManualClock
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.operations import queue
from pipeline.operations.pulse import Pulse
from pipeline.operations.rescue import rescue
from pipeline.operations.site import Site
from tests.operations.conftest import MakeSite
from tests.operations.test_recover import complete, start


def look(site: Site) -> list[str]:
    """One look, as a command of another builder takes it."""
    site.state()
    return rescue(site)


def test_a_silent_builders_job_is_put_back(make_site: MakeSite, clock: ManualClock) -> None:
    """Two looks that lie five minutes apart and show no change put the job back, with a loss counted."""
    token = start(make_site("build1"), "job_a")
    two = make_site("build2")
    assert look(two) == []
    clock.advance(301)
    assert look(two) == ["job_a"]
    job = queue.show(two, "job_a")
    assert (job.status, job.losses) == ("queued", 1)
    assert job.token != token


def test_a_beating_builder_is_left_alone(make_site: MakeSite, clock: ManualClock) -> None:
    """However much time passes, a nonce that changes between looks is life."""
    one, two = make_site("build1"), make_site("build2")
    token = start(one, "job_a")
    pulse = Pulse(one.ledger.store.folder / "pulse", one.ledger.refs, "build1", clock, one.processes)
    for number in range(4):
        pulse.renew("leases", {token: f"nonce-{number}"})
        assert look(two) == []
        clock.advance(301)


class HeldUp(MemoryRefs):
    """A port whose process is stopped for six minutes when the heartbeats were read."""

    def __init__(self, remote: MemoryRemote, clock: ManualClock) -> None:
        super().__init__(remote)
        self._clock = clock

    def beat_data(self, refs: Collection[str]) -> dict[str, bytes]:
        found = super().beat_data(refs)
        self._clock.advance(360)
        return found


def test_50_what_a_challenger_waits_for_is_no_silence(
    make_site: MakeSite, clock: ManualClock, remote: MemoryRemote
) -> None:
    """Who was stopped after a read does not know what its holder did meanwhile, and says nothing of it."""
    one, two = make_site("build1"), make_site("build2")
    token = start(one, "job_a")
    Pulse(one.ledger.store.folder / "pulse", one.ledger.refs, "build1", clock, one.processes).renew(
        "leases", {token: "nonce"}
    )
    assert look(two) == []
    two.ledger.refs = HeldUp(remote, clock)
    assert look(two) == []
    clock.advance(1)
    assert look(two) == ["job_a"]


def test_wall_clocks_are_not_compared(make_site: MakeSite, clock: ManualClock) -> None:
    """A wall clock that is stepped by a year makes nobody silent."""
    start(make_site("build1"), "job_a")
    two = make_site("build2")
    look(two)
    clock.step_wall(365 * 86400)
    assert look(two) == []


def test_a_rescued_builders_result_comes_late(make_site: MakeSite, clock: ManualClock) -> None:
    """A builder that was only cut off is fenced by its token when it reports."""
    one, two = make_site("build1"), make_site("build2")
    token = start(one, "job_a")
    look(two)
    clock.advance(301)
    look(two)
    assert one.ask(complete("job_a", token))["late"] is True
    assert queue.show(two, "job_a").status == "queued"

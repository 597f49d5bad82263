"""Whose turn it is: by place in the queue, whoever looks first, and never nobody's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edge.clock import ManualClock
from pipeline.edge.machine_lock import MachineLock
from pipeline.edge.memory_refs import MemoryRemote
from pipeline.edge.waiting_room import SILENT_SECONDS, Waiter, WaitingRoom
from pipeline.errors import Interrupted, MachineBusy, Refused
from pipeline.operations import queue
from pipeline.operations.site import Site
from pipeline.operations.turn import ASK_SECONDS, ahead, wait
from pipeline.records.jobs import Job
from tests.operations.conftest import WHEN, MakeSite
from tests.operations.test_queue import order

# ------------------------------------------------------------ the decision


@st.composite
def rooms(draw: st.DrawFn) -> tuple[list[Waiter], dict[str, list[str]]]:
    """Waiters of up to three ledgers, and each ledger's jobs in commit order, others' jobs among them."""
    waiters = []
    orders: dict[str, list[str]] = {}
    for ledger in draw(st.lists(st.sampled_from("XYZ"), min_size=1, max_size=3, unique=True)):
        jobs = [f"{ledger}{number}" for number in range(draw(st.integers(1, 4)))]
        for job in jobs:
            since = draw(st.floats(0, 10))
            waiters.append(Waiter(f"w{job}", ledger, job, draw(st.integers(1, 3)), since, "build1"))
        orders[ledger] = draw(st.permutations([*jobs, f"{ledger}other"]))
    return waiters, orders


@given(rooms())
def test_places_are_an_order(room: tuple[list[Waiter], dict[str, list[str]]]) -> None:
    """Seen by all at once, the places are 0, 1, 2 …: one goes first, and nobody waits for himself."""
    waiters, orders = room
    places = {w.id: ahead(w, [o for o in waiters if o != w], orders[w.queue]) for w in waiters}
    assert sorted(places.values()) == list(range(len(waiters)))
    for one in waiters:
        for other in waiters:
            if one.queue == other.queue:
                at = orders[one.queue].index
                first = (one.priority, at(one.job_id)) < (other.priority, at(other.job_id))
                assert not first or places[one.id] < places[other.id]


@given(rooms(), st.data())
def test_somebody_always_goes(room: tuple[list[Waiter], dict[str, list[str]]], data: st.DataObject) -> None:
    """Even if each sees its own past of its ledger, one of them sees nobody before itself."""
    waiters, orders = room
    places = []
    for one in waiters:
        whole = orders[one.queue]
        seen = data.draw(st.integers(whole.index(one.job_id) + 1, len(whole)))
        places.append(ahead(one, [other for other in waiters if other != one], whole[:seen]))
    assert 0 in places


def test_commit_order_goes_before_arrival() -> None:
    """Of equals the job that was committed first goes first, though the other sat down before it."""
    early = Waiter("a", "X", "job_a", 5, 2.0, "build1")
    late = Waiter("b", "X", "job_b", 5, 1.0, "build2")
    assert (ahead(early, [late], ["job_a", "job_b"]), ahead(late, [early], ["job_a", "job_b"])) == (0, 1)
    assert (ahead(early, [late], ["job_a"]), ahead(late, [early], ["job_b", "job_a"])) == (0, 0)


# ------------------------------------------------------------ the waiting


class Script(ManualClock):
    """A clock on which each sleep is one act of others."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        super().__init__(WHEN)
        self.acts = list(acts)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.acts:
            self.acts.pop(0)()


class Case:
    """A builder whose machine is held by a build, with a queued job, and what it has said."""

    def __init__(self, site: Site, clock: Script) -> None:
        self.said: list[str] = []
        self.clock = clock
        self.site = replace(site, clock=clock, say=self.said.append)
        self.lock = MachineLock(site.settings.machine_lock)
        self.room = WaitingRoom(site.settings.machine_lock)
        self.holder = MachineLock(site.settings.machine_lock)
        assert self.holder.try_hold("{}")
        order(self.site, "job_mine")

    def waiter(self, name: str, priority: int = 5) -> Waiter:
        return Waiter(name, "X", f"job_{name}", priority, self.clock.boottime(), "build1")

    def wait(
        self, patience: float | None = None, interrupted: Callable[[], str | None] = lambda: None
    ) -> Job:
        me = self.waiter("mine")
        return wait(self.site, self.lock, me, "{}", patience=patience, interrupted=interrupted)


@pytest.fixture
def case(make_site: MakeSite) -> Case:
    return Case(make_site("build1"), Script())


def test_a_free_machine_is_taken_at_its_turn(case: Case) -> None:
    """The lock is held when the job is returned, still queued, and nobody is seen waiting any more."""
    case.clock.acts = [case.holder.release]
    job = case.wait()
    assert (job.id, job.status) == ("job_mine", "queued")
    assert not case.holder.try_hold("{}")
    assert case.room.waiters(case.clock.boottime()) == []
    assert case.said == ["job_mine waits; 1 before it."]


def test_others_go_first_and_places_are_told(case: Case) -> None:
    """A free machine is left to a better place, and every change of one's own is said."""
    with ExitStack() as stack:
        urgent, late = ExitStack(), ExitStack()
        stack.enter_context(urgent)
        stack.enter_context(late)
        order(case.site, "job_late")
        late.enter_context(case.room.entered(case.waiter("late")))
        case.clock.acts = [
            lambda: order(case.site, "job_urgent", priority=1),
            lambda: urgent.enter_context(case.room.entered(case.waiter("urgent", 1))),
            case.holder.release,
            lambda: None,
            urgent.close,
        ]
        case.wait()
    assert case.clock.acts == []
    assert case.said == [
        "job_mine waits; 1 before it.",
        "job_mine waits; 2 before it.",
    ]


def test_a_stopped_waiter_is_not_waited_for(case: Case) -> None:
    """One with a better place that shows no life costs its time and no more."""
    began = case.clock.boottime()
    with case.room.entered(case.waiter("urgent", 1)):
        case.holder.release()
        case.wait()
    assert SILENT_SECONDS <= case.clock.boottime() - began <= SILENT_SECONDS + 1


def test_a_job_that_is_cancelled_ends_the_waiting(case: Case, make_site: MakeSite) -> None:
    """Cancelled on this machine it is seen at the next look; the lock is not taken, though it is free."""

    def cancel() -> None:
        queue.cancel(make_site("build1", "p2"), "job_mine", "not wanted")
        case.holder.release()

    case.clock.acts = [cancel]
    job = case.wait()
    assert (job.status, job.outcome) == ("failed", "cancelled")
    assert case.holder.try_hold("{}")


def test_a_cancellation_elsewhere_is_seen_in_time(case: Case, make_site: MakeSite) -> None:
    """Cancelled by another builder, it is seen as soon as the remote is asked again."""
    began = case.clock.boottime()
    case.clock.acts = [lambda: queue.cancel(make_site("build2"), "job_mine", "not wanted")]
    assert case.wait().outcome == "cancelled"
    assert case.clock.boottime() - began <= ASK_SECONDS + 1


def test_a_job_that_another_process_runs_is_not_run_twice(case: Case, make_site: MakeSite) -> None:
    """Who waited for a job that was claimed meanwhile is told by whom, and does not touch the machine."""
    other = make_site("build1", "p2")
    claim = {"kind": "job.claim", "job_id": "job_mine", "holder": other.holder()}
    case.clock.acts = [lambda: other.ask(claim), case.holder.release]
    with pytest.raises(Refused) as refused:
        case.wait()
    assert refused.value.reason == "taken"
    assert "on build1 (attempt 1)" in refused.value.message
    assert case.clock.acts == [case.holder.release]


def test_patience_ends_and_the_job_stays(case: Case) -> None:
    """After `--wait` the job is queued still, and nobody is seen waiting with it."""
    with pytest.raises(MachineBusy) as busy:
        case.wait(patience=3.0)
    assert "busy for 3 s. job_mine stays in the queue" in busy.value.message
    assert queue.show(case.site, "job_mine").status == "queued"
    assert case.room.waiters(case.clock.boottime()) == []


def test_a_signal_ends_the_waiting(case: Case) -> None:
    """The reason that was polled is the error's message."""
    reasons = [None, None, "interrupted by SIGTERM"]
    with pytest.raises(Interrupted) as interrupted:
        case.wait(interrupted=lambda: reasons.pop(0))
    assert interrupted.value.message == "Interrupted by SIGTERM."


def test_a_ledger_that_is_away_keeps_nobody_from_waiting(case: Case, remote: MemoryRemote) -> None:
    """While the remote does not answer that is said once, and the machine is taken when it is free."""
    remote.fault = lambda step: "lost" if step == "read" else "none"
    case.clock.acts = [lambda: None] * 25 + [case.holder.release]
    assert case.wait().status == "queued"
    assert sum("still waiting for the machine" in each for each in case.said) == 1

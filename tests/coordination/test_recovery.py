"""Withdrawal, and the repair of a rewound ledger."""

from __future__ import annotations

import pytest

from pipeline.coordination.leases import holder_must_wait, silence_needed
from pipeline.records.locks import Token
from tests.coordination.world import COMMIT, World

TIP = "1" * 40


@pytest.fixture
def world() -> World:
    return World()


def test_withdrawing_a_waiter_takes_it_out_of_the_queue(world: World) -> None:
    """Its asker is gone, so nothing must be granted to it."""
    token = world.take("a")
    world.acquire("a", wait=True, holder="h2", as_op="gone")
    assert world.do("withdraw", op="gone") == {"left": True, "released": [], "jobs": [], "withdrawn": "gone"}
    world.do("lock.release", locks={"a": token})
    assert world.locks == {}


def test_withdrawing_a_start_ends_the_job_that_nobody_waits_for(world: World) -> None:
    """Whether it runs already or was queued behind another."""
    world.run("runs", as_op="start-1")
    waiting = {"id": "waits", "branch": "b", "commit": COMMIT, "holder": "p2", "wait": True}
    world.do("job.start", **waiting, as_op="start-2")
    assert world.do("withdraw", op="start-1")["jobs"] == ["runs"]
    assert world.do("withdraw", op="start-2")["jobs"] == ["waits"]
    assert [job.outcome for job in world.jobs.values()] == ["cancelled", "cancelled"]
    assert world.locks == {}
    assert world.status("build1").status == "idle"


def test_withdrawing_a_claim_puts_the_job_back_without_a_loss(world: World) -> None:
    """Nobody had begun; the job was ordered by somebody else and is still wanted."""
    world.order("j1")
    token = world.do("job.claim", holder="p", as_op="claim-1")["token"]
    assert world.do("withdraw", op="claim-1")["jobs"] == ["j1"]
    job = world.jobs["j1"]
    assert (job.status, job.losses, job.assigned_to) == ("queued", 0, None)
    assert job.token != token


def test_withdrawing_what_changed_hands_touches_nothing(world: World) -> None:
    """Only what still bears the operation's id is undone."""
    world.order("j1")
    first = world.do("job.claim", holder="p", as_op="claim-1")["token"]
    world.do("job.requeue", job_id="j1", token=first, observations={"process_dead": "x"})
    world.do("job.claim", holder="p2", builder="build2", as_op="claim-2")
    before = dict(world.files)
    assert world.do("withdraw", op="claim-1") == {
        "left": False,
        "released": [],
        "jobs": [],
        "withdrawn": "claim-1",
    }
    assert world.do("withdraw", op="never-was") == {
        "left": False,
        "released": [],
        "jobs": [],
        "withdrawn": "never-was",
    }
    assert world.files == before


def test_withdrawing_a_finished_job_changes_nothing(world: World) -> None:
    """Terminal is terminal, for those who started it too."""
    world.finish("j1", world.run("j1", as_op="start-1"))
    assert world.do("withdraw", op="start-1")["jobs"] == []
    assert world.jobs["j1"].outcome == "succeeded"


def test_a_raised_epoch_replaces_every_token(world: World) -> None:
    """Jobs and locks go on under tokens that nobody was told; holders wait for the longest ttl granted."""
    old = world.run("j1")
    world.take("a", ttl_seconds=600, interval_seconds=60)
    lease = world.take("b", holder="h2")
    outcome = world.do("ledger.raise_epoch", abandoned_tips=[TIP], seen=[4], random="00000a" + "0" * 26)
    assert outcome == {"epoch": 15, "joined": False, "jobs": ["j1"], "locks": ["a", "b", "builder/build1"]}
    assert (world.ledger.epoch, world.ledger.abandoned_tips) == (15, [TIP])
    tokens = [lock.token for lock in world.locks.values()]
    assert all(token is not None and Token.parse(token) > Token.parse(old) for token in tokens)
    assert world.jobs["j1"].token == world.locks["builder/build1"].token
    assert len(set(tokens)) == 3
    assert world.finish("j1", old)["late"] is True
    assert world.refused("lock.release", locks={"b": lease}).reason == "fenced"
    assert holder_must_wait(world.locks["b"], None) == silence_needed(600.0)


def test_who_repairs_later_joins(world: World) -> None:
    """The same rewind is repaired once; a further one, or a higher epoch seen, raises again."""
    world.do("ledger.raise_epoch", abandoned_tips=[TIP])
    epoch = world.ledger.epoch
    before = dict(world.files)
    again = {"abandoned_tips": [TIP], "seen": [epoch]}
    assert world.do("ledger.raise_epoch", **again) == {"epoch": epoch, "joined": True}
    assert world.files == before
    assert world.do("ledger.raise_epoch", abandoned_tips=[TIP], seen=[epoch + 1])["epoch"] > epoch + 1
    assert world.do("ledger.raise_epoch", abandoned_tips=["2" * 40])["joined"] is False
    assert world.ledger.abandoned_tips == [TIP, "2" * 40]

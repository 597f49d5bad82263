"""Named locks: grants, queues, force, and the arithmetic of trust."""

from __future__ import annotations

import pytest

from pipeline.coordination.leases import (
    Silence,
    holder_must_wait,
    interval_for_budget,
    silence_needed,
    trust_ends,
)
from pipeline.records.base import dump
from pipeline.records.locks import Lock, Locks, Predecessor
from tests.coordination.world import NOW, SILENT, World


@pytest.fixture
def world() -> World:
    return World()


LEASE = {"ttl_seconds": 90, "interval_seconds": 30}


# Grants


def test_a_free_lock_is_granted_under_a_token_of_its_operation(world: World) -> None:
    """The grant names the token; the record says who holds it and on what terms."""
    outcome = world.acquire("promotion", as_op="grant-1", purpose="promote 7", holder="p1", builder="build2")
    lock = world.locks["promotion"]
    assert outcome == {"granted": True, "tokens": {"promotion": "1.1.grant-1"}, "after": []}
    assert (lock.owner, lock.token, lock.ttl_seconds, lock.interval_seconds, lock.purpose, lock.holder) == (
        "build2",
        "1.1.grant-1",
        90.0,
        30.0,
        "promote 7",
        "p1",
    )


def test_a_refusal_names_the_holder_and_the_way_out(world: World) -> None:
    """Who holds it, under which token, and the exact command."""
    token = world.take("promotion", builder="build2", purpose="promote 7")
    refusal = world.refused("lock.acquire", names=["promotion"], holder="h2", **LEASE)
    assert refusal.reason == "held"
    assert refusal.message == f"Lock `promotion` is held by build2 (token {token}) for “promote 7”."
    assert refusal.remedy == f"Wait, or run `invoke lock.break promotion --token {token}`."


def test_all_or_nothing(world: World) -> None:
    """Of two locks of which one is held, neither is granted."""
    world.take("b")
    assert world.refused("lock.acquire", names=["a", "b"], holder="h2", **LEASE).reason == "held"
    assert list(world.locks) == ["b"]
    assert world.acquire("c", "a", "c", holder="h2")["tokens"].keys() == {"a", "c"}


def test_a_builders_own_lock_is_not_asked_for(world: World) -> None:
    """It comes with a claim and goes with the job's end."""
    token = world.run("j1")
    lease = {"holder": "h", **LEASE}
    assert world.refused("lock.acquire", names=["builder/build2"], **lease).reason == "reserved"
    assert world.refused("lock.release", locks={"builder/build1": token}).reason == "reserved"
    takeover = {"name": "builder/build1", "token": token, "nonce": None, **lease}
    assert world.refused("lock.takeover", **takeover, observations=SILENT).reason == "reserved"


# Queues


def test_waiters_are_served_in_commit_order(world: World) -> None:
    """The release grants to the first in line, in the same decision and under the waiter's operation."""
    token = world.take("a")
    assert world.acquire("a", wait=True, holder="h2", as_op="wait-2")["position"] == 1
    assert world.acquire("a", wait=True, holder="h3", as_op="wait-3", builder="build3")["position"] == 2
    world.do("lock.release", locks={"a": token}, waited=True)
    assert world.locks["a"].token == "1.2.wait-2"
    assert [waiter.op for waiter in world.ledger.waiters] == ["wait-3"]
    world.do("lock.release", locks={"a": "1.2.wait-2"}, waited=True)
    assert world.locks["a"].owner == "build3"


def test_first_in_every_queue(world: World) -> None:
    """Who waits for two locks keeps its place in both: a later one does not pass it at the free one."""
    token = world.take("a")
    world.acquire("a", "b", wait=True, holder="h2", as_op="both")
    refusal = world.refused("lock.acquire", names=["b"], holder="h3", **LEASE)
    assert refusal.reason == "held"
    assert "comes first" in refusal.message
    world.acquire("b", wait=True, holder="h3", as_op="later")
    assert world.acquire("c", holder="h4")["granted"]
    world.do("lock.release", locks={"a": token})
    assert {name: lock.holder for name, lock in world.locks.items()} == {"a": "h2", "b": "h2", "c": "h4"}


def test_a_waiter_leaves_the_queue(world: World) -> None:
    """Who left is not served; those behind it move up."""
    token = world.take("a")
    world.acquire("a", wait=True, holder="h2", as_op="leaves")
    world.acquire("a", wait=True, holder="h3", as_op="stays")
    assert world.do("lock.leave", op="leaves") == {"left": True, "released": []}
    world.do("lock.release", locks={"a": token})
    assert world.locks["a"].holder == "h3"


def test_who_leaves_after_the_grant_gives_it_back(world: World) -> None:
    """A grant that crossed with the wish to leave is not left behind."""
    token = world.take("a")
    world.acquire("a", wait=True, holder="h2", as_op="leaves")
    world.do("lock.release", locks={"a": token})
    assert world.do("lock.leave", op="leaves") == {"left": False, "released": ["a"]}
    assert world.locks == {}


# Giving back


def test_only_the_current_token_releases(world: World) -> None:
    """A token of before, or of another lock, gives nothing back."""
    old = world.take("a")
    world.do("lock.release", locks={"a": old})
    world.take("a", holder="h2")
    assert world.refused("lock.release", locks={"a": old}).reason == "fenced"
    assert world.refused("lock.release", locks={"b": old}).reason == "not-held"


def test_what_is_still_held_of_several_is_released(world: World) -> None:
    """One lock of two was taken by force: the other is given back, and the outcome says which."""
    tokens = world.acquire("a", "b")["tokens"]
    world.do("lock.break", name="a", token=tokens["a"])
    assert world.do("lock.release", locks=tokens) == {"released": ["b"], "fenced": ["a"]}


# Force


def test_a_break_needs_the_exact_token(world: World) -> None:
    """Not the name, nor a token that was right a moment ago: somebody else may hold it by now."""
    token = world.take("a", builder="build2")
    refusal = world.refused("lock.break", name="a", token="1.99.other")
    assert refusal.reason == "fenced"
    assert token in refusal.message
    assert world.do("lock.break", name="a", token=token) == {"broken": "a", "owner": "build2", "token": token}
    assert world.refused("lock.break", name="a", token=token).reason == "not-held"


def test_after_a_break_the_next_holder_waits(world: World) -> None:
    """Nobody has seen the former one silent, so even an equal nonce proves nothing."""
    world.do("lock.break", name="a", token=world.take("a", ttl_seconds=120))
    world.do("lock.acquire", names=["b"], holder="unrelated", **LEASE)
    outcome = world.acquire("a", holder="h2")
    assert outcome["after"] == ["a"]
    assert holder_must_wait(world.locks["a"], None) == silence_needed(120.0)


def test_a_lock_of_an_older_tool_is_broken_without_a_token(world: World) -> None:
    """Such a lock has none; then none is the exact one."""
    old = Locks(locks=[Lock(name="promotion", owner="build2", timestamp=NOW)])
    world.files["coordination/locks.json"] = dump(old)
    assert world.refused("lock.break", name="promotion", token="1.1.x").reason == "fenced"
    assert world.do("lock.break", name="promotion", token=None)["owner"] == "build2"


def test_breaking_a_builders_lock_loses_its_job(world: World) -> None:
    """The job waits again under another token, with the loss counted."""
    token = world.run("j1", builder="build2")
    outcome = world.do("lock.break", name="builder/build2", token=token)
    assert (outcome["broken"], outcome["owner"], outcome["losses"]) == ("builder/build2", "build2", 1)
    assert world.jobs["j1"].status == "queued"
    assert world.jobs["j1"].token != token
    assert world.locks == {}


def test_a_takeover_puts_a_silent_holder_aside(world: World) -> None:
    """A new token, and the predecessor with the nonce that was seen: equal once more, no wait is needed."""
    old = world.take("a", builder="build2")
    takeover = {"name": "a", "token": old, "nonce": "n1", "holder": "h2", **LEASE}
    outcome = world.do("lock.takeover", **takeover, observations={"silence_seconds": silence_needed(90.0)})
    lock = world.locks["a"]
    assert outcome["granted"] is True
    assert outcome["tokens"] == {"a": lock.token}
    assert lock.predecessor == Predecessor(owner="build2", token=old, nonce="n1", ttl_seconds=90.0)
    assert not lock.cautious
    assert holder_must_wait(lock, "n1") == 0.0
    assert holder_must_wait(lock, "n2") == silence_needed(90.0)


@pytest.mark.parametrize("seconds", [0.0, silence_needed(90.0) - 0.1])
def test_a_takeover_needs_silence_for_the_holders_own_ttl(world: World, seconds: float) -> None:
    """Less than ttl × (1 + drift) + grace proves nothing, and neither does a dead process of the asker."""
    old = world.take("a")
    takeover = {"name": "a", "token": old, "holder": "h2", "ttl_seconds": 9, "interval_seconds": 3}
    seen = {"silence_seconds": seconds, "process_dead": "pid 7"}
    assert world.refused("lock.takeover", **takeover, observations=seen).reason == "unproven"


def test_a_takeover_of_what_changed_hands_is_refused(world: World) -> None:
    """The silence that was seen was another holder's."""
    old = world.take("a")
    world.do("lock.release", locks={"a": old})
    world.take("a", holder="h3")
    takeover = {"name": "a", "token": old, "holder": "h2", **LEASE}
    assert world.refused("lock.takeover", **takeover, observations=SILENT).reason == "fenced"


def test_ready_forgets_the_predecessor(world: World) -> None:
    """Once the holder has waited, its own successors need not."""
    world.do("lock.break", name="a", token=world.take("a"))
    token = world.take("a", holder="h2")
    world.do("lock.ready", name="a", token=token)
    assert world.locks["a"].predecessor is None
    world.do("lock.release", locks={"a": token})
    assert world.acquire("a", holder="h3")["after"] == []


# Trust


def test_trust_ends_before_the_challengers_patience() -> None:
    """With clocks apart by less than the drift, a holder stops before anybody may take over."""
    for ttl in (9.0, 90.0, 3600.0):
        for speed in (0.99, 1.0, 1.01):
            stopped = trust_ends(0.0, ttl) / speed
            # A challenger begins no earlier than the renewal, on the fastest clock that is allowed.
            assert stopped < silence_needed(ttl) / 1.01 + 1e-9


def test_silence_lasts_from_the_end_of_the_first_read_to_the_beginning_of_the_last() -> None:
    """A nonce that changes, a boot, or a clock that went back begins it anew."""
    seen = Silence("n1", 10.0, 10.0, "boot").feed(50.0, "n1", "boot")
    assert (seen.seconds, seen.is_silent(30.0), seen.is_silent(40.0)) == (40.0, True, False)
    assert seen.feed(60.0, "n2", "boot").seconds == 0.0
    assert seen.feed(90.0, "n1", "boot", begun=55.0).seconds == 45.0
    assert seen.feed(90.0, "n2", "boot", begun=55.0) == Silence("n2", 90.0, 90.0, "boot")
    assert seen.feed(60.0, "n1", "other boot").seconds == 0.0
    assert seen.feed(49.0, "n1", "boot").seconds == 0.0
    assert seen.feed(60.0, None, "boot").seconds == 0.0
    assert Silence(None, 1.0, 1.0).feed(9.0, None).seconds == 8.0


def test_the_interval_follows_from_the_budget() -> None:
    """Six pushes a minute, half of them for renewals, two builders: every 40 s."""
    assert interval_for_budget(6, 2) == 40.0
    assert interval_for_budget(600, 2, share=1.0) == 0.2

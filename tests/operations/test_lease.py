"""Leases on a remote in memory with a clock that is told: who waits for whom, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.coordination.leases import silence_needed, trust_ends
from pipeline.edge.clock import ManualClock
from pipeline.edge.memory_refs import MemoryRemote
from pipeline.errors import Fenced, LeaseHeld, LedgerError, Refused, UsageError
from pipeline.operations import guarded
from pipeline.operations.lease import hold
from pipeline.operations.locks import break_lock, list_locks
from pipeline.operations.site import Site
from tests.operations.conftest import MakeSite

TTL = 30.0


def take(site: Site, *names: str, ttl: float = TTL) -> dict[str, str]:
    """Is granted locks and renews them once, as a holder does that dies afterwards; returns the tokens."""
    terms = {"holder": f"{site.builder}-h", "ttl_seconds": ttl, "interval_seconds": ttl / 3}
    tokens = site.ask({"kind": "lock.acquire", "names": list(names), **terms})["tokens"]
    site.make_pulse().renew("leases", {token: site.random.hex() for token in tokens.values()})
    return dict(tokens)


# -- holding -------------------------------------------------------------------------------------------------


def test_a_lease_is_trusted_from_its_first_renewal(make_site: MakeSite, clock: ManualClock) -> None:
    """Trust counts from the moment when the nonce was drawn, and `insist` says when it is over."""
    one = make_site("build1")
    drawn = clock.boottime()
    with hold(one, ["a"], ttl=TTL) as lease:
        assert lease.trusted_until == trust_ends(drawn, TTL)
        lease.insist()
        clock.advance(TTL)
        with pytest.raises(Fenced, match="not renewed in time"):
            lease.insist()
    assert list_locks(one).locks == []


def test_several_locks_are_asked_for_at_once(make_site: MakeSite) -> None:
    """All or none, each under its own token; a name that is given twice counts once."""
    one, two = make_site("build1"), make_site("build2")
    with hold(one, ["b", "a", "b"], ttl=TTL) as lease:
        assert list(lease.tokens) == ["a", "b"]
        with pytest.raises(LeaseHeld), hold(two, ["a", "c"], ttl=TTL, patience=0):
            pass
        assert [lock.name for lock in list_locks(two).locks] == ["a", "b"]


def test_an_exception_gives_the_lock_back(make_site: MakeSite) -> None:
    """Work that fails leaves no lock behind."""
    one = make_site("build1")
    with pytest.raises(RuntimeError, match="the work failed"), hold(one, ["a"], ttl=TTL):
        raise RuntimeError("the work failed")
    assert list_locks(one).locks == []


def test_a_lock_under_which_somebody_may_still_work_is_not_given_back(make_site: MakeSite) -> None:
    """A process that could not be ended keeps the lock, until others take it over."""
    one = make_site("build1")
    with hold(one, ["a"], ttl=TTL) as lease:
        lease.keep = True
    assert [lock.token for lock in list_locks(one).locks] == list(lease.tokens.values())


def test_a_lease_that_was_broken_is_fenced_at_the_end(make_site: MakeSite) -> None:
    """Its release changes nothing, and says so; the present holder's token stays."""
    one, two = make_site("build1"), make_site("build2")

    def lose() -> None:
        with hold(one, ["a"], ttl=TTL) as lease:
            break_lock(two, "a", lease.tokens["a"])
            take(two, "a")

    with pytest.raises(Fenced, match="lost before it was given back"):
        lose()
    assert [lock.owner for lock in list_locks(one).locks] == ["build2"]


# -- waiting -------------------------------------------------------------------------------------------------


def test_a_silent_holder_is_taken_over(make_site: MakeSite, clock: ManualClock) -> None:
    """After its whole time and more without a change of its nonce; then no further wait is needed."""
    one, two = make_site("build1"), make_site("build2")
    (old,) = take(one, "a").values()
    told: list[str] = []
    two.say = told.append
    begun = clock.boottime()
    with hold(two, ["a"], ttl=TTL) as lease:
        assert lease.tokens["a"] != old
        assert silence_needed(TTL) - 1e-6 <= clock.boottime() - begun < silence_needed(TTL) + 12
    assert any("build1 was silent for" in text for text in told)
    assert any("place 1 in the queue" in text for text in told)


def test_a_wait_that_is_too_short_leaves_no_place(make_site: MakeSite, clock: ManualClock) -> None:
    """The error names holder and remedy, the queue is empty again, and the time was not overdrawn."""
    one, two = make_site("build1"), make_site("build2")
    tokens = take(one, "a")
    begun = clock.boottime()
    with pytest.raises(LeaseHeld) as raised, hold(two, ["a"], ttl=TTL, patience=7.0):
        pass
    assert clock.boottime() - begun == pytest.approx(7.0, abs=1.0)
    assert "`a`: not free within 7 s. `a` is held by build1." in raised.value.message
    assert f"lock.break a --token {tokens['a']}" in (raised.value.remedy or "")
    assert list_locks(two).waiters == []


def test_commands_that_do_not_wait_remember_what_they_saw(make_site: MakeSite, clock: ManualClock) -> None:
    """Looks minutes apart make one observation: in the end a silent holder is taken over, without waiting."""
    one = make_site("build1")
    take(one, "a")
    for process, seconds in (("p1", 0.0), ("p2", silence_needed(TTL) - 1)):
        clock.advance(seconds)
        with pytest.raises(LeaseHeld), hold(make_site("build2", process), ["a"], ttl=TTL, patience=0):
            pass
    clock.advance(2.0)
    with hold(make_site("build2", "p3"), ["a"], ttl=TTL, patience=0) as lease:
        lease.insist()


def test_a_holder_that_beats_is_never_taken_over(make_site: MakeSite, clock: ManualClock) -> None:
    """However long somebody waits."""
    one, two = make_site("build1"), make_site("build2")
    (token,) = take(one, "a").values()
    pulse, sleep = one.make_pulse(), clock.sleep

    def sleep_and_beat(seconds: float) -> None:
        sleep(seconds)
        pulse.renew("leases", {token: one.random.hex()})

    two.clock = Sleeping(clock, sleep_and_beat)  # type: ignore[assignment]
    with pytest.raises(LeaseHeld), hold(two, ["a"], ttl=TTL, patience=3 * TTL):
        pass
    assert [lock.token for lock in list_locks(one).locks] == [token]


class Sleeping:
    """A clock during whose sleep somebody else acts."""

    def __init__(self, clock: ManualClock, sleep: object) -> None:
        self.now, self.boottime, self.sleep = clock.now, clock.boottime, sleep


def test_42_who_waits_for_its_predecessor_renews_meanwhile(make_site: MakeSite, clock: ManualClock) -> None:
    """After a break the next holder waits a whole ttl; whoever comes after it must not see it silent then."""
    one, two, three = make_site("build1"), make_site("build2"), make_site("build3")
    break_lock(two, "a", take(one, "a")["a"])
    nonces: set[str | None] = set()
    sleep = clock.sleep

    def look(seconds: float) -> None:
        sleep(seconds)
        (lock,) = list_locks(three).locks
        nonces.add(three.survey()[1]["build2"].leases.get(lock.token or ""))

    two.clock = Sleeping(clock, look)  # type: ignore[assignment]
    begun = clock.boottime()
    with hold(two, ["a"], ttl=TTL):
        assert clock.boottime() - begun >= silence_needed(TTL) - 1e-6
        (lock,) = list_locks(three).locks
        assert (lock.owner, lock.predecessor, lock.cautious) == ("build2", None, False)
    assert len(nonces - {None}) >= 3


def test_a_remote_that_is_away_for_a_moment_does_not_end_a_wait(
    make_site: MakeSite, clock: ManualClock, remote: MemoryRemote
) -> None:
    """Who waits goes on waiting, says so, and is served once the remote is back."""
    one, two = make_site("build1"), make_site("build2")
    tokens = take(one, "a")
    told: list[str] = []

    def say(text: str) -> None:
        told.append(text)
        if "place 1" in text:
            remote.fault = lambda step: "lost" if step == "read" else "none"
        if "Still waiting" in text:
            remote.fault = lambda step: "none"
            one.ask({"kind": "lock.release", "locks": tokens})

    two.say = say
    with hold(two, ["a"], ttl=TTL, patience=60.0):
        assert any("does not answer" in text for text in told)


def test_a_grant_that_cannot_be_renewed_is_given_back(make_site: MakeSite, remote: MemoryRemote) -> None:
    """Without a first renewal no work begins, and the lock is free for others."""
    one, two = make_site("build1"), make_site("build2")
    remote.fault = lambda step: "lost" if step == "beat" else "none"
    with pytest.raises(LedgerError), hold(one, ["a"], ttl=TTL):
        raise AssertionError("worked without trust")
    assert list_locks(two).locks == []


# -- programs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": []}, "Which lock"),
        ({"names": ["Upper"]}, "cannot be the name of a lock"),
        ({"names": ["--help"]}, "cannot be the name of a lock"),
        ({"command": []}, "Which program"),
        ({"command": [""]}, "Which program"),
        ({"ttl": 9.9}, "--ttl is 9.9"),
        ({"ttl": 1e6}, "--ttl is 1e"),
        ({"wait": -1.0}, "--wait is -1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(
    make_site: MakeSite, change: dict[str, object], words: str
) -> None:
    """A clear error, and no trace in the ledger."""
    one = make_site("build1")
    order = replace(guarded.Order(["a"], ["true"]), **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=words):
        guarded.run(one, order, {})
    assert one.state().state.ordinal == 0


def test_31_a_program_under_a_lock_waits_for_no_other(make_site: MakeSite) -> None:
    """Nor does one that a build runs: it holds the machine. Without waiting it may ask."""
    one = make_site("build1")
    for holds in ("lock.1.1.op", "job_1.1.1.op"):
        with pytest.raises(Refused, match=holds) as raised:
            guarded.run(one, guarded.Order(["b"], ["true"]), {"PIPELINE_JOB": holds})
        assert raised.value.reason == "hold-and-wait"
    take(one, "b")
    with pytest.raises(LeaseHeld):
        guarded.run(one, guarded.Order(["b"], ["true"], wait=0), {"PIPELINE_JOB": "lock.1.1.op"})


@pytest.mark.parametrize("ttl", [guarded.SHORTEST_TTL, 60.0, guarded.LONGEST_TTL])
def test_a_program_is_gone_before_trust_ends(ttl: float) -> None:
    """Terminated, killed and gone within trust; and two renewals in a row may fail before that begins."""
    ends = trust_ends(0.0, ttl) - guarded.stop_seconds(ttl) - guarded.KILL_SECONDS
    gone = ends + guarded.stop_seconds(ttl) + guarded.SLACK_SECONDS
    assert gone < trust_ends(0.0, ttl)
    assert ends > ttl / 3 + 1.0
    if ttl >= 60.0:
        assert ends > 2 * ttl / 3

"""`lock.run`, also when things go wrong: real processes, stores and SSH. Nobody works beside another."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.coordination.leases import silence_needed
from tests.cluster.holders import LOCK, TTL, Builder, Outside, make_ledger, now
from tests.cluster.tiny import finish, output, wait_until
from tests.sshd import Sshd

Make = Callable[..., Builder]


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    """What the lock guards."""
    return Outside(tmp_path)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The ledger's repository, on the other side of sshd."""
    return make_ledger(tmp_path, ["build1", "build2", "build3"])


@pytest.fixture
def make(tmp_path: Path, sshd: Sshd, bare: Path, outside: Outside) -> Iterator[Make]:
    """A maker of builders, whose processes are all ended with the test."""
    made: list[Builder] = []

    def start(name: str, **settings: str) -> Builder:
        made.append(Builder(tmp_path, name, bare, sshd, outside, **settings))
        return made[-1]

    yield start
    for builder in made:
        builder.clean()


def gone(builder: Builder) -> bool:
    """Waits until nothing of a builder's work is left. When it ended stands in its own lines."""
    return wait_until(lambda: not builder.processes())


# -- in order ----------------------------------------------------------------------------------------------


def test_output_and_exit_code_are_the_programs(make: Make) -> None:
    """Stdout, stderr and exit code pass through; arguments that look like options arrive, and both tokens."""
    one = make("build1")
    script = 'echo "$0 $1"; echo "$PIPELINE_LOCK_TOKEN|$PIPELINE_LOCK_TOKENS" >&2; exit 3'
    ended = one.invoke("lock.run", "b,a", "--", "/bin/sh", "-c", script, "--help", "--ttl=x  y")
    first = next(line.partition("|")[0] for line in ended.err.splitlines() if "|" in line)
    assert (ended.code, ended.out) == (3, "--help --ttl=x  y\n")
    assert f"b={first}" in ended.err
    assert "a=1." in ended.err
    assert one.locks() == {"locks": [], "waiters": []}


def test_a_wait_that_is_too_short_ends_with_42(make: Make, outside: Outside) -> None:
    """Whoever leaves is told who holds it, for what, and how to go on; nothing of it stays in the queue."""
    one, two, three = make("build1"), make("build2"), make("build3")
    holder = one.work("--purpose", "deploy 7")
    token = outside.wait_for(1, holder)
    for wait in ("0", "3"):
        left = two.work("--wait", wait)
        ended = finish(left)
        assert ended.code == 42
        assert "held by build1" in ended.err
        assert "for “deploy 7”" in ended.err
        assert f"lock.break {LOCK} --token {token}" in ended.err
    first, second = two.work(), None
    two.waits(first, 1)
    second = three.work("--purpose", "third")
    three.waits(second, 2)
    table = one.locks()
    assert [(x["name"], x["owner"], x["token"]) for x in table["locks"]] == [(LOCK, "build1", token)]
    assert [(x["owner"], x["purpose"]) for x in table["waiters"]] == [("build2", ""), ("build3", "third")]
    for builder in (one, two, three):
        builder.stop()
    assert [finish(x).code for x in (holder, first, second)] == [0, 0, 0]
    outside.assert_alone()
    assert len(outside.entered()) == 3


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_program_and_gives_the_lock_back(make: Make, outside: Outside, name: str) -> None:
    """The program, deaf to SIGTERM, is ended with all its processes; then the next one works at once."""
    one, two = make("build1"), make("build2")
    holder = one.work()
    outside.wait_for(1, holder)
    waiter = two.work()
    two.waits(waiter, 1)
    holder.send_signal(signal.Signals[name])
    ended = finish(holder)
    assert ended.code == 130
    assert name in ended.err
    assert one.processes() == []
    outside.wait_for(2, waiter)
    assert two.takeovers() == 0, "the lock was not given back"
    two.stop()
    assert finish(waiter).code == 0
    outside.assert_alone()


def test_a_signal_while_waiting_leaves_the_queue(make: Make, outside: Outside) -> None:
    """Who is interrupted while it waits is not served, and holds nobody up."""
    one, two = make("build1"), make("build2")
    holder = one.work()
    outside.wait_for(1, holder)
    waiter = two.work()
    two.waits(waiter, 1)
    waiter.send_signal(signal.SIGTERM)
    assert finish(waiter).code == 130
    assert one.locks()["waiters"] == []
    one.stop()
    assert finish(holder).code == 0
    assert one.locks() == {"locks": [], "waiters": []}


# -- the nasty cases ---------------------------------------------------------------------------------------


def test_a_holder_that_is_stopped_past_its_ttl(make: Make, outside: Outside) -> None:
    """Its watchdog ends the work in time, the other gets the lock, and back again it is fenced: 43."""
    one, two = make("build1"), make("build2")
    holder = one.work()
    old = outside.wait_for(1, holder)
    waiter = two.work()
    two.waits(waiter, 1)
    os.kill(holder.pid, signal.SIGSTOP)
    stopped = now()
    assert gone(one), "nobody ended the work"
    assert outside.last(old) < stopped + TTL
    new = outside.wait_for(2, waiter)
    assert outside.first(new) >= one.renewed() + silence_needed(TTL)
    os.kill(holder.pid, signal.SIGCONT)
    ended = finish(holder)
    assert ended.code == 43
    assert "The program was ended" in ended.err
    (held,) = two.locks()["locks"]
    assert (held["owner"], held["token"]) == ("build2", new)
    two.stop()
    assert finish(waiter).code == 0
    outside.assert_alone()


def test_a_holder_that_is_killed(make: Make, outside: Outside) -> None:
    """Nothing of its work is left, and the waiter gets the lock by silence."""
    one, two = make("build1"), make("build2")
    holder = one.work()
    old = outside.wait_for(1, holder)
    waiter = two.work()
    two.waits(waiter, 1)
    holder.kill()
    finish(holder)
    assert gone(one)
    new = outside.wait_for(2, waiter)
    assert outside.first(new) > outside.last(old)
    assert outside.first(new) >= one.renewed() + silence_needed(TTL)
    assert two.takeovers() == 1
    two.stop()
    ended = finish(waiter)
    assert ended.code == 0
    assert "it loses" in ended.err
    outside.assert_alone()


def test_the_remote_is_away_for_longer_than_trust(make: Make, outside: Outside, bare: Path) -> None:
    """Cut off, the work is ended before its trust is over; the release follows once the remote is back."""
    one, two = make("build1", patience_seconds="3"), make("build2")
    holder = one.work()
    old = outside.wait_for(1, holder)
    away = bare.with_name("away.git")
    bare.rename(away)
    cut = now()
    assert gone(one), "nobody ended the work"
    assert outside.last(old) < cut + TTL
    ended = finish(holder)
    assert ended.code == 43
    assert "could not be renewed in time" in ended.err
    away.rename(bare)
    assert [x["token"] for x in two.locks()["locks"]] == [old]
    assert "lock.release" in one.invoke("recover").out
    assert two.locks() == {"locks": [], "waiters": []}


def test_a_watchdog_that_is_killed_takes_the_work_along(make: Make, outside: Outside) -> None:
    """Without its watchdog the program is ended, its child too; then the lock is free."""
    one = make("build1")
    holder = one.work()
    outside.wait_for(1, holder)
    assert wait_until(lambda: len(one.processes()) == 2)
    os.kill(one.watchdog(), signal.SIGKILL)
    ended = finish(holder)
    assert ended.code == 90
    assert "watchdog was killed" in ended.err
    assert one.processes() == []
    assert one.locks() == {"locks": [], "waiters": []}


def test_holder_and_watchdog_are_killed_together(make: Make, outside: Outside) -> None:
    """What is left then is found by its journal and its marker, and ended by the next command here."""
    one = make("build1")
    holder = one.work()
    outside.wait_for(1, holder)
    assert wait_until(lambda: len(one.processes()) == 2)
    watchdog = one.watchdog()
    os.kill(holder.pid, signal.SIGSTOP)  # or it would end the work itself
    os.kill(watchdog, signal.SIGKILL)
    holder.kill()
    finish(holder)
    assert wait_until(lambda: len(one.processes()) == 1), "the program itself dies with its watchdog"
    assert one.invoke("lock.run", "another", "--", "true").code == 0
    assert one.processes() == []
    assert list((one.folder / "home" / "work" / "locks").iterdir()) == []


def test_a_lock_that_is_broken_by_hand(make: Make, outside: Outside) -> None:
    """Its holder's program is ended with 43, and the next one waits a whole time to live all the same."""
    one, two = make("build1"), make("build2")
    holder = one.work()
    old = outside.wait_for(1, holder)
    waiter = two.work()
    two.waits(waiter, 1)
    before = now()
    broken = two.invoke("lock.break", LOCK, "--token", old)
    assert broken.code == 0, broken.err
    assert "build1" in broken.out
    ended = finish(holder)
    assert ended.code == 43
    assert "build2 holds it now" in ended.err
    assert gone(one)
    new = outside.wait_for(2, waiter)
    assert outside.first(new) >= before + silence_needed(TTL)
    assert "may still work under it" in output(waiter)[1]
    two.stop()
    assert finish(waiter).code == 0
    outside.assert_alone()


def test_a_waiter_is_killed_at_the_head_of_the_queue(make: Make, outside: Outside) -> None:
    """It is put aside by its silence while the lock is held, and the next one works as soon as it is free."""
    one, two, three = make("build1"), make("build2"), make("build3")
    holder = one.work(ttl=30.0)
    outside.wait_for(1, holder)
    head = two.work()
    two.waits(head, 1)
    waiter = three.work()
    three.waits(waiter, 2)
    head.kill()
    finish(head)
    assert wait_until(lambda: "place 1 in the queue" in output(waiter)[1]), output(waiter)
    assert [x["owner"] for x in one.locks()["waiters"]] == ["build3"]
    one.stop()
    assert finish(holder).code == 0
    outside.wait_for(2, waiter)
    assert three.takeovers() == 0, "the lock went to the dead first"
    three.stop()
    assert finish(waiter).code == 0
    outside.assert_alone()


def test_the_head_is_killed_and_the_lock_comes_free_at_once(make: Make, outside: Outside) -> None:
    """The lock goes to the dead, as the queue says, and from it to the next one: by silence, once."""
    one, two, three = make("build1"), make("build2"), make("build3")
    holder = one.work(ttl=30.0)
    outside.wait_for(1, holder)
    head = two.work()
    two.waits(head, 1)
    waiter = three.work()
    three.waits(waiter, 2)
    head.kill()
    finish(head)
    one.stop()
    assert finish(holder).code == 0
    (held,) = one.locks()["locks"]
    assert held["owner"] == "build2"
    outside.wait_for(2, waiter)
    three.stop()
    assert finish(waiter).code == 0
    outside.assert_alone()


def test_a_waiter_that_was_put_aside_asks_again(make: Make, outside: Outside) -> None:
    """Stopped for longer than three of its intervals it loses its place, and takes the last one."""
    one, two, three = make("build1"), make("build2"), make("build3")
    holder = one.work(ttl=30.0)
    outside.wait_for(1, holder)
    slow = two.work()
    two.waits(slow, 1)
    waiter = three.work()
    three.waits(waiter, 2)
    os.kill(slow.pid, signal.SIGSTOP)
    assert wait_until(lambda: "place 1 in the queue" in output(waiter)[1]), output(waiter)
    os.kill(slow.pid, signal.SIGCONT)
    two.waits(slow, 2)
    for builder in (one, two, three):
        builder.stop()
    assert [finish(x).code for x in (holder, waiter, slow)] == [0, 0, 0]
    outside.assert_alone()
    assert len(outside.entered()) == 3

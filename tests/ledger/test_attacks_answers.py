"""Interleavings about what an asker is told: never a refusal of what is applied, never a grant to nobody."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.edge.ref_store import Pushed
from pipeline.errors import (
    LedgerError,
    LedgerNoSpace,
    LedgerRefused,
    LedgerUnreachable,
    OutcomeUnknown,
)
from tests.ledger.test_attacks_numbers import Killed, World, kill
from tests.ledger.toy import Between, Node, faults, invariant


def test_05_leader_gets_ctrl_z(tmp_path: Path) -> None:
    """A stopped leader is passed over after its deadline, and does no harm when it wakes up."""
    world = World(tmp_path)
    one = world.node("one")
    stopped = one.reopen()
    with stopped.store.leader_lock.try_hold(one.clock.boottime(), 15.0) as leads:
        assert leads
        try:
            answer = one.append("x")
        except OutcomeUnknown as exc:
            answer = {"ok": False, "said": str(exc)}
        invariant("answered-in-time", answer["ok"], answer)
        assert stopped.append("y")["ok"]
    invariant("applied-once", one.ids() == ["x", "y"], one.ids())


def test_05_leader_that_works_is_not_passed_over(tmp_path: Path) -> None:
    """A leader that shows life leads on, however long it takes."""
    world = World(tmp_path)
    one = world.node("one")
    other = one.reopen()
    with one.store.leader_lock.try_hold(0.0, 15.0):
        one.store.leader_lock.show_life(100.0)
        with other.store.leader_lock.try_hold(110.0, 15.0) as leads:
            assert not leads
        with other.store.leader_lock.try_hold(111.0, 15.0) as leads:
            assert not leads


def test_06_register_freed_a_moment_ago(tmp_path: Path) -> None:
    """A refusal rests on a tip that was read after the request, not on the cached one."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.hold("one")
    assert not two.hold("two")["ok"]
    one.free("one")
    answer = two.hold("two")
    invariant("refused-is-true", answer["ok"], answer)


def test_07_refused_and_killed(tmp_path: Path) -> None:
    """A request that was being refused when its process and the power went is granted to nobody later."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    two.hold("two")
    one.ledger.enqueue({"kind": "hold", "owner": "one"}, kind="attached")
    before_the_refusal_was_on_disk = one.backup()
    one.drain()
    two.free("two")
    again = one.restored(before_the_refusal_was_on_disk)
    again.append("a")
    again.drain()
    invariant("no-orphan-grant", two.owner() is None, two.owner())


def test_07_refusal_is_kept_until_it_is_taken(tmp_path: Path) -> None:
    """A refusal that nobody took is not decided again, though it would be granted by now."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    two.hold("two")
    number = one.ledger.enqueue({"kind": "hold", "owner": "one"}, kind="attached")
    one.drain()
    two.free("two")
    one.drain()
    answer = one.reopen().store.answer(number)
    invariant("answer-kept", answer is not None and answer["reason"] == "held", answer)
    invariant("no-orphan-grant", two.owner() is None, two.owner())


@pytest.mark.parametrize("arrives", ["before", "never", "after"])
def test_08_claim_of_yesterday(tmp_path: Path, arrives: str) -> None:
    """A claim made offline and interrupted is not pushed the next day; what was sent of it is undone."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.append("a")
    world.remote.fault = lambda step: "delayed" if step == "push" else "none"
    with pytest.raises(OutcomeUnknown):
        one.ledger.transact({"kind": "hold", "owner": "one"}, kind="attached", patience=1)
    one.die()
    world.remote.fault = lambda step: "none"
    pushes = len(world.remote.delayed)
    if arrives == "before":
        world.remote.arrive()
    other = one.reopen()
    other.append("b")
    if arrives != "before":
        invariant("never-granted", two.owner() is None, two.owner())
    if arrives == "after":
        landed = [world.remote.arrive() for _ in range(pushes)]
        invariant("delayed-push-dies", not any(landed), landed)
    other.ledger.deliver()
    invariant("no-orphan-grant", two.owner() is None, two.owner())
    assert other.store.entries() == []
    world.chain_holds(other)


def recover(node: Node) -> None:
    """What a builder does after a crash: drain to the end, and only then requeue."""
    node.ledger.deliver(patience=5)
    node.append("requeue")


def test_09_33_result_in_the_outbox(tmp_path: Path) -> None:
    """A result that waits in the outbox is in the ledger before the requeue, or there is no requeue."""
    world = World(tmp_path)
    one = world.node("one")
    one.append("claim")
    one.ledger.enqueue({"kind": "append", "id": "result"})
    one.die()
    other = one.reopen()
    world.remote.fault = lambda step: "lost"
    with pytest.raises(OutcomeUnknown):
        recover(other)
    world.remote.fault = lambda step: "none"
    invariant("no-requeue-without-the-result", other.ids() == ["claim"], other.ids())
    recover(other)
    invariant("result-first", other.ids() == ["claim", "result", "requeue"], other.ids())


def test_21_two_leaders_one_refuses_one_grants(tmp_path: Path) -> None:
    """A leader that decided to refuse and stalled cannot answer once another has pushed the grant."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    two.hold("two")
    number = one.ledger.enqueue({"kind": "hold", "owner": "one"}, kind="attached")
    other = one.reopen(refs=Between(one.refs.real))

    def meanwhile() -> None:
        two.free("two")
        faults(world.remote, "delayed")
        other.refs.after["push"] = kill
        with suppress(Killed):
            other.drain()

    stalled = one.watch()
    stalled.before["answer_unpushed"] = meanwhile
    one.refs.before["push"] = kill
    with suppress(Killed):
        one.drain()
    answer = one.store.answer(number)
    assert len(world.remote.delayed) == 1
    world.remote.arrive()
    refused = answer is not None and not answer["ok"]
    invariant("refused-never-applied", not (refused and two.owner() == "one"), (answer, two.owner()))
    again = one.reopen()
    again.drain()
    answer = again.store.answer(number)
    invariant("acknowledged-is-applied", answer is not None and answer["ok"] and two.owner() == "one", answer)


def test_22_hook_refuses_while_the_first_push_runs(tmp_path: Path) -> None:
    """A push that was never answered is not forgotten when its repetition is refused."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.append("a")
    faults(world.remote, "delayed")
    seen: list[str] = []

    def refuse(ref: str) -> Pushed | None:
        seen.append(ref)
        return Pushed("refused", LedgerRefused("not now")) if len(seen) > 1 else None

    world.remote.refuse = refuse
    with pytest.raises(LedgerRefused, match="not now"):
        one.hold("one")
    world.remote.refuse = lambda ref: None
    world.remote.arrive()
    invariant("the-attack-works", two.owner() == "one", two.owner())
    one.ledger.deliver()
    invariant("no-orphan-grant", two.owner() is None, two.owner())


def turn_down(world: World, error: LedgerError) -> None:
    """Lets the remote refuse one push, of which a copy stays under way, and take all later ones."""
    faults(world.remote, "doubled")
    verdicts = [Pushed("refused", error)]
    world.remote.refuse = lambda ref: verdicts.pop() if verdicts else None


def test_51_copy_of_a_refused_push_lands(tmp_path: Path) -> None:
    """A refusal of one push is told at once; nothing stays granted when a copy of that push lands later."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.append("a")
    turn_down(world, LedgerNoSpace("The remote's disk is full."))
    begun, pushes = one.clock.boottime(), one.ledger.counts.pushes
    with pytest.raises(LedgerNoSpace, match="disk is full"):
        one.hold("one")
    assert (one.clock.boottime(), one.ledger.counts.pushes) == (begun, pushes + 1)
    assert world.remote.arrive()
    invariant("the-attack-works", two.owner() == "one", two.owner())
    one.ledger.deliver()
    invariant("no-orphan-grant", two.owner() is None, two.owner())
    assert one.store.entries() == []


def test_51_refused_push_costs_the_next_command_no_push(tmp_path: Path) -> None:
    """What was refused is taken back in the next command's own push; the copy then finds its parent gone."""
    world = World(tmp_path)
    one = world.node("one")
    one.append("a")
    turn_down(world, LedgerRefused("not now"))
    with pytest.raises(LedgerRefused, match="not now"):
        one.hold("one")
    pushes = one.ledger.counts.pushes
    assert one.append("b")["ok"]
    assert one.ledger.counts.pushes == pushes + 1
    assert not world.remote.arrive()
    invariant("no-orphan-grant", one.owner() is None, one.owner())
    one.ledger.deliver()
    assert one.store.entries() == []


def test_51_late_answer_to_a_copy_is_not_the_pushs_own(tmp_path: Path) -> None:
    """Told that it came too late, and then cut off from the remote, an asker leaves its request in the
    outbox: that may be the answer to a copy of a push that landed.
    """
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.append("a")
    two.ids()
    push = one.refs.real.push

    def late(commit: str, expected: str | None) -> Pushed:
        push(commit, expected)
        two.append("b")
        answered = push(commit, expected)
        world.remote.fault = lambda step: "lost"
        return answered

    one.refs.real.push = late
    with pytest.raises(LedgerUnreachable):
        one.hold("one")
    one.refs.real.push = push
    world.remote.fault = lambda step: "none"
    invariant("the-attack-works", two.owner() == "one", two.owner())
    one.ledger.deliver()
    invariant("no-orphan-grant", two.owner() is None, two.owner())


def test_51_remote_that_keeps_refusing_keeps_nobody_in_doubt(tmp_path: Path) -> None:
    """Once the branch has moved, whoever moved it, nothing that was refused before stays in the outbox,
    although this builder's own pushes go on being refused.
    """
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.append("a")
    for number in range(3):
        world.remote.refuse = lambda ref: Pushed("refused", LedgerRefused("not you"))
        for _ in range(2):
            with pytest.raises(LedgerRefused, match="not you"):
                one.hold("one")
        assert len(one.store.entries()) == 2
        with pytest.raises(LedgerRefused, match="not you"):
            one.ledger.deliver()
        world.remote.refuse = lambda ref: None
        two.append(f"b{number}")
        world.remote.refuse = lambda ref: Pushed("refused", LedgerRefused("not you"))
        one.ids()
        one.ledger.deliver()
        assert one.store.entries() == []


def test_22_refusal_beside_a_mate_that_was_lost(tmp_path: Path) -> None:
    """A refusal that rests on a batch-mate is not given when the commit with that mate loses."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.append("a")
    two.ids()
    one.ledger.enqueue({"kind": "hold", "owner": "mate"}, kind="attached")
    other = one.reopen()
    number = other.ledger.enqueue({"kind": "hold", "owner": "second"}, kind="attached")
    one.refs.before["push"] = lambda: (two.append("quicker"), one.die())
    other.drain()
    answer = other.store.answer(number)
    invariant("refused-is-true", answer is not None and answer["ok"], answer)
    invariant("no-orphan-grant", two.owner() == "second", two.owner())


def test_37_refusal_while_a_push_of_a_dead_leader_may_land(tmp_path: Path) -> None:
    """As long as a push of an entry may land, its refusal is pushed as well, so that only one of them is."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.append("a")
    one.ledger.enqueue({"kind": "hold", "owner": "mate"}, kind="attached")
    number = one.ledger.enqueue({"kind": "free", "owner": "mate"})
    faults(world.remote, "delayed")
    one.refs.after["push"] = kill
    with pytest.raises(Killed):
        one.drain()
    one.die()
    other = one.reopen()
    other.drain()
    answer = other.store.answer(number)
    world.remote.arrive()
    op = next(e.op for e in other.store.entries() if e.sequence == number)
    invariant("refused-never-applied", answer == two.outcome(op), (answer, two.outcome(op)))


def test_38_power_goes_after_an_answer(tmp_path: Path) -> None:
    """An answer that was given and not on disk yet is found again in the chain after a power loss."""
    world = World(tmp_path)
    one = world.node("one")
    one.append("a")
    number = one.ledger.enqueue({"kind": "append", "id": "x"})
    backups: list[Path] = []
    cut = one.watch()
    cut.after["begin_attempt"] = lambda: backups.append(one.backup())
    one.drain()
    again = one.restored(backups[0])
    again.append("y")
    invariant("applied-once", again.ids() == ["a", "x", "y"], again.ids())
    answer = again.store.answer(number)
    invariant("answer-kept", answer is not None and answer["ok"], answer)

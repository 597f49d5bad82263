"""One transaction, over memory and over git: applied once, answered truly, whatever is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.edge.bare import make_bare
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.memory_refs import Fault, MemoryRefs, MemoryRemote
from pipeline.edge.ref_store import Pushed
from pipeline.errors import LedgerMissing, LedgerRefused, NotALedger, OutcomeUnknown
from tests.ledger.toy import Node, begin, faults

MakeNode = Callable[[str], Node]


@pytest.fixture(params=["memory", "git"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeNode]:
    """A maker of nodes over one remote that holds a ledger."""
    if request.param == "memory":
        remote = MemoryRemote()
        begin(MemoryRefs(remote))
        yield lambda name: Node(name, tmp_path, MemoryRefs(remote))
        return
    bare = tmp_path / "remote.git"
    make_bare(bare)
    begin(GitRefs(tmp_path / "init.git", str(bare)))
    yield lambda name: Node(name, tmp_path, GitRefs(tmp_path / f"{name}.git", str(bare)))


def test_effect_is_seen_by_everybody(node: MakeNode) -> None:
    """What one node wrote another reads, and the outbox is empty again."""
    one, two = node("one"), node("two")
    assert one.append("x")["ok"]
    assert two.ids() == ["x"]
    assert one.store.entries() == []


def test_lost_race_is_decided_again(node: MakeNode) -> None:
    """A node whose cached tip is old writes on the new one, and both effects stand."""
    one, two = node("one"), node("two")
    one.append("a")
    two.append("b")
    one.append("c")
    assert two.ids() == ["a", "b", "c"]


def test_uncontended_transaction_costs_one_push_and_no_fetch(node: MakeNode) -> None:
    """The second transaction of a node that is alone is one push, and reads nothing."""
    one = node("one")
    one.append("a")
    before = one.ledger.counts.pushes, one.ledger.counts.fetches
    one.append("b")
    assert one.ledger.counts.pushes == before[0] + 1
    assert one.ledger.counts.fetches == before[1]


def test_refusal_rests_on_a_fresh_tip(node: MakeNode) -> None:
    """A register that was freed a moment ago by somebody else is granted, not refused from the cache."""
    one, two = node("one"), node("two")
    one.ledger.transact({"kind": "hold", "owner": "one"})
    refused = two.ledger.transact({"kind": "hold", "owner": "two"})
    assert (refused["ok"], refused["reason"]) == (False, "held")
    one.ledger.transact({"kind": "free", "owner": "one"})
    assert two.ledger.transact({"kind": "hold", "owner": "two"})["ok"]
    assert one.owner() == "two"


def test_refusal_makes_no_commit(node: MakeNode) -> None:
    """A request that changes nothing leaves the branch where it was."""
    one = node("one")
    one.ledger.transact({"kind": "hold", "owner": "one"})
    tip = one.refs.tip()
    assert not one.ledger.transact({"kind": "hold", "owner": "two"})["ok"]
    assert one.ledger.transact({"kind": "nothing"})["value"] == {"said": "nothing"}
    assert one.refs.tip() == tip


def test_decision_that_fails_fails_alone(node: MakeNode) -> None:
    """An entry whose decision raises is refused with the error's words; its batch-mates are applied."""
    one = node("one")
    bad = one.ledger.enqueue({"kind": "explode"})
    assert one.append("good")["ok"]
    answer = one.store.answer(bad)
    assert answer is not None
    assert answer["reason"] == "RecordInvalid"
    assert one.ids() == ["good"]


def test_group_commit_carries_all_in_one_push(node: MakeNode) -> None:
    """Entries of several processes go into one commit, and each gets its own answer."""
    one = node("one")
    numbers = [one.ledger.enqueue({"kind": "append", "id": f"m{i}"}) for i in range(10)]
    one.append("last")
    assert one.ledger.counts.pushes == 1
    assert all((one.store.answer(n) or {})["ok"] for n in numbers)
    assert one.ids() == [*(f"m{i}" for i in range(10)), "last"]


@pytest.mark.parametrize(
    "kinds", [("lost",), ("unanswered",), ("lost", "unanswered"), ("unanswered", "lost", "lost")]
)
def test_unknown_outcome_is_applied_once(tmp_path: Path, kinds: tuple[Fault, ...]) -> None:
    """Whether the request or its answer was lost, the effect is there exactly once, and answered."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    faults(remote, *kinds)
    assert one.append("x")["ok"]
    assert one.ids() == ["x"]


def test_answer_lost_and_another_was_quicker(tmp_path: Path) -> None:
    """An effect that landed unanswered is recognised after others wrote on top of it."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one, two = (Node(n, tmp_path, MemoryRefs(remote)) for n in ("one", "two"))
    two.ids()

    def lose_and_overtake(step: str) -> Fault:
        if step == "push":
            remote.fault = overtake
            return "unanswered"
        return "none"

    def overtake(step: str) -> Fault:
        remote.fault = lambda step: "none"
        two.append("y")
        return "none"

    remote.fault = lose_and_overtake
    assert one.append("x")["ok"]
    assert two.ids() == ["x", "y"]


def test_remote_down_keeps_the_entry(tmp_path: Path) -> None:
    """A remote that does not answer leaves a deliverable entry in the outbox; the next drain delivers it."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    one.append("a")
    remote.fault = lambda step: "lost"
    with pytest.raises(OutcomeUnknown):
        one.ledger.transact({"kind": "append", "id": "b"}, patience=5)
    assert [e.request["id"] for e in one.store.entries()] == ["b"]
    remote.fault = lambda step: "none"
    one.processes.dead.add(one.processes.me)
    left = one.reopen().ledger.deliver()
    assert [e.request["id"] for e in left] == ["b"]
    assert one.ids() == ["a", "b"]
    assert one.store.entries() == []


def test_hook_refusal_reaches_the_asker_and_loses_nothing(tmp_path: Path) -> None:
    """A refusal of the remote is raised as such; the entry waits and arrives when the hook allows it."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    remote.refuse = lambda ref: Pushed("refused", LedgerRefused("no pushes on Sunday"))
    with pytest.raises(LedgerRefused, match="Sunday"):
        one.append("x")
    remote.refuse = lambda ref: None
    one.ledger.deliver()
    assert one.ids() == ["x"]


def test_a_refused_push_that_had_landed(tmp_path: Path) -> None:
    """Words are not believed before the state is read: a push refused behind its own success is a success."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    one.ids()
    steps = iter(["unanswered"])
    remote.fault = lambda step: next(steps, "none") if step == "push" else "none"  # type: ignore[arg-type,return-value]
    seen = []

    def refuse(ref: str) -> Pushed | None:
        seen.append(ref)
        return Pushed("refused", LedgerRefused("cannot lock ref")) if len(seen) > 1 else None

    remote.refuse = refuse
    assert one.append("x")["ok"]
    assert one.ids() == ["x"]


def test_no_ledger_yet(tmp_path: Path) -> None:
    """An empty remote is an error of its own that names the remedy."""
    with pytest.raises(LedgerMissing) as caught:
        Node("one", tmp_path, MemoryRefs(MemoryRemote())).ids()
    assert "ledger.init" in (caught.value.remedy or "")


def test_begin_twice_is_refused(tmp_path: Path) -> None:
    """A second initialisation leaves the first one alone."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    Node("one", tmp_path, MemoryRefs(remote)).append("x")
    with pytest.raises(NotALedger):
        begin(MemoryRefs(remote))
    assert Node("two", tmp_path, MemoryRefs(remote)).ids() == ["x"]

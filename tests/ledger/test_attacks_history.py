"""Interleavings about the chain itself: hands in it, rewinds of it, and clones that see only a part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.coordination.reducer import decide, genesis
from pipeline.edge.bare import make_bare
from pipeline.edge.git_objects import Object
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.edge.process import run
from pipeline.errors import (
    CommandFailed,
    CommandTimedOut,
    LedgerError,
    LedgerRewound,
    PipelineError,
    StoreError,
)
from pipeline.ledger.genesis import initialise
from pipeline.records import paths
from pipeline.records.base import load
from pipeline.records.builders import Builder
from pipeline.records.decisions import Change, Refusal, View
from pipeline.records.ledger import LedgerState
from tests.ledger import toy
from tests.ledger.test_attacks_numbers import Killed, World, kill
from tests.ledger.toy import (
    LOG,
    WHEN,
    Between,
    CountedRandomness,
    ManualClock,
    Node,
    adopt,
    begin,
    invariant,
    raises,
)


def git(folder: Path, *words: str, input: str = "") -> str:
    """Runs git as an operator would, and returns what it prints."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    who = {
        f"GIT_{w}_{p}": v
        for w in ("AUTHOR", "COMMITTER")
        for p, v in (("NAME", "hand"), ("EMAIL", "h@x.invalid"))
    }
    return run(["git", "--git-dir", folder, *words], env=env | who, input=input.encode()).text


def test_18_power_goes_after_an_acknowledged_push(tmp_path: Path) -> None:
    """Repositories that we make, clones and remotes, write through to the disk, and keep their history."""
    make_bare(tmp_path / "r.git")
    said = {key: git(tmp_path / "r.git", "config", key) for key in ("core.fsync", "receive.denyDeletes")}
    assert said == {"core.fsync": "all", "receive.denyDeletes": "true"}
    assert git(tmp_path / "r.git", "config", "receive.denyNonFastForwards") == "true"


def test_23_merge_by_hand_hides_the_ledgers_side(tmp_path: Path) -> None:
    """After a merge `-s ours` with older files the operation is known, and nothing that it wrote is gone."""
    bare, hand = tmp_path / "r.git", tmp_path / "hand.git"
    make_bare(bare)
    begin(GitRefs(tmp_path / "init.git", str(bare)))
    one = Node("one", tmp_path, Between(GitRefs(tmp_path / "one.git", str(bare))))
    one.append("a")
    older = git(bare, "rev-parse", "ledger")
    number = one.ledger.enqueue({"kind": "append", "id": "x"})
    one.refs.after["push"] = kill
    with pytest.raises(Killed):
        one.drain()
    make_bare(hand)
    git(hand, "fetch", "-q", str(bare), "ledger")
    landed = git(hand, "rev-parse", "FETCH_HEAD")
    merge = git(hand, "commit-tree", f"{older}^{{tree}}", "-p", older, "-p", landed, "-m", "Merge -s ours")
    git(hand, "push", "-q", str(bare), f"{merge}:refs/heads/ledger")
    other = one.reopen()
    other.append("y")
    invariant("applied-once", other.ids() == ["a", "x", "y"], other.ids())
    answer = other.store.answer(number)
    invariant("answer-kept", answer is not None and answer["ok"], answer)
    findings = other.findings()
    invariant("chain-holds", not findings, findings)


def test_23_amended_copy_is_no_transaction(tmp_path: Path) -> None:
    """A commit with a transaction's message and other files is foreign: its ledger.json is not believed."""
    bare, hand = tmp_path / "r.git", tmp_path / "hand.git"
    make_bare(bare)
    begin(GitRefs(tmp_path / "init.git", str(bare)))
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", str(bare)))
    one.append("a")
    make_bare(hand)
    git(hand, "fetch", "-q", str(bare), "ledger:ledger")
    message = git(hand, "log", "-1", "--format=%B", "ledger")
    blob = git(hand, "hash-object", "-w", "--stdin", input=json.dumps({"next_token": 1, "ordinal": 99}))
    coordination = git(hand, "ls-tree", "ledger:coordination").replace(
        git(hand, "rev-parse", "ledger:coordination/ledger.json"), blob
    )
    folder = git(hand, "mktree", input=coordination + "\n")
    root = git(hand, "ls-tree", "ledger").replace(git(hand, "rev-parse", "ledger:coordination"), folder)
    tree = git(hand, "mktree", input=root + "\n")
    forged = git(hand, "commit-tree", tree, "-p", "ledger", "-F", "-", input=message)
    git(hand, "push", "-q", str(bare), f"{forged}:refs/heads/ledger")
    one.append("b")
    state = one.ledger.view().state
    invariant("state-is-not-adopted", state.ordinal == 2, state.ordinal)
    assert [q.path for q in state.quarantined] == [paths.LEDGER]
    findings = one.findings()
    invariant("chain-holds", not findings, findings)


def real_node(name: str, folder: Path, remote: MemoryRemote) -> Node:
    """A node over the pipeline's own decisions."""
    return Node(name, folder, MemoryRefs(remote), decide=decide, adopt=adopt)


def real_begin(remote: MemoryRemote) -> None:
    builders = [Builder(name=name, manager="m") for name in ("build1", "build2")]
    files = genesis(builders, build_config=b"{}\n", now=WHEN)
    initialise(MemoryRefs(remote), files, "operator", ManualClock(WHEN), CountedRandomness("init"), 1)


def acquire(node: Node, lock: str) -> str:
    """Takes a named lock and returns its token."""
    request = {
        "kind": "lock.acquire",
        "builder": "build1",
        "names": [lock],
        "ttl_seconds": 60.0,
        "interval_seconds": 10.0,
        "holder": node.name,
    }
    answer = node.ledger.transact(request, kind="attached")
    assert answer["ok"], answer
    return str(answer["value"]["tokens"][lock])


def test_24_rewind_and_the_same_number_again(tmp_path: Path) -> None:
    """After a rewind that a fresh store cannot notice the same number is granted, never the same token."""
    remote = MemoryRemote()
    real_begin(remote)
    before = dict(remote.refs)
    old = acquire(real_node("build1", tmp_path, remote), "promotion")
    remote.refs.update(before)
    new = acquire(real_node("fresh", tmp_path, remote), "promotion")
    assert old.rpartition(".")[0] == new.rpartition(".")[0], "the attack does not work"
    invariant("tokens-differ", old != new, new)


def raise_real(tip: str, view: View | None) -> Mapping[str, Any]:
    """The request that an operator's repair makes of the tip that is abandoned."""
    assert view is not None
    epoch = load(LedgerState, view.read(paths.LEDGER) or b"", paths.LEDGER).epoch
    return {"kind": "ledger.raise_epoch", "builder": "build1", "abandoned_tips": [tip], "seen": [epoch]}


def test_25_two_repairs_of_two_rewinds(tmp_path: Path) -> None:
    """Two repairs that know nothing of each other begin different epochs."""
    epochs = []
    for side in "ab":
        remote = MemoryRemote()
        real_begin(remote)
        before = dict(remote.refs)
        node = real_node(f"node{side}", tmp_path, remote)
        acquire(node, "promotion")
        remote.refs.update(before)
        outcome = node.ledger.accept_rewind(raise_real)
        assert outcome["ok"], outcome
        epochs.append(outcome["value"]["epoch"])
    invariant("epochs-differ", epochs[0] != epochs[1], epochs)


def raise_toy(tip: str, view: View | None) -> Mapping[str, Any]:
    return {"kind": "raise_epoch", "abandoned_tips": [tip]}


def test_25_rewind_stops_all_writing_until_it_is_accepted(tmp_path: Path) -> None:
    """After a rewind nobody who saw more writes; one repairs by hand, those who saw no more than it join."""
    world = World(tmp_path)
    one, two, late = (world.node(name) for name in ("one", "two", "late"))
    one.append("a")
    for node in (two, late):
        node.ids()
    before = dict(world.remote.refs)
    two.append("b")
    one.ids()
    late.append("c")
    world.remote.refs.update(before)
    world.node("fresh").append("d")
    for node in (one, two, late):
        stopped = raises(LedgerRewound, partial(node.append, f"{node.name}-again"))
        invariant("rewind-noticed", stopped, node.name)
    waiting = world.node("two").store.look().writer
    assert two.ledger.accept_rewind(raise_toy)["ok"]
    invariant("writing-goes-on", two.append("e")["ok"])
    invariant("joined", one.append("f")["ok"] and one.store.look().writer != "one-writer", one.store.look())
    with pytest.raises(LedgerRewound):
        late.ids()
    expected = ["a", "d", "two-again", "e", "one-again", "f"]
    invariant("applied-once", one.ids() == expected, one.ids())
    assert waiting == "two-writer"
    world.chain_holds(one)


def test_25_repair_by_hand_is_not_joined(tmp_path: Path) -> None:
    """A repair that no transaction made, or that cannot be computed again, is not believed."""
    world = World(tmp_path)
    one, other = world.node("one"), world.node("other")
    before = dict(world.remote.refs)
    one.append("a")
    seen = world.remote.refs[one.refs.ref]
    world.remote.refs.update(before)
    cheat = Node("cheat", tmp_path, MemoryRefs(world.remote), decide=lambda *words: _cheat(seen, *words))
    cheat.append("forged")
    invariant("not-joined", raises(LedgerRewound, one.ids))
    assert other.ids() == []


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("writes", "`coordination/log.json` is not what it writes"),
        ("refuses", "append {op} came to held (not now), and comes to success"),
    ],
)
def test_a_transaction_that_was_decided_otherwise_is_told(tmp_path: Path, deed: str, told: str) -> None:
    """The check says which operation, or which file, is not what the rules give."""
    world = World(tmp_path)
    one = world.node("one")

    def other(view: View, request: Any, evidence: Any, context: Any) -> Any:
        if (deed, request["id"]) == ("refuses", "x"):
            return Refusal("held", "not now")
        return Change({"ordinal": context.ordinal}, {LOG: b"{}\n"})

    cheat = Node("cheat", tmp_path, MemoryRefs(world.remote), decide=other)
    number = cheat.ledger.enqueue({"kind": "append", "id": "x"})
    cheat.append("y")
    op = next(entry.op for entry in cheat.store.entries() if entry.sequence == number)
    (found,) = one.findings()
    assert found.problem == f"transaction 1 does not give the tree that it says: {told.format(op=op)}"


def _cheat(seen: str, view: View, request: Any, evidence: Any, context: Any) -> Any:
    state = json.loads(view.read(paths.LEDGER) or b"")
    state["abandoned_tips"] = [seen]
    return Change({}, {paths.LEDGER: json.dumps(state).encode(), LOG: b'{"ids": [], "owner": null}'})


def shallow(tmp_path: Path) -> tuple[Node, Path]:
    """A node that has seen commit 1 of 4, and then a remote of which only the newest commit is left."""
    bare, cut = tmp_path / "r.git", tmp_path / "cut.git"
    make_bare(bare)
    begin(GitRefs(tmp_path / "init.git", str(bare)))
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", str(bare)))
    one.append("a")
    one.ledger.enqueue({"kind": "append", "id": "x"})
    backup = one.backup()
    one.drain()
    two = Node("two", tmp_path, GitRefs(tmp_path / "two.git", str(bare)))
    for id in "bcd":
        two.append(id)
    run(["git", "clone", "-q", "--bare", "--depth=2", f"file://{bare}", cut])
    run(["rm", "-rf", tmp_path / "one.git"])
    one.refs = GitRefs(tmp_path / "cut-clone.git", f"file://{cut}")
    run(["git", "clone", "-q", "--bare", "--depth=2", f"file://{bare}", one.refs.clone.folder])
    return one, backup


def test_26_shallow_clone_is_no_rewind(tmp_path: Path) -> None:
    """Where the history is cut, an ancestor that cannot be found is unknown: no rewind is claimed."""
    one, _ = shallow(tmp_path)
    one.rewire()
    with pytest.raises(LedgerError) as caught:
        one.ids()
    invariant("no-false-rewind", not isinstance(caught.value, LedgerRewound), caught.value)
    assert "cut off" in caught.value.message


def test_26_shallow_clone_applies_nothing_again(tmp_path: Path) -> None:
    """Where the history is cut, what a reborn store had asked is not taken for never applied."""
    one, _ = shallow(tmp_path)
    tip = one.refs.tip()
    assert tip is not None
    base = one.store.tip()
    assert base is not None
    found = one.refs.since(tip, None)
    invariant("unknown-is-not-never", found is None, found)
    moved = one.reopen(identity="another machine", new_id="moved")
    entry = one.store.entries()[0]
    with pytest.raises(StoreError, match="cut off"):
        moved.ledger.leader._found_in_history(tip, [entry])


def test_28_mark_moves_while_another_compares(tmp_path: Path) -> None:
    """A commit that another process pushes and records between a fetch and its check is no rewind."""
    world = World(tmp_path)
    one = world.node("one")
    one.append("a")
    other = one.reopen(refs=MemoryRefs(world.remote))
    world.node("two").append("b")
    one.refs.after["fetch"] = lambda: other.append("c")
    try:
        ids = one.ids()
    except LedgerRewound as exc:
        ids = [str(exc)]
    invariant("no-false-rewind", ids == ["a", "b", "c"], ids)


def test_39_damaged_clone_is_not_a_refusal(tmp_path: Path) -> None:
    """What the local disk lost is an error of this machine, never recorded as the answer to a request."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.append("a")
    tree = one.ledger.view().tree
    entry = tree.entry(LOG)
    assert entry is not None
    del one.refs.real.local[entry.oid]
    again = one.reopen()
    stopped = raises(LedgerError, lambda: again.append("x"))
    invariant("nothing-recorded", stopped and two.ids() == ["a"], two.ids())
    assert [e.request["id"] for e in again.store.look().entries] == ["x"]


@pytest.mark.parametrize(
    "why",
    [
        StoreError("The clone cannot be written: No space left on device."),
        CommandTimedOut("`git cat-file` gave no answer within 30 s"),
        CommandFailed("`git cat-file` was killed", returncode=-9),
        FileNotFoundError(2, "No such file or directory"),
        ValueError("subsection not found"),
    ],
    ids=lambda why: type(why).__name__,
)
def test_52_clone_that_cannot_be_read_is_not_a_refusal(tmp_path: Path, why: Exception) -> None:
    """Whatever keeps this machine from reading what a decision asks for, nothing is recorded of it: a full
    disk, git that was killed or took too long, a clone that is removed meanwhile.
    """
    world = World(tmp_path)
    two = world.node("two")
    two.append("a")
    refs = _Unreadable(world.remote)

    def decide_meanwhile(*words: Any) -> Any:
        refs.why, refs.once = refs.once, None
        try:
            return toy.decide(*words)
        finally:
            refs.why = None

    one = Node("one", tmp_path, refs, decide=decide_meanwhile)
    refs.once = why
    stopped = raises(PipelineError, lambda: one.append("x"))
    invariant("nothing-recorded", stopped and two.ids() == ["a"] and not two.findings(), two.findings())
    assert [e.request["id"] for e in one.store.look().entries] == ["x"]
    assert one.append("y")["ok"]
    assert two.ids() == ["a", "x", "y"]
    world.chain_holds(two)


class _Unreadable(MemoryRefs):
    """A clone in which nothing can be read for a while."""

    once: Exception | None = None
    why: Exception | None = None

    def read(self, oid: str) -> Object | None:
        if self.why is not None:
            raise self.why
        return super().read(oid)


def test_40_reducer_that_fails_is_alone(tmp_path: Path) -> None:
    """A defect in a decision refuses that one request; it does not stop the outbox for ever."""
    world = World(tmp_path)
    one = world.node("one")
    answer = one.ledger.transact({"kind": "append"})
    assert (answer["ok"], answer["reason"]) == (False, "defect")
    assert one.append("a")["ok"]
    world.chain_holds(one)

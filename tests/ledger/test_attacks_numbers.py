"""Interleavings about who an entry is: its number, its writer, its operation id.

Each is named after its number in docs/explanation/ledger.md and dies under the mutant that leaves its rule
out (test_mutants.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.edge.bare import make_bare
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from tests.ledger.toy import Between, CountedRandomness, Node, begin, faults, invariant


class World:
    """One remote in memory with a ledger, and nodes on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remote = MemoryRemote()
        begin(MemoryRefs(self.remote))

    def node(self, name: str, **settings: object) -> Node:
        return Node(name, self.folder, Between(MemoryRefs(self.remote)), **settings)

    def chain_holds(self, node: Node) -> None:
        self.remote.fault = lambda step: "none"
        found = node.findings()
        invariant("chain-holds", not found, found)


class Killed(BaseException):
    """The process ends here, whatever it was about to do."""


def kill() -> None:
    raise Killed


def test_01_two_clones_make_the_same_commit(tmp_path: Path) -> None:
    """Two processes with the same files, parent, author and clock push different commits: one lands."""
    bare = tmp_path / "remote.git"
    make_bare(bare)
    begin(GitRefs(tmp_path / "init.git", str(bare)))
    landed = []
    nodes = [Node("x", tmp_path / side, GitRefs(tmp_path / f"{side}.git", str(bare))) for side in "ab"]
    nodes[1].rewire(random=CountedRandomness("y"))
    for node in nodes:
        node.ids()
    for node in nodes:
        node.ledger.enqueue({"kind": "append", "id": "the same"})
        plan = node.ledger.leader._plan(node.store.look())
        assert plan is not None
        node.refs.write(plan.objects)
        landed.append(node.refs.push(plan.commit, plan.tip).kind == "landed")
    invariant("one-lands", landed == [True, False], landed)


def test_02_disk_restored_from_a_backup(tmp_path: Path) -> None:
    """A restored store that gives a number again has its operation applied, under a new writer id."""
    world = World(tmp_path)
    one = world.node("one")
    one.append("a")
    backup = one.backup()
    one.append("b")
    one.append("c")
    again = one.restored(backup)
    assert again.append("d")["ok"]
    invariant("acknowledged-is-applied", again.ids() == ["a", "b", "c", "d"], again.ids())
    invariant("reborn", again.store.look().writer != "one-writer")
    world.chain_holds(again)


def test_03_writer_was_forgotten(tmp_path: Path) -> None:
    """An old outbox whose writer the ledger no longer knows finds its operation in the history."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.append("a")
    one.ledger.enqueue({"kind": "append", "id": "x"})
    backup = one.backup()
    one.ledger.deliver()
    two.ledger.transact({"kind": "forget"})
    again = one.restored(backup)
    again.ledger.deliver()
    invariant("applied-once", again.ids() == ["a", "x"], again.ids())
    world.chain_holds(again)


def test_04_leader_dies_after_numbering(tmp_path: Path) -> None:
    """The next leader, who finds another entry beside those of a dead one, leaves every number as it is."""
    world = World(tmp_path)
    one = world.node("one")
    for id in "ab":
        one.ledger.enqueue({"kind": "append", "id": id})
    faults(world.remote, "unanswered")
    one.refs.after["push"] = kill
    with pytest.raises(Killed):
        one.drain()
    one.die()
    other = one.reopen()
    other.append("c")
    invariant("acknowledged-is-applied", sorted(other.ids()) == ["a", "b", "c"], other.ids())
    invariant("number-kept", other.store.look().writer == "one-writer", "reborn without a reason")
    world.chain_holds(other)


def test_20_stopped_leader_wakes_up(tmp_path: Path) -> None:
    """A leader that was stopped with an entry in memory neither applies it again nor takes it for lost."""
    world = World(tmp_path)
    one = world.node("one")
    one.append("a")
    other = one.reopen()
    one.ledger.enqueue({"kind": "append", "id": "x"})

    def meanwhile() -> None:
        other.drain()
        for entry in other.store.entries():
            other.store.take(entry.sequence)
        other.append("y")

    stopped = one.watch()
    stopped.after["look"] = meanwhile
    one.drain()
    invariant("applied-once", one.ids() == ["a", "x", "y"], one.ids())
    invariant("no-false-rebirth", one.store.look().writer == "one-writer", one.store.look().writer)


def test_20_stopped_before_its_push(tmp_path: Path) -> None:
    """A leader that was stopped just before its push has lost the entries to the one that passed it."""
    world = World(tmp_path)
    one = world.node("one")
    one.append("a")
    other = one.reopen()
    one.ledger.enqueue({"kind": "append", "id": "x"})
    stopped = one.watch()
    stopped.after["begin_attempt"] = lambda: (other.append("y"), world.node("two").append("z"))
    one.drain()
    invariant("applied-once", sorted(one.ids()) == ["a", "x", "y", "z"], one.ids())
    world.chain_holds(one)


def test_20_reborn_store_looks_again_at_every_decide(tmp_path: Path) -> None:
    """A reborn store whose old life lands after all finds it, although it had looked before."""
    world = World(tmp_path)
    one = world.node("one")
    one.append("a")
    one.ledger.enqueue({"kind": "append", "id": "x"})
    faults(world.remote, "delayed")
    one.refs.after["push"] = kill
    with pytest.raises(Killed):
        one.drain()
    outbox = one.store.look()
    other = one.reopen()
    other.store.rebirth(outbox.writer, "second-life", {e.sequence: e.version for e in outbox.entries})
    other.refs.before["push"] = lambda: world.remote.arrive()
    other.drain()
    invariant("applied-once", other.ids() == ["a", "x"], other.ids())
    world.chain_holds(other)


def test_20_cloned_store_runs_twice(tmp_path: Path) -> None:
    """Of a store and its copy each keeps what it asks itself; what both hold is applied once."""
    world = World(tmp_path)
    one = world.node("one")
    one.append("a")
    one.ledger.enqueue({"kind": "append", "id": "shared"})
    copy = one.copied("copy")
    for number in range(3):
        one.append(f"original{number}")
        copy.append(f"copy{number}")
    expected = sorted(["a", "shared", *(f"original{n}" for n in range(3)), *(f"copy{n}" for n in range(3))])
    invariant("applied-once", sorted(one.ids()) == expected, one.ids())
    world.chain_holds(one)


def test_27_asker_dies_with_a_grant(tmp_path: Path) -> None:
    """What was granted to a process that died before it took the answer is given back, however late."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.ledger.enqueue({"kind": "hold", "owner": "one"}, kind="attached")
    one.drain()
    one.die()
    other = one.reopen()
    other.append("a")
    other.append("b")
    other.ledger.deliver()
    invariant("no-orphan-grant", two.owner() is None, two.owner())
    assert other.store.entries() == []


def test_27_grant_lands_after_its_asker_died(tmp_path: Path) -> None:
    """A claim whose push arrives after its process died is found and given back."""
    world = World(tmp_path)
    one, two = world.node("one"), world.node("two")
    one.append("a")
    faults(world.remote, "delayed")
    one.refs.after["push"] = kill
    with pytest.raises(Killed):
        one.hold("one")
    one.die()
    world.remote.arrive()
    invariant("no-orphan-grant", two.owner() == "one", "the attack does not work")
    other = one.reopen()
    other.ledger.deliver()
    invariant("no-orphan-grant", two.owner() is None, two.owner())


def test_36_foreign_reboot_of_the_machine_id(tmp_path: Path) -> None:
    """A store that wakes up on another machine is a copy: reborn at once, and it loses nothing."""
    world = World(tmp_path)
    one = world.node("one")
    one.append("a")
    one.ledger.enqueue({"kind": "append", "id": "x"})
    moved = one.reopen(identity="another machine", new_id="moved-writer")
    moved.append("y")
    invariant("reborn", moved.store.look().writer == "moved-writer")
    one.append("z")
    invariant("applied-once", sorted(one.ids()) == ["a", "x", "y", "z"], one.ids())
    world.chain_holds(one)

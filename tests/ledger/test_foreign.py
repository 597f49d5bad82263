"""Files that somebody changed by hand: adopted where that is legal, otherwise named and kept."""

from __future__ import annotations

from pathlib import Path

from pipeline.edge.git_objects import TreeView, make_commit, parse_commit, write_tree
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from tests.ledger.toy import LOG, Node, begin


def change_by_hand(remote: MemoryRemote, writes: dict[str, bytes | None]) -> str:
    """Pushes a commit of no transaction on top of the branch, and returns its id."""
    refs = MemoryRefs(remote)
    tip = refs.fetch()
    assert tip is not None
    found = refs.read(tip)
    assert found is not None
    root, objects = write_tree(TreeView(refs.read, parse_commit(found.data).tree), writes)
    made = make_commit(root, [tip], "hand <hand@example.invalid>", 1, "by hand\n")
    refs.write([*objects, made])
    assert refs.push(made.oid, tip).kind == "landed"
    return made.oid


def test_a_file_removed_by_hand_is_restored_and_named(tmp_path: Path) -> None:
    """A deleted state file is there again after the next transaction, and the deletion is on record."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    one.append("a")
    foreign = change_by_hand(remote, {LOG: None})
    one.append("b")
    state = one.ledger.view().state
    assert one.ids() == ["a", "b"]
    assert [(q.path, q.commit, q.stored) for q in state.quarantined] == [(LOG, foreign, None)]
    assert one.findings() == []


def test_bytes_that_are_not_adopted_are_kept(tmp_path: Path) -> None:
    """What somebody wrote over a state file lies in quarantine, byte for byte, and the state goes on."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    one.append("a")
    change_by_hand(remote, {LOG: b"\xff garbage", "notes/mine.txt": b"a note\n"})
    one.append("b")
    standing = one.ledger.view()
    (kept,) = standing.state.quarantined
    assert kept.stored is not None
    assert standing.view.read(kept.stored) == b"\xff garbage"
    assert standing.view.read("notes/mine.txt") == b"a note\n"
    assert one.ids() == ["a", "b"]

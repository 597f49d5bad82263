"""Files that somebody changed by hand: adopted where that is legal, otherwise named and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.edge.git_objects import (
    EMPTY_TREE,
    LARGEST_OBJECT_BYTES,
    TreeView,
    make_commit,
    parse_commit,
    write_tree,
)
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.errors import LedgerTooLarge
from pipeline.ledger.chain import TAIL
from pipeline.records import paths
from pipeline.records.base import LARGEST_RECORD_BYTES, load
from pipeline.records.ledger import Quarantine, QuarantineArchive
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


def test_a_file_that_is_too_large_to_read_is_named(tmp_path: Path) -> None:
    """What somebody wrote over a state file is not even read past a bound; the state goes on without it."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    one.append("a")
    foreign = change_by_hand(remote, {LOG: bytes(LARGEST_OBJECT_BYTES + 1)})
    one.append("b")
    (kept,) = one.ledger.view().state.quarantined
    assert (kept.path, kept.stored, kept.commit) == (LOG, None, foreign)
    assert kept.reason == "67,108,865 bytes; more than 67,108,864 are not read"
    assert one.ids() == ["a", "b"]
    assert one.findings() == []


def test_nothing_is_written_that_would_not_be_read(tmp_path: Path) -> None:
    """A request that would make a state file too large is refused, and the ledger stays as it is."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    refused = one.append("x" * LARGEST_RECORD_BYTES)
    assert (refused["ok"], refused["reason"]) == (False, "too-large")
    assert one.append("b")["ok"]
    assert one.ids() == ["b"]


def test_a_file_in_the_state_that_is_too_large_is_told_by_its_path() -> None:
    """Where a file of the tree itself is not read, the error names it and how to get it back."""
    refs = MemoryRefs(MemoryRemote())
    root, objects = write_tree(TreeView(refs.read, EMPTY_TREE.oid), {LOG: bytes(LARGEST_OBJECT_BYTES + 1)})
    refs.write(objects)
    with pytest.raises(LedgerTooLarge, match=rf"^`{LOG}` is not read: .* has 67,108,865 bytes") as raised:
        TreeView(refs.read, root).read(LOG)
    assert f"git log -- {LOG}" in (raised.value.remedy or "")


def test_old_notes_of_foreign_changes_are_sealed(tmp_path: Path) -> None:
    """However often somebody writes by hand, `ledger.json` holds two tails of notes at the most.

    None is lost: each is in the state or in one archive, and the bytes lie where it says.
    """
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    made = []
    for group in "abc":
        files = {f"{group}/{number:02d}": f"{group}{number}".encode() for number in range(TAIL + 10)}
        change_by_hand(remote, dict(files))
        one.append(group)
        made += list(files.items())
        assert len(one.ledger.view().state.quarantined) <= 2 * TAIL
    standing = one.ledger.view()
    notes: list[Quarantine] = []
    for folder in standing.view.names("coordination/archive/quarantine"):
        for name in standing.view.names(f"coordination/archive/quarantine/{folder}"):
            path = f"coordination/archive/quarantine/{folder}/{name}"
            sealed = load(QuarantineArchive, standing.view.read(path) or b"", path)
            assert path == paths.quarantine_archive(sealed.ordinal)
            notes += sealed.quarantined
    assert len(notes) == 2 * TAIL + 30
    notes += standing.state.quarantined
    assert [(note.path, standing.view.read(note.stored or "")) for note in notes] == made
    assert one.findings() == []


def test_many_foreign_changes_at_once_leave_a_tail(tmp_path: Path) -> None:
    """One commit that spoils hundreds of files is noted file by file, all but a tail of it in the archive."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    one.append("a")
    change_by_hand(remote, {f"junk/{number:03d}": b"x" for number in range(300)})
    one.append("b")
    state = one.ledger.view().state
    assert [note.path for note in state.quarantined] == [f"junk/{n:03d}" for n in range(300 - TAIL, 300)]
    archive = paths.quarantine_archive(state.ordinal)
    sealed = load(QuarantineArchive, one.ledger.view().view.read(archive) or b"", archive)
    assert [note.path for note in sealed.quarantined] == [f"junk/{n:03d}" for n in range(300 - TAIL)]
    assert one.findings() == []

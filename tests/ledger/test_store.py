"""The outbox on disk: its promises, and disks that are full, read-only, damaged or far away."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.errors import StoreError
from pipeline.ledger.store import Store
from pipeline.records.ledger import Evidence
from tests.ledger.toy import OPEN, WHEN, Node, begin

EVIDENCE = Evidence(now=WHEN, random="0" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of a machine."""
    OPEN.append(Store(tmp_path / "store", identity="machine", new_id="first"))
    return OPEN[-1]


def ask(store: Store, op: str, kind: str = "deliver") -> int:
    return store.enqueue(kind, op, {"kind": "x"}, EVIDENCE, "process", {"log": b"text"})  # type: ignore[arg-type]


def versions(store: Store) -> dict[int, int]:
    return {e.sequence: e.version for e in store.look().entries}


def test_number_is_given_once(store: Store) -> None:
    """A number is never given again, not even after its entry is gone."""
    first = ask(store, "a")
    store.settle("first", {"a": {"ok": True}})
    store.take(first)
    assert ask(store, "b") == first + 1


def test_floor_is_below_the_oldest_that_is_held(store: Store) -> None:
    """What is answered and not taken is held: it keeps the number below which all counts as settled."""
    numbers = [ask(store, op) for op in "abc"]
    store.settle("first", {"a": {"ok": True}, "b": {"ok": True}})
    assert store.look().floor == numbers[0] - 1
    store.take(numbers[0])
    assert store.look().floor == numbers[1] - 1


def test_attempt_takes_all_or_none(store: Store) -> None:
    """Of two leaders who want some of the same entries only the first gets any."""
    ask(store, "a")
    seen = versions(store)
    ask(store, "b")
    both = versions(store)
    assert store.begin_attempt("parent", "first", seen)
    assert not store.begin_attempt("parent", "first", both)
    assert [e.doubt for e in store.look().entries] == ["parent", None]


def test_moved_entry_is_not_answered_unpushed(store: Store) -> None:
    """Who decided on what an entry was cannot refuse it after another leader has begun to push it."""
    number = ask(store, "a")
    seen = versions(store)
    assert store.begin_attempt("parent", "first", seen)
    store.answer_unpushed("first", seen, {number: {"ok": False}})
    assert store.answer(number) is None


def test_pushed_entry_is_not_dropped(store: Store) -> None:
    """An attached entry that may be in the ledger stays in the outbox when its asker goes, until a leader
    finds that its push is dead, if none has moved it since.
    """
    number = ask(store, "a", "attached")
    seen = versions(store)[number]
    store.begin_attempt("parent", "first", versions(store))
    assert not store.drop(number)
    assert not store.drop(number, seen)
    assert store.drop(number, versions(store)[number])
    assert store.entries() == []


def test_rebirth_is_of_what_was_seen(store: Store) -> None:
    """A store is reborn only if its entries are still as they were when the conflict was found."""
    number = ask(store, "a")
    seen = versions(store)
    store.settle("first", {"a": {"ok": True}})
    assert not store.rebirth("first", "second", seen)
    assert store.look().writer == "first"
    ask(store, "b")
    assert store.rebirth("first", "second", versions(store))
    assert (store.look().writer, store.look().closes) == ("second", ("first",))
    assert number < store.look().entries[0].sequence


def test_payloads_live_as_long_as_their_entry(store: Store) -> None:
    """Payloads come with the entry and go with it."""
    number = ask(store, "a")
    assert store.look().entries[0].payloads == {"log": b"text"}
    store.settle("first", {"a": {"ok": True}})
    store.take(number)
    with closing(sqlite3.connect(store.folder / "outbox.db")) as db:
        assert db.execute("select count(*) from payloads").fetchone() == (0,)


def test_budget_is_shared_by_all_processes(store: Store) -> None:
    """A burst is free, then each push waits for its turn; a bucket of another boot is forgotten."""
    assert [store.spend(100.0, 10.0, 2) for _ in range(3)] == [0.0, 0.0, 10.0]
    assert store.spend(110.0, 10.0, 2) == 0.0
    assert store.spend(5.0, 10.0, 2) == 0.0


def fill(store: Store) -> None:
    """Lets the disk be full: not one page more."""
    pages = store.database.connection.execute("pragma page_count").fetchone()[0]
    store.database.connection.execute(f"pragma max_page_count={pages}")


@pytest.mark.parametrize("write", ["enqueue", "begin_attempt", "settle", "answer_unpushed", "observe"])
def test_disk_full_loses_nothing(tmp_path: Path, write: str) -> None:
    """A full disk at any write of the outbox is an error of its own, and what was there is there."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    node = Node("one", tmp_path, MemoryRefs(remote))
    number = node.ledger.enqueue({"kind": "append", "id": "x"})
    large = {"ok": True, "text": "y" * 100_000}
    acts = {
        "enqueue": lambda: node.ledger.enqueue({"kind": "append", "id": "y" * 100_000}),
        "begin_attempt": lambda: node.store.begin_attempt("y" * 100_000, "one-writer", versions(node.store)),
        "settle": lambda: node.store.settle("one-writer", {node.store.entries()[0].op: large}),
        "answer_unpushed": lambda: node.store.answer_unpushed(
            "one-writer", versions(node.store), {number: large}
        ),
        "observe": lambda: node.store.observe("seen", large),
    }
    fill(node.store)
    with pytest.raises(StoreError, match="is full"):
        acts[write]()
    node.store.database.connection.execute("pragma max_page_count=1000000")
    assert node.store.answer(number) is None
    node.drain()
    assert node.ids() == ["x"]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A store whose place is taken by a file, or cannot be made, is an error that names it."""
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(StoreError, match="file"):
        Store(tmp_path / "file", identity="m", new_id="w")


@pytest.mark.parametrize("bytes", [b"\0" * 8192, b"not a database, but long enough to look at" * 200])
def test_damaged_database_is_named(tmp_path: Path, bytes: bytes) -> None:
    """A damaged outbox is named with its remedy; it is neither emptied nor replaced."""
    (tmp_path / "outbox.db").write_bytes(bytes)
    with pytest.raises(StoreError, match="damaged") as caught:
        Store(tmp_path, identity="m", new_id="w")
    assert "Move the folder aside" in (caught.value.remedy or "")
    assert (tmp_path / "outbox.db").read_bytes() == bytes


def test_copy_on_another_machine_is_reborn(store: Store) -> None:
    """A store that finds itself on another machine takes a new writer id and closes the old one."""
    ask(store, "a")
    OPEN.append(Store(store.folder, identity="other machine", new_id="second"))
    outbox = OPEN[-1].look()
    assert (outbox.writer, outbox.closes, outbox.entries[0].writer) == ("second", ("first",), "first")

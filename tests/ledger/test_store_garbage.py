"""A store whose files hold garbage: its own error names it, and nothing hangs or ends in a traceback."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import StoreError
from pipeline.ledger.store import Store
from pipeline.records.ledger import Evidence
from tests.garbage import bytes_like
from tests.ledger.toy import WHEN

EVIDENCE = Evidence(now=WHEN, random="0" * 32)
USES: list[Callable[[Store], object]] = [
    lambda store: store.look(),
    lambda store: store.entries(),
    lambda store: store.tip(),
    lambda store: store.answer(1),
    lambda store: store.observation("heartbeat/build2"),
    lambda store: store.spend(1000.0, 1.0, 2),
    lambda store: store.begin_attempt("p", "first", {1: 0}),
    lambda store: store.settle("first", {"a": {"ok": True}}, ("p", "c")),
    lambda store: store.rebirth("first", "second", {}),
    lambda store: store.advance_tip(None, "c" * 40),
    lambda store: store.enqueue("deliver", "c", {"kind": "x"}, EVIDENCE, "me"),
    lambda store: store.take(1),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store that holds two entries, a payload and an observation."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    store = Store(folder, identity="machine", new_id="first")
    store.enqueue("deliver", "a", {"kind": "x"}, EVIDENCE, "me", {"log": b"text" * 500})
    store.enqueue("attached", "b", {"kind": "y"}, EVIDENCE, "me")
    store.observe("heartbeat/build2", {"oid": "x", "since": 1.0, "boot": "b", "changed": True})
    store.settle("first", {"b": {"ok": True}})
    with store.database.write() as db:
        db.execute("insert or replace into meta values ('budget', '1000.5')")
    store.close()
    with closing(sqlite3.connect(folder / "outbox.db")) as db:
        db.execute("pragma wal_checkpoint(truncate)")
    return folder / "outbox.db"


def use(folder: Path) -> None:
    """Opens a store and does everything with it; whatever is refused names the folder."""
    refused: list[StoreError] = []
    try:
        store = Store(folder, identity="machine", new_id="again")
    except StoreError as exc:
        refused.append(exc)
    else:
        with closing(store):
            for act in USES:
                try:
                    act(store)
                except StoreError as exc:
                    refused.append(exc)
    assert all(str(folder) in error.message for error in refused)


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_database_is_named(whole: Path, data: st.DataObject) -> None:
    """Whatever became of the file's bytes, each use of it works or says that the outbox is damaged."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        folder.mkdir()
        (folder / "outbox.db").write_bytes(data.draw(bytes_like(whole.read_bytes())))
        use(folder)


COLUMNS = ["op", "kind", "writer", "base", "request", "evidence", "asker", "version", "doubt", "outcome"]
VALUES: list[Any] = [
    None,
    7,
    1.5,
    b"\xff",
    "",
    "x",
    "[]",
    "null",
    "{",
    '"x"',
    "[" * 3000,
    "-1",
    "nan",
    "inf",
    b"{}",
]


@settings(max_examples=60)
@given(column=st.sampled_from(COLUMNS), value=st.sampled_from(VALUES))
def test_odd_values_in_an_entry_are_named(whole: Path, column: str, value: Any) -> None:
    """A column with something else in it is read as what it can be, or is damage with the folder's name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        folder.mkdir()
        shutil.copy(whole, folder / "outbox.db")
        with (
            closing(sqlite3.connect(folder / "outbox.db")) as db,
            contextlib.suppress(sqlite3.IntegrityError),
        ):
            db.execute(f"update entries set {column}=? where sequence=1", (value,))
            db.commit()
        use(folder)


@settings(max_examples=40)
@given(
    key=st.sampled_from(["writer", "known", "closes", "tip", "budget", "identity"]),
    value=st.sampled_from(VALUES),
)
def test_odd_values_in_the_facts_are_named(whole: Path, key: str, value: Any) -> None:
    """The same for what the store knows about itself; None stands for a fact that is gone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        folder.mkdir()
        shutil.copy(whole, folder / "outbox.db")
        with closing(sqlite3.connect(folder / "outbox.db")) as db:
            db.execute("delete from meta where key=?", (key,))
            if value is not None:
                db.execute("insert into meta values (?, ?)", (key, value))
            db.commit()
        use(folder)


@pytest.mark.parametrize("value", VALUES)
def test_odd_observations_are_named(whole: Path, tmp_path: Path, value: Any) -> None:
    """An observation that is no mapping is damage."""
    shutil.copy(whole, tmp_path / "outbox.db")
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as db:
        db.execute("update observations set value=?", (value,))
        db.commit()
    with closing(Store(tmp_path, identity="machine", new_id="x")) as store:
        with pytest.raises(StoreError, match="damaged"):
            store.observation("heartbeat/build2")
        assert store.observation("heartbeat/build1") is None


def test_text_that_is_none_is_no_damage(tmp_path: Path) -> None:
    """Half a character in a request is told as such, and nothing of it is kept."""
    with closing(Store(tmp_path / "store", identity="machine", new_id="x")) as store:
        with pytest.raises(StoreError, match="keeps text only"):
            store.enqueue("deliver", "a", {"kind": "\ud800"}, EVIDENCE, "me")
        assert store.entries() == []


@pytest.mark.parametrize("kind", ["fifo", "folder", "link to nothing"])
def test_what_is_no_database_hangs_nobody(tmp_path: Path, kind: str) -> None:
    """A FIFO, a folder or a link to nowhere in the database's place ends at once."""
    place = tmp_path / "store" / "outbox.db"
    place.parent.mkdir()
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("nothing/there")
    with pytest.raises(StoreError) as refused:
        Store(tmp_path / "store", identity="machine", new_id="x")
    assert str(tmp_path / "store") in refused.value.message


@pytest.mark.parametrize("data", [b"", b"x", b"nan", b"\xff" * 40, b"1e999"])
def test_garbage_in_the_leaders_lock_keeps_nobody_from_leading(tmp_path: Path, data: bytes) -> None:
    """A lock file that nobody holds is taken, whatever is in it."""
    with closing(Store(tmp_path / "store", identity="machine", new_id="x")) as store:
        (tmp_path / "store" / "leader.lock").write_bytes(data)
        with store.leader_lock.try_hold(1000.0, 15.0) as leads:
            assert leads

"""The outbox: what this builder wants in the ledger, kept on local disk until it is there. ONE state machine.

                       begin_attempt              finish_attempt              take
    enqueue ──► pending ───────────► attempted ──────────────────► answered ────────► (gone)
                 │  ▲                    │                            ▲
                 │  └────────────────────┘                            │
                 │     abandon_attempt (the branch moved on without it)
                 ├────────────────────────────────────────────────────┘
                 │     answer_unpushed (a refusal, on a tip read after the request; or found in history)
                 └──► (gone)  drop (an attached entry whose asker is gone, never pushed)

Every arrow is one SQLite transaction that checks the state it starts from, so it is a compare-and-swap
between all processes of the builder; the lock of the leader only saves work.

Guarantees (each named after the test in tests/ledger/test_store.py that proves it):
  * a number is given once, in the transaction that publishes the entry, and kept for ever;
  * an entry is durable before `enqueue` returns, an attempt with its objects before anything is pushed,
    an answer before it is given (WAL with synchronous=FULL: one fsync each);
  * at most one attempt is open, and no entry of it can be answered in any other way meanwhile;
  * a finished entry is never attempted again, however late a stopped leader wakes up.
Non-guarantees: `take` may be forgotten in a power loss (the entry is then offered again); nothing here
knows whether an attempt reached the remote; a copy of this directory that runs elsewhere is noticed by the
machine it runs on or by the ledger, not by the disk.

kinds: *deliver* must arrive, whoever carries it; *attached* is worth nothing once its asker is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline.errors import StoreError
from pipeline.ledger.chain import Item
from pipeline.ledger.objects import Object
from pipeline.records.ledger import Evidence

Kind = Literal["deliver", "attached"]

_SCHEMA = """
create table if not exists meta (key text primary key, value text);
create table if not exists entries (
  sequence integer primary key autoincrement, op text unique not null, kind text not null, base text,
  request text not null, evidence text not null, asker text not null, state text not null default 'pending',
  attempt text, outcome text, searched integer not null default 0);
create table if not exists payloads (sequence integer, name text, data blob, primary key (sequence, name));
create table if not exists attempts (
  commit_id text primary key, parent text, writer text not null, uncertain integer not null default 0);
create table if not exists objects (commit_id text, oid text, kind text, data blob);
create table if not exists observations (name text primary key, value text);
"""


@dataclass(frozen=True)
class Entry(Item):
    """One request in the outbox. `searched`: it must first be looked for in the history (rebirth)."""

    kind: Kind
    base: str | None
    asker: str
    state: str
    searched: bool
    outcome: dict[str, Any] | None


class Attempt(NamedTuple):
    """A commit that was, or is about to be, pushed. `uncertain`: an answer of an earlier push is missing."""

    commit: str
    parent: str | None
    writer: str
    uncertain: bool


class Marks(NamedTuple):
    """Read in one go: the writer id, whether the ledger ever knew it, and the last tip seen."""

    writer: str
    known: bool
    tip: str | None
    closes: tuple[str, ...]


class Store:
    """One builder's outbox in a directory on local disk. Open one per thread."""

    def __init__(self, folder: Path, *, identity: str, new_id: str) -> None:
        """Opens or makes the store.

        `identity` names the machine (its id); a store that was made on another one is a copy, and is
        reborn. `new_id` is a fresh random writer id, used if one is needed. Raises StoreError.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / "outbox.db", timeout=30, isolation_level=None)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=full")
            if self._db.execute("pragma user_version").fetchone()[0] == 0:
                self._db.executescript("begin immediate;" + _SCHEMA + "pragma user_version=1; commit;")
        except (sqlite3.Error, OSError) as exc:
            raise _translated(exc, folder) from exc
        with self._write() as db:
            made_by = _meta(db, "identity")
            if made_by is None:
                _set(db, identity=identity, writer=new_id, known="0", closes="[]")
            elif made_by != identity:
                _set(db, identity=identity)
                _be_reborn(db, new_id)

    def close(self) -> None:
        """Closes the database."""
        self._db.close()

    # ------------------------------------------------------------ the arrows

    def enqueue(
        self,
        kind: Kind,
        op: str,
        request: Mapping[str, Any],
        evidence: Evidence,
        asker: str,
        payloads: Mapping[str, bytes] | None = None,
    ) -> int:
        """-> pending. Gives the entry its number, in the transaction that publishes it."""
        with self._write() as db:
            base = _meta(db, "tip")
            sequence = db.execute(
                "insert into entries (op, kind, base, request, evidence, asker) values (?,?,?,?,?,?)",
                (op, kind, base, _json(request), evidence.model_dump_json(), asker),
            ).lastrowid
            for name, data in (payloads or {}).items():
                db.execute("insert into payloads values (?,?,?)", (sequence, name, data))
        assert sequence is not None
        return sequence

    def begin_attempt(self, attempt: Attempt, entries: Sequence[int], objects: Sequence[Object]) -> bool:
        """pending -> attempted, all or none. False: another leader was quicker, or the store was reborn."""
        with self._write() as db:
            if _meta(db, "writer") != attempt.writer or db.execute("select 1 from attempts").fetchone():
                return False
            for sequence in entries:
                moved = db.execute(
                    "update entries set state='attempted', attempt=? where sequence=? and state='pending'",
                    (attempt.commit, sequence),
                )
                if moved.rowcount != 1:
                    db.execute("rollback")
                    return False
            db.execute(
                "insert into attempts values (?,?,?,?)", (attempt.commit, attempt.parent, attempt.writer, 0)
            )
            db.executemany(
                "insert into objects values (?,?,?,?)",
                [(attempt.commit, o.oid, o.kind, o.data) for o in objects],
            )
        return True

    def finish_attempt(
        self, commit: str, outcomes: Mapping[int, dict[str, Any]], tip: str | None = None
    ) -> None:
        """attempted -> answered, for an attempt that is in the chain. `tip` is the new mark, if it is one."""
        with self._write() as db:
            closed = db.execute("select parent from attempts where commit_id=?", (commit,)).fetchone()
            if closed is None:
                return
            for sequence, outcome in outcomes.items():
                db.execute(
                    "update entries set state='answered', outcome=?"
                    " where sequence=? and attempt=? and state='attempted'",
                    (_json(outcome), sequence, commit),
                )
            _close(db, commit)
            _set(db, known="1", closes="[]")
            if tip is not None and _meta(db, "tip") == closed[0]:
                _set(db, tip=tip)

    def abandon_attempt(self, commit: str) -> None:
        """attempted -> pending, for an attempt that can never be applied any more."""
        with self._write() as db:
            db.execute(
                "update entries set state='pending', attempt=null where attempt=? and state='attempted'",
                (commit,),
            )
            _close(db, commit)

    def answer_unpushed(self, writer: str, outcomes: Mapping[int, dict[str, Any]]) -> None:
        """pending -> answered, without a commit. An entry that is no longer pending is left alone."""
        with self._write() as db:
            if _meta(db, "writer") != writer:
                return
            for sequence, outcome in outcomes.items():
                db.execute(
                    "update entries set state='answered', outcome=? where sequence=? and state='pending'",
                    (_json(outcome), sequence),
                )

    def drop(self, sequence: int) -> bool:
        """pending -> gone, for an attached entry whose asker gave up. False: it is no longer pending."""
        with self._write() as db:
            return _remove(db, sequence, "pending")

    def take(self, sequence: int) -> None:
        """answered -> gone: the asker has its answer. Not durable; offered again after a power loss."""
        self._db.execute("pragma synchronous=normal")
        try:
            with self._write() as db:
                _remove(db, sequence, "answered")
        finally:
            self._db.execute("pragma synchronous=full")

    def doubt_attempt(self, commit: str) -> None:
        """Notes that a push of this attempt was never answered, so it may be applied later."""
        with self._write() as db:
            db.execute("update attempts set uncertain=1 where commit_id=?", (commit,))

    def rebirth(self, writer: str, new_id: str) -> bool:
        """Puts a writer id aside for a new one; every entry is searched for in history from now on.

        False: another process has done it already. Closes no attempt: the attempt's entries are pending
        again and are found in the history if it was applied.
        """
        with self._write() as db:
            if _meta(db, "writer") != writer:
                return False
            _be_reborn(db, new_id)
        return True

    # ------------------------------------------------------------ reading

    def marks(self) -> Marks:
        """Returns the writer id, whether the ledger knows it, the last tip seen, and writers to close."""
        with self._read() as db:
            rows = dict(db.execute("select key, value from meta").fetchall())
        return Marks(rows["writer"], rows["known"] == "1", rows.get("tip"), tuple(json.loads(rows["closes"])))

    def open_entries(self) -> list[Entry]:
        """Returns the pending entries in the order of their numbers."""
        return self._entries("state='pending'")

    def entries(self) -> list[Entry]:
        """Returns all entries that the outbox holds."""
        return self._entries("1=1")

    def entry(self, sequence: int) -> Entry | None:
        """Returns one entry, or None for one that is gone."""
        found = self._entries("sequence=?", sequence)
        return found[0] if found else None

    def answer(self, sequence: int) -> dict[str, Any] | None:
        """Returns an entry's outcome once it is answered."""
        with self._read() as db:
            row = db.execute(
                "select outcome from entries where sequence=? and state='answered'", (sequence,)
            ).fetchone()
        return json.loads(row[0]) if row else None

    def floor(self) -> int:
        """Returns the number just below the oldest entry that is held: what may count as settled."""
        with self._read() as db:
            oldest = db.execute("select min(sequence) from entries").fetchone()[0]
            if oldest is None:
                oldest = (
                    db.execute("select seq from sqlite_sequence where name='entries'").fetchone() or (0,)
                )[0] + 1
        return int(oldest) - 1

    def attempt(self) -> tuple[Attempt, list[Object], list[tuple[int, str]]] | None:
        """Returns the open attempt, its objects, and its entries as (sequence, op)."""
        with self._read() as db:
            row = db.execute("select commit_id, parent, writer, uncertain from attempts").fetchone()
            if row is None:
                return None
            objects = db.execute(
                "select oid, kind, data from objects where commit_id=?", (row[0],)
            ).fetchall()
            held = db.execute(
                "select sequence, op from entries where attempt=? order by sequence", (row[0],)
            ).fetchall()
        return Attempt(row[0], row[1], row[2], bool(row[3])), [Object(*o) for o in objects], held

    def advance_tip(self, seen: str | None, tip: str) -> bool:
        """Moves the mark from `seen` to a descendant of it. False: another process moved it meanwhile."""
        with self._write() as db:
            if _meta(db, "tip") != seen:
                return False
            _set(db, tip=tip)
        return True

    def observe(self, name: str, value: Mapping[str, Any] | None) -> None:
        """Keeps an observation for a later command (None forgets it)."""
        with self._write() as db:
            if value is None:
                db.execute("delete from observations where name=?", (name,))
            else:
                db.execute("insert or replace into observations values (?,?)", (name, _json(value)))

    def observation(self, name: str) -> dict[str, Any] | None:
        """Returns a kept observation."""
        with self._read() as db:
            row = db.execute("select value from observations where name=?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    # ------------------------------------------------------------ the leader's lock, which only saves work

    @contextmanager
    def leading(self) -> Iterator[bool]:
        """Yields True to the one process that leads now, False to the others, without waiting."""
        handle = os.open(self.folder / "leader.lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                os.utime(handle)
                yield True
        finally:
            os.close(handle)

    def leader_age(self, now: float) -> float:
        """Returns the seconds since somebody began to lead, by the wall clock of this machine alone."""
        try:
            return now - (self.folder / "leader.lock").stat().st_mtime
        except OSError:
            return 0.0

    # ------------------------------------------------------------ below

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("begin immediate")
            try:
                yield self._db
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise
            if self._db.in_transaction:
                self._db.execute("commit")
        except (sqlite3.Error, OSError) as exc:
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise _translated(exc, self.folder) from exc

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("begin")
            try:
                yield self._db
            finally:
                self._db.execute("rollback")
        except sqlite3.Error as exc:
            raise _translated(exc, self.folder) from exc

    def _entries(self, where: str, *values: object) -> list[Entry]:
        columns = "sequence, op, kind, base, request, evidence, asker, state, searched, outcome"
        with self._read() as db:
            rows = db.execute(
                f"select {columns} from entries where {where} order by sequence", values
            ).fetchall()
            wanted = {row[0] for row in rows}
            payloads: dict[int, dict[str, bytes]] = {}
            if wanted:
                for sequence, name, data in db.execute("select sequence, name, data from payloads"):
                    payloads.setdefault(sequence, {})[name] = data
        return [
            Entry(
                sequence=row[0],
                op=row[1],
                request=json.loads(row[4]),
                evidence=Evidence.model_validate_json(row[5]),
                payloads=payloads.get(row[0], {}),
                kind=row[2],
                base=row[3],
                asker=row[6],
                state=row[7],
                searched=bool(row[8]),
                outcome=json.loads(row[9]) if row[9] else None,
            )
            for row in rows
        ]


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _meta(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("select value from meta where key=?", (key,)).fetchone()
    return row[0] if row else None


def _set(db: sqlite3.Connection, **values: str) -> None:
    db.executemany("insert or replace into meta values (?,?)", list(values.items()))


def _close(db: sqlite3.Connection, commit: str) -> None:
    db.execute("delete from attempts where commit_id=?", (commit,))
    db.execute("delete from objects where commit_id=?", (commit,))


def _remove(db: sqlite3.Connection, sequence: int, state: str) -> bool:
    gone = db.execute("delete from entries where sequence=? and state=?", (sequence, state)).rowcount == 1
    if gone:
        db.execute("delete from payloads where sequence=?", (sequence,))
    return gone


def _be_reborn(db: sqlite3.Connection, new_id: str) -> None:
    closes = [*json.loads(_meta(db, "closes") or "[]"), _meta(db, "writer")]
    _set(db, writer=new_id, known="0", closes=_json(closes))
    db.execute("update entries set state='pending', attempt=null where state='attempted'")
    db.execute("update entries set searched=1 where state='pending'")
    db.execute("delete from attempts")
    db.execute("delete from objects")


def _translated(error: Exception, folder: Path) -> StoreError:
    text = str(error)
    if "full" in text or "No space" in text:
        return StoreError(
            f"The disk of the outbox {folder} is full.", remedy="Free space there; nothing was lost."
        )
    if "readonly" in text or "Read-only" in text or "unable to open" in text or "Permission" in text:
        return StoreError(
            f"The outbox {folder} cannot be written: {text}.", remedy="Give this user write access."
        )
    if "malformed" in text or "not a database" in text:
        return StoreError(
            f"The outbox {folder}/outbox.db is damaged: {text}.",
            remedy="Move the folder aside; the next command makes a new one, without what waited in this one.",
        )
    return StoreError(f"The outbox {folder} failed: {text}.", remedy="Run the command again.")

"""The outbox: what this builder wants in the ledger, kept on local disk until it is there. ONE state machine.

               begin_attempt                  settle                    take
    enqueue ──► waiting ──────────► doubtful ───────────► answered ───────────► (gone)
                 │ │  ▲              │  ▲ │                  ▲
                 │ │  └──────────────┘  └─┘ begin_attempt    │
                 │ │   clear_attempt                         │
                 │ └─────────────────────────────────────────┘
                 │     answer_unpushed (a refusal), settle (found in the chain)
                 └──► (gone)  drop (an attached entry whose asker is gone, never pushed)

*Doubtful* with `doubt` = P: a push of a commit on parent P that holds the entry was begun, and may be applied
as long as the branch stands at P. So the doubt ends by itself: a later tip either has the entry in its
completion records or will never have it from that push. A push on the same P that lands settles it as well.

Every arrow is one SQLite transaction that compares the entry's version and raises it: a compare-and-swap
between all processes of the builder. The lock of the leader only saves work.

Guarantees (tests/ledger/test_store.py):
  * a number is given once, in the transaction that publishes the entry, and kept for ever;
  * an entry and its doubt are on disk before anything is pushed, a refusal before it is given;
  * who decides on what an entry was cannot answer it after another leader has pushed it.
Non-guarantees: the answer to what has landed and `take` may be forgotten in a power loss; the first is then
found again in the chain, which keeps it until the entry is taken, and the second offered again. A copy of
this directory that runs elsewhere is noticed by the machine it runs on or by the ledger, not by the disk.

kinds: *deliver* must arrive, whoever carries it; *attached* is worth nothing once its asker is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline.edge.disk import flush_folder, network_filesystem
from pipeline.errors import StoreError
from pipeline.ledger.chain import Item
from pipeline.records.ledger import Evidence

Kind = Literal["deliver", "attached"]

_SCHEMA = """
create table if not exists meta (key text primary key, value text);
create table if not exists entries (
  sequence integer primary key autoincrement, op text unique not null, kind text not null,
  writer text not null, base text, request text not null, evidence text not null, asker text not null,
  version integer not null default 0, doubt text, outcome text);
create table if not exists payloads (sequence integer, name text, data blob, primary key (sequence, name));
create table if not exists observations (name text primary key, value text);
"""
_COLUMNS = "sequence, op, request, evidence, kind, writer, base, asker, version, doubt, outcome"


@dataclass(frozen=True)
class Entry(Item):
    """One request in the outbox. `writer` and `base` are the store's id and last tip when it was made."""

    kind: Kind
    writer: str
    base: str | None
    asker: str
    version: int
    doubt: str | None
    outcome: dict[str, Any] | None


class Outbox(NamedTuple):
    """Read in one go: the writer id, whether the ledger ever knew it, the writer ids that it replaces, the
    last tip seen, the number below the oldest entry held (of any use only if there is one), and the entries
    without an answer, in order.
    """

    writer: str
    known: bool
    closes: tuple[str, ...]
    tip: str | None
    floor: int
    entries: list[Entry]


class Store:
    """One builder's outbox in a directory on local disk. Open one per thread."""

    def __init__(self, folder: Path, *, identity: str, new_id: str) -> None:
        """Opens or makes the store.

        `identity` names the machine (its id); a store that was made on another one is a copy, and is
        reborn. `new_id` is a fresh random writer id, used if one is needed. Raises StoreError.
        """
        self.folder = folder
        try:
            new = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            kind = network_filesystem(folder)
            if kind:
                raise StoreError(
                    f"The outbox {folder} lies on a network file system ({kind}), where locks do not hold.",
                    remedy="Put `home` on a local disk.",
                )
            self._db = sqlite3.connect(folder / "outbox.db", timeout=30, isolation_level=None)
        except (sqlite3.Error, OSError) as exc:
            raise _translated(exc, folder) from exc
        try:
            self._set_up(identity, new_id)
            if new:
                flush_folder(folder.parent)
        except BaseException:
            self._db.close()
            raise

    def _set_up(self, identity: str, new_id: str) -> None:
        try:
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=normal")
            if self._db.execute("pragma user_version").fetchone()[0] == 0:
                self._db.executescript("begin immediate;" + _SCHEMA + "pragma user_version=1; commit;")
            made_by = _meta(self._db, "identity")
        except (sqlite3.Error, OSError) as exc:
            raise _translated(exc, self.folder) from exc
        if made_by == identity:
            return
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
        *,
        durable: bool = True,
    ) -> int:
        """-> waiting. Gives the entry its number, in the transaction that publishes it.

        One that is not `durable` by itself is made so by `begin_attempt`, before anything is pushed.
        """
        with self._write(durable) as db:
            meta = _all_meta(db)
            made_in = meta["writer"], meta.get("tip")
            sequence = db.execute(
                "insert into entries (op, kind, writer, base, request, evidence, asker)"
                " values (?,?,?,?,?,?,?)",
                (op, kind, *made_in, _json(request), evidence.model_dump_json(), asker),
            ).lastrowid
            for name, data in (payloads or {}).items():
                db.execute("insert into payloads values (?,?,?)", (sequence, name, data))
        assert sequence is not None
        return sequence

    def begin_attempt(self, parent: str, writer: str, versions: Mapping[int, int]) -> bool:
        """waiting, doubtful -> doubtful, all or none. False: another leader was quicker, or a rebirth."""
        with self._write() as db:
            if _meta(db, "writer") != writer:
                return False
            for sequence, version in versions.items():
                if not _move(db, sequence, version, doubt=parent):
                    db.execute("rollback")
                    return False
        return True

    def clear_attempt(self, versions: Mapping[int, int], doubts: Mapping[int, str | None]) -> None:
        """doubtful -> as before the attempt, for one that the remote has turned down in so many words."""
        with self._write() as db:
            for sequence, version in versions.items():
                _move(db, sequence, version + 1, doubt=doubts[sequence])

    def settle(
        self, writer: str, outcomes: Mapping[str, dict[str, Any]], landed: tuple[str, str] | None = None
    ) -> None:
        """waiting, doubtful -> answered, for operations (op -> outcome) that are in the chain.

        `landed` is (parent, commit) of the push that put them there; the mark moves with it. What is in the
        chain is so whoever finds it, so no version is compared.
        """
        with self._write(durable=False) as db:
            for op, outcome in outcomes.items():
                db.execute(
                    "update entries set outcome=?, version=version+1 where op=? and outcome is null",
                    (_json(outcome), op),
                )
            meta = _all_meta(db)
            if landed and meta["writer"] == writer and meta["known"] == "0":
                _set(db, known="1", closes="[]")
            if landed and meta.get("tip") == landed[0]:
                _set(db, tip=landed[1])

    def answer_unpushed(
        self, writer: str, versions: Mapping[int, int], outcomes: Mapping[int, dict[str, Any]]
    ) -> None:
        """waiting, doubtful -> answered, without a commit. An entry that has moved since is left alone."""
        with self._write() as db:
            if _meta(db, "writer") == writer:
                for sequence, version in versions.items():
                    _move(db, sequence, version, outcome=_json(outcomes[sequence]))

    def drop(self, sequence: int) -> bool:
        """waiting -> gone, for an attached entry whose asker is gone. False: it was pushed, or answered."""
        with self._write() as db:
            return _remove(db, sequence, "outcome is null and doubt is null")

    def disown(self, sequence: int) -> None:
        """Notes that nobody waits for this entry any more; whoever drains or delivers next deals with it."""
        with self._write() as db:
            db.execute("update entries set asker='', version=version+1 where sequence=?", (sequence,))

    def take(self, sequence: int) -> None:
        """answered -> gone: the asker has its answer."""
        with self._write(durable=False) as db:
            _remove(db, sequence, "outcome is not null")

    def rebirth(self, writer: str, new_id: str, versions: Mapping[int, int]) -> bool:
        """Puts a writer id aside for a new one; what it had asked is looked for in the history from now on.

        False: not what the caller has seen. Another process was reborn, or has moved one of these entries.
        """
        with self._write() as db:
            if _meta(db, "writer") != writer:
                return False
            for sequence, version in versions.items():
                if not _move(db, sequence, version):
                    db.execute("rollback")
                    return False
            _be_reborn(db, new_id)
        return True

    def accept_rewind(self, seen: str, tip: str, new_id: str) -> bool:
        """Moves the mark to a tip that does not descend from it, and is reborn. False: the mark moved."""
        with self._write() as db:
            if _meta(db, "tip") != seen:
                return False
            _be_reborn(db, new_id)
            _set(db, tip=tip)
        return True

    def advance_tip(self, seen: str | None, tip: str) -> bool:
        """Moves the mark from `seen` to a descendant of it. False: another process moved it meanwhile."""
        with self._write(durable=False) as db:
            if _meta(db, "tip") != seen:
                return False
            _set(db, tip=tip)
        return True

    def spend(self, now: float, interval: float, burst: int) -> float:
        """Takes one push out of the builder's budget; returns the seconds to wait when it is used up.

        The bucket is kept as the moment when it will be full again (the generic cell rate algorithm), in
        seconds since boot; a moment out of reach is of another boot.
        """
        with self._write(durable=False) as db:
            full_at = float(_meta(db, "budget") or 0.0)
            if full_at > now + interval * (burst + 1):
                full_at = now
            wait = max(full_at, now) + interval - burst * interval - now
            if wait <= 0:
                _set(db, budget=str(max(full_at, now) + interval))
        return max(wait, 0.0)

    # ------------------------------------------------------------ reading

    def look(self) -> Outbox:
        """Returns what a leader has to know, as of one moment."""
        with self._read() as db:
            meta = _all_meta(db)
            entries = _entries(db, "outcome is null")
            oldest = db.execute("select min(sequence) from entries").fetchone()[0] or 0
        closes = tuple(json.loads(meta["closes"]))
        return Outbox(meta["writer"], meta["known"] == "1", closes, meta.get("tip"), oldest - 1, entries)

    def tip(self) -> str | None:
        """Returns the last tip seen: the mark that tells a rewind."""
        with self._read(one=True) as db:
            return _meta(db, "tip")

    def entries(self) -> list[Entry]:
        """Returns all entries that the outbox holds, in the order of their numbers."""
        with self._read() as db:
            return _entries(db, "1=1")

    def answer(self, sequence: int) -> dict[str, Any] | None:
        """Returns an entry's outcome once it is answered. Raises StoreError for an entry that is gone."""
        with self._read(one=True) as db:
            row = db.execute("select outcome from entries where sequence=?", (sequence,)).fetchone()
        if row is None:
            raise StoreError(
                f"Entry {sequence} left the outbox {self.folder} without its asker.",
                remedy="Look at the ledger's history (`invoke ledger.log`) before you ask again.",
            )
        return json.loads(row[0]) if row[0] else None

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
    def leading(self, now: float, deadline: float) -> Iterator[bool]:
        """Yields True to the one process that leads, False to the others, without waiting.

        `now` is in seconds since boot. A leader that has shown no life for `deadline` seconds (Ctrl-Z) is
        passed over: its lock file is unlinked, and the next who comes leads under a new one.
        """
        place = self.folder / "leader.lock"
        try:
            handle = os.open(place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise _translated(exc, self.folder) from exc
        try:
            leads = _try_lock(handle)
            if leads:
                self._leader = handle
                self.show_life(now)
            elif _last_life(handle, now) < now - deadline and _is_at(handle, place):
                place.unlink(missing_ok=True)
            yield leads
        finally:
            self._leader = None
            os.close(handle)

    _leader: int | None = None

    def show_life(self, now: float) -> None:
        """Says that this process, if it leads, is not stopped."""
        if self._leader is not None:
            os.pwrite(self._leader, b"%-31.3f\n" % now, 0)

    # ------------------------------------------------------------ below

    @contextmanager
    def _write(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        db = self._db
        try:
            if durable:
                db.execute("pragma synchronous=full")
            try:
                db.execute("begin immediate")
                yield db
                if db.in_transaction:
                    db.execute("commit")
            finally:
                if db.in_transaction:
                    db.execute("rollback")
                if durable:
                    db.execute("pragma synchronous=normal")
        except (sqlite3.Error, OSError) as exc:
            raise _translated(exc, self.folder) from exc

    @contextmanager
    def _read(self, *, one: bool = False) -> Iterator[sqlite3.Connection]:
        """Yields the database as of one moment; `one` statement needs no transaction for that."""
        try:
            if not one:
                self._db.execute("begin")
            try:
                yield self._db
            finally:
                if not one:
                    self._db.execute("rollback")
        except (sqlite3.Error, ValueError) as exc:
            raise _translated(exc, self.folder) from exc


def _entries(db: sqlite3.Connection, where: str) -> list[Entry]:
    rows = db.execute(f"select {_COLUMNS} from entries where {where} order by sequence").fetchall()
    payloads: dict[int, dict[str, bytes]] = {}
    for sequence, name, data in db.execute("select sequence, name, data from payloads") if rows else ():
        payloads.setdefault(sequence, {})[name] = data
    return [
        Entry(
            sequence=row[0],
            op=row[1],
            request=json.loads(row[2]),
            evidence=Evidence.model_validate_json(row[3]),
            payloads=payloads.get(row[0], {}),
            kind=row[4],
            writer=row[5],
            base=row[6],
            asker=row[7],
            version=row[8],
            doubt=row[9],
            outcome=json.loads(row[10]) if row[10] else None,
        )
        for row in rows
    ]


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_life(handle: int, now: float) -> float:
    try:
        return float(os.pread(handle, 32, 0))
    except ValueError:
        return now  # its leader has only just begun


def _is_at(handle: int, place: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == place.stat().st_ino
    except FileNotFoundError:
        return False


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _all_meta(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute("select key, value from meta").fetchall())


def _meta(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("select value from meta where key=?", (key,)).fetchone()
    return row[0] if row else None


def _set(db: sqlite3.Connection, **values: str) -> None:
    db.executemany("insert or replace into meta values (?,?)", list(values.items()))


def _move(db: sqlite3.Connection, sequence: int, version: int, **values: str | None) -> bool:
    """The compare-and-swap of one entry without an answer."""
    changes = "".join(f", {column}=?" for column in values)
    where = "sequence=? and version=? and outcome is null"
    done = db.execute(
        f"update entries set version=version+1{changes} where {where}", (*values.values(), sequence, version)
    )
    return done.rowcount == 1


def _remove(db: sqlite3.Connection, sequence: int, where: str) -> bool:
    gone = db.execute(f"delete from entries where sequence=? and {where}", (sequence,)).rowcount == 1
    if gone:
        db.execute("delete from payloads where sequence=?", (sequence,))
    return gone


def _be_reborn(db: sqlite3.Connection, new_id: str) -> None:
    closes = [*json.loads(_meta(db, "closes") or "[]"), _meta(db, "writer")]
    _set(db, writer=new_id, known="0", closes=_json(closes))


def _translated(error: Exception, folder: Path) -> StoreError:
    text = str(error)
    if "full" in text or "No space" in text or "quota" in text:
        return StoreError(
            f"The disk of the outbox {folder} is full.", remedy="Free space there; nothing was lost."
        )
    if "readonly" in text or "Read-only" in text or "unable to open" in text or "ermission" in text:
        return StoreError(
            f"The outbox {folder} cannot be written: {text}.", remedy="Give this user write access."
        )
    if "malformed" in text or "not a database" in text or isinstance(error, ValueError):
        return StoreError(
            f"The outbox {folder}/outbox.db is damaged: {text}.",
            remedy="Move the folder aside; the next command makes a new one, which lacks what waited here.",
        )
    if "locked" in text:
        return StoreError(
            f"Another process keeps the outbox {folder} locked.",
            remedy="Look for a stopped one (`ps`, state T).",
        )
    return StoreError(f"The outbox {folder} failed: {text}.", remedy="Run the command again.")

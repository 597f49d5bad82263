"""The outbox: what this builder wants in the ledger, kept on local disk until it is there. ONE state machine.

               begin_attempt                  settle                    take
    enqueue ──► waiting ──────────► doubtful ───────────► answered ───────────► (gone)
                 │ │                 │ │ ▲ │                 ▲
                 │ │                 │ │ └─┘ begin_attempt   │
                 │ └─────────────────│─┴─────────────────────┘
                 │                   │  answer_unpushed (a refusal), settle (found in the chain)
                 └───────────────────┴──► (gone)  drop (an attached entry whose asker is gone, and
                                                  that was never pushed, or can no longer land)

*Doubtful* with `doubt` = P: a push of a commit on parent P that holds the entry was begun, and may be applied
as long as the branch stands at P. So the doubt ends by itself: a later tip either has the entry in its
completion records or will never have it from that push. A push on the same P that lands settles it as well.
No answer to the push ends it before: one that was refused, or came too late, may have been sent twice.

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

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pipeline.edge.living_lock import LivingLock
from pipeline.errors import StoreError
from pipeline.ledger.chain import Item
from pipeline.ledger.database import Database, all_meta, get_meta, set_meta
from pipeline.records.ledger import Evidence

Kind = Literal["deliver", "attached"]
J = TypeVar("J")

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
        reborn: `moved` says so. `new_id` is a fresh random writer id, used if one is needed. Raises
        StoreError.
        """
        self.folder = folder
        self.moved = False
        self.leader_lock = LivingLock(folder / "leader.lock")
        self.database = Database(folder)
        try:
            self._be_of(identity, new_id)
        except BaseException:
            self.database.connection.close()
            raise

    def _be_of(self, identity: str, new_id: str) -> None:
        with self.database.read(one=True) as db:
            if get_meta(db, "identity") == identity:
                return
        with self.database.write() as db:
            made_by = get_meta(db, "identity")
            if made_by is None:
                set_meta(db, identity=identity, writer=new_id, known="0", closes="[]")
            elif made_by != identity:
                self.moved = True
                set_meta(db, identity=identity)
                _be_reborn(db, new_id)

    def close(self) -> None:
        """Closes the database."""
        self.database.connection.close()

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
        with self.database.write(durable) as db:
            meta = all_meta(db)
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
        with self.database.write() as db:
            if get_meta(db, "writer") != writer:
                return False
            for sequence, version in versions.items():
                if not _move(db, sequence, version, doubt=parent):
                    db.execute("rollback")
                    return False
        return True

    def settle(
        self, writer: str, outcomes: Mapping[str, dict[str, Any]], landed: tuple[str, str] | None = None
    ) -> None:
        """waiting, doubtful -> answered, for operations (op -> outcome) that are in the chain.

        `landed` is (parent, commit) of the push that put them there; the mark moves with it. What is in the
        chain is so whoever finds it, so no version is compared.
        """
        with self.database.write(durable=False) as db:
            for op, outcome in outcomes.items():
                db.execute(
                    "update entries set outcome=?, version=version+1 where op=? and outcome is null",
                    (_json(outcome), op),
                )
            meta = all_meta(db)
            if landed and meta["writer"] == writer and meta["known"] == "0":
                set_meta(db, known="1", closes="[]")
            if landed and meta.get("tip") == landed[0]:
                set_meta(db, tip=landed[1])

    def answer_unpushed(
        self, writer: str, versions: Mapping[int, int], outcomes: Mapping[int, dict[str, Any]]
    ) -> None:
        """waiting, doubtful -> answered, without a commit. An entry that has moved since is left alone."""
        with self.database.write() as db:
            if get_meta(db, "writer") == writer:
                for sequence, version in versions.items():
                    _move(db, sequence, version, outcome=_json(outcomes[sequence]))

    def drop(self, sequence: int, dead: int | None = None) -> bool:
        """waiting -> gone, for an attached entry whose asker is gone. False: it was pushed, or answered.

        doubtful -> gone as well with `dead`, the version at which a leader found that its push is dead: the
        mark has left its parent, and the chain lacks it. False then also for one that has moved since.
        """
        over = "doubt is null" if dead is None else f"version={dead:d}"
        with self.database.write() as db:
            return _remove(db, sequence, f"outcome is null and {over}")

    def disown(self, sequence: int) -> None:
        """Notes that nobody waits for this entry any more; whoever drains or delivers next deals with it."""
        with self.database.write() as db:
            db.execute("update entries set asker='', version=version+1 where sequence=?", (sequence,))

    def take(self, sequence: int) -> None:
        """answered -> gone: the asker has its answer."""
        with self.database.write(durable=False) as db:
            _remove(db, sequence, "outcome is not null")

    def rebirth(self, writer: str, new_id: str, versions: Mapping[int, int]) -> bool:
        """Puts a writer id aside for a new one; what it had asked is looked for in the history from now on.

        False: not what the caller has seen. Another process was reborn, or has moved one of these entries.
        """
        with self.database.write() as db:
            if get_meta(db, "writer") != writer:
                return False
            for sequence, version in versions.items():
                if not _move(db, sequence, version):
                    db.execute("rollback")
                    return False
            _be_reborn(db, new_id)
        return True

    def accept_rewind(self, seen: str, tip: str, new_id: str, repair: int | None = None) -> bool:
        """Moves the mark to a tip that does not descend from it, and is reborn. False: the mark moved.

        `repair` is the entry that asks for the new epoch. It was made for this and never pushed, so it is
        looked for from `tip` on: what it was made on may be in no clone any more.
        """
        with self.database.write() as db:
            if get_meta(db, "tip") != seen:
                return False
            _be_reborn(db, new_id)
            set_meta(db, tip=tip)
            db.execute("update entries set base=?, version=version+1 where sequence=?", (tip, repair))
        return True

    def advance_tip(self, seen: str | None, tip: str) -> bool:
        """Moves the mark from `seen` to a descendant of it. False: another process moved it meanwhile."""
        with self.database.write(durable=False) as db:
            if get_meta(db, "tip") != seen:
                return False
            set_meta(db, tip=tip)
        return True

    def spend(self, now: float, interval: float, burst: int) -> float:
        """Takes one push out of the builder's budget; returns the seconds to wait when it is used up.

        The bucket is kept as the moment when it will be full again (the generic cell rate algorithm), in
        seconds since boot; a moment out of reach is of another boot.
        """
        with self.database.write(durable=False) as db:
            full_at = float(get_meta(db, "budget") or 0.0)
            if full_at > now + interval * (burst + 1):
                full_at = now
            wait = max(full_at, now) + interval - burst * interval - now
            if wait <= 0:
                set_meta(db, budget=str(max(full_at, now) + interval))
        return max(wait, 0.0)

    # ------------------------------------------------------------ reading

    def look(self) -> Outbox:
        """Returns what a leader has to know, as of one moment."""
        with self.database.read() as db:
            meta = all_meta(db)
            entries = _entries(db, "outcome is null")
            oldest = db.execute("select min(sequence) from entries").fetchone()[0] or 0
            closes = tuple(map(str, _parsed(meta["closes"], list)))
            known = meta["known"] == "1"
            return Outbox(meta["writer"], known, closes, meta.get("tip"), oldest - 1, entries)

    def tip(self) -> str | None:
        """Returns the last tip seen: the mark that tells a rewind."""
        with self.database.read(one=True) as db:
            return get_meta(db, "tip")

    def entries(self) -> list[Entry]:
        """Returns all entries that the outbox holds, in the order of their numbers."""
        with self.database.read() as db:
            return _entries(db, "1=1")

    def answer(self, sequence: int) -> dict[str, Any] | None:
        """Returns an entry's outcome once it is answered. Raises StoreError for an entry that is gone."""
        with self.database.read(one=True) as db:
            row = db.execute("select outcome from entries where sequence=?", (sequence,)).fetchone()
            outcome = _parsed(row[0], dict) if row and row[0] is not None else None
        if row is None:
            raise StoreError(
                f"Entry {sequence} left the outbox {self.folder} without its asker.",
                remedy="Look at the ledger's history (`invoke ledger.log`) before you ask again.",
            )
        return outcome

    def observe(self, name: str, value: Mapping[str, Any] | None) -> None:
        """Keeps an observation for a later command (None forgets it)."""
        with self.database.write() as db:
            if value is None:
                db.execute("delete from observations where name=?", (name,))
            else:
                db.execute("insert or replace into observations values (?,?)", (name, _json(value)))

    def observation(self, name: str) -> dict[str, Any] | None:
        """Returns a kept observation."""
        with self.database.read() as db:
            row = db.execute("select value from observations where name=?", (name,)).fetchone()
            return _parsed(row[0], dict) if row else None


def _parsed(text: object, kind: type[J]) -> J:
    """Returns the JSON of a column. Raises ValueError for anything but text with a value of this kind."""
    value = json.loads(text) if isinstance(text, str) else None
    if not isinstance(value, kind):
        raise ValueError(f"expected JSON of a {kind.__name__}, found {str(text)[:40]!r}")
    return value


def _entries(db: sqlite3.Connection, where: str) -> list[Entry]:
    rows = db.execute(f"select {_COLUMNS} from entries where {where} order by sequence").fetchall()
    payloads: dict[int, dict[str, bytes]] = {}
    for sequence, name, data in db.execute("select sequence, name, data from payloads") if rows else ():
        payloads.setdefault(sequence, {})[name] = data
    return [
        Entry(
            sequence=row[0],
            op=row[1],
            request=_parsed(row[2], dict),
            evidence=Evidence.model_validate_json(row[3]),
            payloads=payloads.get(row[0], {}),
            kind=row[4],
            writer=row[5],
            base=row[6],
            asker=row[7],
            version=row[8],
            doubt=row[9],
            outcome=_parsed(row[10], dict) if row[10] is not None else None,
        )
        for row in rows
    ]


_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


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
    closes = [*_parsed(get_meta(db, "closes") or "[]", list), get_meta(db, "writer")]
    set_meta(db, writer=new_id, known="0", closes=_json(closes))

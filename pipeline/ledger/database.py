"""The outbox's database on local disk: one SQLite file, its transactions, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.edge.disk import flush_folder, network_filesystem
from pipeline.errors import StoreError

_SCHEMA = """
create table if not exists meta (key text primary key, value text);
create table if not exists entries (
  sequence integer primary key autoincrement, op text unique not null, kind text not null,
  writer text not null, base text, request text not null, evidence text not null, asker text not null,
  version integer not null default 0, doubt text, outcome text);
create table if not exists payloads (sequence integer, name text, data blob, primary key (sequence, name));
create table if not exists observations (name text primary key, value text);
"""

#: What a database ends in that somebody, or a broken disk, has written to.
_BROKEN = (sqlite3.Error, ValueError, KeyError, TypeError, OverflowError, RecursionError)


class Database:
    """One connection. Open one per thread. Every method raises StoreError."""

    def __init__(self, folder: Path) -> None:
        """Opens or makes the database."""
        self.folder = folder
        with self._translating():
            new = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            kind = network_filesystem(folder)
            if kind:
                raise StoreError(
                    f"The outbox {folder} lies on a network file system ({kind}), where locks do not hold.",
                    remedy="Put `home` on a local disk.",
                )
            self.connection = sqlite3.connect(folder / "outbox.db", timeout=30, isolation_level=None)
        try:
            with self._translating():
                self.connection.execute("pragma journal_mode=wal")
                self.connection.execute("pragma synchronous=normal")
                if self.connection.execute("pragma user_version").fetchone()[0] == 0:
                    script = "begin immediate;" + _SCHEMA + "pragma user_version=1; commit;"
                    self.connection.executescript(script)
                if new:
                    flush_folder(folder.parent)
        except BaseException:
            self.connection.close()
            raise

    @contextmanager
    def write(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Yields the connection in a transaction of its own, committed at the end unless it was rolled back.

        One that is not `durable` survives a crash of the process, and is on disk with the next that is.
        """
        db = self.connection
        with self._translating():
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

    @contextmanager
    def read(self, *, one: bool = False) -> Iterator[sqlite3.Connection]:
        """Yields the connection as of one moment; `one` statement needs no transaction for that."""
        with self._translating():
            if not one:
                self.connection.execute("begin")
            try:
                yield self.connection
            finally:
                if not one:
                    self.connection.execute("rollback")

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (OSError, *_BROKEN) as exc:
            raise _translated(exc, self.folder) from exc


def all_meta(db: sqlite3.Connection) -> dict[str, str]:
    """Returns everything that the store notes of itself."""
    return {key: _text(value) for key, value in db.execute("select key, value from meta").fetchall()}


def get_meta(db: sqlite3.Connection, key: str) -> str | None:
    """Returns one note, or None."""
    row = db.execute("select value from meta where key=?", (key,)).fetchone()
    return _text(row[0]) if row else None


def set_meta(db: sqlite3.Connection, **values: str) -> None:
    """Replaces notes."""
    db.executemany("insert or replace into meta values (?,?)", list(values.items()))


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"expected text, found {str(value)[:40]!r}")
    return value


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
    if isinstance(error, UnicodeEncodeError):
        return StoreError(
            f"The outbox {folder} keeps text only: {text}.", remedy="Ask again without the characters in it."
        )
    odd = not isinstance(error, sqlite3.Error | OSError)
    if odd or any(
        word in text for word in ("malformed", "not a database", "no such", "UTF-8", "has no column")
    ):
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

"""A builder's store that is not alone, or not what it was: said in words, and nothing is lost or doubled.

Real homes with real stores over one real repository; the commands are those that a person types.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.edge.bare import make_bare
from tests.console.driver import Ended, Run

REBORN = "was restored from a backup, or a copy of it is in use"
RIVAL = "Another store is at work as build1"

#: Runs a command in one of the homes.
At = Callable[..., Ended]


@pytest.fixture
def at(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> At:
    """A runner of command lines in a home that is named first; all share one ledger of build1 and build2."""

    def do(home: str, *words: str) -> Ended:
        monkeypatch.setenv("PIPELINE_HOME", str(tmp_path / home))
        (tmp_path / home).mkdir(exist_ok=True)
        config = f'ledger = "{tmp_path / "ledger.git"}"\nbuilder = "build1"\n'
        (tmp_path / home / "config.toml").write_text(config, encoding="utf-8")
        return run(*words)

    make_bare(tmp_path / "ledger.git")
    assert do("operator", "ledger.init", "--builders", "build1,build2").code == 0
    return do


def send(at: At, home: str, subject: str) -> str:
    """Sends a message from a home and returns what was said to the person."""
    ended = at(home, "message.send", "--to", "build2", "--subject", subject)
    assert ended.code == 0
    return ended.err


def subjects(at: At, home: str) -> list[str]:
    """Returns every message's subject, in the order of the chain; the chain has to hold."""
    checked = at(home, "ledger.check")
    assert (checked.code, checked.err) == (0, "")
    return [each["subject"] for each in at(home, "message.list", "--json").json]


def outbox(tmp_path: Path, home: str) -> Path:
    """Returns the database of a home's outbox."""
    (found,) = (tmp_path / home / "stores").glob("*/build1/outbox.db")
    return found


def copy(of: Path, to: Path) -> None:
    """Copies a database as it is at this moment."""
    with closing(sqlite3.connect(of)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def test_a_store_restored_from_a_backup_is_said(at: At, tmp_path: Path) -> None:
    """The command that finds it out says so on stderr, does what it was asked, and says it once."""
    assert send(at, "one", "a") == ""
    copy(outbox(tmp_path, "one"), tmp_path / "backup.db")
    assert send(at, "one", "b") == ""
    place = outbox(tmp_path, "one")
    for left in place.parent.glob("outbox.db*"):
        left.unlink()
    copy(tmp_path / "backup.db", place)
    said = send(at, "one", "c")
    assert REBORN in said
    assert str(place.parent) in said
    assert send(at, "one", "d") == ""
    assert subjects(at, "one") == ["a", "b", "c", "d"]
    assert RIVAL not in at("one", "status").err


def test_a_copied_store_that_runs_twice_is_said_to_both(at: At, tmp_path: Path) -> None:
    """Each of the two says that it was reborn, and from then on each hears that another one is at work."""
    send(at, "one", "a")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    said = {"one": [send(at, "one", "one0")], "copy": [send(at, "copy", "copy0")]}
    for number in (1, 2):
        for home in ("one", "copy"):
            said[home].append(send(at, home, f"{home}{number}"))
    for home, lines in said.items():
        assert [REBORN in line for line in lines].count(True) == 1, home
    expected = ["a", "one0", "copy0", "one1", "copy1", "one2", "copy2"]
    assert subjects(at, "one") == expected
    for home in ("one", "copy"):
        at(home, "recover")  # the first look of a life proves nothing
    for other, home in (("copy", "one"), ("one", "copy")):
        send(at, other, "again")
        for command in ("recover", "status"):
            ended = at(home, command)
            assert (ended.code, RIVAL in ended.err) == (0, True), command
            assert "name of its own" in ended.err
        assert "identity: used elsewhere" in at(home, "doctor").out
    assert at("one", "recover", "--json").json["rival"] is None


def test_a_store_from_another_machine_is_said(at: At, tmp_path: Path) -> None:
    """A store that wakes up on another machine says so at once, with what may have to be done."""
    send(at, "one", "a")
    with closing(sqlite3.connect(outbox(tmp_path, "one"))) as db:
        db.execute("update meta set value='the machine before' where key='identity'")
        db.commit()
    said = at("one", "status").err
    assert "comes from another machine" in said
    assert "only one of the two may be called build1" in said
    assert send(at, "one", "b") == ""
    assert subjects(at, "one") == ["a", "b"]


def test_a_builders_name_used_from_another_machine_is_said(at: At) -> None:
    """Two machines that were given one name each hear of it as soon as the other has written again."""
    send(at, "one", "a")
    assert RIVAL not in at("one", "recover").err
    send(at, "namesake", "b")
    said = at("one", "recover").err
    assert RIVAL in said
    assert "(message.send)" in said
    assert RIVAL not in at("namesake", "recover").err
    send(at, "one", "c")
    assert RIVAL in at("namesake", "recover").err


def test_a_name_taken_over_from_a_machine_that_is_gone_is_not(at: At) -> None:
    """A new machine under the name of an old one that writes no more hears nothing of it."""
    send(at, "old", "a")
    for subject in ("b", "c"):
        send(at, "new", subject)
        for command in ("recover", "status"):
            assert RIVAL not in at("new", command).err
    assert REBORN not in send(at, "new", "d")

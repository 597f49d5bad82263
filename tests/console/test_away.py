"""While the remote is away: what this machine saw last is shown, with its age and exit code 21."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.console.driver import Run

SHOWING = [["status"], ["job.list"], ["job.list", "--all"], ["message.list"], ["ledger.log"], ["lock.list"]]


@pytest.fixture
def away(run: Run, home: Path) -> Path:
    """Where the ledger of a machine went that had seen one message in it."""
    assert run("sm", "2", "hello").code == 0
    place = home / "away.git"
    (home / ".pipeline/ledger.git").rename(place)
    return place


@pytest.mark.parametrize("words", SHOWING, ids=" ".join)
def test_an_empty_ledger_is_told_in_words(run: Run, words: list[str]) -> None:
    """Right after the beginning each task that shows says that there is nothing, and ends with 0."""
    ended = run(*words)
    assert ended.code == 0
    assert {
        "status": "Nothing runs and nothing waits.\n",
        "job.list": "No jobs.\n",
        "message.list": "No messages.\n",
        "ledger.log": "the ledger begins\n",
        "lock.list": "No lock is held.\n",
    }[words[0]] in ended.out
    if words != ["ledger.log"]:
        assert run(*words, "--json").code == 0


@pytest.mark.parametrize("words", SHOWING, ids=" ".join)
def test_what_was_seen_last_is_shown(run: Run, away: Path, home: Path, words: list[str]) -> None:
    """The same is shown as before, and how old it is; the exit code tells that it is no news."""
    away.rename(home / ".pipeline/ledger.git")
    before = run(*words)
    (home / ".pipeline/ledger.git").rename(away)
    ended = run(*words)
    assert ended.code == 21
    assert "does not answer" in ended.err
    assert "Shown is what this machine saw last: commit " in ended.err
    assert " UTC, " in ended.err
    assert " s ago." in ended.err
    if words != ["status"]:
        assert ended.out == before.out
    assert run(*words, "--json").json == run(*words, "--json").json


def test_status_says_it_in_json_too(run: Run, away: Path) -> None:
    """`away` holds why, nobody's health is known, and what is known of the builders is there."""
    ended = run("status", "--json")
    assert ended.code == 21
    assert "does not answer" in ended.json["away"]
    assert {each["health"]["state"] for each in ended.json["builders"]} == {"unknown"}
    assert [each["name"] for each in ended.json["builders"]] == ["build1", "build2"]


def test_one_message_and_one_job_are_shown(run: Run, away: Path) -> None:
    """Tasks that show one thing do the same; one that is not there is still not there."""
    (message,) = run("message.list", "--json").json
    ended = run("message.show", message["id"])
    assert ended.code == 21
    assert "hello" in ended.out
    assert run("job.show", "job_x").code == 41


@pytest.mark.parametrize("words", [["sm", "2", "again"], ["ledger.check"], ["artifacts.prune"]])
def test_what_needs_the_ledger_ends_without_it(run: Run, away: Path, words: list[str]) -> None:
    """Nothing is decided on what was seen last."""
    ended = run(*words)
    assert ended.code in (21, 29)
    assert "Shown is" not in ended.err


def test_without_anything_seen_there_is_nothing_to_show(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that never saw the ledger says only that it does not answer."""
    monkeypatch.setenv("PIPELINE_LEDGER", str(home / "nowhere.git"))
    monkeypatch.setenv("SERVER_ID", "build1")
    ended = run("status")
    assert (ended.code, ended.out) == (21, "")
    assert "Shown is" not in ended.err


def test_once_it_is_back_nothing_is_said(run: Run, away: Path, home: Path) -> None:
    """The next command after the outage is as before."""
    assert run("status").code == 21
    away.rename(home / ".pipeline/ledger.git")
    ended = run("status")
    assert (ended.code, ended.err) == (0, "")

"""`invoke cluster` on the command line: what it says, what it does not take, and how its verdict reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.console.demo import show_performance, tell_event
from pipeline.operations.demo.play import Performance
from pipeline.operations.demo.story import Event
from pipeline.operations.demo.verdict import Attempt, JobStory, Promise
from tests.console.driver import Run

PLAYED = Performance(
    seconds=47.9,
    events=[Event(1.5, "build1", "ledger", "takes job 1", "abcdef0123")],
    jobs=[
        JobStory(
            "job 1",
            "job_a",
            "build1",
            (
                Attempt(1, "build1", "1.3.aa", 1, 2, "lost: its process was dead"),
                Attempt(2, "build1", "1.6.bb", 3, 4, "succeeded", late=True),
            ),
            results=1,
        )
    ],
    promises=[Promise("nothing is left running", True, "0 processes are left")],
    transactions=29,
    tip="0123456789abcdef",
)


def test_without_demo_it_says_what_there_is(run: Run, home: Path) -> None:
    """`invoke cluster` alone names what there is to see, and makes nothing."""
    ended = run("cluster")
    assert ended.code == 0
    assert "invoke cluster --demo" in ended.out
    assert "nox -s cluster" in ended.out
    assert set(run("cluster", "--json").json) == {"invoke cluster --demo", "nox -s cluster"}
    assert not (home / ".pipeline").exists()


@pytest.mark.parametrize("words", [["--keep"], ["--folder", "/tmp"], ["--keep", "--json"]])
def test_what_belongs_to_the_demonstration_needs_it(run: Run, words: list[str]) -> None:
    """`--keep` and `--folder` without `--demo` are a slip, and are told so."""
    ended = run("cluster", *words)
    assert ended.code == 2
    assert "belong to --demo" in ended.err
    assert "--json" not in words or ended.json["error"]["name"] == "UsageError"


def test_a_wrong_flag_is_refused(run: Run) -> None:
    """A flag that does not exist begins nothing."""
    ended = run("cluster", "--demo", "--nodes", "3")
    assert ended.code == 2
    assert "--nodes" in ended.err


def test_a_folder_that_is_not_there_is_refused(run: Run, tmp_path: Path) -> None:
    """Nothing begins where the scratch folder cannot be made; the error is an object for a program."""
    ended = run("cluster", "--demo", "--json", "--folder", str(tmp_path / "nowhere"))
    assert ended.code == 33
    assert ended.json["error"]["name"] == "FileFailed"
    assert "nowhere" in ended.json["error"]["message"]


def test_the_verdict_of_a_good_play(capsys: pytest.CaptureFixture[str]) -> None:
    """Each attempt has a row, each promise a line, and the last line is the verdict."""
    assert show_performance(PLAYED, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [" ".join(line.split()) for line in lines[:3]]
    assert cells == [
        "job builder attempt token outcome result",
        "job 1 build1 1 1.3 lost: its process was dead",
        "job 1 build1 2 1.6 succeeded late",
    ]
    assert "ok    nothing is left running: 0 processes are left" in lines
    assert lines[-1] == "every promise held; 29 transactions in 48 s, tip 0123456789ab"


def test_the_verdict_of_a_bad_play(capsys: pytest.CaptureFixture[str]) -> None:
    """One promise that did not hold is enough: it is marked, and the exit code is 86."""
    bad = replace(PLAYED, promises=[replace(PLAYED.promises[0], held=False)], folder="/tmp/kept")
    assert show_performance(bad, as_json=False) == 86
    out = capsys.readouterr().out
    assert "FAIL  nothing is left running" in out
    assert "Kept: /tmp/kept" in out
    assert "NOT EVERY PROMISE HELD" in out
    assert show_performance(bad, as_json=True) == 86
    assert json.loads(capsys.readouterr().out)["holds"] is False


def test_a_line_of_the_story(capsys: pytest.CaptureFixture[str]) -> None:
    """When, who, by which commit, what: progress, so it goes to standard error."""
    tell_event(PLAYED.events[0])
    tell_event(Event(2.0, "", "demo", "2. build1 is killed."))
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err == "   1.5 s    build1  [abcdef0] takes job 1\n   2.0 s  2. build1 is killed.\n"

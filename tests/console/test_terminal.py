"""Text for people: tables, what must not reach a terminal, and errors as words."""

from __future__ import annotations

import errno
import io
import json
import os
import sys

import pytest

from pipeline.console.input import read_text
from pipeline.console.live import describe, screen, time_left
from pipeline.console.terminal import (
    TRACEBACK_VARIABLE,
    duration,
    printable,
    put,
    put_log,
    say,
    show_json,
    show_table,
    size,
    told,
)
from pipeline.errors import Refused, UsageError


def test_a_pipe_gets_whole_cells(capsys: pytest.CaptureFixture[str]) -> None:
    """However long a cell is, a pipe gets all of it, in columns."""
    show_table(["a", "b"], [["x" * 300, "y" * 300], ["short", "z"]], empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "x" * 300 + "  " + "y" * 300
    assert lines[2] == "short" + " " * 295 + "  z"


def test_a_terminal_gets_whole_ids(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a narrow terminal the last column is cut, with a sign, and no other."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    show_table(["id", "text"], [["job_" + "1" * 32, "w" * 99], ["job", "日本語日本語日本語"]], empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "job_" + "1" * 32 + "  " + "w" * 11 + "…"
    assert lines[2].endswith("日本語日本…")


def test_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table is a sentence."""
    show_table(["id"], [], empty="No jobs.")
    assert capsys.readouterr().out == "No jobs.\n"


def test_nothing_steers_the_terminal() -> None:
    """Escape sequences, line ends and invisible marks of a message do not reach the terminal."""
    assert printable("a\x1b[2Jb\r\nc\u202ed\x00") == "a?[2Jb  c?d?"
    assert printable("a\nb\tc\x07", lines=True) == "a\nb\tc?"


def test_results_are_text_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """What somebody wrote into a ledger or a manifest is printed without what would steer the terminal."""
    put("Lock \x1b]0;owned\x07 is free.\nIt was held.")
    assert capsys.readouterr().out == "Lock ?]0;owned? is free.\nIt was held.\n"


def test_a_log_steers_no_terminal_and_is_whole_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log with escape sequences is cleaned for a person; a program gets it as it is."""
    put_log("one\n\x1b[2J\ttwo\n")
    assert capsys.readouterr().out == "one\n\x1b[2J\ttwo\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    put_log("one\n\x1b[2J\ttwo\n")
    assert capsys.readouterr().out == "one\n?[2J\ttwo\n"


def test_json_steers_no_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters beyond ASCII and marks that turn the writing around are escapes; letters are not."""
    value = {"text": "\x1b[2J \x9b31m \u202e日本 \U000e0001", "lines": ["a\nb"]}
    show_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert out.replace("\n", "").isprintable()
    assert "日本" in out


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_a_locale_without_a_letter_gets_its_escape(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that the locale cannot write is no defect, and JSON stays JSON with the same value."""
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding))
    told(lambda: put("ß 日"))()
    told(lambda: show_json({"text": "ß 日"}))()
    first, _, rest = raw.getvalue().partition(b"\n")
    assert first in (b"\\xdf \\u65e5", b"\xdf \\u65e5")
    assert json.loads(rest) == {"text": "ß 日"}


def test_a_closed_output_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was started without outputs does its work and says it to nobody."""
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    done = []

    def work() -> None:
        put("done")
        say("done")
        done.append(True)

    told(work)()
    assert done == [True]
    sys.stdout.close()
    sys.stderr.close()


def test_a_closed_input_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text from standard input, which is closed, is a usage error."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match=r"Standard input is closed\."):
        read_text("-", "")


def test_times_and_sizes() -> None:
    """The unit fits the number."""
    assert [duration(each) for each in (None, 4.24, 205, 3720)] == ["-", "4.2 s", "3 min 25 s", "1 h 02 min"]
    assert [size(each) for each in (7, 20_580, 144_200_000, 3 * 10**15)] == [
        "7 B",
        "20.6 kB",
        "144.2 MB",
        "3000.0 TB",
    ]


def test_an_error_is_words_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the pipeline ends with its own code; with json, an object with the reason."""

    @told
    def body(*, json: bool = False) -> None:
        raise Refused("No.", reason="because", remedy="Ask.")

    with pytest.raises(SystemExit) as ended:
        body(json=True)
    out, err = capsys.readouterr()
    assert ended.value.code == 40
    assert err == "Error: No.\n  Remedy: Ask.\n"
    assert json.loads(out) == {
        "error": {
            "name": "Refused",
            "exit_code": 40,
            "message": "No.",
            "remedy": "Ask.",
            "reason": "because",
        }
    }


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x"), 33, "`/x`: No space left on device."),
        (OSError("odd"), 33, "A file operation: odd."),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (ZeroDivisionError("division by zero"), 1, "A defect of the pipeline, ZeroDivisionError"),
        (RecursionError("too deep"), 1, "A defect of the pipeline, RecursionError"),
    ],
)
def test_whatever_happens_there_is_no_traceback(
    capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, said: str
) -> None:
    """Errors that nobody expected end in words too."""

    @told
    def body() -> None:
        raise raised

    with pytest.raises(SystemExit) as ended:
        body()
    assert ended.value.code == code
    assert said in capsys.readouterr().err


def test_a_defect_shows_its_place_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable set that the message names, a defect is raised as it is."""

    @told
    def body() -> None:
        raise ZeroDivisionError

    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    with pytest.raises(ZeroDivisionError):
        body()


def test_a_pipe_has_no_live_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Where stderr is no terminal, progress is plain lines."""
    with screen() as shown:
        shown.say("one")
        assert shown.live is None
    assert capsys.readouterr().err == "one\n"


def test_a_terminal_has_a_live_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal one line shows the module, how many there are, and the time left."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with screen() as shown:
        shown.say("== maven")
        assert shown.live is not None
        shown.live({"stage": "maven"})
        shown.live({"stage": "maven", "module": "Server", "index": 3, "total": 12, "seconds_left": 70})
    err = capsys.readouterr().err
    assert "== maven\n" in err.replace("\r", "")
    assert "Server" in err
    assert "3/12" in err
    assert "about 1 min 10 s left" in err


def test_a_dumb_terminal_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cannot move its cursor gets plain lines."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    with screen() as shown:
        assert shown.live is None


def test_the_live_line_is_cut() -> None:
    """A long name is cut, what steers a terminal is taken out, and an unknown time is left out."""
    assert describe({"module": "M" * 50}) == "M" * 39 + "…"
    assert describe({"stage": "maven\x1b"}) == "maven?"
    assert time_left({}) == ""

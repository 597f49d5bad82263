"""Where a comparison's reports go, and which exit code says what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.console.comparison import Reports, reports_wanted, show_comparison
from pipeline.errors import FileFailed, UsageError
from tests.console import comparisons as made
from tests.console.driver import Run


def test_text_is_printed_unless_another_form_is() -> None:
    """`-` prints that form instead of text; files are written beside what is printed."""
    assert reports_wanted(False, markdown="", html="") == Reports("text", {})
    assert reports_wanted(True, markdown="a.md", html="") == Reports("json", {"markdown": "a.md"})
    assert reports_wanted(False, markdown="-", html="b") == Reports("markdown", {"html": "b"})


@pytest.mark.parametrize(
    ("as_json", "markdown", "html", "said"),
    [
        (True, "-", "", "--json and --markdown"),
        (False, "-", "-", "--markdown and --html"),
        (False, "same", "same", "--markdown and --html name the same file"),
    ],
)
def test_two_forms_in_one_place_are_refused(as_json: bool, markdown: str, html: str, said: str) -> None:
    """Two reports in one stream or one file would be neither."""
    with pytest.raises(UsageError, match=said):
        reports_wanted(as_json, markdown=markdown, html=html)


def test_a_report_that_cannot_be_written_keeps_the_verdict() -> None:
    """A disk that fills up at the very end: the error also says how the comparison ended."""

    def full(data: bytes) -> None:
        raise FileFailed("`x` cannot be written: No space left on device.", remedy="Free some.")

    with pytest.raises(FileFailed, match=r"on device\. The comparison itself ended with DIFFER"):
        show_comparison(made.realistic(), "text", {"markdown": full})


@pytest.fixture
def sides(tmp_path: Path) -> tuple[str, str]:
    """Two folders with a file each that differs."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.txt").write_text(name)
    return str(tmp_path / "one"), str(tmp_path / "two")


def test_the_verdict_is_the_exit_code_in_every_form(run: Run, sides: tuple[str, str], tmp_path: Path) -> None:
    """Printed or written, in whichever form: the command ends with the verdict's code."""
    where = ("compare", "--left", sides[0], "--right")
    file = tmp_path / "report.md"
    text = run(*where, sides[1], "--markdown", str(file))
    assert (text.code, text.out.splitlines()[-1][:16]) == (88, "DIFFER: 1 DIFFER")
    printed = run(*where, sides[1], "--markdown", "-")
    assert printed.code == 88
    assert printed.out.splitlines()[0] == file.read_text().splitlines()[0] == "## ❌ DIFFER"
    html = run(*where, sides[1], "--html", str(tmp_path / "report.html"))
    assert (html.code, (tmp_path / "report.html").read_text()[:15]) == (88, "<!doctype html>")
    both = run(*where, sides[1], "--markdown", str(file), "--json")
    assert (both.code, both.json["verdict"]) == (88, "DIFFER")
    Path(sides[1], "file.txt").write_text("one")
    assert run(*where, sides[1], "--markdown", "-").code == 0


def test_a_path_that_cannot_be_written_is_told_before_anything_is_compared(
    run: Run, sides: tuple[str, str], tmp_path: Path
) -> None:
    """Exit code 33, the path and the reason, and no word of hashing; with --json as one object."""
    words = ("compare", "--left", sides[0], "--right", sides[1], "--markdown", str(tmp_path))
    ended = run(*words)
    assert (ended.code, ended.out) == (33, "")
    assert f"`{tmp_path}` cannot be written: that is a folder." in ended.err
    assert "Hashing" not in ended.err
    assert run(*words, "--json").json["error"]["exit_code"] == 33


def test_what_differs_is_shown_when_it_is_asked_for(run: Run, sides: tuple[str, str]) -> None:
    """In the text and in JSON, or of what is asked for by name; the verdict is the same as without."""
    where = ("compare", "--left", sides[0], "--right", sides[1])
    text = run(*where, "--show")
    assert (text.code, text.out.splitlines()[-1][:16]) == (88, "DIFFER: 1 DIFFER")
    lines = [line.strip() for line in text.out.splitlines()]
    begin = lines.index("- left, + right, by text")
    assert lines[begin + 1 : begin + 4] == ["@ line 1", "-one", "+two"]
    named = run(*where, "--show=file.txt", "--json").json["artifacts"][0]
    assert [(each["path"], each["lines"]) for each in named["displays"]] == [
        (["file.txt"], ["@ line 1", "-one", "+two"])
    ]
    assert run(*where, "--show=other", "--json").json["artifacts"][0]["displays"] == []
    assert run("compare", "--show", "--timings").code == 2


def test_help_keeps_its_letter(run: Run) -> None:
    """`-h` explains the command and is not taken for --html."""
    ended = run("compare", "-h")
    assert ended.code == 0
    assert "--html=STRING" in ended.out


def test_json_keeps_a_name_that_does_not_print(run: Run, sides: tuple[str, str]) -> None:
    """A byte that is no UTF-8, a line end and a mark that turns the writing: each name is whole in JSON."""
    for side in sides:
        Path(side, "a\nb\u202ec").write_text(side)
    ended = run("compare", "--left", sides[0], "--right", sides[1], "--json")
    assert "a\nb\u202ec" in [each["name"] for each in ended.json["artifacts"]]
    assert ended.out.replace("\n", "").isprintable()
    assert json.loads(ended.out)["scope"] == "files"

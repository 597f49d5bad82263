"""What building again told is in every report: once for all leaves of which it is told, and at each."""

from __future__ import annotations

import json

import pytest

from pipeline.console.comparison import rendered, show_comparison
from pipeline.console.comparison_text import comparison_lines
from pipeline.console.styled import drawn
from tests.console import comparisons as made


def text(columns: int | None = None) -> str:
    return "\n".join(drawn(line, False) for line in comparison_lines(made.rebuilt(), columns))


def test_a_terminal_tells_it_at_the_leaf_and_once_for_all() -> None:
    """Each leaf has what it depends on beside it; below stand the evidence, the remedy and what failed."""
    told = text()
    assert told.count("≠ content  host-dependent: the time zone makes it") == 2
    assert told.count("build1 with the time zone of build2 makes what build2 makes") == 1
    order = [
        "Built again",
        "host-dependent: the time zone makes it  2 places",
        "data › ./a/other.txt, content",
        "→ TZ=UTC",
        "random  1 place",
        "build1 with the umask of build2 (umask = 077): 12.0 s; failed: compile in core: no symbol",
        "Builds made again: 3, 1 of which failed; 92 s. Each of the whole recipe.",
        "What differs is made by cloud-api.",
        "build2 is another machine: nothing was built there",
        "Not varied: the clock: no build is given another.",
    ]
    places = [told.index(each) for each in order]
    assert places == sorted(places)


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_files_tell_it_as_well(form: str) -> None:
    """Rulings, evidence, remedies and failures are in a report of each form."""
    told = rendered(made.rebuilt(), form).replace("`", "").replace("<bdi>", "").replace("</bdi>", "")
    for words in ("Built again", "the time zone makes it", "makes what build2 makes", "TZ=UTC", "no symbol"):
        assert words in told
    assert "Built again" not in rendered(made.realistic(), form)


def test_a_program_gets_it_with_each_leaf(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything is in the JSON: what was built, what it was given, and what is told of each leaf."""
    assert show_comparison(made.rebuilt(), "json") == 88
    found = json.loads(capsys.readouterr().out)
    assert [each["changed"] for each in found["rebuilds"]["builds"]] == [{}, {}, {"umask": "077"}]
    assert [each["rebuilt"]["makes"] for each in found["artifacts"][0]["leaves"]] == [["timezone"]] * 2 + [[]]

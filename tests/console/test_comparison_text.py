"""A comparison on a terminal and as JSON: what is told, in which order, and that no name steers anything."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pipeline.console.comparison import show_comparison
from pipeline.console.comparison_text import MOST_LEAVES, comparison_lines
from pipeline.console.escaping import visible
from pipeline.console.outline import DEEPEST, outline
from pipeline.console.styled import Span, around_difference, drawn, shortened, wants_colours, wrapped
from pipeline.console.terminal import width_of
from pipeline.records.comparison import Comparison, Verdict
from tests.console import comparisons as made
from tests.console.comparisons import HOSTILE, artifact, comparison, leaf

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs/reference/schemas/comparison.json").read_text())


def text(found: Comparison, columns: int | None = None, colours: bool = False) -> list[str]:
    """Returns the report's lines."""
    return [drawn(line, colours) for line in comparison_lines(found, columns)]


def at(lines: list[str], words: str) -> int:
    """Returns where the line with these words is."""
    found = [number for number, line in enumerate(lines) if words in line]
    assert found, words
    return found[0]


def test_of_several_builders_groups_and_every_two_are_told() -> None:
    """Each pair with places of its own has its tree; of the others it is said with whom theirs are told."""
    lines = text(made.several())
    order = [
        "build3 and build4",
        "./both",
        "build1 and build4",
        "./when",
        "build1 and build3",
        "./who",
        "Groups",
        "1 build1, build2",
        "2 build3",
        "None of the groups is the right one.",
        "Every two of them",
        "DIFFER            build1 and build3  1 DIFFER",
        "DIFFER            build2 and build3  as build1 and build3",
        "DIFFER            build2 and build4  as build1 and build4",
        "AGREE             build1 and build2  1 AGREE",
    ]
    found = [at(lines, words) for words in order]
    assert found == sorted(found)
    assert lines[-1] == "DIFFER: 1 DIFFER; 13.0 s"
    assert not [line for line in text(made.realistic()) if "Groups" in line]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_last_line_is_the_verdict(verdict: Verdict) -> None:
    """Whatever else is told, the report ends with the verdict over all and the count of each."""
    found = comparison(verdict, artifact("a.deb", verdict), scope="files", independent=False)
    lines = text(found)
    assert lines[-1] == f"{verdict}: 1 {verdict}; 13.0 s"
    assert any("nothing is said about builds" in line for line in lines)


def test_the_report_leads_from_the_leaves_to_the_verdict() -> None:
    """Equal artifacts first, the worst nearest to the end; environment, causes with remedy, the sides."""
    lines = text(made.realistic())
    order = [
        "AGREE             cloudstack-agent",
        "AGREE-NORMALISED  cloudstack-common",
        "INCOMPLETE        cloudstack-marvin",
        "DIFFER            cloudstack-management",
        "META-INF/sun-jaxb.episode",
        "umask     0022 | 0002  may explain umask",
        "… and 8 more of packages",
        "timestamp  3 places, proved by bytes",
        "→ Set project.build.outputTimestamp in the root POM.",
        "path  1 place, likely, not proved",
        "nothing known explains 3 places",
        "Normalisers",
        "build1  build1.example.org",
        "        job 01931c5e",
        "wire    931.1 kB in 42 round trips",
    ]
    found = [at(lines, words) for words in order]
    assert found == sorted(found)


def test_a_tree_opens_at_the_leaves() -> None:
    """Names between which nothing lies stand in one line, and values under the property that differs."""
    lines = text(made.realistic())
    start = at(lines, "./usr/share/cloudstack-common/vms/agent.zip")
    assert [line.strip() for line in lines[start : start + 4]] == [
        "data.tar.xz › data › ./usr/share/cloudstack-common/vms/agent.zip",
        "≠ time of 467 entries, for instance  [timestamp]",
        "build1  _run.sh: 2026-11-24 23:46:32",
        "build2  _run.sh: 2026-11-25 09:10:38",
    ]
    missing = at(lines, "./etc/cloudstack/extra.conf")
    assert lines[missing + 3].split() == ["build2", "(not", "there)"]


def test_what_is_shown_stands_below_the_tree() -> None:
    """Which lines are whose and what made them; then the lines, and how many more there are."""
    lines = text(made.realistic())
    start = at(lines, "    data.tar.xz › data › ./usr/share/cloudstack-management/webapp/color.less")
    assert start > at(lines, "≠ name")
    assert [line.strip() for line in lines[start + 1 : start + 7]] == [
        "- build1, + build2, by text; long lines are broken after ; { } , >",
        "@ line 1055",
        "5)`);",
        "-box-shadow: rgba(39,",
        "+box-shadow: rgba(52,",
        "… and 12 more lines",
    ]
    assert "      - build1, + build2, by javap (as nobody, without a network)" in lines


def test_inputs_that_differ_are_told_before_the_verdict() -> None:
    """Builds of two commits: which inputs differ, on which side one lacks, and what follows from it."""
    lines = text(made.other_inputs())
    assert at(lines, "Inputs that differ") < at(lines, "  commit  4f1c0de5a9") < at(lines, "build1  build1.")
    assert lines[at(lines, "dependencies.jetty.jar") + 2].split() == ["build2", "(not", "there)"]
    assert "nothing follows from their bytes" in lines[-2]


def test_an_equal_environment_is_one_line() -> None:
    """Nothing differs: it is said in a line. Of mere files nothing is known, and nothing is said."""
    lines = text(made.agreeing())
    assert "  the same on both sides, as far as it is recorded" in lines
    files = comparison(Verdict.AGREE, scope="files")
    assert not any("Environment" in line for line in text(files))


def test_one_machine_is_told() -> None:
    """Agreement that one machine may have made by itself is told as that."""
    words = "Nothing shows that two different machines made the two sides."
    assert words in text(made.agreeing(independent=False))
    assert words not in text(made.agreeing())


def test_leaves_beyond_the_limit_are_counted() -> None:
    """Of 10,000 leaves some are shown; how many are not, also of those the record lacks, is told."""
    lines = text(made.large())
    assert sum("≠" in line for line in lines) == MOST_LEAVES
    assert f"    … and {10_321 - MOST_LEAVES:,} more places (--json, --html)" in lines


@pytest.mark.parametrize("colours", [False, True])
def test_nothing_hostile_reaches_a_terminal(colours: bool) -> None:
    """Each line is printable but for colours of our own, and is one line, whatever names hold."""
    for line in text(made.hostile(), 80, colours):
        assert re.sub(r"\x1b\[(?:0|2|1|1;3[1-6])m", "", line).isprintable(), repr(line)


def test_names_that_look_alike_stay_apart() -> None:
    """What does not print is shown as what it is, and not left out."""
    assert visible("a\x1b[2J\r\n\tb\u202ec\x9b\udce9\U000e0001") == (
        "a\\x1b[2J\\r\\n\\tb\\u202ec\\x9b\\xe9\\U000e0001"
    )
    assert visible("日本 é") == "日本 é"


@pytest.mark.parametrize("columns", [24, 44, 60, 80, 120])
def test_lines_fit(columns: int) -> None:
    """Every line of a real report fits the terminal, but for words that are only of use whole."""
    whole = (
        "≠",
        "→",
        "`--set",
        "outputTimestamp",
        "INCOMPLETE",
        "DIFFER",
        "package",
        "proved",
        "wire",
        made.JOB,
        made.COMMIT,
    )
    for line in text(made.realistic(), columns):
        if not any(word in line for word in whole):
            assert width_of(line) <= max(columns, 44), line


def test_values_are_cut_where_they_are_the_same() -> None:
    """Two long values that differ at their ends are shown from just before that place."""
    one, two = ("x" * 200 + end for end in ("first", "second"))
    shown = around_difference([one, two], 30)
    assert shown == ["…" + "x" * 10 + "first", "…" + "x" * 10 + "second"]
    assert around_difference([one, two], None) == [one, two]
    assert around_difference([one], 30)[0].endswith("first")
    assert shortened("a" * 40, 20) == "a" * 6 + "…" + "a" * 13
    assert wrapped("set project.build.outputTimestamp now", 12) == [
        "set",
        "project.build.outputTimestamp",
        "now",
    ]


def test_colours_are_for_terminals_whose_users_want_them() -> None:
    """Neither a pipe nor NO_COLOR nor a dumb terminal gets any; an empty NO_COLOR says nothing."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert wants_colours(Terminal(), {"TERM": "xterm"})
    assert wants_colours(Terminal(), {"NO_COLOR": ""})
    assert not wants_colours(Terminal(), {"NO_COLOR": "1"})
    assert not wants_colours(Terminal(), {"TERM": "dumb"})
    assert not wants_colours(io.StringIO(), {})
    assert drawn([Span("DIFFER", "bad")], True) == "\x1b[1;31mDIFFER\x1b[0m"
    assert drawn([Span("DIFFER", "bad")], False) == "DIFFER"


def test_a_way_of_any_length_is_drawn() -> None:
    """A path of ten thousand names ends no report, and every leaf is counted on its way."""
    deep = outline([leaf("a.deb", *("x" * 10_000), "y"), leaf("a.deb", "z")])
    assert deep.count == 2
    assert len(deep.branches[0].names) == DEEPEST
    assert deep.branches[0].names[-1].endswith(" › y")
    lines = text(comparison(Verdict.DIFFER, artifact("a.deb", Verdict.DIFFER, leaf("a.deb", *"xyz" * 99))))
    assert lines[-1].startswith("DIFFER")


@pytest.mark.parametrize(
    "found", [made.realistic(), made.other_inputs(), made.agreeing(), made.hostile()], ids=lambda f: f.verdict
)
def test_json_is_as_its_schema_says(found: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is valid by the committed schema, has every field, and is read back as it was."""
    code = show_comparison(found, "json")
    printed = capsys.readouterr().out
    value = json.loads(printed)
    Draft202012Validator(SCHEMA).validate(value)
    assert printed.replace("\n", "").isprintable()
    assert value == found.model_dump(mode="json")
    assert code == {"DIFFER": 88, "INCOMPARABLE": 89, "AGREE": 0}[found.verdict]


@pytest.mark.parametrize("field", sorted(Comparison.model_fields))
def test_the_schema_notices_what_is_missing(field: str) -> None:
    """A report without one of its fields, or with another type there, is not valid."""
    value = made.realistic().model_dump(mode="json")
    broken = {**value, field: object()}
    del value[field]
    assert not Draft202012Validator(SCHEMA).is_valid(value)
    assert not Draft202012Validator(SCHEMA).is_valid(broken)


def test_hostile_names_are_all_in_the_example() -> None:
    """The hostile example holds every hostile text in every place that foreign text may be in."""
    found = made.hostile()
    assert [each.name for each in found.artifacts] == list(HOSTILE)
    assert {leaf.path[2] for leaf in found.artifacts[0].leaves} == set(HOSTILE)

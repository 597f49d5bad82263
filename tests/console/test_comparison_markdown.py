"""A comparison in Markdown: what is told, how long it gets, and that no name becomes mark-up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pipeline.console.comparison_markdown import MOST_CHARACTERS, code, markdown, prose
from pipeline.console.escaping import visible
from pipeline.records.comparison import ComparedDisplay, Comparison, Verdict
from tests.console import comparisons as made
from tests.console.comparisons import HOSTILE, artifact, comparison, leaf

#: All that the report itself is made of; whatever else a parser sees came out of a name.
OURS = frozenset(
    f"{name}_{end}"
    for name in (
        "heading",
        "paragraph",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "bullet_list",
        "list_item",
        "em",
        "strong",
    )
    for end in ("open", "close")
) | {"inline", "text", "code_inline", "softbreak", "fence"}


def tokens(text: str) -> Iterator[Token]:
    """Yields everything that a parser with tables and strikethrough sees."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for token in parser.parse(text):
        yield token
        yield from token.children or ()


def test_a_report_is_read_from_the_verdict_down() -> None:
    """The verdict is the heading; then what differs, why with the remedy, and the environment."""
    text = markdown(made.realistic())
    order = [
        "## ❌ DIFFER",
        "- build1: `build1.example.org:/srv/builds/artifacts/1f6a` (job 01931c5e",
        "| ❌ DIFFER | `cloudstack-management_4.21.0.0-SNAPSHOT_all.deb` | 97.0 MB | 6 |",
        "| ✅ AGREE | `cloudstack-docs_4.21.0.0-SNAPSHOT_all.deb` | 97.0 MB |  |",
        "webapp/color.less`: content",
        "| 3 | yes | Set project.build.outputTimestamp in the root POM. |",
        "| Build in one fixed folder: `--set reproducible=true`. |",
        "| **nothing known** | 3 | | |",
        "| `umask` | `0022` | `0002` | `umask` |",
        "… and 4 more.",
    ]
    order[6] = "Build in one fixed folder: `--set reproducible=true`"
    assert [text.find(words) for words in order] == sorted(text.find(words) for words in order)
    assert all(words in text for words in order)


def test_of_several_builders_every_two_are_told() -> None:
    """Groups and a row for every two; the places of a pair that are told nowhere else."""
    text = markdown(made.several())
    order = [
        "### Groups",
        "- `build1, build2`",
        "- `build3`",
        "None of the groups is the right one.",
        "| `build2 and build3` | ❌ DIFFER | as build1 and build3 |",
        "| `build1 and build2` | ✅ AGREE | 1 AGREE |",
        "- `./who`: content",
        "### `build1 and build4`",
        "- `./when`: content",
        "### `build3 and build4`",
        "- `./both`: content",
    ]
    order[5] = "| `build1 and build2` | ✅ AGREE |"
    assert [text.find(words) for words in order] == sorted(text.find(words) for words in order)
    assert all(words in text for words in order)
    assert "Groups" not in markdown(made.realistic())


@pytest.mark.parametrize("found", [made.realistic(), made.hostile(), made.other_inputs(), made.several()])
def test_no_name_becomes_markup(found: Comparison) -> None:
    """A parser sees nothing but what the report is made of: no HTML, link, image or list of a name's own."""
    seen = list(tokens(markdown(found)))
    assert {token.type for token in seen} <= OURS
    assert any(token.type == "code_inline" for token in seen)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_name_leaves_its_code_span(hostile: str) -> None:
    """Alone, at the end of a list and in a table, a name is one span, and the table keeps its cells."""
    span = list(tokens(f"- {code(hostile)} end\n"))
    assert [token.content for token in span if token.type == "text"] == [" end"]
    rows = [f"| {write(hostile, in_table=True)} | end |\n" for write in (code, prose)]
    table = f"| a | b |\n|---|---|\n{''.join(rows)}"
    cells = [token for token in tokens(table) if token.type == "td_open"]
    assert len(cells) == 4
    words = [token.content for token in tokens(f"x {prose(hostile)}\n") if token.type == "text"]
    assert not any(char in "".join(words) for char in "@#<>[]*_~$&|\\")
    assert "://" not in "".join(words)
    assert "www." not in "".join(words)


def test_what_is_shown_stays_in_its_block() -> None:
    """Whatever fences are in its lines a block ends at its own end, and is there whole or not at all."""
    lines = [f"+{'`' * n}" for n in range(2, 9)] + ["~~~", "````diff", *HOSTILE[:4]]
    shown = ComparedDisplay(path=["a", "b"], tool="text", lines=lines, omitted=2)
    one = artifact("a", Verdict.DIFFER, leaf("a", "b"), displays=[shown, shown])
    text = markdown(comparison(Verdict.DIFFER, one))
    blocks = [token.content.split("\n") for token in tokens(text) if token.type == "fence"]
    assert blocks == [[*map(visible, lines), "@ … and 2 more lines", ""]] * 2
    long = shown.model_copy(update={"lines": ["+" + "x" * 199] * 30})
    many = comparison(Verdict.DIFFER, one.model_copy(update={"displays": [long] * 20}))
    found = [token for token in tokens(markdown(many)) if token.type == "fence"]
    assert 0 < len(found) < 20
    assert all(token.content.count("\n") == 31 for token in found)
    assert markdown(many).endswith("have it.*\n")


def test_a_sentence_stays_a_sentence() -> None:
    """Words are words; what begins like a list, a link or a mention is code; code in it stays code."""
    assert prose("Set `a b` in the POM, don't wait.") == "Set `a b` in the POM, don't wait."
    assert prose("1. - x") == "`1.` - x"
    assert prose("- x @me www.x.y https://x") == "`-` x `@me` `www.x.y` `https://x`"


@pytest.mark.parametrize("found", [made.large(), made.hostile()])
def test_a_report_fits_a_message(found: Comparison) -> None:
    """However much differs, the report is no longer than a message may be, and says what it leaves out."""
    text = markdown(found)
    assert len(text) <= MOST_CHARACTERS + 100
    assert "more place" in text or "too long for a message" in text


def test_a_deep_way_is_no_block_of_code() -> None:
    """A path of thirty containers is one item of a list."""
    names = [f"n{n}" for n in range(30)]
    leaves = [leaf("a", *names[: depth + 1], f"f{depth}") for depth in range(30)]
    seen = {
        token.type
        for token in tokens(markdown(comparison(Verdict.DIFFER, artifact("a", Verdict.DIFFER, *leaves))))
    }
    assert "code_block" not in seen

"""What is shown of leaves that stay different, in each form of a report. Foreign text throughout."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from pipeline.console.comparison_words import by_attention, many, sides
from pipeline.console.escaping import visible
from pipeline.console.outline import ARROW
from pipeline.console.styled import Line, Span, shortened, wrapped
from pipeline.records.comparison import ComparedArtifact, ComparedDisplay, Comparison

#: So many lines of each are on a terminal, and in a message; --json and --html have what was kept.
MOST_LINES = 60
MOST_IN_MESSAGE = 30
_LONGEST_IN_MESSAGE = 200
_STYLES = {"-": "bad", "+": "good", "@": "quiet"}
_KINDS = {"-": "left", "+": "right", "@": "at"}


def display_lines(found: Comparison, artifact: ComparedArtifact, columns: int | None) -> Iterator[Line]:
    """Yields what is shown of an artifact's leaves, for a terminal."""
    for each in artifact.displays:
        room = None if columns is None else columns - 4
        yield [Span("    "), Span(shortened(_place(each), room), "title")]
        for words in wrapped(_caption(found, each), None if columns is None else columns - 6):
            yield [Span(f"      {words}", "quiet" if each.problem is None else "lacking")]
        for line in each.lines[:MOST_LINES]:
            text = shortened(line, None if columns is None else columns - 6)
            yield [Span("      "), Span(text, _STYLES.get(_sign(line), ""))]
        hidden = max(0, len(each.lines) - MOST_LINES) + each.omitted
        if hidden > 0:
            where = " (--json, --html)" if len(each.lines) > MOST_LINES else ""
            yield [Span(f"      … and {many(hidden, 'more line', 'more lines')}{where}", "quiet")]


def display_blocks(found: Comparison, artifact: ComparedArtifact) -> Iterator[tuple[str, str, str]]:
    """Yields place, caption and a fenced block of each, for a message; a block is one piece, or is left out.

    No line can end the block before its end.
    """
    for each in artifact.displays:
        lines = [visible(line)[:_LONGEST_IN_MESSAGE] for line in each.lines[:MOST_IN_MESSAGE]]
        hidden = len(each.lines) - len(lines) + each.omitted
        if hidden:
            lines.append(f"@ … and {many(hidden, 'more line', 'more lines')}")
        fence = "```"
        while any(fence in line for line in lines):
            fence += "`"
        block = "\n".join((f"{fence}diff", *lines, fence)) if lines else ""
        yield _place(each), _caption(found, each), block


def displays_html(found: Comparison) -> str:
    """Returns what is shown of all artifacts' leaves, for a page; nothing where nothing is."""
    items = [
        _item(found, artifact, each)
        for artifact in by_attention(found.artifacts)
        for each in artifact.displays
    ]
    if not items:
        return ""
    return f'<h3 id="shown" class="shown-title">Shown</h3>{"".join(items)}'


def _item(found: Comparison, artifact: ComparedArtifact, each: ComparedDisplay) -> str:
    rows = "".join(
        f'<span class="{_KINDS.get(_sign(line), "both")}"><bdi>{escape(visible(line))}</bdi></span>'
        for line in each.lines
    )
    hidden = (
        f'<p class="of">… and {many(each.omitted, "more line", "more lines")}</p>' if each.omitted else ""
    )
    name = escape(visible(ARROW.join((artifact.name, *each.path[1:]))))
    caption = escape(visible(_caption(found, each)))
    block = f'<pre class="lines" tabindex="0" dir="ltr">{rows}</pre>' if each.lines else ""
    kind = "of" if each.problem is None else "problem"
    return (
        f'<details class="shown" open><summary><bdi class="text">{name}</bdi></summary>'
        f'<p class="{kind}"><bdi>{caption}</bdi></p>{block}{hidden}</details>'
    )


def _sign(line: str) -> str:
    """Returns what begins a line; diffoscope draws what a line is in before it."""
    return line.lstrip("│ ")[:1] if line.startswith("│") else line[:1]


def _place(each: ComparedDisplay) -> str:
    return ARROW.join(each.path[1:]) or "the artifact"


def _caption(found: Comparison, each: ComparedDisplay) -> str:
    """Says whose lines are which, what made them, and how it was run."""
    if each.problem is not None:
        return each.problem
    left, right = sides(found)
    run = f" ({each.confined})" if each.confined else ""
    return "; ".join(part for part in (f"- {left}, + {right}, by {each.tool}{run}", each.note) if part)

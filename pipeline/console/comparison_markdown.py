"""A comparison in Markdown, for a message or a pull request: short enough for one, and nothing in it acts.

Foreign text stands in code spans: there no mark-up, no link, no mention and no HTML is read. What is left to
do is to choose a fence that the text cannot close, and to keep bars out of tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pipeline.console.comparison_displays import display_blocks
from pipeline.console.comparison_pairs import (
    NO_RIGHT_ONE,
    beside,
    each_in_words,
    group_lines,
    named,
    own,
)
from pipeline.console.comparison_rebuilt import built, findings, remarks, where
from pipeline.console.comparison_words import (
    by_attention,
    counted,
    grouped,
    headline,
    many,
    meaning,
    origins,
    places,
    reservations,
    sides,
    unexplained,
    values,
)
from pipeline.console.escaping import visible
from pipeline.console.outline import ARROW, Branch, outline
from pipeline.console.terminal import size
from pipeline.records.comparison import ComparedArtifact, Comparison, Difference, Verdict

#: Hosts of pull requests take 65,536 characters; what is longer is cut off, and said to be.
MOST_CHARACTERS = 60_000
MOST_LEAVES = 20
_MOST_ROWS = 100
_MOST_DIFFERENCES = 20
_LONGEST = 240
_MARKS = {
    Verdict.AGREE: "✅",
    Verdict.AGREE_NORMALISED: "☑️",
    Verdict.DIFFER: "❌",
    Verdict.INCOMPARABLE: "🚫",
    Verdict.INCOMPLETE: "⚠️",
}
#: A word that is read as itself, wherever it stands in a line of ours.
_PLAIN = re.compile(r"[(\"'“]?[A-Za-z0-9][A-Za-z0-9.,;:()'’/%-]*[\"”?!]?|[-–—=→›,]")
_LINKED = re.compile(r"://|^\W*www\.|^\W*(?:GH-|xmpp:|mailto:)", re.IGNORECASE)


def markdown(found: Comparison) -> str:
    """Returns the report. It is at most `MOST_CHARACTERS` long, and ends between two lines."""
    lines: list[str] = []
    used = 0
    for line in _lines(found):
        used += len(line) + 1
        if used > MOST_CHARACTERS:
            lines += ["", "*The rest is too long for a message: `--json` and `--html` have it.*"]
            break
        lines.append(line)
    return "\n".join(lines) + "\n"


def code(text: str, *, in_table: bool = False) -> str:
    """Returns a code span that shows any text as it is, or as the escapes of what does not print."""
    text = visible(text)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"
    if in_table:
        text = text.replace("|", "\\x7c")
    if not text.strip():
        return f'`"{text}"`'
    fence = "`"
    while fence in text:
        fence += "`"
    space = " " if text[0] in " `" or text[-1] in " `" else ""
    return f"{fence}{space}{text}{space}{fence}"


def prose(text: str, *, in_table: bool = False) -> str:
    """Returns a sentence in which each word that Markdown could read as more than a word is code.

    What the sentence itself has in backticks is one piece of code.
    """
    words: list[str] = []
    for number, piece in enumerate(visible(text)[: 10 * _LONGEST].split("`")):
        if number % 2:
            words.append(code(piece, in_table=in_table))
            continue
        for word in piece.split():
            begins = bool(words) or word[0].isalpha()  # `1.` or `-` would begin a list
            plain = begins and _PLAIN.fullmatch(word) and not _LINKED.search(word)
            words.append(word if plain else code(word, in_table=in_table))
    return " ".join(words)


def _lines(found: Comparison) -> Iterator[str]:
    verdict = Verdict(found.verdict)
    of = ", ".join(f"{count:,} {each}" for each, count in counted(found).items()) or "no artifacts"
    yield f"## {_MARKS[verdict]} {verdict}"
    yield ""
    yield f"{meaning(found)} {of}."
    yield from reservations(found)
    yield ""
    for name, place, build in origins(found):
        yield f"- {name}: {code(place)}{f' ({prose(build)})' if build else ''}"
    yield from (f"- ⚠️ {prose(problem)}" for problem in found.problems)
    yield from _groups(found)
    yield from _differences(found, "Inputs that differ", found.inputs)
    yield from _artifacts(found)
    for pair in beside(found):
        yield from ("", f"### {code(named(pair))}", "")
        yield from (f"- ⚠️ {prose(problem)}" for problem in pair.problems)
        for each in by_attention(own(pair.artifacts)):
            yield from _artifact(pair, each)
    yield from _causes(found)
    yield from _rebuilt(found)
    yield from _differences(found, "Environment", found.environment)
    if found.normalisers:
        told = ", ".join(code(name) for name in found.normalisers[:_MOST_ROWS])
        yield from ("", f"Normalised by {told}.")
    trips = many(found.wire.round_trips, "round trip")
    yield from ("", f"{size(found.wire.bytes)} in {trips}, {found.duration_seconds:.1f} s.")


def _groups(found: Comparison) -> Iterator[str]:
    if not found.pairs:
        return
    yield from ("", "### Groups", "")
    yield from (f"- {code(group)}" for group in group_lines(found))
    yield from ("", NO_RIGHT_ONE, "", "| every two of them | verdict | |", "|---|---|---|")
    for names, verdict, said in each_in_words(found)[:_MOST_ROWS]:
        told = prose(said, in_table=True)
        yield f"| {code(names, in_table=True)} | {_MARKS[verdict]} {verdict} | {told} |"


def _artifacts(found: Comparison) -> Iterator[str]:
    if not found.artifacts:
        return
    yield from ("", "### What differs", "", "| verdict | artifact | size | places |", "|---|---|--:|--:|")
    ordered = by_attention(found.artifacts)
    for each in ordered[:_MOST_ROWS]:
        octets = next((s.size_bytes for s in (each.left, each.right) if s.size_bytes is not None), None)
        told = "" if octets is None else size(octets)
        name = code(each.name, in_table=True)
        verdict = Verdict(each.verdict)
        yield f"| {_MARKS[verdict]} {verdict} | {name} | {told} | {places(each) or ''} |"
    if len(ordered) > _MOST_ROWS:
        yield from ("", f"… and {len(ordered) - _MOST_ROWS:,} more.")
    for each in ordered:
        if each.problem or each.leaves:
            yield from _artifact(found, each)


def _artifact(found: Comparison, artifact: ComparedArtifact) -> Iterator[str]:
    yield from ("", f"#### {code(artifact.name)}", "")
    if artifact.problem:
        yield f"- ⚠️ {prose(artifact.problem)}"
    if artifact.normalisers:
        yield f"- the same bytes after {', '.join(code(name) for name in artifact.normalisers)}"
    shown = sorted(artifact.leaves, key=lambda each: each.path)[:MOST_LEAVES]
    yield from _places(found, outline(shown), [])
    if places(artifact) > len(shown):
        yield f"- … and {many(places(artifact) - len(shown), 'more place', 'more places')}"
    for place, caption, block in display_blocks(found, artifact):
        yield from ("", f"{code(place)}: {prose(caption)}", *((block,) if block else ()))


def _places(found: Comparison, branch: Branch, above: list[str]) -> Iterator[str]:
    """Yields a list, two levels deep at the most: Markdown takes deeper ones for code."""
    way = [*above, *branch.names]
    for leaf in branch.leaves:
        cause = f", cause {code(leaf.cause)}" if leaf.cause is not None else ""
        again = f", {prose(leaf.rebuilt.text)}" if leaf.rebuilt is not None else ""
        yield f"- {code(ARROW.join(way)) if way else 'the artifact'}: {prose(headline(leaf))}{cause}{again}"
        if leaf.left is not None or leaf.right is not None:
            for name, value in values(found, leaf.left, leaf.right):
                yield f"  - {name}: {'*not there*' if value is None else code(value)}"
        if leaf.evidence:
            yield f"  - {prose(leaf.evidence)}"
    for below in branch.branches:
        yield from _places(found, below, way)


def _causes(found: Comparison) -> Iterator[str]:
    if not found.causes:
        return
    yield from ("", "### Why, and what to do", "")
    yield from ("| cause | places | proved | what to do |", "|---|--:|---|---|")
    for each in found.causes[:_MOST_ROWS]:
        why = f"{code(each.name, in_table=True)} {prose(each.text, in_table=True)}"
        remedy = prose(each.remedy, in_table=True) if each.remedy else "nothing known"
        yield f"| {why} | {each.leaves:,} | {'yes' if each.proved else 'no'} | {remedy} |"
    unknown = unexplained(found)
    if unknown:
        yield f"| **nothing known** | {unknown:,} | | |"


def _rebuilt(found: Comparison) -> Iterator[str]:
    if found.rebuilds is None:
        return
    yield from ("", "### Built again", "")
    told = findings(found)
    if told:
        yield from ("| what | places | where | what was seen | what to do |", "|---|--:|---|---|---|")
    for each in told[:_MOST_ROWS]:
        cells = [
            prose(each.told.text, in_table=True),
            f"{each.count:,}",
            code(where(each), in_table=True),
            prose(each.told.evidence, in_table=True),
            prose(each.told.remedy, in_table=True) if each.told.remedy else "nothing known",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield from (f"- ⚠️ {prose(built(each))}" for each in found.rebuilds.builds if each.problem)
    yield from (f"- {prose(remark)}" for remark in remarks(found))


def _differences(found: Comparison, title: str, differences: Sequence[Difference]) -> Iterator[str]:
    if not differences:
        return
    left, right = sides(found)
    yield from ("", f"### {title}", "", f"| | {left} | {right} | may explain |", "|---|---|---|---|")
    shown = [each for members in grouped(differences).values() for each in members]
    for each in shown[:_MOST_DIFFERENCES]:
        cells = [
            code(each.name, in_table=True),
            *("*not there*" if v is None else code(v, in_table=True) for v in (each.left, each.right)),
            ", ".join(code(name, in_table=True) for name in each.explains),
        ]
        yield f"| {' | '.join(cells)} |"
    if len(shown) > _MOST_DIFFERENCES:
        yield from ("", f"… and {len(shown) - _MOST_DIFFERENCES:,} more.")

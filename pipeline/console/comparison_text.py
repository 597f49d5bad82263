"""A comparison for a terminal: a tree that opens at the leaves that differ, then why, and the verdict last.

What asks for attention stands nearest to the verdict: that is where a reader of a terminal looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.console.comparison_displays import display_lines
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
    Sided,
    by_attention,
    counted,
    grouped,
    headline,
    many,
    meaning,
    origins,
    places,
    reservations,
    unexplained,
    values,
)
from pipeline.console.escaping import visible
from pipeline.console.outline import Branch, outline
from pipeline.console.styled import Line, Span, around_difference, shortened, wrapped
from pipeline.console.terminal import size, width_of
from pipeline.records.comparison import ComparedArtifact, ComparedCause, Comparison, Difference, Verdict

#: Of one artifact so many leaves are shown, and so many differences of one group; --json has them all.
MOST_LEAVES = 40
MOST_DIFFERENCES = 12

STYLE_OF = {
    Verdict.AGREE: "good",
    Verdict.AGREE_NORMALISED: "explained",
    Verdict.DIFFER: "bad",
    Verdict.INCOMPARABLE: "odd",
    Verdict.INCOMPLETE: "lacking",
}
_ABSENT = "(not there)"


def comparison_lines(found: Comparison, columns: int | None) -> Iterator[Line]:
    """Yields the report's lines, as wide as `columns` at the most if it can be; the last is the verdict."""
    for pair in reversed(beside(found)):
        yield from _pair(pair, columns)
    if found.pairs:
        yield [Span(named(found), "title")]
    for artifact in by_attention(found.artifacts, worst_last=True):
        yield from _artifact(found, artifact, columns)
    for problem in found.problems:
        yield [Span("! ", "lacking"), Span(problem)]
    yield from _differences(found, "Inputs that differ", found.inputs, columns)
    yield from _differences(found, "Environment", found.environment, columns)
    if found.scope == "builds" and not found.environment:
        yield from _section("Environment")
        yield [Span("  the same on both sides, as far as it is recorded")]
    yield from _causes(found, columns)
    yield from _rebuilt(found, columns)
    if found.normalisers:
        yield from _section("Normalisers")
        yield from _paragraph(", ".join(found.normalisers), 2, columns)
    yield from _groups(found, columns)
    yield from _last(found, columns)


def _pair(pair: Comparison, columns: int | None) -> Iterator[Line]:
    """Yields what one more pair differs in, as far as that is told with no other."""
    yield [Span(named(pair), "title")]
    for artifact in by_attention(own(pair.artifacts), worst_last=True):
        yield from _artifact(pair, artifact, columns)
    for problem in pair.problems:
        yield [Span("! ", "lacking"), Span(problem)]
    yield []


def _groups(found: Comparison, columns: int | None) -> Iterator[Line]:
    if not found.pairs:
        return
    yield from _section("Groups")
    for number, group in enumerate(group_lines(found), 1):
        yield from _paragraph(f"{number}  {group}", 2, columns)
    yield from _paragraph(NO_RIGHT_ONE, 2, columns, "quiet")
    yield from _section("Every two of them")
    for names, verdict, said in each_in_words(found):
        yield [Span(f"  {verdict:16}  ", STYLE_OF[verdict]), Span(names, "title"), Span(f"  {said}")]


def _artifact(found: Comparison, artifact: ComparedArtifact, columns: int | None) -> Iterator[Line]:
    verdict = Verdict(artifact.verdict)
    octets = next((s.size_bytes for s in (artifact.left, artifact.right) if s.size_bytes is not None), None)
    told = "" if octets is None else f"  {size(octets)}"
    mark = Span(f"{verdict:16}  ", STYLE_OF[verdict])
    if columns is None or 18 + width_of(visible(artifact.name)) + len(told) <= columns:
        yield [mark, Span(artifact.name), Span(told, "quiet")]
    else:
        yield [mark, Span(told.strip(), "quiet")]
        yield [Span("  "), Span(shortened(artifact.name, columns - 2))]
    if artifact.problem:
        yield from _paragraph(artifact.problem, 4, columns, "lacking")
    if artifact.normalisers:
        yield from _paragraph(f"the same bytes after {', '.join(artifact.normalisers)}", 4, columns)
    shown = sorted(artifact.leaves, key=lambda each: each.path)[:MOST_LEAVES]
    root = outline(shown)
    yield from _branch(found, root, 0, columns)
    hidden = places(artifact) - len(shown)
    if hidden > 0:
        yield [Span(f"    … and {many(hidden, 'more place', 'more places')} (--json, --html)", "quiet")]
    yield from display_lines(found, artifact, columns)


def _branch(found: Comparison, branch: Branch, depth: int, columns: int | None) -> Iterator[Line]:
    # Far down there is more indent than room: what is deeper than ten stands where the tenth does.
    indent = "    " + "  " * min(depth - 1, 10)
    if branch.names:
        room = None if columns is None else columns - len(indent)
        yield [Span(indent), Span(shortened(branch.title, room), "title" if branch.leaves else "")]
        indent += "  "
    for leaf in branch.leaves:
        line = [Span(indent), Span("≠ ", "bad"), Span(headline(leaf))]
        if leaf.cause is not None:
            line.append(Span(f"  [{leaf.cause}]", "explained"))
        if leaf.rebuilt is not None:
            line.append(Span(f"  {leaf.rebuilt.text}", "explained"))
        yield line
        if leaf.left is not None or leaf.right is not None:
            yield from _values(values(found, leaf.left, leaf.right), indent + "    ", columns)
        if leaf.evidence:
            yield from _paragraph(leaf.evidence, len(indent) + 4, columns, "quiet")
    for below in branch.branches:
        yield from _branch(found, below, depth + 1, columns)


def _values(sided: Sequence[Sided], indent: str, columns: int | None) -> Iterator[Line]:
    label = max(len(name) for name, _value in sided)
    room = None if columns is None else max(12, columns - len(indent) - label - 2)
    texts = around_difference([value for _name, value in sided if value is not None], room)
    for name, value in sided:
        text = _ABSENT if value is None else texts.pop(0)
        yield [Span(f"{indent}{name:{label}}  ", "quiet"), Span(text, "quiet" if value is None else "")]


def _differences(
    found: Comparison, title: str, differences: Sequence[Difference], columns: int | None
) -> Iterator[Line]:
    if not differences:
        return
    yield from _section(title)
    for group, members in grouped(differences).items():
        label = min(24, max(width_of(visible(each.name)) for each in members[:MOST_DIFFERENCES]))
        for each in members[:MOST_DIFFERENCES]:
            yield from _difference(found, each, label, columns)
        hidden = len(members) - MOST_DIFFERENCES
        if hidden > 0:
            yield [
                Span(f"  … and {hidden:,} more{' of ' + group if group else ''} (--json, --html)", "quiet")
            ]


def _difference(found: Comparison, each: Difference, label: int, columns: int | None) -> Iterator[Line]:
    name = visible(each.name)
    shown = [_ABSENT if value is None else visible(value) for value in (each.left, each.right)]
    told = f"  may explain {', '.join(each.explains)}" if each.explains else ""
    pair = " | ".join(shown)
    if width_of(pair) + max(label, width_of(name)) + 4 + width_of(told) <= min(columns or 100, 100):
        padding = " " * (label - width_of(name))
        yield [Span(f"  {name}{padding}", "title"), Span(f"  {pair}"), Span(told, "explained")]
        return
    yield [Span("  "), Span(name, "title"), Span(told, "explained")]
    yield from _values(values(found, each.left, each.right), "      ", columns)


def _causes(found: Comparison, columns: int | None) -> Iterator[Line]:
    unknown = unexplained(found)
    if not found.causes:
        return
    yield from _section("Why, and what to do")
    for cause in found.causes:
        yield from _cause(cause, columns)
    if unknown:
        yield [Span("  nothing known", "bad"), Span(f" explains {many(unknown, 'place')}")]


def _cause(cause: ComparedCause, columns: int | None) -> Iterator[Line]:
    proof = "proved by bytes" if cause.proved else "likely, not proved"
    yield [
        Span("  "),
        Span(cause.name, "explained"),
        Span(f"  {many(cause.leaves, 'place')}, {proof}"),
    ]
    yield from _paragraph(cause.text, 4, columns)
    if cause.normalisers:
        yield from _paragraph(f"normalised by {', '.join(cause.normalisers)}", 4, columns, "quiet")
    if cause.remedy:
        yield from _paragraph(f"→ {cause.remedy}", 4, columns, "good")


def _rebuilt(found: Comparison, columns: int | None) -> Iterator[Line]:
    if found.rebuilds is None:
        return
    yield from _section("Built again")
    for each in findings(found):
        yield [Span("  "), Span(each.told.text, "explained"), Span(f"  {many(each.count, 'place')}")]
        yield from _paragraph(where(each), 4, columns, "quiet")
        yield from _paragraph(each.told.evidence, 4, columns)
        if each.told.remedy:
            yield from _paragraph(f"→ {each.told.remedy}", 4, columns, "good")
    for one in found.rebuilds.builds:
        if one.problem:
            yield from _paragraph(built(one), 2, columns, "lacking")
    for remark in remarks(found):
        yield from _paragraph(remark, 2, columns, "quiet")


def _last(found: Comparison, columns: int | None) -> Iterator[Line]:
    yield []
    told = list(origins(found))
    label = max(4, *(len(name) for name, *_ in told))
    room = None if columns is None else columns - label - 2
    for name, place, build in told:
        yield [Span(f"{name:{label}}  ", "quiet"), Span(shortened(place, room))]
        for words in wrapped(build, room):
            yield [Span(f"{'':{label}}  {words}", "quiet")]
    trips = many(found.wire.round_trips, "round trip")
    wire = f"{size(found.wire.bytes)} in {trips}"
    if before := found.wire.handshake_bytes + found.wire.program_bytes:
        wire += f", and {size(before)} to begin ({found.wire.connect_seconds:.1f} s)"
    yield [Span(f"{'wire':{label}}  ", "quiet"), Span(wire)]
    for sentence in reservations(found):
        yield from _paragraph(sentence, 0, columns, "quiet")
    yield from _paragraph(meaning(found), 0, columns)
    of = ", ".join(f"{count:,} {verdict}" for verdict, count in counted(found).items()) or "no artifacts"
    verdict = Verdict(found.verdict)
    yield [Span(str(verdict), STYLE_OF[verdict]), Span(f": {of}; {found.duration_seconds:.1f} s")]


def _section(title: str) -> Iterator[Line]:
    yield []
    yield [Span(title, "title")]


def _paragraph(text: str, indent: int, columns: int | None, style: str = "") -> Iterator[Line]:
    room = None if columns is None else max(12, columns - indent)
    for line in wrapped(text, room):
        yield [Span(" " * indent), Span(line, style)]

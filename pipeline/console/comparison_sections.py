"""What stands beside the tree in a comparison's page: why, what to do, inputs, environment, time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

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
    cause_numbers,
    grouped,
    headline,
    many,
    places,
    sides,
    unexplained,
)
from pipeline.console.escaping import visible
from pipeline.console.outline import ARROW
from pipeline.console.terminal import size
from pipeline.records.comparison import ComparedArtifact, ComparedCause, Comparison, Difference

_OPEN_PAIRS = 8
_MOST_PLAIN = 200


def tag(name: str, text: str, kind: str = "") -> str:
    """Returns foreign text in an element, isolated from the writing direction of what is around it."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<{name}{attribute}><bdi>{escape(visible(text))}</bdi></{name}>"


def sentence(text: str) -> str:
    """Returns a sentence of prose; what stands in it between backticks is code."""
    pieces = escape(visible(text)).split("`")
    if len(pieces) % 2 == 0:
        return f"<bdi>{'`'.join(pieces)}</bdi>"
    code = [f"<code>{piece}</code>" if number % 2 else piece for number, piece in enumerate(pieces)]
    return f"<bdi>{''.join(code)}</bdi>"


def jump(found: Comparison) -> str:
    """Returns links to the parts of the page that there are."""
    parts = {
        "differs": "What differs" if any(map(places, found.artifacts)) else "Artifacts",
        "shown": "Shown" if any(each.displays for each in found.artifacts) else "",
        "why": "Why, and what to do" if causes(found) else "",
        "rebuilt": "Built again" if found.rebuilds is not None else "",
        "inputs": "Inputs" if inputs(found) else "",
        "groups": "Groups" if found.pairs else "",
        "environment": "Environment" if environment(found) else "",
    }
    links = "".join(f'<a href="#{name}">{text}</a>' for name, text in parts.items() if text)
    return f'<nav class="jump" aria-label="On this page">{links}</nav>'


def causes(found: Comparison) -> str:
    """Returns why leaves differ, and what to do about it."""
    unknown = unexplained(found)
    if not found.causes and not unknown:
        return ""
    numbers = cause_numbers(found)
    items = [_cause(found, cause, numbers[cause.name]) for cause in found.causes]
    if unknown:
        items.insert(
            0,
            '<li class="unknown"><h3><span class="cause none">unexplained</span>'
            f'<span class="of">{unknown:,} of {many(sum(map(places, found.artifacts)), "place")}</span></h3>'
            '<span class="weight" aria-hidden="true"><span></span></span>'
            "<p>No cause is known for what differs there.</p>"
            '<button type="button" class="show" data-cause="">Show them</button></li>',
        )
    return (
        '<section aria-labelledby="why"><h2 id="why">Why, and what to do</h2>'
        f'<ul class="why">{"".join(items)}</ul></section>'
    )


def _cause(found: Comparison, cause: ComparedCause, number: int) -> str:
    total = sum(map(places, found.artifacts))
    proof = ("proved", "proved by bytes") if cause.proved else ("", "not proved")
    lines = [
        f"<h3>{tag('span', cause.name, 'cause')}"
        f'<span class="of">explains {cause.leaves:,} of {many(total, "place")}</span>'
        f'<span class="proof {proof[0]}">{proof[1]}</span></h3>',
        '<span class="weight" aria-hidden="true"><span></span></span>',
        f"<p>{sentence(cause.text)}</p>",
    ]
    if cause.normalisers:
        lines.append(tag("p", f"Normalised by {', '.join(cause.normalisers)}.", "of"))
    if cause.remedy:
        lines.append(f'<p class="remedy"><b>To do:</b> {sentence(cause.remedy)}</p>')
    lines.append(f'<button type="button" class="show" data-cause="{number}">Show its places</button>')
    return f"<li>{''.join(lines)}</li>"


def rebuilt(found: Comparison) -> str:
    """Returns what building again told, if builds were made again."""
    if found.rebuilds is None:
        return ""
    items = []
    for each in findings(found):
        lines = [
            f"<h3>{tag('span', each.told.text, 'cause')}"
            f'<span class="of">{many(each.count, "place")}</span></h3>',
            tag("p", where(each), "of"),
            f"<p>{sentence(each.told.evidence)}</p>",
        ]
        if each.told.remedy:
            lines.append(f'<p class="remedy"><b>To do:</b> {sentence(each.told.remedy)}</p>')
        items.append(f"<li>{''.join(lines)}</li>")
    told = "".join(tag("p", remark, "of") for remark in remarks(found))
    builds = "".join(f"<li>{tag('span', built(each), 'text')}</li>" for each in found.rebuilds.builds)
    return (
        '<section aria-labelledby="rebuilt"><h2 id="rebuilt">Built again</h2>'
        f'<ul class="why">{"".join(items)}</ul>{told}'
        f"<details><summary>{many(len(found.rebuilds.builds), 'build')}</summary>"
        f'<ul class="names">{builds}</ul></details></section>'
    )


def aside(found: Comparison) -> str:
    """Returns all that stands beside the tree. Inputs that differ come first: nothing else counts then."""
    parts = [
        causes(found),
        rebuilt(found),
        inputs(found),
        groups(found),
        environment(found),
        normalisers(found),
        facts(found),
    ]
    if found.inputs:
        parts.insert(0, parts.pop(2))
    return "\n".join(filter(None, parts))


def inputs(found: Comparison) -> str:
    """Returns the inputs that differ, if any do."""
    if found.inputs:
        return _section("inputs", "Inputs that differ", _pairs(found, found.inputs))
    if found.scope == "builds":
        same = '<p class="same">Both sides were made from the same inputs.</p>'
        return _section("inputs", "Inputs", same)
    return ""


def environment(found: Comparison) -> str:
    """Returns what differs of the machines, in groups; short where nothing does."""
    if found.environment:
        return _section("environment", "Environment", _pairs(found, found.environment))
    if found.scope == "builds":
        same = '<p class="same">The same on both sides, as far as it is recorded.</p>'
        return _section("environment", "Environment", same)
    return ""


def groups(found: Comparison) -> str:
    """Returns who is equal among more than two, what every two are, and the places of the other pairs."""
    if not found.pairs:
        return ""
    items = "".join(f"<li>{tag('span', each)}</li>" for each in group_lines(found))
    rows = "".join(
        f"<div><dt>{tag('span', names)}</dt><dd><b>{verdict}</b> {tag('span', said, 'said')}</dd></div>"
        for names, verdict, said in each_in_words(found)
    )
    more = "".join(
        f"<details><summary>{tag('span', named(pair))}</summary>{_other(pair)}</details>"
        for pair in beside(found)
    )
    body = f'<ul class="names">{items}</ul><p class="same">{NO_RIGHT_ONE}</p><dl>{rows}</dl>{more}'
    return _section("groups", "Groups", body)


def _other(pair: Comparison) -> str:
    problems = "".join(tag("p", problem, "problem") for problem in pair.problems)
    return f'<div class="other">{problems}{listed(own(pair.artifacts))}</div>'


def normalisers(found: Comparison) -> str:
    """Returns the normalisers that made bytes equal, if any did."""
    if not found.normalisers:
        return ""
    items = "".join(f"<li>{tag('span', name, 'text')}</li>" for name in found.normalisers)
    return _section("normalisers", "Normalisers", f'<ul class="names">{items}</ul>')


def facts(found: Comparison) -> str:
    """Returns what travelled and how long it took."""
    rows = (
        ("time", f"{found.duration_seconds:.1f} s"),
        ("on the wire", f"{size(found.wire.bytes)} in {many(found.wire.round_trips, 'round trip')}"),
    )
    cells = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    title = '<h2 id="facts">Time and traffic</h2>'
    return f'<section class="facts" aria-labelledby="facts">{title}<dl>{cells}</dl></section>'


def plain(found: Comparison) -> str:
    """Returns the artifacts and their first leaves as a list, for a browser that runs no script."""
    return f"<p>Without scripts there is no tree, but this list.</p>{listed(found.artifacts)}"


def listed(artifacts: Sequence[ComparedArtifact]) -> str:
    """Returns artifacts with their first leaves as a list."""
    items = []
    left = _MOST_PLAIN
    for artifact in by_attention(artifacts):
        shown = artifact.leaves[: max(0, left)]
        left -= len(shown)
        inner = "".join(
            f"<li>{tag('span', ARROW.join(leaf.path[1:]), 'text')}: {tag('span', headline(leaf))}</li>"
            for leaf in shown
        )
        hidden = places(artifact) - len(shown)
        more = f"<li>… and {many(hidden, 'more place', 'more places')}</li>" if hidden else ""
        name = f"<b>{artifact.verdict}</b> {tag('span', artifact.name, 'text')}"
        problem = tag("p", artifact.problem, "problem") if artifact.problem else ""
        items.append(f"<li>{name}{problem}<ul>{inner}{more}</ul></li>")
    return f"<ul>{''.join(items)}</ul>"


def _section(name: str, title: str, body: str) -> str:
    return (
        f'<section class="pairs" id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{title}</h2>{body}</section>'
    )


def _pairs(found: Comparison, differences: Sequence[Difference]) -> str:
    parts = []
    for group, members in grouped(differences).items():
        if group:
            parts.append(f"<h3>{tag('span', group)} · {len(members):,}</h3>")
        parts.append(f"<dl>{''.join(_pair(found, each) for each in members[:_OPEN_PAIRS])}</dl>")
        if len(members) > _OPEN_PAIRS:
            rest = "".join(_pair(found, each) for each in members[_OPEN_PAIRS:])
            told = f"{len(members) - _OPEN_PAIRS:,} more"
            parts.append(f"<details><summary>{told}</summary><dl>{rest}</dl></details>")
    return "".join(parts)


def _pair(found: Comparison, each: Difference) -> str:
    explains = f"may explain {', '.join(each.explains)}" if each.explains else ""
    cells = "".join(
        f"<dd><span>{escape(visible(name))}</span>"
        + ('<span class="absent">not there</span>' if value is None else tag("span", value, "text"))
        + "</dd>"
        for name, value in zip(sides(found), (each.left, each.right), strict=True)
    )
    told = tag("span", explains, "for") if explains else ""
    return f"<div><dt>{tag('span', each.name)}{told}</dt>{cells}</div>"

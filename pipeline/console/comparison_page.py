"""A comparison as one page for a browser: it needs nothing else, opens from a file and asks no network.

The page's words are written here, escaped; its tree is made by `pages/comparison.js` from data in the page.
A policy in the page lets no style and no script run but the page's own, by their digests, and no text be
read as mark-up. Sides are lists throughout, so that more than two have a place.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from pipeline.console.comparison_displays import displays_html
from pipeline.console.comparison_rebuilt import with_evidence
from pipeline.console.comparison_sections import aside, jump, plain, tag
from pipeline.console.comparison_words import (
    by_attention,
    cause_numbers,
    counted,
    headline,
    many,
    meaning,
    origins,
    places,
    reservations,
    sides,
    unexplained,
)
from pipeline.console.escaping import visible
from pipeline.console.outline import Branch, outline
from pipeline.console.terminal import size
from pipeline.records.comparison import ComparedArtifact, ComparedSide, Comparison, Verdict

#: So many leaves are in a page, of every artifact as fairly as it goes; the record has more.
MOST_LEAVES = 20_000
_MOST_PROBLEMS = 12

_TONES = {
    Verdict.AGREE: ("agree", "✓"),
    Verdict.AGREE_NORMALISED: ("explained", "≈"),
    Verdict.DIFFER: ("differ", "≠"),
    Verdict.INCOMPARABLE: ("odd", "⊘"),
    Verdict.INCOMPLETE: ("lacking", "…"),
}


def page(found: Comparison) -> str:
    """Returns the page."""
    verdict = Verdict(found.verdict)
    tone, sign = _TONES[verdict]
    style = _part("css") + "".join(_widths(found))
    script = _part("js")
    both = found.left_build is not None and found.right_build is not None
    subject = f"the builds of {' and '.join(sides(found))}" if both else found.scope
    if found.pairs:
        subject += f", which tell most of {many(1 + len(found.pairs), 'pair')}"
    return Template(_part("html")).substitute(
        policy=_policy(style, script),
        title=f"{verdict} · {escape(visible(found.left))} and {escape(visible(found.right))}",
        style=style,
        script=script,
        tone=tone,
        sign=sign,
        subject=escape(visible(subject)),
        verdict=str(verdict),
        meaning=escape(meaning(found)),
        share=_share(found),
        alerts=_alerts(found),
        sides=_sides(found),
        jump=jump(found),
        differs_title="What differs" if any(map(places, found.artifacts)) else "Artifacts",
        plain=plain(found),
        shown=displays_html(found),
        aside=aside(found),
        data=_embedded(found),
    )


def _part(kind: str) -> str:
    return files("pipeline.console").joinpath("pages", f"comparison.{kind}").read_text("utf-8")


def _policy(style: str, script: str) -> str:
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _widths(found: Comparison) -> Iterator[str]:
    """Yields rules for what has a length of its own: the policy allows no style on an element."""
    for index, count in enumerate(counted(found).values(), 1):
        yield f".share span:nth-child({index}) {{ flex-grow: {count}; }}\n"
    total = sum(map(places, found.artifacts)) or 1
    weights = [*([unexplained(found)] if unexplained(found) else []), *(each.leaves for each in found.causes)]
    for index, leaves in enumerate(weights, 1):
        percent = max(0, min(100, round(100 * leaves / total)))
        yield f".why > li:nth-child({index}) .weight span {{ width: {percent}%; }}\n"


def _share(found: Comparison) -> str:
    counts = counted(found)
    if not counts:
        return ""
    bars = "".join(f'<span class="{_TONES[verdict][0]}"></span>' for verdict in counts)
    legend = "".join(
        f'<li class="{_TONES[verdict][0]}"><b>{count:,}</b> {verdict}</li>'
        for verdict, count in counts.items()
    )
    return f'<div class="share" aria-hidden="true">{bars}</div><ul class="legend">{legend}</ul>'


def _alerts(found: Comparison) -> str:
    items = [tag("li", problem) for problem in found.problems[:_MOST_PROBLEMS]]
    if len(found.problems) > _MOST_PROBLEMS:
        items.append(f"<li>… and {len(found.problems) - _MOST_PROBLEMS:,} more</li>")
    if found.inputs:
        told = many(len(found.inputs), "input")
        items.insert(0, f'<li><a href="#inputs">{told} of the two sides differ</a></li>')
    items += [f'<li class="note">{escape(sentence)}</li>' for sentence in reservations(found)]
    return f'<ul class="alerts">{"".join(items)}</ul>' if items else ""


def _sides(found: Comparison) -> str:
    rows = "".join(
        f"<dt>{escape(visible(name))}</dt><dd>{tag('span', place, 'text')}"
        f"{tag('span', build, 'build') if build else ''}</dd>"
        for name, place, build in origins(found)
    )
    return f'<dl class="sides">{rows}</dl>'


def _embedded(found: Comparison) -> str:
    """Returns the data of the tree as JSON that no parser of HTML sees the end of."""
    named = cause_numbers(found)
    ordered = by_attention(found.artifacts)
    parts = shares([len(each.leaves) for each in ordered], MOST_LEAVES)
    value = {
        "sides": [visible(name) for name in sides(found)],
        "causes": [visible(name) for name in named],
        "omitted": sum(map(places, ordered)) - sum(parts),
        "artifacts": [_artifact(each, share, named) for each, share in zip(ordered, parts, strict=True)],
    }
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def shares(wanted: list[int], most: int) -> list[int]:
    """Returns how many of each may be had so that they are `most` together: the small ones get all."""
    found = [0] * len(wanted)
    left = most
    waiting = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for position, index in enumerate(waiting):
        found[index] = min(wanted[index], left // (len(waiting) - position))
        left -= found[index]
    return found


def _artifact(artifact: ComparedArtifact, share: int, named: dict[str, int]) -> dict[str, Any]:
    verdict = Verdict(artifact.verdict)
    octets = next((s.size_bytes for s in (artifact.left, artifact.right) if s.size_bytes is not None), None)
    notes = []
    if artifact.normalisers:
        notes.append(f"The same bytes after {', '.join(artifact.normalisers)}.")
    if artifact.normalised_sha256:
        notes.append(f"These bytes have the sha256 {artifact.normalised_sha256}.")
    hidden = places(artifact) - share
    if hidden:
        notes.append(f"{many(hidden, 'more place', 'more places')} than are listed here.")
    return {
        "name": visible(artifact.name),
        "verdict": str(verdict),
        "tone": _TONES[verdict][0],
        "size": "" if octets is None else size(octets),
        "problem": visible(artifact.problem) if artifact.problem else None,
        "digests": [_digest(side) for side in (artifact.left, artifact.right)],
        "notes": [visible(note) for note in notes],
        "tree": _place(outline(artifact.leaves[:share]), named),
    }


def _digest(side: ComparedSide) -> str | None:
    if side.size_bytes is None and side.sha256 is None:
        return None
    octets = "size not known" if side.size_bytes is None else f"{side.size_bytes:,} bytes"
    return visible(f"{octets}, sha256 {side.sha256 or 'not known'}")


def _place(branch: Branch, named: dict[str, int]) -> list[Any]:
    leaves = [
        [
            visible(headline(leaf)),
            [None if value is None else visible(value) for value in (leaf.left, leaf.right)],
            None if leaf.cause is None else named[leaf.cause],
            visible(with_evidence(leaf)),
        ]
        for leaf in branch.leaves
    ]
    names = [visible(name) for name in branch.names]
    return [names, leaves, [_place(below, named) for below in branch.branches], branch.count]

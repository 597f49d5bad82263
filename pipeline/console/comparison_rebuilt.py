"""What builds that were made again told, in each of a comparison's reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.console.comparison_words import many
from pipeline.console.outline import ARROW
from pipeline.records.comparison import ComparedLeaf, Comparison, Rebuild, RebuiltLeaf

#: So many places of one finding are named.
_MOST_PLACES = 3


@dataclass
class Finding:
    """Leaves of which the same is told: `count` of them, and the first few by name."""

    told: RebuiltLeaf
    count: int
    places: list[str]


def findings(found: Comparison) -> list[Finding]:
    """Returns what was told of leaves, each once, what is told of most of them first."""
    groups: dict[tuple[str | None, ...], Finding] = {}
    for artifact in found.artifacts:
        for leaf in artifact.leaves:
            if leaf.rebuilt is None:
                continue
            told = leaf.rebuilt
            group = groups.setdefault((told.text, told.evidence, told.remedy), Finding(told, 0, []))
            group.count += 1
            if len(group.places) < _MOST_PLACES:
                group.places.append(f"{ARROW.join(leaf.path[-2:])}, {leaf.what}")
    return sorted(groups.values(), key=lambda each: -each.count)


def where(finding: Finding) -> str:
    """Returns the places of a finding in words."""
    more = finding.count - len(finding.places)
    return "; ".join(finding.places) + (f"; {many(more, 'more place', 'more places')}" if more else "")


def with_evidence(leaf: ComparedLeaf) -> str:
    """Returns a leaf's evidence, with what building again told of it."""
    told = "" if leaf.rebuilt is None else f"built again: {leaf.rebuilt.text} ({leaf.rebuilt.evidence})"
    return "; ".join(filter(None, [leaf.evidence, told]))


def built(each: Rebuild) -> str:
    """Returns one build that was made again in words."""
    values = ", ".join(f"{name} = {value}" for name, value in each.changed.items())
    told = f"{each.name}{f' ({values})' if values else ''}: {each.duration_seconds:.1f} s"
    return f"{told}; failed: {each.problem}" if each.problem else told


def remarks(found: Comparison) -> Iterator[str]:
    """Yields what else there is to know about the builds that were made again."""
    if found.rebuilds is None:
        return
    again = found.rebuilds
    failed = sum(each.problem is not None for each in again.builds)
    seconds = sum(each.duration_seconds for each in again.builds)
    yield (
        f"Builds made again: {len(again.builds):,}"
        f"{f', {failed:,} of which failed' if failed else ''}; {seconds:.0f} s. Each {again.built}."
    )
    if again.modules:
        yield f"What differs is made by {', '.join(again.modules)}."
    yield from again.notes
    if again.not_varied:
        yield f"Not varied: {'; '.join(again.not_varied)}."

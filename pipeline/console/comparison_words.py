"""What every report of a comparison says in the same words: what its verdict means, and what was counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pipeline.records.comparison import ComparedArtifact, ComparedLeaf, Comparison, Difference, Verdict

#: From what asks for attention to what needs none: the order in which artifacts are told.
WORST_FIRST: tuple[Verdict, ...] = (
    Verdict.DIFFER,
    Verdict.INCOMPARABLE,
    Verdict.INCOMPLETE,
    Verdict.AGREE_NORMALISED,
    Verdict.AGREE,
)

_MEANING = {
    Verdict.AGREE: "Every artifact is there on both sides, with the same bytes.",
    Verdict.AGREE_NORMALISED: "Bytes differ, and the normalisers named make both sides the same bytes.",
    Verdict.DIFFER: "The bytes of at least one artifact differ.",
    Verdict.INCOMPARABLE: "Something was held against itself: that proves nothing.",
    Verdict.INCOMPLETE: "Something is missing or could not be read, so nothing is proved.",
}
_OTHER_INPUTS = "The sides were made from other inputs, so nothing follows from their bytes."

Sided = tuple[str, str | None]


def meaning(found: Comparison) -> str:
    """Returns what the verdict over all means, in a sentence."""
    verdict = Verdict(found.verdict)
    if verdict is Verdict.INCOMPARABLE and found.inputs:
        return _OTHER_INPUTS
    return _MEANING[verdict]


def reservations(found: Comparison) -> list[str]:
    """Returns what this comparison does not say, a sentence each."""
    said = []
    if found.scope == "files":
        said.append(
            "These are files: what they were built from is not known, so nothing is said about builds."
        )
    if not found.independent:
        said.append("Nothing shows that two different machines made the two sides.")
    return said


def counted(found: Comparison) -> dict[Verdict, int]:
    """Returns how many artifacts have each verdict, the worst first, without those that none has."""
    counts = dict.fromkeys(WORST_FIRST, 0)
    for artifact in found.artifacts:
        counts[Verdict(artifact.verdict)] += 1
    return {verdict: count for verdict, count in counts.items() if count}


def by_attention(
    artifacts: Iterable[ComparedArtifact], *, worst_last: bool = False
) -> list[ComparedArtifact]:
    """Returns artifacts in the order in which they ask for attention, otherwise as they were."""
    sign = -1 if worst_last else 1
    return sorted(artifacts, key=lambda each: sign * WORST_FIRST.index(Verdict(each.verdict)))


def places(artifact: ComparedArtifact) -> int:
    """Returns in how many places an artifact differs, also those that the record leaves out."""
    return len(artifact.leaves) + artifact.leaves_omitted


def unexplained(found: Comparison) -> int:
    """Returns how many of the leaves that the record has nothing explains."""
    return sum(leaf.cause is None for artifact in found.artifacts for leaf in artifact.leaves)


def cause_numbers(found: Comparison) -> dict[str, int]:
    """Returns a number for the name of each cause, also of one that only a leaf has."""
    told = [cause.name for cause in found.causes]
    told += [leaf.cause for each in found.artifacts for leaf in each.leaves if leaf.cause is not None]
    return {name: number for number, name in enumerate(dict.fromkeys(told))}


def headline(leaf: ComparedLeaf) -> str:
    """Returns what differs at a leaf: the property, and of how many entries."""
    if leaf.count == 1:
        return leaf.what
    example = "" if leaf.left is None and leaf.right is None else ", for instance"
    return f"{leaf.what} of {leaf.count:,} entries{example}"


def sides(found: Comparison) -> list[str]:
    """Returns what the sides are called where their values stand beside one another: builders, if two are."""
    builds = found.left_build, found.right_build
    if builds[0] and builds[1] and builds[0].builder != builds[1].builder:
        return [str(builds[0].builder), str(builds[1].builder)]
    return ["left", "right"]


def values(found: Comparison, left: str | None, right: str | None) -> list[Sided]:
    """Returns what each side has, by the side's name."""
    return list(zip(sides(found), (left, right), strict=True))


def origins(found: Comparison) -> Iterator[tuple[str, str, str]]:
    """Yields each side's name, where its files lie, and whose build they are in words ("" without one)."""
    builds = found.left_build, found.right_build
    for name, place, build in zip(sides(found), (found.left, found.right), builds, strict=True):
        if build is None:
            yield name, place, ""
        else:
            whose = "" if name == build.builder else f"{build.builder}, "
            yield name, place, f"{whose}job {build.job_id}, commit {build.commit}"


def grouped(differences: Sequence[Difference]) -> dict[str, list[Difference]]:
    """Returns differences by the word before the first dot of their name, in their order; "" has none."""
    groups: dict[str, list[Difference]] = {}
    for each in differences:
        group, dot, _rest = each.name.partition(".")
        groups.setdefault(group if dot else "", []).append(each)
    return groups


def many(count: int, one: str, more: str | None = None) -> str:
    """Returns a number with its noun: `1 place`, `4,130 places`."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"

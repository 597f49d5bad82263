"""What the reports say where more than two builds were compared: who is equal, and what every two are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.console.comparison_words import counted
from pipeline.records.comparison import ComparedArtifact, Comparison, Verdict

#: What stands below groups, wherever they are told.
NO_RIGHT_ONE = (
    "Builders of one group made the same packages, byte for byte. None of the groups is the right one."
)


def group_lines(found: Comparison) -> list[str]:
    """Returns the builders of each group, where more than two builds were compared."""
    return [", ".join(each.builders) for each in found.groups] if found.pairs else []


def named(pair: Comparison) -> str:
    """Returns whose two builds these are: by builder, or by job where that is one."""
    builds = [each for each in (pair.left_build, pair.right_build) if each]
    by_job = len({each.builder for each in builds}) < len(builds)
    return " and ".join(f"{b.builder} ({b.job_id})" if by_job else str(b.builder) for b in builds)


def each_in_words(found: Comparison) -> list[tuple[str, Verdict, str]]:
    """Returns of every two builds who they are, the verdict, and in words what it is of; the worst first."""
    if not found.pairs:
        return []
    pairs = found.each_pair()
    names = {tuple(_jobs(pair)): named(pair) for pair in pairs}
    return [(named(pair), Verdict(pair.verdict), _said(pair, names)) for pair in pairs]


def _said(pair: Comparison, names: Mapping[tuple[str, ...], str]) -> str:
    if pair.inputs:
        return f"other inputs: {', '.join(each.name for each in pair.inputs[:3])}" + (
            " …" if len(pair.inputs) > 3 else ""
        )
    other = [each for each in pair.artifacts if each.told_in]
    if other and not any(each.leaves for each in pair.artifacts):
        told = dict.fromkeys(names.get(tuple(each.told_in), "others") for each in other)
        return f"as {', as '.join(told)}"
    return ", ".join(f"{count:,} {verdict}" for verdict, count in counted(pair).items())


def _jobs(pair: Comparison) -> list[str]:
    return [each.job_id for each in (pair.left_build, pair.right_build) if each]


def beside(found: Comparison) -> list[Comparison]:
    """Returns the pairs, beside the one that tells most, that have places of their own, or problems.

    About what other inputs made nothing is said: that they are others is told with all pairs.
    """
    pairs = [each for each in found.each_pair()[1:] if each.verdict != Verdict.INCOMPARABLE]
    return [pair for pair in pairs if pair.problems or own(pair.artifacts)]


def own(artifacts: Sequence[ComparedArtifact]) -> list[ComparedArtifact]:
    """Returns the artifacts of a pair that are told nowhere else and not the same."""
    return [each for each in artifacts if each.verdict != Verdict.AGREE and not each.told_in]

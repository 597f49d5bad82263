"""Which of the pairs that a comparison of several builds tells of say anything for a promotion. PURE.

Of several builds one may dissent, or be made from other inputs: what two others agree about stays that.
Whether dissent blocks is not decided here but by what its builder has stated (`promotion`), so nothing is
lost by leaving out a pair that does not agree; and a build that counts has to be in one that does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pipeline.records.comparison import Comparison, Verdict

_AGREEMENT: Final = (Verdict.AGREE, Verdict.AGREE_NORMALISED)


def agreeing(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Returns comparisons of two builds each: of more than two as few agreeing pairs as join all that agree.

    What was compared of two builds only, or agrees in no pair, stays as it is: it will be refused for what it
    says. Where one pair agrees when normalised, equal bytes beside it say nothing of those that are promoted.
    """
    return [pair for each in comparisons for pair in _agreeing(each)]


def _agreeing(found: Comparison) -> list[Comparison]:
    if not found.pairs:
        return [found]
    good = [p for p in found.each_pair() if p.verdict in _AGREEMENT and not p.problems and not p.inputs]
    if any(pair.verdict == Verdict.AGREE_NORMALISED for pair in good):
        good = [pair for pair in good if pair.verdict == Verdict.AGREE_NORMALISED]
    kept: list[Comparison] = []
    groups: list[set[str]] = []
    for pair in sorted(good, key=lambda pair: not pair.independent):
        builds = {build.job_id for build in (pair.left_build, pair.right_build) if build}
        touched = [each for each in groups if each & builds]
        if not any(builds <= each for each in touched):
            kept.append(pair)
            groups = [each for each in groups if each not in touched] + [builds.union(*touched)]
    return kept or [found]

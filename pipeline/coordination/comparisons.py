"""Comparisons: what builders found when they held builds against each other. The newest are kept.

What lives here: what may be recorded, and how much of it. What must not: deciding a verdict, or believing in
one: a record says what a builder said, and promotes nothing.
"""

from __future__ import annotations

from typing import Final

from pipeline.coordination.draft import Answer, Draft, replaced
from pipeline.coordination.presence import unknown_builder
from pipeline.records import paths
from pipeline.records.comparison import Comparisons, KeptComparison, Verdict
from pipeline.records.decisions import Refusal
from pipeline.records.requests import ComparisonRecord

#: So many are kept in the file; the others are in the history.
MOST: Final = 50
_AGREEMENT: Final = (Verdict.AGREE, Verdict.AGREE_NORMALISED)


def record(draft: Draft, request: ComparisonRecord) -> Answer:
    """Keeps a comparison; one that says what is said of the same builds already changes nothing."""
    found = request.summary
    for name in [request.builder, *(build.builder for build in found.builds)]:
        if (refused := unknown_builder(draft, name)) is not None:
            return refused
    builders = [build.builder for build in found.builds]
    if found.verdict in _AGREEMENT and len(set(builders)) < len(builders):
        return Refusal(
            "one-builder", f"{builders[0]} cannot agree with itself.", "Compare two builders' builds."
        )
    before = draft.get(Comparisons, paths.COMPARISONS) or Comparisons()
    for each in reversed(before.comparisons):
        if each.builds == found.builds:
            if said(each) == found.model_dump():
                return {"changed": False, "id": each.id}
            break
    kept = KeptComparison(id=draft.context.op, by=request.builder, at=draft.now, **found.model_dump())
    draft.put(paths.COMPARISONS, replaced(before, comparisons=[*before.comparisons, kept][-MOST:]))
    return {"changed": True, "id": kept.id}


def said(kept: KeptComparison) -> dict[str, object]:
    """Returns what was found, without who recorded it and when."""
    return kept.model_dump(exclude={"id", "by", "at"})

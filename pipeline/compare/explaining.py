"""Explains an artifact that differs: goes down into it, and holds it to what was hashed before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pipeline.compare.descent import Found, descend
from pipeline.compare.wire import Line
from pipeline.records.comparison import ComparedArtifact, Verdict

#: Of one artifact so many differing leaves are kept; more are counted.
MOST_LEAVES: Final = 10_000


def explain(artifact: ComparedArtifact, one: Line, two: Line, say: Callable[[str], None]) -> ComparedArtifact:
    """Returns an artifact that differs with the leaves in which it does."""
    if artifact.verdict != Verdict.DIFFER:
        return artifact
    say(f"Looking into {artifact.name} …")
    found: Found = descend(one, two, artifact.name)
    digests = artifact.left.sha256, artifact.right.sha256
    for line, digest in zip((one, two), digests, strict=True):
        again = line.ask({"ask": "again", "files": [artifact.name]}).get("digests", {})
        if not isinstance(again, dict) or again.get(artifact.name) != digest:
            found.unreadable.append(f"{artifact.name} changed on {line.name} while it was compared")
    problem = "; ".join(found.unreadable[:3]) or None
    return artifact.model_copy(
        update={
            "verdict": Verdict.INCOMPLETE if problem else Verdict.DIFFER,
            "problem": problem,
            "leaves": found.leaves[:MOST_LEAVES],
            "leaves_omitted": max(0, len(found.leaves) - MOST_LEAVES),
        }
    )

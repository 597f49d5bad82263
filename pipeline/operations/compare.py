"""Compares two sides' artifacts: asks both readers at once, judges, and goes down into what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.compare.descent import Found, descend
from pipeline.compare.verdicts import Stated, judge, overall, read_stated
from pipeline.compare.wire import Line
from pipeline.edge.clock import Clock
from pipeline.edge.conversation import Conversation
from pipeline.errors import ComparisonIncomplete, UsageError
from pipeline.records.comparison import ComparedArtifact, Comparison, Verdict, Wire

#: Of one artifact so many differing leaves are kept; more are counted.
MOST_LEAVES = 10_000


@dataclass(frozen=True)
class Place:
    """Where one side's files lie: a folder or a file of this machine."""

    path: Path

    @property
    def name(self) -> str:
        """Returns it in words."""
        return str(self.path)


def place_of(word: str, option: str) -> Place:
    """Reads a side as it was typed. Raises UsageError for one that is not there."""
    path = Path(word).expanduser().absolute()
    if not word or not path.exists():
        raise UsageError(
            f"{option} {word!r} is no file or folder of this machine.",
            remedy="Give the folders, or the files, that are to be compared.",
        )
    return Place(path)


def compare_files(
    left: Place,
    right: Place,
    converse: Callable[[str], Conversation],
    clock: Clock,
    say: Callable[[str], None],
) -> Comparison:
    """Compares two folders or files. Nothing is said about builds: their inputs are not known.

    Raises ComparisonIncomplete where a side cannot be read or its reader fails.
    """
    begun = clock.boottime()
    lines: list[Line] = []
    try:
        for place in (left, right):
            lines.append(Line(place.name, converse(place.name)))
        return _compare(left, right, lines[0], lines[1], begun, clock, say)
    finally:
        for line in lines:
            line.close()


def _compare(
    left: Place, right: Place, one: Line, two: Line, begun: float, clock: Clock, say: Callable[[str], None]
) -> Comparison:
    say("Hashing both sides …")
    # Two files are held against each other whatever they are called.
    name = {"name": left.path.name} if left.path.is_file() and right.path.is_file() else {}
    one.begin({"ask": "files", "root": str(left.path), **name})
    two.begin({"ask": "files", "root": str(right.path), **name})
    answers = one.finish(), two.finish()
    problems: list[str] = []
    stated: list[list[Stated]] = []
    for place, answer in zip((left, right), answers, strict=True):
        read = read_stated(answer)
        if isinstance(read, str):
            raise ComparisonIncomplete(f"{place.name} cannot be compared: {read}.")
        stated.append(read)
        if not read:
            problems.append(f"{place.name} holds no files: two empty sets prove nothing")
    artifacts = judge(stated[0], stated[1], same_machine=True)
    artifacts = [_explained(each, one, two, say) for each in artifacts]
    wire = Wire(
        bytes=one.counted.bytes + two.counted.bytes,
        round_trips=max(one.counted.round_trips, two.counted.round_trips),
    )
    return Comparison(
        verdict=overall(artifacts, problems),
        scope="files",
        independent=False,
        left=left.name,
        right=right.name,
        artifacts=artifacts,
        problems=problems,
        wire=wire,
        duration_seconds=clock.boottime() - begun,
    )


def _explained(
    artifact: ComparedArtifact, one: Line, two: Line, say: Callable[[str], None]
) -> ComparedArtifact:
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

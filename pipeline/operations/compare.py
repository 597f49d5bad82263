"""Compares two sides' artifacts: asks both readers at once, judges, and goes down into what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.compare.explaining import explain
from pipeline.compare.verdicts import Stated, judge, overall, read_stated
from pipeline.compare.wire import Line
from pipeline.edge.clock import Clock
from pipeline.edge.conversation import Conversation
from pipeline.errors import ComparisonIncomplete, UsageError
from pipeline.records.comparison import Comparison, Wire


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
    artifacts = [explain(each, one, two, say) for each in artifacts]
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

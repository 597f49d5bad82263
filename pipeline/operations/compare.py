"""Compares two sides' artifacts: asks both readers at once, judges, and goes down into what differs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from pipeline.compare.explaining import causes_of, explain, normalisers_of
from pipeline.compare.showing import NOT_SHOWING, Shows
from pipeline.compare.verdicts import judge, overall
from pipeline.compare.wire import ANSWER_SECONDS, Line, same_machine
from pipeline.edge.clock import Clock
from pipeline.edge.conversation import Conversation
from pipeline.operations.places import Place
from pipeline.operations.sides import hash_files, open_line, open_together, wire_of
from pipeline.records.comparison import Comparison, Verdict


def compare_files(
    left: Place,
    right: Place,
    converse: Callable[[Place], Conversation],
    clock: Clock,
    say: Callable[[str], None],
    seconds: float = ANSWER_SECONDS,
    showing: Shows = NOT_SHOWING,
) -> Comparison:
    """Compares two folders or files. Nothing is said about builds: their inputs are not known.

    `converse` starts a reader where a side lies; both sides at once. Each answer is waited for so many
    `seconds`. `showing` shows leaves that differ, once the verdict is known. Raises
    ComparisonIncomplete, or one of its kinds, where a side cannot be reached or read.
    """
    begun = clock.boottime()
    far = [place.name for place in (left, right) if place.host is not None]
    if far:
        say(f"Connecting to {' and '.join(far)} …")
    with ExitStack() as closing:
        openings = [partial(open_line, place, converse, seconds) for place in (left, right)]
        one, two = open_together(openings, closing, say)
        return _compare(left, right, one, two, begun, clock, say, showing)


def _compare(
    left: Place,
    right: Place,
    one: Line,
    two: Line,
    begun: float,
    clock: Clock,
    say: Callable[[str], None],
    showing: Shows,
) -> Comparison:
    connecting = clock.boottime() - begun
    say("Hashing both sides …")
    # Two files are held against each other whatever they are called.
    names = [left.path.name] * 2 if one.machine.is_file and two.machine.is_file else []
    stated = hash_files((one, two), [str(left.path), str(right.path)], names)
    problems = [
        f"{place.name} holds no files: two empty sets prove nothing"
        for place, files in zip((left, right), stated, strict=True)
        if not files
    ]
    same = same_machine(one.machine, two.machine)
    same_builder = left.builder is not None and left.builder == right.builder
    artifacts = judge(*stated, same_machine=same, same_builder=same_builder)
    artifacts = [explain(each, one, two, say, note=showing.note) for each in artifacts]
    verdict = overall(artifacts, problems)
    artifacts = showing.show(artifacts, one, two, say)
    return Comparison(
        verdict=verdict,
        scope="files",
        independent=same is False and verdict != Verdict.INCOMPARABLE,
        left=left.name,
        right=right.name,
        artifacts=artifacts,
        problems=problems,
        causes=causes_of(artifacts),
        normalisers=normalisers_of(artifacts),
        wire=wire_of((one, two), connecting),
        duration_seconds=clock.boottime() - begun,
    )

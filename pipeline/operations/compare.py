"""Compares two sides' artifacts: asks both readers at once, judges, and goes down into what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from pipeline.compare.explaining import causes_of, explain
from pipeline.compare.verdicts import Stated, judge, overall, read_stated
from pipeline.compare.wire import ANSWER_SECONDS, Line, same_machine
from pipeline.edge.clock import Clock
from pipeline.edge.conversation import Conversation
from pipeline.errors import ComparisonIncomplete, HostRefused, PipelineError
from pipeline.operations.places import Place, place_of
from pipeline.records.comparison import Comparison, Verdict, Wire

__all__ = ["Place", "compare_files", "place_of"]


def compare_files(
    left: Place,
    right: Place,
    converse: Callable[[Place], Conversation],
    clock: Clock,
    say: Callable[[str], None],
    seconds: float = ANSWER_SECONDS,
) -> Comparison:
    """Compares two folders or files. Nothing is said about builds: their inputs are not known.

    `converse` starts a reader where a side lies; both sides at once. Each answer is waited for so many
    `seconds`. Raises ComparisonIncomplete, or one of its kinds, where a side cannot be reached or read.
    """
    begun = clock.boottime()
    with ExitStack() as closing:
        one, two = _connect((left, right), converse, seconds, closing, say)
        return _compare(left, right, one, two, begun, clock, say)


def _connect(
    places: tuple[Place, Place],
    converse: Callable[[Place], Conversation],
    seconds: float,
    closing: ExitStack,
    say: Callable[[str], None],
) -> tuple[Line, Line]:
    """Opens the lines to both sides at once. Of two errors the left one is raised, the other said."""
    far = [place.name for place in places if place.host is not None]
    if far:
        say(f"Connecting to {' and '.join(far)} …")
    with ThreadPoolExecutor(len(places)) as pool:
        opening = [pool.submit(open_line, place, converse, seconds) for place in places]
        errors = [each.exception() for each in opening]
        for each, error in zip(opening, errors, strict=True):
            if error is None:
                closing.callback(each.result().close)
    failed = [error for error in errors if error is not None]
    for error in failed[1:]:
        if isinstance(error, PipelineError):
            say(str(error))
    if failed:
        raise failed[0]
    return opening[0].result(), opening[1].result()


def open_line(
    place: Place, converse: Callable[[Place], Conversation], seconds: float = ANSWER_SECONDS
) -> Line:
    """Opens the line to one side. Raises ComparisonIncomplete, HostRefused also for another machine than the
    one that is pinned.
    """
    talk = converse(place)
    try:
        line = Line(place.name, talk, seconds, str(place.path))
        _insist_on_machine(place, line)
    except BaseException:
        talk.close()
        raise
    return line


def _insist_on_machine(place: Place, line: Line) -> None:
    if place.machine_id is not None and place.machine_id != line.machine.machine_id:
        raise HostRefused(
            f"{place.name}: the machine's id is {line.machine.machine_id or 'not known'}, not the pinned"
            f" {place.machine_id}.",
            "machine",
            remedy=f"Another machine may answer in its place. If it was set up anew, correct"
            f" `builders.{place.builder}.machine_id` in this machine's config.toml.",
        )


def _compare(
    left: Place, right: Place, one: Line, two: Line, begun: float, clock: Clock, say: Callable[[str], None]
) -> Comparison:
    connecting = clock.boottime() - begun
    say("Hashing both sides …")
    # Two files are held against each other whatever they are called.
    name = {"name": left.path.name} if one.machine.is_file and two.machine.is_file else {}
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
    same = same_machine(one.machine, two.machine)
    artifacts = judge(*stated, same_machine=same, same_builder=_same_builder(left, right))
    artifacts = [explain(each, one, two, say) for each in artifacts]
    verdict = overall(artifacts, problems)
    return Comparison(
        verdict=verdict,
        scope="files",
        independent=same is False and verdict != Verdict.INCOMPARABLE,
        left=left.name,
        right=right.name,
        artifacts=artifacts,
        problems=problems,
        causes=causes_of(artifacts),
        normalisers=sorted({name for each in artifacts for name in each.normalisers}),
        wire=wire_of((one, two), connecting),
        duration_seconds=clock.boottime() - begun,
    )


def _same_builder(left: Place, right: Place) -> bool:
    return left.builder is not None and left.builder == right.builder


def wire_of(lines: Sequence[Line], connecting: float) -> Wire:
    """Returns what travelled on some lines, which took so many seconds to open."""
    return Wire(
        bytes=sum(line.counted.bytes for line in lines),
        round_trips=max(line.counted.round_trips for line in lines),
        handshake_bytes=sum(line.counted.handshake_bytes for line in lines),
        program_bytes=sum(line.counted.program_bytes for line in lines),
        connect_seconds=connecting,
    )

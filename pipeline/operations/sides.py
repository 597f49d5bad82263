"""What both kinds of comparison do with their sides: lines to readers, what each states, what travelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from pipeline.compare.verdicts import Stated, read_stated
from pipeline.compare.wire import ANSWER_SECONDS, Line
from pipeline.edge.conversation import Conversation
from pipeline.errors import ComparisonIncomplete, HostRefused, PipelineError
from pipeline.operations.places import Place
from pipeline.records.comparison import Wire


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


def open_together(
    openings: Sequence[Callable[[], Line]], closing: ExitStack, say: Callable[[str], None]
) -> list[Line]:
    """Opens all lines at once; `closing` closes them. Of errors the first is raised, the others said."""
    with ThreadPoolExecutor(len(openings)) as pool:
        opening = [pool.submit(each) for each in openings]
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
    return [each.result() for each in opening]


def hash_files(lines: Sequence[Line], roots: Sequence[str], names: Sequence[str] = ()) -> list[list[Stated]]:
    """Has every side hash what lies in its folder, or its one file of a name, all at once.

    Raises ComparisonIncomplete where an answer is none.
    """
    for line, root, name in zip(lines, roots, names or [""] * len(lines), strict=True):
        line.begin({"ask": "files", "root": root, **({"name": name} if name else {})})
    answers = [line.finish() for line in lines]
    files = []
    for line, answer in zip(lines, answers, strict=True):
        read = read_stated(answer)
        if isinstance(read, str):
            raise ComparisonIncomplete(f"{line.name} cannot be compared: {read}.")
        files.append(read)
    return files


def wire_of(lines: Sequence[Line], connecting: float) -> Wire:
    """Returns what travelled on some lines, which took so many seconds to open."""
    return Wire(
        bytes=sum(line.counted.bytes for line in lines),
        round_trips=max(line.counted.round_trips for line in lines),
        handshake_bytes=sum(line.counted.handshake_bytes for line in lines),
        program_bytes=sum(line.counted.program_bytes for line in lines),
        connect_seconds=connecting,
    )


def _insist_on_machine(place: Place, line: Line) -> None:
    if place.machine_id is not None and place.machine_id != line.machine.machine_id:
        raise HostRefused(
            f"{place.name}: the machine's id is {line.machine.machine_id or 'not known'}, not the pinned"
            f" {place.machine_id}.",
            "machine",
            remedy=f"Another machine may answer in its place. If it was set up anew, correct"
            f" `builders.{place.builder}.machine_id` in this machine's config.toml.",
        )

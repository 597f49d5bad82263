"""Shows what stays different after all: pairs of leaves, each as the tool for its kind prints it.

It begins when every verdict has been given, and gives none: what it returns are the same artifacts with
displays. Whatever a tool does (nothing, lies, hangs, dies, prints without end) changes its display alone.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pipeline.compare.descent import Found, Node, ask_both
from pipeline.compare.differing_lines import (
    LONGEST_LINE,
    MOST_LINES,
    Lines,
    byte_lines,
    class_lines,
    is_text,
    text_lines,
)
from pipeline.compare.evidence import spots_of
from pipeline.compare.wire import Line
from pipeline.edge.clock import Clock
from pipeline.edge.confined import Bounds, Ran
from pipeline.errors import ComparisonIncomplete
from pipeline.records.comparison import ComparedArtifact, ComparedDisplay, ComparedLeaf, Verdict

#: Leaves up to this size are fetched whole, in bytes of each side; of larger ones a part where they differ.
MOST_BYTES: Final = 4 << 20
_BEFORE: Final = 1 << 10
_PART: Final = 4 << 10
#: So many pairs are shown at the most, however they are asked for.
MOST_SHOWN: Final = 20
#: No display is begun after so long.
MOST_SECONDS: Final = 120.0
#: What is read line by line below, but is a file that somebody would open.
_FILES: Final = frozenset({"class", "properties", "manifest", "elf"})
_JAVAP: Final = (
    *("-J-Xmx256m", "-J-XX:+UseSerialGC", "-J-XX:TieredStopAtLevel=1", "-J-XX:-UsePerfData"),
    *("-J-XX:CompressedClassSpaceSize=64m", "-J-XX:ReservedCodeCacheSize=32m", "-p", "-c", "-v"),
)
_DIFFOSCOPE: Final = (
    *("--no-progress", "--text-color", "never", "--text", "-", "--timeout", "15"),
    *("--max-text-report-size", "200000", "--max-diff-block-lines", "100"),
)
_DIFFERENT: Final = 1


class Tools(Protocol):
    """The programs that show, run so that they can do nothing but print."""

    def where(self, name: str) -> str | None:
        """Returns where a program of this name lies; None where there is none."""

    def run(self, program: Sequence[str], files: Mapping[str, bytes], bounds: Bounds) -> Ran:
        """Runs a program in a folder that holds these files. Raises OSError."""

    @property
    def confined(self) -> str:
        """Says how they are run, in words."""


@dataclass(frozen=True)
class Wanted:
    """What is to be shown: of the leaves whose path holds all these words, so many at the most."""

    most: int = 5
    words: tuple[str, ...] = ()

    def takes(self, path: Sequence[str]) -> bool:
        """Says whether a path is meant."""
        whole = "/".join(path).casefold()
        return all(word.casefold() in whole for word in self.words)


def wanted(asked: str | bool) -> Wanted | None:
    """Reads what is to be shown: a number is so many, words are those that have them in their path.

    True is as many as are shown without either, and nothing is none.
    """
    if not asked or asked is True:
        return Wanted() if asked else None
    if asked.isascii() and asked.isdigit():
        return Wanted(min(int(asked), MOST_SHOWN))
    return Wanted(MOST_SHOWN, tuple(asked.split()))


@dataclass
class Pair:
    """Two leaves that may be shown. `unexplained`: no cause is known for what differs of them."""

    node: Node
    unexplained: bool = False
    differs: bool = field(default=False)


class Shows(Protocol):
    """What a comparison does with displays: notes what there is to show, and shows it in the end."""

    def note(self, artifact: ComparedArtifact, found: Found) -> None:
        """Is told of each artifact once its verdict is given."""

    def show(
        self, artifacts: Sequence[ComparedArtifact], one: Line, two: Line, say: Callable[[str], None]
    ) -> list[ComparedArtifact]:
        """Returns the artifacts with displays, and nothing else changed. Raises nothing."""


class NotShowing:
    """Shows nothing."""

    def note(self, artifact: ComparedArtifact, found: Found) -> None:
        pass

    def show(
        self, artifacts: Sequence[ComparedArtifact], one: Line, two: Line, say: Callable[[str], None]
    ) -> list[ComparedArtifact]:
        return list(artifacts)


NOT_SHOWING: Final = NotShowing()


class Showing:
    """Shows the leaves of one comparison."""

    def __init__(self, tools: Tools, clock: Clock, wanted: Wanted = Wanted()) -> None:
        self._tools, self._clock, self._wanted = tools, clock, wanted
        self._noted: dict[str, list[Pair]] = {}
        self._lost: str | None = None

    def note(self, artifact: ComparedArtifact, found: Found) -> None:
        """Remembers which leaves of an artifact there are to show, once its verdict is given."""
        if artifact.verdict == Verdict.DIFFER:
            pairs = pairs_of(found.root, artifact.leaves)
            self._noted[artifact.name] = [each for each in pairs if self._wanted.takes(each.node.shown)]

    def show(
        self, artifacts: Sequence[ComparedArtifact], one: Line, two: Line, say: Callable[[str], None]
    ) -> list[ComparedArtifact]:
        """Returns the artifacts with displays, those without a known cause first; nothing else is changed.

        Raises nothing: what cannot be shown says why.
        """
        until = self._clock.boottime() + MOST_SECONDS
        every = [(name, pair) for name, pairs in self._noted.items() for pair in pairs]
        every.sort(key=lambda each: not each[1].unexplained)
        if not every:
            say("Nothing to show: no two files that something is left to explain of.")
        made: dict[str, list[ComparedDisplay]] = {}
        for name, pair in every[: self._wanted.most]:
            say(f"Showing {pair.node.shown[-1]} …")
            made.setdefault(name, []).append(self._display(pair, one, two, until))
        return [each.model_copy(update={"displays": made.get(each.name, [])}) for each in artifacts]

    def _display(self, pair: Pair, one: Line, two: Line, until: float) -> ComparedDisplay:
        path = pair.node.shown
        if self._clock.boottime() >= until:
            return ComparedDisplay(path=path, problem=f"not shown: {MOST_SECONDS:g} s had passed")
        try:
            left, right, begin = self._fetched(one, two, pair.node)
            return self._shown(pair.node, left, right, begin)
        except Exception as exc:
            # Also a mistake in here must not change what was found before anything was shown.
            return ComparedDisplay(path=path, problem=f"cannot be shown: {str(exc)[:LONGEST_LINE]}")

    def _fetched(self, one: Line, two: Line, node: Node) -> tuple[bytes, bytes, int]:
        """Returns both leaves' bytes. Once a side was silent, its later answers may be those to that."""
        if self._lost is not None:
            raise ComparisonIncomplete(self._lost)
        try:
            answers, begin, most = ask_for((one, two), node)
        except ComparisonIncomplete as exc:
            self._lost = exc.message
            raise
        left, right = (_unpacked(line, each, most) for line, each in zip((one, two), answers, strict=True))
        return left, right, begin

    def _shown(self, node: Node, left: bytes, right: bytes, begin: int) -> ComparedDisplay:
        if begin or max(node.sizes) > MOST_BYTES:
            lines = byte_lines(left, right, begin) if not (is_text(left) and is_text(right)) else None
            told = f"only a part from byte {begin} on: each side has {max(node.sizes):,} bytes or less"
            return _made(node, "text" if lines is None else "bytes", lines or text_lines(left, right), told)
        if node.kind == "class":
            return self._class(node, left, right)
        if node.kind != "elf" and is_text(left) and is_text(right):
            return _made(node, "text", text_lines(left, right))
        return self._other(node, left, right)

    def _class(self, node: Node, left: bytes, right: bytes) -> ComparedDisplay:
        """Shows two classes as javap prints them, each by a process of its own."""
        program = self._tools.where("javap")
        if program is None:
            return self._other(node, left, right, "javap is not installed, or cannot be confined")
        printed = []
        for data in (left, right):
            # In a folder: javap takes a bare name for that of a class which it has to find.
            ran = self._tools.run([program, *_JAVAP, "one/leaf.class"], {"one/leaf.class": data}, Bounds())
            if ran.status != 0 or ran.cut:
                return _bytes(node, left, right, f"javap {_failed(ran)}")
            printed.append(ran.output.decode("utf-8", "surrogateescape"))
        lines = class_lines(*printed)
        if lines is None:
            return _bytes(node, left, right, "javap prints the same of both")
        return _made(node, "javap", lines, confined=self._tools.confined)

    def _other(self, node: Node, left: bytes, right: bytes, why: str = "") -> ComparedDisplay:
        """Shows what is no text, with diffoscope where it is installed."""
        program = self._tools.where("diffoscope")
        if program is None:
            return _bytes(node, left, right, why or "diffoscope is not installed, or cannot be confined")
        names = [f"{side}/leaf{_suffix(node.shown[-1])}" for side in ("left", "right")]
        files = dict(zip(names, (left, right), strict=True))
        ran = self._tools.run([program, *_DIFFOSCOPE, *names], files, Bounds())
        if ran.status != _DIFFERENT or not ran.output.strip():
            told = "sees no difference" if ran.status == 0 else _failed(ran)
            return _bytes(node, left, right, f"diffoscope {told}")
        text = ran.output.decode("utf-8", "surrogateescape").expandtabs().rstrip("\n").split("\n")
        shown = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…" for line in text]
        lines = Lines(tuple(shown[:MOST_LINES]), max(0, len(shown) - MOST_LINES))
        return _made(node, "diffoscope", lines, why, self._tools.confined)


def pairs_of(root: Node, leaves: Sequence[ComparedLeaf]) -> list[Pair]:
    """Returns the files inside an artifact that no normaliser explains, in the order of their finding.

    Not those that follow from others, nor what is there on one side only: there are no two to show.
    """
    pairs: dict[tuple[str, ...], Pair] = {}
    for node in _files(root):
        pairs.setdefault(tuple(node.shown), Pair(node))
    for leaf in leaves:
        if leaf.normalisers is None and leaf.cause != "follows":
            # A method of a class or a line of properties stands below the file it is of.
            ways = (tuple(leaf.path[:length]) for length in range(len(leaf.path), 0, -1))
            found = next((pairs[way] for way in ways if way in pairs), None)
            if found is not None:
                found.differs = True
                found.unexplained = found.unexplained or leaf.cause is None
    return [pair for pair in pairs.values() if pair.differs]


def _files(node: Node) -> Iterator[Node]:
    """Yields the places below one, or itself, that somebody would open as a file, and whose bytes differ."""
    content = node.kind is None and any(leaf.what in ("content", "format") for leaf in node.leaves)
    if content or node.kind in _FILES:
        yield node
        return
    for each in node.below:
        yield from _files(each)


def ask_for(lines: tuple[Line, Line], node: Node) -> tuple[tuple[Any, Any], int, int]:
    """Asks both sides for a leaf's bytes; returns the answers, from which byte on, and how many at the most.

    Raises ComparisonIncomplete where a side does not answer.
    """
    begin, most = 0, MOST_BYTES
    if max(node.sizes) > MOST_BYTES:
        spot = spots_of(lines, [node]).get(id(node), 0)
        begin, most = max(0, spot - spot % _BEFORE - _BEFORE), _PART
    question = {"ask": "part", "path": node.path, "begin": begin, "most": most}
    return ask_both(lines, question), begin, most


def _unpacked(line: Line, answer: Mapping[str, Any], most: int) -> bytes:
    data = answer.get("data")
    if not isinstance(data, str):
        why = answer.get("unreadable")
        raise ComparisonIncomplete(f"{line.name}: {why if isinstance(why, str) else 'its answer is none'}")
    try:
        packed = base64.b64decode(data, validate=True)
        decoder = zlib.decompressobj()
        unpacked = decoder.decompress(packed, most + 1)
    except (ValueError, zlib.error) as exc:
        raise ComparisonIncomplete(f"{line.name}: what it sent does not unpack: {exc}") from exc
    if len(unpacked) > most or not decoder.eof:
        raise ComparisonIncomplete(f"{line.name}: it sent something else than {most} bytes at the most")
    return unpacked


def _bytes(node: Node, left: bytes, right: bytes, why: str) -> ComparedDisplay:
    return _made(node, "bytes", byte_lines(left, right, 0), why)


def _made(node: Node, tool: str, lines: Lines, why: str = "", confined: str | None = None) -> ComparedDisplay:
    told = "; ".join(each for each in (lines.word, why) if each)
    return ComparedDisplay(
        path=node.shown,
        tool=tool,
        lines=list(lines.lines),
        omitted=lines.omitted,
        note=told or None,
        confined=confined,
    )


def _failed(ran: Ran) -> str:
    """Says in words what became of a program that shows nothing."""
    if ran.status is None or ran.status in (126, 127):
        return f"showed nothing: {ran.errors[:LONGEST_LINE]}"
    if ran.cut:
        return "printed more than it may"
    last = (ran.errors.splitlines() or [""])[-1][:LONGEST_LINE]
    return f"ended with status {ran.status}{f': {last}' if last else ''}"


def _suffix(name: str) -> str:
    """Returns what a file's name ends with, if it is a plain one: programs go by it."""
    dot, suffix = name.rpartition(".")[1:]
    return f".{suffix}" if dot and suffix.isascii() and suffix.isalnum() and len(suffix) <= 8 else ""

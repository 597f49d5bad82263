"""Two leaves' lines held against each other, to be read by people. PURE, and bounded whatever is in them.

What is shown begins with `-` for the left, `+` for the right, a space for both, and `@` where lines are left
out. It decides nothing.
"""

from __future__ import annotations

import bisect
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

#: So many lines of each side are aligned between two that certainly belong together; more of them are not.
MOST_ALIGNED: Final = 400
MOST_LINES: Final = 200
LONGEST_LINE: Final = 300
_AROUND: Final = 3
_ROW: Final = 16
_ROWS: Final = 32
#: Where a line that is too long is broken: generated text has few line ends, and these in their place.
_PIECE: Final = re.compile(r"[^;{},>]{0,200}[;{},>]?")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
#: What javap says of the file and not of the class.
_OF_FILE: Final = re.compile(r"(Classfile |  Last modified |  (SHA-256|MD5) checksum )")
_CONSTANT: Final = re.compile(r" +#\d+ = |Constant pool:")
_NUMBER: Final = re.compile(r"#\d+(?=[,; :)\].=]|$)")
_BEFORE_WORDS: Final = re.compile(r"# +//")

#: Lines of the left, and lines of the right that stand in their place: from, to, from, to.
Range = tuple[int, int, int, int]


@dataclass(frozen=True)
class Lines:
    """What is shown of two leaves, `omitted` lines apart. `word` says how to read it."""

    lines: tuple[str, ...]
    omitted: int = 0
    word: str | None = None


def is_text(data: bytes) -> bool:
    """Says whether bytes are text for people."""
    return _CONTROL.search(data) is None


def text_lines(left: bytes, right: bytes) -> Lines:
    """Returns the lines of two texts that differ, with some around them.

    A byte that is no UTF-8 is a surrogate. Lines that are too long for people are broken, which is said.
    """
    texts = [each.decode("utf-8", "surrogateescape").split("\n") for each in (left, right)]
    if max(len(line) for text in texts for line in text) > LONGEST_LINE:
        one, two = ([piece for line in text for piece in _broken(line)] for text in texts)
        return _differing(one, two, "long lines are broken after ; { } , >")
    return _differing(texts[0], texts[1], None)


def class_lines(left: str, right: str) -> Lines | None:
    """Returns what differs of what javap printed of two classes; None where that is nothing.

    Constants are left out, and their numbers with them, unless nothing else differs: one more constant
    changes the numbers of all behind it.
    """
    texts = [[line for line in text.split("\n") if not _OF_FILE.match(line)] for text in (left, right)]
    few = [
        [_BEFORE_WORDS.sub("# //", _NUMBER.sub("#", line)) for line in text if not _CONSTANT.match(line)]
        for text in texts
    ]
    if few[0] != few[1]:
        return _differing(few[0], few[1], "without the numbers of constants")
    if texts[0] != texts[1]:
        return _differing(texts[0], texts[1], "constants alone")
    return None


def byte_lines(left: bytes, right: bytes, begin: int) -> Lines:
    """Returns rows of bytes from the first that differs on; both sides begin with the byte `begin`."""
    same = next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    same = min(len(left), len(right)) if same is None else same
    first = max(0, same // _ROW - 2) * _ROW
    shown: list[str] = []
    rows = range(first, max(len(left), len(right)), _ROW)
    for at in rows[:_ROWS]:
        one, two = (_row(side[at : at + _ROW], begin + at) for side in (left, right))
        shown += (
            [f" {one}"] if one == two else [f"{sign}{row}" for sign, row in (("-", one), ("+", two)) if row]
        )
    return Lines(tuple(shown), max(0, len(rows) - _ROWS), "bytes in hexadecimal")


def _row(data: bytes, at: int) -> str:
    if not data:
        return ""
    text = "".join(chr(each) if 0x20 <= each < 0x7F else "." for each in data)
    return f"{at:08x}  {data.hex(' '):{3 * _ROW - 1}}  {text}"


def _broken(line: str) -> Iterator[str]:
    if len(line) <= LONGEST_LINE:
        yield line
        return
    yield from filter(None, _PIECE.findall(line))


def _differing(one: Sequence[str], two: Sequence[str], word: str | None) -> Lines:
    """Returns what differs with some lines around it, as much as is shown; of the rest it is counted."""
    lines: list[str] = []
    omitted = 0
    last: int | None = None
    for a, b, c, d in [*_aligned(one, two), (len(one) + _AROUND, 0, 0, 0)]:
        if len(lines) >= MOST_LINES:
            omitted += max(0, b - a) + (d - c)
            continue
        begin = max(0, a - _AROUND)
        if last is not None:
            behind = min(last + _AROUND, a, len(one))
            lines += [f" {line}" for line in one[last:behind]]
            begin = max(begin, behind)
        if a >= len(one) + _AROUND:
            break
        if last is None or begin > last + _AROUND:
            lines.append(f"@ line {begin + 1}" if a == c else f"@ lines {begin + 1} and {begin - a + c + 1}")
        lines += [f" {line}" for line in one[begin:a]]
        lines += [f"-{line}" for line in one[a:b]] + [f"+{line}" for line in two[c:d]]
        last = b
    omitted += max(0, len(lines) - MOST_LINES)
    shown = (
        line if len(line) <= LONGEST_LINE + 1 else f"{line[:LONGEST_LINE]}…" for line in lines[:MOST_LINES]
    )
    return Lines(tuple(shown), omitted, word)


def _aligned(one: Sequence[str], two: Sequence[str]) -> Iterator[Range]:
    """Yields the ranges of lines that differ, in their order, with equal ones between any two of them."""
    shown = 0
    for a, b, c, d in _between(_anchors(one, two), len(one), len(two)):
        if max(b - a, d - c) > MOST_ALIGNED or shown > MOST_LINES or not (b - a and d - c):
            yield a, b, c, d
            continue
        # Lines that are everywhere are no help in aligning, and cost most: it leaves them out by itself.
        for tag, e, f, g, h in difflib.SequenceMatcher(None, one[a:b], two[c:d]).get_opcodes():
            if tag != "equal":
                shown += (f - e) + (h - g)
                yield a + e, a + f, c + g, c + h


def _between(anchors: Sequence[tuple[int, int]], long: int, wide: int) -> Iterator[Range]:
    """Yields the ranges between lines that are known to belong together."""
    a = c = 0
    for at, beside in [*anchors, (long, wide)]:
        if at > a or beside > c:
            yield a, at, c, beside
        a, c = at + 1, beside + 1


def _anchors(one: Sequence[str], two: Sequence[str]) -> list[tuple[int, int]]:
    """Returns which lines belong together: those of equal ends, and of those that each side has just once the
    most that stand in one order on both.
    """
    shortest = min(len(one), len(two))
    head = next((n for n in range(shortest) if one[n] != two[n]), shortest)
    room = shortest - head
    tail = next((n for n in range(room) if one[-1 - n] != two[-1 - n]), room)
    counts = [Counter(side[head : len(side) - tail]) for side in (one, two)]
    at = {line: n for n, line in enumerate(two[head : len(two) - tail], head)}
    pairs = [
        (n, at[line])
        for n, line in enumerate(one[head : len(one) - tail], head)
        if counts[0][line] == counts[1][line] == 1
    ]
    ends = [(len(one) - n, len(two) - n) for n in range(tail, 0, -1)]
    return [*((n, n) for n in range(head)), *_ascending(pairs), *ends]


def _ascending(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the most of some pairs whose second numbers ascend as their first ones do."""
    tops: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for n, (_, number) in enumerate(pairs):
        place = bisect.bisect_left(tops, number)
        before.append(ends[place - 1] if place else -1)
        tops[place : place + 1] = [number]
        ends[place : place + 1] = [n]
    chain: list[tuple[int, int]] = []
    n = ends[-1] if ends else -1
    while n >= 0:
        chain.append(pairs[n])
        n = before[n]
    return chain[::-1]

"""Fetches what differs in leaves, to show it and to name causes: the first place, and some bytes around it.

Nothing here decides whether two sides agree. What travels is bounded: digests of pieces to find the place in
a large leaf, then a window on each side; of so many leaves an artifact.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pipeline.compare.causes import Shown
from pipeline.compare.descent import Node, ask_both
from pipeline.compare.wire import Line

#: Of so many leaves of an artifact it is looked up where they differ.
MOST_LOOKED_AT: Final = 200
_PIECES: Final = 32
_WHOLE: Final = 4096
_NEAR: Final = 256
_MOST_PAIRS: Final = 40
_STRINGS: Final = re.compile(rb"[\x20-\x7e\x80-\xff]{4,}")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1f]")


def look(lines: tuple[Line, Line], nodes: Sequence[Node]) -> dict[int, Shown]:
    """Returns, by the place's id, where each of some leaves parts; of the first ones alone."""
    nodes = nodes[:MOST_LOOKED_AT]
    spots = spots_of(lines, nodes)
    asked = [[node.path, spots[id(node)]] for node in nodes if id(node) in spots]
    looked = [node for node in nodes if id(node) in spots]
    if not asked:
        return {}
    answers = ask_both(lines, {"ask": "windows", "spots": asked})
    sides = [_told(answer.get("windows"), len(asked)) for answer in answers]
    found = {}
    for node, one, two in zip(looked, *sides, strict=True):
        if _is_window(one) and _is_window(two):
            found[id(node)] = _shown(one, two, spots[id(node)])
    return found


def spots_of(lines: tuple[Line, Line], nodes: Sequence[Node]) -> dict[int, int]:
    """Returns about where each leaf differs first: within some bytes behind what is told."""
    begins = {id(node): 0 for node in nodes}
    steps = {id(node): -(-max(node.sizes) // _PIECES) for node in nodes if max(node.sizes) > _WHOLE}
    while steps:
        some = [node for node in nodes if id(node) in steps]
        asked = [[node.path, begins[id(node)], steps[id(node)]] for node in some]
        answers = ask_both(lines, {"ask": "pieces", "spots": asked})
        sides = [_told(answer.get("pieces"), len(some)) for answer in answers]
        for node, one, two in zip(some, *sides, strict=True):
            step = steps.pop(id(node))
            if not isinstance(one, list) or not isinstance(two, list):
                begins.pop(id(node))
                continue
            same = 0
            while same < min(len(one), len(two)) and one[same] == two[same]:
                same += 1
            begins[id(node)] += same * step
            if step > _NEAR:
                steps[id(node)] = -(-step // _PIECES)
    return begins


def _told(answer: Any, length: int) -> list[Any]:
    return answer if isinstance(answer, list) and len(answer) == length else [None] * length


def _is_window(one: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(one.get("text"), str) and type(one.get("begin")) is int


def _shown(one: Mapping[str, Any], two: Mapping[str, Any], spot: int) -> Shown:
    ours, theirs = (each["text"].encode("utf-8", "surrogateescape") for each in (one, two))
    begin = one["begin"] if one["begin"] == two["begin"] else 0
    same = 0
    while same < min(len(ours), len(theirs)) and ours[same] == theirs[same]:
        same += 1
    at = begin + same
    line = one.get("line")
    if type(line) is int:
        line = line - ours[:same].count(b"\n", at - begin, spot - begin) if at < spot else line
        line += ours.count(b"\n", max(0, spot - begin), same)
    text = not (_CONTROL.search(ours) or _CONTROL.search(theirs))
    whole = bool(one.get("whole") and two.get("whole"))
    if text:
        pairs = tuple(_lines(ours, theirs) if whole else _first(ours, theirs, same))
    else:
        pairs = tuple(_strings(ours, theirs, same))
    alike = one.get("alike"), two.get("alike")
    equal: set[str] = set()
    if isinstance(alike[0], Mapping) and isinstance(alike[1], Mapping):
        equal = {str(key) for key, value in alike[0].items() if value and alike[1].get(key) == value}
    return Shown(
        at,
        line,
        text,
        whole and text and len(pairs) < _MOST_PAIRS,
        pairs[:_MOST_PAIRS],
        frozenset(equal),
        (ours[same : same + 16].hex(), theirs[same : same + 16].hex()),
    )


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _lines(ours: bytes, theirs: bytes) -> Iterator[tuple[str | None, str | None]]:
    """Yields the lines that differ; one that is on one side only stands against None."""
    one, two = ours.splitlines(), theirs.splitlines()
    matcher = difflib.SequenceMatcher(None, one, two, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            continue
        for at in range(max(b - a, d - c)):
            left = _decoded(one[a + at]) if a + at < b else None
            right = _decoded(two[c + at]) if c + at < d else None
            yield left, right


def _first(ours: bytes, theirs: bytes, same: int) -> Iterator[tuple[str, str]]:
    """Yields the line of each window in which the first difference is, as far as it lies in the window."""
    begin = ours.rfind(b"\n", 0, same) + 1
    ends = [side.find(b"\n", same) for side in (ours, theirs)]
    parts = [
        side[begin : end if end >= 0 else len(side)] for side, end in zip((ours, theirs), ends, strict=True)
    ]
    yield _decoded(parts[0]), _decoded(parts[1])


def _strings(ours: bytes, theirs: bytes, same: int) -> Iterator[tuple[str, str]]:
    """Yields the strings that differ of what is no text: all, if there are as many on both sides, else the
    first ones from where they part.
    """
    found = [list(_STRINGS.finditer(side)) for side in (ours, theirs)]
    if len(found[0]) != len(found[1]):
        found = [[each for each in side if each.end() > same][:1] for side in found]
    for one, two in zip(*found, strict=False):
        if one.group() != two.group():
            pair = [_decoded(each.group()) for each in (one, two)]
            # What stands in front of a path may be a length that happens to be a letter.
            ahead = [each.find("/") for each in pair]
            if all(0 <= each <= 2 for each in ahead):
                pair = [each[cut:] for each, cut in zip(pair, ahead, strict=True)]
            yield pair[0], pair[1]

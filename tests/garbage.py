"""Garbage for file readers: random bytes, cut and overwritten files, valid shapes with odd values in them."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

#: Values that a field was never meant to hold. `1e999` and the digits are written by hand: see `_dumped`.
ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 2**70, "", " ", "x", "\ud800", "\0", "../..", "/", "x" * 300, [], {}, [[]],
    {"x": None}, [None], ["x", 1], {"": ""}, [[1, 2, 3]], "2025-13-45T99:99:99Z", "0001-01-01T00:00:00Z",
]  # fmt: skip
_BY_HAND = ["1e999", "NaN", "9" * 5000, "[" * 3000 + "]" * 3000, '{"a":1,"a":2}']
_MARK = "\u2603 put by hand"

_ODD = st.sampled_from(ODD).map(copy.deepcopy)


@st.composite
def bytes_like(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draws what a broken disk or an editor may leave of a file."""
    kind = draw(st.sampled_from(["random", "cut", "gone", "over", "in", "twice"]))
    at = draw(st.integers(0, len(whole)))
    some = draw(st.binary(max_size=12))
    if kind == "random":
        return draw(st.binary(max_size=200))
    if kind == "cut":
        return whole[:at]
    if kind == "gone":
        return whole[:at] + whole[at + draw(st.integers(0, 40)) :]
    if kind == "over":
        return whole[:at] + some + whole[at + len(some) :]
    return whole[:at] + (whole if kind == "twice" else some) + whole[at:]


@st.composite
def json_like(draw: st.DrawFn, value: Any) -> bytes:
    """Draws the bytes of a JSON value with odd values in up to three places, or with names gone or added."""
    whole = {"": copy.deepcopy(value)}
    for _ in range(draw(st.integers(1, 3))):
        parents = _parents(whole)
        parent, key = parents[draw(st.integers(0, len(parents) - 1))]
        change = draw(st.sampled_from(["odd", "by hand", "gone", "new"]))
        if change == "gone" and parent is not whole:
            del parent[key]
        elif change == "new" and isinstance(parent, dict) and parent is not whole:
            parent[draw(st.text(max_size=8))] = draw(_ODD)
        else:
            by_hand = change == "by hand"
            parent[key] = _MARK + draw(st.sampled_from(_BY_HAND)) if by_hand else draw(_ODD)
    return _dumped(whole[""])


def damaged(value: Any) -> st.SearchStrategy[bytes]:
    """Draws garbage for a file that holds JSON."""
    return bytes_like(json.dumps(value).encode()) | json_like(value)


def _parents(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += [(value, key), *_parents(inner)]
    return found


def _dumped(value: Any) -> bytes:
    text = json.dumps(value)
    for raw in _BY_HAND:
        text = text.replace(json.dumps(_MARK + raw), raw)
    return text.encode()

"""Goes down into what differs, both sides step by step, until it stands before the leaves.

Breadth first: all containers of one depth are one question to each side. Of two tables with equal columns
nothing is asked; where a column differs, sums of buckets say where, and only those entries are sent. What
many entries differ in without their content (a time, say) is one leaf with a count and an example.

What is found here explains a difference; it never proves that there is none. Where the bytes of two files
differ and no place is found, that is told as a leaf of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.compare.wire import Line
from pipeline.errors import ComparisonIncomplete
from pipeline.records.comparison import ComparedLeaf

#: About so many entries share a bucket, and so many buckets are there at the most (as a power of two).
_IN_BUCKET: Final = 48
_MOST_BITS: Final = 12
_MOST_ROWS: Final = 20_000
_CHUNK: Final = 256
_SHOWN: Final = 300

#: Of a container with one entry, what is another wherever that entry's content is; and of an entry in a zip
#: file. It is told only where the content is the same, for then the packing alone differs.
_FOLLOWS: Final = {
    "gzip": frozenset({"deflate", "crc", "isize"}),
    "xz": frozenset({"stream", "first block's header", "index"}),
    "zstd": frozenset({"frame", "descriptor"}),
    "zip": frozenset({"coding", "claims"}),
}

Path = list[Any]


@dataclass
class Found:
    """What differs inside one artifact. `unreadable` says what could not be looked into, and why."""

    leaves: list[ComparedLeaf] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Pair:
    """One place that differs, on its way: where it lies on both sides."""

    path: Path

    @property
    def shown(self) -> list[str]:
        return [each if isinstance(each, str) else each[0] for each in self.path]


def descend(left: Line, right: Line, artifact: str) -> Found:
    """Finds what differs inside an artifact whose bytes differ. Raises ComparisonIncomplete."""
    return _Descent(left, right).run(artifact)


class _Descent:
    def __init__(self, left: Line, right: Line) -> None:
        self._lines = (left, right)
        self._found = Found()

    def run(self, artifact: str) -> Found:
        level = [_Pair([artifact])]
        while level:
            below: list[_Pair] = []
            for begin in range(0, len(level), _CHUNK):
                chunk = level[begin : begin + _CHUNK]
                answers = self._both({"ask": "open", "paths": [pair.path for pair in chunk]})
                opened = [_list(answer, "opened", len(chunk)) for answer in answers]
                for pair, one, two in zip(chunk, *opened, strict=True):
                    below += self._look(pair, one, two)
            level = below
        return self._found

    def _both(self, question: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        for line in self._lines:
            line.begin(question)
        one, two = self._lines[0].finish(), self._lines[1].finish()
        return one, two

    def _leaf(self, pair: _Pair, what: str, left: Any = None, right: Any = None, count: int = 1) -> None:
        shown = [None if each is None else str(each)[:_SHOWN] for each in (left, right)]
        self._found.leaves.append(
            ComparedLeaf(path=pair.shown, what=what, count=count, left=shown[0], right=shown[1])
        )

    def _look(self, pair: _Pair, one: Any, two: Any) -> Iterable[_Pair]:
        """Looks at one place that differs and returns the places below it that do."""
        for word, side in (("left", one), ("right", two)):
            if not isinstance(side, dict):
                raise ComparisonIncomplete(f"The {word} side's answer about {pair.shown[-1]!r} is none.")
            if "unreadable" in side:
                self._found.unreadable.append(f"{' → '.join(pair.shown)} ({word}) {side['unreadable']}")
                return []
        if one.get("sha256") == two.get("sha256") and one.get("size") == two.get("size"):
            self._leaf(pair, "coding")
            return []
        kinds = (one.get("kind"), two.get("kind"))
        if kinds[0] is None or kinds[0] != kinds[1] or one.get("columns") != two.get("columns"):
            what = "content" if kinds[0] == kinds[1] else "format"
            sizes = [f"{side.get('size')} bytes, sha256 {side.get('sha256')}" for side in (one, two)]
            values = sizes if what == "content" else list(kinds)
            self._leaf(pair, what, *values)
            return []
        before = len(self._found.leaves)
        below = self._tables(pair, one, two)
        self._fields(pair, one, two, _FOLLOWS.get(kinds[0], frozenset()) if below else frozenset())
        self._merge(before)
        if not below and len(self._found.leaves) == before:
            self._leaf(pair, "bytes that no rule explains")
        return below

    def _fields(self, pair: _Pair, one: Any, two: Any, follow: frozenset[str]) -> None:
        ours, theirs = one["fields"], two["fields"]
        for name in sorted({*ours, *theirs}):
            if ours.get(name) != theirs.get(name) and name not in follow:
                self._leaf(pair, name, ours.get(name), theirs.get(name))

    def _merge(self, begin: int) -> None:
        """Tells once what was found of one container in two ways: in some buckets, and of all the others."""
        merged: dict[tuple[tuple[str, ...], str], ComparedLeaf] = {}
        for leaf in self._found.leaves[begin:]:
            key = (tuple(leaf.path), leaf.what)
            known = merged.get(key)
            count = leaf.count + (known.count if known else 0)
            merged[key] = (known or leaf).model_copy(update={"count": count})
        self._found.leaves[begin:] = merged.values()

    def _tables(self, pair: _Pair, one: Any, two: Any) -> list[_Pair]:
        """Finds which entries differ in which columns."""
        names = ["name", *one["columns"]]
        differing = [
            at
            for at, pair_of in enumerate(zip(one["digests"], two["digests"], strict=True))
            if pair_of[0] != pair_of[1]
        ]
        if not differing:
            return []
        if 0 in differing:
            differing = list(range(len(names)))
        if "rows" in one and "rows" in two:
            return self._rows(pair, names, one["rows"], two["rows"])
        bits = min(_MOST_BITS, max(0, (max(one["count"], two["count"]) // _IN_BUCKET).bit_length()))
        content = names.index("content") if "content" in names else -1
        sums = [
            _list(answer, "sums", len(differing))
            for answer in self._both({"ask": "sums", "path": pair.path, "columns": differing, "bits": bits})
        ]
        places: dict[int, list[int]] = {}
        for at, ours, theirs in zip(differing, *sums, strict=True):
            places[at] = [bucket for bucket, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
        if not any(places.values()):
            self._leaf(pair, "order of entries")
            return []
        telling = [at for at in differing if places[at] and at in (0, content)]
        buckets = sorted({bucket for at in telling for bucket in places[at]})
        below = self._rows(pair, names, *self._fetch(pair, buckets, bits)) if buckets else []
        for at in differing:
            if at in (0, content) or not (rest := [each for each in places[at] if each not in set(buckets)]):
                continue
            self._told_together(pair, names[at], at, one["count"], rest, bits)
        return below

    def _told_together(
        self, pair: _Pair, name: str, at: int, count: int, buckets: list[int], bits: int
    ) -> None:
        """Tells of a column that differs in many buckets, by an example out of the first of them."""
        ours, theirs = self._fetch(pair, buckets[:1], bits)
        known = {(row[1], row[2]): row for row in theirs}
        pairs = [(row, known[row[1], row[2]]) for row in ours if (row[1], row[2]) in known]
        differing = [(a, b) for a, b in pairs if a[3][at - 1] != b[3][at - 1]]
        share = len(differing) / max(1, len(ours))
        about = (
            max(1, round(share * count * len(buckets) / (1 << bits))) if len(buckets) > 1 else len(differing)
        )
        example = differing[0] if differing else None
        left, right = (f"{each[1]}: {each[3][at - 1]}" for each in example) if example else (None, None)
        self._leaf(pair, name, left, right, count=about)

    def _fetch(self, pair: _Pair, buckets: Sequence[int], bits: int) -> tuple[list[Any], list[Any]]:
        question = {"ask": "rows", "path": pair.path, "bits": bits, "most": _MOST_ROWS}
        one, two = self._both({**question, "buckets": list(buckets)})
        return _list(one, "rows"), _list(two, "rows")

    def _rows(self, pair: _Pair, names: list[str], ours: list[Any], theirs: list[Any]) -> list[_Pair]:
        """Holds entries of both sides against each other; returns those whose content differs."""
        one, two = ({(row[1], row[2]): row for row in rows} for rows in (ours, theirs))
        below: list[_Pair] = []
        together: dict[str, list[tuple[Any, Any]]] = {}
        content = names.index("content") if "content" in names else 0
        for key in sorted({*one, *two}):
            a, b = one.get(key), two.get(key)
            if a is None or b is None:
                self._leaf(
                    _Pair([*pair.path, list(key)]), "name", key[0] if a else None, key[0] if b else None
                )
                continue
            changed = content > 0 and a[3][content - 1] != b[3][content - 1]
            for name, left, right in zip(names[1:], a[3], b[3], strict=True):
                if left == right:
                    continue
                if name == "content" and a[4] and b[4]:
                    below.append(_Pair([*pair.path, list(key)]))
                elif changed and name in _FOLLOWS["zip"]:
                    continue
                else:
                    together.setdefault(name, []).append((f"{key[0]}: {left}", f"{key[0]}: {right}"))
        for name, values in together.items():
            self._leaf(pair, name, *values[0], count=len(values))
        shared = [[key for key in side if key in one and key in two] for side in (one, two)]
        if shared[0] != shared[1]:
            self._leaf(pair, "order of entries")
        return below


def _list(answer: Mapping[str, Any], name: str, length: int | None = None) -> list[Any]:
    found = answer.get(name)
    if not isinstance(found, list) or (length is not None and len(found) != length):
        why = answer.get("unreadable") or f"no {name}"
        raise ComparisonIncomplete(f"A reader's answer cannot be used: {why}.")
    return found

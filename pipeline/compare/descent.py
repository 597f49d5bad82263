"""Goes down into what differs, both sides step by step, until it stands before the leaves.

Breadth first: all containers of one depth are one question to each side. Of two tables with equal columns
nothing is asked; where a column differs, sums of buckets say where, and only those entries are sent. What
many entries differ in without their content (a time, say) is one leaf with a count and an example.

What is found here explains a difference; it never proves that there is none. Where the bytes of two files
differ and no place is found, that is told as a leaf of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.compare.wire import Line
from pipeline.errors import ComparisonIncomplete
from pipeline.records.comparison import ComparedLeaf

#: About so many entries share a bucket, and so many buckets are there at the most (as a power of two).
_IN_BUCKET: Final = 48
_MOST_BITS: Final = 12
#: So many entries are sent in one answer; so many are held at once; of so many in one container is told.
_MOST_ROWS: Final = 20_000
_MOST_HELD: Final = 400_000
_MOST_TOLD: Final = 20_000
_CHUNK: Final = 256
_SHOWN: Final = 300

#: Of a container with one entry, what is another wherever that entry's content is; and of an entry in a zip
#: file. It is told only where the content is the same, for then the packing alone differs.
_FOLLOWS: Final = {
    "gzip": frozenset({"deflate", "crc", "isize"}),
    "xz": frozenset({"stream", "first block's header", "index"}),
    "zstd": frozenset({"frame", "descriptor"}),
    "zip": frozenset({"coding", "claims"}),
    "class": frozenset({"constants"}),
    "elf": frozenset({"tables", "between sections"}),
    "iso": frozenset({"layout", "second tree", "sectors", "path tables"}),
}

#: Properties that are not told where the content differs: that they are not among the leaves says nothing.
FOLLOWING: Final = frozenset[str]().union(*_FOLLOWS.values())

#: Kinds whose entries are lines: each that differs is told by itself.
_LINES: Final = frozenset({"properties", "manifest", "class"})

Path = list[Any]


@dataclass
class Node:
    """One place that differs, on both sides: what differs of it itself, and the places below that do.

    `kind` is its format where it is a container that was looked into. `same`: what it unpacks to is equal,
    how it is packed is not. `whole`: all that differs of it is here. `sizes`: bytes on both sides.
    """

    path: Path
    kind: str | None = None
    leaves: list[ComparedLeaf] = field(default_factory=list)
    below: list[Node] = field(default_factory=list)
    same: bool = False
    whole: bool = True
    sizes: tuple[int, int] = (0, 0)

    @property
    def shown(self) -> list[str]:
        """Returns its path as it is told."""
        return [each if isinstance(each, str) else each[0] for each in self.path]

    def every(self) -> Iterator[Node]:
        """Yields it and all below."""
        yield self
        for each in self.below:
            yield from each.every()


@dataclass
class Found:
    """What differs inside one artifact. `unreadable` says what could not be looked into, and why."""

    root: Node
    unreadable: list[str] = field(default_factory=list)

    @property
    def leaves(self) -> list[ComparedLeaf]:
        """Returns the leaves of all places."""
        return [leaf for node in self.root.every() for leaf in node.leaves]


def descend(left: Line, right: Line, artifact: str, most_rows: int = _MOST_ROWS) -> Found:
    """Finds what differs inside an artifact whose bytes differ, with answers of so many entries at the most.
    Raises ComparisonIncomplete.
    """
    return _Descent(left, right, most_rows).run(artifact)


class _Descent:
    def __init__(self, left: Line, right: Line, most_rows: int) -> None:
        self._lines, self._most_rows = (left, right), most_rows
        self._unreadable: list[str] = []

    def run(self, artifact: str) -> Found:
        root = Node([artifact])
        level = [root]
        while level:
            for begin in range(0, len(level), _CHUNK):
                chunk = level[begin : begin + _CHUNK]
                answers = self._both({"ask": "open", "paths": [node.path for node in chunk]})
                opened = [_list(answer, "opened", len(chunk)) for answer in answers]
                for node, one, two in zip(chunk, *opened, strict=True):
                    self._look(node, one, two)
            level = [each for node in level for each in node.below]
        return Found(root, self._unreadable)

    def _both(self, question: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return ask_both(self._lines, question)

    def _look(self, node: Node, one: Any, two: Any) -> None:
        """Looks at one place that differs, and notes what differs of it and where below it."""
        for word, side in (("left", one), ("right", two)):
            if not isinstance(side, dict):
                raise ComparisonIncomplete(f"The {word} side's answer about {node.shown[-1]!r} is none.")
            if "unreadable" in side:
                self._unreadable.append(f"{' → '.join(node.shown)} ({word}) {side['unreadable']}")
                return
        if one.get("sha256") == two.get("sha256") and one.get("size") == two.get("size"):
            node.same = True
            _leaf(node, "coding")
            return
        if type(one.get("size")) is int and type(two.get("size")) is int:
            node.sizes = one["size"], two["size"]
        kinds = (one.get("kind"), two.get("kind"))
        if kinds[0] is None or kinds[0] != kinds[1] or one.get("columns") != two.get("columns"):
            what = "content" if kinds[0] == kinds[1] else "format"
            sizes = [f"{side.get('size')} bytes, sha256 {side.get('sha256')}" for side in (one, two)]
            values = sizes if what == "content" else list(kinds)
            _leaf(node, what, *values)
            return
        node.kind = kinds[0]
        self._tables(node, one, two)
        told = node.below or (node.kind in _LINES and node.leaves)
        _fields(node, one, two, _FOLLOWS.get(kinds[0], frozenset()) if told else frozenset())
        _merge(node)
        if not node.below and not node.leaves:
            _leaf(node, "bytes that no rule explains")

    def _tables(self, node: Node, one: Any, two: Any) -> None:
        """Finds which entries differ in which columns."""
        names = ["name", *one["columns"]]
        differing = [
            at
            for at, pair_of in enumerate(zip(one["digests"], two["digests"], strict=True))
            if pair_of[0] != pair_of[1]
        ]
        if not differing:
            return
        if 0 in differing:
            differing = list(range(len(names)))
        if "rows" in one and "rows" in two:
            _rows(node, names, one["rows"], two["rows"])
            return
        bits = min(_MOST_BITS, max(0, (max(one["count"], two["count"]) // _IN_BUCKET).bit_length()))
        sums = [
            _list(answer, "sums", len(differing))
            for answer in self._both({"ask": "sums", "path": node.path, "columns": differing, "bits": bits})
        ]
        places: dict[int, list[int]] = {}
        for at, ours, theirs in zip(differing, *sums, strict=True):
            places[at] = [bucket for bucket, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
        if not places.get(0, [0]) or not any(places.values()):
            _leaf(node, "order of entries")
        self._buckets(node, names, places, one["count"], bits)

    def _buckets(
        self, node: Node, names: list[str], places: Mapping[int, list[int]], count: int, bits: int
    ) -> None:
        telling = (0, _content(node, names))
        buckets = sorted({bucket for at in telling for bucket in places.get(at, ())})
        together = max(1, (_MOST_ROWS << bits) // (2 * max(1, count)))
        for begin in range(0, len(buckets), together):
            if len(node.leaves) + len(node.below) > _MOST_TOLD:
                node.whole = False
                left = len(buckets) - begin
                _leaf(node, "more entries", count=max(1, (count * left) >> bits), about=True)
                break
            _rows(node, names, *self._fetch(node, buckets[begin : begin + together], bits))
        known = set(buckets)
        for at, found in places.items():
            if at not in telling and (rest := [each for each in found if each not in known]):
                self._told_together(node, names[at], at, count, rest, bits)

    def _told_together(
        self, node: Node, name: str, at: int, count: int, buckets: list[int], bits: int
    ) -> None:
        """Tells of a column that differs in many buckets, by an example out of the first of them."""
        ours, theirs = self._fetch(node, buckets[:1], bits)
        known = {(row[1], row[2]): row for row in theirs}
        pairs = [(row, known[row[1], row[2]]) for row in ours if (row[1], row[2]) in known]
        differing = [(a, b) for a, b in pairs if a[3][at - 1] != b[3][at - 1]]
        share = len(differing) / max(1, len(ours))
        many = len(buckets) > 1
        told = max(1, round(share * count * len(buckets) / (1 << bits))) if many else len(differing)
        example = differing[0] if differing else None
        left, right = (f"{each[1]}: {each[3][at - 1]}" for each in example) if example else (None, None)
        _leaf(node, name, left, right, count=told, about=many)

    def _fetch(self, node: Node, buckets: Sequence[int], bits: int) -> tuple[list[Any], list[Any]]:
        """Asks for the entries of some buckets, on and on until none is left out."""
        question = {"ask": "rows", "path": node.path, "bits": bits, "most": self._most_rows}
        question["buckets"] = list(buckets)
        answers = self._both(question)
        found: list[list[Any]] = []
        for line, answer in zip(self._lines, answers, strict=True):
            rows = _list(answer, "rows")
            while answer.get("cut") is not False:
                if not rows or len(rows) > _MOST_HELD:
                    raise ComparisonIncomplete(
                        f"{line.name}: more than {_MOST_HELD} entries of {node.shown[-1]!r} differ."
                    )
                answer = line.ask({**question, "begin": rows[-1][0] + 1})
                rows += _list(answer, "rows")
            found.append(rows)
        return found[0], found[1]


def ask_both(lines: tuple[Line, Line], question: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Asks both sides at once."""
    for line in lines:
        line.begin(question)
    one, two = lines[0].finish(), lines[1].finish()
    return one, two


def _leaf(
    node: Node, what: str, left: Any = None, right: Any = None, count: int = 1, about: bool = False
) -> None:
    shown = [None if each is None else str(each)[:_SHOWN] for each in (left, right)]
    node.leaves.append(
        ComparedLeaf(path=node.shown, what=what, count=count, about=about, left=shown[0], right=shown[1])
    )


def _fields(node: Node, one: Any, two: Any, follow: frozenset[str]) -> None:
    ours, theirs = one["fields"], two["fields"]
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name) and name not in follow:
            _leaf(node, name, ours.get(name), theirs.get(name))


def _merge(node: Node) -> None:
    """Tells once what was found of one container in two ways: in some buckets, and of all the others."""
    merged: dict[tuple[tuple[str, ...], str, str | None], ComparedLeaf] = {}
    for leaf in node.leaves:
        by_itself = node.kind in _LINES or leaf.what == "name"
        key = (tuple(leaf.path), leaf.what, f"{leaf.left}/{leaf.right}" if by_itself else None)
        known = merged.get(key)
        count = leaf.count + (known.count if known else 0)
        about = leaf.about or (known is not None and known.about)
        merged[key] = (known or leaf).model_copy(update={"count": count, "about": about})
    node.leaves = list(merged.values())


def _content(node: Node, names: list[str]) -> int:
    """Returns the column that tells an entry's content, or -1."""
    return 1 if node.kind in _LINES else names.index("content") if "content" in names else -1


def _rows(node: Node, names: list[str], ours: list[Any], theirs: list[Any]) -> None:
    """Holds entries of both sides against each other; those whose content differs are below."""
    one, two = ({(row[1], row[2]): row for row in rows} for rows in (ours, theirs))
    together: dict[str, list[tuple[Any, Any]]] = {}
    content = names.index("content") if "content" in names else 0
    for key in sorted({*one, *two}):
        a, b = one.get(key), two.get(key)
        if a is None or b is None:
            _leaf_of(node, key, "name", key[0] if a else None, key[0] if b else None)
            continue
        changed = content > 0 and a[3][content - 1] != b[3][content - 1]
        for name, left, right in zip(names[1:], a[3], b[3], strict=True):
            if left == right:
                continue
            if name == "content" and a[4] and b[4]:
                node.below.append(Node([*node.path, list(key)]))
            elif changed and name in _FOLLOWS["zip"]:
                continue
            elif node.kind in _LINES:
                _leaf_of(node, key, name, left, right)
            else:
                together.setdefault(name, []).append((f"{key[0]}: {left}", f"{key[0]}: {right}"))
    for name, values in together.items():
        _leaf(node, name, *values[0], count=len(values))
    shared = [[key for key in side if key in one and key in two] for side in (one, two)]
    if shared[0] != shared[1]:
        _leaf(node, "order of entries")


def _leaf_of(node: Node, key: tuple[str, int], what: str, left: str | None, right: str | None) -> None:
    """Notes what differs of one entry, by that entry's path."""
    entry = Node([*node.path, list(key)])
    _leaf(entry, what, left, right)
    node.leaves += entry.leaves


def _list(answer: Mapping[str, Any], name: str, length: int | None = None) -> list[Any]:
    found = answer.get(name)
    if not isinstance(found, list) or (length is not None and len(found) != length):
        why = answer.get("unreadable") or f"no {name}"
        raise ComparisonIncomplete(f"A reader's answer cannot be used: {why}.")
    return found

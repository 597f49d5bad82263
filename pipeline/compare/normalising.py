"""Finds the normalisers that make both sides of an artifact the same bytes, and no one too many.

From the inside out. A container that differs is written anew by each side's own reader, with what inside it
is settled already, after those normalisers alone that can matter for what the descent found. It is settled
when both sides state one SHA-256 for what they wrote; then each normaliser is left out in turn, and stays out
where the digests are equal without it. What was settled inside is inside the bytes of what is around it, so
one that cannot be left out of a container cannot be left out of the artifact. Nothing but the digest of the
whole artifact, rewritten on both sides, proves that it agrees.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.compare.descent import Found, Node, ask_both
from pipeline.compare.rewriting import steps
from pipeline.compare.wire import Line
from pipeline.errors import ComparisonIncomplete
from pipeline.records.comparison import Rewrite

#: What was recorded of where a side was built: by `host`, `user`, `path` and `time`.
Values = Mapping[str, str]

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_ITEMS: Final = 32
_STREAMS: Final = frozenset({"gzip", "xz", "zstd"})

_HEADER: Final = ("gzip-header",)
_VALUES: Final = ("value-host", "value-path", "value-time", "value-user")
#: Kind -> what may differ -> the normalisers that may set it. What is not here is set by none.
_SETS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "deb": {"time": ("ar-times",)},
    "ar": {"time": ("ar-times",)},
    "zip": {
        "time": ("zip-times",),
        "extra": ("zip-times",),
        "order of entries": ("zip-order",),
        "attributes": ("zip-compression",),
        "layout": ("zip-compression",),
        "coding": ("zip-compression",),
    },
    "gzip": {
        **dict.fromkeys(("mtime", "xfl", "os", "name", "flags", "header crc"), _HEADER),
        "deflate": ("gzip-compression",),
    },
    "xz": dict.fromkeys(("stream", "first block's header", "index", "check"), ("xz-compression",)),
    "zstd": dict.fromkeys(("frame", "descriptor"), ("zstd-compression",)),
    "tar": {
        "time": ("tar-times",),
        "owner": ("tar-owners",),
        "form": ("tar-times", "tar-owners"),
        "order of entries": ("tar-order",),
    },
    "properties": {"value": ("properties-date", *_VALUES)},
    "manifest": {"value": _VALUES, "form": _VALUES},
    # A package's own tars, of which the times alone are no payload.
    "control tar": {"time": ("deb-times",), "form": ("deb-times",)},
    "data tar": {"time": ("deb-times",), "form": ("deb-times",)},
}
#: Members of a package's control part that follow from its files.
_FOLLOWS: Final = {"md5sums": "deb-md5sums", "control": "deb-installed-size"}
#: Every normaliser that there is, by name.
EVERY: Final = frozenset(
    [*_FOLLOWS.values(), *(name for sets in _SETS.values() for names in sets.values() for name in names)]
)
#: What has to be used where something inside is replaced: no compressor writes the same bytes for ever.
_REPACKED: Final = {kind: f"{kind}-compression" for kind in _STREAMS}


@dataclass
class Settled:
    """How a container was made the same on both sides: the normalisers, and the SHA-256 of what came out."""

    use: tuple[str, ...]
    sha256: str


@dataclass
class Normalised:
    """What normalisers did to one artifact: which containers they made equal, and why not others.

    `rewrites` is how either side comes to the whole: all that it writes anew, the innermost first.
    """

    settled: dict[int, Settled] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    sha256: str | None = None
    rewrites: list[Rewrite] = field(default_factory=list)

    def of(self, node: Node) -> Settled | None:
        """Returns how a container was settled, if it was."""
        return self.settled.get(id(node))


def normalise(
    lines: tuple[Line, Line], found: Found, values: tuple[Values, Values], banned: Collection[str] = ()
) -> Normalised:
    """Makes as much of an artifact equal as can be; `sha256` is there if all of it is. Raises
    ComparisonIncomplete.
    """
    result = _Round(lines, found, values, frozenset(banned)).run()
    overlapping = [name for name in result.names if name in _VALUES]
    if result.sha256 is not None and len(overlapping) > 1:
        # Two recorded values may be one word: a container may then do with either.
        for name in overlapping:
            other = _Round(lines, found, values, frozenset({*banned, name})).run()
            if other.sha256 is not None:
                return normalise(lines, found, values, {*banned, name})
    return result


def part_of(node: Node, parents: Mapping[int, Node]) -> str:
    """Returns a container's kind; of a package's own tars "control tar" or "data tar"."""
    at = node
    while (above := parents.get(id(at))) is not None and above.kind in _STREAMS:
        at = above
    if node.kind == "tar" and above is not None and above.kind == "deb":
        return "control tar" if at.shown[-1].startswith("control.tar") else "data tar"
    return str(node.kind)


def parents_of(root: Node) -> dict[int, Node]:
    """Returns which place each place lies in, by id."""
    return {id(below): node for node in root.every() for below in node.below}


def addressed(kind: str, what: str) -> tuple[str, ...]:
    """Returns the normalisers that may set one property of a kind of container."""
    return _SETS.get(kind, {}).get(what, ())


class _Round:
    """One artifact, once."""

    def __init__(
        self,
        lines: tuple[Line, Line],
        found: Found,
        values: tuple[Values, Values],
        banned: frozenset[str],
    ) -> None:
        self._lines, self._root, self._values, self._banned = lines, found.root, values, banned
        self._parents = parents_of(found.root)
        self._result = Normalised()

    def run(self) -> Normalised:
        """Settles what can be settled, what lies deepest first; a package's control part after its files."""
        pending = [node for node in self._root.every() if node.kind is not None]
        decided: set[int] = set()
        while pending:
            ready = [node for node in pending if all(id(each) in decided for each in self._needed(node))]
            planned = [(node, plan) for node in ready if (plan := self._plan(node)) is not None]
            for begin in range(0, len(planned), _ITEMS):
                self._settle(planned[begin : begin + _ITEMS])
            decided |= {id(node) for node in ready}
            pending = [node for node in pending if id(node) not in decided]
        if (whole := self._result.of(self._root)) is not None:
            self._result.sha256 = whole.sha256
            self._result.names = tuple(
                sorted({name for each in self._result.settled.values() for name in each.use})
            )
            paths = {id(node): steps(node.path) for node in self._root.every()}
            self._result.rewrites = [
                Rewrite(path=paths[at], use=list(each.use)) for at, each in self._result.settled.items()
            ]
        return self._result

    def _needed(self, node: Node) -> Iterator[Node]:
        yield from (each for each in node.below if each.kind is not None)
        if part_of(node, self._parents) == "control tar":
            package = node
            while package.kind != "deb":
                package = self._parents[id(package)]
            for other in package.below:
                while other.kind in _STREAMS and other.below:
                    other = other.below[0]
                if other.kind == "tar" and other is not node:
                    yield from (each for each in other.below if each.kind is not None)

    def _plan(self, node: Node) -> tuple[str, ...] | None:
        """Returns the normalisers that can matter, or None where something differs that none of them sets."""
        if not node.whole:
            return None
        kind = part_of(node, self._parents)
        wanted: set[str] = set()
        for leaf in node.leaves:
            if kind.endswith("tar") and leaf.what == "end" and node.below:
                continue  # the padding goes with the size of what is inside
            found = addressed(kind, leaf.what)
            if not found:
                return None
            wanted |= set(found)
        for below in node.below:
            name = below.shown[-1].removeprefix("./")
            if below.same:
                wanted.add("zip-compression")
            elif kind == "control tar":
                if name not in _FOLLOWS:
                    return None
                wanted.add(_FOLLOWS[name])
            elif self._result.of(below) is None:
                return None
            elif node.kind in _STREAMS:
                wanted.add(_REPACKED[node.kind])
        return self._allowed(wanted)

    def _allowed(self, wanted: Collection[str]) -> tuple[str, ...]:
        both = [f"value-{kind}" for kind in self._values[0] if self._values[1].get(kind)]
        return tuple(
            sorted(
                name
                for name in wanted
                if name not in self._banned and (not name.startswith("value-") or name in both)
            )
        )

    def _settle(self, planned: Sequence[tuple[Node, tuple[str, ...]]]) -> None:
        sets = {id(node): plan for node, plan in planned}
        nodes = [node for node, _ in planned]
        self._try([(node, sets[id(node)], True) for node in nodes])
        rest = []
        for node in nodes:
            kind = part_of(node, self._parents)
            every = {name for each in _SETS[kind].values() for name in each} | set(sets[id(node)])
            if self._result.of(node) is None and (more := self._allowed(every)) != sets[id(node)]:
                rest.append((node, more, True))
                sets[id(node)] = more
        self._try(rest)
        self._minimise([node for node in nodes if self._result.of(node) is not None], sets)

    def _minimise(self, nodes: Sequence[Node], sets: dict[int, tuple[str, ...]]) -> None:
        """Leaves out each normaliser in turn. Without any, what has nothing settled inside is as it was."""
        for place in range(max((len(sets[id(node)]) for node in nodes), default=0)):
            tried = []
            for node in nodes:
                use = self._result.settled[id(node)].use
                name = sets[id(node)][place] if place < len(sets[id(node)]) else None
                if name not in use or (len(use) == 1 and not self._inside(node)):
                    continue
                tried.append((node, tuple(each for each in use if each != name), False))
            equal = self._try(tried)
            self._try([(node, use, True) for node, use, _ in tried if id(node) in equal])

    def _inside(self, node: Node) -> list[Any]:
        return [below.path[-1] for below in node.below if self._result.of(below) is not None]

    def _try(self, items: Sequence[tuple[Node, tuple[str, ...], bool]]) -> set[int]:
        """Has both sides write containers; returns those that came out equal, and notes what is kept.

        The artifact itself is written for its digest alone.
        """
        if not items:
            return set()
        asked = [
            {
                "path": node.path,
                "use": list(use),
                "inside": self._inside(node),
                "keep": keep and node is not self._root,
            }
            for node, use, keep in items
        ]
        for line, values in zip(self._lines, self._values, strict=True):
            line.begin({"ask": "normalise", "items": asked, "values": dict(values)})
        ours, theirs = (_told(line.finish(), len(items)) for line in self._lines)
        equal = set()
        for (node, use, keep), one, two in zip(items, ours, theirs, strict=True):
            digest = _one_digest(one, two)
            if digest is None:
                why = next((each["unreadable"] for each in (one, two) if _refused(each)), None)
                told = "its bytes still differ" if why is None else f"it {why}"
                self._result.refused[id(node)] = f"not made equal by {', '.join(use)}: {told}"
                continue
            equal.add(id(node))
            if keep:
                self._result.settled[id(node)] = Settled(use, digest)
                self._result.refused.pop(id(node), None)
        return equal


def _told(answer: Mapping[str, Any], length: int) -> list[Any]:
    found = answer.get("normalised")
    if not isinstance(found, list) or len(found) != length:
        raise ComparisonIncomplete("A reader's answer cannot be used: nothing about what was normalised.")
    return found


def _refused(answer: Any) -> bool:
    return isinstance(answer, dict) and isinstance(answer.get("unreadable"), str)


def _one_digest(one: Any, two: Any) -> str | None:
    """Returns the SHA-256 that both sides state, or None: a field that is missing or odd proves nothing."""
    for answer in (one, two):
        if not isinstance(answer, dict) or set(answer) != {"sha256", "size"}:
            return None
        digest = answer["sha256"]
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or type(answer["size"]) is not int:
            return None
    return str(one["sha256"]) if one == two else None


def follows(lines: tuple[Line, Line], paths: Sequence[list[Any]]) -> list[frozenset[str]]:
    """Returns of each package which of what follows from its files is right on both sides."""
    if not paths:
        return []
    answers = ask_both(lines, {"ask": "follows", "paths": list(paths)})
    found = []
    for at in range(len(paths)):
        both = [set(answer["follows"][at]) for answer in answers if isinstance(answer.get("follows"), list)]
        found.append(frozenset(both[0] & both[1]) if len(both) == 2 else frozenset())
    return found

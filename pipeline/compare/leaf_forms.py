"""Which leaves are the same in two builds, of those in which the compared builds differ. PURE.

A leaf has no digest of its own where it is a property of many entries, a time or an order. So builds are
held against each other, two at a time, as the comparison itself does it: a leaf is the same where the descent
finds no such leaf, and nothing above it kept the descent from getting there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.compare.counterfactuals import Form
from pipeline.compare.descent import FOLLOWING
from pipeline.records.comparison import ComparedLeaf

#: A leaf: the names on the way to it, and the property that differs.
Key = tuple[tuple[str, ...], str]

#: Where this differs, what lies below was not looked at.
_HIDES: Final = frozenset({"content", "format", "bytes that no rule explains", "more entries"})
_MISSING: Final = "name"


def key_of(leaf: ComparedLeaf) -> Key:
    """Returns what identifies a leaf among those of one artifact."""
    return tuple(leaf.path), leaf.what


@dataclass(frozen=True)
class Pair:
    """What of one artifact differs between two builds. `readable` is false where it could not be told."""

    keys: frozenset[Key] = frozenset()
    readable: bool = True

    def same(self, key: Key) -> bool | None:
        """Says whether a leaf is the same in both builds; None where that is not known."""
        if key in self.keys:
            return False
        if not self.readable:
            return None
        path, what = key
        for length in range(1, len(path) + 1):
            above = path[:length]
            whole = length == len(path)
            if (above, _MISSING) in self.keys and not (whole and what == _MISSING):
                return False
            if any((above, each) in self.keys for each in _HIDES):
                if whole and what in _HIDES:
                    return False
                if not (whole and what == _MISSING):
                    return None
        if what in FOLLOWING and any(
            len(other) > len(path) and other[: len(path)] == path for other, _ in self.keys
        ):
            return None
        return True


EQUAL: Final = Pair()
UNREADABLE: Final = Pair(readable=False)


def pair_of(leaves: Iterable[ComparedLeaf], unreadable: Sequence[str]) -> Pair:
    """Returns what a descent found."""
    return Pair(frozenset(key_of(leaf) for leaf in leaves), readable=not unreadable)


def form_of(build: str, key: Key, known: Mapping[str, Form], pairs: Mapping[str, Pair]) -> Form:
    """Returns what a leaf is in a build, by the forms that it has in builds which this was held against.

    A new form is called by the build's own name. None where nothing equal was found and not all could be
    told.
    """
    sure = True
    for other, form in known.items():
        same = pairs[other].same(key) if other in pairs else None
        if same and form is not None:
            return form
        # Equal to one whose own form is not known, it may be of any.
        sure = sure and same is False
    return build if sure else None

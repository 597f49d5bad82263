"""The tree of the places in which an artifact differs, as every report shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.records.comparison import ComparedLeaf

#: Deeper than this nothing is drawn as a tree: the names below are told in one.
DEEPEST = 48
#: Between the names on a way down.
ARROW = " › "


@dataclass
class Branch:
    """One place on the way to leaves. `names` are several where nothing else lies between them."""

    names: list[str]
    leaves: list[ComparedLeaf] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    count: int = 0

    @property
    def title(self) -> str:
        """Returns the names in one."""
        return ARROW.join(self.names)


def outline(leaves: Iterable[ComparedLeaf]) -> Branch:
    """Returns the tree of an artifact's leaves, sorted by their names; its root has no name of its own."""
    root = Branch([])
    at: dict[tuple[str, ...], Branch] = {(): root}
    for leaf in sorted(leaves, key=lambda each: each.path):
        path = tuple(leaf.path[1:])
        if len(path) > DEEPEST:
            path = (*path[: DEEPEST - 1], ARROW.join(path[DEEPEST - 1 :]))
        for depth in range(1, len(path) + 1):
            if path[:depth] not in at:
                at[path[:depth]] = branch = Branch([path[depth - 1]])
                at[path[: depth - 1]].branches.append(branch)
        for depth in range(len(path) + 1):
            at[path[:depth]].count += 1
        at[path].leaves.append(leaf)
    for branch in root.branches:
        _join(branch)
    return root


def _join(branch: Branch) -> None:
    """Makes one branch of those between which nothing else lies."""
    while not branch.leaves and len(branch.branches) == 1:
        only = branch.branches[0]
        branch.names += only.names
        branch.leaves, branch.branches = only.leaves, only.branches
    for below in branch.branches:
        _join(below)

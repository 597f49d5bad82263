"""Secrets that a commit made by hand has brought into the branch, where they stay.

What the pipeline writes passes a gate; such a commit does not. Nothing here shows a value, and nothing is
undone: what is in the history can only be made worthless. Looked at are commits that no transaction made,
so that reading a ledger which nobody writes to by hand costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.edge.git_objects import EMPTY_TREE, TreeView, changed_paths
from pipeline.edge.ref_store import RefStore
from pipeline.errors import LedgerTooLarge
from pipeline.ledger.chain import read_record
from pipeline.ledger.history import Standing, commit_at, tree_at
from pipeline.records.secrets import find

#: A file with a NUL among its first bytes is no text.
_BINARY_BYTES = 8000
#: So many places of one commit are told; who finds these looks at the others.
_TOLD = 20

REMEDY = "Rotate it, so that it is worth nothing: the branch's history keeps it."


class Exposed(NamedTuple):
    """One secret by its place: a file of a commit (empty: the commit's own message), line from 1, rule."""

    commit: str
    path: str
    line: int
    rule: str

    def said(self) -> str:
        """Returns where it is and what it looks like."""
        where = f"`{self.path}`" if self.path else "the commit's message"
        return f"{where}, line {self.line}: this looks like a password or a key (rule `{self.rule}`)."

    def words(self) -> str:
        """Returns the same, with what to do about it."""
        return f"{self.said()} {REMEDY}"


def exposed_by(refs: RefStore, oid: str) -> list[Exposed]:
    """Returns what one commit made by hand has brought, beside what its parents had: at most 20 places.

    Certain secrets alone, as in what the gate refuses, and not in files that are too large to be read, which
    are named as such elsewhere. Raises LedgerError for an object that is missing.
    """
    commit = commit_at(refs, oid)
    found = [Exposed(oid, "", line, rule) for line, rule, _ in _places(commit.message.encode())]
    after = tree_at(refs, oid)
    before = [tree_at(refs, parent) for parent in commit.parents if refs.read(parent) is not None]
    if commit.parents and not before:
        return found  # the history is cut there: nobody can tell what is new
    before = before or [TreeView(refs.read, EMPTY_TREE.oid)]
    # A merge has brought what none of its parents had.
    paths = set.intersection(*(set(changed_paths(each, after)) for each in before))
    for path in sorted(paths):
        old = {text for each in before for _, _, text in _places(_read(each, path))}
        found += [
            Exposed(oid, path, line, rule)
            for line, rule, text in _places(_read(after, path))
            if text not in old
        ]
        if len(found) >= _TOLD:
            break
    return found[:_TOLD]


def exposed_above(refs: RefStore, standing: Standing, reducer: int) -> list[Exposed]:
    """Returns what the commits made by hand above the last transaction have brought, oldest first."""
    seen = {standing.recorded}
    pending = [standing.tip] if standing.tip not in seen else []
    found: list[list[Exposed]] = []
    while pending:
        oid = pending.pop()
        commit = commit_at(refs, oid)
        if read_record(commit, reducer) is None:
            found.append(exposed_by(refs, oid))
            pending += [parent for parent in commit.parents if parent not in seen]
            seen.update(commit.parents)
    return [each for places in reversed(found) for each in places]


def _read(tree: TreeView, path: str) -> bytes:
    try:
        return tree.read(path) or b""
    except LedgerTooLarge:
        return b""


def _places(data: bytes) -> Iterator[tuple[int, str, str]]:
    """Yields line, rule and the line's text of each secret; of a private key its first line."""
    if b"\0" in data[:_BINARY_BYTES]:
        return
    text = data.decode(errors="replace")
    found = find(text, certain=True)
    lines = text.splitlines() if found else []
    last = (-1, "")
    for each in found:
        if each.rule != "private_key" or last != (each.line - 1, each.rule):
            yield each.line, each.rule, lines[each.line - 1]
        last = (each.line, each.rule)

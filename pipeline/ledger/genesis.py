"""The first commit of a ledger."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.edge.clock import Clock
from pipeline.edge.git_objects import EMPTY_TREE, TreeView, write_tree
from pipeline.edge.identity import Randomness
from pipeline.edge.ref_store import RefStore
from pipeline.errors import LedgerUnreachable, NotALedger
from pipeline.ledger import chain
from pipeline.records.ledger import Transaction


def initialise(
    refs: RefStore, files: Mapping[str, bytes], author: str, clock: Clock, random: Randomness, reducer: int
) -> str:
    """Makes a ledger on a branch that does not exist yet, from its initial files, and returns its commit.

    Raises NotALedger if the branch is there already.
    """
    root, objects = write_tree(TreeView(refs.read, EMPTY_TREE.oid), files)
    record = Transaction(
        reducer=reducer,
        ordinal=0,
        kind="genesis",
        parent=None,
        tree=root,
        writer="",
        settled=0,
        nonce=random.hex(),
    )
    commit = chain.make_recorded(author, clock.now(), record)
    refs.write([*objects, commit])
    pushed = refs.push(commit.oid, None)
    if pushed.kind == "landed":
        return commit.oid
    tip = refs.fetch()
    if tip == commit.oid:
        return tip
    if tip is not None:
        raise NotALedger("The branch exists already.", remedy="Use it as it is, or name another branch.")
    raise pushed.error or LedgerUnreachable("The remote did not take the first commit.")

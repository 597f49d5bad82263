"""What the commits of the branch say, read through the port: records, the chain, what a tip amounts to.

Reads only, and believes content: a commit is a transaction if its record is bound to it (`chain`), whatever
its message says and whoever made it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.edge.git_objects import RENEW, Commit, TreeView, parse_commit
from pipeline.edge.ref_store import RefStore
from pipeline.errors import LedgerError, NotALedger
from pipeline.ledger import chain
from pipeline.records.decisions import Adopt, View
from pipeline.records.ledger import LedgerState, Transaction


@dataclass(frozen=True)
class Standing:
    """What a tip amounts to: the view to decide on.

    After a foreign commit `recorded` is the newest commit below the tip that a transaction made, `tree` is
    its tree, and `adopted` what the next transaction writes of the foreign changes.
    """

    tip: str
    tree: TreeView
    view: View
    state: LedgerState
    recorded: str
    adopted: Mapping[str, bytes | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Story:
    """One commit of the chain, oldest first; `record` is None for a foreign one."""

    oid: str
    subject: str
    record: Transaction | None


def commit_at(refs: RefStore, oid: str) -> Commit:
    """Returns a commit. Raises LedgerError where the object is missing."""
    found = refs.read(oid)
    if found is None or found.kind != "commit":
        raise LedgerError(f"Commit {oid} is missing from the local clone.", remedy=RENEW)
    return parse_commit(found.data)


def tree_at(refs: RefStore, oid: str) -> TreeView:
    """Returns a commit's tree. Raises LedgerError where the commit is missing."""
    return TreeView(refs.read, commit_at(refs, oid).tree)


def record_at(refs: RefStore, oid: str, reducer: int) -> Transaction | None:
    """Returns a commit's record; None for a foreign one. Raises RecordTooNew."""
    return chain.read_record(commit_at(refs, oid), reducer)


def stand(refs: RefStore, tip: str, recorded: str, adopt: Adopt) -> Standing:
    """Returns what a tip amounts to above the last recorded commit: foreign changes adopted or put aside."""
    tree = tree_at(refs, recorded)
    state = chain.read_state(tree)
    if recorded == tip:
        return Standing(tip, tree, tree, state, recorded)
    overlay = chain.adopt_foreign(tree, tree_at(refs, tip), tip, adopt, state.ordinal + 1)
    return Standing(tip, tree, overlay, chain.read_state(overlay), recorded, overlay.writes)


def last_recorded(refs: RefStore, tip: str, reducer: int) -> str:
    """Walks ALL parents of foreign commits to the newest recorded one.

    A merge made by hand can hide the ledger's side behind its second parent. A recorded commit ends the
    walk: its own writer has looked at what was below. Raises NotALedger where there is none.
    """
    pending, seen, recorded = [tip], {tip}, {}
    while pending:
        oid = pending.pop()
        commit = commit_at(refs, oid)
        transaction = chain.read_record(commit, reducer)
        if transaction is not None:
            recorded[oid] = transaction.ordinal
            continue
        news = [parent for parent in commit.parents if parent not in seen]
        seen.update(news)
        pending += news
    if not recorded:
        raise NotALedger(
            f"No commit below {tip[:12]} was made by a ledger.",
            remedy="Run `invoke ledger.init` on an empty repository.",
        )
    newest = max(recorded.values())
    best = sorted(oid for oid, ordinal in recorded.items() if ordinal == newest)
    if len(best) > 1:
        raise LedgerError(
            f"Two chains meet below {tip[:12]}: {best[0][:12]} and {best[1][:12]} are both {newest}.",
            remedy="Reset the branch to the right one, then run `invoke ledger.raise-epoch`.",
        )
    return best[0]


def find_outcomes(
    refs: RefStore, tip: str, base: str | None, ops: Collection[str], reducer: int
) -> dict[str, dict[str, Any]] | None:
    """Returns outcomes by op id, of the operations found since `base`; None where the history is cut."""
    commits = refs.since(tip, base)
    if commits is None:
        return None
    records = [record_at(refs, oid, reducer) for oid in commits]
    return {e.op: e.outcome for r in records if r is not None for e in r.entries if e.op in ops}


def history(refs: RefStore, tip: str, reducer: int) -> Iterator[Story]:
    """Yields the chain, oldest first, side branches of hand merges included."""
    commits = {oid: commit_at(refs, oid) for oid in refs.since(tip, None) or []}
    done: set[str] = set()
    pending = [tip]
    while pending:
        oid = pending[-1]
        waiting = [p for p in commits[oid].parents if p in commits and p not in done]
        if oid in done or not waiting:
            pending.pop()
            if oid not in done:
                done.add(oid)
                subject = commits[oid].message.partition("\n")[0]
                yield Story(oid, subject, chain.read_record(commits[oid], reducer))
        else:
            pending.extend(waiting)

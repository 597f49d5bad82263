"""Checks a whole chain: every recorded commit's tree is computed again from its parent's. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.edge.git_objects import TreeView, write_tree
from pipeline.edge.ref_store import RefStore
from pipeline.errors import CommandFailed, PipelineError, RecordTooNew, StoreError
from pipeline.ledger import chain
from pipeline.ledger.exposure import exposed_by
from pipeline.ledger.history import history, stand, tree_at
from pipeline.records.decisions import Adopt, Change, Context, Decide, Refusal, View
from pipeline.records.ledger import Evidence, Transaction
from pipeline.records.secrets import mask

#: Says what is wrong with one state file, or nothing. PURE.
Validate = Callable[[str, bytes], str | None]


@dataclass(frozen=True)
class Finding:
    """One thing that does not hold, or (`foreign`) a commit that no transaction made."""

    commit: str
    problem: str
    foreign: bool = False


def check_chain(
    refs: RefStore, tip: str, decide: Decide, adopt: Adopt, reducer: int, validate: Validate
) -> tuple[int, list[Finding]]:
    """Returns how many transactions were computed again, and what does not hold.

    Raises RecordTooNew for a chain that a newer version has written.
    """
    findings: list[Finding] = []
    checked, genesis, last = 0, 0, -1
    ops: dict[str, str] = {}
    for story in history(refs, tip, reducer):
        record = story.record
        if record is None:
            findings.append(Finding(story.oid, f"made by hand: {mask(story.subject)}", foreign=True))
            findings += [
                Finding(story.oid, f"made by hand: {each.words()}", foreign=True)
                for each in exposed_by(refs, story.oid)
            ]
            continue
        checked += 1
        if record.ordinal <= last:
            findings.append(Finding(story.oid, f"transaction {record.ordinal} follows {last}"))
        last = record.ordinal
        for entry in record.entries:
            if entry.op in ops:
                findings.append(
                    Finding(story.oid, f"operation {entry.op} was applied in {ops[entry.op][:12]} already")
                )
            ops[entry.op] = story.oid
        if record.kind == "genesis":
            genesis += 1
        else:
            problem = recompute(refs, record, decide, adopt)
            if problem:
                findings.append(Finding(story.oid, problem))
    if genesis != 1:
        findings.append(Finding(tip, f"{genesis} beginnings instead of one"))
    view = tree_at(refs, tip)
    for path, _ in view.walk():
        said = validate(path, view.read(path) or b"")
        if said:
            findings.append(Finding(tip, f"`{path}`: {said}"))
    return checked, findings


def recompute(refs: RefStore, record: Transaction, decide: Decide, adopt: Adopt) -> str | None:
    """Computes one transaction again and returns how it differs, or None."""
    assert record.parent is not None
    blobs = {oid for entry in record.entries for oid in entry.payloads.values()}
    payload = {oid: found.data for oid in blobs if (found := refs.read(oid)) is not None}
    try:
        standing = stand(refs, record.parent, record.recorded or record.parent, adopt)
        batch = chain.batch_of(record, payload)
        step = chain.advance(standing.view, batch, _as_recorded(record, payload, decide), standing.state)
        root, _ = write_tree(standing.tree, {**standing.adopted, **step.writes})
    except (RecordTooNew, StoreError, CommandFailed):
        raise  # says something of this machine, not of the transaction
    except (PipelineError, chain.WriterConflict) as exc:
        return f"transaction {record.ordinal} cannot be computed again: {exc}"
    if root != record.tree or step.state.ordinal != record.ordinal:
        where = _difference(record, step, TreeView(refs.read, record.tree))
        return f"transaction {record.ordinal} does not give the tree that it says: {where}"
    return None


def _difference(record: Transaction, step: chain.Step, said: TreeView) -> str:
    """Says in words where a transaction's effects are other than its record and its tree have them."""
    for entry in record.entries:
        if (made := step.outcomes[entry.sequence]) != entry.outcome:
            kind = entry.request.get("kind")
            return f"{kind} {entry.op} came to {_short(entry.outcome)}, and comes to {_short(made)}"
    other = sorted(path for path, data in step.writes.items() if said.read(path) != data)
    return f"`{other[0]}` is not what it writes" if other else "it has changed what it does not write"


def _short(outcome: Mapping[str, Any]) -> str:
    """Returns an outcome for a sentence."""
    return "success" if outcome["ok"] else mask(f"{outcome['reason']} ({outcome['message'][:80]})")


def _as_recorded(record: Transaction, payload: Mapping[str, bytes], decide: Decide) -> Decide:
    """Answers a request that was refused, and whose payloads are gone, as the record does.

    Nothing of a refused request is kept but its outcome, and why it was refused may have depended on its
    bytes. It changed nothing, so there is nothing that could be computed again.
    """
    said = {
        entry.op: entry.outcome
        for entry in record.entries
        if not entry.outcome["ok"] and not payload.keys() >= set(entry.payloads.values())
    }

    def decided(
        view: View, request: Mapping[str, Any], evidence: Evidence, context: Context
    ) -> Change | Refusal:
        outcome = said.get(context.op)
        if outcome is None:
            return decide(view, request, evidence, context)
        return Refusal(outcome["reason"], outcome["message"], outcome["remedy"])

    return decided

"""Checks a whole chain: every recorded commit's tree is computed again from its parent's. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.edge.git_objects import Commit, TreeView, parse_commit, write_tree
from pipeline.edge.ref_store import RefStore
from pipeline.errors import PipelineError, RecordTooNew
from pipeline.ledger import chain
from pipeline.records.decisions import Adopt, Decide
from pipeline.records.ledger import Transaction

#: Says what is wrong with one state file, or nothing. PURE.
Validate = Callable[[str, bytes], str | None]


@dataclass(frozen=True)
class Finding:
    """One thing that does not hold, or (`foreign`) a commit that no transaction made."""

    commit: str
    problem: str
    foreign: bool = False


@dataclass(frozen=True)
class Story:
    """One commit of the chain, oldest first; `record` is None for a foreign one."""

    oid: str
    subject: str
    record: Transaction | None


def history(refs: RefStore, tip: str, reducer: int) -> Iterator[Story]:
    """Yields the chain, oldest first, side branches of hand merges included."""
    commits = {oid: _commit(refs, oid) for oid in refs.since(tip, None) or []}
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
            findings.append(Finding(story.oid, f"made by hand: {story.subject}", foreign=True))
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
    view = TreeView(refs.read, _commit(refs, tip).tree)
    for path, _ in view.walk():
        said = validate(path, view.read(path) or b"")
        if said:
            findings.append(Finding(tip, f"`{path}`: {said}"))
    return checked, findings


def recompute(refs: RefStore, record: Transaction, decide: Decide, adopt: Adopt) -> str | None:
    """Computes one transaction again and returns how its tree differs, or None."""
    assert record.parent is not None
    parent = TreeView(refs.read, _commit(refs, record.recorded or record.parent).tree)
    try:
        base = parent
        view = (
            chain.adopt_foreign(
                parent,
                TreeView(refs.read, _commit(refs, record.parent).tree),
                record.parent,
                adopt,
                record.ordinal,
            )
            if record.recorded
            else base
        )
        payload = {}
        for entry in record.entries:
            for oid in entry.payloads.values():
                found = refs.read(oid)
                if found is not None:
                    payload[oid] = found.data
        step = chain.advance(view, chain.batch_of(record, payload), decide)
        writes = {**getattr(view, "writes", {}), **step.writes}
        root, _ = write_tree(parent, writes)
    except RecordTooNew:
        raise
    except (PipelineError, chain.WriterConflict) as exc:
        return f"transaction {record.ordinal} cannot be computed again: {exc}"
    if root != record.tree:
        return f"transaction {record.ordinal} does not give the tree that it says"
    return None


def _commit(refs: RefStore, oid: str) -> Commit:
    found = refs.read(oid)
    if found is None:
        raise PipelineError(f"Commit {oid} is missing.")
    return parse_commit(found.data)

"""The chain of records: what a commit says about itself, and the step from one tree to the next. Pure.

A commit is *recorded* when its message holds a Transaction that is bound to it: same tree, same parent.
Any recorded commit can be computed again from its parent, which `check.recompute` does.
A commit that is not recorded is *foreign*: made by hand or by an old script. Message text alone proves
nothing (an amended commit carries the same text), so the two ids decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.edge.git_objects import (
    LARGEST_OBJECT_BYTES,
    RENEW,
    Commit,
    Object,
    Overlay,
    TreeView,
    changed_paths,
    make_commit,
)
from pipeline.errors import LedgerError, LedgerTooLarge, PipelineError, RecordTooNew
from pipeline.records import paths
from pipeline.records.base import LARGEST_RECORD_BYTES, dump, load
from pipeline.records.decisions import Adopt, Change, Context, Decide, Refusal, View
from pipeline.records.ledger import (
    FORMAT,
    Completion,
    EntryRecord,
    Evidence,
    LedgerState,
    Quarantine,
    QuarantineArchive,
    Transaction,
    Writer,
)

#: `ledger.json`, which every transaction writes anew, holds at most two tails of notes of foreign changes.
TAIL = 50

#: Where a request names what it is about, for a commit's first line.
_ABOUT = ("job_id", "name", "names", "locks", "subject", "id")


class WriterConflict(Exception):
    """The ledger's record of this writer cannot be this store's: restored from a backup, or cloned."""


@dataclass(frozen=True)
class Item:
    """One entry as a batch carries it."""

    sequence: int
    op: str
    request: Mapping[str, Any]
    evidence: Evidence
    payloads: Mapping[str, bytes]


@dataclass(frozen=True)
class Batch:
    """The entries of one store that go into one commit. `closes` are writers that the store put aside."""

    writer: str
    settled: int
    items: Sequence[Item]
    closes: Sequence[str] = ()


@dataclass(frozen=True)
class Step:
    """What a batch makes of a view. `changed` is false when no fact but bookkeeping would be written."""

    state: LedgerState
    writes: Mapping[str, bytes | None]
    outcomes: Mapping[int, dict[str, Any]]
    changed: bool


def read_state(view: View) -> LedgerState:
    """Reads `coordination/ledger.json`. Raises RecordTooNew for a format of a newer version."""
    data = view.read(paths.LEDGER)
    if data is None:
        raise LedgerError(
            f"`{paths.LEDGER}` is missing.",
            remedy="Restore it from the branch's history: `git log -- coordination`.",
        )
    state = load(LedgerState, data, paths.LEDGER)
    if state.format > FORMAT:
        raise RecordTooNew(
            f"The ledger has format {state.format}; this version reads up to {FORMAT}.",
            remedy="Upgrade the pipeline.",
        )
    return state


def insist_on_writer(state: LedgerState, writer: str) -> None:
    """Raises WriterConflict if the ledger has forgotten or closed a writer that it once knew."""
    record = state.writers.get(writer)
    if record is None or record.closed:
        what = "has closed" if record else "does not know"
        raise WriterConflict(f"the ledger {what} its writer {writer}")


def lookup(state: LedgerState, writer: str, sequence: int, op: str) -> dict[str, Any] | None:
    """Returns the outcome of an entry that is in the ledger, or None for one that is not.

    The scheme of RIFL (Lee et al., SOSP 2015). Raises WriterConflict for a number that is settled or was
    used by another operation: success must never be read out of a number alone.
    """
    record = state.writers.get(writer)
    if record is None:
        return None
    known = record.completed.get(str(sequence))
    if known is not None and known.op == op:
        return known.outcome
    if record.closed or known is not None or sequence <= record.settled:
        raise WriterConflict(f"the ledger has another entry {sequence} of its writer {writer}")
    return None


def advance(view: View, batch: Batch, decide: Decide, before: LedgerState | None = None) -> Step:
    """Decides a batch, entry by entry, each on what the one before it left. `before` is the view's state.

    1. An entry that the ledger knows keeps its outcome: looked up before anything is trimmed.
    2. A decision that fails fails alone; the others of the batch go on.
    3. The completion records are written with the effects, in the same tree.
    """
    before = before or read_state(view)
    ordinal = before.ordinal + 1
    overlay = Overlay(_OfThisMachine(view))
    outcomes: dict[int, dict[str, Any]] = {}
    changed = False
    for item in batch.items:
        known = lookup(before, batch.writer, item.sequence, item.op)
        if known is not None:
            outcomes[item.sequence] = known
            continue
        context = Context(item.op, ordinal, item.payloads)
        outcomes[item.sequence], writes = _decide_alone(overlay, item, context, decide)
        changed = changed or bool(writes)
        overlay.writes.update(writes)
    after = read_state(overlay) if paths.LEDGER in overlay.writes else before
    state = after.model_copy(update={"ordinal": ordinal, "writers": _completed(after, batch, outcomes)})
    overlay.writes[paths.LEDGER] = dump(state)
    return Step(state, overlay.writes, outcomes, changed)


class _UnreadableHere(BaseException):
    """A tree could not be read on this machine. No decision catches it, and none is made of it."""


class _OfThisMachine(View):
    """A view whose errors say something of this machine and not of a request, whatever they are: a full disk,
    a git that was killed or took too long, a clone that somebody removes meanwhile.
    """

    def __init__(self, below: View) -> None:
        self._below = below

    def read(self, path: str) -> bytes | None:
        try:
            return self._below.read(path)
        except Exception as exc:
            raise _UnreadableHere from exc

    def names(self, folder: str) -> list[str]:
        try:
            return self._below.names(folder)
        except Exception as exc:
            raise _UnreadableHere from exc


def _decide_alone(
    view: View, item: Item, context: Context, decide: Decide
) -> tuple[dict[str, Any], Mapping[str, bytes | None]]:
    try:
        decision = decide(view, item.request, item.evidence, context)
    except _UnreadableHere as exc:
        if isinstance(exc.__cause__, PipelineError | MemoryError):
            raise exc.__cause__ from None
        raise LedgerError(f"The clone of the ledger cannot be read: {exc.__cause__}.", remedy=RENEW) from exc
    except (LedgerError, RecordTooNew, MemoryError):
        raise  # says something of this machine, not of the request: nothing that all would compute again
    except PipelineError as exc:
        return refusal_outcome(Refusal(type(exc).__name__, exc.message, exc.remedy)), {}
    except Exception as exc:
        return refusal_outcome(Refusal("defect", f"The decision failed: {type(exc).__name__}: {exc}")), {}
    if isinstance(decision, Refusal):
        return refusal_outcome(decision), {}
    assert isinstance(decision, Change)
    if large := next((path for path, data in decision.writes.items() if _is_too_large(path, data)), None):
        return refusal_outcome(Refusal("too-large", f"`{large}` would be larger than what is read.")), {}
    return {"ok": True, "value": decision.outcome}, decision.writes


def _is_too_large(path: str, data: bytes | None) -> bool:
    """Says whether a file could be written that nobody would read again."""
    return len(data or b"") > (LARGEST_RECORD_BYTES if path.endswith(".json") else LARGEST_OBJECT_BYTES)


def refusal_outcome(refusal: Refusal) -> dict[str, Any]:
    """Returns a refusal as the outcome that is recorded and answered."""
    return {"ok": False, "reason": refusal.reason, "message": refusal.message, "remedy": refusal.remedy}


def _completed(state: LedgerState, batch: Batch, outcomes: Mapping[int, dict[str, Any]]) -> dict[str, Writer]:
    writers = dict(state.writers)
    for closed in batch.closes:
        writers[closed] = writers.get(closed, Writer()).model_copy(update={"closed": True, "completed": {}})
    mine = writers.get(batch.writer, Writer())
    if any(item.sequence <= batch.settled for item in batch.items):
        raise WriterConflict(f"settled {batch.settled} would reach into its own batch")
    settled = max(mine.settled, batch.settled)
    completed = dict(mine.completed)
    for item in batch.items:
        completed[str(item.sequence)] = Completion(op=item.op, outcome=outcomes[item.sequence])
    kept = {number: done for number, done in completed.items() if int(number) > settled}
    writers[batch.writer] = Writer(settled=settled, completed=kept)
    return writers


# ---------------------------------------------------------------- what a commit says about itself


def make_recorded(author: str, when: datetime, record: Transaction) -> Object:
    """Returns the commit of a transaction: a subject in words, then the record as one line of JSON."""
    raw = json.dumps(
        record.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    subject = f"{author}: {_words(record)}".replace("\n", " ")[:120]
    return make_commit(
        record.tree,
        [record.parent] if record.parent else [],
        f"{author} <{author}@builders.invalid>",
        int(when.timestamp()),
        f"{subject}\n\n{raw}\n",
    )


def _words(record: Transaction) -> str:
    """Returns the kinds of what was done, refusals said."""
    if record.kind == "genesis":
        return "the ledger begins"
    words = []
    for entry in record.entries:
        request = entry.request
        named = next((entry.request[k] for k in _ABOUT if entry.request.get(k)), "")
        about = named if isinstance(named, str) else ", ".join(map(str, named))
        refused = "" if entry.outcome.get("ok") else " (refused)"
        words.append(f"{request.get('kind', '?')} {about}".strip() + refused)
    return "; ".join(words[:3]) + (f"; and {len(words) - 3} more" if len(words) > 3 else "")


def read_record(commit: Commit, known_reducer: int) -> Transaction | None:
    """Returns the record that is bound to a commit; None for a foreign commit.

    Raises RecordTooNew for a record of a newer reducer: that is no foreign commit, but one's own past
    written by a version that knows more.
    """
    _, _, body = commit.message.partition("\n\n")
    if not body.startswith("{"):
        return None
    try:
        raw = json.loads(body)
        bound = raw["tree"] == commit.tree and commit.parents == ((raw["parent"],) if raw["parent"] else ())
        newer = int(raw["reducer"]) > known_reducer or int(raw["format"]) > FORMAT
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if not bound:
        return None
    if newer:
        raise RecordTooNew(
            f"A commit of the ledger is of reducer {raw['reducer']}; this version knows {known_reducer}.",
            remedy="Upgrade the pipeline on this machine.",
        )
    try:
        return Transaction.model_validate(raw)
    except ValueError:
        return None


# ---------------------------------------------------------------- foreign commits


def adopt_foreign(recorded: TreeView, foreign: TreeView, tip: str, adopt: Adopt, ordinal: int) -> Overlay:
    """Returns the recorded tree with what is legal in a foreign one laid over it.

    `coordination/ledger.json` is never adopted. What is not legal keeps its bytes under
    `coordination/quarantine/` and is named in the state (older names in an archive); the recorded content
    stays in its place. What is
    adopted in its canonical form is adopted: how somebody had laid it out is in his commit.
    """
    overlay = Overlay(recorded)
    state = read_state(recorded)
    quarantined = list(state.quarantined)
    for path in changed_paths(recorded, foreign):
        before, after, large = recorded.read(path), None, ""
        try:
            after = foreign.read(path)
        except LedgerTooLarge as exc:
            large = f"{exc.size_bytes:,} bytes; more than {LARGEST_OBJECT_BYTES:,} are not read"
        entry = foreign.entry(path)
        if entry is not None and not entry.mode.startswith("100"):
            reason, after = "not a plain file", None
        elif large:
            reason = large  # not put aside either: the bytes stay where they are, in his commit
        elif path == paths.LEDGER or path.startswith("coordination/quarantine/"):
            reason = "only transactions write it"
        else:
            adopted = adopt(path, before, after)
            if adopted.data is not None:
                overlay.writes[path] = adopted.data
            if adopted.data is not None and after is not None and not adopted.reason:
                continue
            reason = adopted.reason or "a removal by hand is not adopted"
        stored = paths.quarantine(ordinal, path) if after is not None else None
        if stored:
            overlay.writes[stored] = after
        quarantined.append(Quarantine(path=path, stored=stored, commit=tip, reason=reason))
    if quarantined != state.quarantined:
        if len(quarantined) > 2 * TAIL:
            sealed = QuarantineArchive(ordinal=ordinal, quarantined=quarantined[:-TAIL])
            overlay.writes[paths.quarantine_archive(ordinal)] = dump(sealed)
            quarantined = quarantined[-TAIL:]
        overlay.writes[paths.LEDGER] = dump(state.model_copy(update={"quarantined": quarantined}))
    return overlay


def entry_records(batch: Batch, step: Step, blobs: Mapping[int, Mapping[str, str]]) -> list[EntryRecord]:
    """Returns a batch as its commit keeps it; payloads by the ids of their blobs."""
    return [
        EntryRecord(
            sequence=item.sequence,
            op=item.op,
            request=dict(item.request),
            evidence=item.evidence,
            outcome=step.outcomes[item.sequence],
            payloads=dict(blobs.get(item.sequence, {})),
        )
        for item in batch.items
    ]


def batch_of(transaction: Transaction, payload: Mapping[str, bytes]) -> Batch:
    """Returns the batch that a record tells of; `payload` maps blob ids to bytes (refused: none kept)."""
    items = [
        Item(
            e.sequence,
            e.op,
            e.request,
            e.evidence,
            {name: payload.get(oid, b"") for name, oid in e.payloads.items()},
        )
        for e in transaction.entries
    ]
    return Batch(transaction.writer, transaction.settled, items, tuple(transaction.closes))

"""Deliberate bugs of the ledger, by name: each leaves one rule out. For tests only.

`planted` puts one in the place of the product's own function for the length of a test. A rule that is kept
twice (a needless second line of defence would be simpler gone) is left out in both places at once, and the
mutant's text says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from pipeline.edge.git_clone import GitClone
from pipeline.edge.git_objects import make_commit, write_tree
from pipeline.edge.living_lock import LivingLock
from pipeline.errors import LedgerRewound, OutcomeUnknown, PipelineError
from pipeline.ledger import branch, chain, history, store
from pipeline.ledger.branch import Branch
from pipeline.ledger.leader import Leader
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.store import Store
from pipeline.records import paths
from tests.ledger.toy import CountedRandomness, FakeProcesses


@dataclass(frozen=True)
class Mutant:
    """What is left out, and the functions that stand in: (owner, name) -> maker of the stand-in."""

    text: str
    changes: Mapping[tuple[Any, str], Callable[[Any], Any]]


MUTANTS: dict[str, Mutant] = {}


def mutant(name: str, text: str, *changes: tuple[Any, str, Callable[[Any], Any]]) -> None:
    """Registers a mutant."""
    MUTANTS[name] = Mutant(text, {(owner, attribute): make for owner, attribute, make in changes})


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Puts a mutant into the product for a while."""
    with _planted(list(MUTANTS[name].changes.items())):
        yield


@contextmanager
def _planted(changes: list[tuple[tuple[Any, str], Callable[[Any], Any]]]) -> Iterator[None]:
    if not changes:
        yield
        return
    (owner, attribute), make = changes[0]
    with patch.object(owner, attribute, make(getattr(owner, attribute))), _planted(changes[1:]):
        yield


# ---------------------------------------------------------------- who an entry is


def _bare_commit(real: Any) -> Any:
    def commit_of(self: Leader, standing: Any, batch: Any, entries: Any, step: Any) -> Any:
        plan = real(self, standing, batch, entries, step)
        writes = {path: data for path, data in step.writes.items() if path != paths.LEDGER}
        root, objects = write_tree(standing.tree, writes)
        made = make_commit(root, [standing.tip], "x <x@x.invalid>", 1, "state\n")
        return replace(plan, commit=made.oid, objects=[*objects, made])

    return commit_of


mutant("no-record", "the commit carries its files only", (Leader, "_commit_of", _bare_commit))


def _by_number(real: Any) -> Any:
    def lookup(state: Any, writer: str, sequence: int, op: str) -> Any:
        record = state.writers.get(writer)
        if record is None:
            return None
        known = record.completed.get(str(sequence))
        if known is not None:
            return known.outcome
        return {"ok": True, "value": {}} if sequence <= record.settled else None

    return lookup


mutant("number-alone", "a number that is settled or taken counts as done", (chain, "lookup", _by_number))
mutant(
    "unknown-is-new",
    "a writer that the ledger has forgotten goes on as if it were new",
    (chain, "insist_on_writer", lambda real: lambda state, writer: None),
)
mutant(
    "no-search",
    "a reborn store does not look its operations up in the history",
    (Leader, "_found_in_history", lambda real: lambda self, tip, entries: {}),
)


def _search_once(real: Any) -> Any:
    seen: dict[str, Any] = {}

    def found(self: Leader, tip: str, entries: Any) -> Any:
        key = ",".join(e.op for e in entries)
        return dict(seen.setdefault(key, real(self, tip, entries))) if entries else {}

    return found


mutant(
    "search-once",
    "a reborn store looks once, not at every decide",
    (Leader, "_found_in_history", _search_once),
)


def _numbered_at_drain(real: Any) -> Any:
    def advance(view: Any, batch: Any, decide: Any, before: Any = None) -> Any:
        newest_first = sorted(batch.items, key=lambda item: -item.sequence)
        items = [replace(item, sequence=batch.settled + 1 + n) for n, item in enumerate(newest_first)]
        step = real(view, replace(batch, items=items), decide)
        numbers = {item.op: item.sequence for item in batch.items}
        outcomes = {numbers[item.op]: step.outcomes[item.sequence] for item in items}
        return replace(step, outcomes=outcomes)

    return advance


mutant(
    "numbered-at-drain",
    "the leader numbers what it finds, newest first, and looks up by number",
    (chain, "advance", _numbered_at_drain),
    (chain, "lookup", _by_number),
)


def _plan_on_the_newest_mark(real: Any) -> Any:
    def plan(self: Leader, outbox: Any) -> Any:
        return real(self, outbox._replace(tip=self._store.tip()))

    return plan


def _reborn_unseen(real: Any) -> Any:
    return lambda self, writer, new_id, versions: real(self, writer, new_id, {})


mutant(
    "reborn-unseen",
    "a conflict found with old entries on a newer tip is believed without reading the outbox again",
    (Leader, "_plan", _plan_on_the_newest_mark),
    (Store, "rebirth", _reborn_unseen),
)
mutant(
    "rebirth-keeps-the-name",
    "a copy on another machine goes on under the old writer id",
    (store, "_be_reborn", lambda real: lambda db, new_id: None),
)


def _settle_and_forget(real: Any) -> Any:
    def settle(self: Store, writer: str, outcomes: Any, landed: Any = None) -> None:
        real(self, writer, outcomes, landed)
        for entry in self.entries():
            if entry.op in outcomes and entry.kind == "attached":
                self.take(entry.sequence)

    return settle


mutant(
    "not-held",
    "an answered entry is forgotten before its asker has it",
    (Store, "settle", _settle_and_forget),
)

# ---------------------------------------------------------------- what an asker is told

mutant(
    "no-deadline",
    "a stopped leader is waited for",
    (LivingLock, "try_hold", lambda real: lambda self, now, deadline: real(self, now, 1e9)),
)
mutant(
    "cached-tip",
    "a refusal rests on the last tip seen, without reading the remote",
    (Branch, "fetch", lambda real: lambda self, read=None: self.store.tip() or real(self, read)),
)
mutant(
    "attached-lives-on",
    "an attached entry is carried out although its asker is gone",
    (FakeProcesses, "alive", lambda real: lambda self, process: True),
)
mutant(
    "drain-gives-up",
    "recovery goes on when the outbox cannot be drained, and asks ahead of what waits there",
    (Ledger, "deliver", lambda real: lambda self, patience=60.0: _swallowed(real, self, patience)),
    (Store, "look", lambda real: lambda self: _reversed(real(self))),
)


def _reversed(outbox: Any) -> Any:
    return outbox._replace(entries=outbox.entries[::-1])


def _swallowed(real: Any, *words: Any) -> Any:
    try:
        return real(*words)
    except PipelineError:
        return []


def _move_unseen(real: Any) -> Any:
    def move(db: Any, sequence: int, version: int, **values: Any) -> bool:
        row = db.execute("select version from entries where sequence=?", (sequence,)).fetchone()
        return bool(row and real(db, sequence, row[0], **values))

    return move


mutant(
    "no-compare",
    "an arrow of the outbox does not compare what it starts from",
    (store, "_move", _move_unseen),
)


def _drop_pushed(real: Any) -> Any:
    return lambda db, sequence, where: real(db, sequence, where.replace(" and doubt is null", ""))


mutant(
    "drop-pushed",
    "an entry that may still land is dropped when its asker goes",
    (store, "_remove", _drop_pushed),
)


def _refuse_early(real: Any) -> Any:
    def carry(self: Leader, plan: Any, tries: int, until: float) -> bool:
        by_number = {e.sequence: e.op for e in plan.entries}
        refused = {by_number[n]: outcome for n, outcome in plan.outcomes.items() if not outcome["ok"]}
        self._store.settle(plan.writer, refused)
        return bool(real(self, plan, tries, until))

    return carry


mutant(
    "refused-early",
    "a refusal is given before the commit that it rests on landed",
    (Leader, "_carry", _refuse_early),
)


def _ends_doubt(real: Any) -> Any:
    def carry(self: Leader, plan: Any, tries: int, until: float) -> bool:
        try:
            return bool(real(self, plan, tries, until))
        except OutcomeUnknown:
            raise
        except PipelineError:
            with self._store.database.write() as db:
                for entry in plan.entries:
                    store._move(db, entry.sequence, entry.version + 1, doubt=entry.doubt)
            raise

    return carry


mutant(
    "refusal-ends-doubt",
    "a push that the remote has turned down in so many words counts as dead",
    (Leader, "_carry", _ends_doubt),
)
mutant(
    "no-doubt",
    "a refusal is given without a push while an earlier push may still land",
    (Store, "look", lambda real: lambda self: _without_doubts(real(self))),
)


def _without_doubts(outbox: Any) -> Any:
    return outbox._replace(entries=[replace(entry, doubt=None) for entry in outbox.entries])


# ---------------------------------------------------------------- the chain


def _first_parents(real: Any) -> Any:
    def last_recorded(refs: Any, tip: str, reducer: int) -> str:
        while history.record_at(refs, tip, reducer) is None:
            tip = history.commit_at(refs, tip).parents[0]
        return tip

    return last_recorded


def _unbound(real: Any) -> Any:
    def read_record(commit: Any, known: int) -> Any:
        _, _, body = commit.message.partition("\n\n")
        return chain.Transaction.model_validate(json.loads(body)) if body.startswith("{") else None

    return read_record


mutant(
    "first-parents",
    "a merge by hand is followed by its first parent only",
    (history, "last_recorded", _first_parents),
)
mutant(
    "unbound-record", "a message is believed whatever commit it stands in", (chain, "read_record", _unbound)
)
mutant(
    "counted-ops",
    "operation ids are counted, so two stores draw the same",
    (CountedRandomness, "op", lambda real: lambda self: f"op{next(self._numbers):04d}"),
)
mutant(
    "epoch-plus-one",
    "a repair takes the next epoch, without a random part",
    (CountedRandomness, "hex", lambda real: lambda self: "0" * 32),
)
mutant(
    "joins-any-repair",
    "a repair is joined without computing its chain again",
    (branch, "recompute", lambda real: lambda *words: None),
)
mutant(
    "cut-is-whole",
    "a shallow clone is taken for the whole history",
    (GitClone, "cut", lambda real: lambda self: set()),
)


def _mark_after(real: Any) -> Any:
    def fetch(self: Branch, read: Any = None) -> str:
        tip = read() if read else self.refs.fetch()
        mark = self.store.tip()
        if tip and mark and not self.refs.contains(tip, mark):
            raise LedgerRewound("rewound")
        assert tip is not None
        self.store.advance_tip(mark, tip)
        return str(tip)

    return fetch


mutant("mark-read-after", "the mark is read after the remote", (Branch, "fetch", _mark_after))
mutant(
    "rewind-unnoticed",
    "a tip that lacks what was seen is taken as it is",
    (Branch, "_descends", lambda real: lambda self, tip, mark: True),
)


def _record_everything(real: Any) -> Any:
    def decide_alone(view: Any, item: Any, context: Any, decide: Any) -> Any:
        try:
            return real(view, item, context, decide)
        except PipelineError as exc:
            return chain.refusal_outcome(chain.Refusal(type(exc).__name__, exc.message)), {"notes/x": b"x"}

    return decide_alone


mutant(
    "records-local-damage",
    "an error of the local disk is recorded as the answer",
    (chain, "_decide_alone", _record_everything),
)
mutant(
    "unreadable-is-a-refusal",
    "what keeps this machine from reading its clone is recorded as the answer",
    (chain, "_OfThisMachine", lambda real: lambda below: below),
)

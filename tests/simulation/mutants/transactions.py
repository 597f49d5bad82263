"""What the ledger itself can leave out: transaction, store, chain, refs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from pipeline.coordination import reducer
from pipeline.ledger import chain
from pipeline.ledger.branch import Branch
from pipeline.ledger.leader import Leader
from pipeline.operations import journal, recover
from tests.ledger import mutants as old
from tests.simulation import world as worlds
from tests.simulation.mutants.registry import instead, mutant, taken_over
from tests.simulation.node import VirtualLivingLock, VirtualProcesses, VirtualRandomness
from tests.simulation.server import Server

for _name, _part, _profile in (
    ("no-record", "chain", "everything"),
    ("number-alone", "transaction", "odd-disks"),
    ("no-search", "transaction", "odd-disks"),
    ("search-once", "transaction", "odd-disks"),
    ("numbered-at-drain", "store", "two-leaders"),
    ("reborn-unseen", "store", "rivals"),
    ("no-deadline", "store", "two-leaders"),
    ("no-compare", "store", "rivals"),
    ("drop-pushed", "store", "rivals"),
    ("refusal-ends-doubt", "store", "rivals"),
    ("refused-early", "transaction", "rivals"),
    ("no-doubt", "store", "rivals"),
    ("first-parents", "chain", "hands"),
    ("unbound-record", "chain", "hands"),
    ("joins-any-repair", "transaction", "rewinds"),
    ("mark-read-after", "transaction", "rewinds"),
    ("rewind-unnoticed", "transaction", "rewinds"),
    ("not-held", "store", "rivals"),
    ("unknown-is-new", "transaction", "odd-disks"),
):
    _instead = {"owner": VirtualLivingLock} if _name == "no-deadline" else {}
    taken_over(_name, _part, _profile, **_instead)
taken_over("attached-lives-on", "store", "two-leaders", owner=VirtualProcesses)
taken_over("epoch-plus-one", "refs", "rewinds", owner=VirtualRandomness)
mutant(
    "drain-gives-up",
    "recovery",
    "losses",
    f"{old.MUTANTS['drain-gives-up'].text}; of kept reports it knows nothing",
    *[(owner, word, make) for (owner, word), make in old.MUTANTS["drain-gives-up"].changes.items()],
    (recover, "_report_kept", instead(lambda site, found: _thrown_away(site))),
)


def _thrown_away(site: Any) -> None:
    for folder in journal.attempts(site.settings.work):
        journal.remove(folder)


_counter = itertools.count()
mutant(
    "counted-ops",
    "transaction",
    "everything",
    old.MUTANTS["counted-ops"].text,
    (
        VirtualRandomness,
        "op",
        instead(lambda self: f"op{int(self._node.wall()) % 7:04d}{self._node.dice.bits(5)}"),
    ),
)


def _says_whether_it_writes(real: Any) -> Any:
    def plan(self: Leader, outbox: Any) -> Any:
        made = real(self, outbox)
        self._branch.writes = made is None or bool(made.commit)  # type: ignore[attr-defined]
        return made

    return plan


def _unless_it_writes(real: Any) -> Any:
    def fetch(self: Branch, read: Any = None) -> str:
        return (None if getattr(self, "writes", True) else self.store.tip()) or str(real(self, read))

    return fetch


mutant(
    "cached-tip",
    "transaction",
    "rivals",
    old.MUTANTS["cached-tip"].text,
    (Leader, "_plan", _says_whether_it_writes),
    (Branch, "fetch", _unless_it_writes),
)


def _forgetful(real: Any) -> Any:
    def completed(state: Any, batch: Any, outcomes: Any) -> Any:
        writers = real(state, batch, outcomes)
        return writers | {batch.writer: writers[batch.writer].model_copy(update={"completed": {}})}

    return completed


mutant("no-receipt", "chain", "everything", "no receipt is written", (chain, "_completed", _forgetful))
mutant(
    "settled-too-far",
    "store",
    "two-leaders",
    "`settled` reaches the oldest entry that is held",
    (
        Leader,
        "_plan",
        lambda real: (
            lambda self, outbox: real(self, outbox._replace(floor=outbox.floor + (len(outbox.entries) > 1)))
        ),
    ),
    (chain, "_completed", lambda real: lambda *words: _lenient(real, *words)),
)


def _lenient(real: Any, state: Any, batch: Any, outcomes: Any) -> Any:
    items = [item for item in batch.items if item.sequence > batch.settled]
    return real(state, replace(batch, items=items), outcomes)


def _early(real: Any) -> Any:
    def carry(self: Leader, plan: Any, tries: int, until: float) -> bool:
        self._store.settle(plan.writer, {e.op: plan.outcomes[e.sequence] for e in plan.entries})
        return bool(real(self, plan, tries, until))

    return carry


mutant(
    "answers-before-the-push",
    "transaction",
    "everything",
    "group commit answers before its push is known",
    (Leader, "_carry", _early),
)
mutant(
    "push-without-lease",
    "refs",
    "everything",
    "a push does not compare what it replaces",
    (Server, "move", lambda real: lambda self, commit, expected: real(self, commit, self.tip)),
)


def _stubborn(real: Any) -> Any:
    def carry(self: Leader, plan: Any, tries: int, until: float) -> bool:
        try:
            return bool(real(self, plan, tries, until))
        except worlds.REFUSALS:
            return False

    return carry


mutant(
    "refusal-not-believed",
    "transaction",
    "everything",
    "a hook's refusal is tried again and again",
    (Leader, "_carry", _stubborn),
)
mutant(
    "clock-in-a-decision",
    "chain",
    "everything",
    "a decision reads a clock",
    (
        reducer,
        "decide",
        lambda real: (
            lambda view, request, evidence, context: real(
                view,
                request,
                evidence.model_copy(update={"now": evidence.now + timedelta(seconds=next(_counter))}),
                context,
            )
        ),
    ),
)
mutant(
    "unlooked-batch",
    "chain",
    "two-leaders",
    "a batch is decided without looking up what is done",
    (chain, "lookup", instead(lambda state, writer, sequence, op: None)),
)
mutant(
    "pushes-nothing-new",
    "transaction",
    "everything",
    "an answer that needs no push is pushed",
    (Leader, "_plan", lambda real: lambda self, outbox: _always_pushed(real, self, outbox)),
)


def _always_pushed(real: Any, self: Leader, outbox: Any) -> Any:
    with patch.object(chain, "advance", _changed(chain.advance)):
        return real(self, outbox)


def _changed(real: Any) -> Any:
    return lambda *words: replace(real(*words), changed=True)

"""What the workers asked and were told, out of their journals, held against the chain.

Names of invariants are those of the virtual cluster. `applied-was-asked` is the real layer's own: nothing is
in the chain that no journal knows of, and each journal is written before the outbox is.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.ledger import chain
from pipeline.ledger.chain import Batch, Item
from pipeline.records.ledger import Evidence
from pipeline.records.locks import Token
from tests.cluster.chain import ChainChecker
from tests.simulation.invariants import violated


@dataclass
class Asked:
    """One request, and what its asker was told of it."""

    op: str
    node: str
    since: float
    kind: str
    request: dict[str, Any]
    evidence: dict[str, Any]
    asker: str
    base: str | None
    told: dict[str, Any] | None = None
    tip: str | None = None
    #: Whether it was found true already, on the chain that stood at its time.
    proved: bool = False


@dataclass
class Facts:
    """Everything that the journals say."""

    asked: dict[str, Asked] = field(default_factory=dict)
    #: Process -> a moment at which it certainly lived.
    last_alive: dict[str, float] = field(default_factory=dict)
    #: (parent, number in the outbox) -> the times at which a push was begun.
    tried: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    #: (parent, writer, number in the outbox) -> when a push of it was begun last.
    begun: dict[tuple[str, str, int], float] = field(default_factory=dict)
    #: Machine -> the tips that its journal names as seen, and when first.
    tips: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    #: (lock, token) -> when it was worked under for certain, first and last.
    works: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    pushes: Counter[str] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)
    answers: int = 0
    unknown: int = 0
    rewound: int = 0
    stamps: int = 0

    def read(self, node: str, journal: Path) -> None:
        """Reads a machine's journal."""
        with journal.open("rb") as lines:
            for number, raw in enumerate(lines):
                try:
                    line = json.loads(raw)
                except ValueError:
                    # Of a writer killed in the middle of its line, the next one's follows on the same.
                    _, _, rest = raw.rpartition(b'{"is": ')
                    try:
                        line = json.loads(b'{"is": ' + rest)
                    except ValueError:
                        continue
                self._take(node, line, f"{node}:{number}")

    def _take(self, node: str, line: dict[str, Any], name: str) -> None:
        kind, moment = line["is"], float(line["t"])
        if kind == "born":
            self.last_alive[line["me"]] = moment
        elif kind == "ask":
            self.asked[line["op"]] = Asked(
                line["op"], node, moment, line["kind"], line["request"], line["evidence"], line["asker"],
                line["base"],
            )  # fmt: skip
            self._sees(node, line["base"], moment)
            self.last_alive[line["asker"]] = max(moment, self.last_alive.get(line["asker"], 0.0))
        elif kind == "told":
            self.answers += 1
            asked = self.asked[line["op"]]
            asked.told, asked.tip = line["outcome"], line["tip"]
            self._sees(node, line["tip"], moment)
        elif kind == "unknown":
            self.unknown += 1
        elif kind == "try":
            for sequence in line["entries"]:
                self.tried[line["parent"], sequence].add(name)
                self.begun[line["parent"], line["writer"], sequence] = moment
            self._sees(node, line["parent"], moment)
        elif kind == "work":
            self.stamps += 1
            at = float(line.get("at", moment))
            span = self.works.setdefault((line["lock"], line["token"]), [at, at])
            span[0], span[1] = min(span[0], at), max(span[1], at)
        elif kind == "push":
            self.pushes[f"{line['became']} {line['why']}"] += 1
        elif kind == "error":
            self.errors[line["kind"]] += 1
            if line["kind"] == "StoreError" and "left the outbox" in line["text"]:
                self.defects.append(f"held-until-taken {node}: {line['text']}")
        elif kind == "rewound":
            self.rewound += 1
        elif kind == "defect":
            self.defects.append(f"no-defect {node}: {line['text']}")

    def _sees(self, node: str, tip: str | None, moment: float) -> None:
        if tip is not None:
            self.tips[node].setdefault(tip, moment)

    # ------------------------------------------------------------ against the chain

    def check_told(self, checker: ChainChecker, odd: set[str], *, last: bool, all_noted: bool = True) -> None:
        """acknowledged-is-applied, refused-never-applied, answer-was-true, applied-was-asked.

        Called for each chain before it is given up, and with `last` at the end. Real commands (`invoke`) keep
        no journal: then not `all_noted`.
        """
        for asked in self.asked.values():
            if asked.told is None or asked.proved:
                continue
            there = checker.applied.get(asked.op)
            lost = [outcome for _, outcome in checker.abandoned.get(asked.op, ())]
            asked.proved = any(each is not None and _same(asked.told, each) for each in (there, *lost))
            if asked.proved:
                continue
            if there is not None:
                if last:  # on a chain that was lost it may have landed first, and nobody have been told
                    name = "acknowledged-is-applied" if asked.told["ok"] else "refused-never-applied"
                    violated(name, f"{asked.op} was told {asked.told}, the chain says {there}")
                continue
            asked.proved = self._was_true(checker, asked)
            if asked.proved or not last:
                continue
            if asked.node in odd and not asked.told["ok"]:
                continue  # a push was under way when its disk was lost
            name = "acknowledged-is-applied" if asked.told["ok"] else "answer-was-true"
            violated(
                name, f"{asked.op} ({asked.request}) was told {asked.told}, which held at no moment since"
            )
        if last and all_noted:
            for op in (*checker.applied, *checker.abandoned):
                if op not in self.asked:
                    violated("applied-was-asked", f"{op} is in the chain, and nobody asked for it")

    def _was_true(self, checker: ChainChecker, asked: Asked) -> bool:
        """Decides a request that was answered without a push, on every state since it was asked."""
        if asked.tip not in checker.where or (asked.base is not None and asked.base not in checker.where):
            return False
        item = Item(1, asked.op, asked.request, Evidence.model_validate(asked.evidence), {})
        for view in checker.states_between(asked.base, asked.tip):
            step = chain.advance(view, Batch("witness", 0, [item]), checker.world.decide)
            if _same(asked.told or {}, step.outcomes[1]) and not step.changed:
                return True
        return False

    def check_loss(self, odd: set[str]) -> None:
        """no-defect and held-until-taken: no exception but the product's own, no answer lost."""
        for text in self.defects:
            name, _, rest = text.partition(" ")
            if name == "no-defect" or rest.partition(":")[0] not in odd:
                violated(name, rest)

    def check_works(self, promised: bool) -> None:
        """work-never-overlaps, on CLOCK_BOOTTIME; each stamp is of a moment at which the lease was trusted.

        Not promised after a rewind. Whoever works later has the greater token: a smaller one's work is over.
        """
        if not promised:
            return
        for lock in sorted({lock for lock, _ in self.works}):
            spans = sorted((span, token) for (name, token), span in self.works.items() if name == lock)
            for (one, first), (two, second) in pairwise(spans):
                if two[0] <= one[1]:
                    violated(
                        "work-never-overlaps",
                        f"{lock}: {second} works at {two[0]:.3f}, {first} from {one[0]:.3f} to {one[1]:.3f}",
                    )
                if Token.parse(second) <= Token.parse(first):
                    violated("work-never-overlaps", f"{lock}: {second} works after {first}, which is newer")


def _same(told: dict[str, Any], there: dict[str, Any]) -> bool:
    """Says whether an answer is the outcome, or the refusal that a withdrawal amounts to for its asker."""
    if told == there:
        return True
    value = there.get("value")
    return told.get("reason") == "withdrawn" and isinstance(value, dict) and bool(value.get("withdrawn"))


def kinds(asked: Iterable[Asked]) -> Counter[str]:
    """Returns how often what was asked."""
    return Counter(each.request["kind"] for each in asked)

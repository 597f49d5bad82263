"""The witness: what was asked, tried and told, noted at the outboxes' own calls and compared with the chain.

It sees every entry when it is enqueued, every attempt when it is noted, and every answer at the moment when
a living asker reads it; so it needs no part of the product to tell it the truth.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.ledger import chain
from pipeline.ledger.chain import Batch, Item
from tests.simulation.invariants import violated

if TYPE_CHECKING:
    from tests.simulation.node import Node, VirtualStore
    from tests.simulation.world import World


#: What is done to somebody because of silence.
_BY_SILENCE = ("job.requeue", "lock.takeover", "lock.evict")


@dataclass
class Asked:
    """One request, and what its asker was told of it."""

    item: Item
    kind: str
    node: str
    builder: str
    since: float
    asker: str
    told: Mapping[str, Any] | None = None
    told_at: float = float("inf")
    disowned: bool = False


class Witness:
    """Everything that was asked in one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: dict[str, Asked] = {}
        #: Who pushed a commit first, and the last tip that one had seen then.
        self.pushers: dict[str, tuple[Node, str | None, float]] = {}
        self.deaths: dict[str, float] = {}
        #: Token or waiter -> its nonce on the server, since when, and how long it stayed the same at most.
        self.beats: dict[str, tuple[str, float, float]] = {}
        #: Tokens and waiters whose own process has taken its nonce out: who sees none twice may miss one.
        self.given_up: set[str] = set()
        self.attempts: dict[tuple[str, str, int], int] = {}
        #: Operations whose refusal may turn out wrong: a push was under way when their disk was lost.
        self.excused: set[str] = set()
        #: Nodes whose disk is not what it was: a rebirth of theirs is right.
        self.odd_disks: set[str] = set()
        #: Builder -> every tip that a machine of its name ever saw, and when first, whatever its disk lost.
        self.tips: dict[str, dict[str, float]] = defaultdict(dict)
        self._begun: dict[str, float] = {}
        self.answers = 0

    # ------------------------------------------------------------ what the outboxes do

    def enqueue(
        self,
        store: VirtualStore,
        sequence: int,
        kind: str,
        op: str,
        request: Mapping[str, Any],
        evidence: Any,
        asker: str,
        payloads: Mapping[str, bytes] | None = None,
        durable: bool = True,
    ) -> None:
        item = Item(sequence, op, dict(request), evidence, dict(payloads or {}))
        node = store.node
        self.asked[op] = Asked(item, kind, node.name, node.builder, self.world.scheduler.now, asker)

    def push(self, node: Node, commit: str) -> None:
        """Notes who pushed a commit first, what that one had seen, and when its program was started."""
        strand = self.world.scheduler.current
        born = strand.program.born if strand else 0.0
        self._begun.setdefault(commit, self.world.scheduler.now)
        self.pushers.setdefault(commit, (node, self.world.checker.seen.get(node.name), born))

    def beat(self, data: bytes) -> None:
        """Notes which nonces changed with a heartbeat that the server took."""
        beat, now = json.loads(data), self.world.scheduler.now
        for name, nonce in [*beat["leases"].items(), *beat["waiting"].items()]:
            known = self.beats.get(name)
            if known is None:
                self.beats[name] = (nonce, now, now)
            elif known[0] != nonce:
                self.beats[name] = (nonce, now, max(known[2], now - known[1]))

    def silent(self, name: str) -> float:
        """Returns the longest time in true seconds for which a nonce stayed the same on the server."""
        known = None if name in self.given_up else self.beats.get(name)
        return float("inf") if known is None else max(known[2], self.world.scheduler.now - known[1])

    def begin_attempt(
        self, store: VirtualStore, begun: bool, parent: str, writer: str, versions: Mapping[int, int]
    ) -> None:
        if begun:
            for sequence in versions:
                key = (store.node.name, parent, sequence)
                self.attempts[key] = self.attempts.get(key, 0) + 1

    def disown(self, store: VirtualStore, result: None, sequence: int) -> None:
        row = store.database.connection.execute(
            "select op from entries where sequence=?", (sequence,)
        ).fetchone()
        if row and row[0] in self.asked:
            self.asked[row[0]].disowned = True

    def settle(
        self,
        store: VirtualStore,
        result: None,
        writer: str,
        outcomes: Mapping[str, Any],
        landed: tuple[str, str] | None = None,
    ) -> None:
        if landed:
            self._sees(store.node, landed[1])

    def advance_tip(self, store: VirtualStore, moved: bool, seen: str | None, tip: str) -> None:
        if moved:
            self._sees(store.node, tip)

    def _sees(self, node: Node, tip: str) -> None:
        """Notes the last tip that a machine has seen; it moves to descendants only."""
        self.tips[node.builder].setdefault(tip, self.world.scheduler.now)
        seen = self.world.checker.seen
        if node.name not in seen or self.world.server.contains(tip, seen[node.name]):
            seen[node.name] = tip

    def begun(self, commit: str) -> float:
        """Returns when a commit was pushed first."""
        return self._begun.get(commit, float("inf"))

    def has_seen(self, op: str, commit: str, before: float = float("inf")) -> bool:
        """Says whether a machine of the builder that asked for an operation saw a tip with a commit by then.

        So it is for an operation that nobody is known to have asked for.
        """
        asked = self.asked.get(op)
        if asked is None:
            return True
        tips = [tip for tip, since in self.tips[asked.builder].items() if since < before]
        return any(self.world.server.contains(tip, commit) for tip in tips)

    def answer_unpushed(self, store: VirtualStore, result: None, *words: Any, **options: Any) -> None:
        pass

    def rebirth(self, store: VirtualStore, reborn: bool, *words: Any) -> None:
        if reborn:
            self.world.tell(f"{store.node.name}: is reborn")
        if reborn and store.node.name not in self.odd_disks and not self.world.rewound:
            violated(
                "no-false-rebirth", f"{store.node.name} took a new writer id although its disk is its own"
            )

    def accept_rewind(self, store: VirtualStore, accepted: bool, seen: str, tip: str, *words: Any) -> None:
        if accepted:
            self.tips[store.node.builder].setdefault(tip, self.world.scheduler.now)
            self.world.tell(f"{store.node.name}: follows the rewound remote, gives up {seen[:8]}")
            self.world.checker.seen.pop(store.node.name, None)

    def answer(self, store: VirtualStore, outcome: dict[str, Any] | None, sequence: int) -> None:
        if outcome is None:
            return
        row = store.database.connection.execute(
            "select op from entries where sequence=?", (sequence,)
        ).fetchone()
        asked = self.asked.get(row[0]) if row else None
        if asked is not None and asked.told is None:
            asked.told, asked.told_at = outcome, self.world.scheduler.now
            self.answers += 1
            self._told(asked, outcome)

    # ------------------------------------------------------------ whether it was true

    def _told(self, asked: Asked, outcome: Mapping[str, Any]) -> None:
        """acknowledged-is-applied, refused-never-applied, answer-was-true: at the moment of the answer."""
        op, checker = asked.item.op, self.world.checker
        there, settled = checker.came_to(op, asked.node)
        if self.world.chatty:
            said = "ok" if outcome["ok"] else outcome["reason"]
            self.world.tell(f"{asked.node}: {asked.item.request['kind']} {op[-6:]} -> {said}")
        if outcome in there:
            return
        if settled and checker.landed_late(op) and self._was_true(asked, outcome):
            return  # decided before a push that had been under way since before a rewind landed
        if settled:
            name = "acknowledged-is-applied" if outcome["ok"] else "refused-never-applied"
            violated(name, f"{op} was told {outcome}, the chain says {there}")
        elif asked.node in self.odd_disks and not outcome["ok"]:
            self.excused.add(op)
        elif not self._was_true(asked, outcome):
            name = "acknowledged-is-applied" if outcome["ok"] else "answer-was-true"
            violated(name, f"{op} ({asked.item.request}) was told {outcome}, which held at no moment since")

    def _was_true(self, asked: Asked, outcome: Mapping[str, Any]) -> bool:
        """Decides a request that was answered without a push on every state since it was asked."""
        batch = Batch("witness", asked.item.sequence - 1, [asked.item])
        for view in self.world.checker.views_since(asked.since):
            step = chain.advance(view, batch, self.world.decide)
            if step.outcomes[asked.item.sequence] == outcome and not step.changed:
                return True
        return False

    def _holds(self, name: str, op: str) -> bool:
        """Says whether a machine holds an operation, answered or not; one that is gone tells nothing."""
        node = next((each for each in self.world.nodes if each.name == name), None)
        return node is None or bool(
            node.disk.execute("select count(*) from entries where op=?", (op,)).fetchone()[0]
        )

    def landed(self, op: str, request: Mapping[str, Any], outcome: Mapping[str, Any], commit: str) -> None:
        """refused-never-applied, for what lands after its asker was told otherwise, and three more:

        open-is-held: what lands without anybody having been told is still in the outbox that asked for it;
        dead-askers-get-nothing: a claim is not carried out by a program that began after its asker's death;
        silence-was-true: who was seen silent was so, on the server, for that long, but for drift.
        """
        asked = self.asked.get(op)
        self.world.keeping.landed(asked, request, outcome)
        if self.world.promoting is not None:
            self.world.promoting.landed(asked, request, outcome)
        own = asked is not None and asked.node not in self.odd_disks
        late = self.world.checker.late(commit)
        if asked is not None and own and asked.told is None and not late and not self._holds(asked.node, op):
            violated("open-is-held", f"{op} ({request}) lands, and {asked.node} has forgotten that it asked")
        withdrawn = request["kind"] == "withdraw" and request["op"] == op
        if asked is not None and own and withdrawn and not asked.disowned and self.world.alive(asked.asker):
            violated("living-askers-keep-theirs", f"{op} is withdrawn although {asked.asker} lives")
        _, _, born = self.pushers.get(commit, (None, None, 0.0))
        granted = outcome["ok"] and request["kind"] != "withdraw"
        if asked is not None and own and asked.kind == "attached" and granted:  # noqa: SIM102
            if self.deaths.get(asked.asker, born) < born:
                violated(
                    "dead-askers-get-nothing", f"{op} ({request}) is granted to {asked.asker}, long dead"
                )
        if (
            asked is not None
            and outcome["ok"]
            and request["kind"] in _BY_SILENCE
            and asked.node not in self.odd_disks
        ):
            said = asked.item.evidence.observations.get("silence_seconds", 0.0)
            truth = self.silent(request.get("token") or request["op"])
            if truth < said * 0.98 - 1.0:
                violated(
                    "silence-was-true", f"{request} after {said} s, of which only {truth:.0f} were silent"
                )
        if asked is None or asked.told is None or asked.told == outcome or op in self.excused:
            return
        if late and self.begun(commit) < asked.told_at:
            return  # under way when its asker was told, and the remote went back to its parent since
        if not asked.told["ok"] and outcome["ok"]:
            violated("refused-never-applied", f"{op} ({asked.item.request}) was refused, and now is applied")

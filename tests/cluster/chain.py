"""Walks the whole chain that a real run left, oldest first, and applies the virtual cluster's own invariants.

The checker is that of `tests.simulation`: each commit is computed again and every function of `INVARIANTS`
sees its step. What a virtual world tells it when it happens comes from the journals here, afterwards. The
objects are read from a repository that has all of them, abandoned chains included.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pipeline.coordination import adoption, reducer
from pipeline.edge.git_objects import EMPTY_TREE, Commit, Object, parse_commit
from pipeline.ledger import chain
from tests.simulation.checker import NEWEST, Checker
from tests.simulation.invariants import Step, Violated, violated
from tests.simulation.node import Node
from tests.simulation.world import World

_KEPT = 60_000


class Objects:
    """Everything that was ever pushed, read through one `git cat-file` that stays."""

    def __init__(self, repository: Path) -> None:
        words = ["git", "--git-dir", str(repository), "cat-file", "--batch"]
        self._git = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._kept: dict[str, Object] = {EMPTY_TREE.oid: EMPTY_TREE}
        self._commits: dict[str, Commit] = {}

    def get(self, oid: str) -> Object | None:
        """Returns an object, or None."""
        found = self._kept.get(oid)
        if found is not None:
            return found
        assert self._git.stdin is not None
        assert self._git.stdout is not None
        self._git.stdin.write(f"{oid}\n".encode())
        self._git.stdin.flush()
        words = self._git.stdout.readline().decode().split()
        if len(words) != 3:
            return None
        data = self._git.stdout.read(int(words[2]))
        self._git.stdout.read(1)
        if len(self._kept) > _KEPT:
            self._kept = {EMPTY_TREE.oid: EMPTY_TREE}
        found = self._kept[oid] = Object(words[0], words[1], data)
        return found

    def commit(self, oid: str) -> Commit:
        found = self._commits.get(oid)
        if found is None:
            item = self.get(oid)
            assert item is not None, f"commit {oid} is missing"
            found = self._commits[oid] = parse_commit(item.data)
        return found

    def close(self) -> None:
        """Ends the git process."""
        for stream in (self._git.stdin, self._git.stdout):
            if stream is not None:
                stream.close()
        self._git.wait(timeout=10)


def line_of(objects: Objects, tip: str, by_hand: Mapping[str, str]) -> list[str]:
    """Returns the commits from the first to `tip`. `by_hand` maps commits made by hand to the tip before."""
    found = [tip]
    while True:
        commit = objects.commit(found[-1])
        record = chain.read_record(commit, NEWEST)
        if record is None and found[-1] not in by_hand:
            violated("only-transactions-land", f"{found[-1][:10]} carries no record that is bound to it")
        before = record.parent if record is not None else by_hand[found[-1]]
        if before is None:
            return found[::-1]
        found.append(before)


class ChainChecker(Checker):
    """The virtual cluster's checker, over a chain that is there already. Its clock counts commits."""

    def __init__(self, objects: Objects, told: Mapping[str, Any]) -> None:
        """`told` holds `tried`, `last_alive`, `asked`, `tips` and `begun` as `Facts` has them, and `odd`,
        the machines.
        """
        self.tried: Mapping[tuple[str, int], set[str]] = told["tried"]
        self._last_alive: Mapping[str, float] = told["last_alive"]
        self._asked: Mapping[str, Any] = told["asked"]
        self._tips: Mapping[str, Mapping[str, float]] = told["tips"]
        self._begun: Mapping[tuple[str, str, int], float] = told["begun"]
        self._odd: set[str] = told["odd"]
        self._moment = 0.0
        shim = SimpleNamespace(
            server=SimpleNamespace(objects=objects, commit=objects.commit, contains=lambda tip, oid: False),
            scheduler=SimpleNamespace(now=0.0),
            witness=SimpleNamespace(
                pushers={},
                attempts={},
                odd_disks=set(),
                landed=self._landed,
                begun=self._began,
                has_seen=self._has_seen,
            ),
            decide=reducer.decide,
            adopt=adoption.adopt,
            alive=self._alive,
        )
        super().__init__(cast(World, shim))
        self._shim = shim

    def walk(self, line: list[str], by_hand: Mapping[str, str]) -> None:
        """Goes on from what was walked already to the last of a line of commits; steps back first if it must.

        Raises Violated.
        """
        if not self.links:
            self.begin(line[0])
        common = max(at for at, oid in enumerate(line) if oid in self.where)
        if common < len(self.links) - 1:
            self.rewound(line[common])
        for before, oid in zip(line[common:], line[common + 1 :], strict=False):
            self._shim.scheduler.now = float(len(self.links))
            if oid in by_hand:
                self.foreign(oid)
            else:
                record = chain.read_record(self._commit(oid), NEWEST)
                assert record is not None
                requeues = [e.op for e in record.entries if e.request["kind"] == "job.requeue"]
                times = [self._asked[op].since for op in requeues if op in self._asked]
                self._moment = min(times, default=float("inf"))
                self.landed(oid, before)

    def states_between(self, first: str | None, last: str) -> list[Any]:
        """Returns what decisions saw, on each commit from `first` (None: the beginning) to `last`."""
        begin = self.where[first] if first is not None else 0
        return [self.standing(link) for link in self.links[begin : self.where[last] + 1]]

    def _alive(self, process: str) -> bool:
        """Says whether a process certainly lived when its loss was asked for."""
        return self._last_alive.get(process, 0.0) > self._moment

    def _began(self, commit: str) -> float:
        """Returns when the push of a commit was begun, by the journal of the machine that did."""
        record = chain.read_record(self._commit(commit), NEWEST)
        tries = [(record.parent or "", record.writer, e.sequence) for e in record.entries] if record else []
        return min((self._begun[each] for each in tries if each in self._begun), default=float("inf"))

    def _has_seen(self, op: str, commit: str, before: float = float("inf")) -> bool:
        """Says whether a journal of the machine that asked for an operation had named a tip with a commit."""
        asked = self._asked.get(op)
        if asked is None:
            return True
        pending = [tip for tip, since in self._tips.get(asked.node, {}).items() if since < before]
        reached = set(pending)
        while pending:
            oid = pending.pop()
            if oid == commit:
                return True
            if self._shim.server.objects.get(oid) is not None:
                news = [parent for parent in self._commit(oid).parents if parent not in reached]
                reached.update(news)
                pending += news
        return False

    def _landed(self, op: str, request: Any, outcome: Any, commit: str) -> None:
        """The journals are compared with the chain when all of it is known (`facts`)."""

    def _facts(self, step: Step, pusher: Node | None, adopting: bool) -> None:
        """history-grows-by-facts, with the attempts that the journals tell of."""
        record = step.record
        owners = {self._asked[e.op].node for e in record.entries if e.op in self._asked}
        if not owners or not owners.isdisjoint(self._odd):
            return
        tries = {
            (record.parent or "", record.writer, e.sequence): len(
                self.tried.get((record.parent or "", e.sequence), ())
            )
            for e in record.entries
        }
        witness = self._shim.witness
        name = next(iter(owners))
        witness.attempts = {(name, parent, number): count for (parent, _, number), count in tries.items()}
        super()._facts(step, cast(Node, SimpleNamespace(name=name)), adopting)


__all__ = ["ChainChecker", "Objects", "Violated", "line_of"]

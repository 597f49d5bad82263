"""A random world over the ledger: builders with several processes each, and everything that can go wrong.

Every call of a process to its outbox or to the remote is a place where others may act, a delayed push may
arrive, or the process may be killed. One seed gives one run, bit for bit. What is checked afterwards stands
in `verdict`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.edge.git_objects import (
    TreeView,
    make_commit,
    parse_commit,
    write_tree,
)
from pipeline.edge.memory_refs import Fault, MemoryRefs, MemoryRemote
from pipeline.edge.ref_store import Pushed
from pipeline.errors import LedgerRefused, LedgerRewound, PipelineError
from pipeline.ledger.chain import read_state
from pipeline.ledger.history import history
from tests.ledger.toy import LOG, CountedRandomness, Node, begin, invariant

_WATCHED = {"look", "begin_attempt", "settle", "answer_unpushed", "rebirth", "advance_tip"}
_WATCHED |= {"push", "fetch", "write", "tip", "take", "drop", "disown", "answer", "enqueue"}


class Killed(BaseException):
    """The process was killed at this call."""


class Noted(CountedRandomness):
    """Remembers the operation ids that a process drew."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ops: list[str] = []

    def op(self) -> str:
        self.ops.append(super().op())
        return self.ops[-1]


class Watched:
    """A store or ref store whose every call is a place where something may happen."""

    def __init__(self, real: Any, happen: Callable[[], None]) -> None:
        self._real, self._happen = real, happen

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name not in _WATCHED:
            return found

        def call(*words: Any, **options: Any) -> Any:
            self._happen()
            result = found(*words, **options)
            self._happen()
            return result

        return call


class Process:
    """One process of a builder."""

    def __init__(self, world: World, node: Node, number: int) -> None:
        self.world, self.node, self.dead = world, node, False
        node.rewire(
            store=Watched(node.store, self._happen),
            refs=Watched(MemoryRefs(world.remote), self._happen),
            random=Noted(f"{node.folder.name}-{number}"),
        )

    def _happen(self) -> None:
        if self.dead:
            raise Killed
        self.world.happen(self)
        if self.dead:
            raise Killed

    def ask(self, request: dict[str, Any], kind: Any) -> None:
        """Transacts and notes what was told."""
        ops = self.node.random.ops
        drawn = len(ops)
        try:
            outcome = self.node.ledger.transact(request, kind=kind, patience=self.world.dice.choice([1, 40]))
        except (PipelineError, Killed):
            return
        self.world.told[ops[drawn]] = outcome


class World:
    """The remote, the builders, and the dice."""

    def __init__(self, seed: int, folder: Path, *, rewinds: bool) -> None:
        self.dice = random.Random(seed)
        self.folder, self.rewinds = folder, rewinds
        self.remote = MemoryRemote()
        begin(MemoryRefs(self.remote))
        self.ref = MemoryRefs(self.remote).ref
        self.told: dict[str, dict[str, Any]] = {}
        self.ids = 0
        self.depth = 0
        self.active: list[Process] = []
        self.calm = True
        self.builders: list[list[Process]] = []
        self.waiting: list[tuple[Process, int, str]] = []
        for name in ("b1", "b2", "b3")[: self.dice.randint(1, 3)]:
            self._start(Node(name, folder, MemoryRefs(self.remote)))
        self.remote.fault = self._fault
        self.remote.refuse = self._refuse

    def _start(self, node: Node) -> None:
        self.builders.append([])
        group = self.builders[-1]
        group.append(Process(self, node, 0))
        for _ in range(self.dice.randint(0, 2)):
            self._join(group)

    def _join(self, group: list[Process]) -> Process:
        node = group[0].node.reopen(new_id=f"w{self.dice.getrandbits(40):010x}")
        group.append(Process(self, node, next(node.lives)))
        return group[-1]

    # ------------------------------------------------------------ what happens in between

    def _fault(self, step: str) -> Fault:
        if self.calm or self.dice.random() > 0.25:
            return "none"
        kinds: list[Fault] = ["lost", "unanswered", "delayed", "doubled"]
        return self.dice.choice(kinds) if step == "push" else "lost"

    def _refuse(self, ref: str) -> Pushed | None:
        if self.calm or self.dice.random() > 0.04:
            return None
        return Pushed("refused", LedgerRefused("not today"))

    def happen(self, process: Process) -> None:
        """Something, or mostly nothing, happens while a process is in the middle of a call."""
        luck = self.dice.random()
        if self.calm or luck > 0.10:
            return
        if luck < 0.02:
            self.kill(process)
        elif luck < 0.05 and self.remote.delayed:
            self.remote.arrive(self.dice.randrange(len(self.remote.delayed)))
        elif self.depth < 2:
            self.depth += 1
            try:
                self.act()
            finally:
                self.depth -= 1

    def kill(self, process: Process) -> None:
        """Ends a process at once; another of its builder takes its place."""
        if not process.dead:
            process.dead = True
            process.node.die()
            group = next(g for g in self.builders if process in g)
            self._join(group)
            group.remove(process)

    def act(self) -> None:
        """One process, or the world, does one thing."""
        group = self.dice.choice(self.builders)
        idle = [process for process in group if process not in self.active]
        if not idle:
            return
        process = self.dice.choice(idle)
        self.active.append(process)
        try:
            self._act(group, process)
        finally:
            self.active.remove(process)

    def _act(self, group: list[Process], process: Process) -> None:
        luck = self.dice.random()
        if luck < 0.62:
            process.ask(*self._request())
        elif luck < 0.72:
            with suppress(PipelineError, Killed):
                process.node.ledger.deliver(patience=5)
        elif luck < 0.78:
            request, kind = self._request()
            drawn = len(process.node.random.ops)
            with suppress(Killed):
                number = process.node.ledger.enqueue(request, kind=kind)
                self.waiting.append((process, number, process.node.random.ops[drawn]))
        elif luck < 0.84:
            self._foreign()
        elif luck < 0.88 and self.depth == 0:
            self._restore(group)
        elif luck < 0.91 and self.depth == 0 and len(self.builders) < 4:
            name = f"copy{len(self.builders)}"
            with suppress(FileExistsError):
                self._start(process.node.copied(name))
        elif luck < 0.95 and self.rewinds and self.depth == 0:
            self._rewind()
        else:
            self.kill(process)

    def _request(self) -> tuple[dict[str, Any], Any]:
        self.ids += 1
        kind = self.dice.choice(["append", "append", "hold", "free", "nothing"])
        if kind in ("append", "nothing"):
            return {"kind": kind, "id": f"i{self.ids}"}, "deliver"
        return {
            "kind": kind,
            "owner": f"o{self.dice.randint(1, 3)}",
        }, "attached" if kind == "hold" else "deliver"

    def _restore(self, group: list[Process]) -> None:
        """A builder's disk is restored from a backup, later, when nothing that it sent is under way."""
        backup = group[0].node.backup()
        for _ in range(3):
            self.act()
        while self.remote.delayed:
            self.remote.arrive()
        # What it had not told anybody is forgotten with the disk.
        for process in [p for p in group if not p.dead]:
            process.dead = True
            process.node.die()
            process.node.store.close()
        first = group[0].node
        node = first.restored(backup)
        group[:] = [Process(self, node, next(node.lives))]

    def _tip(self) -> str:
        return self.remote.refs[self.ref]

    def _foreign(self) -> None:
        """Somebody commits by hand: a note, an older file, or a merge that takes the older side."""
        read = self.remote.objects.get
        tip = self._tip()
        tree = TreeView(read, parse_commit(self.remote.objects[tip].data).tree)
        older = self.dice.choice(list(self._chain()))
        old_tree = parse_commit(self.remote.objects[older].data).tree
        style = self.dice.choice(["note", "revert", "ours", "state"])
        root, objects, parents = tree.root, [], [tip]
        if style == "note":
            root, objects = write_tree(tree, {f"notes/{self.dice.randint(1, 3)}": b"%d\n" % self.ids})
        elif style == "ours":
            root, parents = old_tree, [older, tip] if older != tip else [tip]
        else:
            path = LOG if style == "revert" else "coordination/ledger.json"
            root, objects = write_tree(tree, {path: TreeView(read, old_tree).read(path)})
        made = make_commit(
            root, parents, "hand <h@x.invalid>", self.dice.getrandbits(30), f"by hand: {style}\n"
        )
        self.remote.objects.update((o.oid, o) for o in [*objects, made])
        self.remote.refs[self.ref] = made.oid

    def _chain(self) -> set[str]:
        reached, pending = set(), [self._tip()]
        while pending:
            oid = pending.pop()
            if oid not in reached:
                reached.add(oid)
                pending.extend(parse_commit(self.remote.objects[oid].data).parents)
        return reached

    def _rewind(self) -> None:
        parents = parse_commit(self.remote.objects[self._tip()].data).parents
        if parents:
            self.remote.refs[self.ref] = parents[0]

    # ------------------------------------------------------------ the run and the verdict

    def run(self, actions: int) -> None:
        """Acts, heals, and lets every builder deliver what it holds."""
        self.calm = False
        for _ in range(actions):
            self.act()
        self.calm = True
        self.dice.shuffle(self.remote.delayed)
        while self.remote.delayed:
            self.remote.arrive()
        for _ in range(2):
            for group in self.builders:
                self._settle(group[0].node)
        for process, number, op in self.waiting:
            with suppress(PipelineError):
                answer = process.node.store.answer(number)
                if answer is not None:
                    self.told[op] = answer

    def _settle(self, node: Node) -> None:
        for _ in range(3):
            try:
                node.ledger.view()
                node.ledger.deliver(patience=120)
                return
            except LedgerRewound:
                invariant("no-false-rewind", self.rewinds, node.name)
                node.ledger.accept_rewind(lambda tip, view: {"kind": "raise_epoch", "abandoned_tips": [tip]})
        invariant("delivered-in-the-end", False, node.name)

    def verdict(self) -> None:
        """Checks every promise on the chain that came out."""
        node = self.builders[0][0].node
        refs = MemoryRefs(self.remote)
        node.refs = refs
        found = node.findings()
        invariant("chain-holds", not found, found)
        applied: dict[str, dict[str, Any]] = {}
        settled: dict[str, int] = {}
        effects = 0
        for story in history(refs, self._tip(), 1):
            if story.record is None:
                continue
            for entry in story.record.entries:
                invariant("applied-once", entry.op not in applied, entry.op)
                applied[entry.op] = entry.outcome
                effects += entry.outcome["ok"] and entry.request["kind"] == "append"
            state = read_state(TreeView(refs.read, story.record.tree))
            for name, writer in state.writers.items():
                invariant("settled-is-monotone", writer.settled >= settled.get(name, 0), name)
                settled[name] = writer.settled
        ids = node.ids()
        invariant("applied-once", len(ids) == len(set(ids)) == effects, ids)
        for op, outcome in self.told.items():
            there = applied.get(op)
            if not outcome["ok"]:
                invariant("refused-never-applied", there is None or not there["ok"], (op, outcome, there))
            elif not self.rewinds and "ordinal" in (outcome["value"] or {}):
                invariant("acknowledged-is-applied", there == outcome, (op, outcome, there))
        for group in self.builders:
            for process in group:
                for entry in process.node.store.entries():
                    invariant("answered-in-the-end", entry.outcome is not None, entry)


def play(seed: int, folder: Path, *, actions: int = 30, rewinds: bool = False) -> World:
    """Runs one seed and checks it."""
    world = World(seed, folder, rewinds=rewinds)
    world.run(actions)
    world.verdict()
    return world

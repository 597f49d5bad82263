"""The virtual remote, and a builder's clone of it behind the product's port for ref stores.

A request is an event of its own once it is sent: it arrives, takes effect and is answered whatever becomes
of its sender. A push holds its ref's lock for a moment, as git's does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from pipeline.edge.git_objects import EMPTY_TREE, Commit, Object, make, parse_commit
from pipeline.edge.ref_store import Pushed
from pipeline.errors import LedgerError, LedgerNoSpace, LedgerRefLocked, LedgerUnreachable
from tests.simulation.dice import Dice
from tests.simulation.scheduler import Strand

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.world import World

BRANCH = "refs/heads/ledger"
#: How long git waits for an answer before it gives up, in seconds.
PATIENCE = 20.0


class Server:
    """Refs and objects. `landed` is told of every commit that a push moved the branch to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.objects: dict[str, Object] = {EMPTY_TREE.oid: EMPTY_TREE}
        self.refs: dict[str, str] = {}
        self.beats: dict[str, tuple[str, bytes]] = {}
        self.down = False
        self.refusal: LedgerError | None = None
        self.lock_left = False
        self.backups: list[str] = []
        self.landed: Callable[[str, str | None], None] = lambda commit, before: None
        self._boots = 0
        self._locked: set[str] = set()
        self._dice = Dice(world.seed, "server")
        self._commits: dict[str, Commit] = {}
        self._depths: dict[str, int] = {}

    # ------------------------------------------------------------ what git knows

    def write(self, objects: Iterable[Object]) -> None:
        """Objects are shared by all: an id tells them apart, and who knows an id may read it."""
        for each in objects:
            self.objects[each.oid] = each

    def commit(self, oid: str) -> Commit:
        found = self._commits.get(oid)
        if found is None:
            found = self._commits[oid] = parse_commit(self.objects[oid].data)
        return found

    def depth(self, oid: str) -> int:
        """Returns the length of the longest way to a commit without parents."""
        depth = self._depths.get(oid)
        if depth is None:
            pending = [oid]
            while pending:
                at = pending[-1]
                parents = self.commit(at).parents
                unknown = [each for each in parents if each not in self._depths]
                if unknown:
                    pending += unknown
                else:
                    pending.pop()
                    self._depths[at] = 1 + max((self._depths[each] for each in parents), default=0)
            depth = self._depths[oid]
        return depth

    def since(self, tip: str, base: str | None) -> list[str]:
        """Returns what is reachable from tip and not from base, nearest the tip first.

        Walks by depth, painting both sides, and stops once only what both reach is left.
        """
        sides = {tip: 1}
        heap = [(-self.depth(tip), tip)]
        if base is not None:
            sides[base] = sides.get(base, 0) | 2
            if base != tip:
                heappush(heap, (-self.depth(base), base))
        ours = 1 if sides[tip] == 1 else 0
        found = []
        while ours:
            _, oid = heappop(heap)
            side = sides[oid]
            if side == 1:
                ours -= 1
                found.append(oid)
            for parent in self.commit(oid).parents:
                known = sides.get(parent, 0)
                if known | side == known:
                    continue
                if known == 0:
                    heappush(heap, (-self.depth(parent), parent))
                    ours += side == 1
                else:
                    ours -= known == 1
                sides[parent] = known | side
        return found

    def contains(self, tip: str, commit: str) -> bool:
        """Says whether a commit is the tip or below it."""
        floor, seen, pending = self.depth(commit), set(), [tip]
        while pending:
            oid = pending.pop()
            if oid == commit:
                return True
            if oid not in seen and self.depth(oid) > floor:
                seen.add(oid)
                pending += self.commit(oid).parents
        return False

    @property
    def tip(self) -> str | None:
        return self.refs.get(BRANCH)

    # ------------------------------------------------------------ what it does

    def push(self, commit: str, expected: str | None, answer: Callable[[Pushed], None]) -> None:
        """Takes the ref's lock, runs its hooks, compares, moves, and answers."""
        if self.refusal is not None:
            self.world.hit("refusal", "push")
            answer(Pushed("refused", self.refusal))
            return
        if self.lock_left or BRANCH in self._locked:
            if self.lock_left:
                self.world.hit("ref-lock-left", "push")
            answer(Pushed("refused", LedgerRefLocked("Unable to create '….lock': File exists.")))
            return
        self._locked.add(BRANCH)

        boot = self._boots

        def apply() -> None:
            if boot == self._boots:
                self._locked.discard(BRANCH)
                answer(self.move(commit, expected))

        self.world.scheduler.at(self._dice.around(0.002), apply)

    def move(self, commit: str, expected: str | None) -> Pushed:
        """Compare-and-swap of the branch."""
        before = self.refs.get(BRANCH)
        if before == commit:
            return Pushed("landed")  # up to date, says git
        if before != expected:
            return Pushed("stale")
        self.refs[BRANCH] = commit
        self.landed(commit, before)
        return Pushed("landed")

    def crash(self, beats: Iterable[str]) -> None:
        """Loses the pushes under way, and these heartbeats."""
        self._boots += 1
        self._locked.clear()
        for ref in beats:
            del self.beats[ref]

    def put(self, commit: str) -> None:
        """Moves the branch by force, as a restored backup or somebody with the right to does."""
        self.refs[BRANCH] = commit


class Request:
    """A request under way; `result` is heard only while its strand still waits for it."""

    __slots__ = ("over", "result", "strand")

    def __init__(self, strand: Strand) -> None:
        self.strand = strand
        self.over = False
        self.result: Any = None


class VirtualRefs:
    """One builder's clone, and its line to the remote. Implements the product's port RefStore."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._server = node.world.server
        self._world = node.world

    # ------------------------------------------------------------ local

    def read(self, oid: str) -> Object | None:
        found = self._server.objects.get(oid)
        if found is not None and found.kind == "commit" and oid not in self.node.known:
            return None
        return found

    def write(self, objects: Iterable[Object]) -> None:
        self.node.step("write")
        if self.node.clone_full:
            self._world.hit("clone-full", "write")
            raise LedgerNoSpace("The disk of the local clone is full.", remedy="Free space there.")
        made = list(objects)
        self._server.write(made)
        self.node.known.update(each.oid for each in made if each.kind == "commit")

    def contains(self, tip: str, commit: str) -> bool | None:
        return self._server.contains(tip, commit) if commit in self._server.objects else False

    def since(self, tip: str, base: str | None) -> list[str] | None:
        if base is not None and base not in self.node.known:
            return None
        return self._server.since(tip, base)

    def maintain(self) -> None:
        pass

    def within(self, seconds: float) -> AbstractContextManager[None]:
        return nullcontext()

    def abandon(self) -> None:
        pass

    # ------------------------------------------------------------ over the line

    def tip(self) -> str | None:
        tip: str | None = self._ask("tip", lambda answer: answer(self._server.tip))
        return tip

    def fetch(self) -> str | None:
        tip: str | None = self._ask("fetch", lambda answer: answer(self._server.tip))
        if tip is not None:
            self._learn(tip)
        return tip

    def push(self, commit: str, expected: str | None) -> Pushed:
        self._world.witness.push(self.node, commit)
        try:
            pushed: Pushed = self._ask("push", lambda answer: self._server.push(commit, expected, answer))
        except LedgerUnreachable as exc:
            return Pushed("unknown", exc)
        if pushed.kind == "landed":
            self.node.known.add(commit)
        elif pushed.kind == "refused" and not isinstance(pushed.error, LedgerRefLocked):
            self._world.refused_again(self.node)
        return pushed

    def beat(self, ref: str, data: bytes, after: bytes | None) -> Pushed:
        oid = make("blob", data).oid

        def take(answer: Callable[[Any], None]) -> None:
            stands = self._server.beats.get(ref, ("", None))[1]
            if stands not in (after, data):
                answer(Pushed("stale"))
                return
            self._server.beats[ref] = (oid, data)
            self._world.witness.beat(data)
            answer(Pushed("landed"))

        try:
            pushed: Pushed = self._ask("beat", take)
        except LedgerUnreachable as exc:
            return Pushed("unknown", exc)
        return pushed

    def beats(self, prefix: str) -> tuple[str | None, dict[str, str]]:
        def look(answer: Callable[[Any], None]) -> None:
            found = {ref: oid for ref, (oid, _) in self._server.beats.items() if ref.startswith(prefix)}
            answer((self._server.tip, found))

        answered: tuple[str | None, dict[str, str]] = self._ask("beats", look)
        return answered

    def survey(self, prefix: str) -> tuple[str | None, dict[str, bytes]]:
        def look(answer: Callable[[Any], None]) -> None:
            found = {ref: data for ref, (_, data) in self._server.beats.items() if ref.startswith(prefix)}
            answer((self._server.tip, found))

        tip, found = self._ask("survey", look)
        if tip is not None:
            self._learn(tip)
        return tip, found

    def beat_data(self, refs: Collection[str]) -> dict[str, bytes]:
        wanted = list(refs)

        def look(answer: Callable[[Any], None]) -> None:
            there = self._server.beats
            answer({ref: there[ref][1] for ref in wanted if ref in there})

        answered: dict[str, bytes] = self._ask("beat_data", look)
        return answered

    def _learn(self, tip: str) -> None:
        known, pending = self.node.known, [tip]
        while pending:
            oid = pending.pop()
            if oid not in known:
                known.add(oid)
                pending += self._server.commit(oid).parents

    def _ask(self, name: str, effect: Callable[[Callable[[Any], None]], None]) -> Any:
        """Sends one request and returns its answer. Raises LedgerUnreachable when none comes in time."""
        node, world = self.node, self._world
        scheduler = world.scheduler
        node.step(name)
        strand = scheduler.current
        assert strand is not None
        request = Request(strand)

        def answer(result: Any) -> None:
            if not node.line.loses_reply(name):
                scheduler.at(node.line.delay(), lambda: hear(result))

        def hear(result: Any) -> None:
            if not request.over:
                request.over = True
                request.result = result
                scheduler.wake(strand)

        def arrive() -> None:
            if self._server.down:
                world.hit("remote-down", name)
            else:
                effect(answer)

        for delay in node.line.deliveries(name):
            scheduler.at(delay, arrive)
        patience = PATIENCE if not node.line.fails_fast() else 0.5
        if not scheduler.wait(patience) or not request.over:
            request.over = True
            raise LedgerUnreachable("The remote did not answer.", remedy="Try again.")
        return request.result

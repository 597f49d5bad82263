"""One simulated cluster: its machines, remote and people, what goes wrong when, and how it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.coordination import adoption, reducer
from pipeline.edge.ref_store import Pushed
from pipeline.errors import LedgerNoSpace, LedgerRefused, LedgerUnauthorised
from pipeline.ledger.genesis import initialise
from pipeline.ledger.store import Store
from pipeline.records.base import dump
from pipeline.records.builders import Builder
from pipeline.records.builds import BuildConfig
from pipeline.records.messages import Message
from tests.simulation import actors, cheaters, promoters
from tests.simulation.builds import virtual_attempts
from tests.simulation.checker import Checker, Link
from tests.simulation.dice import Dice
from tests.simulation.faults import AMBUSHES, FAULTS, VIRTUAL
from tests.simulation.invariants import Violated, violated
from tests.simulation.keeping import Keeping
from tests.simulation.memo import memoised
from tests.simulation.node import Disk, Node, VirtualClock, VirtualRandomness, VirtualStore
from tests.simulation.outside import Outside, Work
from tests.simulation.profiles import PROFILES
from tests.simulation.promoting import Promoting
from tests.simulation.pulse import virtual_leases, virtual_pulses
from tests.simulation.scheduler import Endless, Program, Scheduler
from tests.simulation.server import Server
from tests.simulation.vaults import virtual_vaults
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from pipeline.edge.git_objects import Object

REFUSALS = (LedgerRefused, LedgerUnauthorised, LedgerNoSpace)
#: Within so many seconds after everything was mended, everything has come to its end, or in twice the time
#: after which the laziest agent looks round.
HEALED_SECONDS = 6 * 3600.0


@dataclass(frozen=True)
class Plan:
    """Everything that one run depends on."""

    seed: int
    nodes: int = 3
    commands: int = 60
    faults: tuple[str, ...] = VIRTUAL
    profile: str = "everything"


@dataclass
class Ambush:
    """A fault that waits for a step: of a name in `steps`, if any, of a leader, or of a waiter."""

    fault: str
    countdown: int
    steps: frozenset[str] = frozenset()


@dataclass
class Result:
    """What came of one run."""

    plan: Plan
    violated: str | None = None
    detail: str = ""
    steps: int = 0
    seconds: float = 0.0
    commits: int = 0
    transactions: int = 0
    answers: int = 0
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    cheats: Counter[tuple[str, str]] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)


_LEADING = frozenset(
    {"look", "begin_attempt", "settle", "answer_unpushed", "push", "write", "fetch", "advance_tip"}
)


class World:
    """The simulation of one plan."""

    def __init__(self, plan: Plan, *, chatty: bool = False) -> None:
        self.plan, self.seed, self.chatty = plan, f"{plan.seed}", chatty
        self.profile = PROFILES[plan.profile]
        self.reducer = reducer.REDUCER_VERSION
        self.decide, self.adopt = reducer.decide, adoption.adopt
        self.scheduler = Scheduler()
        self.server = Server(self)
        self.witness = Witness(self)
        self.checker = Checker(self)
        self.outside = Outside(self)
        self.keeping = Keeping(self)
        self.promoting = Promoting(self) if self.profile.promotes else None
        self.hits: Counter[tuple[str, str]] = Counter()
        self.commands: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.story: list[str] = []
        self.waiting: dict[str, Program] = {}
        self.ambush: Ambush | None = None
        self.calm = False
        self.finished = False
        self.rewound = False
        self.started = 0
        self.troubles = 0
        self.changed = 0.0
        self.copied: set[str] = set()
        self.loses_power = "power-loss" in plan.faults
        self.nodes: list[Node] = []
        self._people = Dice(plan.seed, "people")
        self._gremlin = Dice(plan.seed, "gremlin")
        self._left = plan.commands
        self._asked = 0.0
        self._copies = 0
        self._points = {name: FAULTS[name].probability * self.profile.points for name in plan.faults}
        self._weather = False
        self._begin()

    # ------------------------------------------------------------ the beginning

    def _begin(self) -> None:
        drifts = Dice(self.plan.seed, "drift")
        for number in range(1, self.plan.nodes + 1):
            drift = (
                drifts.pick((-0.01, -0.001, 0.0, 0.001, 0.01)) if "clock-drift" in self.plan.faults else 0.0
            )
            self.nodes.append(Node(self, f"n{number}", f"build{number}", drift=drift, slowness=1.0))
            if drift:
                self.hit("clock-drift", "boot")
        first = self.nodes[0]
        builders = [Builder(name=node.builder) for node in self.nodes]
        clock = VirtualClock(first)
        files = reducer.genesis(builders, dump(BuildConfig()), clock.now())
        commit = initialise(
            _Direct(self.server), files, "operator", clock, VirtualRandomness(first), self.reducer
        )  # type: ignore[arg-type]
        self.checker.begin(commit)
        if self.promoting is not None:
            self.checker.notary = self.promoting.notary
            self.promoting.begin(commit)
        self.server.landed = self._landed
        for node in self.nodes:
            self.open_disk(node)
            self._keep_agent(node, self._people.around(20.0))
        self.scheduler.at(1.0, self._next_command)
        if any(FAULTS[name].weight or FAULTS[name].probability for name in self.plan.faults):
            self.scheduler.at(5.0, self._next_trouble)

    def open_disk(self, node: Node) -> None:
        """Makes the outbox before anybody uses it, as `ledger.init` does."""
        VirtualStore(node, Program("setup", node))
        node.flush()

    def _landed(self, commit: str, before: str | None) -> None:
        if self.chatty:
            message = self.server.commit(commit).message.partition("\n")[0]
            self.tell(f"remote: {commit[:8]} {message}")
        self.changed = self.scheduler.now
        self.checker.landed(commit, before)

    # ------------------------------------------------------------ people

    def _next_command(self) -> None:
        if self.calm:
            return
        if self._left <= 0:
            self.heal()
            return
        dice, self._asked = self._people, self.scheduler.now
        self.keeping.maybe_prune()
        for _ in range(dice.pick(self.profile.burst)):
            self._left -= 1
            up = [node for node in self.nodes if not node.off]
            if up:
                name = dice.weighted(self.profile.commands)
                actors.run(self, dice.pick(up), name, Dice(self.plan.seed, "command", self._left))
        gap = dice.weighted(((self.profile.gap, 0.70), (200.0, 0.26), (self.profile.idle, 0.04)))
        self.scheduler.at(dice.around(gap), self._next_command)

    def _keep_agent(self, node: Node, delay: float) -> None:
        """Starts round after round of a machine's agent, whatever becomes of each."""

        def begin() -> None:
            if self.finished or node.off or node not in self.nodes:
                return
            program = node.start("agent", lambda program: actors.agent(node, program))
            boot = node.boot
            program.closers.append(lambda: again(boot))

        def again(boot: str) -> None:
            """The next round; the longer nothing has happened, the later."""
            if boot == node.boot:
                quiet = self.scheduler.now - self.changed
                pause = 20.0 if self.calm else min(self.profile.poll + quiet, self.profile.longest_pause)
                self.scheduler.at(self._people.around(pause), begin)

        self.scheduler.at(delay, begin)

    # ------------------------------------------------------------ trouble

    def _next_trouble(self) -> None:
        if self.calm:
            return
        dice = self._gremlin
        self._weather = dice.chance(self.profile.weather)
        weights = self.profile.faults(self.plan.faults)
        if weights:
            name = dice.weighted(weights)
            fault = FAULTS[name]
            if fault.strike is not None:
                self.troubles += 1
                fault.strike(self, dice)
            elif fault.ambush is not None and self.ambush is None:
                self.ambush = Ambush(name, 1 + dice.below(self.profile.patience), self.profile.steps)
        quiet = self.scheduler.now - self._asked
        self.scheduler.at(dice.around(self.profile.trouble + quiet / 4), self._next_trouble)

    def ambushed(self, node: Node, program: Program, step: str) -> None:
        """Lets the fault that lies in wait strike, if this step is one that it waits for."""
        ambush = self.ambush
        assert ambush is not None
        if ambush.steps and step not in ambush.steps:
            return
        if ambush.fault.startswith("leader-") and (node.leading is not program or step not in _LEADING):
            return
        if ambush.fault == "waiter-dies" and program.name not in self.waiting:
            return
        ambush.countdown -= 1
        if ambush.countdown <= 0:
            self.ambush = None
            self.hit(ambush.fault, step)
            self.tell(f"{program.name}: {ambush.fault} at {step}")
            if ambush.fault not in ("stop", "leader-stopped"):
                self.troubles += 1
            strike = FAULTS[ambush.fault].ambush
            assert strike is not None
            strike(self, node, program)

    def strikes(self, fault: str, dice: Dice) -> bool:
        """Says whether a fault of single requests strikes now."""
        return self._weather and not self.calm and dice.chance(self._points.get(fault, 0.0))

    def hit(self, fault: str, step: str) -> None:
        self.hits[fault, step] += 1
        if fault not in AMBUSHES and fault != "clock-drift":
            self.troubles += 1

    def refused_again(self, node: Node) -> None:
        """refusal-is-believed: a program that a hook turned down does not try for ever."""
        strand = self.scheduler.current
        if strand is not None:
            strand.program.refusals += 1
            if strand.program.refusals > 8:
                violated(
                    "refusal-is-believed",
                    f"{strand.program.name} was refused {strand.program.refusals} times",
                )

    def troubled(self, node: Node) -> bool:
        """Says whether something stands between a machine and its answers just now."""
        server, line = self.server, node.line
        wrong = server.down or server.refusal or server.lock_left or line.cut_in or line.cut_out
        wrong = (
            wrong or node.disk_full or node.clone_full or node.slowness > 1 or node.suspended or self.rewound
        )
        return bool(wrong) or self._weather or any(n.reducer != self.reducer for n in self.nodes)

    # ------------------------------------------------------------ what befalls machines

    def upgrade(self) -> None:
        """Brings every machine to the newest version that one of them runs."""
        self.reducer = max(node.reducer for node in self.nodes)
        for node in self.nodes:
            node.reducer = self.reducer

    def reboot(self, node: Node, *, lose: bool) -> None:
        node.power_off(lose=lose)
        self.scheduler.at(Dice(self.seed, "reboot", node.boot).around(60.0), lambda: self._boot(node))

    def _boot(self, node: Node) -> None:
        if node.off:
            node.power_on()
            self.tell(f"{node.name}: boots")
            self._keep_agent(node, 5.0)

    def suspend(self, node: Node) -> None:
        node.suspended = True
        for program in node.programs.values():
            self.scheduler.stop(program)
        seconds = Dice(self.seed, "suspend", self.started).pick((10.0, 90.0, 900.0))
        self.scheduler.at(seconds, lambda: self.resume(node))

    def resume(self, node: Node) -> None:
        if node.suspended:
            self.tell(f"{node.name}: resumes")
            node.suspended = False
            for program in list(node.programs.values()):
                self.scheduler.go_on(program)

    def restore_disk(self, node: Node, disk: Disk) -> None:
        """Puts a machine's disk back to a snapshot, and boots it."""
        if self.calm or node.off or node not in self.nodes:
            return
        self.hit("store-restored", node.at)
        self.tell(f"{node.name}: its disk is restored from a snapshot")
        self.witness.odd_disks.add(node.name)
        node.power_off(lose=False)
        node.restore(disk)
        self.scheduler.at(10.0, lambda: self._boot(node))

    def clone(self, node: Node) -> None:
        """Copies a machine with its disk; both run on under one builder's name."""
        self._copies += 1
        name = f"{node.name.partition('x')[0]}x{self._copies}"
        copy = Node(self, name, node.builder, drift=node.rate - 1, slowness=1.0)
        copy.machine = node.machine if self._gremlin.chance(0.5) else copy.machine
        copy.restore(node.snapshot())
        copy.known = set(node.known)
        if self.promoting is not None:
            self.promoting.settle(copy)
        if copy.machine == node.machine:
            self.copied.add(node.machine)
        self.hit("store-cloned", node.at)
        self.tell(f"{node.name}: is copied as {copy.name}")
        self.witness.odd_disks |= {node.name, copy.name}
        self.nodes.append(copy)
        self._keep_agent(copy, 5.0)
        self.scheduler.at(self._gremlin.pick((60.0, 600.0, 6000.0)), lambda: self._notice(copy))

    def copies(self) -> list[Node]:
        """Returns the machines that were copied from others and run beside them."""
        return [node for node in self.nodes if "x" in node.name]

    def _notice(self, copy: Node) -> None:
        """Somebody sees that a copy runs, and ends it for good."""
        if copy in self.nodes:
            self.tell(f"{copy.name}: is noticed, and ended")
            self.nodes.remove(copy)
            copy.power_off(lose=False)

    def rewind(self, commits: int, words: str) -> list[Link]:
        """The remote's tip goes back by so many commits. Returns what is lost."""
        links = self.checker.links
        if len(links) < 3:
            return []
        target = links[max(0, len(links) - 1 - commits)].commit
        lost = links[self.checker.where[target] + 1 :]
        self.rewound = True
        self.tell(f"{words}, {len(lost)} commits are gone, tip {target[:8]}")
        self.checker.rewound(target)
        self.server.put(target)
        return lost

    def put_back(self, lost: list[Link], tip: str | None) -> None:
        """Somebody pushes what was lost, if nobody has gone on from the tip without it."""
        if self.server.tip == tip:
            self.tell("remote: what was lost is pushed back")
            self.server.put(lost[-1].commit)
            self.checker.put_back(lost)

    def deepen(self, node: Node) -> None:
        """Somebody makes history reachable again that a clone has lost: pushed from where it still is."""

        def reach() -> None:
            self.tell(f"{node.name}: lost history is made reachable")
            node.known.update(oid for oid, each in self.server.objects.items() if each.kind == "commit")

        self.scheduler.at(30.0, reach)

    def repair(self, node: Node) -> None:
        """A program was told of a rewind: after a while the operator of its machine decides."""
        if not node.repairing:
            node.repairing = True
            delay = Dice(self.seed, "repair", self.started).around(5.0 if self.calm else 60.0)
            self.scheduler.at(delay, lambda: self._repair(node))

    def _repair(self, node: Node) -> None:
        if node.off:
            node.repairing = False
            return
        program = node.start("repair", lambda program: actors.repair(node, program))
        program.closers.append(lambda: setattr(node, "repairing", False))

    def watch(self, node: Node, held: Any, works: list[Work]) -> None:
        """The watchdog of a lease: ends the work when trust ends, on its machine's own clock."""
        boot = node.boot

        def look() -> None:
            if boot != node.boot or all(work.over for work in works):
                return
            left = held.trusted_until - node.boottime()
            if left > 0:
                self.scheduler.at(left / node.rate + 0.001, look)
                return
            self.outside.ended_by_watchdog += 1
            for work in works:
                self.outside.end(work)

        look()

    def alive(self, process: str) -> bool:
        """Says whether a process truly lives; of a machine that was copied with its id nobody can tell."""
        boot, _, name = process.partition("/")
        return any(
            node.machine not in self.copied and node.boot == boot and name in node.programs
            for node in self.nodes
        )

    def letter(self, dice: Dice) -> Message:
        """A message as somebody writes it into the file by hand."""
        return Message(
            id=f"hand_{dice.bits(40):010x}",
            sender=self.nodes[0].builder,
            to=self.nodes[-1].builder,
            subject="by hand",
            body="",
            timestamp=VirtualClock(self.nodes[0]).now(),
            recipients=[self.nodes[-1].builder],
        )

    # ------------------------------------------------------------ the end

    def heal(self) -> None:
        """Mends everything, lets everybody go on, and waits for the end of it all."""
        self.calm, self.ambush = True, None
        self.tell("everything is mended")
        server = self.server
        server.down, server.refusal, server.lock_left = False, None, False
        self.upgrade()
        for copy in self.copies():
            self._notice(copy)
        for node in self.nodes:
            node.line.cut_in = node.line.cut_out = node.disk_full = node.clone_full = False
            node.slowness = 1.0
            self.resume(node)
            for program in list(node.programs.values()):
                self.scheduler.go_on(program)
            if node.off:
                self._boot(node)
        self._healed = self.scheduler.now
        self.scheduler.at(60.0, self._look_whether_over)

    def _look_whether_over(self) -> None:
        open_ends = self._open_ends()
        if not open_ends:
            self.finished = True
            self.keeping.at_the_end()
            if self.promoting is not None:
                self.promoting.at_the_end()
        elif self.scheduler.now > self._healed + max(HEALED_SECONDS, 2 * self.profile.longest_pause):
            self.finished = True
            violated("everything-ends", "; ".join(open_ends[:5]))
        else:
            self.scheduler.at(30.0, self._look_whether_over)

    def _open_ends(self) -> list[str]:
        state = self.checker.state
        ends = [f"job {job.id} is {job.status}" for job in state.jobs.jobs if not job.ended]
        for node in self.nodes:
            for row in node.disk.execute("select op, request from entries where outcome is null"):
                ends.append(f"{node.name} holds {row[0]}: {row[1]}")
            ends += [f"{node.name} keeps a report of {name}" for name in self.keeping.reports(node)]
            ends += [f"{name} goes on" for name in node.programs if ".agent." not in name]
        return ends + (self.promoting.open_ends() if self.promoting is not None else [])

    def tell(self, text: str) -> None:
        if self.chatty:
            self.story.append(f"{self.scheduler.now:12.3f}  {text}")

    def run(self, limit: int | None = None) -> Result:
        """Runs to the end, or to the first violation. `limit` bounds the steps."""
        result = Result(self.plan)
        try:
            self.scheduler.run(float("inf"), lambda: self.finished)
            if not self.finished:
                violated("everything-ends", "nothing happens any more")
        except Violated as exc:
            result.violated, result.detail = exc.name, exc.detail
        except Endless as exc:
            result.violated, result.detail = "everything-ends", f"after {exc}: {self._open_ends()[:3]}"
        finally:
            self.scheduler.close()
        return replace(
            result,
            steps=self.scheduler.steps,
            seconds=self.scheduler.now,
            commits=self.checker.commits,
            transactions=self.checker.transactions,
            answers=self.witness.answers,
            hits=self.hits,
            commands=self.commands,
            refused=self.refused,
            cheats=self.promoting.cheats if self.promoting else Counter(),
            story=self.story,
        )


class _Direct:
    """The remote as its own machine sees it, to make a ledger on."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def read(self, oid: str) -> Object | None:
        return self._server.objects.get(oid)

    def write(self, objects: list[Object]) -> None:
        self._server.write(objects)

    def push(self, commit: str, expected: str | None) -> Pushed:
        self._server.put(commit)
        return Pushed("landed")


def play(plan: Plan, *, chatty: bool = False) -> Result:
    """Runs one plan."""
    with memoised(), virtual_pulses(), virtual_leases(), virtual_attempts(), virtual_vaults():
        return World(plan, chatty=chatty).run()


__all__ = ["Plan", "Result", "Store", "World", "cheaters", "play", "promoters"]

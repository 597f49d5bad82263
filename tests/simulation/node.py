"""A virtual machine: its boots and clocks, its line, its disk with an outbox, and its programs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.edge.living_lock import LivingLock
from pipeline.ledger.database import _SCHEMA, Database
from pipeline.ledger.leader import Settings
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.store import Store
from pipeline.operations.settings import LocalSettings, resolve
from pipeline.operations.site import Site
from tests.simulation.dice import Dice
from tests.simulation.disk import Folder, VirtualPath
from tests.simulation.pulse import VirtualSite
from tests.simulation.scheduler import Program, Strand
from tests.simulation.server import VirtualRefs

if TYPE_CHECKING:
    from tests.simulation.world import World

#: The wall clock at the simulator's beginning.
BEGIN = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
NOWHERE = Path("/nonexistent/simulated")
_SETTINGS = replace(
    resolve(NOWHERE, None, {}), heartbeat_seconds=30.0, patience_seconds=60.0, report_seconds=60.0
)
#: How often a step or a request takes 10 to 10,000 times as long.
TAIL = 0.0005


class Line:
    """One machine's way to the remote: where requests and answers are late, lost, doubled or cut off."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cut_out = False
        self.cut_in = False
        self._dice = Dice(node.world.seed, "line", node.name)

    def delay(self) -> float:
        return self._dice.delay(0.02, TAIL) * self.node.slowness

    def deliveries(self, name: str) -> list[float]:
        """Returns after which delays a request reaches the remote: once, never, late, or twice."""
        world, at = self.node.world, self.delay()
        if self.cut_out:
            world.hit("partition", name)
            return []
        if world.strikes("request-lost", self._dice):
            world.hit("request-lost", name)
            return []
        if name == "push" and world.strikes("push-delayed", self._dice):
            world.hit("push-delayed", name)
            return [self._dice.around(self._dice.pick((1.0, 30.0, 600.0)))]
        if name == "push" and world.strikes("duplicated", self._dice):
            world.hit("duplicated", name)
            return [at, self._dice.around(self._dice.pick((0.05, 5.0, 300.0)))]
        return [at]

    def loses_reply(self, name: str) -> bool:
        if self.cut_in:
            self.node.world.hit("partition", name)
            return True
        lost = self.node.world.strikes("reply-lost", self._dice)
        if lost:
            self.node.world.hit("reply-lost", name)
        return lost

    def fails_fast(self) -> bool:
        """Says whether a request that is not answered is given up at once: the line was reset."""
        return self._dice.chance(0.02)


class LeaderInode:
    """A lock file that was opened: who holds it, and when that one last showed life."""

    __slots__ = ("holder", "life")

    def __init__(self) -> None:
        self.holder: object | None = None
        self.life: float | None = None


class VirtualLivingLock(LivingLock):
    """The product's leader lock, on a virtual disk. The kernel frees it when its program is gone."""

    def __init__(self, node: Node, program: Program) -> None:
        super().__init__(NOWHERE / "leader.lock")
        self._node, self._program = node, program
        self._inode: LeaderInode | None = None

    @contextmanager
    def try_hold(self, now: float, deadline: float) -> Iterator[bool]:
        node = self._node
        node.step("lead")
        inode = node.leader = node.leader or LeaderInode()
        holds = inode.holder is None
        if holds:
            inode.holder = node.leading = self._program
            self._inode = inode
            self.show_life(now)
        elif inode.life is not None and inode.life < now - deadline:
            node.world.tell(f"{self._program.name}: passes the leader over")
            node.leader = None
        try:
            yield holds
        finally:
            self._inode = None
            if holds and inode.holder is self._program:
                inode.holder = None
                if node.leading is self._program:
                    node.leading = None

    def show_life(self, now: float) -> None:
        if self._inode is not None:
            self._inode.life = now


class VirtualDatabase(Database):
    """The product's database on a machine's virtual disk."""

    def __init__(self, node: Node) -> None:
        self.folder = NOWHERE
        self.connection = node.disk
        self._node = node
        if self.connection.execute("pragma user_version").fetchone()[0] == 0:
            self.connection.executescript(f"begin immediate;{_SCHEMA}pragma user_version=1; commit;")

    @contextmanager
    def write(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        node = self._node
        if node.disk_full:
            node.world.hit("outbox-full", node.at)
            durable = True
        with super().write(durable) as db:
            if node.disk_full:
                raise sqlite3.OperationalError("database or disk is full")
            yield db
        if durable:
            node.flush()


_STEPS = (
    *("enqueue", "begin_attempt", "settle", "answer_unpushed", "drop", "disown", "take"),
    *("rebirth", "accept_rewind", "advance_tip", "spend", "look", "tip", "entries", "answer"),
    *("observe", "observation"),
)
_TOLD = {
    "advance_tip",
    "enqueue",
    "disown",
    "begin_attempt",
    "settle",
    "answer_unpushed",
    "answer",
    "rebirth",
    "accept_rewind",
}


class VirtualStore(Store):
    """The product's outbox on a virtual disk: each call is a step, and what is durable is kept apart."""

    def __init__(self, node: Node, program: Program) -> None:
        self.folder = NOWHERE
        self.moved = False
        self.node = node
        self.leader_lock = VirtualLivingLock(node, program)
        self.database = VirtualDatabase(node)
        new_id = f"w{node.dice.bits(48):012x}"
        if not node.disk_ready:
            self._be_of(node.machine, new_id)
            node.disk_ready = True


def _step(name: str) -> Callable[..., Any]:
    real = getattr(Store, name)

    def call(self: VirtualStore, *words: Any, **options: Any) -> Any:
        self.node.step(name)
        if name not in _TOLD:
            return getattr(Store, name)(self, *words, **options)
        result = getattr(Store, name)(self, *words, **options)
        getattr(self.node.world.witness, name)(self, result, *words, **options)
        return result

    call.__doc__ = real.__doc__
    return call


for _name in _STEPS:
    setattr(VirtualStore, _name, _step(_name))


class VirtualClock:
    """A machine's clocks: one counts since its boot, the other is set by people."""

    def __init__(self, node: Node, shortest: float = 0.0) -> None:
        self._node, self._shortest = node, shortest

    def now(self) -> datetime:
        return datetime.fromtimestamp(int(self._node.wall()), UTC)

    def boottime(self) -> float:
        return self._node.boottime()

    def sleep(self, seconds: float) -> None:
        self._node.step("sleep", max(seconds, self._shortest) / self._node.rate)


class VirtualProcesses:
    """Which programs live, by names that hold their boot."""

    def __init__(self, node: Node, program: Program) -> None:
        self._node, self._me = node, f"{node.boot}/{program.name}"

    def myself(self) -> str:
        return self._me

    def alive(self, process: str) -> bool:
        boot, _, name = process.partition("/")
        return boot == self._node.boot and name in self._node.programs


class VirtualRandomness:
    """A machine's random draws; operation ids are ordered by the wall clock, as version 7 of UUID is."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.fraction = node.dice.fraction

    def op(self) -> str:
        return f"{int(self._node.wall() * 1000):012x}{self._node.dice.bits(80):020x}"

    def hex(self) -> str:
        return f"{self._node.dice.bits(128):032x}"


class MachineLock:
    """The machine's lock, which the kernel frees when its program is gone."""

    def __init__(self, node: Node, program: Program) -> None:
        self._node, self._program = node, program
        program.closers.append(self.release)

    def try_hold(self, note: str) -> bool:
        if self._node.machine_held in (None, self._program):
            self._node.machine_held = self._program
            return True
        return False

    def release(self) -> None:
        if self._node.machine_held is self._program:
            self._node.machine_held = None


class Disk(NamedTuple):
    """A machine's disk at one moment."""

    outbox: bytes
    folders: Folder


class Node:
    """One machine. `builder` is its name in the ledger, which a copy of the machine shares."""

    def __init__(self, world: World, name: str, builder: str, *, drift: float, slowness: float) -> None:
        self.world = world
        self.name = name
        self.builder = builder
        self.rate = 1.0 + drift
        self.slowness = slowness
        self.dice = Dice(world.seed, "node", name)
        self.machine = f"{self.dice.bits(64):016x}"
        self.line = Line(self)
        self.disk = _connect()
        self.durable = b""
        self.folders = Folder({name: Folder() for name in ("work", "artifacts")})
        work: Any = VirtualPath(self, "work")
        artifacts: Any = VirtualPath(self, "artifacts")
        self.settings = replace(_SETTINGS, work=work, artifacts=artifacts)
        self._wear = Dice(world.seed, "disk", name)
        self.disk_ready = False
        self.disk_full = False
        self.clone_full = False
        self.known: set[str] = set()
        self.reducer = world.reducer
        self.pulse_files: dict[str, tuple[bytes, float]] = {}
        self.off = False
        self.suspended = False
        self.repairing = False
        self.wall_step = 0.0
        self.births = 0
        self.at = "start"
        self._delays = Dice(world.seed, "steps", name)
        self._boot()

    def _boot(self) -> None:
        self.births += 1
        self.boot = f"boot-{self.name}-{self.births}"
        self.booted = self.world.scheduler.now
        self.programs: dict[str, Program] = {}
        self.leader: LeaderInode | None = None
        self.leading: Program | None = None
        self.machine_held: Program | None = None
        self.pulse_held: Program | None = None
        self.file_locks: dict[tuple[str, ...], Program] = {}

    # ------------------------------------------------------------ time

    def boottime(self) -> float:
        return (self.world.scheduler.now - self.booted) * self.rate

    def wall(self) -> float:
        return BEGIN + self.world.scheduler.now * self.rate + self.wall_step

    def step(self, name: str, seconds: float | None = None) -> None:
        """A call of a port: whatever is due happens before it; the program may be killed or stopped here."""
        world = self.world
        strand = world.scheduler.current
        assert strand is not None
        strand.program.at = self.at = name
        if world.ambush is not None:
            world.ambushed(self, strand.program, name)
        if seconds is None:
            seconds = self._delays.delay(0.0005, TAIL) * self.slowness
        world.scheduler.pause(seconds)
        self.at = name

    def disk_step(self, name: str) -> None:
        """A step at the machine's folders."""
        self.step(name, self._wear.delay(0.0005, TAIL) * self.slowness)

    # ------------------------------------------------------------ programs

    def start(self, name: str, body: Callable[[Program], None], delay: float = 0.0) -> Program:
        """Starts a program."""
        self.world.started += 1
        program = Program(f"{self.name}.{name}.{self.world.started}", self)
        self.programs[program.name] = program
        program.stopped = self.suspended
        program.born = self.world.scheduler.now + delay
        program.closers.append(lambda: self._gone(program))
        self.world.scheduler.spawn(program, lambda: body(program), delay)
        return program

    def thread(self, program: Program, body: Callable[[], None]) -> Strand:
        """Starts another strand of a program."""
        return self.world.scheduler.spawn(program, body)

    def _gone(self, program: Program) -> None:
        self.programs.pop(program.name, None)
        self.world.witness.deaths[f"{self.boot}/{program.name}"] = self.world.scheduler.now
        if self.leader is not None and self.leader.holder is program:
            self.leader.holder = None
        if self.leading is program:
            self.leading = None
        if self.pulse_held is program:
            self.pulse_held = None

    def site(self, program: Program, shortest_sleep: float = 0.0) -> Site:
        """Puts the product together for a program on this machine, as `runtime` does on a real one.

        `shortest_sleep` saves steps of one that looks many times a second whether it may go on.
        """
        store = VirtualStore(self, program)
        clock, random, processes = (
            VirtualClock(self, shortest_sleep),
            VirtualRandomness(self),
            VirtualProcesses(self, program),
        )
        refs, world = VirtualRefs(self), self.world
        settings = Settings(author=self.builder, reducer=self.reducer)
        ledger = Ledger(store, refs, world.decide, world.adopt, clock, random, processes, settings)
        local: LocalSettings = self.settings
        site = VirtualSite(
            self, program, local, self.builder, ledger, clock, random, processes, world.decide, world.adopt,
            self.reducer,
        )  # fmt: skip
        if world.promoting is not None:
            world.promoting.equip(site, self)
        return site

    # ------------------------------------------------------------ what befalls a machine

    def flush(self) -> None:
        """Everything that was written is on disk now."""
        if self.world.loses_power:
            self.durable = self.disk.serialize()

    def kill_all(self) -> None:
        for program in list(self.programs.values()):
            self.world.scheduler.kill(program)

    def power_off(self, *, lose: bool) -> None:
        """Ends every program; `lose`: what was not flushed is gone as well."""
        self.kill_all()
        self.off = True
        if lose:
            self.folders.lose(self._wear)
        if lose and self.durable:
            self._replace_outbox(self.durable)
            self.world.checker.forgets(self)

    def power_on(self) -> None:
        self.off = self.suspended = self.repairing = False
        self._boot()

    def snapshot(self) -> Disk:
        """Returns the disk as it is, for a backup or a copy."""
        return Disk(self.disk.serialize(), self.folders.copy())

    def restore(self, disk: Disk) -> None:
        """Puts a disk in the place of this one's. The machine must be off."""
        self._replace_outbox(disk.outbox)
        self.folders = disk.folders

    def _replace_outbox(self, outbox: bytes) -> None:
        self.disk.deserialize(outbox)
        self.durable = outbox
        self.disk_ready = False


def _connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)

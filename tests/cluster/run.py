"""One run of the real cluster: machines that work, trouble drawn from a seed, healing, and the reckoning.

The draws come from the seed; what they meet is up to real time, so a seed gives the same plan of trouble
again and not the same run. What a run came to is judged by the chain that it left and by the journals.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PipelineError
from tests.cluster import between, closing, faults, mounts, repository
from tests.cluster.chain import Violated
from tests.cluster.faults import REAL, STOPPED
from tests.cluster.nodes import Cluster, Node, Slot
from tests.cluster.speed import Bare
from tests.simulation.dice import Dice
from tests.simulation.faults import FAULTS
from tests.simulation.invariants import violated
from tests.sshd import start_sshd

#: What kills are drawn besides: everything else comes less often.
KILLS = ("kill", "leader-killed")
#: Within so many seconds after everything was mended, everybody has an answer and has ended.
HEALED_SECONDS = 90.0


@dataclass(frozen=True)
class Plan:
    """Everything that one run is drawn from. `kills` a second; `mutant` names a planted bug."""

    seed: int
    nodes: int = 2
    seconds: float = 20.0
    writers: int = 6
    faults: tuple[str, ...] = REAL
    kills: float = 8.0
    ssh: bool = False
    speed: bool = False
    builds: bool = False
    #: How many seconds pass between two troubles, kills aside.
    trouble: float = 1.2
    #: For how many seconds programs and machines stay stopped: one of these.
    stopped: tuple[float, ...] = STOPPED
    mutant: str = ""

    @property
    def crew(self) -> tuple[str, ...]:
        """The roles of each machine's workers."""
        builds = ("invoke",) if self.builds else ()
        return ("build", "hold", "hold", "guard", *builds, *("write",) * self.writers)


@dataclass
class Result:
    """What came of one run."""

    plan: Plan
    violated: str | None = None
    detail: str = ""
    transactions: int = 0
    commits: int = 0
    kills: int = 0
    answers: int = 0
    unknown: int = 0
    stamps: int = 0
    seconds: float = 0.0
    active_seconds: float = 0.0
    #: Transactions while trouble was made, if bare pushes took turns with them.
    measured: int = 0
    bare_pushes: int = 0
    bare_seconds: float = 0.0
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)


class Run:
    """The controller of one run."""

    def __init__(
        self, plan: Plan, folder: Path, address: str = "", environment: dict[str, str] | None = None
    ):
        self.plan = plan
        self.result = Result(plan)
        self.hits = self.result.hits
        remote = folder / "remote.git"
        environment = {**(environment or os.environ), "CLUSTER_PATIENT": "1" * (plan.seconds >= closing.LONG)}
        self.cluster = Cluster(folder, plan.seed, remote, address or str(remote), environment, plan.mutant)
        self.rewound: list[str] = []
        self.by_hand: dict[str, str] = {}
        self.calm = False
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self._begun = time.monotonic()
        self._ambushes: dict[int, tuple[str, int]] = {}
        self._gremlin = Dice(plan.seed, "gremlin")
        self._killer = Dice(plan.seed, "killer")
        #: Which of the faults that change what is promised this seed has.
        self._odd = {name for name in faults.ODD if Dice(plan.seed, name).chance(0.5)}
        self._single = len(plan.faults) <= 2
        wanted = not set(faults.MOUNTED).isdisjoint(plan.faults)
        self._mounts = wanted and (self._single or Dice(plan.seed, "mounts").chance(0.35))
        #: The tip when trouble ended.
        self.tip = ""

    # ------------------------------------------------------------ what strikes need

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """Does something later."""
        heapq.heappush(self._events, (time.monotonic() + seconds, self.number(), act))

    def number(self) -> int:
        """Returns a number that was not given yet."""
        self._count += 1
        return self._count

    def hit(self, fault: str, where: str) -> None:
        self.hits[fault, where] += 1

    def tell(self, text: str) -> None:
        self.result.story.append(f"{time.monotonic() - self._begun:8.3f}  {text}")

    def kill(self, slot: Slot, fault: str) -> None:
        """`kill -9`, now."""
        if not slot.pid:
            return
        where = self.cluster.board.at(slot.number)
        os.kill(slot.pid, signal.SIGKILL)
        self.hit(fault, where)
        self.result.kills += 1

    def ambush(
        self,
        fault: str,
        slot: Slot,
        what: int,
        step: str,
        count: int,
        *,
        leader: bool = False,
        seconds: float = 0.0,
    ) -> None:
        """Lies in wait for a worker at a step, for a while."""
        waits = self._ambushes.get(slot.number)
        if waits is not None:
            if waits[0] not in KILLS or fault in KILLS:
                return
            self.cluster.board.forget(slot.number)  # a stop is rarer
            self._look_whether_struck(slot, dead=False)
        self._ambushes[slot.number] = mine = (fault, self.number())
        self.cluster.board.order(slot.number, what, step, count, leader=leader)
        self.at(seconds or faults.AMBUSH_SECONDS, lambda: self._give_up(slot, mine))

    def _give_up(self, slot: Slot, mine: tuple[str, int]) -> None:
        if self._ambushes.get(slot.number) == mine:
            self.cluster.board.forget(slot.number)
            self._look_whether_struck(slot, dead=False)
            if self._ambushes.pop(slot.number, None) is not None and mine[0] == "kill" and not self.calm:
                self.kill(slot, "kill")  # it never came by that step

    def _look_whether_struck(self, slot: Slot, *, dead: bool) -> None:
        fault = self._ambushes.get(slot.number, ("", 0))[0]
        step = self.cluster.board.struck(slot.number) if fault else None
        if step is None:
            if dead:
                self._ambushes.pop(slot.number, None)
            return
        del self._ambushes[slot.number]
        self.hit(fault, step)
        if fault in ("stop", "leader-stopped"):
            pid = slot.pid
            self.tell(f"{slot.node.folder.name}.{slot.number}: {fault} at {step}")
            self.at(self._gremlin.pick(self.plan.stopped), lambda: self._go_on(slot, pid))
        else:
            self.result.kills += 1

    def _go_on(self, slot: Slot, pid: int) -> None:
        if slot.pid == pid:
            os.kill(pid, signal.SIGCONT)

    def suspend(self, node: Node, seconds: float) -> None:
        """Stops everything on a machine for a while."""
        node.stopped = True
        self.tell(f"{node.folder.name}: suspended for {seconds:g} s")
        self.cluster.signal_node(node, signal.SIGSTOP)
        self.at(seconds, lambda: self.resume(node))

    def resume(self, node: Node) -> None:
        node.stopped = False
        self.cluster.signal_node(node, signal.SIGCONT)

    def copy_store(self, node: Node, to: Path) -> None:
        """Copies a machine's outbox and clone as they are at one moment."""
        self.cluster.signal_node(node, signal.SIGSTOP)
        with contextlib.suppress(shutil.Error):  # of a file that went meanwhile, a git's own
            shutil.copytree(node.home / "stores", to, dirs_exist_ok=True)
        if not node.stopped:
            self.cluster.signal_node(node, signal.SIGCONT)

    def restore(self, node: Node, kept: Path) -> None:
        """Puts a machine's outbox back to a copy; whatever ran there is gone."""
        if self.calm or not node.group:
            return
        self.tell(f"{node.folder.name}: its outbox is restored from a snapshot")
        self.hit("store-restored", "machine")
        node.odd = True
        self.cluster.kill_node(node)
        node.stopped = False
        for store in node.stores():
            old = next(kept.glob(f"*/{store.name}/outbox.db"), None)
            if old is not None:
                for name in ("outbox.db", "outbox.db-wal", "outbox.db-shm"):
                    (store / name).unlink(missing_ok=True)
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copy(old.with_name(name), store / name)
        shutil.rmtree(kept, ignore_errors=True)

    def clone(self, node: Node, seconds: float) -> None:
        """Copies a machine; both run on until somebody notices."""
        number = len(self.cluster.nodes)
        folder = self.cluster.folder / f"{node.folder.name}x{number}"
        folder.mkdir()
        self.copy_store(node, folder / "home" / "stores")
        copy = self.cluster.add(number, folder, node.builder, ("hold", "write", "write"))
        node.odd = copy.odd = True
        self.hit("store-cloned", "machine")
        self.tell(f"{node.folder.name}: is copied as {folder.name}")
        self.at(seconds, lambda: self._notice(copy))

    def _notice(self, copy: Node) -> None:
        if copy.group:
            self.tell(f"{copy.folder.name}: is noticed, and ended")
            self.cluster.kill_node(copy)
        copy.stopped = True

    # ------------------------------------------------------------ the run

    def play(self) -> Result:
        """Runs it all. A violation is in the result."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        bare: Bare | None = None
        try:
            self.cluster.make(self.plan.nodes, self.plan.crew)
            if self._mounts and mounts.leave_namespace():
                for node in self.cluster.nodes:
                    node.mount()
            elif self.plan.speed:  # what is in memory only is flushed for nothing: no fair measure
                bare = made = Bare(self.cluster.folder)
                self.at(1.0, lambda: self._measure(made))
            self._work()
            self.tip = repository.tip_of(self.cluster.remote)
            if bare is not None:
                self.result.active_seconds = self.plan.seconds - bare.lost
            self._heal()
            closing.reckon(self)
        except Violated as exc:
            self.result.violated, self.result.detail = exc.name, exc.detail
            self._keep()
        finally:
            self.cluster.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        self.result.seconds = time.monotonic() - self._begun
        return self.result

    def _keep(self) -> None:
        """Keeps the folder of a run that failed where CLUSTER_KEEP says."""
        place = os.environ.get("CLUSTER_KEEP")
        if place:
            to = Path(place) / f"seed{self.plan.seed}"
            shutil.rmtree(to, ignore_errors=True)
            shutil.copytree(self.cluster.folder, to, symlinks=True, dirs_exist_ok=True)
            (to / "story").write_text("\n".join(self.result.story) + "\n")

    def _work(self) -> None:
        until = time.monotonic() + self.plan.seconds
        self.at(0.5, self._next_trouble)
        self.at(0.5, self._next_kill)
        while time.monotonic() < until:
            for slot in self.cluster.slots:
                if not slot.pid and not slot.node.stopped:
                    self.cluster.start(slot)
            self._turn(until)

    def _turn(self, until: float) -> None:
        """Does what is due, and waits for the next event or the next death."""
        now = time.monotonic()
        while self._events and self._events[0][0] <= now:
            heapq.heappop(self._events)[2]()
        for number in list(self._ambushes):
            self._look_whether_struck(self.cluster.slots[number], dead=False)
        due = self._events[0][0] if self._events else until
        wait = max(0.0, min(due, until, now + 0.1) - time.monotonic())
        signal.sigtimedwait({signal.SIGCHLD}, wait)
        for slot in self.cluster.reap():
            self._look_whether_struck(slot, dead=True)

    def _next_kill(self) -> None:
        if self.calm or not self.plan.kills:
            return
        on = [name for name in KILLS if name in self.plan.faults]
        if on:
            faults.STRIKES[self._killer.pick(on)](self, self._killer)
            self.at(self._killer.around(1 / self.plan.kills), self._next_kill)

    def _next_trouble(self) -> None:
        if self.calm:
            return
        dice = self._gremlin
        weights = [
            (name, FAULTS[name].weight or 3.0)
            for name in self.plan.faults
            if name not in KILLS and (name not in faults.ODD or name in self._odd or self._single)
        ]
        if weights:
            name = dice.weighted(weights)
            with contextlib.suppress(PipelineError):  # what people did by hand cannot be read
                faults.STRIKES[name](self, dice)
        self.at(dice.around(self.plan.trouble), self._next_trouble)

    def _measure(self, bare: Bare) -> None:
        """Stops the cluster for a moment and pushes what it pushes, bare."""
        if self.calm:
            return
        for node in self.cluster.nodes:
            self.cluster.signal_node(node, signal.SIGSTOP)
        begun = time.monotonic()
        self.result.bare_pushes += bare.push_for(0.6)
        self.result.bare_seconds += bare.seconds
        for node in self.cluster.nodes:
            if not node.stopped:
                self.cluster.signal_node(node, signal.SIGCONT)
        bare.lost += time.monotonic() - begun
        self.at(2.0, lambda: self._measure(bare))

    # ------------------------------------------------------------ the end

    def _heal(self) -> None:
        """Mends everything, lets everybody go on, and waits until all workers have ended by themselves."""
        self.calm = True
        self.tell("everything is mended")
        for number in list(self._ambushes):
            self.cluster.board.forget(number)
            self._look_whether_struck(self.cluster.slots[number], dead=False)
        self._ambushes.clear()
        for node in self.cluster.nodes:
            between.remove(node.folder)
            self.cluster.board.set_clock(node.number, 0.0)
            if "x" in node.folder.name:
                self._notice(node)
                continue
            self.resume(node)
            for pattern in ("stores/*/filler", "stores/*/*/filler", "*/filler"):
                for filler in node.home.glob(pattern):
                    filler.unlink(missing_ok=True)
        (self.cluster.remote / "hooks/pre-receive").unlink(missing_ok=True)
        lock = repository.lock_of(self.cluster.remote)
        if lock.exists() and not lock.stat().st_size:
            lock.unlink(missing_ok=True)
        self._events.clear()
        self.cluster.board.finish(True)
        healed = time.monotonic()
        while self.cluster.running():
            if time.monotonic() > healed + HEALED_SECONDS:
                at = [f"{s.role} at {self.cluster.board.at(s.number)}" for s in self.cluster.running()]
                violated("everything-ends", f"after {HEALED_SECONDS:g} s there are still: {', '.join(at)}")
            self._turn(time.monotonic() + 0.2)
        self.tell("all workers have ended")
        closing.drain(self, healed + HEALED_SECONDS)
        self.tell("everything is drained")


def play(plan: Plan) -> Result:
    """Runs one plan in a folder of its own. Its process is spent: signals, mounts and orphans are its own."""
    with tempfile.TemporaryDirectory(prefix="cluster-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if not plan.ssh:
            return Run(plan, folder).play()
        (folder / "sshd").mkdir()
        with start_sshd(folder / "sshd") as sshd:
            environment = {
                **os.environ,
                "GIT_SSH_COMMAND": sshd.ssh_command(),
                "XDG_RUNTIME_DIR": str(folder),
            }
            return Run(plan, folder, sshd.url(folder / "remote.git"), environment).play()

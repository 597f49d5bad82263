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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.errors import PipelineError
from tests.cluster import between, closing, faults, mounts, repository
from tests.cluster.chain import Violated
from tests.cluster.coverage import Coverage, Notes
from tests.cluster.nodes import Cluster, Node, Slot
from tests.cluster.plan import ENOUGH_SECONDS, Plan, Result
from tests.cluster.speed import Bare
from tests.simulation.dice import Dice
from tests.simulation.invariants import violated
from tests.sshd import start_sshd

#: What kills are drawn besides: everything else comes less often.
KILLS = ("kill", "leader-killed")
#: In a run that is long enough, trouble lasts up to so many times as long while a fault has hit nothing.
LONGEST = 2.5
#: Within so many seconds after everything was mended, everybody has an answer and has ended.
HEALED_SECONDS = 90.0


class Run:
    """The controller of one run."""

    def __init__(
        self, plan: Plan, folder: Path, address: str = "", environment: dict[str, str] | None = None
    ):
        self.plan = plan
        self.result = Result(plan=plan)
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
        on = [name for name in plan.faults if name not in KILLS]
        self.coverage = Coverage(on, plan.seconds, plan.trouble, Dice(plan.seed, "order"))
        #: For how many seconds trouble was made, and the tip when it ended.
        self.worked = 0.0
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

    def hit_machine(self, fault: str, node: Node) -> None:
        """Counts every program of a machine that something befalls, at the step where it finds it."""
        for slot in self.cluster.running():
            if slot.node is node:
                self.hit(fault, self.cluster.board.at(slot.number))

    def all_hits(self) -> Counter[tuple[str, str]]:
        """Returns all hits so far, those on the line and of hooks included."""
        return self.hits + closing.noted_hits(self.cluster)

    def watch(
        self,
        fault: str,
        nodes: Sequence[Node],
        words: Mapping[str, str],
        seconds: float,
        most: float,
        mend: Callable[[], None],
    ) -> None:
        """Mends something after so many seconds, or, as long as it hits nobody, after the most.

        Counts as a hit whatever is said on these machines with these words, each of which stands for a step.
        """
        notes = Notes.of([file for node in nodes for file in (node.journal, node.folder / "said")])
        until = time.monotonic() + most

        def look() -> None:
            there = notes.about(words)
            if not there and time.monotonic() < until:
                self.at(min(1.0, seconds), look)
                return
            mend()
            for step, count in there.items():
                self.hits[fault, step] += count

        self.at(seconds, look)

    def stopped(self, dice: Dice) -> float:
        """Draws for how many seconds somebody stays stopped."""
        seconds = dice.pick(self.plan.stopped)
        return seconds if len(self.plan.stopped) == 1 else self.coverage.fit(seconds)

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
            self.at(self.stopped(self._gremlin), lambda: self._go_on(slot, pid))
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
        self.hit_machine("store-restored", node)
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
        self.hit_machine("store-cloned", node)
        self.tell(f"{node.folder.name}: is copied as {folder.name}")
        self.at(seconds, lambda: self._notice(copy))

    def _notice(self, copy: Node) -> None:
        if copy.group:
            self.tell(f"{copy.folder.name}: is noticed, and ended")
            self.cluster.kill_node(copy)
        copy.stopped = True

    # ------------------------------------------------------------ the run

    def play(self, mended: Callable[[], None]) -> Result:
        """Runs it all; calls `mended` when trouble is over. A violation is in the result."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        bare: Bare | None = None
        try:
            self.cluster.make(self.plan.nodes, self.plan.crew)
            if not set(faults.MOUNTED).isdisjoint(self.plan.faults) and mounts.leave_namespace():
                for node in self.cluster.nodes:
                    node.mount()
            elif self.plan.speed:  # what is in memory only is flushed for nothing: no fair measure
                bare = made = Bare(self.cluster.folder)
                self.at(1.0, lambda: self._measure(made))
            self._work()
            self.tip = repository.tip_of(self.cluster.remote)
            if bare is not None:
                self.result.active_seconds = self.worked - bare.lost
            mended()
            self._heal()
            closing.reckon(self)
            self.tell("all is reckoned")
        except Violated as exc:
            self.result.violated, self.result.detail = exc.name, exc.detail
            self._keep()
        finally:
            self.cluster.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
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
        """Lets all work under trouble; for longer if a fault has not hit yet, up to a limit."""
        begun = time.monotonic()
        until = latest = begun + self.plan.seconds
        if self.plan.seconds >= ENOUGH_SECONDS:
            latest = begun + self.plan.seconds * LONGEST
        self.at(0.5, self._next_trouble)
        self.at(0.5, self._next_kill)
        while time.monotonic() < (until if self.coverage.done else latest):
            for slot in self.cluster.slots:
                if not slot.pid and not slot.node.stopped:
                    self.cluster.start(slot)
            self._turn(latest)
        self.worked = time.monotonic() - begun

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
        name = self.coverage.next(time.monotonic(), self.all_hits(), self._gremlin)
        if name is not None:
            with contextlib.suppress(PipelineError):  # what people did by hand cannot be read
                faults.STRIKES[name](self, self._gremlin)
        self.at(self._gremlin.around(self.coverage.pace), self._next_trouble)

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


def play(plan: Plan, mended: Callable[[], None] = lambda: None) -> Result:
    """Runs one plan in a folder of its own; calls `mended` when its trouble is over.

    Its process is spent: signals, mounts and orphans are its own.
    """
    with tempfile.TemporaryDirectory(prefix="cluster-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if not plan.ssh:
            return Run(plan, folder).play(mended)
        (folder / "sshd").mkdir()
        with start_sshd(folder / "sshd") as sshd:
            environment = {
                **os.environ,
                "GIT_SSH_COMMAND": sshd.ssh_command(),
                "XDG_RUNTIME_DIR": str(folder),
            }
            return Run(plan, folder, sshd.url(folder / "remote.git"), environment).play(mended)

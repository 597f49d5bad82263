"""The machines of the real cluster: folders, environments, and workers that are forked from a warm parent.

Each machine has a home (outbox, clone, artifacts), a machine lock, a process group, and first on its PATH a
folder with a `git` of its own: a link to the real one, or, while something is wrong with the machine's line,
to a program that stands between (`between`). A worker is a fork of the controller, which has everything
imported already, so to replace one that was killed costs milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.coordination.reducer import REDUCER_VERSION, genesis
from pipeline.edge.bare import make_bare
from pipeline.edge.clock import SystemClock
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.identity import SystemRandomness
from pipeline.edge.procfs import all_stats, environment_of
from pipeline.ledger.genesis import initialise
from pipeline.operations.settings import resolve
from pipeline.records import paths
from pipeline.records.base import dump
from pipeline.records.builders import Builder
from pipeline.records.builds import BuildConfig
from pipeline.runtime import _store_folder
from tests.cluster import between, mounts, roles
from tests.cluster.board import Board
from tests.cluster.tiny import ROOT, Host
from tests.cluster.worker import begin
from tests.simulation.dice import Dice

BRANCH_REF = paths.branch_ref(paths.DEFAULT_BRANCH)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Node:
    """One machine. A copy of one has another folder and the same builder's name."""

    number: int
    folder: Path
    builder: str
    environment: dict[str, str]
    group: int = 0
    #: Whether its disk is not what it was: restored from a snapshot, copied, or the copy itself.
    odd: bool = False
    stopped: bool = False

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def stores(self) -> list[Path]:
        """Returns the folders of the outbox (not of the clone beside it)."""
        return [place.parent for place in self.home.glob("stores/*/*/outbox.db")]

    def mount(self) -> None:
        """Puts outbox and clone on small file systems of their own, in memory."""
        folder = _store_folder(resolve(self.home, None, self.environment))
        mounts.mount_small(folder, 64)
        mounts.mount_small(folder / self.builder, 16)
        mounts.mount_small(self.home / "artifacts", 8)
        mounts.mount_small(self.home / "work", 1024 + 64)  # with less than 1 GiB no build goes on

    def unmount(self) -> None:
        """Takes them away again."""
        for place in (*self.home.glob("stores/*/*"), *self.home.glob("stores/*"), *self.home.glob("*")):
            if os.path.ismount(place):
                mounts.unmount(place)

    def clones(self) -> list[Path]:
        return list(self.home.glob("stores/*/clone.git"))


@dataclass
class Slot:
    """One worker's place: its role, and the process that fills it now."""

    number: int
    node: Node
    role: str
    pid: int = 0
    born: float = 0.0
    births: int = 0


@dataclass
class Cluster:
    """All machines over one bare repository."""

    folder: Path
    seed: int
    remote: Path
    address: str
    environment: dict[str, str]
    mutant: str = ""
    nodes: list[Node] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    by_pid: dict[int, Slot] = field(default_factory=dict)
    board: Board = field(default_factory=lambda: Board(1, 1))

    # ------------------------------------------------------------ the beginning

    def make(self, count: int, crew: tuple[str, ...]) -> None:
        """Makes the remote's ledger, the machines, and a place for each worker; starts nothing.

        There is room for copies of machines: as many again.
        """
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        make_bare(self.remote)
        builders = [Builder(name=f"build{number + 1}") for number in range(count)]
        refs = GitRefs(self.folder / "first.git", str(self.remote))
        files = genesis(builders, dump(BuildConfig()), SystemClock().now())
        initialise(refs, files, "operator", SystemClock(), SystemRandomness(), REDUCER_VERSION)
        self.board = Board(2 * count * len(crew), 2 * count)
        for number in range(count):
            self.add(number, self.folder / f"n{number + 1}", f"build{number + 1}", crew)
        gc.collect()
        gc.freeze()

    def add(self, number: int, folder: Path, builder: str, crew: tuple[str, ...]) -> Node:
        """Makes a machine of this number, with its crew's places."""
        folder.mkdir(exist_ok=True)
        environment = {
            **{k: v for k, v in self.environment.items() if not k.startswith(("PIPELINE_", "GIT_", "LC_"))},
            **{k: v for k, v in self.environment.items() if k.startswith("GIT_SSH")},
            "LC_ALL": "C",
            "PYTHONPATH": str(ROOT),
            "PIPELINE_HOME": str(folder / "home"),
            "PIPELINE_LEDGER": self.address,
            "PIPELINE_BUILDER": builder,
            "PIPELINE_MACHINE_LOCK": str(folder / "machine.lock"),
            "PIPELINE_PATIENCE_SECONDS": f"{roles.PATIENCE:g}",
            "PIPELINE_HEARTBEAT_SECONDS": "2",
            "CLUSTER_JOURNAL": str(folder / "journal"),
            "CLUSTER_WITNESS": str(self.folder / "witness.git"),
            "CLUSTER_MACHINE": f"{number + 1:x}",
        }
        if "invoke" in crew:
            host = Host(folder / "tiny", builder=builder, ledger=self.address)
            for name in ("PATH", "PIPELINE_SOURCE", "PIPELINE_RECIPE", "PIPELINE_MAVEN_MIRROR"):
                environment[name] = host.env[name]
            environment["CLUSTER_BUILDS"] = "1"
        environment["PATH"] = f"{folder / 'bin'}:{environment.get('PATH', os.defpath)}"
        between.install(folder)
        node = Node(number, folder, builder, environment)
        self.nodes.append(node)
        for role in crew:
            self.slots.append(Slot(len(self.slots), node, role))
        return node

    # ------------------------------------------------------------ processes

    def anchor(self, node: Node) -> None:
        """Starts the process whose id is the machine's process group; all it does is to be there."""
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                while True:
                    time.sleep(3600)
            finally:
                os._exit(0)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        node.group = pid

    def start(self, slot: Slot) -> None:
        """Forks a worker into its place."""
        if not slot.node.group:
            self.anchor(slot.node)
        self.board.clear(slot.number)
        slot.births += 1
        slot.born = time.monotonic()
        dice = Dice(self.seed, "worker", slot.number, slot.births)
        slot.pid = self.fork(slot.node, lambda: self._work(slot, dice))
        self.by_pid[slot.pid] = slot

    def _work(self, slot: Slot, dice: Dice) -> None:
        try:
            worker = begin(
                self.board, slot.node.number, slot.number, dice, str(slot.node.journal), self.mutant
            )
        except Exception:
            # A machine without a line cannot begin: the next worker tries again.
            time.sleep(0.05)
            return
        roles.run(worker, slot.role)

    def fork(self, node: Node, act: Callable[[], None]) -> int:
        """Runs something as a process of a machine, and returns its id."""
        pid = os.fork()
        if pid:
            with contextlib.suppress(OSError):
                os.setpgid(pid, node.group)
            return pid
        try:
            with contextlib.suppress(OSError):
                os.setpgid(0, node.group)
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.environ.clear()
            os.environ.update(node.environment)
            said = os.open(node.folder / "said", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(said, 1)
            os.dup2(said, 2)
            sys.stdin = open(0, closefd=False)  # noqa: SIM115
            act()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(0)

    def running(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.pid]

    def reap(self) -> list[Slot]:
        """Takes the dead, orphans of workers included; returns the places that are free now."""
        gone = []
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return gone
            if pid == 0:
                return gone
            slot = self.by_pid.pop(pid, None)
            if slot is not None and slot.pid == pid:
                slot.pid = 0
                gone.append(slot)

    def signal_node(self, node: Node, number: int) -> None:
        """Sends a signal to everything that runs on a machine."""
        if node.group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.group, number)

    def kill_node(self, node: Node) -> None:
        """Ends everything on a machine, and waits until it is gone. Its places stay free."""
        mine = [slot for slot in self.slots if slot.node is node]
        self.signal_node(node, signal.SIGKILL)
        node.group = 0
        for slot in mine:
            if slot.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(slot.pid, 0)
                self.by_pid.pop(slot.pid, None)
                slot.pid = 0
        for pid in self.processes(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, node: Node | None = None) -> list[int]:
        """Returns living programs that were started with a machine's environment: gits, watchdogs, work."""
        mark = f"PIPELINE_HOME={node.home if node else self.folder}".encode()
        return [
            stat.pid
            for stat in all_stats().values()
            if stat.state not in "ZX" and mark in environment_of(stat.pid)
        ]

    def close(self) -> None:
        """Ends whatever is left, and removes the folder."""
        for node in self.nodes:
            self.kill_node(node)
        deadline = time.monotonic() + 5
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
            self.reap()
        self.reap()
        for node in self.nodes:
            node.unmount()
        shutil.rmtree(self.folder, ignore_errors=True)
        gc.unfreeze()

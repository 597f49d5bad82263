"""The vocabulary of faults as the real layer strikes. Names and weights are `tests.simulation.faults`'.

Each strike acts on real processes, files and lines, notes what it hit and at which step, and mends itself
after a while. `REAL` is what can be had here; what needs a machine of its own (power loss, drifting clocks)
is the virtual layer's alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import between, repository
from tests.cluster.board import KILL, LEADING, STEPS, STOP
from tests.cluster.nodes import Node, Slot
from tests.simulation.dice import Dice
from tests.simulation.faults import FAULTS

if TYPE_CHECKING:
    from tests.cluster.run import Run

Strike = Callable[["Run", Dice], None]
STRIKES: dict[str, Strike] = {}
#: Faults that a program on the line makes, and for how long each lasts in seconds.
_LINE = {
    "request-lost": (0.1, 0.3, 1.0),
    "reply-lost": (0.1, 0.3, 1.0),
    "push-delayed": (0.1, 0.3, 1.0),
    "duplicated": (0.1, 0.3, 1.0),
    "partition": (0.5, 2.0, 8.0),
    "slow-node": (1.0, 4.0),
}
#: How long a program or machine stays stopped: past the trust in its lease, at times past its takeover.
STOPPED = (0.3, 2.0, 5.0, 16.0)
#: The words with which a step says that it had no space, for each fault.
_FULL = {
    "outbox-full": {"The disk of the outbox": "outbox"},
    "clone-full": {"cannot be written: No space left": "clone", "unable to write loose": "fetch"},
    "artifact-full": {"artifacts do not fit": "artifacts", "Ended before the disk was full": "builds"},
}
#: As much is written at the most to fill a disk: the pipeline ends a build while it still has 1 GiB.
_FILL_BYTES = 200 << 20
AMBUSH_SECONDS, _LOCK_SECONDS = 1.5, 4.0


def strike(name: str) -> Callable[[Strike], Strike]:
    """Registers what a fault of the shared vocabulary does here."""
    assert name in FAULTS, name

    def register(function: Strike) -> Strike:
        STRIKES[name] = function
        return function

    return register


# ---------------------------------------------------------------- programs


def _victim(run: Run, dice: Dice, wanted: Callable[[Slot], bool] = lambda slot: True) -> Slot | None:
    slots = [slot for slot in run.cluster.running() if not slot.node.stopped and wanted(slot)]
    return dice.pick(slots) if slots else None


@strike("kill")
def kill(run: Run, dice: Dice) -> None:
    """At a random instant, or at a step. Real builds, which are few, live until every fault has hit."""
    slot = _victim(run, dice, lambda s: s.role != "invoke" or run.coverage.done)
    if slot is None:
        return
    if dice.chance(0.5):
        run.kill(slot, "kill")
    else:
        run.ambush("kill", slot, KILL, dice.pick(STEPS[1:]) if dice.chance(0.8) else "", 1 + dice.below(3))


@strike("stop")
def stop(run: Run, dice: Dice) -> None:
    """Often whoever works under a lock next: its lease runs out meanwhile."""
    again = run.coverage.again
    if dice.chance(0.4) and not again:
        for holder in [s for s in run.cluster.running() if s.role == "hold" and not s.node.stopped]:
            run.ambush("stop", holder, STOP, "works", 1 + dice.below(3), seconds=_LOCK_SECONDS)
        return
    slot = _victim(run, dice, lambda s: s.role != "invoke")
    if slot is not None:
        step = dice.pick(STEPS[1:]) if dice.chance(0.5) and not again else ""
        run.ambush("stop", slot, STOP, step, 1 if again else 1 + dice.below(3))


@strike("leader-killed")
def leader_killed(run: Run, dice: Dice) -> None:
    _leader(run, dice, "leader-killed", KILL)


@strike("leader-stopped")
def leader_stopped(run: Run, dice: Dice) -> None:
    _leader(run, dice, "leader-stopped", STOP)


def _leader(run: Run, dice: Dice, fault: str, what: int) -> None:
    """Lies in wait for whoever of a machine's writers leads next, or does already."""
    node = _machine(run, dice)
    writers = [s for s in run.cluster.running() if s.node is node and s.role == "write"]
    leads = [s for s in writers if run.cluster.board.leads(s.number)]
    step = dice.pick(LEADING) if dice.chance(0.6) else ""
    for slot in leads or writers[: 3 if what == STOP else 1]:
        run.ambush(fault, slot, what, step, 1 + dice.below(2), leader=True)


@strike("waiter-dies")
def waiter_dies(run: Run, dice: Dice) -> None:
    """Whoever looks at the queue now; if nobody does, the first who comes to that."""
    waits = _victim(run, dice, lambda s: run.cluster.board.at(s.number) == "survey")
    if waits is not None:
        run.kill(waits, "waiter-dies")
        return
    for holder in [s for s in run.cluster.running() if s.role == "hold" and not s.node.stopped]:
        run.ambush("waiter-dies", holder, KILL, "survey", 1, seconds=_LOCK_SECONDS)


# ---------------------------------------------------------------- machines


def _machine(run: Run, dice: Dice, wanted: Callable[[Node], bool] = lambda node: True) -> Node | None:
    up = [node for node in run.cluster.nodes if node.group and not node.stopped and wanted(node)]
    return dice.pick(up) if up else None


@strike("suspend")
def suspend(run: Run, dice: Dice) -> None:
    """Everything on a machine stands still, watchdogs and gits included; CLOCK_BOOTTIME goes on."""
    node = _machine(run, dice)
    if node is not None:
        run.hit_machine("suspend", node)
        run.suspend(node, run.stopped(dice))


def _on_the_line(name: str) -> None:
    @strike(name)
    def act(run: Run, dice: Dice) -> None:
        node = _machine(run, dice, lambda n: not (n.folder / "fault").exists())
        if node is None:
            return
        fault = dice.pick(("partition", "partition-in", "partition-out")) if name == "partition" else name
        between.put(node.folder, fault, dice.pick((0.3, 1.5)))
        run.tell(f"{node.folder.name}: {fault}")
        run.at(run.coverage.fit(dice.pick(_LINE[name])), lambda: between.remove(node.folder))


for _name in _LINE:
    _on_the_line(_name)


@strike("flapping")
def flapping(run: Run, dice: Dice) -> None:
    node = _machine(run, dice, lambda n: not (n.folder / "fault").exists())
    if node is None:
        return
    run.tell(f"{node.folder.name}: flapping")
    for number in range(6):
        run.at(number * 0.4, lambda: None if run.calm else between.put(node.folder, "flapping"))
        run.at(number * 0.4 + 0.2, lambda: between.remove(node.folder))


@strike("clock-step")
def clock_step(run: Run, dice: Dice) -> None:
    node = _machine(run, dice)
    if node is not None:
        run.cluster.board.set_clock(node.number, dice.pick((-86400.0, -3600.0, -5.0, 5.0, 3600.0, 86400.0)))
        run.hit_machine("clock-step", node)


@strike("clone-removed")
def clone_removed(run: Run, dice: Dice) -> None:
    node = _machine(run, dice)
    if node is None:
        return
    for clone in node.clones():
        away = clone.with_name(f"removed.{run.number()}")
        with contextlib.suppress(OSError):
            clone.rename(away)
            run.hit_machine("clone-removed", node)
        shutil.rmtree(away, ignore_errors=True)


def _fill(run: Run, node: Node, name: str, places: list[Path], seconds: float, most: float = 0.0) -> None:
    """Fills the file systems of these folders to the last byte, and frees them later.

    It hits whoever says meanwhile that there is no space; until then they stay full for up to `most` seconds.
    """
    fillers = [place / "filler" for place in places]
    for filler in fillers:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            size = 1 << 16
            while size:
                try:
                    while file.tell() < _FILL_BYTES:
                        file.write(bytes(size))
                    break
                except OSError:
                    size //= 2

    def free() -> None:
        for filler in fillers:
            filler.unlink(missing_ok=True)

    run.watch(name, [node], _FULL[name], seconds, max(most, seconds), free)
    run.tell(f"{node.folder.name}: {name}")


@strike("outbox-full")
def outbox_full(run: Run, dice: Dice) -> None:
    node = _machine(run, dice, lambda n: any(os.path.ismount(each) for each in n.stores()))
    if node is not None:
        _fill(run, node, "outbox-full", node.stores(), run.coverage.fit(dice.pick((0.5, 1.0, 3.0))))


@strike("clone-full")
def clone_full(run: Run, dice: Dice) -> None:
    node = _machine(run, dice, lambda n: any(os.path.ismount(each.parent) for each in n.clones()))
    if node is not None:
        seconds = run.coverage.fit(dice.pick((0.5, 1.0, 3.0)))
        _fill(run, node, "clone-full", [each.parent for each in node.clones()], seconds)


@strike("artifact-full")
def artifact_full(run: Run, dice: Dice) -> None:
    """Where builds run, and keep their logs and artifacts, is no space, until a build says so.

    Builds are few, so it is on all machines; nobody else needs this space.
    """
    for node in run.cluster.nodes:
        if os.path.ismount(node.home / "artifacts") and (node.folder / "tiny").exists():
            _fill(run, node, "artifact-full", [node.home / "artifacts", node.home / "work"], 2.0, 60.0)


@strike("store-restored")
def store_restored(run: Run, dice: Dice) -> None:
    """A snapshot of the outbox is taken of a machine that stands still, and put back later."""
    node = _machine(run, dice)
    if node is None or not node.stores():
        return
    kept = run.cluster.folder / f"snapshot{run.number()}"
    run.copy_store(node, kept)
    run.at(run.coverage.fit(dice.pick((1.0, 4.0))), lambda: run.restore(node, kept))


@strike("store-cloned")
def store_cloned(run: Run, dice: Dice) -> None:
    """A machine is copied with its outbox and clone, and both run on under one builder's name."""
    node = _machine(run, dice, lambda n: "x" not in n.folder.name)
    if node is not None and node.stores() and len(run.cluster.nodes) < 2 * run.plan.nodes:
        run.clone(node, run.coverage.fit(dice.pick((2.0, 6.0))))


# ---------------------------------------------------------------- the remote


@strike("remote-down")
def remote_down(run: Run, dice: Dice) -> None:
    run.tell("remote: down")
    for node in run.cluster.nodes:
        between.put(node.folder, "remote-down")
    seconds = run.coverage.fit(dice.weighted(((0.5, 0.5), (2.5, 0.4), (11.0, 0.1))))
    run.at(seconds, lambda: [between.remove(node.folder) for node in run.cluster.nodes])


@strike("refusal")
def refusal(run: Run, dice: Dice) -> None:
    """A hook refuses; or the folder that takes new objects cannot be written, as on a read-only remote."""
    hook = run.cluster.remote / "hooks/pre-receive"
    words = dice.pick(("not today", "Read-only file system", "No space left on device"))
    log = run.cluster.folder / "refused"
    temporary = hook.with_name("pre-receive.new")
    temporary.write_text(
        f"#!/bin/sh\ncat > /dev/null\necho receive-pack >> {log}\necho '{words}' >&2\nexit 1\n"
    )
    temporary.chmod(0o755)
    temporary.rename(hook)
    run.tell(f"remote: a hook refuses: {words}")
    run.at(run.coverage.fit(dice.pick((0.2, 0.5, 2.0))), lambda: hook.unlink(missing_ok=True))


@strike("ref-lock-left")
def ref_lock_left(run: Run, dice: Dice) -> None:
    """It hits whoever is told meanwhile that the ref is locked."""
    lock = repository.lock_of(run.cluster.remote)
    with contextlib.suppress(FileExistsError):
        lock.touch(exist_ok=False)
        seconds = run.coverage.fit(dice.pick((0.05, 0.3, 2.0)))
        words = {"LedgerRefLocked": "push"}
        free = lambda: lock.unlink(missing_ok=True)  # noqa: E731
        run.watch("ref-lock-left", run.cluster.nodes, words, seconds, seconds, free)


@strike("remote-restored")
def remote_restored(run: Run, dice: Dice) -> None:
    lost = repository.rewind(run.cluster.remote, run.cluster.folder / "witness.git", 1 + dice.below(6))
    if lost is not None:
        run.rewound.append(lost)
        run.hit("remote-restored", "remote")
        run.tell(f"remote: restored from a backup, without {lost[:10]}")


@strike("by-hand")
def by_hand(run: Run, dice: Dice) -> None:
    made = repository.commit_by_hand(run.cluster.remote, dice)
    if made is not None:
        run.by_hand[made.commit] = made.before
        run.hit("by-hand", made.style)
        run.tell(f"remote: {made.style} by hand, {made.commit[:10]}")


@strike("gc")
def gc(run: Run, dice: Dice) -> None:
    """`git gc`, a repack, or packed refs, beside the pushes of the moment, at the remote or in a clone."""
    places = [run.cluster.remote, *(clone for node in run.cluster.nodes for clone in node.clones())]
    place = run.cluster.remote if dice.chance(0.6) else dice.pick(places)
    words = dice.pick((["gc", "--quiet"], ["repack", "-a", "-d", "--quiet"], ["pack-refs", "--all"]))
    environment = run.cluster.nodes[0].environment | {"PATH": os.environ.get("PATH", os.defpath)}
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    # Nobody waits for it here: the controller reaps whatever ends.
    os.posix_spawnp("git", ["git", "--git-dir", str(place), *words], environment, file_actions=quiet)
    run.hit("gc", words[0])


REAL = tuple(name for name in FAULTS if name in STRIKES)
#: Faults after which other promises hold: each of these is on in a part of the seeds only.
ODD = ("remote-restored", "store-restored", "store-cloned")
#: Need a file system of their own.
MOUNTED = ("outbox-full", "clone-full", "artifact-full")


#: Of so many pairs of seeds one has builds, where their disk can be full: they are slow.
_PAIRS_WITH_BUILDS = 4


def on_in(seed: int, faults: tuple[str, ...]) -> tuple[str, ...]:
    """Returns which faults a seed has.

    What changes what is promised, and what needs file systems of its own, each even seed has or leaves to the
    odd one after it. So the two together have everything, and each promise is held against one of them.
    """
    if len(faults) <= 2:
        return faults
    pair, first = seed // 2, seed % 2 == 0
    here = {name for name in ODD if Dice(pair, name).chance(0.5) == first}
    if Dice(pair, "mounts").chance(0.5) == first:
        here |= set(MOUNTED) - ({"artifact-full"} if pair % _PAIRS_WITH_BUILDS else set())
    return tuple(name for name in faults if name in here or name not in (*ODD, *MOUNTED))

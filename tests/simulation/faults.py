"""The vocabulary of faults: one registry for both layers, and what each does to the virtual one.

A *point* fault strikes single requests with a probability. An *event* befalls a machine or the remote now
and then, and ends by itself. An *ambush* waits until a program takes a step, and then acts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.edge.git_objects import TreeView, make_commit, write_tree
from pipeline.errors import LedgerNoSpace, LedgerRefused, LedgerUnauthorised
from pipeline.records import paths
from pipeline.records.base import dump
from tests.simulation.dice import Dice

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.scheduler import Program
    from tests.simulation.world import World


@dataclass(frozen=True)
class Fault:
    """One kind of trouble. `weight` is how often it comes, against the others."""

    name: str
    does: str
    layers: str
    weight: float = 0.0
    strike: Callable[[World, Dice], None] | None = None
    probability: float = 0.0
    ambush: Callable[[World, Node, Program], None] | None = None


FAULTS: dict[str, Fault] = {}


def _add(name: str, does: str, layers: str = "both", **how: object) -> None:
    FAULTS[name] = Fault(name, does, layers, **how)  # type: ignore[arg-type]


# ---------------------------------------------------------------- single requests

_add("request-lost", "a request never arrives", probability=0.03)
_add("reply-lost", "the server applied it; the answer never arrives", probability=0.03)
_add("push-delayed", "a push is applied up to minutes later, dead sender or not", probability=0.03)
_add("duplicated", "a push arrives twice, the second time out of order", probability=0.02)


# ---------------------------------------------------------------- programs, at a step


def _kill(world: World, node: Node, program: Program) -> None:
    world.scheduler.kill(program)


def _stop(world: World, node: Node, program: Program) -> None:
    seconds = Dice(world.seed, "stop", program.name).pick((1.0, 20.0, 60.0, 400.0, 1500.0))
    world.scheduler.stop(program)
    world.scheduler.at(seconds, lambda: _go_on(world, program))


def _go_on(world: World, program: Program) -> None:
    if not program.dead and program.stopped:
        world.tell(f"{program.name}: continued")
        world.scheduler.go_on(program)


def _power(world: World, node: Node, program: Program) -> None:
    world.reboot(node, lose=True)


def _suspend(world: World, node: Node, program: Program) -> None:
    world.suspend(node)


_add("kill", "kill -9 of a program at a step", weight=10, ambush=_kill)
_add("stop", "SIGSTOP of a program at a step; SIGCONT later, mostly past its lease", weight=6, ambush=_stop)
_add("leader-killed", "kill -9 of a leader in the middle of its group commit", weight=3, ambush=_kill)
_add(
    "leader-stopped",
    "SIGSTOP of a leader in the middle of its group commit; another one passes it over",
    weight=4,
    ambush=_stop,
)
_add("waiter-dies", "kill -9 of who waits at the head of a lock's queue", weight=2, ambush=_kill)
_add("power-loss", "a machine loses power: what was not flushed is gone", "virtual", weight=3, ambush=_power)
_add("suspend", "a machine is suspended with everything on it, and resumed", weight=2, ambush=_suspend)

# ---------------------------------------------------------------- machines


def _some(world: World, dice: Dice) -> Node | None:
    up = [node for node in world.nodes if not node.off]
    return dice.pick(up) if up else None


def _for_a_while(
    world: World, dice: Dice, name: str, begin: Callable[[Node], None], end: Callable[[Node], None]
) -> None:
    node = _some(world, dice)
    if node is not None:
        world.hit(name, node.at)
        world.tell(f"{node.name}: {name}")
        begin(node)
        world.scheduler.at(dice.pick((2.0, 40.0, 300.0)), lambda: end(node))


def _clone_full(world: World, dice: Dice) -> None:
    _for_a_while(
        world,
        dice,
        "clone-full",
        lambda n: setattr(n, "clone_full", True),
        lambda n: setattr(n, "clone_full", False),
    )


def _outbox_full(world: World, dice: Dice) -> None:
    _for_a_while(
        world,
        dice,
        "outbox-full",
        lambda n: setattr(n, "disk_full", True),
        lambda n: setattr(n, "disk_full", False),
    )


def _clone_removed(world: World, dice: Dice) -> None:
    _for_a_while(world, dice, "clone-removed", lambda n: n.known.clear(), lambda n: None)


def _wall_step(world: World, dice: Dice) -> None:
    step = dice.pick((-86400.0, -3600.0, -5.0, 5.0, 3600.0, 86400.0))
    _for_a_while(
        world, dice, "clock-step", lambda n: setattr(n, "wall_step", n.wall_step + step), lambda n: None
    )


def _partition(world: World, dice: Dice) -> None:
    which = dice.pick(("out", "in", "both"))

    def cut(node: Node, on: bool) -> None:
        node.line.cut_out = on and which != "in"
        node.line.cut_in = on and which != "out"

    _for_a_while(world, dice, "partition", lambda n: cut(n, True), lambda n: cut(n, False))


def _flapping(world: World, dice: Dice) -> None:
    node = _some(world, dice)
    if node is None:
        return
    world.hit("flapping", node.at)
    for number in range(10):
        world.scheduler.at(number * 6.0, lambda: setattr(node.line, "cut_out", True))
        world.scheduler.at(number * 6.0 + 3.0, lambda: setattr(node.line, "cut_out", False))


def _slow(world: World, dice: Dice) -> None:
    _for_a_while(
        world,
        dice,
        "slow-node",
        lambda n: setattr(n, "slowness", 100.0),
        lambda n: setattr(n, "slowness", 1.0),
    )


def _newer(world: World, dice: Dice) -> None:
    _for_a_while(
        world,
        dice,
        "mixed-versions",
        lambda n: setattr(n, "reducer", world.reducer + 1),
        lambda n: world.upgrade(),
    )


def _restored(world: World, dice: Dice) -> None:
    node = _some(world, dice)
    if node is not None:
        disk = node.snapshot()
        world.scheduler.at(dice.pick((30.0, 600.0)), lambda: world.restore_disk(node, disk))


def _cloned(world: World, dice: Dice) -> None:
    node = _some(world, dice)
    if node is not None and len(world.copies()) < 2:
        world.clone(node)


_add("clone-full", "the disk of the local clone is full", weight=1, strike=_clone_full)
_add("outbox-full", "the disk of the outbox is full", weight=1, strike=_outbox_full)
_add("clone-removed", "the local clone is removed", weight=1, strike=_clone_removed)
_add("clock-step", "the wall clock is set forward or back", weight=2, strike=_wall_step)
_add("partition", "a machine's requests, its answers, or both are cut off", weight=4, strike=_partition)
_add("flapping", "a machine's line comes and goes", weight=1, strike=_flapping)
_add("slow-node", "a machine is 100 times slower", weight=1, strike=_slow)
_add(
    "mixed-versions",
    "a machine runs a newer version, the others stop and are upgraded later",
    "virtual",
    weight=0.3,
    strike=_newer,
)
_add("store-restored", "a machine's disk is restored from a snapshot", weight=1, strike=_restored)
_add("store-cloned", "a machine is copied and runs twice", weight=0.7, strike=_cloned)
_add("clock-drift", "clocks run up to 1% fast or slow", "virtual")

# ---------------------------------------------------------------- the remote


def _down(world: World, dice: Dice) -> None:
    world.tell("remote: down")
    world.server.down = True
    world.scheduler.at(dice.pick((5.0, 60.0, 2000.0)), lambda: setattr(world.server, "down", False))


def _refusal(world: World, dice: Dice) -> None:
    error = dice.pick(
        (
            LedgerRefused("A hook refused the push."),
            LedgerUnauthorised("The remote is read-only."),
            LedgerNoSpace("The remote's disk is full."),
        )
    )
    world.tell(f"remote: refuses ({error})")
    world.server.refusal = error
    world.scheduler.at(dice.pick((2.0, 30.0, 300.0)), lambda: setattr(world.server, "refusal", None))


def _ref_lock(world: World, dice: Dice) -> None:
    world.server.lock_left = True
    world.scheduler.at(dice.pick((3.0, 60.0, 300.0)), lambda: setattr(world.server, "lock_left", False))


def _rewind(world: World, dice: Dice) -> None:
    """Now and then somebody pushes forward again what was lost."""
    lost = world.rewind(1 + dice.below(5), "remote: is restored")
    if lost:
        world.hit("remote-restored", "remote")
    if lost and dice.chance(0.3):
        tip = world.server.tip
        world.scheduler.at(dice.pick((5.0, 60.0)), lambda: world.put_back(lost, tip))


def _server_power(world: World, dice: Dice) -> None:
    """What was under way there is gone, a ref's lock may stay; what it had not flushed is lost."""
    server = world.server
    world.hit("server-power-loss", "remote")
    world.tell("remote: loses power")
    server.crash({ref for ref in server.beats if dice.chance(0.3)})
    if dice.chance(0.3):
        world.rewind(1 + dice.below(2), "remote: comes up without what it had not flushed")
    server.down, server.lock_left = True, dice.chance(0.5)
    world.scheduler.at(dice.pick((5.0, 60.0)), lambda: setattr(server, "down", False))
    world.scheduler.at(dice.pick((60.0, 300.0)), lambda: setattr(server, "lock_left", False))


def _by_hand(world: World, dice: Dice) -> None:
    """Somebody commits: a note, an older file, nonsense, a merge with the older side, an amended commit,
    an older ledger.json under the message of the tip.
    """
    server, tip = world.server, world.server.tip
    assert tip is not None
    style = dice.pick(("note", "revert", "nonsense", "ours", "amend", "forged", "message"))
    tree = TreeView(server.objects.get, server.commit(tip).tree)
    links = world.checker.links
    older = links[max(0, len(links) - 1 - dice.below(20))].commit
    old = TreeView(server.objects.get, server.commit(older).tree)
    root, objects, parents, message = tree.root, [], [tip], f"by hand: {style}\n"
    path = dice.pick((paths.JOBS, paths.LOCKS, paths.MESSAGES, paths.LEDGER, paths.MAILBOX))
    if style == "note":
        root, objects = write_tree(tree, {f"notes/{dice.below(3)}.txt": b"%d\n" % dice.bits(30)})
    elif style == "revert":
        root, objects = write_tree(tree, {path: old.read(path)})
    elif style == "nonsense":
        root, objects = write_tree(
            tree, {path: dice.pick((b"", b"{", b"<<<<<<< ours\n=======\n>>>>>>> theirs\n"))}
        )
    elif style == "ours":
        root, parents = old.root, [older, tip] if older != tip else [tip]
    elif style in ("amend", "forged"):
        message = server.commit(tip).message
        if style == "forged":
            root, objects = write_tree(tree, {paths.LEDGER: old.read(paths.LEDGER)})
    else:
        messages = world.checker.state.messages
        new = messages.model_copy(update={"messages": [*messages.messages, world.letter(dice)]})
        root, objects = write_tree(tree, {paths.MESSAGES: dump(new)})
    made = make_commit(root, parents, "hand <hand@x.invalid>", dice.bits(30), message)
    server.write([*objects, made])
    world.hit("by-hand", style)
    world.tell(f"remote: {style} of {path} by hand, {made.oid[:8]}")
    server.put(made.oid)
    world.checker.foreign(made.oid)


_add(
    "remote-down", "the remote does not answer, for longer than every lease at times", weight=2, strike=_down
)
_add("refusal", "a hook, a read-only remote or a full disk refuses every push", weight=2, strike=_refusal)
_add("ref-lock-left", "the lock of the remote's ref was left behind", weight=2, strike=_ref_lock)
_add(
    "remote-restored",
    "the remote is restored from a backup, or force-pushed: its tip goes back",
    weight=0.4,
    strike=_rewind,
)
_add(
    "server-power-loss",
    "the server loses power: what it did not flush is gone",
    "virtual",
    weight=0.3,
    strike=_server_power,
)
_add(
    "by-hand",
    "somebody commits by hand: notes, older files, nonsense, merges, amended commits",
    weight=2,
    strike=_by_hand,
)

# What has no meaning above the ref-store port, so only the real layer has it.
for _name, _does in {
    "gc": "`git gc` or a repack runs during a push",
    "server-between-refs": "the server dies between the two refs of an atomic push (of which there is none)",
    "artifact-full": "the disk of the artifacts or logs is full",
}.items():
    _add(_name, _does, "real")

VIRTUAL = tuple(name for name, fault in FAULTS.items() if fault.layers != "real")
AMBUSHES = {name for name, fault in FAULTS.items() if fault.ambush}

"""Who asks what: people and builds, each a program that uses the product's own operations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pipeline.errors import LedgerRewound, OutcomeUnknown, PipelineError, Refused, StoreError
from pipeline.operations import artifacts, epoch, lease, locks, messages, queue
from pipeline.operations import site as sites
from pipeline.operations.attempt import Claimed, run_attempt
from pipeline.operations.recover import recover
from pipeline.operations.site import Site
from pipeline.records.builds import BuildConfig
from tests.simulation.builds import MAKER
from tests.simulation.dice import Dice
from tests.simulation.invariants import Violated, violated
from tests.simulation.node import MachineLock, Node
from tests.simulation.scheduler import Program

if TYPE_CHECKING:
    from tests.simulation.world import World

COMMIT = "c0ffee" * 6 + "abcd"
THINGS = ("promotion", "apt/stable")

Command = Callable[[Node, Program, Site, Dice], None]
COMMANDS: dict[str, Command] = {}


def command(function: Command) -> Command:
    """Registers a command by its function's name, with dashes."""
    COMMANDS[function.__name__.replace("_", "-")] = function
    return function


def run(world: World, node: Node, name: str, dice: Dice) -> None:
    """Starts a command as a program of its own."""

    def body(program: Program) -> None:
        shortest = 2.0 if name == "promote" else 0.0
        guarded(node, program, lambda site: COMMANDS[name](node, program, site, dice), shortest)

    world.commands[name] += 1
    node.start(name, body)


def guarded(node: Node, program: Program, act: Callable[[Site], None], shortest_sleep: float = 0.0) -> None:
    """Lets a program act; what the product raises in its own words ends it, anything else is a defect."""
    world = node.world
    begun, trouble = world.scheduler.now, world.troubles
    try:
        act(node.site(program, shortest_sleep))
    except LedgerRewound as exc:
        world.tell(f"{program.name}: sees that the remote was rewound")
        if not world.rewound:
            violated("no-false-rewind", f"{program.name} was told {exc.message} and nothing was rewound")
        world.repair(node)
    except OutcomeUnknown as exc:
        world.tell(f"{program.name}: has no answer")
        _answered_in_time(node, program, exc, begun, trouble)
    except PipelineError as exc:
        world.refused[type(exc).__name__] += 1
        world.tell(f"{program.name}: {type(exc).__name__}: {exc.message}")
        if isinstance(exc, StoreError) and "left the outbox" in exc.message:
            violated("held-until-taken", f"{program.name}: {exc.message}")
        if isinstance(exc, StoreError) and "cut off" in exc.message:
            world.deepen(node)
    except Violated:
        raise
    except Exception as exc:
        violated("no-defect", f"{program.name} failed at {program.at}: {type(exc).__name__}: {exc}")
        raise


def _answered_in_time(node: Node, program: Program, error: Exception, begun: float, troubles: int) -> None:
    """answered-in-time: with nothing wrong but a leader that stands still, everybody has an answer."""
    world = node.world
    quiet = world.troubles == troubles and world.scheduler.now - begun < 120
    if quiet and not world.troubled(node):
        violated(
            "answered-in-time", f"{program.name} had no answer after {world.scheduler.now - begun:.0f} s"
        )


# ---------------------------------------------------------------- builds


def agent(node: Node, program: Program) -> None:
    """One round of a builder: recover, take the next job, build it, report."""

    def act(site: Site) -> None:
        lock = MachineLock(node, program)
        if not lock.try_hold("{}"):
            return
        found = recover(site, lock=lock)  # type: ignore[arg-type]
        if found.anything:
            node.world.tell(f"{program.name}: {'; '.join(found.lines())}")
        for job in sites.jobs(site.state().view).jobs:
            if job.status == "queued" and job.target in (None, site.builder):
                break
        else:
            if node.world.promoting is not None:
                node.world.promoting.tend(node, site)
            return
        value = site.ask({"kind": "job.claim", "holder": site.holder()}, kind="attached")
        build_claimed(site, value)

    guarded(node, program, act)


@command
def build(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """Orders a job and runs it here."""
    lock = MachineLock(node, program)
    if not lock.try_hold("{}"):
        return
    recover(site, lock=lock)  # type: ignore[arg-type]
    order = {
        "id": f"job_{site.random.op()}",
        "branch": "main",
        "commit": COMMIT,
        "priority": 1 + dice.below(9),
    }
    value = site.ask({"kind": "job.start", **order, "holder": site.holder()}, kind="attached")
    build_claimed(site, value)


def build_claimed(site: Site, value: dict[str, Any]) -> None:
    """The product's attempt at a job that was claimed."""
    job, _ = queue.find(site.state(fresh=False).view, value["job_id"])
    ready: Any = object()
    claimed = Claimed(job, str(value["token"]), int(value["attempt"]), value.get("round"))
    run_attempt(site, claimed, ready)


def prune(node: Node, program: Program, keep: int) -> None:
    """An operator removes what is old, on one machine."""

    def act(site: Site) -> None:
        MAKER.set(program.name)
        gone = artifacts.prune(site, keep=keep, really=True).remove
        if gone:
            node.world.tell(f"{program.name}: removed {', '.join(one.name for one in gone)}")

    guarded(node, program, act)


# ---------------------------------------------------------------- people


def _some_job(site: Site, dice: Dice, *, ended: bool) -> str | None:
    found = [job.id for job in sites.jobs(site.state().view).jobs if job.ended == ended]
    return dice.pick(found[-8:]) if found else None


@command
def order(node: Node, program: Program, site: Site, dice: Dice) -> None:
    names = [builder.name for builder in sites.registry(site.state(fresh=False).view).builders]
    needed = _some_job(site, dice, ended=dice.chance(0.5)) if dice.chance(0.3) else None
    site.ask({
        "kind": "job.create", "id": f"job_{site.random.op()}", "branch": "main", "commit": COMMIT,
        "priority": 1 + dice.below(9), "target": dice.pick(names) if dice.chance(0.2) else None,
        "depends_on": [needed] if needed else [], "maximum_losses": dice.below(4),
        "retries": {"test": dice.below(2)},
    })  # fmt: skip


@command
def cancel(node: Node, program: Program, site: Site, dice: Dice) -> None:
    job = _some_job(site, dice, ended=False)
    if job:
        queue.cancel(site, job)


@command
def retry(node: Node, program: Program, site: Site, dice: Dice) -> None:
    job = _some_job(site, dice, ended=True)
    if job:
        queue.retry(site, job)


@command
def send(node: Node, program: Program, site: Site, dice: Dice) -> None:
    others = [b.name for b in sites.registry(site.state(fresh=False).view).builders if b.name != site.builder]
    count = 1 + 6 * dice.chance(0.1)
    for number in range(count):
        messages.send(site, [dice.pick([*others, "all"])], f"about {number}", "text", type="info")


@command
def read(node: Node, program: Program, site: Site, dice: Dice) -> None:
    found = messages.listed(site, unread=True)
    if found:
        messages.mark(site, [each.id for each in found[:3]], acknowledge=dice.chance(0.5))


@command
def reply(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """An automatic reply, also to what should have none."""
    found = messages.listed(site, limit=10)
    if found:
        message = dice.pick(found)
        to = message.sender if message.sender != site.builder else "all"
        site.ask({
            "kind": "message.send", "id": f"msg_{site.random.op()}", "to": to, "subject": "re", "body": "b",
            "in_reply_to": message.id, "auto": True,
        })  # fmt: skip


@command
def look(node: Node, program: Program, site: Site, dice: Dice) -> None:
    queue.list_jobs(site)
    locks.list_locks(site)


@command
def configure(node: Node, program: Program, site: Site, dice: Dice) -> None:
    config = BuildConfig.model_validate({"note": dice.below(2)})
    site.ask({"kind": "config.set", "config": config.model_dump(mode="json")})


@command
def break_lock(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """An operator breaks a lock, mostly a builder's own."""
    held = [lock for lock in locks.list_locks(site).locks if lock.token]
    if held:
        lock = dice.pick(held)
        locks.break_lock(site, lock.name, lock.token or "")


@command
def promote(node: Node, program: Program, site: Site, dice: Dice) -> None:
    """Work on things outside, under leases."""
    world, outside = node.world, node.world.outside
    names = list(THINGS) if dice.chance(0.3) else [dice.pick(THINGS)]
    ttl = dice.pick((30.0, 60.0, 120.0))
    patience = dice.pick((0.0, 300.0, 3000.0))
    world.waiting[program.name] = program
    program.closers.append(lambda: world.waiting.pop(program.name, None))
    with suppress(Refused), lease.hold(site, names, ttl=ttl, patience=patience) as held:
        world.waiting.pop(program.name, None)
        _work(node, program, site, held, outside, dice)


def _work(node: Node, program: Program, site: Site, held: Any, outside: Any, dice: Dice) -> None:
    for _ in range(dice.pick((1, 3, 6, 30))):
        held.insist()
        works = [outside.begin(name, program, token) for name, token in held.tokens.items()]
        for name, token in held.tokens.items():
            outside.present(name, program, token)
        node.world.watch(node, held, works)
        site.clock.sleep(dice.weighted(((5.0, 0.9), (50.0, 0.08), (400.0, 0.02))))
        over = all(work.over for work in works)
        for work in works:
            outside.end(work)
        if over:
            return


# ---------------------------------------------------------------- the operator after a rewind


def repair(node: Node, program: Program) -> None:
    """Goes on from the remote's tip, as an operator who was told what is missing decides."""

    def act(site: Site) -> None:
        seen = site.ledger.store.tip()
        if seen is not None:
            with suppress(LedgerRewound):
                site.state()
                return
            raised = epoch.raise_epoch(site, seen)
            node.world.tell(f"{program.name}: epoch {raised.epoch}, {'joined' if raised.joined else 'begun'}")

    guarded(node, program, act)
    node.repairing = False

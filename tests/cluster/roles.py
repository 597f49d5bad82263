"""What the workers of the real cluster do, over and over: write, build, hold locks, run programs under them.

A writer asks as much as it can, mostly what costs one entry and no look. The rarer commands are those of the
virtual cluster (`tests.simulation.actors`), word for word.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from pipeline.edge.machine_lock import MachineLock
from pipeline.errors import LeaseHeld, PipelineError, Refused
from pipeline.operations import guarded, lease
from pipeline.operations import site as sites
from pipeline.operations.recover import recover
from pipeline.records import paths
from pipeline.records.messages import Messages
from tests.cluster.tiny import BRANCH, ROOT
from tests.cluster.worker import Worker
from tests.simulation import actors

THINGS = ("promotion", "apt/stable")
#: A short lease: it is trusted for two seconds, and taken over after nine of silence.
TTL = 4.0
PATIENCE = 10.0
_OPEN_JOBS = 12
_RARE = ("cancel", "retry", "read", "reply", "look", "configure", "break-lock", "order")

_WORK = """
import os, signal, sys, time
journal, lock, seconds = sys.argv[1:]
token = os.environ["PIPELINE_LOCK_TOKEN"]
signal.signal(signal.SIGTERM, signal.SIG_IGN)
handle = os.open(journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
until = time.monotonic() + float(seconds)
while time.monotonic() < until:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    os.write(handle, b'{"is": "work", "t": %.4f, "lock": "%s", "token": "%s", "guarded": true}\\n'
             % (now, lock.encode(), token.encode()))
    time.sleep(0.05)
"""

Role = Callable[[Worker], None]


def run(worker: Worker, role: str) -> None:
    """Plays a role until the controller says that it is enough."""
    play = ROLES[role]
    while not worker.finishing:
        worker.guarded(lambda: play(worker))
    worker.step("between")


# ---------------------------------------------------------------- writers


def _beside_builds() -> bool:
    """Says whether real builds run on this machine too."""
    return "CLUSTER_BUILDS" in os.environ


def write(worker: Worker) -> None:
    """Asks for one thing."""
    dice, site = worker.dice, worker.site
    # Real builds find no gap between the pushes of writers who never wait.
    worker.pause(0.4 * dice.fraction() if _beside_builds() else 0.0)
    name = dice.weighted((("send", 0.80), ("start", 0.06), ("mark", 0.06), ("rare", 0.08)))
    if name == "send":
        others = [b.name for b in sites.registry(site.state(fresh=False).view).builders]
        to = dice.pick([each for each in others if each != site.builder] or ["all"])
        if dice.chance(0.08):
            to = dice.pick(("all", "nobody", site.builder))  # the last two are refused
        site.ask(
            {
                "kind": "message.send",
                "id": f"msg_{site.random.op()}",
                "to": to,
                "subject": "about",
                "body": "branch ExternalNew, commit 0123456789, 8 packages\n" * (1 + dice.below(4)),
            }
        )
    elif name == "start" and not _beside_builds():
        jobs = sites.jobs(site.state(fresh=False).view).jobs
        if sum(not job.ended for job in jobs) < _OPEN_JOBS:
            site.ask(
                {
                    "kind": "job.create",
                    "id": f"job_{site.random.op()}",
                    "branch": "main",
                    "commit": actors.COMMIT,
                    "priority": 1 + dice.below(9),
                    "maximum_losses": 3,
                    "retries": {"test": dice.below(2)},
                }
            )
    elif name == "rare":
        _rare(worker)
    else:
        _mark(worker)


def _mark(worker: Worker) -> None:
    site, dice = worker.site, worker.dice
    view = site.state(fresh=False).view
    live = sites.record(view, Messages, paths.MESSAGES).messages[-30:]
    mine = [m.id for m in live if site.builder in m.recipients and site.builder not in m.read_by]
    if mine:
        kind = "message.ack" if dice.chance(0.5) else "message.read"
        site.ask({"kind": kind, "ids": mine[: 1 + dice.below(4)]})


def _rare(worker: Worker) -> None:
    name = worker.dice.pick(_RARE)
    if name == "order" and sum(not j.ended for j in sites.jobs(worker.site.state().view).jobs) >= _OPEN_JOBS:
        return
    # These commands use nothing of a virtual machine but its site.
    actors.COMMANDS[name](None, None, worker.site, worker.dice)  # type: ignore[arg-type]


# ---------------------------------------------------------------- builders


def build(worker: Worker) -> None:
    """One round of a builder: recover, take the next job, build it for a moment, report."""
    site, dice = worker.site, worker.dice
    lock = MachineLock(site.settings.machine_lock)
    if not lock.try_hold("{}"):
        worker.pause(0.2)
        return
    try:
        worker.step("recovers")
        recover(site, lock=lock)
        waiting = [j for j in sites.jobs(site.state(fresh=False).view).jobs if j.status == "queued"]
        if not any(job.target in (None, site.builder) for job in waiting):
            worker.pause(0.1 + 0.2 * dice.fraction())
            return
        for _ in range(4):
            if not _build_next(worker):
                return
    finally:
        lock.release()
        if _beside_builds():  # real builds want the machine, too, and their own jobs
            worker.pause(2.0 + 2.0 * dice.fraction())


def _build_next(worker: Worker) -> bool:
    site, dice = worker.site, worker.dice
    try:
        value = site.ask({"kind": "job.claim", "holder": site.holder()}, kind="attached")
    except Refused:
        return False
    job_id, token = value["job_id"], str(value["token"])
    worker.step("builds")
    reason = None
    if dice.chance(0.2):
        heart = site.make_heart(job_id, token, lambda: {"stage": "maven"})
        with suppress(PipelineError):
            heart.beat()
        reason = heart.reason
        heart._pulse.stop(token)
    time.sleep(dice.around(dice.pick((0.005, 0.02, 0.1))))
    worker.step("builds")
    outcome = "cancelled" if reason else dice.pick(("succeeded", "succeeded", "failed"))
    request = {
        "kind": "job.complete",
        "builder": site.builder,
        "job_id": job_id,
        "token": token,
        "outcome": outcome,
        "duration_seconds": 0.1,
        "failure": {"class": "test", "message": "a test failed"} if outcome == "failed" else None,
    }
    site.ledger.transact(request, payloads={"log": b"built\n"}, patience=PATIENCE)
    return True


# ---------------------------------------------------------------- locks


def hold(worker: Worker) -> None:
    """Works under locks: whatever is noted was done at a moment at which the lease was trusted."""
    site, dice = worker.site, worker.dice
    names = list(THINGS) if dice.chance(0.3) else [dice.pick(THINGS)]
    # Who is ready to wait for ever waits for the dead, too: for longer than a short run lasts.
    patience = dice.pick((0.0, 5.0, None) if os.environ["CLUSTER_PATIENT"] else (0.0, 1.0))
    if worker.mutant == "works-on":
        names, patience = list(THINGS), None  # somebody always waits for whoever is stopped
    worker.step("waits")
    with suppress(LeaseHeld), lease.hold(site, names, ttl=TTL, patience=patience) as held:
        for _ in range(dice.pick((1, 5, 40))):
            worker.step("works")
            now = site.clock.boottime()  # before it is asked whether the lease can be trusted: now it can
            if worker.mutant != "works-on":  # work goes on although the lease was lost
                held.insist()
            else:
                now = site.clock.boottime()
            for name, token in held.tokens.items():
                worker.note("work", at=now, lock=name, token=token)
            time.sleep(0.03)
    worker.pause(0.3 * dice.fraction())


def guard(worker: Worker) -> None:
    """`lock.run`: a program under a lease, ended by a watchdog of its own."""
    site, dice = worker.site, worker.dice
    name = dice.pick(THINGS)
    seconds = f"{dice.pick((0.2, 1.0, 4.0))}"
    wait = dice.pick((0.0, 10.0 if os.environ["CLUSTER_PATIENT"] else 1.0))
    command = [sys.executable, "-S", "-c", _WORK, os.environ["CLUSTER_JOURNAL"], name, seconds]
    order = guarded.Order([name], command, ttl=guarded.SHORTEST_TTL, wait=wait)
    worker.step("waits")
    with suppress(LeaseHeld):
        guarded.run(site, order, os.environ)
    worker.pause(0.5 * dice.fraction())


def invoke(worker: Worker) -> None:
    """A real `invoke build` of a recipe that takes a second. This process becomes it: kills strike it."""
    worker.pause(worker.dice.fraction())
    if worker.finishing:
        return
    worker.step("invokes")
    os.chdir(ROOT)
    words = [sys.executable, "-m", "invoke", "build", "--branch", BRANCH, "--json"]
    os.execve(sys.executable, words, os.environ)


ROLES: dict[str, Role] = {"write": write, "build": build, "hold": hold, "guard": guard, "invoke": invoke}

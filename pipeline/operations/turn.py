"""Whose turn it is on a busy machine: the place in the queue decides, not who looks at the right moment.

    1. the job is in the queue; the process sits down in the waiting room beside the machine's lock
    2. every half second: is the job still queued? who waits with a better place?
    3. nobody does, and the lock is free: it is ours

Guarantees: of the living waiters of one ledger the most urgent job goes first, of equals the one that was
committed first; a waiter that was killed is not waited for, one that is stopped for `SILENT_SECONDS` at most.
Non-guarantee: waiters of different ledgers know nothing of each other's commits; between them priority
decides, and then who came first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.edge.machine_lock import MachineLock
from pipeline.edge.waiting_room import Waiter, WaitingRoom
from pipeline.errors import Interrupted, LedgerUnreachable, MachineBusy, Refused
from pipeline.operations import site as sites
from pipeline.operations.queue import find
from pipeline.operations.site import Site
from pipeline.records.jobs import Job

LOOK_SECONDS = 0.5
#: So often the ledger's remote is asked whether the job was cancelled; in between, this machine's own look.
ASK_SECONDS = 5.0


def ahead(me: Waiter, others: Sequence[Waiter], order: Sequence[str]) -> int:
    """Returns how many of the others are served before `me`. PURE. `order`: this ledger's jobs as committed.

    Each looks at the room with its own view of the ledger. A job that is not in it yet was committed later
    than everything that is, so whoever is first in truth sees nobody before itself: somebody always goes.
    """
    known = {job_id: at for at, job_id in enumerate(order)}
    mine = [me, *(each for each in others if each.queue == me.queue)]
    ranked = sorted(mine, key=lambda w: (w.priority, known.get(w.job_id, len(known)), w.since, w.id))
    # Between ledgers the claims of a whole queue count, the best of them for its first: so all agree.
    claims = sorted((w.priority, w.since, w.id) for w in mine)
    before = ranked.index(me)
    foreign = [each for each in others if each.queue != me.queue]
    return before + sum((w.priority, w.since, w.id) < claims[before] for w in foreign)


def wait(
    site: Site,
    lock: MachineLock,
    me: Waiter,
    note: str,
    *,
    patience: float | None,
    interrupted: Callable[[], str | None],
) -> Job:
    """Waits until it is this job's turn and the machine is free, or until the job has ended; returns it.

    The lock is held if and only if the job is queued still. Says its place whenever that changes. Raises
    MachineBusy after `patience` seconds (None: never), Refused when another process runs the job,
    Interrupted when `interrupted` gives a reason.
    """
    room = WaitingRoom(lock.place)
    until = None if patience is None else site.clock.boottime() + patience
    said, asked, away = -1, site.clock.boottime(), False
    with room.entered(me) as seat:
        while True:
            now = site.clock.boottime()
            seat.show_life(now)
            if (reason := interrupted()) is not None:
                raise Interrupted(f"{reason[0].upper()}{reason[1:]}.")
            if now - asked >= ASK_SECONDS:
                asked, away = now, not _ask(site, away)
            view = site.state(fresh=False).view
            job, _ = find(view, me.job_id)
            if job.status != "queued":
                return _ended(job)
            others = [each for each in room.waiters(now) if each.id != me.id]
            before = ahead(me, others, [each.id for each in sites.jobs(view).jobs])
            if before == 0 and lock.try_hold(note):
                return job
            if before != said:
                # The build that runs is before it, too.
                site.say(f"{me.job_id} waits; {before + 1} before it.")
                said = before
            if until is not None and now >= until:
                raise MachineBusy(
                    f"The machine was busy for {patience:g} s. {me.job_id} stays in the queue.",
                    remedy="`invoke work --once` runs it; `invoke job.cancel` takes it back.",
                )
            site.clock.sleep(LOOK_SECONDS)


def _ask(site: Site, away: bool) -> bool:
    """Reads the remote; False where it does not answer, which is said once. Waiting goes on without it."""
    try:
        site.state()
    except LedgerUnreachable as exc:
        if not away:
            site.say(f"The ledger does not answer; still waiting for the machine. {exc.message}")
        return False
    return True


def _ended(job: Job) -> Job:
    if job.status == "running":
        raise Refused(
            f"{job.id} is run by another process already, on {job.assigned_to} (attempt {job.attempt}).",
            reason="taken",
            remedy=f"`invoke job.show {job.id}` tells how it goes.",
        )
    return job

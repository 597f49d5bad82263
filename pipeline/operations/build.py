"""The main job: a branch becomes verified packages, and every step of it stands in the ledger.

    recover -> resolve and check (nothing recorded yet) -> hold the machine -> claim (ONE commit)
            -> build -> keep the artifacts -> complete (ONE commit)

Whatever happens in between, the job ends in exactly one terminal state: here, or by whoever recovers.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from pipeline.edge.machine_lock import MachineLock
from pipeline.edge.waiting_room import Waiter, WaitingRoom
from pipeline.errors import (
    Interrupted,
    LedgerError,
    MachineBusy,
    PipelineError,
    Refused,
)
from pipeline.operations import site as sites
from pipeline.operations import waiting
from pipeline.operations.attempt import Claimed, Interruption, run_attempt, wanted_of
from pipeline.operations.conditions import needed
from pipeline.operations.environments import stated
from pipeline.operations.ordering import (
    Order,
    new_job_id,
    order_elsewhere,
    planned,
    queue,
    request_for,
    say_if_alone,
    wanted_by,
)
from pipeline.operations.prepare import Prepared, Wanted, prepare
from pipeline.operations.queue import find
from pipeline.operations.recover import recover
from pipeline.operations.report import Report
from pipeline.operations.rivals import busy_elsewhere
from pipeline.operations.site import Site
from pipeline.operations.turn import wait
from pipeline.records.base import dump_json
from pipeline.records.jobs import Job

#: So long the ledger is waited for by somebody who has pressed Ctrl-C.
_TAKE_BACK_SECONDS = 5.0


def build(site: Site, order: Order) -> list[Report]:
    """Builds a branch here, or orders it on other builders (`on`), or runs a `job` that was ordered for here.

    Raises what refuses the build before anything is recorded (SourceError, PreflightFailed, ConfigInvalid,
    MachineBusy, StoreCloned), NotReported for a build whose result waits in the outbox, and LedgerError.
    """
    wanted = wanted_of(find(site.state().view, order.job)[0]) if order.job else wanted_by(site, order)
    if order.on and order.on != site.builder:
        order = replace(order, after=tuple(job.id for job in needed(site, order.after)))
        return order_elsewhere(site, order, wanted)
    _announce(site, wanted)
    if order.job is None:
        say_if_alone(site, wanted.branch)
    lock = MachineLock(site.settings.machine_lock)
    recover(site, quiet=True)
    before = needed(site, order.after)
    order = replace(order, after=tuple(job.id for job in before))
    prepared = prepare(site, wanted)
    if order.dry_run:
        site.say("Everything that can be checked is in order.")
        return [planned(site.builder, wanted, prepared, order)]
    if any(not job.ended for job in before):
        return [queue(site, order, wanted, prepared, site.builder)]
    job_id = order.job or new_job_id(site)
    try:
        queued = _hold_machine(site, lock, order, wanted, prepared, job_id)
        if queued is not None and queued.ended:
            return [_ended(site, queued)]
        if queued is not None:
            recover(site, lock=lock, quiet=True)  # whoever held the machine may have been killed
        try:
            claimed = _claim(site, order, wanted, prepared, job_id, queued)
        except Refused as exc:
            if exc.reason != "ended" or (queued is None and order.job is None):
                raise
            return [_ended(site, find(site.state(fresh=False).view, job_id)[0])]
        waiting.forget(site, job_id)
        return [_attempts(site, claimed, prepared)]
    finally:
        lock.release()
        waiting.forget(site, job_id)
        with suppress(PipelineError):
            site.ledger.maintain()  # costs nothing unless it is due


def _attempts(site: Site, claimed: Claimed, prepared: Prepared | None) -> Report:
    """Runs attempts until the job has ended, or is somebody else's; returns the last report.

    A failure of a class that is tried again puts the job back into the queue, in the same commit.
    """
    while True:
        report = run_attempt(site, claimed, prepared)
        if report.status != "queued":
            return report
        kind = report.failure.failure_class if report.failure else "unknown"
        site.say(f"Attempt {report.attempt} of {report.job_id} failed ({kind}): it is tried again.")
        try:
            value = site.ask(
                {"kind": "job.claim", "job_id": report.job_id, "holder": site.holder()}, kind="attached"
            )
        except Refused as exc:
            site.say(f"Not tried again here: {exc.message}")
            return report
        job, _ = find(site.state(fresh=False).view, report.job_id)
        claimed = Claimed(job, str(value["token"]), int(value["attempt"]), value.get("round"))


def work_once(site: Site) -> list[Report]:
    """Takes the next job that this builder may run, and runs it; none is an empty list."""
    lock = MachineLock(site.settings.machine_lock)
    recover(site, quiet=True)
    view = site.state().view
    fitting = [j for j in sites.jobs(view).jobs if j.status == "queued" and j.target in (None, site.builder)]
    if not fitting:
        return []
    if _waiters(site) or not lock.try_hold(_note(site, "work")):
        raise _busy(site, lock)
    try:
        value = site.ask({"kind": "job.claim", "holder": site.holder()}, kind="attached")
        job, _ = find(site.state(fresh=False).view, value["job_id"])
        claimed = Claimed(job, str(value["token"]), int(value["attempt"]), value.get("round"))
        return [_attempts(site, claimed, None)]
    except Refused as exc:
        if exc.reason == "nothing-to-do":
            return []
        raise busy_elsewhere(site, exc) from exc
    finally:
        lock.release()
        with suppress(PipelineError):
            site.ledger.maintain()  # costs nothing unless it is due


def _announce(site: Site, wanted: Wanted) -> None:
    if site.settings.embedded and wanted.source is None:
        site.say(
            "This is the embedded sample. For CloudStack itself: --source <repository>, or set "
            "`cloudstack.repository` in the ledger's shared/build_config.json."
        )


def _hold_machine(
    site: Site, lock: MachineLock, order: Order, wanted: Wanted, prepared: Prepared, job_id: str
) -> Job | None:
    """Takes the machine's lock; where others have it or wait for it, queues the job and waits its turn.

    Returns the job that waited, or None if nothing had to wait. One that was cancelled meanwhile has ended,
    and the lock is not held then. Raises MachineBusy when the patience of `--wait` is over: with 0 nothing
    was recorded, otherwise the job stays in the queue. Raises Interrupted for a signal: the job is cancelled,
    unless somebody had ordered it before.
    """
    note = _note(site, wanted.branch)
    if not _waiters(site) and lock.try_hold(note):
        return None
    if order.wait_seconds == 0:
        raise _busy(site, lock)
    stop = Interruption()
    try:
        with stop.listening():
            waiting.note(site, job_id)
            if order.job is None:
                request = request_for(site, wanted, prepared, job_id, order, site.builder)
                site.ask({"kind": "job.create", **request})
            site.say("This machine is building already.")
            me = Waiter(
                id=site.random.hex(),
                queue=waiting.ledger_name(site),
                job_id=job_id,
                priority=order.priority,
                since=site.clock.boottime(),
                builder=site.builder,
            )
            return wait(site, lock, me, note, patience=order.wait_seconds, interrupted=stop.reason)
    except (Interrupted, KeyboardInterrupt) as exc:
        if order.job is None:
            _take_back(site, job_id)
        raise exc if isinstance(exc, Interrupted) else Interrupted("Interrupted.") from exc


def _take_back(site: Site, job_id: str) -> None:
    """Cancels a job that nobody waits for any more; if the ledger is away, the next command does."""
    site.say(f"{job_id} is taken back.")
    try:
        request = {"kind": "job.cancel", "job_id": job_id, "reason": "interrupted while it waited"}
        site.ask(request, patience=min(_TAKE_BACK_SECONDS, site.settings.patience_seconds))
    except LedgerError as exc:
        site.say(f"Not cancelled yet, the next command does it: {exc.message}")


def _ended(site: Site, job: Job) -> Report:
    """Returns the report of a job that was ended while it waited."""
    ending: Any = job.outcome
    return Report(job.id, ending, job.branch, job.commit, site.builder, failure=job.failure)


def _claim(
    site: Site, order: Order, wanted: Wanted, prepared: Prepared, job_id: str, queued: Job | None
) -> Claimed:
    """Claim, attempt, token, the builder's lock and status `building`: one commit."""
    if queued is None and order.job is None:
        ordered = request_for(site, wanted, prepared, job_id, order, site.builder)
        request = {"kind": "job.start", **ordered}
    else:
        request = {"kind": "job.claim", "job_id": job_id}
    facts = {"system": prepared.system, "toolchain": prepared.fingerprint, **stated(prepared.environment)}
    try:
        value = site.ask({**request, "holder": site.holder(), "facts": facts}, kind="attached")
    except Refused as exc:
        raise busy_elsewhere(site, exc) from exc
    job, _ = find(site.state(fresh=False).view, value["job_id"])
    return Claimed(job, str(value["token"]), int(value["attempt"]), value.get("round"))


def _note(site: Site, what: str) -> str:
    return dump_json({"builder": site.builder, "process": site.processes.myself(), "for": what}).decode()


def _waiters(site: Site) -> list[Waiter]:
    """Returns who waits for this machine now: nobody takes it out of turn."""
    return WaitingRoom(site.settings.machine_lock).waiters(site.clock.boottime())


def _busy(site: Site, lock: MachineLock) -> MachineBusy:
    held = lock.holder()
    # A note outlives who wrote it where it cannot be written anew.
    lives = site.processes.alive(held.get("process", ""))
    whose = f" ({held.get('builder')}, {held.get('for')})" if lives else ""
    return MachineBusy(
        f"Another build runs on this machine{whose}, or waits for it.",
        remedy="Wait with --wait, or see `invoke status`.",
    )


__all__ = ["Order", "Report", "build", "work_once"]

"""The main job: a branch becomes verified packages, and every step of it stands in the ledger.

    recover -> resolve and check (nothing recorded yet) -> hold the machine -> claim (ONE commit)
            -> build -> keep the artifacts -> complete (ONE commit)

Whatever happens in between, the job ends in exactly one terminal state: here, or by whoever recovers.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.edge.credentials import split_credentials
from pipeline.edge.machine_lock import MachineLock
from pipeline.edge.waiting_room import Waiter, WaitingRoom
from pipeline.errors import (
    Interrupted,
    LedgerError,
    MachineBusy,
    PipelineError,
    Refused,
    SecretRefused,
    UsageError,
)
from pipeline.operations import site as sites
from pipeline.operations import waiting
from pipeline.operations.attempt import Claimed, Interruption, run_attempt
from pipeline.operations.conditions import needed
from pipeline.operations.environments import stated
from pipeline.operations.prepare import Prepared, Wanted, prepare
from pipeline.operations.queue import find
from pipeline.operations.recover import recover
from pipeline.operations.report import Report
from pipeline.operations.rivals import busy_elsewhere
from pipeline.operations.site import Site
from pipeline.operations.turn import wait
from pipeline.records.base import dump_json
from pipeline.records.jobs import Job
from pipeline.records.names import check_name

#: So long the ledger is waited for by somebody who has pressed Ctrl-C.
_TAKE_BACK_SECONDS = 5.0


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line. `on` is a builder, `all`, `any`, or None for this machine.

    `after` are jobs that have to succeed first; `retries` maps a failure class to its number of retries.
    """

    branch: str
    commit: str | None = None
    source: str | None = None
    on: str | None = None
    priority: int = 5
    timeout_minutes: int | None = None
    wait_seconds: float | None = None
    packages: bool = True
    keep_going: bool = False
    recipe: str | None = None
    dry_run: bool = False
    after: tuple[str, ...] = ()
    retries: Mapping[str, int] = field(default_factory=dict)


def build(site: Site, order: Order) -> list[Report]:
    """Builds a branch here, or orders it on other builders (`on`).

    Raises what refuses the build before anything is recorded (SourceError, PreflightFailed, ConfigInvalid,
    MachineBusy, StoreCloned), NotReported for a build whose result waits in the outbox, and LedgerError.
    """
    wanted = _wanted(site, order)
    if order.on and order.on != site.builder:
        order = replace(order, after=tuple(job.id for job in needed(site, order.after)))
        return _order_elsewhere(site, order, wanted)
    _announce(site, wanted)
    lock = MachineLock(site.settings.machine_lock)
    recover(site, quiet=True)
    before = needed(site, order.after)
    order = replace(order, after=tuple(job.id for job in before))
    prepared = prepare(site, wanted)
    if order.dry_run:
        site.say("Everything that can be checked is in order.")
        return [_planned(site.builder, wanted, prepared, order)]
    if any(not job.ended for job in before):
        return [_queue(site, order, wanted, prepared, site.builder)]
    job_id = new_job_id(site)
    try:
        queued = _hold_machine(site, lock, order, wanted, prepared, job_id)
        if queued is not None and queued.ended:
            return [_ended(site, queued)]
        if queued is not None:
            recover(site, lock=lock, quiet=True)  # whoever held the machine may have been killed
        try:
            claimed = _claim(site, order, wanted, prepared, job_id, queued)
        except Refused as exc:
            if queued is None or exc.reason != "ended":
                raise
            return [_ended(site, find(site.state(fresh=False).view, queued.id)[0])]
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


def _wanted(site: Site, order: Order) -> Wanted:
    if not order.branch:
        raise UsageError("Which branch?", remedy="`invoke build --branch ExternalNew`")
    if not 1 <= order.priority <= 9:
        raise UsageError(f"{order.priority} is no priority.", remedy="1 is the most urgent, 9 the least.")
    if order.timeout_minutes is not None and order.timeout_minutes < 1:
        raise UsageError(
            f"{order.timeout_minutes} minutes is no timeout.",
            remedy="Give 1 or more, or leave --timeout out: then the recipe's counts.",
        )
    if order.wait_seconds is not None and order.wait_seconds < 0:
        raise UsageError(
            f"{order.wait_seconds:g} seconds cannot be waited.", remedy="Give 0 or more, or leave --wait out."
        )
    return Wanted(
        branch=check_name("branch", order.branch),
        commit=order.commit or None,
        source=order.source or site.settings.source,
        recipe=_whole(order.recipe) or site.settings.recipe,
        packages=order.packages,
        keep_going=order.keep_going,
        timeout_seconds=order.timeout_minutes * 60 if order.timeout_minutes else None,
        resume_from=None,
    )


def _whole(recipe: str | None) -> str | None:
    """Returns a recipe file's whole path: whoever runs the job later may start in another directory."""
    return str(Path(recipe).absolute()) if recipe and Path(recipe).is_file() else recipe


def _announce(site: Site, wanted: Wanted) -> None:
    if site.settings.embedded and wanted.source is None:
        site.say(
            "This is the embedded sample. For CloudStack itself: --source <repository>, or set "
            "`cloudstack.repository` in the ledger's shared/build_config.json."
        )


def _request(
    site: Site, wanted: Wanted, prepared: Prepared, job_id: str, order: Order, target: str | None
) -> dict[str, Any]:
    """Returns an order. Its `target` stays when it is lost or tried again: each builder builds for itself."""
    return {
        "id": job_id,
        "priority": order.priority,
        "branch": wanted.branch,
        "commit": prepared.resolved.commit,
        "target": target,
        "source": prepared.recipe.source,
        "requested_by": site.builder,
        "options": wanted.options(),
        "timeout_seconds": prepared.recipe.timeout_seconds,
        "depends_on": list(order.after),
        "retries": dict(order.retries),
    }


def _hold_machine(
    site: Site, lock: MachineLock, order: Order, wanted: Wanted, prepared: Prepared, job_id: str
) -> Job | None:
    """Takes the machine's lock; where others have it or wait for it, queues the job and waits its turn.

    Returns the job that waited, or None if nothing had to wait. One that was cancelled meanwhile has ended,
    and the lock is not held then. Raises MachineBusy when the patience of `--wait` is over: with 0 nothing
    was recorded, otherwise the job stays in the queue. Raises Interrupted for a signal: the job is cancelled.
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
            request = _request(site, wanted, prepared, job_id, order, site.builder)
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
    if queued is None:
        ordered = _request(site, wanted, prepared, job_id, order, site.builder)
        request = {"kind": "job.start", **ordered}
    else:
        request = {"kind": "job.claim", "job_id": queued.id}
    facts = {"system": prepared.system, "toolchain": prepared.fingerprint, **stated(prepared.environment)}
    try:
        value = site.ask({**request, "holder": site.holder(), "facts": facts}, kind="attached")
    except Refused as exc:
        raise busy_elsewhere(site, exc) from exc
    job, _ = find(site.state(fresh=False).view, value["job_id"])
    return Claimed(job, str(value["token"]), int(value["attempt"]), value.get("round"))


def _order_elsewhere(site: Site, order: Order, wanted: Wanted) -> list[Report]:
    """Puts the job into the queue for one builder, for whichever is first, or one each for all that build."""
    if order.source and (access := split_credentials(order.source)).is_secret:
        raise SecretRefused("source", 1, "url_credentials", access.address)
    known = sites.registry(site.state().view).builders
    targets: list[str | None] = [b.name for b in known if b.builds] if order.on == "all" else [None]
    if order.on not in ("all", "any"):
        targets = [check_name("builder", order.on or "")]
        if targets[0] not in [b.name for b in known]:
            raise Refused(
                f"No builder `{targets[0]}` is registered.",
                reason="unknown-builder",
                remedy=f"Use one of: {', '.join(b.name for b in known)}.",
            )
    prepared = prepare(site, wanted, check=False)
    if order.dry_run:
        names = " and ".join(target or "any builder" for target in targets)
        site.say(f"Note: whether {names} can build it only shows there.")
        return [_planned(target or "any builder", wanted, prepared, order) for target in targets]
    if wanted.recipe and "/" in wanted.recipe:
        site.say(f"Note: the recipe {wanted.recipe} is read there, from that machine's own disk.")
    return [_queue(site, order, wanted, prepared, target) for target in targets]


def _queue(site: Site, order: Order, wanted: Wanted, prepared: Prepared, target: str | None) -> Report:
    """Puts a job into the queue that somebody's `work` runs when its time has come."""
    request = _request(site, wanted, prepared, new_job_id(site), order, target)
    value = site.ask({"kind": "job.create", **request})
    return Report(
        str(value["job_id"]),
        "queued",
        wanted.branch,
        prepared.resolved.commit,
        target or "any builder",
        depends_on=list(order.after),
        retries=dict(order.retries),
    )


def _planned(builder: str, wanted: Wanted, prepared: Prepared, order: Order) -> Report:
    return Report(
        "",
        "planned",
        wanted.branch,
        prepared.resolved.commit,
        builder,
        recipe=prepared.recipe,
        depends_on=list(order.after),
        retries=dict(order.retries),
    )


def new_job_id(site: Site) -> str:
    """Returns a random id that sorts by time."""
    return f"job_{site.random.op()}"


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

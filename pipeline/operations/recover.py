"""After a crash: find what is left, end it, report what was built, give back what was lost. In this order.

    1. the machine's lock: whoever holds it is building, and nothing of his is touched
    2. end every process that a dead pipeline left running
    3. drain the outbox to its end: a result may be waiting in it
    4. a report that was kept but never sent is sent now
    5. what was committed to is revealed, where all of its round have committed
    6. only then: requeue the claims of dead processes, by exact token, and rescue those of silent builders

While step 3 fails nothing is requeued: a requeue that overtakes a result would throw a good build away.
Only claims made on THIS machine are judged; a builder's name used elsewhere proves nothing about a process.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.builds.artifact_sets import leftovers as artifact_leftovers
from pipeline.builds.workspace import Workspace, clear, leftovers, remove
from pipeline.edge.machine_lock import MachineLock
from pipeline.edge.survivors import find_survivors, kill_survivors, read_journal
from pipeline.errors import Fenced, LedgerUnreachable, RecordInvalid
from pipeline.operations import journal, waiting
from pipeline.operations import site as sites
from pipeline.operations.guarded import end_leftovers
from pipeline.operations.journal import AttemptRecord
from pipeline.operations.queue import waiting as where
from pipeline.operations.rescue import rescue
from pipeline.operations.rivals import REMEDY, Rival, look_for_rival
from pipeline.operations.secret import reveal_ready
from pipeline.operations.site import Site
from pipeline.records import paths
from pipeline.records.jobs import Job

_KEPT_FOLDERS = 2


@dataclass
class Recovery:
    """What was found and what was done about it. `waits` says of what was put back who may run it."""

    busy: bool = False
    ended_processes: int = 0
    unkillable: list[int] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    revealed: list[str] = field(default_factory=list)
    requeued: list[str] = field(default_factory=list)
    rescued: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    rival: Rival | None = None
    damaged: list[str] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Says whether there was anything to recover."""
        return bool(
            self.ended_processes
            or self.delivered
            or self.reported
            or self.revealed
            or self.requeued
            or self.rescued
            or self.elsewhere
            or self.damaged
            or self.abandoned
        )

    def lines(self) -> list[str]:
        """Returns the story in sentences."""
        told = []
        if self.busy:
            told.append("A build runs on this machine; nothing of it was touched.")
        if self.ended_processes:
            told.append(f"Ended {self.ended_processes} processes that a dead pipeline had left running.")
        told += [f"Process {pid} could not be ended." for pid in self.unkillable]
        told += [f"Delivered from the outbox: {what}." for what in self.delivered]
        told += [f"Reported the finished build of {job}." for job in self.reported]
        told += [f"Revealed what was built as {job}: all have committed." for job in self.revealed]
        told += [f"Put {job} back: its process is dead." for job in self.requeued]
        told += [f"Put {job} back: its builder has been silent for too long." for job in self.rescued]
        told += self.waits
        told += [
            f"Left {job} alone: it runs on another machine under this builder's name."
            for job in self.elsewhere
        ]
        told += [f"A kept report cannot be read, its build is lost: {what}." for what in self.damaged]
        told += [waiting.told_of(job) for job in self.abandoned]
        return told or ["Nothing to recover."]


def recover(site: Site, *, lock: MachineLock | None = None, quiet: bool = False) -> Recovery:
    """Recovers this builder. `lock` is the machine's lock if the caller holds it already.

    `quiet` says only what was found. Raises LedgerError where the remote cannot be read: then nothing
    was requeued.
    """
    found = Recovery()
    mine = lock or MachineLock(site.settings.machine_lock)
    if not mine.try_hold("{}"):
        found.busy = True
        _deliver(site, found)
        _look_round(site, found)
        _reveal(site, found)
        _look_for_abandoned(site, found)
        return found
    try:
        _end_processes(site, found)
        _deliver(site, found)
        _look_round(site, found)
        _report_kept(site, found)
        _reveal(site, found)
        _requeue(site, found)
        found.rescued += rescue(site)
        _look_for_abandoned(site, found)
        _say_who_runs(site, found)
        _tidy(site, found)
    finally:
        if lock is None:
            mine.release()
    if quiet and found.anything:
        for line in found.lines():
            site.say(line)
    return found


def _end_processes(site: Site, found: Recovery) -> None:
    for folder in leftovers(site.settings.work):
        tree = read_journal(Workspace(folder, fixed=False).journal)
        if tree is None:
            continue
        left = find_survivors(tree)
        if left:
            found.ended_processes += len(left)
            found.unkillable += kill_survivors(tree)
    found.ended_processes += end_leftovers(site)


def _deliver(site: Site, found: Recovery) -> None:
    for entry in site.ledger.deliver(site.settings.patience_seconds):
        about = entry.request.get("job_id") or entry.request.get("subject") or ""
        found.delivered.append(f"{entry.request.get('kind')} {about}".strip())


def _look_round(site: Site, found: Recovery) -> None:
    with contextlib.suppress(LedgerUnreachable):  # nobody to look for now, and nothing depends on it
        site.state()
        found.rival = look_for_rival(site)
    if found.rival is not None:
        site.say(f"{found.rival.words(site.builder)} {REMEDY}")


def _look_for_abandoned(site: Site, found: Recovery) -> None:
    """Finds what a killed command has left in the queue; it was asked for, so it stays."""
    with contextlib.suppress(LedgerUnreachable):
        view = site.state(fresh=False).view
        found.abandoned += waiting.abandoned(site, view)
        waiting.tidy(site, view)


def _report_kept(site: Site, found: Recovery) -> None:
    """Sends reports of builds that were finished before their pipeline died; a late one is kept as late."""
    for folder in journal.attempts(site.settings.work):
        note = journal.read(folder)
        try:
            kept = journal.read_completion(folder)
        except RecordInvalid as exc:
            found.damaged.append(f"{exc.message}, moved to {journal.put_aside(folder)}")
            continue
        if note is None or kept is None or note.builder != site.builder:
            continue
        request, payloads = kept
        if not _is_reported(site, note):
            site.ledger.transact(request, payloads=payloads, patience=site.settings.patience_seconds)
            found.reported.append(note.job_id)
        journal.remove(folder)


def _is_reported(site: Site, note: AttemptRecord) -> bool:
    """Says whether the ledger has an attempt's report: as the job's end, as a failed attempt, or as late."""
    view = site.state().view
    job = next((j for j in sites.jobs(view).jobs if j.id == note.job_id), None)
    if job is None or job.token == note.token:
        return job is None or job.status != "running"
    late = f"{note.job_id}.late-{note.token}"
    places = (paths.manifest(note.builder, note.job_id, note.attempt), paths.manifest(note.builder, late, 0))
    return any(view.read(place) is not None for place in places)


def _reveal(site: Site, found: Recovery) -> None:
    with contextlib.suppress(LedgerUnreachable):  # it stays sealed, and the next command tries again
        found.revealed += [each.job_id for each in reveal_ready(site)]


def _requeue(site: Site, found: Recovery) -> None:
    if not _mine(site):
        return
    # Somebody may have rescued the job meanwhile: what this machine has seen last is no basis for a requeue.
    view = site.state().view
    holders = {lock.job_id: lock.holder for lock in sites.locks(view).locks if lock.job_id}
    for job in _mine(site):
        machine, _, process = holders.get(job.id, "").partition("/")
        if machine != site.machine()[:16]:
            found.elsewhere.append(job.id)
        elif not site.processes.alive(process):
            request = {
                "kind": "job.requeue",
                "job_id": job.id,
                "token": job.token,
                "reason": "its process is dead",
            }
            with contextlib.suppress(Fenced):  # somebody else was quicker
                site.ask(request, observations={"process_dead": process})
                found.requeued.append(job.id)


def _say_who_runs(site: Site, found: Recovery) -> None:
    back = [*found.requeued, *found.rescued]
    jobs = sites.jobs(site.state(fresh=False).view).jobs if back else []
    found.waits += [where(job) for job in jobs if job.id in back and job.status == "queued"]


def _mine(site: Site) -> list[Job]:
    jobs = sites.jobs(site.state(fresh=False).view).jobs
    return [j for j in jobs if j.status == "running" and j.assigned_to == site.builder]


def _tidy(site: Site, found: Recovery) -> None:
    """Removes the folders of attempts that are over, but the newest few: a failed build can be resumed."""
    running = {
        f"{j.id}.{j.attempt}" for j in sites.jobs(site.state(fresh=False).view).jobs if j.status == "running"
    }
    clear(site.settings.work)
    over = [f for f in leftovers(site.settings.work) if f.name not in running]
    over.sort(key=lambda folder: folder.stat().st_mtime)
    for folder in over[:-_KEPT_FOLDERS] if len(over) > _KEPT_FOLDERS else []:
        remove(folder)
        found.removed.append(folder.name)
    journal.clear(site.settings.work)
    for note in journal.attempts(site.settings.work):
        if note.name not in running and not journal.keeps_report(note):
            journal.remove(note)
    for partial in artifact_leftovers(site.settings.artifacts):
        shutil.rmtree(partial, ignore_errors=True)


def remove_attempt(work: Path, job_id: str, attempt: int) -> None:
    """Removes the directory of an attempt whose result is kept and reported."""
    remove(work / "jobs" / f"{job_id}.{attempt}")

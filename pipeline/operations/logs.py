"""The raw log of a build, while it runs on this machine and after.

    waits in the queue     said, and waited for
    runs here              shown as it grows, to its last byte
    ran here               from the attempt's directory, or from what was kept of it
    runs or ran elsewhere  refused

A raw log never leaves its builder.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.builds.artifacts import RAW_LOG as KEPT_LOG
from pipeline.edge.plain_file import open_plain
from pipeline.errors import ArtifactsInvalid, BuildFailed, LedgerUnreachable, NotFound
from pipeline.operations import artifacts
from pipeline.operations import site as sites
from pipeline.operations.queue import find
from pipeline.operations.site import Site
from pipeline.records.decisions import View
from pipeline.records.jobs import Job
from pipeline.records.names import check_name

RAW_LOG = "raw.log"
LOOK_SECONDS = 0.5
#: So often the ledger's remote is asked how the job stands; in between, this machine's own last look.
ASK_SECONDS = 5.0
_BLOCK = 64 * 1024


def follow_log(site: Site, job_id: str) -> Iterator[str]:
    """Yields a job's raw log as it grows, until the attempt is over; then whatever is kept of it.

    Raises NotFound where the job does not run here and left no log here, ArtifactsInvalid for a kept log
    that is damaged, BuildFailed (lost) where the process that ran it is dead.
    """
    check_name("job", job_id)
    watched = _Watched(site, job_id)
    job = watched.begun()
    place = site.settings.work / "jobs" / f"{job.id}.{job.attempt}" / RAW_LOG
    while not job.ended and job.assigned_to == site.builder and not place.exists():
        _insist_on_life(site, job)  # claimed, and its directory not made yet
        site.clock.sleep(LOOK_SECONDS)
        job = watched.now()
    try:
        file = open_plain(place)
    except OSError:
        yield from _kept(site, job)
        return
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    with file:
        while True:
            # What stands before this read was written before: after an end nothing more comes.
            over = watched.is_over(job, place)
            yield from _blocks(file, decoder)
            if over:
                break
            site.clock.sleep(LOOK_SECONDS)
    yield decoder.decode(b"", final=True)


class _Watched:
    """A job that is looked at again and again, now and then as the remote has it."""

    def __init__(self, site: Site, job_id: str) -> None:
        self._site, self._id = site, job_id
        self._asked = site.clock.boottime()
        self._away = False
        self._job, _ = find(self._look(fresh=True), job_id)

    def begun(self) -> Job:
        """Waits while the job is queued."""
        if self._job.status == "queued":
            self._site.say(f"{self._id} waits in the queue; its log follows once it runs.")
        while self._job.status == "queued":
            self._site.clock.sleep(LOOK_SECONDS)
            self.now()
        return self._job

    def now(self) -> Job:
        """Returns the job; a remote that does not answer is said once, and no reason to stop."""
        fresh = self._site.clock.boottime() - self._asked >= ASK_SECONDS
        self._job, _ = find(self._look(fresh=fresh), self._id)
        return self._job

    def _look(self, *, fresh: bool) -> View:
        try:
            view = self._site.state(fresh=fresh).view
        except LedgerUnreachable as exc:
            if self._site.ledger.store.tip() is None:
                raise
            if not self._away:
                self._site.say(f"{exc.message}\nFollowing what this machine knows of the job.")
            self._away, self._asked = True, self._site.clock.boottime()
            return self._site.state(fresh=False).view
        if fresh:
            self._away, self._asked = False, self._site.clock.boottime()
        return view

    def is_over(self, begun: Job, place: Path) -> bool:
        """Says whether nothing more comes of the attempt that was begun."""
        job = self.now()
        if job.ended or job.token != begun.token or not place.exists():
            return True
        _insist_on_life(self._site, job)
        return False


def _insist_on_life(site: Site, job: Job) -> None:
    """Raises BuildFailed where a process of this machine that ran the job is dead: no more log will come."""
    view = site.state(fresh=False).view
    holder = next((lock.holder for lock in sites.locks(view).locks if lock.job_id == job.id), "")
    machine, _, process = holder.partition("/")
    if machine == site.machine()[:16] and not site.processes.alive(process):
        raise BuildFailed(
            f"The process that ran {job.id} is dead; the log ends here.",
            failure_class="lost",
            remedy="`invoke recover` puts the job back into the queue.",
        )


def _blocks(file: BinaryIO, decoder: codecs.IncrementalDecoder) -> Iterator[str]:
    while block := file.read(_BLOCK):
        yield decoder.decode(block)


def _kept(site: Site, job: Job) -> Iterator[str]:
    folder = artifacts.folder_of(site, job.id)
    place = folder / KEPT_LOG if folder else None
    if place is None or not place.exists():
        raise _not_here(site, job)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    try:
        with open_plain(place) as packed, gzip.GzipFile(fileobj=packed) as file:
            while block := file.read(_BLOCK):
                yield decoder.decode(block)
    except (OSError, EOFError, zlib.error) as exc:
        raise ArtifactsInvalid(
            f"The kept log {place} cannot be read: {exc}",
            remedy=f"`invoke job.log {job.id}` shows what the ledger keeps of it.",
        ) from exc
    yield decoder.decode(b"", final=True)


def _not_here(site: Site, job: Job) -> NotFound:
    on, reason = job.assigned_to, "not-found"
    kept = f"`invoke job.log {job.id}` shows what the ledger keeps of it."
    if on is None:
        what, remedy = f"{job.id} never ran: it has no log.", f"`invoke job.show {job.id}` tells why."
    elif on == site.builder:
        what, remedy = f"No raw log of {job.id} is on this machine any more.", kept
    else:
        reason = "elsewhere"
        what = f"{job.id} {'ran' if job.ended else 'runs'} on {on}; its raw log is there."
        here = kept if job.ended else "`invoke status` shows how far it is."
        remedy = f"On {on}: `invoke job.log {job.id} --follow`. {here}"
    return NotFound(what, reason=reason, remedy=remedy)

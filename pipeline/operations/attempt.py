"""One attempt at a claimed job: from the checkout to the report that frees the machine.

The attempt knows its token and nothing of the queue. It always ends in a completion: what the build said,
or why there was no build. The completion is kept on disk before it is sent, so that whoever comes after a
crash sends the same one; the token makes sure that it counts once.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from pipeline.errors import ConfigInvalid, LedgerError, PipelineError, StoreError
from pipeline.operations import journal
from pipeline.operations import site as sites
from pipeline.operations.construct import Built, construct
from pipeline.operations.environments import stated
from pipeline.operations.failures import failure_of, of_defect, of_os_error
from pipeline.operations.heart import Heart, system_facts, whose
from pipeline.operations.journal import AttemptRecord
from pipeline.operations.prepare import Prepared, Wanted, prepare
from pipeline.operations.recover import remove_attempt
from pipeline.operations.report import Ending, Report
from pipeline.operations.secret import reveal_ready
from pipeline.operations.site import Site, accepted
from pipeline.records.builds import Failure, FailureClass
from pipeline.records.jobs import Job
from pipeline.records.secrets import mask

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Claimed:
    """A job that is ours: its token is the right to report. In a round it commits before it reveals."""

    job: Job
    token: str
    attempt: int
    round: str | None = None


class Interruption:
    """What asks a running build to end: a signal, or the heart. Polled; never raises by itself."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self.heart: Heart | None = None
        self.progress: dict[str, Any] = {}

    def reason(self) -> str | None:
        """Returns why the build should end, or None."""
        if self.signal:
            return self.signal
        return self.heart.reason if self.heart else None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turns the first SIGINT, SIGTERM or SIGHUP into a reason. Only the main thread can listen."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = self.signal or f"interrupted by {signal.Signals(number).name}"

        # What was to be ignored stays so: `nohup invoke build` outlives its terminal.
        heard = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_attempt(site: Site, claimed: Claimed, prepared: Prepared | None) -> Report:
    """Builds, keeps what was built, and reports. `prepared` is None for a job taken from the queue.

    Returns the report; `status` is `unreported` when the ledger did not answer: then the completion waits in
    the outbox. Raises nothing for a build that fails.
    """
    job = claimed.job
    folder = journal.folder_of(site.settings.work, job.id, claimed.attempt)
    begun = site.clock.boottime()
    stop = Interruption()
    with stop.listening(), _heart(site, claimed, stop):
        built = _or_lost(claimed, stop, _build(site, claimed, prepared, stop, folder))
    duration = round(site.clock.boottime() - begun, 1)
    site.step("built")
    built, payloads = _sealed(site, claimed, built)
    request = _completion(site, claimed, built, duration)
    with _removing(site, claimed, built):
        try:
            journal.write_completion(folder, request, payloads, site.step)
        except OSError as exc:
            # A full disk: then the outbox is the only place that can keep it, and it says so if it cannot.
            site.say(f"The report could not be kept in {folder}: {exc.strerror}.")
        site.step("completion kept")
        outcome, error = _report(site, request, built, payloads)
        site.step("reported")
    status: Ending = outcome if error is None else "unreported"
    failure = _lost(claimed, _whose(site, job.id)) if status == "lost" else built.failure
    if error is None:
        journal.remove(folder)
    if status == "succeeded":
        _sign_or_reveal(site, claimed)
    return Report(
        job_id=job.id,
        status=status,
        branch=job.branch,
        commit=job.commit,
        builder=site.builder,
        failure=failure,
        attempt=claimed.attempt,
        token=claimed.token,
        duration_seconds=duration,
        stages=built.stages,
        modules=built.modules,
        manifest=str(built.folder / "manifest.json") if built.folder else None,
        log=str(built.log) if built.log else None,
        artifacts=built.artifacts,
        ledger={"commits": site.ledger.counts.commits, "pushes": site.ledger.counts.pushes},
        depends_on=list(job.depends_on),
        retries=dict(job.retries),
        round=claimed.round,
    )


def _sign_or_reveal(site: Site, claimed: Claimed) -> None:
    """Signs what was reported; in a round, once all have committed, reveals it first. Waits for nobody."""
    if claimed.round is None:
        if site.sign is not None:
            site.sign(claimed.job.id)
        return
    try:
        shown = reveal_ready(site)
    except PipelineError as exc:
        site.say(f"Committed, and not revealed: {exc.message} `invoke recover` tries again.")
        return
    if claimed.job.id not in [each.job_id for each in shown]:
        site.say("Committed. It is revealed once all of its round have: by the next command that runs here.")


def _build(
    site: Site, claimed: Claimed, prepared: Prepared | None, stop: Interruption, folder: Path
) -> Built:
    """Notes the attempt and builds; whatever is raised on the way becomes the build's failure."""
    try:
        journal.write(folder, _record(site, claimed), site.step)
        site.step("journal written")
        if claimed.round is not None:
            _insist_on_seal(site)
        if prepared is None:
            prepared = prepare(site, wanted_of(claimed.job))
        return construct(
            site, claimed.job, claimed.token, claimed.attempt, prepared, stop.reason, stop.progress.update
        )
    except PipelineError as exc:
        failure = failure_of(exc)
        cancelled = failure.failure_class == "cancelled"
        return Built(status="cancelled" if cancelled else "failed", failure=failure)
    except OSError as exc:
        return Built(status="failed", failure=of_os_error(exc))
    except Exception as exc:
        # The job ends all the same: left running, it would be lost again and again to the same defect.
        site.say(mask(traceback.format_exc()))
        return Built(status="failed", failure=of_defect(exc))


def _insist_on_seal(site: Site) -> None:
    """Raises what will keep this machine from committing, before it builds for that."""
    if site.seal is None:
        raise ConfigInvalid("No key is set to commit with.", remedy="Set `signing_key`, and retry the job.")
    if site.check_seal is not None:
        site.check_seal()


def _or_lost(claimed: Claimed, stop: Interruption, built: Built) -> Built:
    """Returns a build that was ended because its job has changed hands as what it is: lost, not cancelled."""
    if stop.signal or stop.heart is None or not stop.heart.fenced or built.status != "cancelled":
        return built
    return replace(built, status="failed", failure=_lost(claimed, stop.heart.whose))


def _lost(claimed: Claimed, whose: str) -> Failure:
    return Failure(
        failure_class=FailureClass.LOST,
        message=f"The job has changed hands: {whose}. This build is kept as late: it does not count.",
        remedy=f"`invoke job.show {claimed.job.id}` tells what becomes of it.",
    )


def _whose(site: Site, job_id: str) -> str:
    jobs = sites.jobs(site.state(fresh=False).view).jobs
    return whose(next((job for job in jobs if job.id == job_id), None))


def wanted_of(job: Job) -> Wanted:
    """Returns what a queued job asks for; its commit is pinned.

    Raises ConfigInvalid for an option that is of another type than it has to be: somebody wrote it by hand.
    """
    return Wanted(
        branch=job.branch,
        commit=job.commit,
        source=_option(job, "source", "") or (job.source or None),
        recipe=_option(job, "recipe", "") or None,
        packages=_option(job, "packages", True),
        keep_going=_option(job, "keep_going", False),
        timeout_seconds=job.timeout_seconds,
        resume_from=job.retry_of if _option(job, "resume", False) else None,
    )


def _option(job: Job, name: str, default: T) -> T:
    """Returns an option of a job, which has to be of its default's type; null counts as absent."""
    value = job.options.get(name)
    if value is None:
        return default
    if not isinstance(value, type(default)):
        kind = "text" if isinstance(default, str) else "true or false"
        raise ConfigInvalid(
            f"Job {job.id}: the option `{name}` is {str(value)[:60]!r}, where {kind} is expected.",
            remedy="Order the job again: `invoke build`.",
        )
    return value


def _record(site: Site, claimed: Claimed) -> AttemptRecord:
    job = claimed.job
    process = site.processes.myself()
    return AttemptRecord(
        job.id, claimed.attempt, claimed.token, site.builder, job.branch, job.commit, process
    )


@contextmanager
def _heart(site: Site, claimed: Claimed, stop: Interruption) -> Iterator[None]:
    with ExitStack() as stack:
        if site.settings.heartbeat_seconds > 0:
            stop.heart = site.make_heart(claimed.job.id, claimed.token, lambda: dict(stop.progress))
            stack.enter_context(stop.heart)
        yield


@contextmanager
def _removing(site: Site, claimed: Claimed, built: Built) -> Iterator[None]:
    """Removes the directory of a build whose files are kept, while its report is made and on its way.

    After a crash it is of no use: without the report the job is built anew. What cannot be removed now, the
    next recovery removes.
    """

    def remove() -> None:
        with suppress(OSError, PipelineError):
            remove_attempt(site.settings.work, claimed.job.id, claimed.attempt)

    if built.status != "succeeded":
        yield
        return
    thread = threading.Thread(target=remove, name="removal")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _completion(site: Site, claimed: Claimed, built: Built, duration: float) -> dict[str, Any]:
    outcome = built.status
    failure = built.failure.model_dump(mode="json", by_alias=True) if built.failure else None
    return {
        "kind": "job.complete",
        "builder": site.builder,
        "job_id": claimed.job.id,
        "token": claimed.token,
        "outcome": outcome,
        "duration_seconds": duration,
        "artifacts": [a.name for a in built.artifacts],
        "failure": failure if outcome != "succeeded" else None,
        "facts": {
            "system": system_facts(str(site.settings.work)).model_dump(mode="json"),
            **stated(built.environment),
        },
    }


def _sealed(site: Site, claimed: Claimed, built: Built) -> tuple[Built, dict[str, bytes]]:
    """Returns what is reported of a build: all of it, or of a job that commits first, a commitment."""
    if claimed.round is None:
        return built, built.payloads
    told = replace(built, artifacts=[])
    if built.status != "succeeded":
        return told, {name: data for name, data in built.payloads.items() if name != "manifest"}
    try:
        _insist_on_seal(site)
        assert site.seal is not None
        return told, site.seal(claimed.job, claimed.token, claimed.attempt, built.payloads)
    except PipelineError as exc:
        return replace(told, status="failed", failure=failure_of(exc), folder=None), {}


def _report(
    site: Site, request: dict[str, Any], built: Built, payloads: dict[str, bytes]
) -> tuple[Ending, PipelineError | None]:
    """Result, manifest, logs, status, message and release: one commit, or an entry that waits."""
    try:
        value = accepted(
            site.ledger.transact(request, payloads=payloads, patience=site.settings.report_seconds)
        )
    except (LedgerError, StoreError) as exc:
        site.say(f"Not reported: {exc}")
        return "unreported", exc
    if not value.get("accepted"):
        return "lost", None
    return str(value.get("outcome") or value.get("status") or built.status), None  # type: ignore[return-value]

"""Adoption: what a change by hand becomes.

A foreign commit may add what its author could have asked for, and correct what only describes. It takes no
lock, ends no job and removes nothing: such a change is refused here, and the ledger keeps its bytes aside.
"""

from __future__ import annotations

from pipeline.coordination import mailbox, queue
from pipeline.errors import RecordInvalid
from pipeline.records import paths
from pipeline.records.base import Record, dump, load, load_json
from pipeline.records.builders import Dashboard, Heartbeat, Registry, Status
from pipeline.records.builds import BuildConfig, Manifest
from pipeline.records.decisions import Adopted
from pipeline.records.jobs import Job, Jobs
from pipeline.records.messages import Messages

_RESERVED = (paths.LEDGER, paths.LOCKS, paths.MAILBOX, paths.COMPARISONS)
_SEALED = (
    queue.ARCHIVES,
    mailbox.ARCHIVES,
    paths.TRUST + "/",
    paths.quarantine_archive(0).rsplit("/", 2)[0] + "/",
    paths.quarantine(0, "").rsplit("/", 2)[0] + "/",
)
_DESCRIBING: dict[str, type[Record]] = {
    paths.BUILD_CONFIG: BuildConfig,
    paths.REGISTRY: Registry,
    paths.DASHBOARD: Dashboard,
}


def adopt(path: str, before: bytes | None, after: bytes | None) -> Adopted:
    """Says whether a file's change by hand is a legal transition, and to which bytes."""
    if path in _RESERVED or path.startswith(_SEALED):
        return Adopted(None, "only transactions write it")
    if after is None:
        return Adopted(None, "a commit by hand removed it")
    try:
        if path == paths.MESSAGES:
            return _adopt_messages(before, after)
        if path == paths.JOBS:
            return _adopt_jobs(before, after)
        return _adopt_other(path, before, after)
    except RecordInvalid as exc:
        return Adopted(None, exc.message)


def _adopt_messages(before: bytes | None, after: bytes) -> Adopted:
    old = load(Messages, before, paths.MESSAGES).messages if before else []
    new = load(Messages, after, paths.MESSAGES)
    ids = [message.id for message in new.messages]
    if new.messages[: len(old)] != old:
        return Adopted(None, "it changes or drops messages that were sent")
    if len(set(ids)) < len(ids):
        return Adopted(None, "it uses a message id twice")
    return Adopted(dump(new))


def _adopt_jobs(before: bytes | None, after: bytes) -> Adopted:
    old = load(Jobs, before, paths.JOBS).jobs if before else []
    new = load(Jobs, after, paths.JOBS)
    if new.jobs[: len(old)] != old:
        return Adopted(None, "it changes or drops jobs that were ordered")
    known = {job.id for job in old}
    for job in new.jobs[len(old) :]:
        fresh = Job(id=job.id, branch=job.branch, commit=job.commit, created_at=job.created_at)
        state = {"status", "assigned_to", "token", "attempt", "outcome", "losses", "failures", "start_op"}
        if job.model_dump(include=state) != fresh.model_dump(include=state):
            return Adopted(None, f"job {job.id} is more than ordered; only a transaction starts or ends one")
        if job.id in known or not known.issuperset(job.depends_on):
            return Adopted(None, f"job {job.id} is there already, or depends on one that is not")
        known.add(job.id)
    return Adopted(dump(new))


def _adopt_other(path: str, before: bytes | None, after: bytes) -> Adopted:
    """Takes a valid description, a new log or manifest, and any file that the pipeline does not know."""
    folder = path.split("/", 1)[0]
    own: dict[str, type[Record]] = {paths.status(folder): Status, paths.heartbeat(folder): Heartbeat}
    if path in own:
        record = load(own[path], after, path)
        if getattr(record, "server", None) != folder:
            return Adopted(None, f"it is of another builder than {folder}")
        return Adopted(dump(record))
    if path in _DESCRIBING:
        return Adopted(dump(load(_DESCRIBING[path], after, path)))
    logs, manifests = paths.build_log(folder, "").rsplit("/", 1)[0], paths.manifest(folder, "00", 0)
    if path.startswith((f"{logs}/", manifests.rsplit("/", 2)[0] + "/")) and before is not None:
        return Adopted(None, "what a build left is not changed afterwards")
    if path.startswith(manifests.rsplit("/", 2)[0] + "/"):
        load(Manifest, after, path)
    elif path.endswith(".json"):
        load_json(after, path)
    return Adopted(after)

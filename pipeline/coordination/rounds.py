"""Rounds: builders commit to what they made before any of them says what it is.

A round has one job of each participant, fixed before the first begins. Jobs end with a commitment, the
signed SHA-256 of an opening, and with nothing that says what was made. When all participants have committed,
or their jobs have ended without success, they reveal (`reveals`). That is the deadline, and the queue is its
clock: who is silent is rescued or cancelled as ever, and who has not committed by then never can.

Claimed is exactly: no digest was published in this ledger before all had committed. That nobody was told
otherwise, or has copied, is not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from pipeline.coordination import queue
from pipeline.coordination.draft import Answer, Draft, replaced
from pipeline.errors import RecordInvalid
from pipeline.records import paths
from pipeline.records.base import load
from pipeline.records.decisions import Refusal, View
from pipeline.records.jobs import Job
from pipeline.records.promotion import Promotion
from pipeline.records.requests import JobComplete, JobCreate, Order, RoundOpen, RoundOrder
from pipeline.records.rounds import Commitment, Round, RoundOf
from pipeline.records.statements import read_statement

#: What a report must not bring before the reveal.
_TELLING = ("manifest", "log", "summary", "structured")
_LARGEST_SIGNATURE_BYTES = 8192
_ROUNDS = paths.round("x").rsplit("/", 2)[0]
#: What makes two orders one: the rest is when, and for whom.
_WHAT = frozenset({"type", "branch", "commit", "source", "options", "timeout_seconds"})


def order(draft: Draft, request: RoundOrder) -> Answer:
    """Puts a job for each builder into the queue and makes a round of them: nobody can begin one in between.

    Of who asks while such a round of the commit is open, that round is the answer, and nothing is ordered
    twice; another round of it beside that one is refused, since what one reveals the other could copy.
    """
    there = draft.get(Round, paths.round(request.id))
    if there is not None:
        same = there.participants == request.jobs
        answer = {"round": there.id, "jobs": there.participants, "there": True}
        return answer if same else Refusal("duplicate", f"There is another round `{there.id}`.")
    for found in _open_rounds(draft, request):
        jobs = {job.id: job for job in draft.jobs.jobs}
        theirs = [jobs[id] for id in found.participants.values() if id in jobs]
        asked = request.model_dump(include=set(_WHAT))
        same = set(found.participants) == set(request.jobs)
        if same and all(job.model_dump(include=set(_WHAT)) == asked for job in theirs):
            return {"round": found.id, "jobs": found.participants, "there": True}
        who, waiting = (", ".join(sorted(each)) for each in (found.participants, waited_for(draft, found)))
        otherwise = " to build from another source, with other options or in another time" if same else ""
        return Refusal(
            "round-open",
            f"Round `{found.id}` of this commit is open, ordered of {who}{otherwise}: {waiting} can still"
            " commit.",
            "Wait for it, or cancel its jobs: of two rounds at once neither shows anything.",
        )
    alike = request.model_dump(include=set(Order.model_fields) - {"kind", "id", "target"})
    for builder, id in sorted(request.jobs.items()):
        ordered = queue.create(draft, JobCreate(kind="job.create", id=id, target=builder, **alike))
        if isinstance(ordered, Refusal):
            return ordered
    known = {"builder": request.builder, "branch": request.branch, "commit": request.commit}
    opened = open_round(draft, RoundOpen(kind="round.open", id=request.id, jobs=request.jobs, **known))
    return opened if isinstance(opened, Refusal) else {**opened, "jobs": request.jobs, "there": False}


def _open_rounds(draft: Draft, request: RoundOrder) -> Iterator[Round]:
    """Yields the rounds of a commit in which somebody can still commit."""
    for job in draft.jobs.jobs:
        if not job.ended and (job.branch, job.commit) == (request.branch, request.commit):
            found = of_job(draft, job.id)
            if found is not None and waited_for(draft, found):
                yield found


def open_round(draft: Draft, request: RoundOpen) -> Answer:
    """Has jobs commit before they reveal. They are in the queue, each for its builder, and none has begun."""
    found = Round(id=request.id, branch=request.branch, commit=request.commit, participants=request.jobs)
    there = draft.get(Round, paths.round(request.id))
    if there is not None:
        same = there.participants == found.participants
        return {"round": found.id} if same else Refusal("duplicate", f"There is another round `{found.id}`.")
    for builder, id in sorted(request.jobs.items()):
        job = queue.find(draft, id)
        if job is None:
            return queue.not_found(draft, id)
        if job.status != "queued" or job.attempt:
            return Refusal("begun", f"Job `{id}` has begun: a round is fixed before that.")
        if job.target != builder or (job.branch, job.commit) != (request.branch, request.commit):
            return Refusal("other-job", f"Job `{id}` is not {builder}'s, or not of this commit.")
        if draft.exists(paths.round_of(id)):
            return Refusal("other-job", f"Job `{id}` takes part in a round already.")
    if len(set(request.jobs.values())) < len(request.jobs):
        return Refusal("other-job", "Each builder takes part with a job of its own.")
    draft.put(paths.round(found.id), found)
    for id in request.jobs.values():
        draft.put(paths.round_of(id), RoundOf(round=found.id))
    return {"round": found.id}


def of_job(draft: Draft, job_id: str) -> Round | None:
    """Returns the round in which a job takes part."""
    pointer = draft.get(RoundOf, paths.round_of(job_id))
    return draft.get(Round, paths.round(pointer.round)) if pointer else None


def keep_secret(draft: Draft, request: JobComplete, job: Job | None) -> Refusal | None:
    """Refuses a report that says what was made by a job in a round; takes the commitment of a success."""
    found = of_job(draft, request.job_id)
    if found is None:
        return None
    brought = [name for name in _TELLING if name in draft.context.payloads]
    if request.artifacts or "manifest" in brought or (request.outcome == "succeeded" and brought):
        return Refusal(
            "secret",
            f"Job `{request.job_id}` commits before it reveals; this report says what was made.",
            "Report the commitment, and reveal when all have committed.",
        )
    if request.outcome != "succeeded" or job is None or job.token != request.token or job.status != "running":
        return None
    return _commit(draft, found, job)


def _commit(draft: Draft, found: Round, job: Job) -> Refusal | None:
    data, signature = (draft.context.payloads.get(name, b"") for name in ("statement", "signature"))
    if not data or not signature or len(signature) > _LARGEST_SIGNATURE_BYTES:
        return Refusal(
            "no-commitment", f"Job `{job.id}` succeeds with a signed commitment, and there is none."
        )
    try:
        said = read_statement(Commitment, data, "the commitment")
    except RecordInvalid as exc:
        return Refusal("no-commitment", f"{exc.message}.")
    builder = job.assigned_to or ""
    if (said.job, said.token, said.builder) != (job.id, job.token, builder):
        return Refusal(
            "not-yours", f"The commitment is {said.builder}'s, of job `{said.job}`, or an older one."
        )
    if found.participants.get(builder) != job.id:
        return Refusal("not-yours", f"{builder} does not take part with job `{job.id}`.")
    if said.sha256 in found.committed.values():
        return Refusal("replayed", "That commitment was made before, by another.")
    path = paths.commitment(found.id, builder)
    draft.keep(path, data, Commitment)
    draft.keep(paths.signature(path), signature)
    draft.put(paths.round(found.id), replaced(found, committed={**found.committed, builder: said.sha256}))
    return None


def waited_for(draft: Draft, found: Round) -> list[str]:
    """Returns the participants that have not committed and still may."""
    return still_committing(found, draft.jobs.jobs)


def still_committing(found: Round, jobs: Iterable[Job]) -> list[str]:
    """Returns the participants of a round that have not committed and still may.

    `jobs` are those of the queue: one that is not among them has ended long ago.
    """
    left = {job.id for job in jobs if not job.ended}
    return sorted(b for b, id in found.participants.items() if b not in found.committed and id in left)


def revealed_manifest(draft: Draft, job: Job) -> str | None:
    """Returns where the manifest lies that a job's builder has revealed."""
    found = of_job(draft, job.id)
    shown = found.revealed.get(job.assigned_to or "") if found else None
    return shown.manifest if shown else None


def is_witnessed(draft: Draft, counted: dict[str, str], entry: Promotion) -> bool:
    """Says whether all builds that an entry counts were committed to, in one round, before they were seen."""
    seen = {
        pointer.round if (pointer := draft.get(RoundOf, paths.round_of(id))) else None
        for id in counted.values()
    }
    if len(seen) != 1 or None in seen:
        return False
    found = draft.get(Round, paths.round(str(seen.pop())))
    return (
        found is not None
        and not withheld(found)
        and all(
            found.participants.get(builder) == id
            and builder in found.revealed
            and set(found.revealed[builder].unwitnessed).isdisjoint(entry.digests)
            for builder, id in counted.items()
        )
    )


def withheld(found: Round) -> list[str]:
    """Returns the participants that have committed and not revealed: what they hold back may be dissent."""
    return sorted(set(found.committed) - set(found.revealed))


def revealed_late(view: View, branch: str, commit: str, live: Collection[str]) -> dict[str, str]:
    """Returns the manifests of a commit that were revealed of jobs which are not among these any more: those
    that went into the archive before say nothing of it. Job -> path.
    """
    found = {}
    for name in view.names(_ROUNDS):
        path = paths.round(name)
        data = view.read(path)
        its = load(Round, data, path) if data is not None else None
        if its is not None and (its.branch, its.commit) == (branch, commit):
            shown = {its.participants[builder]: each.manifest for builder, each in its.revealed.items()}
            found.update({job: manifest for job, manifest in shown.items() if job not in live})
    return found


def read_round(view: View, job_id: str) -> Round | None:
    """Returns the round in which a job takes part, from a tree of the ledger."""
    path = paths.round_of(job_id)
    data = view.read(path)
    if data is None:
        return None
    place = paths.round(load(RoundOf, data, path).round)
    whole = view.read(place)
    return load(Round, whole, place) if whole is not None else None

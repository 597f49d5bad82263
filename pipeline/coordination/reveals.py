"""Reveals: what a builder had committed to is said, and held to the commitment."""

from __future__ import annotations

from pipeline.coordination import queue, results, rounds
from pipeline.coordination.draft import Answer, Draft, replaced
from pipeline.errors import RecordInvalid
from pipeline.records import paths
from pipeline.records.base import load
from pipeline.records.builds import Manifest
from pipeline.records.decisions import Refusal
from pipeline.records.jobs import Job
from pipeline.records.requests import BuildReveal
from pipeline.records.rounds import Opening, Revealed, Round
from pipeline.records.statements import read_statement, sha256_of


def reveal(draft: Draft, request: BuildReveal) -> Answer:
    """Takes what a builder made, once nobody can commit any more, if it is what the builder committed to."""
    job = queue.find_anywhere(draft, request.job_id, request.archive)
    if job is None:
        return queue.not_found(draft, request.job_id)
    found = rounds.of_job(draft, job.id)
    if found is None:
        return Refusal("no-round", f"Job `{job.id}` takes part in no round: it was reported at once.")
    if request.builder != job.assigned_to or found.participants.get(request.builder) != job.id:
        return Refusal("not-yours", f"Job `{job.id}` is not {request.builder}'s to reveal.")
    if waiting := rounds.waited_for(draft, found):
        return Refusal(
            "not-open",
            f"{', '.join(waiting)} can still commit: nobody reveals before.",
            "Wait, or cancel the job of one that never will.",
        )
    committed = found.committed.get(request.builder)
    if committed is None:
        return Refusal("no-commitment", f"{request.builder} has committed to nothing in this round.")
    data = draft.context.payloads.get("opening", b"")
    if request.builder in found.revealed:
        same = draft.read(paths.opening(found.id, request.builder)) == data
        return {"there": True} if same else Refusal("revealed", f"{request.builder} has revealed already.")
    return _open(draft, request, found, job, committed, data)


def _open(draft: Draft, request: BuildReveal, found: Round, job: Job, committed: str, data: bytes) -> Answer:
    if sha256_of(data) != committed:
        return Refusal("other-opening", f"This is not what {request.builder} has committed to.")
    try:
        said = read_statement(Opening, data, "the opening")
    except RecordInvalid as exc:
        return Refusal("other-opening", f"{exc.message}.")
    if (said.builder, said.job, said.token, said.commit) != (request.builder, job.id, job.token, job.commit):
        return Refusal("not-yours", f"The opening is {said.builder}'s, of job `{said.job}`.")
    manifest = draft.context.payloads.get("manifest", b"")
    if sha256_of(manifest) != said.manifest:
        return Refusal("other-opening", "The manifest is not the one that was committed to.")
    made = load(Manifest, manifest, "the manifest")
    builder = request.builder
    stale = _seen_before(
        draft, found, {each.path: each.checksums.get("sha256", "") for each in made.artifacts}
    )
    stamp = f"{job.started_at or draft.now:%Y%m%dT%H%M%SZ}-{job.id}.{job.attempt}"
    kept = results.keep_payloads(draft, builder, stamp, paths.manifest(builder, job.id, job.attempt))
    draft.keep(paths.opening(found.id, builder), data, Opening)
    shown = Revealed(manifest=kept["manifest"], sha256=said.manifest, unwitnessed=stale)
    draft.put(paths.round(found.id), replaced(found, revealed={**found.revealed, builder: shown}))
    queue.put(draft, replaced(job, manifest=kept["manifest"], log=kept.get("log")))
    return {"there": False, "kept": kept, "unwitnessed": stale}


def _seen_before(draft: Draft, found: Round, digests: dict[str, str]) -> list[str]:
    """Returns the artifacts whose digests a manifest in the ledger had before this round's own."""
    own = {shown.manifest for shown in found.revealed.values()}
    left = dict(digests)
    for path in _manifests(draft):
        if path in own or not left:
            continue
        data = draft.read(path) or b""
        left = {name: digest for name, digest in left.items() if digest.encode() not in data}
    return sorted(set(digests) - set(left))


def _manifests(draft: Draft) -> list[str]:
    """Returns every manifest, also of a name that nobody registered: what came late is kept for anybody."""
    found = []
    for name in draft.names(""):
        folder = paths.manifest(name, "00", 0).rsplit("/", 2)[0]
        for group in draft.names(folder):
            found += [f"{folder}/{group}/{each}" for each in draft.names(f"{folder}/{group}")]
    return found

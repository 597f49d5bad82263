"""What the ledger itself enforces of promotion, in every transaction.

It knows no keys: who signed what is for whoever reads it with a policy that the root signed, and never for
anything that stands in the ledger.

Guarantees (`tests/coordination/test_trust.py`): a builder's statement is about a job that succeeded there,
with the bytes that it reported; a branch's entries are numbered without a gap, and each names the one before;
one is written only on the evidence that its author has seen; and it names every statement of dissent.
"""

from __future__ import annotations

from typing import Any

from pipeline.coordination import mailbox, queue, rounds
from pipeline.coordination.dissent import Claim, build_of, contradicting
from pipeline.coordination.draft import Answer, Draft
from pipeline.errors import RecordInvalid
from pipeline.records import lists, paths, requests
from pipeline.records.attestation import Attestation
from pipeline.records.base import dump_json
from pipeline.records.builds import Manifest
from pipeline.records.decisions import Refusal, View
from pipeline.records.jobs import Job, Jobs
from pipeline.records.policy import Revocations
from pipeline.records.promotion import CountedBuild, Promotion, PromotionHead
from pipeline.records.statements import Statement, read_statement, sha256_of

#: A signature is some hundred bytes.
LARGEST_SIGNATURE_BYTES = 8192
_SIGNATURE = paths.signature("")


def publish_attestation(draft: Draft, request: requests.AttestationPublish) -> Answer:
    """Takes what a builder says of a job of its own. The same again changes nothing."""
    data, signature = _payloads(draft)
    said = read_statement(Attestation, data, "the attestation")
    job = queue.find_anywhere(draft, request.job_id, request.archive)
    if job is None:
        return queue.not_found(draft, request.job_id)
    refused = _not_theirs(said, job, request.builder) or _not_reported(draft, said, job)
    if refused := refused or _alone(draft, said):
        return refused
    path = paths.attestation(said.order.commit, said.builder, sha256_of(data + signature))
    return _keep(draft, path, data, signature, Attestation)


def _not_theirs(said: Attestation, job: Job, builder: str) -> Refusal | None:
    facts, order = said.facts, said.order
    if not (said.builder == builder == job.assigned_to):
        return Refusal(
            "not-yours",
            f"{builder} states for {said.builder} what {job.assigned_to} built as job `{job.id}`.",
            "A builder signs its own builds only.",
        )
    if job.outcome != "succeeded":
        return Refusal("not-succeeded", f"Job `{job.id}` is {job.outcome or job.status}: nothing to sign.")
    if (facts.job, facts.token, facts.attempt) != (job.id, job.token, job.attempt):
        return Refusal(
            "not-yours", f"The statement is about another attempt than the last of job `{job.id}`."
        )
    if (order.branch, order.commit) != (job.branch, job.commit):
        return Refusal("not-yours", f"The statement is about another commit than job `{job.id}`'s.")
    return None


def _not_reported(draft: Draft, said: Attestation, job: Job) -> Refusal | None:
    """Refuses other bytes than the job's manifest has; of normalised ones the manifest says nothing."""
    path = job.manifest or rounds.revealed_manifest(draft, job)
    data = draft.read(path) if path else None
    if data is None or path is None:
        return Refusal("no-manifest", f"Job `{job.id}` has no manifest in the ledger.")
    if said.facts.manifest != sha256_of(data):
        return Refusal("other-bytes", f"The statement is about another manifest than job `{job.id}`'s.")
    made = draft.get(Manifest, path)
    digests = {each.path: each.checksums.get("sha256") for each in made.artifacts} if made else {}
    if made is None or not made.complete:
        return Refusal("incomplete", f"Job `{job.id}` was resumed: it is no evidence.")
    for name, digest in said.artifacts.items():
        if name not in digests or (digests[name] != digest and not said.facts.normalisers):
            return Refusal("other-bytes", f"Job `{job.id}` has reported other bytes of {name}.")
    return None


def _alone(draft: Draft, said: Attestation) -> Refusal | None:
    """Refuses what is said of normalised files before the builder has said what it made.

    By that it can contradict, whatever is promoted.
    """
    every = (each for each, _ in attestations(draft, said.order.commit).values())
    if not said.facts.normalisers or any(
        build_of(each) == build_of(said) and not each.facts.normalisers for each in every
    ):
        return None
    return Refusal("alone", f"{said.builder} has not stated yet what it made as job `{said.facts.job}`.")


def publish_revocations(draft: Draft, request: requests.RevocationPublish) -> Answer:
    """Keeps a list of revoked keys beside those before it. The one with the highest number is in force, of
    those that the root has signed: who reads it sees to that.
    """
    data, signature = _payloads(draft)
    said = read_statement(Revocations, data, "the revocations")
    path = paths.revocations(said.number, sha256_of(data + signature))
    return _keep(draft, path, data, signature, Revocations)


def enter_promotion(draft: Draft, request: requests.PromotionEnter) -> Answer:
    """Writes the next entry of a branch, if it is that, and if nothing has changed that it rests on."""
    data, signature = _payloads(draft)
    entry = read_statement(Promotion, data, "the promotion")
    if entry.branch != request.branch:
        return Refusal("other-branch", f"The entry is for {entry.branch}, not for {request.branch}.")
    refused = (
        _not_next(draft, entry, data)
        or _moved(draft, entry, request.basis)
        or _unfounded(draft, entry)
        or _restores_other(draft, entry)
    )
    if refused:
        return refused
    kept = _keep(draft, paths.promotion(entry.branch, entry.number), data, signature, Promotion)
    digest = sha256_of(data)
    head = PromotionHead(branch=entry.branch, number=entry.number, sha256=digest)
    draft.put(paths.promotion_head(entry.branch), head)
    _tell(draft, entry, request.builder)
    return kept | {"number": entry.number, "sha256": digest}


def _not_next(draft: Draft, entry: Promotion, data: bytes) -> Refusal | None:
    head = draft.get(PromotionHead, paths.promotion_head(entry.branch))
    number, before = (head.number, head.sha256) if head else (0, None)
    if head is not None and sha256_of(data) == head.sha256:
        return Refusal("there", f"Number {number} of {entry.branch} is this very entry.")
    if entry.number <= number:
        return Refusal("replayed", f"{entry.branch} is at number {number}; {entry.number} is behind it.")
    if entry.number > number + 1:
        return Refusal("gap", f"{entry.branch} is at number {number}; {entry.number} leaves a gap.")
    if entry.predecessor != before:
        return Refusal("replayed", f"Number {number} of {entry.branch} is another than the entry names.")
    return None


def _moved(draft: Draft, entry: Promotion, basis: str) -> Refusal | None:
    if basis == basis_of(draft, entry.branch, entry.commit):
        return None
    return Refusal("moved", "Statements have come since this was decided.", "It is decided again.")


def _unfounded(draft: Draft, entry: Promotion) -> Refusal | None:
    """Refuses an entry whose evidence is not here, and one that is silent about dissent."""
    every = attestations(draft, entry.commit)
    by_digest = {digest: said for said, digest in every.values()}
    inputs: set[str] = set()
    for each in entry.counted:
        said = by_digest.get(each.attestation)
        if said is None or not _is_of(said, each, entry):
            return Refusal("unfounded", f"{each.builder} has not stated here what the entry says of it.")
        inputs.add(said.facts.inputs)
    if len(inputs) > 1:
        return Refusal("unfounded", "The builds that are counted are made from different inputs.")
    by_rounds = {b.builder: b.job for b in entry.counted}
    if entry.witnessed and (entry.normalisers or not rounds.is_witnessed(draft, by_rounds, entry)):
        return Refusal("unwitnessed", "Not all that count had committed before any digest was to be seen.")
    claim = Claim(entry.branch, entry.commit, min(inputs), entry.normalisers, entry.digests)
    # Signatures nobody can look at here: of what is said in a builder's name all is taken for its own.
    against = contradicting(claim, [said for said, _ in every.values()], good=lambda said: True)
    for path, (said_other, digest) in sorted(every.items()):
        if any(each is said_other for each in against) and digest not in entry.dismissed:
            return Refusal(
                "dissent",
                f"{said_other.builder}, job {said_other.facts.job}, has other bytes (`{path}`).",
                "Find out who is right. The policy passes over a statement that is wrong by its digest.",
            )
    return None


def _is_of(said: Attestation, counted: CountedBuild, entry: Promotion) -> bool:
    return (
        (said.builder, said.facts.job) == (counted.builder, counted.job)
        and (said.order.branch, said.order.commit) == (entry.branch, entry.commit)
        and sorted(said.facts.normalisers) == sorted(entry.normalisers)
        and said.artifacts == entry.digests
    )


def _restores_other(draft: Draft, entry: Promotion) -> Refusal | None:
    if entry.restores is None:
        return None
    old = draft.get(Promotion, paths.promotion(entry.branch, entry.restores))
    if old is None or (old.commit, old.digests) != (entry.commit, entry.digests):
        return Refusal("other-bytes", f"Number {entry.restores} of {entry.branch} is of other bytes.")
    return None


def _tell(draft: Draft, entry: Promotion, builder: str) -> None:
    verb = "Promoted" if entry.action == "promote" else f"Rolled back to number {entry.restores}"
    by = ", ".join(each.builder for each in entry.counted)
    body = f"Number {entry.number} of {entry.branch}, signed by {entry.promoter}; built by {by}."
    mailbox.notify(draft, builder, "info", f"{verb}: {entry.branch} at {entry.commit[:10]}", body)


# What is read of it, also by who decides


def basis_of(view: View, branch: str, commit: str) -> str:
    """Returns the digest of everything in the ledger that a promotion of a commit rests on."""
    files = [*_in(view, paths.attestations(commit)), *_in(view, paths.REVOCATIONS)]
    head = view.read(paths.promotion_head(branch))
    data = view.read(paths.JOBS)
    jobs = lists.read(Jobs, data, paths.JOBS).jobs if data else []
    reported = {j.id: j.manifest for j in jobs if (j.branch, j.commit) == (branch, commit) and j.manifest}
    basis = {
        "files": {path: sha256_of(view.read(path) or b"") for path in files},
        "head": sha256_of(head) if head else None,
        "reported": reported,
    }
    if late := rounds.revealed_late(view, branch, commit, {job.id for job in jobs}):
        basis["revealed"] = late
    return sha256_of(dump_json(basis))


def attestations(view: View, commit: str) -> dict[str, tuple[Attestation, str]]:
    """Returns what builders have stated about a commit: path -> statement and SHA-256."""
    found = {}
    for path in _in(view, paths.attestations(commit)):
        if not path.endswith(_SIGNATURE):
            data = view.read(path) or b""
            found[path] = read_statement(Attestation, data, path), sha256_of(data)
    return found


def _in(view: View, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in view.names(folder)]


def _payloads(draft: Draft) -> tuple[bytes, bytes]:
    try:
        statement, signature = (draft.context.payloads[name] for name in ("statement", "signature"))
    except KeyError as exc:
        raise RecordInvalid("request", str(exc.args[0]), "it comes without its bytes") from exc
    if not signature or len(signature) > LARGEST_SIGNATURE_BYTES:
        raise RecordInvalid("request", "signature", f"{len(signature):,} bytes are no signature")
    return statement, signature


def _keep(draft: Draft, path: str, data: bytes, signature: bytes, model: type[Statement]) -> dict[str, Any]:
    """Writes a statement and its signature, unless that statement is there already."""
    there = draft.exists(path)
    if not there:
        draft.keep(path, data, model)
        draft.keep(paths.signature(path), signature)
    return {"path": path, "sha256": sha256_of(data), "there": there}

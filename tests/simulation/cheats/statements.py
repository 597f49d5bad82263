"""Statements and policies that are forged."""

from __future__ import annotations

import json
from typing import Any

from pipeline.coordination.counting import Case, count
from pipeline.edge.signatures import Signer
from pipeline.operations import policy as policies
from pipeline.operations import site as sites
from pipeline.operations.attest import inputs_digest, promotable, statements
from pipeline.operations.trust import Signed
from pipeline.records.attestation import BuildFacts, BuildOrder, attestation_of
from pipeline.records.base import dump, dump_json, load
from pipeline.records.builds import Manifest
from pipeline.records.decisions import Refusal
from pipeline.records.jobs import Job
from pipeline.records.policy import Policy
from pipeline.records.statements import Kind, made, sha256_of
from tests.simulation.cheats.base import TAKEN, Attempt, cheat, refused, sent
from tests.simulation.comparing import jobs_of
from tests.simulation.disk import VirtualPath
from tests.simulation.promoting import (
    OPEN,
)

# ---------------------------------------------------------------- what they forge


def _attestation(attempt: Attempt, job: Job, key: Signer, **changes: Any) -> tuple[bytes, bytes] | None:
    """Returns a statement about a job as its builder would make it, but for what is changed, and signed."""
    data = attempt.view.read(job.manifest or "")
    if data is None:
        return None
    manifest = load(Manifest, data, "the manifest")
    policy = VirtualPath(attempt.node, "policy", "policy.json").read_bytes()
    machines = {each["name"]: each["machine"] for each in json.loads(policy)["builders"]}
    builder = str(changes.pop("builder", job.assigned_to))
    artifacts = changes.pop("artifacts", promotable(manifest))
    facts: dict[str, Any] = {
        "ledger": attempt.mine.ledger,
        "job": job.id,
        "token": job.token or "",
        "attempt": job.attempt,
        "inputs": inputs_digest(manifest),
        "manifest": sha256_of(data),
        "policy": sha256_of(policy),
        "machine": machines.get(builder, "m"),
        "key": key.public_key.fingerprint,
        "normalisers": [],
        "readable_keys": [],
    }
    order = BuildOrder(branch=job.branch, commit=job.commit)
    of = BuildFacts.model_validate({**facts, **changes}, by_name=True)
    said = dump(attestation_of(builder, order, of, f"forged by {attempt.program.name}", artifacts))
    return said, key.sign(said, Kind.ATTESTATION)


def _builds(attempt: Attempt, builder: str = "", branch: str = "") -> list[Job]:
    """Returns builds of campaigns that are to be seen: this builder's, or another's."""
    return [
        job
        for job in sites.jobs(attempt.view).jobs
        if attempt.mine.wants(job)
        and (job.assigned_to, job.outcome) == (builder or attempt.me, "succeeded")
        and job.manifest is not None
        and job.branch == (branch or job.branch)
    ][-4:]


def _publish(attempt: Attempt, job: Job, data: bytes, signature: bytes, builder: str = "") -> None:
    request = {"kind": "attestation.publish", "job_id": job.id, "builder": builder or attempt.me}
    sent(attempt.site, request, statement=data, signature=signature)


def _counted(attempt: Attempt, job: Job, digests: set[str]) -> str | None:
    """Publishes nothing: returns as what the product refuses to count these statements alone, as they lie
    in the ledger. None where the policy was another one meanwhile.
    """
    view, trust = attempt.site.state().view, attempt.mine.trust(attempt.node)
    rules = policies.rules_of(view, trust)
    seen = [each for each in statements(view, trust, rules, job.commit) if each.sha256 in digests]
    if not seen:
        return None
    files = seen[0].statement.artifacts
    found = count(Case(rules, rules.policy.ledger, job.branch, job.commit, files, seen))
    return found.reason if isinstance(found, Refusal) else TAKEN


def _forged(attempt: Attempt, key: Signer, spoil: bool = False, builder: str = "") -> str | None:
    """Publishes a statement of a true build in its builder's name, signed by somebody, and has it counted."""
    jobs = _builds(attempt, builder)
    job = attempt.dice.pick(jobs) if jobs else None
    forged = _attestation(attempt, job, key) if job else None
    if job is None or forged is None:
        return None
    data, signature = forged
    _publish(attempt, job, data, b"nobody's" if spoil else signature, builder)
    return _counted(attempt, job, {sha256_of(data)})


#: What may be true of a statement by the time it is counted, whoever made it.
_OVERTAKEN = ("other-policy", "revoked-key", "unwitnessed", "unknown-key", "too-few", "too-large")


# ---------------------------------------------------------------- statements


@cheat("a statement of a true build, with no signature of anybody", "bad-signature")
def unsigned(attempt: Attempt) -> str | None:
    return _forged(attempt, attempt.mine.key(attempt.me), spoil=True)


@cheat("a statement that is signed with a key that the policy does not name", "unknown-key")
def unknown_key(attempt: Attempt) -> str | None:
    return _forged(attempt, attempt.mine.notary.signer("stranger"))


@cheat("a statement that is signed with a key that was revoked", "revoked-key", late=["unknown-key"])
def revoked_key(attempt: Attempt) -> str | None:
    # The policy in which the key is named may be in force here, or the next one.
    for builder, lost in sorted(attempt.mine.lost_keys.items()):
        key = attempt.mine.notary.signer(f"{builder}.{lost - 1}") if lost else None
        reason = _forged(attempt, key, builder=builder) if key else None
        if reason is not None:
            return reason
    return None


@cheat("one builder signs with both of its keys, and would be two", "too-few", late=_OVERTAKEN)
def two_keys_of_one_builder(attempt: Attempt) -> str | None:
    for builder in sorted(attempt.mine.with_two_keys):
        digests = set()
        for job in _builds(attempt, builder, OPEN)[-1:]:
            for key in (attempt.mine.key(builder), attempt.mine.second_key(builder)):
                forged = _attestation(attempt, job, key)
                if forged is not None:
                    _publish(attempt, job, *forged, builder=builder)
                    digests.add(sha256_of(forged[0]))
            return _counted(attempt, job, digests)
    return None


@cheat("the key of one builder signs in another's name", "other-builder", late=_OVERTAKEN)
def one_key_as_two_builders(attempt: Attempt) -> str | None:
    others = [
        job
        for job in sites.jobs(attempt.view).jobs
        if attempt.mine.wants(job) and job.outcome == "succeeded" and job.manifest
        if job.assigned_to not in (None, attempt.me)
    ]
    job = attempt.dice.pick(others[-4:]) if others else None
    forged = _attestation(attempt, job, attempt.mine.key(attempt.me)) if job else None
    if job is None or forged is None:
        return None
    _publish(attempt, job, *forged, builder=job.assigned_to or "")
    return _counted(attempt, job, {sha256_of(forged[0])})


@cheat("a policy that names one key for two builders, and the root signed it", "unreadable")
def one_key_in_two_places(attempt: Attempt) -> str | None:
    value = attempt.mine.policy(attempt.mine.drafted + 1000, 0)
    if len(value["builders"]) < 2:
        return None
    value["builders"][1]["keys"] = value["builders"][0]["keys"]
    data = dump_json(value)
    return _believed(attempt, data, attempt.mine.root.sign_unnoted(data, Kind.POLICY))


@cheat("a policy in which a builder enrols a key and asks for one builder, signed by itself", "unknown-key")
def enrolled_key(attempt: Attempt) -> str | None:
    value = attempt.mine.policy(attempt.mine.drafted + 1, 0) | {"k": 1}
    value["builders"][0]["keys"] = [attempt.mine.notary.signer("stranger").public_key.text]
    data = dump(made(Policy, value))
    return _believed(attempt, data, attempt.mine.key(attempt.me).sign(data, Kind.POLICY))


def _believed(attempt: Attempt, data: bytes, signature: bytes) -> str:
    trust = attempt.mine.trust(attempt.node)
    return refused(lambda: trust.read_policy(Signed(data, signature), "a policy"))


@cheat(
    "a builder writes k = 1 into the ledger, and has its own statement counted", "too-few", late=_OVERTAKEN
)
def k_lowered_in_the_ledger(attempt: Attempt) -> str | None:
    jobs = _builds(attempt, branch=OPEN)
    job = attempt.dice.pick(jobs) if jobs else None
    forged = _attestation(attempt, job, attempt.mine.key(attempt.me)) if job else None
    if job is None or forged is None:
        return None
    config = sites.build_config(attempt.view).model_dump(mode="json") | {"k": 1, "policy": {"k": 1}}
    attempt.site.ask({"kind": "config.set", "config": config})
    _publish(attempt, job, *forged)
    return _counted(attempt, job, {sha256_of(forged[0])})


@cheat("a builder states other bytes than its job has reported", "other-bytes", late=["not-found"])
def other_bytes_stated(attempt: Attempt) -> str | None:
    jobs = _builds(attempt)
    job = attempt.dice.pick(jobs) if jobs else None
    artifacts = {"a.deb": sha256_of(b"evil"), "b.deb": sha256_of(b"evil too")}
    forged = _attestation(attempt, job, attempt.mine.key(attempt.me), artifacts=artifacts) if job else None
    if job is None or forged is None:
        return None
    return refused(lambda: _publish(attempt, job, *forged))


@cheat("a builder states what another's job made as its own", "not-yours", late=["not-found"])
def anothers_job_stated(attempt: Attempt) -> str | None:
    others = [job for of in attempt.mine.campaigns[-3:] for job in jobs_of(attempt.view, of)]
    others = [job for job in others if job.assigned_to != attempt.me]
    job = attempt.dice.pick(others) if others else None
    key = attempt.mine.key(attempt.me)
    forged = _attestation(attempt, job, key, builder=attempt.me) if job else None
    if job is None or forged is None:
        return None
    return refused(lambda: _publish(attempt, job, *forged))

"""Promotion: what was committed to, revealed, signed and promoted.

A second statement of the rules, over raw JSON. Who signed what, and what a build truly made, comes from the
notary of the simulation (`tests/simulation/notary.py`) and from no verifier; where there is none, only what
the chain itself shows is checked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.records import paths
from pipeline.records.jobs import Job
from pipeline.records.statements import Kind
from tests.simulation.invariants.base import Step, fail, violated

if TYPE_CHECKING:
    from tests.simulation.notary import Notary

#: Who promotes with the product's own operation. Any other key of the policy's promoters may be misused.
HONEST = "operator"
_TRUST = paths.TRUST + "/"
_ROUNDS = f"{_TRUST}rounds/"
_DIGEST = re.compile(rb"[0-9a-f]{64}")
#: Bytes of a statement, and of the signature that lies beside them.
Said = tuple[bytes, bytes | None]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@lru_cache(2000)
def read(data: bytes) -> Any:
    """Returns the JSON of some bytes; nobody changes it."""
    return json.loads(data)


@lru_cache(100)
def _fingerprint(key: str) -> str:
    return (
        "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(key.split()[1])).digest()).decode()[:43]
    )


class _Attestation:
    """What a builder says, and whose signature that truly is."""

    def __init__(self, data: bytes, signature: bytes | None, notary: Notary) -> None:
        doc = read(data)
        definition = doc["predicate"]["buildDefinition"]
        self.sha256 = sha256(data)
        self.builder = doc["predicate"]["runDetails"]["builder"]["id"].rpartition(":")[2]
        self.order = definition["externalParameters"]
        self.facts = definition["internalParameters"]
        self.artifacts = {each["name"]: each["digest"]["sha256"] for each in doc["subject"]}
        self.by = notary.signed_by(data, signature, Kind.ATTESTATION)


# ---------------------------------------------------------------- agreement


def insist_on_agreement(
    name: str,
    notary: Notary,
    data: bytes,
    signature: bytes | None,
    said: Iterable[Said],
    revoked: frozenset[str],
    about: str = "",
) -> None:
    """Insists that k builders on k machines, with keys of the entry's policy, signed what an entry promotes.

    `revoked` are fingerprints that count for nothing.
    """
    entry = read(data)
    where = f"number {entry['number']} of {entry['branch']}{about}"
    policy = notary.policies.get(entry["policy"])
    if policy is None:
        violated(name, f"{where} rests on a policy that the root never signed")
        return
    promoters = {_fingerprint(key) for each in policy["promoters"] for key in each["keys"]}
    by = notary.signed_by(data, signature, Kind.PROMOTION)
    if by not in promoters - revoked:
        violated(name, f"{where} is signed by {by}, who may not promote")
    agree: dict[str, str] = {}
    for each in (_Attestation(*one, notary) for one in said):
        builder = next((one for one in policy["builders"] if one["name"] == each.builder), None)
        if builder is not None and _agrees(each, entry, builder, revoked):
            agree[each.sha256] = each.facts["machine"]
    counted = {each["builder"]: agree.get(each["attestation"]) for each in entry["counted"]}
    if None in counted.values() or len(counted) < policy["k"]:
        violated(name, f"{where} counts {counted}, and k is {policy['k']}")
    if len(set(counted.values())) < policy["k"]:
        violated(name, f"{where} counts one machine twice: {counted}")
    rule = policy["branches"].get(entry["branch"])
    if rule and rule["commit_and_reveal"] and not entry["witnessed"]:
        violated(name, f"{where} counts what was not committed to beforehand")


def _agrees(said: _Attestation, entry: Any, builder: Any, revoked: frozenset[str]) -> bool:
    """Says whether a statement is a builder's own, under the entry's policy, of the entry's bytes."""
    keys = {_fingerprint(key) for key in builder["keys"]} - revoked
    wanted = {
        "ledger": entry["ledger"],
        "policy": entry["policy"],
        "machine": builder["machine"],
        "key": said.by,
        "normalisers": entry["normalisers"],
    }
    return (
        said.by in keys
        and all(said.facts[name] == value for name, value in wanted.items())
        and said.order == {"branch": entry["branch"], "commit": entry["commit"]}
        and said.artifacts == {each["name"]: each["sha256"] for each in entry["artifacts"]}
    )


def _statements(step: Step, folder: str, unborn: set[str]) -> list[Said]:
    """Returns the statements in a folder, but for those that a later request of the step wrote."""
    found = []
    for name in step.tree.names(folder):
        path = f"{folder}/{name}"
        if not name.endswith(".sig") and name != "head.json" and path not in unborn:
            found.append((step.tree.read(path) or b"", step.tree.read(paths.signature(path))))
    return found


def entered(step: Step) -> Iterator[tuple[bytes, bytes | None, set[str]]]:
    """Yields the promotions that a step entered, with signature, and what later requests of it wrote."""
    written = [
        (entry.request["kind"], str((entry.outcome.get("value") or {}).get("path")))
        for entry in step.record.entries
        if entry.outcome["ok"] and entry.request["kind"] in _PUBLISHING
    ]
    for position, (kind, path) in enumerate(written):
        data = step.changed.get(path)
        if kind == "promotion.enter" and data is not None:
            later = {each for _, each in written[position + 1 :]} - {each for _, each in written[:position]}
            yield data, step.changed.get(paths.signature(path)), later


_PUBLISHING = ("promotion.enter", "attestation.publish", "revocation.publish")


def _revoked(step: Step, notary: Notary, unborn: set[str]) -> frozenset[str]:
    """Returns the keys that the root has revoked, by the lists in the ledger."""
    lists = [notary.revocations.get(sha256(data)) for data, _ in _statements(step, paths.REVOCATIONS, unborn)]
    return frozenset(each["key"] for one in lists if one for each in one["revoked"])


def _is_honest(notary: Notary, data: bytes, signature: bytes | None) -> bool:
    """Says whether an entry was signed by the promoter that uses the product's own operation."""
    return notary.signed_by(data, signature, Kind.PROMOTION) == notary.signer(HONEST).fingerprint


def promoted_is_agreed(step: Step) -> None:
    """What the honest promoter enters, k builders of its policy on k machines had signed by then."""
    notary = step.notary
    if notary is None:
        return
    for data, signature, unborn in entered(step):
        if _is_honest(notary, data, signature):
            said = _statements(step, paths.attestations(read(data)["commit"]), unborn)
            revoked = _revoked(step, notary, unborn)
            about = f" (commit {step.commit[:10]})"
            insist_on_agreement("promoted-is-agreed", notary, data, signature, said, revoked, about)


def no_dissent_passed(step: Step) -> None:
    """No entry, whoever signed it, is silent about a statement of other bytes of the same build; what the
    honest promoter passes over its policy has dismissed, and there is no unsigned manifest either.
    """
    notary = step.notary
    if notary is None:
        return
    for data, signature, unborn in entered(step):
        entry = read(data)
        digests = {each["name"]: each["sha256"] for each in entry["artifacts"]}
        every = [
            _Attestation(*one, notary)
            for one in _statements(step, paths.attestations(entry["commit"]), unborn)
        ]
        counted = {each["attestation"] for each in entry["counted"]}
        inputs = {each.facts["inputs"] for each in every if each.sha256 in counted}
        against = {
            each.sha256
            for each in every
            if each.facts["inputs"] in inputs
            and each.order == {"branch": entry["branch"], "commit": entry["commit"]}
            and each.facts["normalisers"] == entry["normalisers"]
            and each.artifacts != digests
        }
        if silent := against - set(entry["dismissed"]):
            fail("no-dissent-passed", step, f"{entry['branch']} {entry['number']} is silent about {silent}")
        if not _is_honest(notary, data, signature):
            continue
        policy = notary.policies.get(entry["policy"]) or {"dismissed": []}
        if open_ones := against - {each["sha256"] for each in policy["dismissed"]}:
            fail("no-dissent-passed", step, f"{entry['branch']} {entry['number']} passes over {open_ones}")
        signed = {each.facts["job"] for each in every}
        for job, made in _unsigned(step, entry, signed):
            if made != digests:
                fail("no-dissent-passed", step, f"{entry['number']} passes over {job}, which nobody signed")


def _unsigned(step: Step, entry: Any, signed: set[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields builds of an entry's commit and inputs of which there was a manifest and no statement."""
    jobs = {job.id: job for job in step.before.jobs.jobs if job.manifest}
    recipes = []
    for each in entry["counted"]:
        job = jobs.get(each["job"])
        data = step.tree.read(job.manifest or "") if job else None
        recipes.append(read(data)["recipe"] if data else None)
    for job in jobs.values():
        if (job.branch, job.commit, job.outcome) != (entry["branch"], entry["commit"], "succeeded"):
            continue
        manifest = read(step.tree.read(job.manifest or "") or b"{}")
        if job.id not in signed and manifest.get("recipe") in recipes:
            yield job.id, {one["path"]: one["checksums"]["sha256"] for one in manifest["artifacts"]}


def entries_are_founded(step: Step) -> None:
    """Whoever enters a promotion counts builders that have stated its bytes in the ledger, of one input."""
    notary = step.notary
    if notary is None:
        return None
    for data, _, unborn in entered(step):
        entry = read(data)
        said = {
            each.sha256: each
            for each in (
                _Attestation(*one, notary)
                for one in _statements(step, paths.attestations(entry["commit"]), unborn)
            )
        }
        digests = {each["name"]: each["sha256"] for each in entry["artifacts"]}
        inputs = set()
        for each in entry["counted"]:
            one = said.get(each["attestation"])
            if one is None or (one.builder, one.artifacts) != (each["builder"], digests):
                return fail(
                    "entries-are-founded", step, f"{each['builder']} has not stated {entry['number']}"
                )
            inputs.add(one.facts["inputs"])
        if len(inputs) > 1:
            return fail("entries-are-founded", step, f"{entry['number']} counts builds of several inputs")
    return None


# ---------------------------------------------------------------- numbers, and what stays


def numbers_go_forward(step: Step) -> None:
    """A branch's entries are numbered without a gap, each names the one before, and the head the last."""
    for path, data in step.changed.items():
        folder, _, name = path.rpartition("/")
        if not path.startswith(f"{_TRUST}promotions/") or name.endswith(".sig"):
            continue
        if name == "head.json":
            head, names = read(data or b"{}"), step.tree.names(folder)
            last = max((each for each in names if each[0].isdigit() and each.endswith(".json")), default="")
            if head.get("sha256") != sha256(step.tree.read(f"{folder}/{last}") or b""):
                fail("numbers-go-forward", step, f"the head of {folder} is {head}, and {last} the last")
            continue
        entry = read(data or b"{}")
        number = entry.get("number", 0)
        before = step.tree.read(f"{folder}/{number - 1:09d}.json")
        if f"{number:09d}.json" != name or entry["predecessor"] != (sha256(before) if before else None):
            fail("numbers-go-forward", step, f"{path} does not follow the entry before it")
        if number > 1 and before is None:
            fail("numbers-go-forward", step, f"{path} follows nothing")


def statements_are_kept(step: Step) -> None:
    """What was stated is never changed nor removed; a round only gets commitments and reveals."""
    for path in step.existed:
        if not path.startswith(_TRUST) or path.endswith("/head.json"):
            continue
        if not path.endswith("/round.json"):
            return fail("statements-are-kept", step, f"{path} was written again")
        before, after = round_before(step, path), read(step.changed[path] or b"{}")
        if before is None:
            continue
        for name in ("branch", "commit", "participants"):
            if before[name] != after.get(name):
                return fail("statements-are-kept", step, f"{path}: {name} changed")
        for name in ("committed", "revealed"):
            if any(after[name].get(key) != value for key, value in before[name].items()):
                return fail("statements-are-kept", step, f"{path}: {name} lost something")
    return None


def round_before(step: Step, path: str) -> Any:
    data = step.tree_before.read(path)
    return None if data is None else read(data)


def find_job(jobs: Iterable[Job], id: str) -> Job | None:
    return next((job for job in jobs if job.id == id), None)


def statements_are_of_builds(step: Step) -> None:
    """A builder's statement is of a job that succeeded on it, of its last attempt, and of what it made."""
    notary = step.notary
    for entry in step.record.entries if notary is not None else ():
        if entry.request["kind"] != "attestation.publish" or not entry.outcome["ok"]:
            continue
        data = step.changed.get(entry.outcome["value"]["path"])
        job = find_job(step.after.jobs.jobs, entry.request["job_id"])
        if data is None or job is None or notary is None:
            continue
        said = _Attestation(data, None, notary)
        theirs = said.builder == job.assigned_to == entry.request["builder"]
        attempt = (said.facts["job"], said.facts["token"], said.facts["attempt"])
        if not theirs or job.outcome != "succeeded" or attempt != (job.id, job.token, job.attempt):
            return fail("statements-are-of-builds", step, f"{said.builder} states what {job.id} made")
        made = notary.built.get(job.id, {}).get(job.attempt)
        if said.artifacts != made or said.order != {"branch": job.branch, "commit": job.commit}:
            return fail("statements-are-of-builds", step, f"{said.builder} states other bytes of {job.id}")
    return None


INVARIANTS = (
    promoted_is_agreed,
    entries_are_founded,
    no_dissent_passed,
    numbers_go_forward,
    statements_are_kept,
    statements_are_of_builds,
)

"""Evidence about builds, made up: a policy of three builders, what they attest, and what was promoted."""

from __future__ import annotations

from typing import Any

from pipeline.records.attestation import Attestation, BuildFacts, BuildOrder, attestation_of
from pipeline.records.base import dump
from pipeline.records.policy import Policy, Revocations
from pipeline.records.promotion import Promotion
from pipeline.records.statements import made, sha256_of
from tests.contracts.signing import FakeSigner

LEDGER = "1ed9e5" * 6 + "abcd"
COMMIT = "c0ffee" * 6 + "abcd"
BRANCH = "ExternalNew"
NAMES = ("build1", "build2", "build3")
FILES = {"debs/common_1_all.deb": "aa" * 32, "debs/agent_1_all.deb": "bb" * 32}
SIZES = {"debs/common_1_all.deb": 100, "debs/agent_1_all.deb": 200}

KEYS = {
    "build1": FakeSigner("one"),
    "build2": FakeSigner("two"),
    "build3": FakeSigner("three"),
    "operator": FakeSigner("operator"),
    "root": FakeSigner("root"),
    "stranger": FakeSigner("stranger"),
}


def policy(**changes: Any) -> Policy:
    """A policy by which two of three builders have to agree."""
    value = {
        "kind": "policy",
        "format": 1,
        "ledger": LEDGER,
        "number": 1,
        "k": 2,
        "builders": [
            {"name": n, "machine": f"machine-{n}", "keys": [KEYS[n].public_key.text], "reads_keys_of": []}
            for n in NAMES
        ],
        "promoters": [{"name": "operator", "keys": [KEYS["operator"].public_key.text]}],
        "normalisers": [],
        "checks": [],
        "branches": {"secret": {"commit_and_reveal": True}},
        "dismissed": [],
        "revocations": 0,
        "allow_shared_keys": False,
        "allow_shared_machine": False,
    }
    return made(Policy, value | changes)


POLICY = sha256_of(dump(policy()))


def attestation(
    builder: str,
    files: dict[str, str] | None = None,
    *,
    branch: str = BRANCH,
    commit: str = COMMIT,
    **facts: Any,
) -> Attestation:
    """What a builder says of its build."""
    order = BuildOrder(branch=branch, commit=commit)
    known: dict[str, Any] = {
        "ledger": LEDGER,
        "job": f"job-{builder}",
        "token": "1.7.op",
        "attempt": 1,
        "inputs": "11" * 32,
        "manifest": "22" * 32,
        "policy": POLICY,
        "machine": f"machine-{builder}",
        "key": KEYS[builder].public_key.fingerprint
        if builder in KEYS
        else KEYS["stranger"].public_key.fingerprint,
        "normalisers": [],
        "readable_keys": [],
    }
    made_of = BuildFacts(**(known | facts))
    return attestation_of(
        builder, order, made_of, "https://example.org/c.git", FILES if files is None else files
    )


def revocations(*names: str, number: int = 1) -> Revocations:
    """A list of revoked keys; a stranger's, unless builders are named."""
    revoked = [
        {"key": KEYS[name].public_key.fingerprint, "reason": "lost"} for name in names or ("stranger",)
    ]
    value = {"kind": "revocations", "format": 1, "ledger": LEDGER, "number": number, "revoked": revoked}
    return made(Revocations, value)


def promotion(**changes: Any) -> Promotion:
    """The first entry of a branch."""
    value = {
        "kind": "promotion",
        "format": 1,
        "action": "promote",
        "ledger": LEDGER,
        "branch": BRANCH,
        "number": 1,
        "predecessor": None,
        "restores": None,
        "commit": COMMIT,
        "counted": [
            {"builder": n, "job": f"job-{n}", "attestation": sha256_of(dump(attestation(n)))}
            for n in ("build1", "build2")
        ],
        "artifacts": [
            {"name": name, "size_bytes": SIZES[name], "sha256": digest}
            for name, digest in sorted(FILES.items())
        ],
        "verdict": "AGREE",
        "normalisers": [],
        "policy": POLICY,
        "policy_number": 1,
        "revocations": 0,
        "dismissed": [],
        "witnessed": False,
        "keys": "separate",
        "checks": [],
        "as_of": "ab" * 20,
        "promoter": "operator",
    }
    return made(Promotion, value | changes)

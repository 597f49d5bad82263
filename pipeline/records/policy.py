"""The operator's policy of promotion, and the keys that are revoked: both signed by the root key."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.records.keys import KeyText, read_public_key
from pipeline.records.names import BranchName, BuilderName, Oid
from pipeline.records.statements import (
    Fingerprint,
    MachineId,
    Number,
    Part,
    Sha256,
    Statement,
    Words,
    insist_once,
)


class PolicyBuilder(Part):
    """A builder that may count. `reads_keys_of` are builders whose private keys it could get at."""

    name: BuilderName
    machine: MachineId
    keys: Annotated[list[KeyText], Field(min_length=1)]
    reads_keys_of: list[BuilderName]


class Promoter(Part):
    """Who may move the pointer. The name is for people."""

    name: BuilderName
    keys: Annotated[list[KeyText], Field(min_length=1)]


class BranchRule(Part):
    """What holds on one branch. `commit_and_reveal`: only what was committed to before it was seen counts."""

    commit_and_reveal: bool


class Dismissed(Part):
    """A statement of dissent that the operator has looked at and passes over, by its SHA-256."""

    sha256: Sha256
    reason: Words


class Policy(Statement):
    """Who must agree before anything is promoted; signed by the root key, which is pinned on each machine.

    `k` builders must have signed the same bytes. `ledger` is the ledger's first commit. Numbers only grow.
    `revocations` is the number of the list of revoked keys that there was when this was signed; 0 for none.
    """

    kind: Literal["policy"]
    format: Literal[1]
    ledger: Oid
    number: Number
    k: Annotated[int, Field(ge=1, le=100)]
    builders: Annotated[list[PolicyBuilder], Field(min_length=1)]
    promoters: Annotated[list[Promoter], Field(min_length=1)]
    normalisers: list[Words]
    checks: list[Literal["install"]]
    branches: dict[BranchName, BranchRule]
    dismissed: list[Dismissed]
    revocations: Annotated[int, Field(ge=0, le=1_000_000_000)]
    allow_shared_keys: bool
    allow_shared_machine: bool

    @model_validator(mode="after")
    def _one_key_one_name(self) -> Policy:
        names = [each.name for each in self.builders]
        insist_once("builder", names)
        insist_once("promoter", [each.name for each in self.promoters])
        listed = [each.keys for each in self.builders] + [each.keys for each in self.promoters]
        insist_once("key", [read_public_key(key).point.hex() for keys in listed for key in keys])
        if self.k > len(names):
            raise ValueError(f"k is {self.k}, of {len(names)} builders")
        for each in self.builders:
            if unknown := sorted(set(each.reads_keys_of) - set(names)):
                raise ValueError(f"{each.name} reads the keys of {unknown[0]}, which is no builder here")
        return self

    @property
    def builder_keys(self) -> dict[str, list[str]]:
        """Returns the builders' keys by name."""
        return {each.name: list(each.keys) for each in self.builders}

    @property
    def promoter_keys(self) -> dict[str, list[str]]:
        """Returns the promoters' keys by name."""
        return {each.name: list(each.keys) for each in self.promoters}


class Revoked(Part):
    """A key that counts for nothing, whenever it signed."""

    key: Fingerprint
    reason: Words


class Revocations(Statement):
    """All keys that were revoked, signed by the root key. Numbers only grow; no key is ever taken back."""

    kind: Literal["revocations"]
    format: Literal[1]
    ledger: Oid
    number: Number
    revoked: Annotated[list[Revoked], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_once(self) -> Revocations:
        insist_once("key", [each.key for each in self.revoked])
        return self

    @property
    def keys(self) -> frozenset[str]:
        """Returns the fingerprints."""
        return frozenset(each.key for each in self.revoked)

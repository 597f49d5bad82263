"""What is signed about builds: the operator's policy, revocations, attestations, promotions.

Each is a *statement*: canonical JSON whose stored bytes are signed. Nothing is filled in and nothing ignored:
a field that is missing, unknown, of another type or there twice makes it unreadable, and so does any other
way to write the same JSON. `read_statement` is the only way in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from pipeline.errors import RecordInvalid
from pipeline.records.base import Record, dump, load, validate
from pipeline.records.keys import KeyText, read_public_key
from pipeline.records.names import BranchName, BuilderName, JobId, Oid

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]
MachineId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
TokenText = Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+\.[A-Za-z0-9_.-]{1,100}$")]
Words = Annotated[str, StringConstraints(max_length=500)]
Number = Annotated[int, Field(ge=1, le=1_000_000_000)]

IN_TOTO = "https://in-toto.io/Statement/v1"
SLSA = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:cloudstack-build-pipeline:job:v1"
_BUILDER_URN = "urn:cloudstack-build-pipeline:builder:"


class Kind(StrEnum):
    """What a signature is of. Each has one constant namespace, so that it means nothing elsewhere."""

    POLICY = "policy@cloudstack-build-pipeline"
    REVOCATIONS = "revocations@cloudstack-build-pipeline"
    ATTESTATION = "attestation@cloudstack-build-pipeline"
    PROMOTION = "promotion@cloudstack-build-pipeline"
    COMMITMENT = "commitment@cloudstack-build-pipeline"


def _file_name(value: str) -> str:
    parts = value.split("/")
    plain = all(p.isascii() and p[0].isalnum() and not set(p) - _NAME for p in parts if p)
    if not all(parts) or not plain or len(value) > 200 or len(parts) > 4:
        raise ValueError("an artifact is named by a plain path inside its set")
    return value


_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+~%-")
FileName = Annotated[str, AfterValidator(_file_name)]


class Part(Record):
    """A shape inside a statement: nothing in it but what is named."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Statement(Part):
    """Something that is signed, as a whole."""


S = TypeVar("S", bound=Statement)


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
        _insist_once("builder", names)
        _insist_once("promoter", [each.name for each in self.promoters])
        listed = [each.keys for each in self.builders] + [each.keys for each in self.promoters]
        _insist_once("key", [read_public_key(key).point.hex() for keys in listed for key in keys])
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
        _insist_once("key", [each.key for each in self.revoked])
        return self

    @property
    def keys(self) -> frozenset[str]:
        """Returns the fingerprints."""
        return frozenset(each.key for each in self.revoked)


class Digests(Part):
    sha256: Sha256


class Subject(Part):
    """One artifact, by its path inside the set."""

    name: FileName
    digest: Digests


class BuildOrder(Part):
    """`externalParameters`: what was asked for."""

    branch: BranchName
    commit: Oid


class BuildFacts(Part):
    """`internalParameters`: which job it was, under which policy, and on which machine.

    `inputs` is the digest of everything that two builds must have in common to be held against each other.
    `readable_keys` are builders whose private keys this one found that it could read.
    """

    ledger: Oid
    job: JobId
    token: TokenText
    attempt: Annotated[int, Field(ge=1)]
    inputs: Sha256
    manifest: Sha256
    policy: Sha256
    machine: MachineId
    key: Fingerprint
    normalisers: list[Words]
    readable_keys: list[BuilderName] = Field(alias="readableKeys")


class SourceDigest(Part):
    commit: Oid = Field(alias="gitCommit")


class Source(Part):
    """A `resolvedDependencies` entry: the source that was built."""

    uri: Words
    digest: SourceDigest


class BuildDefinition(Part):
    build_type: Literal["urn:cloudstack-build-pipeline:job:v1"] = Field(alias="buildType")
    external_parameters: BuildOrder = Field(alias="externalParameters")
    internal_parameters: BuildFacts = Field(alias="internalParameters")
    resolved_dependencies: Annotated[list[Source], Field(min_length=1, max_length=1)] = Field(
        alias="resolvedDependencies"
    )


class BuilderId(Part):
    id: Annotated[str, StringConstraints(pattern=rf"^{_BUILDER_URN}[a-z][a-z0-9_-]{{0,62}}$")]


class RunDetails(Part):
    builder: BuilderId


class Provenance(Part):
    """SLSA's provenance, version 1."""

    build_definition: BuildDefinition = Field(alias="buildDefinition")
    run_details: RunDetails = Field(alias="runDetails")


class Attestation(Statement):
    """That a builder made these artifacts: an in-toto statement, version 1."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[list[Subject], Field(min_length=1)]
    predicate_type: Literal["https://slsa.dev/provenance/v1"] = Field(alias="predicateType")
    predicate: Provenance

    @model_validator(mode="after")
    def _each_once(self) -> Attestation:
        _insist_once("artifact", [each.name for each in self.subject])
        if self.source.digest.commit != self.order.commit:
            raise ValueError("the source's commit is not the one that was asked for")
        return self

    @property
    def order(self) -> BuildOrder:
        return self.predicate.build_definition.external_parameters

    @property
    def facts(self) -> BuildFacts:
        return self.predicate.build_definition.internal_parameters

    @property
    def source(self) -> Source:
        return self.predicate.build_definition.resolved_dependencies[0]

    @property
    def builder(self) -> str:
        """Returns the name of the builder that it says it is of."""
        return self.predicate.run_details.builder.id.removeprefix(_BUILDER_URN)

    @property
    def artifacts(self) -> dict[str, str]:
        """Returns the SHA-256 of each artifact by its name."""
        return {each.name: each.digest.sha256 for each in self.subject}


def attestation_of(
    builder: str, order: BuildOrder, facts: BuildFacts, source: str, artifacts: dict[str, str]
) -> Attestation:
    """Returns the statement that a builder signs. Raises RecordInvalid for what cannot be stated."""
    value = {
        "_type": IN_TOTO,
        "subject": [{"name": n, "digest": {"sha256": d}} for n, d in sorted(artifacts.items())],
        "predicateType": SLSA,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": order.model_dump(by_alias=True),
                "internalParameters": facts.model_dump(by_alias=True),
                "resolvedDependencies": [
                    {"uri": f"git+{source}"[:500], "digest": {"gitCommit": order.commit}}
                ],
            },
            "runDetails": {"builder": {"id": _BUILDER_URN + builder}},
        },
    }
    return made(Attestation, value)


class Opening(Statement):
    """What a commitment is of. Only its SHA-256 is published until all have committed; the salt keeps that
    from being guessed, and every name in it from being used for anything else.
    """

    domain: Literal["cloudstack-build-pipeline commitment 1"]
    ledger: Oid
    job: JobId
    token: TokenText
    builder: BuilderName
    key: Fingerprint
    commit: Oid
    inputs: Sha256
    salt: Sha256
    manifest: Sha256


class Commitment(Statement):
    """That a builder has made something of a job, without saying what: `sha256` is that of its opening."""

    kind: Literal["commitment"]
    format: Literal[1]
    ledger: Oid
    job: JobId
    token: TokenText
    builder: BuilderName
    sha256: Sha256


class Revealed(Record):
    """What a builder revealed: where its manifest lies, its SHA-256, and the artifacts whose digests had been
    in the ledger before.
    """

    manifest: str
    sha256: str
    unwitnessed: list[str] = Field(default_factory=list)


class Round(Record):
    """`coordination/trust/rounds/<id>/round.json`: builders that commit before any of them reveals.

    `participants` maps a builder to its job, `committed` to the SHA-256 of its opening.
    """

    id: JobId
    branch: BranchName
    commit: Oid
    participants: dict[BuilderName, JobId]
    committed: dict[BuilderName, str] = Field(default_factory=dict)
    revealed: dict[BuilderName, Revealed] = Field(default_factory=dict)


class RoundOf(Record):
    """`coordination/trust/jobs/<job>.json`: the round in which a job takes part."""

    round: JobId


class PromotedFile(Part):
    name: FileName
    size_bytes: Annotated[int, Field(ge=1)]
    sha256: Sha256


class CountedBuild(Part):
    """A builder that was counted: its job, and the SHA-256 of its attestation."""

    builder: BuilderName
    job: JobId
    attestation: Sha256


class Promotion(Statement):
    """One entry of a branch's promotions; numbers only grow, and each names the one before.

    `as_of` is the commit of the ledger on which it was decided. A rollback names the entry that it restores.
    `dismissed` are statements of dissent that the policy passes over. `witnessed`: all that are counted had
    committed before any digest was in the ledger. `keys`: `shared` where a counted
    builder could read another's key.
    """

    kind: Literal["promotion"]
    format: Literal[1]
    action: Literal["promote", "rollback"]
    ledger: Oid
    branch: BranchName
    number: Number
    predecessor: Sha256 | None
    restores: Number | None
    commit: Oid
    counted: Annotated[list[CountedBuild], Field(min_length=1)]
    artifacts: Annotated[list[PromotedFile], Field(min_length=1)]
    verdict: Literal["AGREE", "AGREE-NORMALISED"]
    normalisers: list[Words]
    policy: Sha256
    policy_number: Number
    revocations: Annotated[int, Field(ge=0)]
    dismissed: list[Sha256]
    witnessed: bool
    keys: Literal["separate", "shared"]
    checks: list[Literal["install"]]
    as_of: Oid
    promoter: BuilderName

    @model_validator(mode="after")
    def _holds_together(self) -> Promotion:
        _insist_once("builder", [each.builder for each in self.counted])
        _insist_once("artifact", [each.name for each in self.artifacts])
        if (self.number == 1) != (self.predecessor is None):
            raise ValueError("the first entry has no predecessor, and every other one has")
        if (self.action == "rollback") != (self.restores is not None):
            raise ValueError("a rollback names what it restores, and nothing else does")
        if self.restores is not None and self.restores >= self.number:
            raise ValueError("a rollback restores an earlier entry")
        return self

    @property
    def digests(self) -> dict[str, str]:
        """Returns the SHA-256 of each artifact by its name."""
        return {each.name: each.sha256 for each in self.artifacts}


class PromotionHead(Record):
    """`coordination/trust/promotions/<branch>/head.json`: the last entry, by number and SHA-256."""

    branch: BranchName
    number: int
    sha256: str


def read_statement(model: type[S], data: bytes, path: str) -> S:
    """Reads a statement's bytes. Raises RecordInvalid, also where they are not the canonical ones."""
    found = load(model, data, path)
    if dump(found) != data:
        raise RecordInvalid(path, "", "these are not the canonical bytes of what it says")
    return found


def made(model: type[S], value: object) -> S:
    """Returns a statement of its fields as they are on the wire. Raises RecordInvalid."""
    return validate(model, value, model.__name__.lower())


def sha256_of(data: bytes) -> str:
    """Returns a SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _insist_once(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"the {what} {value[:80]!r} is there twice")
        seen.add(value)

"""What a builder states of its build: an in-toto v1 statement with SLSA v1 provenance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from pipeline.records.names import BranchName, BuilderName, JobId, Oid
from pipeline.records.statements import (
    FileName,
    Fingerprint,
    MachineId,
    Part,
    Sha256,
    Statement,
    TokenText,
    Words,
    insist_once,
    made,
)

IN_TOTO = "https://in-toto.io/Statement/v1"
SLSA = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:cloudstack-build-pipeline:job:v1"
_BUILDER_URN = "urn:cloudstack-build-pipeline:builder:"


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
    `normalisers` are none for files as they were built; else their names, and `rewrites:` with the digest of
    all that was written anew.
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
        insist_once("artifact", [each.name for each in self.subject])
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

"""Commit and reveal: who commits to what is made before any of them says it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.records.base import Record
from pipeline.records.names import BranchName, BuilderName, JobId, Oid
from pipeline.records.statements import Fingerprint, Sha256, Statement, TokenText


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

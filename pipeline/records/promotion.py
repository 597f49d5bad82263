"""Promotions and rollbacks: numbered entries, each signed by a promoter."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.records.base import Record
from pipeline.records.names import BranchName, BuilderName, JobId, Oid
from pipeline.records.statements import FileName, Number, Part, Sha256, Statement, Words, insist_once


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
    `normalisers` are those of the statements that are counted. `dismissed` are statements of dissent that the
    policy passes over. `witnessed`: all that are counted had committed before any digest was in the ledger.
    `keys`: `shared` where a counted builder could read another's key.
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
        insist_once("builder", [each.builder for each in self.counted])
        insist_once("artifact", [each.name for each in self.artifacts])
        if (self.number == 1) != (self.predecessor is None):
            raise ValueError("the first entry has no predecessor, and every other one has")
        if (self.action == "rollback") != (self.restores is not None):
            raise ValueError("a rollback names what it restores, and nothing else does")
        if self.restores is not None and self.restores >= self.number:
            raise ValueError("a rollback restores an earlier entry")
        if (self.verdict == "AGREE") != (not self.normalisers):
            raise ValueError("the verdict says whether anything was normalised")
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

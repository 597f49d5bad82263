"""Jobs: the queue file, and what is sealed of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from pipeline.records.base import Record, Timestamp
from pipeline.records.builds import Failure
from pipeline.records.names import BranchName, BuilderName, JobId, Oid

JobStatus = Literal["queued", "running", "completed", "failed"]
Outcome = Literal["succeeded", "failed", "cancelled", "lost", "dead"]


class Job(Record):
    """One request for a build and what became of it.

    `status` is one of four words that older readers know; `outcome` tells the terminal states apart
    (completed is always `succeeded`; failed is `failed`, `cancelled`, `lost` or `dead`). `priority` 1 is
    the most urgent; ties are served in commit order, which is the order of the file. `assigned_to` is the
    builder that runs or ran it; `target` the only builder that may, or None for any. `token` is the
    current fencing token: a result is accepted if and only if it presents this one. `start_op` is the
    operation that created the job in order to run it at once, and that takes it along if it is withdrawn.
    """

    id: JobId
    type: Literal["build", "test", "deploy"] = "build"
    priority: int = Field(default=5, ge=1, le=9)
    branch: BranchName
    commit: Oid
    assigned_to: BuilderName | None = None
    status: JobStatus = "queued"
    created_at: Timestamp
    started_at: Timestamp | None = None
    completed_at: Timestamp | None = None

    source: str = ""
    target: BuilderName | None = None
    requested_by: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    depends_on: list[JobId] = Field(default_factory=list)
    timeout_seconds: int | None = None
    attempt: int = 0
    token: str | None = None
    losses: int = 0
    failures: int = 0
    maximum_losses: int = 3
    retries: dict[str, int] = Field(default_factory=dict)
    cancel_requested: str | None = None
    cancelled: bool = False
    outcome: Outcome | None = None
    failure: Failure | None = None
    retry_of: JobId | None = None
    duration_seconds: float | None = None
    manifest: str | None = None
    log: str | None = None
    late_results: int = 0
    start_op: str | None = None

    @field_validator("retries")
    @classmethod
    def _retries(cls, value: dict[str, int]) -> dict[str, int]:
        """`retries` maps a failure class to how often a job that failed so is tried again."""
        if any(count < 0 or count > 20 for count in value.values()):
            raise ValueError("a retry limit lies between 0 and 20")
        return value

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed")


class Jobs(Record):
    """`coordination/jobs.json`: open jobs, and a recent tail of ended ones, in commit order."""

    jobs: list[Job] = Field(default_factory=list)


class JobArchive(Record):
    """A sealed file of ended jobs. `ordinal` is the transaction that sealed it; never written again."""

    ordinal: int
    jobs: list[Job]

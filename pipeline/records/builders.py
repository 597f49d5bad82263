"""Builders: the registry, what each says of itself, and its heartbeat."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline.records.base import Record, Timestamp
from pipeline.records.builds import Environment
from pipeline.records.names import BranchName, BuilderName, JobId, Oid


class Builder(Record):
    """One builder of the registry. `host` is what its hostname prints; `address` where SSH reaches it."""

    name: BuilderName
    host: str = ""
    address: str = ""
    user: str = "root"
    manager: str = ""
    builds: bool = True
    branches: list[BranchName] = Field(default_factory=list)


class Registry(Record):
    """`shared/builders.json`."""

    builders: list[Builder] = Field(default_factory=list)


class CurrentJob(Record):
    id: JobId
    branch: BranchName
    commit: Oid
    started_at: Timestamp


class LastBuild(Record):
    id: JobId
    status: Literal["success", "failed"]
    completed_at: Timestamp
    duration_seconds: float
    artifacts: list[str] = Field(default_factory=list)


class System(Record):
    """`cpu_usage` in percent of all cores, memory and disk in GiB."""

    cpu_usage: float = 0.0
    memory_used_gb: float = 0.0
    disk_free_gb: float = 0.0


def _unstated(value: object) -> bool:
    """Says whether a field is left out: statuses that older versions computed have no such field."""
    return value is None


class Status(Record):
    """`<builder>/status.json`. `environment` is the machine's own, without paths and lists of packages;
    `fingerprint` is the same where builders are set up alike.
    """

    server: BuilderName
    ip: str = ""
    manager: str = ""
    timestamp: Timestamp
    status: Literal["idle", "building", "failed", "success"] = "idle"
    current_job: CurrentJob | None = None
    last_build: LastBuild | None = None
    system: System = Field(default_factory=System)
    toolchain: str | None = None
    fingerprint: str | None = Field(default=None, exclude_if=_unstated)
    environment: Environment | None = Field(default=None, exclude_if=_unstated)


class Heartbeat(Record):
    """`heartbeat.json`, on the builder's own ref. Only CHANGE of it is liveness.

    `leases` maps a token to the random nonce that its holder drew last, `waiting` a waiter's operation id
    to its nonce. `progress` is the running job's, for people. `healthy` is what the builder's own checks
    said; a reader derives its own.
    """

    server: BuilderName
    timestamp: Timestamp
    uptime_seconds: float = 0.0
    healthy: bool = True
    leases: dict[str, str] = Field(default_factory=dict)
    waiting: dict[str, str] = Field(default_factory=dict)
    progress: dict[str, Any] | None = None


class Dashboard(Record):
    """`shared/health_dashboard.json`: a derived view for older readers; written only when a fact changed."""

    generated_at: Timestamp | None = None
    servers: dict[str, Any] = Field(default_factory=dict)
    history: list[dict[str, Any]] = Field(default_factory=list, max_length=100)

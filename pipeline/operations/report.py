"""How a build ended, as `build --json` prints it and a terminal shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipeline.records.builds import Artifact, Failure, ModuleTime, Recipe, Stage

Ending = Literal["succeeded", "failed", "cancelled", "lost", "dead", "queued", "unreported", "planned"]


@dataclass(frozen=True)
class Report:
    """One build. `ledger` counts the commits and pushes that it cost; `queued` jobs have not begun, or failed
    and are tried again. It ran after the jobs of `depends_on`; `retries` are its limits by failure class. In
    a `round` builders commit to what they made before any of them reveals it.
    """

    job_id: str
    status: Ending
    branch: str
    commit: str
    builder: str
    failure: Failure | None = None
    attempt: int = 0
    token: str | None = None
    duration_seconds: float = 0.0
    stages: list[Stage] = field(default_factory=list)
    modules: list[ModuleTime] = field(default_factory=list)
    manifest: str | None = None
    log: str | None = None
    artifacts: list[Artifact] = field(default_factory=list)
    ledger: dict[str, int] = field(default_factory=dict)
    recipe: Recipe | None = None
    depends_on: list[str] = field(default_factory=list)
    retries: dict[str, int] = field(default_factory=dict)
    round: str | None = None

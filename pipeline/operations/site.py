"""What every operation works with: this machine's settings, its name, and its ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.edge.clock import Clock
from pipeline.edge.identity import Processes, Randomness, machine_id
from pipeline.errors import Fenced, LeaseHeld, NotFound, Refused
from pipeline.ledger.ledger import Ledger, Standing
from pipeline.ledger.ports import RefStore
from pipeline.operations.heart import Heart
from pipeline.operations.pulse import Pulse
from pipeline.operations.settings import LocalSettings
from pipeline.records import paths
from pipeline.records.base import R, load
from pipeline.records.builders import Registry, Status
from pipeline.records.builds import BuildConfig
from pipeline.records.decisions import Adopt, Decide, View
from pipeline.records.jobs import Jobs
from pipeline.records.locks import Locks

_ERRORS: dict[str, type[Refused]] = {
    "not-found": NotFound,
    "held": LeaseHeld,
    "busy": LeaseHeld,
    "fenced": Fenced,
}


@dataclass
class Site:
    """One machine with its ledger.

    `say` shows progress to a person; results are returned, never said. `step` is told each point on which a
    crash could fall. `open_refs` opens another ref store on the same remote, for another thread.
    """

    settings: LocalSettings
    builder: str
    ledger: Ledger
    clock: Clock
    random: Randomness
    processes: Processes
    decide: Decide
    adopt: Adopt
    reducer: int
    say: Callable[[str], None] = field(default=lambda text: None)
    step: Callable[[str], None] = field(default=lambda name: None)
    open_refs: Callable[[], RefStore] | None = None

    def ask(self, request: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Transacts one request in this builder's name; returns the outcome's value.

        Raises Refused (NotFound, LeaseHeld, Fenced) with the ledger's own words, or a LedgerError.
        """
        options.setdefault("patience", self.settings.patience_seconds)
        return accepted(self.ledger.transact({"builder": self.builder, **request}, **options))

    def holder(self) -> str:
        """Returns this process's name as a lock keeps it: the machine first, so no other declares it dead."""
        return f"{machine_id()[:16]}/{self.processes.myself()}"

    def make_heart(self, job_id: str, token: str, progress: Callable[[], dict[str, Any]]) -> Heart:
        """Returns the heart of a job that runs here; not beating yet."""
        refs = self.open_refs() if self.open_refs else self.ledger.refs
        pulse = Pulse(self.ledger.store.folder / "pulse", refs, self.builder, self.clock, self.processes)
        return Heart(pulse, job_id, token, self.settings.heartbeat_seconds, self.random, progress)

    def state(self, *, fresh: bool = True) -> Standing:
        """Returns the ledger's state; by default as the remote has it now."""
        return self.ledger.view(fresh=fresh)


def accepted(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an outcome's value, or raises the refusal that it is."""
    if outcome.get("ok"):
        return dict(outcome.get("value") or {})
    reason = str(outcome.get("reason", "refused"))
    error = _ERRORS.get(reason, Refused)
    raise error(str(outcome.get("message")), reason=reason, remedy=outcome.get("remedy"))


def record(view: View, model: type[R], path: str) -> R:
    """Reads one state file; an absent one is an empty record."""
    data = view.read(path)
    return load(model, data, path) if data is not None else model.model_validate({})


def jobs(view: View) -> Jobs:
    return record(view, Jobs, paths.JOBS)


def locks(view: View) -> Locks:
    return record(view, Locks, paths.LOCKS)


def registry(view: View) -> Registry:
    return record(view, Registry, paths.REGISTRY)


def build_config(view: View) -> BuildConfig:
    return record(view, BuildConfig, paths.BUILD_CONFIG)


def status(view: View, builder: str) -> Status | None:
    """Reads what a builder last said of itself; None for one that has said nothing."""
    data = view.read(paths.status(builder))
    return load(Status, data, paths.status(builder)) if data is not None else None

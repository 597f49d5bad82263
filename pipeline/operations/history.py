"""The ledger's own story: its history in words, and the proof that it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import RecordInvalid
from pipeline.ledger.check import Finding, Story, check_chain, history
from pipeline.operations.site import Site
from pipeline.records import paths
from pipeline.records.base import Record, load
from pipeline.records.builders import Dashboard, Heartbeat, Registry, Status
from pipeline.records.builds import BuildConfig, Manifest, StructuredLog
from pipeline.records.jobs import JobArchive, Jobs
from pipeline.records.ledger import LedgerState
from pipeline.records.locks import Locks
from pipeline.records.messages import Mailbox, MessageArchive, Messages

_EXACT: dict[str, type[Record]] = {
    paths.LEDGER: LedgerState,
    paths.JOBS: Jobs,
    paths.LOCKS: Locks,
    paths.MESSAGES: Messages,
    paths.MAILBOX: Mailbox,
    paths.BUILD_CONFIG: BuildConfig,
    paths.REGISTRY: Registry,
    paths.DASHBOARD: Dashboard,
}
_SHAPES: list[tuple[Callable[[str], bool], type[Record]]] = [
    (lambda p: p.endswith("/status.json") and p.count("/") == 1, Status),
    (lambda p: p.endswith("/heartbeat.json") and p.count("/") == 1, Heartbeat),
    (lambda p: "/manifests/" in p, Manifest),
    (lambda p: "/logs/" in p and p.endswith(".json"), StructuredLog),
    (lambda p: p.startswith("coordination/archive/messages/"), MessageArchive),
    (lambda p: p.startswith("coordination/archive/jobs/"), JobArchive),
]


@dataclass(frozen=True)
class Checked:
    """What a check of the ledger found."""

    tip: str
    transactions: int
    findings: list[Finding]

    @property
    def holds(self) -> bool:
        return all(finding.foreign for finding in self.findings)


def model_of(path: str) -> type[Record] | None:
    """Returns the record that a path holds, or None for a file that has no schema."""
    if path in _EXACT:
        return _EXACT[path]
    if path.startswith("coordination/quarantine/"):
        return None
    return next((model for fits, model in _SHAPES if fits(path)), None)


def validate(path: str, data: bytes) -> str | None:
    """Says what is wrong with a state file, or nothing."""
    model = model_of(path)
    if model is None:
        return None
    try:
        load(model, data, path)
    except RecordInvalid as exc:
        return f"field `{exc.field}`: {exc.problem}" if exc.field else exc.problem
    return None


def check(site: Site) -> Checked:
    """Computes every transaction of the chain again and validates every file of its tip."""
    refs = site.ledger.refs
    tip = site.state().tip
    transactions, findings = check_chain(refs, tip, site.decide, site.adopt, site.reducer, validate)
    return Checked(tip, transactions, findings)


def log(site: Site, limit: int = 50) -> list[Story]:
    """Returns the newest commits of the chain, oldest first."""
    return list(history(site.ledger.refs, site.state().tip, site.reducer))[-limit:]

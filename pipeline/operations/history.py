"""The ledger's own story: its history in words, and the proof that it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from pipeline.errors import RecordInvalid, UsageError
from pipeline.ledger.check import Finding, check_chain
from pipeline.ledger.history import history
from pipeline.operations import site as sites
from pipeline.operations.site import Site
from pipeline.records import paths
from pipeline.records.attestation import Attestation
from pipeline.records.base import Record, load, load_json
from pipeline.records.builders import Dashboard, Heartbeat, Registry, Status
from pipeline.records.builds import BuildConfig, Manifest, StructuredLog
from pipeline.records.comparison import Comparisons
from pipeline.records.jobs import JobArchive, Jobs
from pipeline.records.ledger import LedgerState, QuarantineArchive
from pipeline.records.locks import Locks
from pipeline.records.messages import Mailbox, MessageArchive, Messages
from pipeline.records.policy import Revocations
from pipeline.records.promotion import Promotion, PromotionHead
from pipeline.records.rounds import Commitment, Opening, Round, RoundOf
from pipeline.records.secrets import mask
from pipeline.records.shared import AutoReplyRules, BranchesConfig, FileRegistry

_EXACT: dict[str, type[BaseModel]] = {
    paths.LEDGER: LedgerState,
    paths.JOBS: Jobs,
    paths.LOCKS: Locks,
    paths.MESSAGES: Messages,
    paths.MAILBOX: Mailbox,
    paths.COMPARISONS: Comparisons,
    paths.BUILD_CONFIG: BuildConfig,
    paths.REGISTRY: Registry,
    paths.DASHBOARD: Dashboard,
    paths.AUTO_REPLIES: AutoReplyRules,
    paths.FILES: FileRegistry,
    paths.BRANCHES: BranchesConfig,
}
_SHAPES: list[tuple[Callable[[str], bool], type[BaseModel]]] = [
    (lambda p: p.endswith("/status.json") and p.count("/") == 1, Status),
    (lambda p: p.endswith("/heartbeat.json") and p.count("/") == 1, Heartbeat),
    (lambda p: "/manifests/" in p, Manifest),
    (lambda p: "/logs/" in p and p.endswith(".json"), StructuredLog),
    (lambda p: p.startswith("coordination/archive/messages/"), MessageArchive),
    (lambda p: p.startswith("coordination/archive/jobs/"), JobArchive),
    (lambda p: p.startswith("coordination/archive/quarantine/"), QuarantineArchive),
    (lambda p: p.endswith("/round.json") and p.startswith(paths.TRUST), Round),
    (lambda p: p.endswith(".json") and p.startswith(f"{paths.TRUST}/jobs/"), RoundOf),
    (lambda p: p.endswith(".json") and "/commitments/" in p, Commitment),
    (lambda p: p.endswith(".json") and "/openings/" in p, Opening),
    (lambda p: p.endswith("/head.json") and p.startswith(paths.TRUST), PromotionHead),
    (lambda p: p.endswith(".json") and p.startswith(f"{paths.TRUST}/promotions/"), Promotion),
    (lambda p: p.endswith(".json") and p.startswith(f"{paths.TRUST}/attestations/"), Attestation),
    (lambda p: p.endswith(".json") and p.startswith(paths.REVOCATIONS), Revocations),
]


@dataclass(frozen=True)
class Told:
    """One commit of the ledger in words. `record` is what it says of itself, None for one made by hand."""

    commit: str
    subject: str
    record: Record | None
    ordinal: int | None


@dataclass(frozen=True)
class Checked:
    """What a check of the ledger found. `aside` are changes by hand that were not adopted, in words."""

    tip: str
    transactions: int
    findings: list[Finding]
    aside: list[str]

    @property
    def holds(self) -> bool:
        return all(finding.foreign for finding in self.findings)


def model_of(path: str) -> type[BaseModel] | None:
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
        if issubclass(model, Record):
            load(model, data, path)
        else:
            model.model_validate(load_json(data, path))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        return f"field `{'.'.join(map(str, first['loc']))}`: {first['msg']}"
    except RecordInvalid as exc:
        return f"field `{exc.field}`: {exc.problem}" if exc.field else exc.problem
    return None


def check(site: Site) -> Checked:
    """Computes every transaction of the chain again and validates every file of its tip."""
    refs = site.ledger.refs
    standing = site.state()
    tip = standing.tip
    transactions, found = check_chain(refs, tip, site.decide, site.adopt, site.reducer, validate)
    aside = [sites.told_of(each) for each in standing.state.quarantined]
    findings = list(found)
    return Checked(tip, transactions, findings, aside)


def log(site: Site, limit: int = 50) -> list[Told]:
    """Returns the newest commits of the chain, oldest first. Raises UsageError for a limit below 1."""
    if limit < 1:
        raise UsageError(f"{limit} commits cannot be shown.", remedy="Give a number, 1 or more.")
    stories = list(history(site.ledger.refs, site.state().tip, site.reducer))[-limit:]
    return [Told(s.oid, mask(s.subject), s.record, s.record.ordinal if s.record else None) for s in stories]

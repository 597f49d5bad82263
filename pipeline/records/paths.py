"""Every path and ref of a ledger, each spelled in one function."""

from __future__ import annotations

LEDGER = "coordination/ledger.json"
JOBS = "coordination/jobs.json"
LOCKS = "coordination/locks.json"
MESSAGES = "coordination/messages.json"
MAILBOX = "coordination/mailbox.json"
COMPARISONS = "coordination/comparisons.json"
BUILD_CONFIG = "shared/build_config.json"
REGISTRY = "shared/builders.json"
DASHBOARD = "shared/health_dashboard.json"
AUTO_REPLIES = "shared/auto_reply_rules.json"
FILES = "shared/file_registry.json"
BRANCHES = "shared/branches_config.json"

TRUST = "coordination/trust"
REVOCATIONS = f"{TRUST}/revocations"

DEFAULT_BRANCH = "ledger"
HEARTBEAT_PREFIX = "refs/pipeline/heartbeat/"


def status(builder: str) -> str:
    """Returns the path of a builder's status."""
    return f"{builder}/status.json"


def heartbeat(builder: str) -> str:
    """Returns the path of a builder's heartbeat as it was at its last transaction."""
    return f"{builder}/heartbeat.json"


def build_log(builder: str, stamp: str) -> str:
    """Returns the path of a readable log. `stamp` is `20251029T120000Z-<job>.<attempt>`."""
    return f"{builder}/logs/{stamp}.log"


def summary(builder: str, stamp: str) -> str:
    """Returns the path of a build's summary in Markdown."""
    return f"{builder}/logs/{stamp}.md"


def structured_log(builder: str, stamp: str) -> str:
    """Returns the path of a build's events as JSON."""
    return f"{builder}/logs/{stamp}.json"


def manifest(builder: str, job: str, attempt: int) -> str:
    """Returns the path of an attempt's manifest; folders of a bounded size by the job id's last digits."""
    return f"{builder}/manifests/{job[-2:]}/{job}.{attempt}.json"


def message_archive(ordinal: int) -> str:
    """Returns the path of the messages that a transaction sealed."""
    return f"coordination/archive/messages/{ordinal // 1000:06d}/{ordinal:09d}.json"


def job_archive(ordinal: int) -> str:
    """Returns the path of the ended jobs that a transaction sealed."""
    return f"coordination/archive/jobs/{ordinal // 1000:06d}/{ordinal:09d}.json"


def quarantine(ordinal: int, path: str) -> str:
    """Returns where the bytes of a file are kept that a foreign commit brought."""
    return f"coordination/quarantine/{ordinal:09d}/{path}"


def quarantine_archive(ordinal: int) -> str:
    """Returns the path of the notes of foreign changes that a transaction sealed."""
    return f"coordination/archive/quarantine/{ordinal // 1000:06d}/{ordinal:09d}.json"


def attestations(commit: str) -> str:
    """Returns the folder of what builders have stated about a commit."""
    return f"{TRUST}/attestations/{commit}"


def attestation(commit: str, builder: str, sha256: str) -> str:
    """Returns the path of one such statement, by the SHA-256 of its bytes and its signature together.

    By its bytes alone, which can be foreseen, somebody could put a signature of his own in its place.
    """
    return f"{attestations(commit)}/{builder}.{sha256[:32]}.json"


def revocations(number: int, sha256: str) -> str:
    """Returns the path of a list of revoked keys, by the SHA-256 of its bytes and its signature together."""
    return f"{REVOCATIONS}/{number:09d}.{sha256[:32]}.json"


def promotions(branch: str) -> str:
    """Returns the folder of a branch's promotions; different branches never share one."""
    return f"{TRUST}/promotions/{branch.replace('%', '%25').replace('/', '%2F')}"


def promotion(branch: str, number: int) -> str:
    """Returns the path of one entry."""
    return f"{promotions(branch)}/{number:09d}.json"


def promotion_head(branch: str) -> str:
    """Returns the path of what names a branch's last entry."""
    return f"{promotions(branch)}/head.json"


def round(id: str) -> str:
    """Returns the path of a round in which builders commit before they reveal."""
    return f"{TRUST}/rounds/{id}/round.json"


def round_of(job: str) -> str:
    """Returns the path of what names a job's round."""
    return f"{TRUST}/jobs/{job}.json"


def commitment(id: str, builder: str) -> str:
    """Returns the path of a builder's commitment."""
    return f"{TRUST}/rounds/{id}/commitments/{builder}.json"


def opening(id: str, builder: str) -> str:
    """Returns the path of what a builder's commitment was of."""
    return f"{TRUST}/rounds/{id}/openings/{builder}.json"


def signature(path: str) -> str:
    """Returns the path of the signature of a statement."""
    return f"{path}.sig"


def branch_ref(branch: str) -> str:
    """Returns the ref of a ledger's branch."""
    return f"refs/heads/{branch}"


def heartbeat_ref(builder: str) -> str:
    """Returns the ref that holds a builder's heartbeat; outside refs/heads, where no history rule binds."""
    return f"{HEARTBEAT_PREFIX}{builder}"

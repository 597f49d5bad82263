"""The JSON Schema of every state file and of what `compare --json` prints, written from the records.

`python -m pipeline.records.schemas` writes `docs/reference/schemas/`; `--check` compares instead, names what
differs and ends with 1. The schemas of state files say what a reader accepts; that of a comparison says what
is always there. Fields that they do not name are allowed and kept; not so in a statement, which is signed.
The rules for names (builders, jobs, locks, branches) are in `names`, not in the schemas.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from pipeline.records import paths
from pipeline.records.attestation import Attestation
from pipeline.records.base import dump_json
from pipeline.records.builders import Dashboard, Heartbeat, Registry, Status
from pipeline.records.builds import BuildConfig, Manifest, StructuredLog
from pipeline.records.comparison import Comparison, Comparisons
from pipeline.records.jobs import JobArchive, Jobs
from pipeline.records.ledger import LedgerState, QuarantineArchive, Transaction
from pipeline.records.locks import Locks
from pipeline.records.messages import Mailbox, MessageArchive, Messages
from pipeline.records.policy import Policy, Revocations
from pipeline.records.promotion import Promotion, PromotionHead
from pipeline.records.rounds import Commitment, Opening, Round, RoundOf
from pipeline.records.shared import AutoReplyRules, BranchesConfig, FileRegistry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path("docs/reference/schemas")

_JOB = "01931c5e-1f6a-7e2b-9f3a-5c0d7a44e1b2"
_STAMP = f"20251029T120000Z-{_JOB}.1"


@dataclass(frozen=True)
class StateFile:
    """One kind of file: its schema's name, its record, and where it lies, by example for builder `build1`."""

    name: str
    record: type[BaseModel]
    path: str


#: Every file of a ledger that is JSON, and the record in each commit's message.
STATE_FILES: tuple[StateFile, ...] = (
    StateFile("status", Status, paths.status("build1")),
    StateFile("heartbeat", Heartbeat, paths.heartbeat("build1")),
    StateFile("jobs", Jobs, paths.JOBS),
    StateFile("locks", Locks, paths.LOCKS),
    StateFile("messages", Messages, paths.MESSAGES),
    StateFile("mailbox", Mailbox, paths.MAILBOX),
    StateFile("comparisons", Comparisons, paths.COMPARISONS),
    StateFile("ledger", LedgerState, paths.LEDGER),
    StateFile("build_config", BuildConfig, paths.BUILD_CONFIG),
    StateFile("builders", Registry, paths.REGISTRY),
    StateFile("health_dashboard", Dashboard, paths.DASHBOARD),
    StateFile("auto_reply_rules", AutoReplyRules, paths.AUTO_REPLIES),
    StateFile("file_registry", FileRegistry, paths.FILES),
    StateFile("branches_config", BranchesConfig, paths.BRANCHES),
    StateFile("manifest", Manifest, paths.manifest("build1", _JOB, 1)),
    StateFile("structured_log", StructuredLog, paths.structured_log("build1", _STAMP)),
    StateFile("message_archive", MessageArchive, paths.message_archive(4711)),
    StateFile("job_archive", JobArchive, paths.job_archive(4711)),
    StateFile("quarantine_archive", QuarantineArchive, paths.quarantine_archive(4711)),
    StateFile("round", Round, paths.round("r1")),
    StateFile("round_of", RoundOf, paths.round_of(_JOB)),
    StateFile("promotion_head", PromotionHead, paths.promotion_head("4.21")),
    StateFile("transaction", Transaction, "(the message of each commit)"),
)

#: What a task prints, by its schema's name: every field is there, also one that has nothing to say.
PRINTED: dict[str, type[BaseModel]] = {"comparison": Comparison}

_DIGEST = "ab" * 32

#: What is signed. Beside each lies its signature, in a file with `.sig` after its name.
STATEMENTS: tuple[StateFile, ...] = (
    StateFile("policy", Policy, "(each machine's folder of policy, not the ledger)"),
    StateFile("revocations", Revocations, paths.revocations(1, _DIGEST)),
    StateFile("commitment", Commitment, paths.commitment("r1", "build1")),
    StateFile("opening", Opening, paths.opening("r1", "build1")),
    StateFile("attestation", Attestation, paths.attestation("5f" * 20, "build1", _DIGEST)),
    StateFile("promotion", Promotion, paths.promotion("4.21", 1)),
)


def schema_of(file: StateFile) -> bytes:
    """Returns the canonical bytes of one file's schema."""
    schema = file.record.model_json_schema(by_alias=True, mode="validation")
    return dump_json({"$schema": DIALECT, **schema})


class _EveryField(GenerateJsonSchema):
    def field_is_required(self, field: Any, total: bool) -> bool:
        return True


def printed_schema(record: type[BaseModel]) -> dict[str, Any]:
    """Returns the schema of a record as it is printed: each of its fields is there."""
    return record.model_json_schema(mode="serialization", schema_generator=_EveryField)


def generate() -> dict[str, bytes]:
    """Returns every schema by its file name in `FOLDER`."""
    printed = {
        f"{name}.json": dump_json({"$schema": DIALECT, **printed_schema(record)})
        for name, record in PRINTED.items()
    }
    return {f"{file.name}.json": schema_of(file) for file in (*STATE_FILES, *STATEMENTS)} | printed


def drift(wanted: Mapping[str, bytes], folder: Path) -> list[str]:
    """Returns, in words, how the files in a folder differ from those wanted; empty when they do not.

    Files of the suffixes that are wanted, and of no others, count as left over when nothing makes them.
    """
    suffixes = {Path(name).suffix for name in wanted}
    found = {path.name: path for path in folder.glob("*") if path.suffix in suffixes and path.is_file()}
    said = []
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            said.append(f"{folder / name} is missing")
        elif name not in wanted:
            said.append(f"{folder / name} is left over: nothing generates it")
        elif found[name].read_bytes() != wanted[name]:
            said.append(f"{folder / name} is not what the code says")
    return said


def write(wanted: Mapping[str, bytes], folder: Path) -> None:
    """Makes a folder hold exactly the files wanted, among those of their suffixes."""
    folder.mkdir(parents=True, exist_ok=True)
    suffixes = {Path(name).suffix for name in wanted}
    for path in folder.glob("*"):
        if path.suffix in suffixes and path.name not in wanted:
            path.unlink()
    for name, data in wanted.items():
        (folder / name).write_bytes(data)


def run_generator(module: str, wanted: Mapping[str, bytes], folder: Path, arguments: Sequence[str]) -> int:
    """Writes generated files, or compares them with `--check`. Returns the exit code."""
    if list(arguments) not in ([], ["--check"]):
        print(f"usage: python -m {module} [--check]", file=sys.stderr)
        return 2
    if not arguments:
        write(wanted, folder)
        return 0
    said = drift(wanted, folder)
    for line in said:
        print(line, file=sys.stderr)
    if said:
        print(f"Run `python -m {module}` and commit what it writes.", file=sys.stderr)
    return 1 if said else 0


def main(arguments: Sequence[str]) -> int:
    """Runs this module as a program, in the checkout."""
    return run_generator("pipeline.records.schemas", generate(), _checkout() / FOLDER, arguments)


def _checkout() -> Path:
    return Path(__file__).resolve().parents[2]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a machine's journal and its store of artifacts can leave out."""

from __future__ import annotations

from typing import Any

from pipeline.operations import artifacts, journal
from pipeline.operations import recover as recovery
from tests.simulation import disk
from tests.simulation.mutants.registry import instead, mutant

mutant(
    "journal-forgotten",
    "recovery",
    "reports",
    "recovery does not look for reports that were kept and never sent",
    (recovery, "_report_kept", instead(lambda site, found: None)),
)
mutant(
    "attempt-unsynced",
    "recovery",
    "reports",
    "the name of an attempt's folder is not on disk when its report is",
    (journal, "_make", instead(lambda folder: folder.mkdir(parents=True, exist_ok=True))),
)
mutant(
    "report-removed-in-place",
    "recovery",
    "reports",
    "what was reported is removed file by file, under its own name",
    (journal, "remove", instead(lambda folder: disk.remove_tree(folder, ignore_errors=True))),
)


def _unreferred(real: Any) -> Any:
    return lambda *words, **facts: real(
        *words, **{**facts, "referenced": set(), "running_since": None, "running_from": None}
    )


mutant(
    "prunes-referenced",
    "artifacts",
    "reports",
    "pruning does not ask what refers to a set",
    (artifacts, "plan_prune", _unreferred),
)
mutant(
    "prunes-unreported",
    "artifacts",
    "reports",
    "pruning does not look at what the machine has still to report",
    (artifacts, "_unreported", instead(lambda site: set())),
)


def _artifacts_unsynced(real: Any) -> Any:
    return lambda folder: None if folder.parts[:1] == ("artifacts",) else real(folder)


mutant(
    "sets-unsynced",
    "artifacts",
    "reports",
    "a set comes and goes without its folder's names being on disk",
    (disk, "flush_folder", _artifacts_unsynced),
)

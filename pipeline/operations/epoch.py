"""The operator's repair of a rewound ledger: go on from what the remote has, under a new epoch.

Nothing does this by itself. What the remote lacks is given up for good: the commits between the last one
that both sides have and the tip that this machine saw. Every token given before is void afterwards, so that
nobody who works on the abandoned side can report or hold anything on the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import LedgerError, PipelineError, UsageError
from pipeline.operations import site as sites
from pipeline.operations.site import Site, accepted
from pipeline.records import paths
from pipeline.records.base import load
from pipeline.records.decisions import View
from pipeline.records.ledger import LedgerState

_SHORTEST = 12


@dataclass(frozen=True)
class Raised:
    """What a repair did. `joined`: somebody else had repaired the same rewind, and this machine follows."""

    epoch: int
    abandoned: str
    tip: str
    joined: bool
    jobs: list[str]
    locks: list[str]


def raise_epoch(site: Site, abandon: str) -> Raised:
    """Goes on from the remote's tip. `abandon` names the tip that is given up: the confirmation.

    Raises UsageError where it is missing or another than the one that this machine saw last, LedgerError
    where the remote was not rewound at all.
    """
    seen = site.ledger.store.tip()
    if seen is None:
        raise LedgerError(
            "This machine has seen no commit of the ledger, so it can have lost none.",
            remedy="Run `invoke status`.",
        )
    if len(abandon) < _SHORTEST or not seen.startswith(abandon.lower()):
        given = f"not {abandon!r}" if abandon else "and that has to be said"
        raise UsageError(
            f"What would be given up is everything after the remote's tip up to {seen[:_SHORTEST]}, {given}.",
            remedy="First look for a clone that still has it and push it back. If there is none:"
            f" `invoke ledger.raise-epoch --abandon {seen[:_SHORTEST]}`.",
        )
    outcome = site.ledger.accept_rewind(
        lambda mark, view: _request(site, mark, view), patience=site.settings.patience_seconds
    )
    value = accepted(outcome)
    return Raised(
        epoch=int(value["epoch"]),
        abandoned=seen,
        tip=site.state().tip,
        joined=bool(value.get("joined")),
        jobs=list(value.get("jobs", [])),
        locks=list(value.get("locks", [])),
    )


def _request(site: Site, abandoned: str, view: View | None) -> Mapping[str, Any]:
    """Returns the request; the epoch and the locks of the abandoned side go with it, if they can be read."""
    epochs: list[int] = []
    ttls: dict[str, float] = {}
    if view is not None:
        try:
            epochs = [load(LedgerState, view.read(paths.LEDGER) or b"", paths.LEDGER).epoch]
            ttls = {lock.name: lock.ttl_seconds or 0.0 for lock in sites.locks(view).locks}
        except PipelineError:
            site.say("The abandoned state cannot be read; its locks are not known.")
    return {
        "kind": "ledger.raise_epoch",
        "builder": site.builder,
        "abandoned_tips": [abandoned],
        "seen": epochs,
        "abandoned_locks": ttls,
    }

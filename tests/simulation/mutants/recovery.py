"""What recovery can leave out."""

from __future__ import annotations

from typing import Any

from pipeline.coordination.draft import replaced
from tests.simulation.mutants.registry import decides, mutant
from tests.simulation.node import VirtualProcesses

mutant(
    "looking-kills",
    "recovery",
    "losses",
    "recovery holds a living process for dead",
    (VirtualProcesses, "alive", lambda real: lambda self, process: process == self._me),
)
mutant(
    "epoch-keeps-tokens",
    "recovery",
    "rewinds",
    "a repair leaves the epoch as it is",
    decides("ledger.raise_epoch", lambda real: lambda draft, request: _no_epoch(real, draft, request)),
)


def _no_epoch(real: Any, draft: Any, request: Any) -> Any:
    answer = real(draft, request)
    draft.ledger = replaced(draft.ledger, epoch=1, next_token=1)
    return answer


mutant(
    "withdrawal-forgotten",
    "recovery",
    "two-leaders",
    "what was granted to a dead asker is not taken back",
    decides(
        "withdraw", lambda real: lambda draft, request: {"left": False, "released": [], "jobs": ["none"]}
    ),
)

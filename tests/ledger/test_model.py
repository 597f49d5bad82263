"""Random worlds: builders, processes, lost and delayed pushes, kills, backups, copies, hands and rewinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.model import play

SEEDS = {"small": 8, "medium": 400, "large": 20_000}


@pytest.mark.parametrize("rewinds", [False, True], ids=["whole", "rewound"])
@pytest.mark.parametrize("part", range(2))
def test_random_worlds(tmp_path: Path, size: str, part: int, rewinds: bool) -> None:
    """Acknowledged is exactly once, refused never, unknown at most once, and the chain computes again."""
    for seed in range(part, SEEDS[size], 2):
        play(seed, tmp_path / str(seed), rewinds=rewinds)

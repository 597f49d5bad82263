"""Stores that a test opened are closed behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ledger.toy import OPEN


@pytest.fixture(autouse=True)
def closed_stores() -> Iterator[None]:
    """Closes every store of the test."""
    yield
    while OPEN:
        OPEN.pop().close()

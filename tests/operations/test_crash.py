"""The quickest of the crashes with real processes; tests/cluster/test_kill.py has all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import test_kill
from tests.cluster.test_kill import POINTS
from tests.cluster.tiny import Host, finish

QUICK = ["pushed#1", "completion kept"]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A builder of the test's own."""
    return Host(tmp_path / "host")


@pytest.mark.parametrize("name", QUICK)
def test_killed_at_a_named_point(host: Host, name: str) -> None:
    """A claim whose answer was lost is taken back; a report that was kept is reported without a new build."""
    (point,) = [each for each in POINTS if each.name == name]
    assert finish(host.start_killed(name)).code == -9
    test_kill.assert_sound(host, point, set())

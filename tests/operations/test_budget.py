"""A host that limits pushes: each builder keeps to its share, and renewals come first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import Refused
from pipeline.operations.lease import hold
from pipeline.operations.site import Site
from pipeline.runtime import make_site
from tests.operations.conftest import MakeSite


def say_hello(site: Site) -> None:
    """One transaction."""
    message = {"id": site.random.op(), "to": "build2", "subject": "s", "body": "b"}
    site.ask({"kind": "message.send", **message})


@pytest.fixture
def site(home: Path) -> Iterator[Site]:
    """The embedded default, told that its host takes six pushes a minute."""
    (home / ".pipeline").mkdir()
    (home / ".pipeline/config.toml").write_text("pushes_per_minute = 6\n", encoding="utf-8")
    made = make_site()
    yield made
    made.ledger.store.close()


def test_six_pushes_a_minute_for_two_builders(site: Site) -> None:
    """Half is for renewals: a builder beats every 40 seconds, and pushes 1.5 transactions a minute."""
    assert (site.least_interval, site.settings.heartbeat_seconds) == (40.0, 40.0)
    say_hello(site)
    store, now = site.ledger.store, site.clock.boottime()
    assert 35.0 < store.spend(now, 40.0, 1) <= 40.0


def test_without_a_limit_nothing_waits(home: Path) -> None:
    """Nobody counts pushes by default."""
    free = make_site()
    say_hello(free)
    assert (free.least_interval, free.settings.heartbeat_seconds) == (0.0, 30.0)
    assert free.ledger.store.spend(free.clock.boottime(), 40.0, 1) == 0.0
    free.ledger.store.close()


def test_a_heart_that_is_switched_off_stays_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit makes beats rarer; it starts none."""
    monkeypatch.setenv("PIPELINE_PUSHES_PER_MINUTE", "6")
    monkeypatch.setenv("PIPELINE_HEARTBEAT_SECONDS", "0")
    made = make_site()
    assert made.settings.heartbeat_seconds == 0.0
    made.ledger.store.close()


def test_a_lease_that_could_not_be_renewed_in_time_is_refused(make_site: MakeSite) -> None:
    """The interval follows from the budget; a time to live below three of them is refused at the grant."""
    slow = replace(make_site("build1"), least_interval=40.0)
    with pytest.raises(Refused) as caught, hold(slow, ["promotion"], ttl=60.0):
        pytest.fail("it was granted")
    assert "Renewed every 40 s, a lease of 60 s is too short" in caught.value.message
    assert caught.value.reason == "ttl-too-short"
    assert "120 s" in (caught.value.remedy or "")

"""Status, registry, configuration, and the health that a reader derives."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.coordination.presence import STALE_SECONDS, derive_health
from pipeline.records import paths
from pipeline.records.builders import Builder, Heartbeat, Registry
from pipeline.records.builds import BuildConfig
from tests.coordination.world import NOW, World


@pytest.fixture
def world() -> World:
    return World()


def beat(healthy: bool = True) -> Heartbeat:
    return Heartbeat(server="build2", timestamp=NOW, healthy=healthy)


def test_health_is_change_that_the_reader_saw() -> None:
    """Once seen to change, wall clocks do not matter; before that the timestamp's age is all there is."""
    new = {"unchanged_seconds": 10.0, "seen_to_change": True, "claimed_age_seconds": 9e9}
    assert derive_health(beat(), **new).state == "healthy"
    old = {"unchanged_seconds": 0.0, "seen_to_change": False, "claimed_age_seconds": 3 * 86400.0}
    assert derive_health(beat(), **old).state == "stale"


@pytest.mark.parametrize(
    ("age", "said", "state"),
    [
        (STALE_SECONDS - 1, True, "healthy"),
        (STALE_SECONDS - 1, False, "unhealthy"),
        (STALE_SECONDS, True, "stale"),
        (STALE_SECONDS, False, "stale"),
    ],
)
def test_there_is_one_threshold_and_silence_outweighs_what_was_said(
    age: float, said: bool, state: str
) -> None:
    """`healthy` in the file counts only as long as the file changes."""
    health = derive_health(beat(said), unchanged_seconds=age, seen_to_change=True, claimed_age_seconds=0.0)
    assert (health.state, health.age_seconds) == (state, age)


def test_who_never_sent_a_heartbeat_is_unknown() -> None:
    """Neither healthy nor stale."""
    health = derive_health(None, unchanged_seconds=0.0, seen_to_change=False, claimed_age_seconds=0.0)
    assert (health.state, health.age_seconds) == ("unknown", None)


def test_a_status_is_written_only_when_a_fact_changed(world: World) -> None:
    """The same facts again are no commit, whatever the time is."""
    facts = {"ip": "192.0.2.7", "system": {"disk_free_gb": 10.0}}
    assert world.do("status.set", facts=facts) == {"changed": True}
    before = dict(world.files)
    assert world.do("status.set", facts=facts) == {"changed": False}
    assert world.files == before
    assert world.status("build1").manager == ""
    assert world.refused("status.set", facts=facts, builder="build9").reason == "unknown-builder"


def test_a_heartbeat_rides_along(world: World) -> None:
    """`heartbeat.json` in a checkout is as new as the builder's last transaction."""
    later = Heartbeat(server="build1", timestamp=NOW + timedelta(hours=1), uptime_seconds=5.0)
    world.do("status.set", facts={"heartbeat": later.model_dump(mode="json")})
    assert world.load(Heartbeat, paths.heartbeat("build1")) == later


def test_configuration_keeps_what_it_does_not_know(world: World) -> None:
    """Fields of a newer version survive; the same configuration again is no commit."""
    config = {"build": {"skip_tests": False, "newer": 1}}
    assert world.do("config.set", config=config) == {"changed": True}
    assert world.do("config.set", config=config) == {"changed": False}
    kept = world.load(BuildConfig, paths.BUILD_CONFIG)
    assert kept.build.skip_tests is False
    assert kept.build.newer == 1


def test_a_builder_is_registered_with_a_status(world: World) -> None:
    """A new one can be looked at once; an existing one keeps its status."""
    entry = {"name": "build4", "address": "192.0.2.4", "manager": "ann"}
    outcome = world.do("registry.set", entry=entry)
    assert outcome["builders"] == ["build1", "build2", "build3", "build4"]
    assert (world.status("build4").ip, world.status("build4").status) == ("192.0.2.4", "idle")
    assert world.do("registry.set", entry=entry)["changed"] is False
    world.do("registry.set", entry={**entry, "manager": "bob"})
    registry = world.load(Registry, paths.REGISTRY)
    assert registry.builders[-1] == Builder(name="build4", address="192.0.2.4", manager="bob")


def test_a_builder_that_holds_something_stays(world: World) -> None:
    """Its lock would belong to nobody."""
    token = world.run("j1", builder="build2")
    entry = {"name": "build2"}
    assert world.refused("registry.set", entry=entry, remove=True).reason == "busy"
    world.finish("j1", token, builder="build2")
    assert world.do("registry.set", entry=entry, remove=True)["builders"] == ["build1", "build3"]

"""What builders state of their environments: in the status, compared before any build, drift said unasked."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.builds.environment import listing
from pipeline.errors import ComparisonIncomplete
from pipeline.operations import site as sites
from pipeline.operations.environments import compare, stated
from pipeline.operations.overview import overview
from pipeline.operations.site import Site
from pipeline.operations.stating import compare_stated
from pipeline.records.base import dump
from pipeline.records.builders import Status
from pipeline.records.builds import Environment
from tests.operations.conftest import WHEN, MakeSite


def environment(**changes: Any) -> Environment:
    """Returns what a builder may state."""
    packages, _ = listing("packages.txt", ["a=1"])
    return Environment(
        **{"host": "one", "user": "root", "timezone": "UTC", "kernel": "6.1", "packages": packages, **changes}
    )


def state(site: Site, found: Environment) -> None:
    """Has a builder state its environment, as a claim does."""
    site.ask({"kind": "status.set", "facts": stated(found)})


def test_a_status_has_the_fingerprint(make_site: MakeSite) -> None:
    """What a builder states is in its status with its fingerprint, and without paths; it stays small."""
    one = make_site("build1")
    state(one, environment(home="/secret/home", path="/bin", folder="/f"))
    said = sites.status(one.state().view, "build1")
    assert said is not None
    assert said.environment is not None
    assert said.fingerprint == environment().fingerprint == said.environment.fingerprint
    assert (said.environment.home, said.environment.path, said.environment.folder) == (None, None, None)
    assert len(dump(said)) < 2500


def test_a_status_that_states_nothing_is_as_it_was() -> None:
    """Without an environment the file has the fields that it always had, and not a null more."""
    status = Status(server="build1", timestamp=WHEN)
    assert b"environment" not in dump(status)
    assert b"fingerprint" not in dump(status)


def test_drift_is_said_without_being_asked(make_site: MakeSite) -> None:
    """`status` names what is not set up alike, and says nothing of who and where builders are."""
    one, two = make_site("build1"), make_site("build2")
    state(one, environment())
    assert not any("set up alike" in notice for notice in overview(one).notices)
    state(two, environment(host="two", user="jenkins", cores=64))
    assert not any("set up alike" in notice for notice in overview(one).notices)
    state(two, environment(kernel="6.9", host="two"))
    (notice,) = [each for each in overview(one).notices if "set up alike" in each]
    assert notice == (
        "build1 and build2 are not set up alike (kernel): `invoke compare --environment` shows it."
    )


def test_properties_are_told_by_builder() -> None:
    """Of three builders each has its value; what only says who it is, is no drift."""
    said = {
        name: Status(server=name, timestamp=WHEN, environment=environment(host=name, **more))
        for name, more in (("build1", {}), ("build2", {"kernel": "6.9"}), ("build3", {}))
    }
    found = compare(said)
    assert not found.alike
    assert [(each.name, each.values, each.drift) for each in found.differences] == [
        ("host", {"build1": "build1", "build2": "build2", "build3": "build3"}, False),
        ("kernel", {"build1": "6.1", "build2": "6.9", "build3": "6.1"}, True),
    ]


def test_who_states_nothing_is_not_alike() -> None:
    """A builder that has stated nothing agrees with nobody, nor do two that have both stated nothing."""
    silent = Status(server="build2", timestamp=WHEN)
    speaking = Status(server="build1", timestamp=WHEN, environment=environment())
    assert not compare({"build1": speaking, "build2": silent}).alike
    assert not compare({"build1": silent, "build2": None}).alike
    assert compare({"build1": speaking, "build2": speaking}).alike


def test_a_builder_states_its_own_before_it_compares(make_site: MakeSite) -> None:
    """Without any build: each states once, in one transaction, and again only what has changed."""
    one, two = make_site("build1"), make_site("build2")
    with pytest.raises(ComparisonIncomplete, match="Nothing is known of the environment of build2"):
        compare_stated(one)
    found = compare_stated(two)
    assert found.alike
    assert [each.fingerprint is not None for each in found.builders] == [True, True]
    tip = two.state().tip
    compare_stated(two)
    assert two.state().tip == tip

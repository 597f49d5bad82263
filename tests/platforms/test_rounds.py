"""Rounds of real builders in which something is killed, is done twice at once, or is as on other branches."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.tiny import BRANCH, Host, finish
from tests.test_secret_builds import SECRET, begin, promote
from tests.test_signed_builds import builder, enforce, keys, ran

__all__ = ["builder", "keys"]

pytestmark = pytest.mark.skipif(
    shutil.which("dpkg-buildpackage") is None, reason="dpkg-dev is not installed: ./bootstrap installs it"
)

Make = Callable[..., Host]


def test_killed_between_commitment_and_reveal(builder: Make, keys: Path) -> None:
    """What a killed builder has committed to is revealed and signed by its `recover`, and promoted."""
    one, two = begin(builder, keys)
    orders = ran(one, "build", "--on", "build1,build2", "--branch", BRANCH, "--json").json()["jobs"]
    assert len({each["round"] for each in orders}) == 1
    jobs = {each["builder"]: each["job_id"] for each in orders}
    assert "It is revealed once all of its round have" in ran(two, "work", "--once").err
    (waits,) = ran(one, "status", "--json").json()["rounds"]
    assert (waits["committing"], waits["revealing"]) == (["build1"], ["build2"])
    assert finish(one.start_killed("reported", BRANCH, jobs["build1"])).code == -9
    assert "waiting for the reveal of build1 and build2" in ran(one, "compare", code=96).err
    assert ran(one, "recover", "--json").json()["revealed"] == [jobs["build1"]]
    assert "waiting for the reveal of build2" in ran(one, "compare", code=96).err
    assert "waiting for the reveal of build2" in ran(one, "status").out
    assert ran(two, "work", "--once").out.startswith("Nothing to do")
    assert ran(one, "status", "--json").json()["rounds"] == []
    entry = promote(one, keys)
    assert (entry["witnessed"], entry["verdict"]) == (True, "AGREE")
    assert one.facts().problems == []


def test_two_operators_at_once(builder: Make, keys: Path) -> None:
    """Both type the same: there is one round, each builds its own job of it, and both are told."""
    hosts = begin(builder, keys)
    recipe = hosts[0].env["PIPELINE_RECIPE"]
    words = ("compare", "--build", "--branch", BRANCH, "--json")
    ended = [finish(each) for each in [host.start(*words, PIPELINE_RECIPE=recipe) for host in hosts]]
    assert [each.code for each in ended] == [0, 0], [each.err for each in ended]
    assert {each.json()["verdict"] for each in ended} == {"AGREE"}
    jobs = ran(hosts[0], "job.list", "--json").json()
    assert sorted((job["assigned_to"], job["attempt"]) for job in jobs) == [("build1", 1), ("build2", 1)]
    assert sum("ordered already, as round" in each.err for each in ended) == 1
    assert promote(hosts[0], keys)["witnessed"] is True
    assert hosts[0].facts().problems == []


@pytest.mark.parametrize("point", ["enqueued", "push", "pushed"])
def test_killed_while_it_orders(builder: Make, keys: Path, point: str) -> None:
    """Killed before or after its push, an order of several is there whole or not at all; once, in the end."""
    one, two = begin(builder, keys)
    assert finish(one.start_killed(point, BRANCH, "on=build1,build2")).code == -9
    before = ran(two, "job.list", "--json").json()
    assert len(before) == (2 if point == "pushed" else 0)
    ran(one, "recover")
    jobs = ran(two, "job.list", "--json").json()
    assert [job["target"] for job in jobs] == ["build1", "build2"]
    (waits,) = ran(two, "status", "--json").json()["rounds"]
    assert sorted(waits["jobs"].values()) == sorted(job["id"] for job in jobs)
    again = ran(one, "build", "--on", "all", "--branch", BRANCH, "--json")
    assert f"ordered already, as round {waits['id']}" in again.err
    assert {each["job_id"] for each in again.json()["jobs"]} == {job["id"] for job in jobs}
    assert one.facts().problems == []


def test_other_branches_are_ordered_as_ever(builder: Make, keys: Path) -> None:
    """Without a policy, and on a branch of which it says nothing, there is no round; alone it is said."""
    one, _ = begin(builder, keys)
    ordered = ran(one, "build", "--on", "all", "--branch", BRANCH, "--dry-run", "--json").json()["jobs"]
    assert {each["round"] for each in ordered} == {None}
    said = ran(one, "build", "--branch", BRANCH, "--json")
    assert f"Note: on {BRANCH} only builds of a round count" in said.err
    enforce(one, keys, 2, branches={})
    plain = ran(one, "build", "--on", "all", "--branch", BRANCH, "--json").json()["jobs"]
    assert [each["round"] for each in plain] == [None, None]
    assert "only builds of a round count" not in ran(one, "work", "--once").err


def test_both_builders_of_one_machine_make_a_round(builder: Make, keys: Path) -> None:
    """On the embedded default one command has both builders commit, reveal and be compared."""
    one = builder("build1")
    ran(one, "status")
    enforce(one, keys, 1, "build1", branches=SECRET)
    found = ran(one, "compare", "--build", "--branch", BRANCH, "--json")
    assert found.json()["verdict"] == "AGREE"
    assert ran(one, "status", "--json").json()["rounds"] == []
    assert promote(one, keys)["witnessed"] is True
    assert one.facts().problems == []

"""Rounds as an operator types them: one command orders, each builder commits, reveals and signs by itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.edge.bare import make_bare
from tests.cluster.tiny import BRANCH, Host, finish, wait_until
from tests.test_signed_builds import builder, enforce, keys, ran

__all__ = ["builder", "keys"]

pytestmark = pytest.mark.skipif(
    shutil.which("dpkg-buildpackage") is None, reason="dpkg-dev is not installed: ./bootstrap installs it"
)

Make = Callable[..., Host]
SECRET = {BRANCH: {"commit_and_reveal": True}}


def begin(builder: Make, keys: Path) -> tuple[Host, Host]:
    """Makes two builders over one ledger, and a policy by which they commit first and both must agree."""
    make_bare(keys / "ledger.git")
    one = builder("build1", ledger=str(keys / "ledger.git"))
    two = builder("build2", ledger=str(keys / "ledger.git"), source=str(one.source))
    ran(one, "ledger.init")
    enforce(one, keys, 2, "build1", "build2", branches=SECRET)
    return one, two


def promote(host: Host, keys: Path) -> dict[str, object]:
    """Promotes what was built, and verifies it offline. Returns the entry."""
    done = ran(host, "promote", "--key", str(keys / "operator"), "--json").json()
    (current,) = host.home.glob("promoted/*/current")
    ran(host, "verify", str(current), "--root-key", str(keys / "root.pub"))
    entry: dict[str, object] = done["entry"]
    return entry


def test_ordered_once_and_promoted_as_witnessed(builder: Make, keys: Path) -> None:
    """`compare --build` orders the round, builds, waits and compares; nobody reveals by hand."""
    one, two = begin(builder, keys)
    waits = one.start("compare", "--build", "--branch", BRANCH, "--json")
    wait_until(lambda: len(json.loads(ran(two, "job.list", "--json").out)) == 2)
    built = ran(two, "work", "--once", "--json").json()
    assert built["round"].startswith("round_")
    wait_until(lambda: not ran(two, "status", "--json").json()["queued"])
    wait_until(lambda: ran(two, "recover", "--json").json()["revealed"] or waits.poll() is not None)
    found = finish(waits)
    assert found.code == 0, found.err
    said = found.json()
    assert (said["verdict"], said["scope"]) == ("AGREE", "builds")
    assert promote(one, keys)["witnessed"] is True
    jobs = ran(one, "job.list", "--json").json()
    assert sorted(job["assigned_to"] for job in jobs) == ["build1", "build2"]
    assert one.facts().problems == []


def test_a_key_that_cannot_sign_is_told_before_the_build(builder: Make, keys: Path) -> None:
    """A builder whose key is gone fails its job of a round at once; a retry is in no round, and says so."""
    _, two = begin(builder, keys)
    ran(two, "build", "--on", "all", "--branch", BRANCH)
    (keys / "build2").unlink()
    failed = ran(two, "work", "--once", "--json", code=72).json()
    assert "did not sign" in failed["failure"]["message"]
    assert (failed["stages"], failed["modules"]) == ([], [])
    assert f"on {BRANCH} only builds of a round count" in ran(two, "job.retry", failed["job_id"]).err

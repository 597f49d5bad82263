"""Probing a real git host: what it allows, what it refuses, and that nothing of the probe stays."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.builds.checks import Check
from pipeline.edge.bare import make_bare
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.ref_store import beat_objects
from pipeline.errors import LedgerUnreachable
from pipeline.operations.remote import probe
from pipeline.operations.site import Site
from tests.operations.conftest import MakeSite

Probe = Callable[[Path], dict[str, Check]]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An empty bare repository, as a host has it."""
    place = tmp_path / "host.git"
    make_bare(place)
    return place


@pytest.fixture
def examine(make_site: MakeSite, tmp_path: Path) -> Probe:
    """A prober of a repository."""

    def run(remote: Path) -> dict[str, Check]:
        site: Site = make_site("build1")
        site.ledger.refs = GitRefs(tmp_path / "clone.git", str(remote), timeout=20)
        return {check.name.removeprefix("remote: "): check for check in probe(site)}

    return run


def hook(bare: Path, script: str) -> None:
    """Gives a host a hook that sees every push."""
    place = bare / "hooks" / "pre-receive"
    place.parent.mkdir(exist_ok=True)
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)


def refs_of(bare: Path) -> list[str]:
    """Returns the refs of a host."""
    done = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)"], cwd=bare, capture_output=True, text=True
    )
    return done.stdout.split()


def test_an_ordinary_host_does_all(examine: Probe, bare: Path) -> None:
    """Refs of our own, leases and atomic pushes are found to work; no ref of the probe stays."""
    subprocess.run(["git", "config", "receive.denyDeletes", "false"], cwd=bare, check=True)
    found = examine(bare)
    assert [name for name, check in found.items() if not check.ok] == []
    assert "right lease is taken, with a wrong one refused" in found["leases"].message
    assert refs_of(bare) == []


def test_a_host_that_keeps_every_ref_is_good_enough(examine: Probe, bare: Path) -> None:
    """A host that refuses to remove refs is said to, and which of them stays does no harm."""
    hook(bare, "while read -r old new ref; do case $new in 0000*) exit 1;; esac; done")
    found = examine(bare)
    assert "refused" in found["removal of our own refs"].message
    assert all(check.ok for check in found.values())
    assert all(ref.startswith("refs/pipeline/probe/") for ref in refs_of(bare))


def test_a_host_that_only_takes_branches(examine: Probe, bare: Path) -> None:
    """A hook that refuses refs/pipeline is found, with what that costs."""
    hook(bare, "while read -r old new ref; do case $ref in refs/pipeline/*) exit 1;; esac; done")
    found = examine(bare)
    outside = found["refs outside refs/heads"]
    assert not outside.ok
    assert "pre-receive hook declined" in outside.message
    assert "refs/pipeline/*" in (outside.remedy or "")
    assert "leases" not in found


def test_a_host_that_can_only_be_read(examine: Probe, bare: Path) -> None:
    """A host that takes nothing at all is found not to."""
    hook(bare, "echo read-only >&2; exit 1")
    assert not examine(bare)["refs outside refs/heads"].ok
    assert refs_of(bare) == []


def test_a_host_that_is_not_there(examine: Probe, tmp_path: Path) -> None:
    """A host that gives no answer is an error, not a finding."""
    with pytest.raises(LedgerUnreachable):
        examine(tmp_path / "nowhere.git")


def test_what_cannot_be_probed_is_said(make_site: MakeSite) -> None:
    """A remote that is no git host is not probed."""
    (check,) = probe(make_site("build1"))
    assert not check.ok
    assert "cannot be probed" in check.message


def test_try_push_returns_the_reason(bare: Path, tmp_path: Path) -> None:
    """A push that is taken is None, one that the host refuses its words, one without a verdict an error."""
    refs = GitRefs(tmp_path / "clone.git", str(bare))
    objects, others = beat_objects(b"x"), beat_objects(b"y")
    refs.write([*objects, *others])
    oid, other = objects[-1].oid, others[-1].oid
    assert refs.try_push([f"{oid}:refs/x/one"]) is None
    assert "stale info" in (
        refs.try_push([f"{other}:refs/x/one"], f"--force-with-lease=refs/x/one:{'1' * 40}") or ""
    )
    gone = GitRefs(tmp_path / "clone.git", str(bare.with_name("gone")))
    with pytest.raises(LedgerUnreachable):
        gone.try_push([f"{oid}:refs/x/one"])


def test_a_slow_host_is_said(make_site: MakeSite, bare: Path, tmp_path: Path) -> None:
    """An answer that takes seconds is a finding: each transaction waits for two."""
    site = make_site("build1")
    clock = site.clock

    class Slow(GitRefs):
        def beats(self, prefix: str) -> tuple[str | None, dict[str, str]]:
            clock.sleep(4.0)
            return super().beats(prefix)

    site.ledger.refs = Slow(tmp_path / "clone.git", str(bare))
    answers = next(check for check in probe(replace(site)) if check.name == "remote: answers")
    assert not answers.ok
    assert answers.message == "after 4.00 s"

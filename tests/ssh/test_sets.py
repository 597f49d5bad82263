"""Builders' sets where they lie: one here, one on another machine, read over SSH."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.operations.agreement import compare_builds, reach_far, reach_here
from pipeline.operations.choosing import Asked
from pipeline.operations.places import Known
from pipeline.operations.settings import FarBuilder
from pipeline.operations.sides import open_line
from pipeline.records.comparison import Verdict
from pipeline.runtime.comparison import read_there
from tests.operations.conftest import MakeSite, clock, make_site, remote
from tests.operations.test_agreement import both, build, converse, packages, settled
from tests.ssh.servers import Builder

__all__ = ["clock", "make_site", "packages", "remote"]  # fixtures


def test_a_set_on_another_machine_is_read_over_ssh(
    make_site: MakeSite,
    tmp_path: Path,
    packages: Mapping[str, bytes],
    builders: tuple[Builder, Builder],
) -> None:
    """Where this machine's settings say where a builder keeps its sets, that is where they are compared."""
    here, there = make_site("build1"), make_site("build2")
    build(here, tmp_path, "job_1", both(packages["same"], packages["one"]), packages="zip=1")
    build(there, tmp_path, "job_2", both(packages["same"], packages["two"]), packages="zip=2")
    far = builders[1]
    (tmp_path / "artifacts/build2").rename(far.root / "build2")
    known = Known(settings={"build2": FarBuilder(root=far.root, address=far.name, user=far.server.user)})
    site = settled(here, tmp_path)
    ways = [reach_here(site, converse), reach_far(known, lambda place: open_line(place, read_there))]
    found = compare_builds(site, Asked(), ways)
    assert (found.verdict, found.independent) == (Verdict.DIFFER, False)
    assert [each.verdict for each in found.artifacts] == [Verdict.AGREE, Verdict.DIFFER]
    assert [(each.left, each.right) for each in found.environment if each.name == "packages.zip"] == [
        ("1", "2")
    ]
    assert found.wire.handshake_bytes > 1000

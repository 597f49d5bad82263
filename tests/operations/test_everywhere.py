"""Building everywhere before a comparison, watching for new builds, and times side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.edge.clock import ManualClock
from pipeline.errors import ComparisonIncomplete, Interrupted, UsageError
from pipeline.operations.agreement import reach_here
from pipeline.operations.attempt import Interruption
from pipeline.operations.build import Order
from pipeline.operations.choosing import Asked
from pipeline.operations.everywhere import build_everywhere, timings, watch
from pipeline.operations.report import Report
from pipeline.operations.site import Site
from pipeline.records.base import dump
from pipeline.records.builds import Manifest, ModuleTime, Stage
from pipeline.records.comparison import Verdict
from tests.compare.test_descent import deb
from tests.operations import test_agreement as agreement
from tests.operations.conftest import COMMIT, WHEN, MakeSite
from tests.operations.test_recover import complete, start


class Clock(ManualClock):
    """A clock on which something happens whenever somebody sleeps."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__(WHEN)
        self.then = then

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.then()


class Runs:
    """Builds that succeed here at once, and are ordered elsewhere."""

    def __init__(self) -> None:
        self.ordered: list[tuple[str | None, str | None]] = []

    def __call__(self, site: Site, order: Order) -> list[Report]:
        self.ordered.append((order.on, order.commit))
        job = f"job_{order.on or 'own'}"
        if order.on is None:
            site.ask(complete(job, start(site, job), site.builder))
            return [Report(job, "succeeded", order.branch, COMMIT, site.builder)]
        request = {"kind": "job.create", "id": job, "branch": order.branch, "commit": COMMIT}
        site.ask({**request, "target": order.on})
        return [Report(job, "queued", order.branch, COMMIT, order.on)]


def take(site: Site, outcome: str = "succeeded") -> None:
    """Has a builder run the job that waits for it."""
    taken = site.ask({"kind": "job.claim", "holder": site.holder()})
    report = complete(str(taken["job_id"]), str(taken["token"]), site.builder) | {"outcome": outcome}
    if outcome == "failed":
        report["failure"] = {"class": "compile", "message": "no"}
    site.ask(report)


def test_everybody_builds_and_is_waited_for(make_site: MakeSite) -> None:
    """The others are ordered first and pinned to one commit; who has a build of it is left alone."""
    two = make_site("build2")
    one = replace(make_site("build1"), clock=Clock(lambda: take(two)))
    runs = Runs()
    asked = build_everywhere(one, Asked(branch="ExternalNew"), run=runs)
    assert asked == Asked(branch="ExternalNew", commit=COMMIT)
    assert runs.ordered == [("build2", None), (None, COMMIT)]
    again = Runs()
    assert build_everywhere(one, Asked(), run=again) == asked
    assert again.ordered == []


def test_a_build_that_fails_elsewhere_ends_the_wait(make_site: MakeSite) -> None:
    """Whose build it was and how it ended is told: no verdict comes of it."""
    two = make_site("build2")
    one = replace(make_site("build1"), clock=Clock(lambda: take(two, "failed")))
    with pytest.raises(ComparisonIncomplete, match="build2 has not built ExternalNew: job_build2 is failed"):
        build_everywhere(one, Asked(branch="ExternalNew"), run=Runs())


def test_an_interrupted_wait_leaves_the_orders(make_site: MakeSite) -> None:
    """Who no longer waits is told what is still ordered."""
    stop = Interruption()
    one = replace(make_site("build1"), clock=Clock(lambda: setattr(stop, "signal", "interrupted by SIGINT")))
    with pytest.raises(Interrupted, match="Still ordered: job_build2"):
        build_everywhere(one, Asked(branch="ExternalNew"), stop=stop, run=Runs())


def test_nothing_is_built_that_nobody_named(make_site: MakeSite) -> None:
    """Without a branch and without a build there is nothing to build; a job was built already."""
    with pytest.raises(UsageError, match="Which branch"):
        build_everywhere(make_site("build1"), Asked(), run=Runs())
    with pytest.raises(UsageError, match="built already"):
        build_everywhere(make_site("build1"), Asked(jobs=("job_1",)), run=Runs())


def test_new_builds_are_compared_as_they_come(make_site: MakeSite, tmp_path: Path) -> None:
    """Watching compares a pair once, and the next when one of them is new; a signal ends it."""
    package = deb(tmp_path, {"usr/share/sample/who": b"x"})
    one, two = make_site("build1"), make_site("build2")
    stop = Interruption()
    left = [
        lambda: agreement.build(two, tmp_path, "job_2", agreement.both(package)),
        lambda: None,
        lambda: agreement.build(one, tmp_path, "job_3", agreement.both(package)),
        lambda: setattr(stop, "signal", "interrupted"),
    ]
    agreement.build(one, tmp_path, "job_1", agreement.both(package))
    here = replace(agreement.settled(one, tmp_path), clock=Clock(lambda: left.pop(0)()))
    found = list(watch(here, Asked(), [reach_here(here, agreement.converse)], stop))
    assert [each.verdict for each in found] == [Verdict.AGREE, Verdict.AGREE]
    builds = [(each.left_build and each.left_build.job_id) for each in found]
    assert builds == ["job_1", "job_3"]
    assert left == []


def test_times_are_side_by_side(make_site: MakeSite, tmp_path: Path) -> None:
    """Each module has a time for each builder, and none where it was not built."""
    package = deb(tmp_path, {"usr/share/sample/who": b"x"})

    def timed(seconds: float, *names: str) -> agreement.Report:
        def report(made: Manifest) -> bytes:
            modules = [ModuleTime(name=name, duration_seconds=seconds) for name in names]
            stages = [Stage(name="maven", duration_seconds=seconds)]
            return dump(made.model_copy(update={"modules": modules, "stages": stages}))

        return report

    one, two = make_site("build1"), make_site("build2")
    agreement.build(one, tmp_path, "job_1", agreement.both(package), report=timed(1.0, "a", "b"))
    agreement.build(two, tmp_path, "job_2", agreement.both(package), report=timed(2.0, "b"))
    found = timings(one, Asked())
    assert found.builders == ["build1", "build2"]
    assert found.modules == {"a": [1.0, None], "b": [1.0, 2.0]}
    assert found.stages == {"maven": [1.0, 2.0]}

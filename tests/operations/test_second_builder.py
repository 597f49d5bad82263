"""The second builder of the embedded default: who builds what before a comparison."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import ComparisonIncomplete
from pipeline.operations.build import Order
from pipeline.operations.choosing import Asked
from pipeline.operations.report import Report
from pipeline.operations.second_builder import make_up
from pipeline.operations.site import Site
from pipeline.records.builds import Failure, FailureClass
from tests.operations.conftest import COMMIT, MakeSite
from tests.operations.test_recover import complete, start


class Builds:
    """Builds that are only noted."""

    def __init__(self, ending: Any = "succeeded") -> None:
        self.ordered: list[tuple[str, Order]] = []
        self.ending = ending

    def __call__(self, site: Site, order: Order) -> list[Report]:
        self.ordered.append((site.builder, order))
        failure = Failure(failure_class=FailureClass.COMPILE, message="no symbol")
        failed = failure if self.ending == "failed" else None
        return [Report("job_x", self.ending, order.branch, order.commit or "", site.builder, failure=failed)]


def built(site: Site, job: str) -> None:
    """Has a builder build successfully."""
    token = start(site, job)
    site.ask(complete(job, token, site.builder))


def test_the_other_builds_what_was_built_last(make_site: MakeSite) -> None:
    """The one that lacks it builds the same commit, by the same order; who has it does not build again."""
    one = make_site("build1")
    built(one, "job_a")
    runs = Builds()
    made = make_up(one, Asked(), ("build1", "build2"), make_site, runs)
    assert [each.builder for each in made] == ["build2"]
    assert runs.ordered == [("build2", Order(branch="ExternalNew", commit=COMMIT))]


def test_nobody_builds_again_what_both_have(make_site: MakeSite) -> None:
    """A second comparison costs no build."""
    one, two = make_site("build1"), make_site("build2")
    built(one, "job_a")
    built(two, "job_b")
    runs = Builds()
    assert make_up(one, Asked(), ("build1", "build2"), make_site, runs) == []
    assert runs.ordered == []


def test_without_a_build_there_is_nothing_to_make_up(make_site: MakeSite) -> None:
    """Nothing is built that nobody asked for."""
    assert make_up(make_site("build1"), Asked(), ("build1", "build2"), make_site, Builds()) == []


def test_a_build_that_fails_is_incomplete(make_site: MakeSite) -> None:
    """The second builder's failure is told with its cause; no verdict comes of it."""
    one = make_site("build1")
    built(one, "job_a")
    with pytest.raises(ComparisonIncomplete, match=r"build2 has not built .* no symbol") as caught:
        make_up(one, Asked(), ("build1", "build2"), make_site, Builds("failed"))
    assert caught.value.remedy == "`invoke job.log job_x` shows why."

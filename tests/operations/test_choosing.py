"""Which builds are compared: never of two commits, never one builder's, unless somebody names them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import ComparisonIncomplete, NotFound, UsageError
from pipeline.operations.choosing import Asked, choose, latest
from pipeline.records.jobs import Job
from tests.operations.conftest import WHEN

A, B = "a" * 40, "b" * 40


def job(id: str, builder: str | None, commit: str = A, outcome: str = "succeeded", **more: Any) -> Job:
    """Returns a job that has ended."""
    return Job(
        id=f"job_{id}",
        branch=more.pop("branch", "main"),
        commit=commit,
        assigned_to=builder,
        status="completed" if outcome == "succeeded" else "failed",
        outcome=outcome,  # type: ignore[arg-type]
        created_at=WHEN,
        **more,
    )


def ids(found: list[Job]) -> list[str]:
    """Returns the ids of jobs, without their beginning."""
    return [each.id.removeprefix("job_") for each in found]


JOBS = [
    job("1", "build1"),
    job("2", "build2"),
    job("3", "build2"),
    job("4", "build1", B),
    job("5", "build2", B, "failed"),
    job("6", "build2", B, type="test"),
]


def test_the_newest_commit_that_two_have_built() -> None:
    """A newer commit that only one has built, or that failed elsewhere, is passed over."""
    assert ids(choose(JOBS, Asked())) == ["1", "3"]
    assert ids(choose([*JOBS, job("7", "build2", B)], Asked())) == ["4", "7"]
    assert ids(choose([*JOBS, job("7", "build3", B), job("8", "build2", B)], Asked())) == ["4", "8", "7"]


def test_a_commit_or_a_branch_narrows_it() -> None:
    """What is asked for is compared, though something newer is there."""
    jobs = [
        *JOBS,
        job("7", "build2", B),
        job("8", "build1", B, branch="other"),
        job("9", "build2", B, branch="other"),
    ]
    assert ids(choose(jobs, Asked(commit="aaaaaaa"))) == ["1", "3"]
    assert ids(choose(jobs, Asked(branch="main"))) == ["4", "7"]
    assert ids(choose(jobs, Asked(branch="other"))) == ["8", "9"]


def test_one_commit_on_two_branches_is_not_mixed() -> None:
    """The branch's name gets into what is built: builds of two branches are no pair by themselves."""
    jobs = [job("1", "build1"), job("2", "build2", branch="other")]
    with pytest.raises(ComparisonIncomplete):
        choose(jobs, Asked())


def test_a_job_is_compared_with_the_others_of_its_commit() -> None:
    """The job that is named is taken, also where its builder has a newer one."""
    assert ids(choose(JOBS, Asked(jobs=("job_2",)))) == ["2", "1"]


def test_jobs_that_are_named_are_taken_as_they_are() -> None:
    """Also of two commits, or of one builder: the verdict says what that is worth."""
    assert ids(choose(JOBS, Asked(jobs=("job_1", "job_4")))) == ["1", "4"]
    assert ids(choose(JOBS, Asked(jobs=("job_2", "job_3")))) == ["2", "3"]


def test_a_job_that_is_named_twice_is_one() -> None:
    """Naming one job twice makes no pair of it."""
    with pytest.raises(ComparisonIncomplete, match="has been built by two builders") as caught:
        choose(JOBS[:1], Asked(jobs=("job_1", "job_1")))
    assert "build1 alone has a build at aaaaaaaaaaaa" in caught.value.message


@pytest.mark.parametrize("jobs", [[], JOBS[:1], JOBS[4:]])
def test_without_two_builders_there_is_nothing_to_compare(jobs: list[Job]) -> None:
    """No build, one builder's, or only failures: that is INCOMPLETE, with what to do."""
    with pytest.raises(ComparisonIncomplete) as caught:
        choose(jobs, Asked())
    assert "--build" in (caught.value.remedy or "")


def test_a_job_that_is_not_there_or_has_failed_is_said() -> None:
    """An unknown id is not found; one that made nothing is named with how it ended."""
    with pytest.raises(NotFound, match="No job job_9"):
        choose(JOBS, Asked(jobs=("job_9",)))
    with pytest.raises(ComparisonIncomplete, match=r"job_5 has made nothing .* it is failed"):
        choose(JOBS, Asked(jobs=("job_1", "job_5")))


@pytest.mark.parametrize("commit", ["x", "abc", "HEAD~1", "A" * 40])
def test_what_is_no_commit_is_refused(commit: str) -> None:
    """A commit is a beginning of its id, long enough to mean one."""
    with pytest.raises(UsageError, match="is no commit"):
        Asked(commit=commit)


def test_a_job_has_its_commit_already() -> None:
    """A job and a commit, or a branch, together are a mistake."""
    with pytest.raises(UsageError):
        Asked(jobs=("job_1",), branch="main")


def test_the_latest_build_is_anybodys() -> None:
    """What is still to be built elsewhere is what was built last, if it fits."""
    found = [latest(JOBS, Asked()), latest(JOBS, Asked(commit="aaaaaaa")), latest(JOBS, Asked(branch="x"))]
    assert [each and each.id for each in found] == ["job_4", "job_3", None]

"""Orders with conditions, with real processes: after other jobs, and tried again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_between import clean
from tests.cluster.tiny import BRANCH, Host, finish, output, wait_until


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A builder whose processes are all ended with the test."""
    made = Host(tmp_path / "host", heartbeat_seconds="0.25")
    yield made
    clean(made)


def test_a_job_runs_after_another(host: Host) -> None:
    """It is queued until the other has succeeded, whatever its priority; `work` takes them in that order."""
    first = host.invoke("build", "--branch", BRANCH, "--on", "any", "--json").json()
    words = ("build", "--branch", BRANCH, "--after", first["job_id"], "--priority", "1", "--json")
    planned = host.invoke(*words, "--retries", "test=2", "--dry-run").json()
    assert (planned["depends_on"], planned["retries"]) == ([first["job_id"]], {"test": 2})
    second = host.invoke(*words).json()
    assert (second["status"], second["builder"]) == ("queued", "build1")
    assert second["depends_on"] == [first["job_id"]]
    ran = [host.invoke("work", "--once", "--json").json() for _ in range(2)]
    assert [each["job_id"] for each in ran] == [first["job_id"], second["job_id"]]
    assert ran[1]["depends_on"] == [first["job_id"]]
    third = host.invoke("build", "--branch", BRANCH, "--after", second["job_id"], "--json")
    assert (third.code, third.json()["status"]) == (0, "succeeded")
    assert [job.depends_on for job in host.facts().jobs] == [[], [first["job_id"]], [second["job_id"]]]
    assert_once_each(host, 3)


def test_a_job_after_none_is_refused(host: Host) -> None:
    """An unknown job id ends with 41 before anything is recorded, also for another builder."""
    for more in ([], ["--dry-run"], ["--on", "build2"]):
        refused = host.invoke("build", "--branch", BRANCH, "--after", "job_x", *more)
        assert refused.code == 41
        assert "There is no job `job_x`" in refused.err
    assert host.facts().jobs == []


def test_what_fails_is_tried_again(host: Host) -> None:
    """As often as its class allows, in the same command, as attempts of one job; then it has failed."""
    host.switch("fail-maven")
    ended = host.invoke("build", "--branch", BRANCH, "--retries", "package=2", "--json")
    report = ended.json()
    assert (ended.code, report["status"], report["attempt"]) == (76, "failed", 3)
    assert report["failure"]["class"] == "package"
    assert ended.err.count("it is tried again") == 2
    (job,) = host.facts().jobs
    assert (job.outcome, job.attempt, job.failures, job.losses) == ("failed", 3, 3, 0)
    assert host.facts().locks == []
    # Another class's number does not count.
    ended = host.invoke("build", "--branch", BRANCH, "--retries", "test=2", "--json")
    assert (ended.code, ended.json()["attempt"]) == (76, 1)


def test_a_second_attempt_may_succeed(host: Host) -> None:
    """What passes when it is tried again is a success, with one result accepted."""
    host.switch("fail-maven")
    build = host.start("build", "--branch", BRANCH, "--retries", "package=9", "--json")
    assert wait_until(lambda: "it is tried again" in output(build)[1])
    host.unswitch()
    ended = finish(build)
    assert (ended.code, ended.json()["status"]) == (0, "succeeded")
    assert ended.json()["attempt"] >= 2
    (job,) = host.facts().jobs
    assert (job.outcome, job.losses) == ("succeeded", 0)
    assert host.facts().problems == []


def assert_once_each(host: Host, jobs: int) -> None:
    """Every job has one accepted result."""
    facts = host.facts()
    assert (len(facts.accepted), facts.late, facts.problems) == (jobs, 0, [])
    assert {job.outcome for job in facts.jobs} == {"succeeded"}

"""After which jobs an order runs, and how often it is tried again."""

from __future__ import annotations

import pytest

from pipeline.errors import NotFound, PipelineError, Refused, UsageError
from pipeline.operations import queue
from pipeline.operations.conditions import PASSING, needed, read_retries, said
from tests.operations.conftest import COMMIT, MakeSite
from tests.operations.test_recover import complete, start


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("2", {each.value: 2 for each in PASSING}),
        ("test=2", {"test": 2}),
        (" test=2, dependency=3 ", {"test": 2, "dependency": 3}),
        ("compile=0", {"compile": 0}),
    ],
)
def test_retries_are_read(text: str, expected: dict[str, int]) -> None:
    """A number alone is for what may pass the next time; a class is named with its own."""
    assert read_retries(text) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("-1", "'-1' is no number"),
        ("21", "'21' is no number"),
        ("2,3", "'2' is no class"),
        ("test=x", "'x' is no number"),
        ("test", "'test' is no number"),
        ("cancelled=1", "'cancelled' is no class"),
        ("lost=1", "'lost' is no class"),
        ("test=1,test=2", "'test' is given twice"),
    ],
)
def test_retries_that_mean_nothing_are_refused(text: str, what: str) -> None:
    """The word that is wrong is named, with what could stand there."""
    with pytest.raises(UsageError, match=f"^--retries: {what}") as raised:
        read_retries(text)
    assert raised.value.remedy


def test_what_an_order_runs_after(make_site: MakeSite) -> None:
    """Jobs that wait, run or have succeeded may be named, each once."""
    one, two = make_site("build1"), make_site("build2")
    one.ask(complete("job_done", start(one, "job_done")))
    start(one, "job_runs")
    two.ask({"kind": "job.create", "id": "job_waits", "branch": "b", "commit": COMMIT})
    found = needed(two, ["job_waits", "job_done", "job_runs", "job_waits"])
    assert [(job.id, job.ended) for job in found] == [
        ("job_waits", False),
        ("job_done", True),
        ("job_runs", False),
    ]
    assert needed(two, []) == []


@pytest.mark.parametrize(
    ("id", "error", "words", "remedy"),
    [
        ("job_fail", NotFound, "There is no job `job_fail`", "Near it: job_failed."),
        ("job_", NotFound, "There is no job `job_`", None),
        ("zzz", NotFound, "There is no job `zzz`", "`invoke job.list --all` shows every job."),
        ("job_failed", Refused, "Job `job_failed` cancelled", "`invoke job.retry job_failed`"),
        ("../x", UsageError, "", None),
    ],
)
def test_what_no_order_can_run_after(
    make_site: MakeSite, id: str, error: type[PipelineError], words: str, remedy: str | None
) -> None:
    """An unknown job is refused with the near ones; one that failed, since what waits for it never runs."""
    one = make_site("build1")
    one.ask({"kind": "job.create", "id": "job_failed", "branch": "b", "commit": COMMIT})
    queue.cancel(one, "job_failed", "not wanted")
    with pytest.raises(error) as raised:
        needed(one, [id])
    assert raised.value.message.startswith(words)
    assert remedy is None or (raised.value.remedy or "").startswith(remedy)


def test_an_archived_success_needs_no_waiting(make_site: MakeSite) -> None:
    """A job that succeeded long ago may be named, and is no condition any more."""
    one = make_site("build1")
    one.ask(complete("job_old", start(one, "job_old")))
    for number in range(101):
        one.ask({"kind": "job.create", "id": f"job_{number}", "branch": "b", "commit": COMMIT})
        one.ask({"kind": "job.cancel", "job_id": f"job_{number}"})
    assert "job_old" not in {job.id for job in queue.list_jobs(one)}
    assert needed(one, ["job_old"]) == []


def test_conditions_in_words() -> None:
    """Only what there is to say is said."""
    assert said([], {}) == ""
    assert said(["job_a", "job_b"], {"test": 0}) == "after job_a, job_b"
    assert said(["job_a"], {"test": 2, "dependency": 1}) == "after job_a; tried again: dependency 1, test 2"

"""Jobs as people see them: found wherever they are, cancelled, repeated, told with their logs."""

from __future__ import annotations

import pytest

from pipeline.errors import Fenced, NotFound, Refused, UsageError
from pipeline.operations import locks, queue
from pipeline.operations.site import Site
from tests.operations.conftest import COMMIT, MakeSite
from tests.operations.test_recover import complete, start


def order(site: Site, job_id: str, **more: object) -> None:
    """Puts a job into the queue."""
    site.ask({"kind": "job.create", "id": job_id, "branch": "b", "commit": COMMIT, **more})


def test_a_queued_job_is_cancelled_at_once(make_site: MakeSite) -> None:
    """It ends as cancelled; a second time it has ended already, and the refusal says how to repeat it."""
    one = make_site("build1")
    order(one, "job_a")
    job = queue.cancel(make_site("build2"), "job_a", "not wanted")
    assert (job.status, job.outcome) == ("failed", "cancelled")
    with pytest.raises(Refused) as refused:
        queue.cancel(one, "job_a")
    assert "job.retry job_a" in (refused.value.remedy or "")


def test_a_running_job_is_asked_to_end(make_site: MakeSite) -> None:
    """Its builder is told the reason, and the job goes on until that builder has seen it."""
    one = make_site("build1")
    start(one, "job_a")
    job = queue.cancel(make_site("build2"), "job_a", "wrong branch")
    assert not job.ended
    assert "wrong branch" in (job.cancel_requested or "")


def test_a_retry_is_a_new_job(make_site: MakeSite) -> None:
    """It repeats branch and commit under another id, on another builder if that is asked for."""
    one = make_site("build1")
    one.ask(complete("job_a", start(one, "job_a")))
    new = queue.retry(one, "job_a", on="build2")
    assert new.id != "job_a"
    assert (new.retry_of, new.commit, new.target, new.status) == ("job_a", COMMIT, "build2", "queued")
    with pytest.raises(Refused):
        queue.retry(one, new.id)


def test_a_resumed_job_is_for_the_builder_that_has_what_was_left(make_site: MakeSite) -> None:
    """What a failed build left lies on one machine: no other takes the job, whoever orders it."""
    one, two = make_site("build1"), make_site("build2")
    one.ask(complete("job_a", start(one, "job_a")))
    assert queue.retry(two, "job_a", resume=True).target == "build1"
    assert queue.retry(two, "job_a", resume=True, on="build2").target == "build2"
    assert queue.retry(two, "job_a").target is None


def test_sealed_jobs_are_found(make_site: MakeSite) -> None:
    """A job that was archived is shown, listed with --all in its order, and can be repeated."""
    one = make_site("build1")
    ids = [f"job_{number:03d}" for number in range(130)]
    for number, job_id in enumerate(ids):
        request = {"kind": "job.create", "builder": "build1", "id": job_id, "branch": "b", "commit": COMMIT}
        one.ledger.enqueue(request)
        one.ledger.enqueue({"kind": "job.cancel", "builder": "build1", "job_id": job_id})
        if number % 30 == 29:
            one.ledger.deliver()
    one.ledger.deliver()
    assert ids[0] not in [job.id for job in queue.list_jobs(one)]
    assert [job.id for job in queue.list_jobs(one, everything=True)] == ids
    assert queue.show(one, ids[0]).outcome == "cancelled"
    assert queue.retry(one, ids[0]).retry_of == ids[0]


def test_logs_are_those_of_the_last_attempt(make_site: MakeSite) -> None:
    """A job without a log says so, and what shows one that is still growing."""
    one = make_site("build1")
    token = start(one, "job_a")
    with pytest.raises(NotFound) as missing:
        queue.log_of(one, "job_a")
    assert "--follow" in (missing.value.remedy or "")
    one.ledger.transact(complete("job_a", token), payloads={"log": b"done\n"})
    assert queue.log_of(one, "job_a") == b"done\n"


def test_a_lock_is_broken_by_its_exact_token_only(make_site: MakeSite) -> None:
    """Without the token the refusal names it; with another's it is fenced; with its own the job is lost."""
    one, two = make_site("build1"), make_site("build2")
    token = start(one, "job_a")
    with pytest.raises(UsageError) as untold:
        locks.break_lock(two, "builder/build1", "")
    assert token in (untold.value.remedy or "")
    with pytest.raises(Fenced):
        locks.break_lock(two, "builder/build1", "1.99.abc")
    assert "held by build1" in locks.break_lock(two, "builder/build1", token, "it burnt down")
    assert queue.show(two, "job_a").losses == 1
    with pytest.raises(NotFound):
        locks.break_lock(two, "builder/build1", token)

"""Recovery: what a dead pipeline left is found, ended, delivered and given back, in the one right order."""

from __future__ import annotations

import pytest

from pipeline.edge.machine_lock import MachineLock
from pipeline.edge.memory_refs import MemoryRemote
from pipeline.errors import LedgerError, OutcomeUnknown, Refused
from pipeline.operations import journal, queue
from pipeline.operations.journal import AttemptRecord
from pipeline.operations.overview import overview
from pipeline.operations.recover import recover
from pipeline.operations.site import Site
from tests.operations.conftest import COMMIT, MakeSite


def start(site: Site, job_id: str) -> str:
    """Starts a job as `invoke build` does, and returns its token."""
    request = {
        "kind": "job.start",
        "id": job_id,
        "branch": "ExternalNew",
        "commit": COMMIT,
        "holder": site.holder(),
    }
    return str(site.ask(request)["token"])


def complete(job_id: str, token: str, builder: str = "build1") -> dict[str, object]:
    """A report of success."""
    return {
        "kind": "job.complete",
        "builder": builder,
        "job_id": job_id,
        "token": token,
        "outcome": "succeeded",
    }


def die(site: Site) -> None:
    """Makes the process of a site one that is gone."""
    site.processes.dead.add(site.processes.myself())  # type: ignore[attr-defined]


def test_claim_of_a_dead_process_is_given_back(make_site: MakeSite) -> None:
    """A job whose process is gone waits again, under another token, with its loss counted."""
    one = make_site("build1")
    token = start(one, "job_a")
    die(one)
    found = recover(make_site("build1", "p2"))
    job = queue.show(make_site("build2"), "job_a")
    assert found.requeued == ["job_a"]
    assert (job.status, job.losses) == ("queued", 1)
    assert job.token != token


def test_claim_of_a_living_process_is_left_alone(make_site: MakeSite) -> None:
    """Recovery beside a living claim changes nothing."""
    one = make_site("build1")
    start(one, "job_a")
    found = recover(make_site("build1", "p2"))
    assert not found.anything
    assert queue.show(one, "job_a").status == "running"


def test_while_the_machine_builds_nothing_is_touched(make_site: MakeSite) -> None:
    """Whoever holds the machine's lock is building: recovery says so and requeues nothing."""
    one = make_site("build1")
    start(one, "job_a")
    die(one)
    lock = MachineLock(one.settings.machine_lock)
    assert lock.try_hold("{}")
    try:
        found = recover(make_site("build1", "p2"))
    finally:
        lock.release()
    assert found.busy
    assert queue.show(one, "job_a").status == "running"


def test_attack_29_claim_made_on_another_machine_proves_nothing(make_site: MakeSite) -> None:
    """A process that is not on this machine is never declared dead from here, even under our own name."""
    one = make_site("build1")
    request = {
        "kind": "job.start",
        "id": "job_a",
        "branch": "b",
        "commit": COMMIT,
        "holder": "othermachine/x/y/1/2",
    }
    one.ask(request)
    found = recover(make_site("build1", "p2"))
    assert found.elsewhere == ["job_a"]
    assert queue.show(one, "job_a").status == "running"


def test_attack_9_a_result_in_the_outbox_goes_before_the_requeue(
    make_site: MakeSite, remote: MemoryRemote
) -> None:
    """A build that ended while the remote was down is completed by recovery, not requeued."""
    one = make_site("build1")
    token = start(one, "job_a")
    remote.fault = lambda step: "lost"
    with pytest.raises(OutcomeUnknown):
        one.ledger.transact(complete("job_a", token), patience=2)
    remote.fault = lambda step: "none"
    die(one)
    found = recover(make_site("build1", "p2"))
    job = queue.show(one, "job_a")
    assert found.requeued == []
    assert (job.status, job.outcome, job.losses) == ("completed", "succeeded", 0)


def test_attack_33_no_requeue_while_the_drain_fails(make_site: MakeSite, remote: MemoryRemote) -> None:
    """While the remote is away nothing is requeued, and the job is completed once it is back."""
    one = make_site("build1")
    token = start(one, "job_a")
    one.ledger.enqueue(complete("job_a", token))
    die(one)
    remote.fault = lambda step: "lost"
    with pytest.raises(LedgerError):
        recover(make_site("build1", "p2"))
    remote.fault = lambda step: "none"
    recover(make_site("build1", "p3"))
    assert queue.show(one, "job_a").outcome == "succeeded"


def test_a_kept_report_is_sent_once(make_site: MakeSite) -> None:
    """A completion on disk, whose process died before it was sent, is sent by recovery, and only once."""
    one = make_site("build1")
    token = start(one, "job_a")
    folder = journal.folder_of(one.settings.work, "job_a", 1)
    journal.write(folder, AttemptRecord("job_a", 1, token, "build1", "b", COMMIT, one.processes.myself()))
    journal.write_completion(folder, complete("job_a", token), {"log": b"the log\n"})
    die(one)
    two = make_site("build1", "p2")
    assert recover(two).reported == ["job_a"]
    assert recover(two).reported == []
    assert queue.log_of(two, "job_a") == b"the log\n"


def test_a_late_report_is_kept_as_late(make_site: MakeSite) -> None:
    """A result under an old token changes nothing of the job, and is not lost either."""
    one = make_site("build1")
    token = start(one, "job_a")
    die(one)
    two = make_site("build1", "p2")
    recover(two)
    value = two.ask(complete("job_a", token))
    job = queue.show(two, "job_a")
    assert (value["accepted"], value["late"]) == (False, True)
    assert (job.status, job.late_results) == ("queued", 1)


def test_recovering_twice_changes_nothing_more(make_site: MakeSite) -> None:
    """The second recovery finds nothing."""
    one = make_site("build1")
    start(one, "job_a")
    die(one)
    two = make_site("build1", "p2")
    recover(two)
    tip = two.state().tip
    assert not recover(two).anything
    assert two.state().tip == tip


def test_a_lost_job_waits_for_the_builder_that_it_was_ordered_for(make_site: MakeSite) -> None:
    """Another builder, which builds for itself, does not get it; recovery and `status` say how it would."""
    one, two = make_site("build1"), make_site("build2")
    request = {"kind": "job.start", "id": "job_a", "branch": "b", "commit": COMMIT, "target": "build1"}
    one.ask({**request, "holder": one.holder()})
    die(one)
    back = make_site("build1", "p2")
    found = recover(back)
    (words,) = found.waits
    assert words in found.lines()
    assert words.startswith("job_a waits for build1, where it was ordered for: `invoke work --once` there")
    assert "`invoke job.cancel job_a`, then `invoke job.retry job_a --on BUILDER`" in words
    assert f"Lost before: {words}" in overview(two).notices
    with pytest.raises(Refused) as refused:
        two.ask({"kind": "job.claim", "holder": two.holder()})
    assert refused.value.reason == "nothing-to-do"
    assert back.ask({"kind": "job.claim", "holder": back.holder()})["job_id"] == "job_a"

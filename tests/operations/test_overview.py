"""What `status` shows: everybody, what runs and waits, and what there is to recover. It only looks."""

from __future__ import annotations

import json

from pipeline.edge.memory_refs import MemoryRemote
from pipeline.edge.ref_store import BEAT_BYTES
from pipeline.operations import journal
from pipeline.operations import site as sites
from pipeline.operations.journal import AttemptRecord
from pipeline.operations.overview import overview
from pipeline.operations.site import Site
from pipeline.records import paths
from tests.ledger.test_foreign import change_by_hand
from tests.operations.conftest import COMMIT, MakeSite
from tests.operations.test_recover import complete, die, start


def order(site: Site, job_id: str, priority: int = 5) -> None:
    """Puts a job into the queue."""
    site.ask({"kind": "job.create", "id": job_id, "branch": "b", "commit": COMMIT, "priority": priority})


def test_running_and_waiting_jobs_are_shown(make_site: MakeSite) -> None:
    """The queue is in the order in which it is served: by priority, then as it was ordered."""
    one = make_site("build1")
    start(one, "job_runs")
    for job_id, priority in (("job_b", 5), ("job_a", 5), ("job_urgent", 1)):
        order(one, job_id, priority)
    seen = overview(make_site("build2"))
    assert [job.id for job in seen.running] == ["job_runs"]
    assert [job.id for job in seen.queued] == ["job_urgent", "job_b", "job_a"]
    assert [lock.name for lock in seen.locks] == ["builder/build1"]
    assert {each.name: each.status.status for each in seen.builders if each.status} == {
        "build1": "building",
        "build2": "idle",
    }


def test_a_dead_process_is_announced_and_nothing_is_done(make_site: MakeSite, remote: MemoryRemote) -> None:
    """A job that a dead process left is named; the ledger is where it was."""
    one = make_site("build1")
    start(one, "job_a")
    assert overview(one).orphans == []
    die(one)
    before = dict(remote.refs)
    seen = overview(make_site("build1", "p2"))
    assert seen.orphans == ["job_a"]
    assert "job_a was left running by a dead process: `invoke recover` puts it back." in seen.notices
    assert remote.refs == before
    assert overview(make_site("build2")).orphans == []


def test_a_kept_report_is_announced(make_site: MakeSite) -> None:
    """A build whose report is on disk, its process gone, is named; while its process lives it is not."""
    one = make_site("build1")
    token = start(one, "job_a")
    folder = journal.folder_of(one.settings.work, "job_a", 1)
    journal.write(folder, AttemptRecord("job_a", 1, token, "build1", "b", COMMIT, one.processes.myself()))
    journal.write_completion(folder, complete("job_a", token), {})
    assert overview(one).unreported == []
    die(one)
    seen = overview(make_site("build1", "p2"))
    assert (seen.unreported, seen.orphans) == (["job_a"], [])
    assert seen.notices == ["job_a was built here and not reported: `invoke recover` reports it."]


def test_what_waits_in_the_outbox_is_announced(make_site: MakeSite) -> None:
    """An entry that was not delivered is counted, and stays."""
    one = make_site("build1")
    one.ledger.enqueue(
        {"kind": "message.send", "builder": "build1", "id": "m", "to": "build2", "subject": "s"}
    )
    seen = overview(one)
    assert seen.waiting == 1
    assert "1 entry waits in this machine's outbox" in " ".join(seen.notices)
    assert overview(one).waiting == 1


def test_a_stranger_is_told(make_site: MakeSite) -> None:
    """A machine whose name is not registered sees everything, and that it is not registered."""
    seen = overview(make_site("build9"))
    assert [each.name for each in seen.builders] == ["build1", "build2"]
    assert "build9, which the registry does not know" in " ".join(seen.notices)


def test_a_change_by_hand_that_counts_is_not_told_as_one_that_does_not(
    make_site: MakeSite, remote: MemoryRemote
) -> None:
    """A builder added to the registry by hand, in somebody's own layout, is there; nothing is put aside."""
    one = make_site("build1")
    raw = json.loads(one.state().view.read(paths.REGISTRY) or b"")
    raw["builders"].append({"name": "build3"})
    change_by_hand(remote, {paths.REGISTRY: json.dumps(raw).encode()})
    seen = overview(one)
    assert "build3" in [each.name for each in seen.builders]
    assert seen.notices == ["Somebody changed the ledger by hand; the next transaction puts it in order."]
    order(one, "job_a")
    standing = one.state()
    assert standing.state.quarantined == []
    assert [b.name for b in sites.registry(standing.view).builders] == ["build1", "build2", "build3"]
    assert overview(one).notices == []


def test_a_heartbeat_that_is_too_large_is_said(make_site: MakeSite) -> None:
    """A builder whose heartbeat ref holds something huge is shown with that, and the others as ever."""
    one, two = make_site("build1"), make_site("build2")
    one.make_pulse().renew("waiting", {"op": "a"})
    two.ledger.refs.beat(paths.heartbeat_ref("build2"), bytes(BEAT_BYTES + 1), None)
    seen = overview(one)
    assert [each.health.reason for each in seen.builders if each.name == "build2"] == [
        "its heartbeat is too large to be read"
    ]
    (said,) = seen.notices
    assert "`refs/pipeline/heartbeat/build2` is not read: it holds 1,048,577 bytes" in said

"""What a builder reports at the end of an attempt."""

from __future__ import annotations

import pytest

from pipeline.errors import RecordInvalid
from pipeline.records.base import dump
from pipeline.records.builds import Manifest, StructuredLog
from tests.coordination.world import COMMIT, NOW, World


@pytest.fixture
def world() -> World:
    return World()


def payloads(job: str, token: str) -> dict[str, bytes]:
    common = {"job_id": job, "server": "build1", "branch": "ExternalNew", "commit": COMMIT}
    manifest = Manifest(
        **common,
        created_at=NOW,
        build_dir="x",
        artifacts=[],
        artifact_count=0,
        total_size_bytes=0,
        token=token,
    )
    log = StructuredLog(
        **common,
        log_id="l",
        started_at=NOW,
        events=[],
        status="success",
        exit_code=0,
        completed_at=NOW,
        duration_seconds=3.0,
    )
    return {"manifest": dump(manifest), "log": b"\xff text", "summary": b"# ok\n", "structured": dump(log)}


def test_a_result_is_one_decision(world: World) -> None:
    """Job, files, status, last build, message and release come together."""
    token = world.run("j1")
    left = payloads("j1", token)
    outcome = world.finish("j1", token, duration_seconds=61.5, artifacts=["a.deb"], payloads=left)
    job, status, message = world.jobs["j1"], world.status("build1"), world.messages.messages[-1]
    assert (outcome["accepted"], outcome["late"], outcome["status"]) == (True, False, "completed")
    assert (job.outcome, job.duration_seconds, job.token) == ("succeeded", 61.5, token)
    assert {name: world.files[path] for name, path in outcome["kept"].items()} == left
    assert job.manifest == outcome["kept"]["manifest"] == "build1/manifests/j1/j1.1.json"
    assert job.log == "build1/logs/20251029T120000Z-j1.1.log"
    assert (status.status, status.current_job) == ("success", None)
    assert status.last_build is not None
    assert (status.last_build.id, status.last_build.artifacts) == ("j1", ["a.deb"])
    assert (message.to, message.auto, message.type) == ("all", True, "info")
    assert message.recipients == ["build2", "build3"]
    assert "a.deb" in message.body
    assert world.locks == {}


def test_a_failure_tells_cause_and_remedy(world: World) -> None:
    """The peers read what failed, where, and what to do."""
    failure = {"class": "dependency", "message": "no jar", "module": "xen", "remedy": "Install it."}
    world.finish("j1", world.run("j1"), "failed", failure=failure)
    message, status = world.messages.messages[-1], world.status("build1")
    assert message.type == "error"
    for words in ("dependency", "module xen", "no jar", "Remedy: Install it.", "invoke job.retry j1"):
        assert words in message.body
    assert len(message.subject) <= 100
    assert status.status == "failed"
    assert status.last_build is not None
    assert status.last_build.status == "failed"


def test_a_failure_without_a_cause_is_no_result(world: World) -> None:
    """A failed build says why."""
    token = world.run("j1")
    with pytest.raises(RecordInvalid, match="failure"):
        world.ask("job.complete", job_id="j1", token=token, outcome="failed")


def test_a_class_of_failure_is_tried_again_up_to_its_limit(world: World) -> None:
    """The same job, another attempt, until the limit of that class; another class not at all."""
    world.order("j1", retries={"test": 1})
    failure = {"class": "test", "message": "1 test failed"}
    for attempt, status in ((1, "queued"), (2, "failed")):
        claimed = world.do("job.claim", holder=f"p{attempt}")
        assert claimed["attempt"] == attempt
        outcome = world.finish("j1", claimed["token"], "failed", failure=failure)
        assert (outcome["accepted"], outcome["status"]) == (True, status)
    assert world.jobs["j1"].failures == 2
    assert world.jobs["j1"].outcome == "failed"
    world.finish("j2", world.run("j2", retries={"test": 3}), "failed")
    assert world.jobs["j2"].status == "failed"


def test_a_retry_that_succeeds_leaves_no_failure(world: World) -> None:
    """What counts is how the job ended."""
    failure = {"class": "test", "message": "flaky"}
    world.finish("j1", world.run("j1", retries={"test": 1}), "failed", failure=failure)
    assert world.jobs["j1"].failure is not None
    world.finish("j1", world.do("job.claim", holder="p")["token"])
    assert world.jobs["j1"].failure is None


def test_a_cancelled_job_is_not_tried_again(world: World) -> None:
    """A failure after the cancel, which a retry would have followed, ends it cancelled."""
    token = world.run("j1", retries={"compile": 3})
    world.do("job.cancel", job_id="j1")
    assert world.finish("j1", token, "failed")["outcome"] == "cancelled"


def test_a_result_that_came_before_the_cancel_was_seen_counts(world: World) -> None:
    """Who succeeded has succeeded."""
    token = world.run("j1")
    world.do("job.cancel", job_id="j1")
    assert world.finish("j1", token)["outcome"] == "succeeded"


def test_a_late_result_is_kept_and_applied_to_nothing(world: World) -> None:
    """Its files lie under a path with its token; of the job only the count of late results changes."""
    old = world.run("j1")
    world.do("job.requeue", job_id="j1", token=old, observations={"process_dead": "gone"})
    new = world.do("job.claim", builder="build2", holder="p2")["token"]
    before, sent = world.jobs["j1"], len(world.messages.messages)
    outcome = world.finish("j1", old, payloads=payloads("j1", old))
    assert (outcome["accepted"], outcome["late"], outcome["status"]) == (False, True, "running")
    assert all("late" in path and old in path for path in outcome["kept"].values())
    assert world.jobs["j1"] == before.model_copy(update={"late_results": 1})
    assert world.locks["builder/build2"].token == new
    assert len(world.messages.messages) == sent


def test_a_second_result_of_an_ended_job_is_late(world: World) -> None:
    """Terminal is terminal, under the last token too."""
    token = world.run("j1")
    world.finish("j1", token)
    assert world.finish("j1", token, "failed")["late"] is True
    assert world.jobs["j1"].outcome == "succeeded"


def test_a_result_of_a_job_that_nobody_knows_is_kept(world: World) -> None:
    """After a rewind a result may find no job: nothing of it is lost."""
    outcome = world.finish("ghost", "7.7.op", payloads={"log": b"text"})
    assert (outcome["late"], outcome["status"]) == (True, None)
    assert world.files[outcome["kept"]["log"]] == b"text"


def test_a_manifest_that_does_not_validate_is_not_written(world: World) -> None:
    """A decision never writes a file that cannot be read."""
    token = world.run("j1")
    with pytest.raises(RecordInvalid) as caught:
        world.ask("job.complete", job_id="j1", token=token, outcome="succeeded", payloads={"manifest": b"{}"})
    assert caught.value.path == "build1/manifests/j1/j1.1.json"


def test_facts_ride_along_with_the_result(world: World) -> None:
    """What the builder says of itself costs no commit of its own."""
    facts = {"system": {"disk_free_gb": 12.5}, "toolchain": "abc"}
    world.finish("j1", world.run("j1", facts={"ip": "192.0.2.9"}), facts=facts)
    status = world.status("build1")
    assert (status.ip, status.system.disk_free_gb, status.toolchain) == ("192.0.2.9", 12.5, "abc")

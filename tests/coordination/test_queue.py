"""The queue: orders, claims, dependencies, cancelling, losses."""

from __future__ import annotations

import pytest

from pipeline.coordination import queue
from pipeline.errors import RecordInvalid
from pipeline.records import paths
from pipeline.records.jobs import JobArchive
from tests.coordination.world import COMMIT, SILENT, World


@pytest.fixture
def world() -> World:
    return World()


def claim(world: World, builder: str, **fields: object) -> dict[str, object]:
    return world.do("job.claim", builder=builder, holder=f"process-on-{builder}", **fields)


# Orders


def test_an_order_is_queued_at_its_place(world: World) -> None:
    """A new job is queued, and its outcome says how many are served before it."""
    assert world.order("first") == {"job_id": "first", "status": "queued", "outcome": None, "position": 1}
    assert world.order("second")["position"] == 2
    assert world.order("urgent", priority=1)["position"] == 1


def test_the_same_order_again_changes_nothing(world: World) -> None:
    """An order that is there already is answered, not doubled."""
    world.order("j1", options={"packages": True}, retries={"test": 2})
    before = dict(world.files)
    assert world.order("j1", options={"packages": True}, retries={"test": 2})["status"] == "queued"
    assert world.files == before


def test_another_order_under_a_known_id_is_refused(world: World) -> None:
    """One id never means two jobs."""
    world.order("j1")
    assert world.refused("job.create", id="j1", branch="main", commit=COMMIT).reason == "duplicate"


def test_an_order_for_an_unknown_builder_names_near_ones(world: World) -> None:
    """A mistyped target is refused with the names that come near."""
    refusal = world.refused("job.create", id="j1", branch="b", commit=COMMIT, target="biuld2")
    assert refusal.reason == "unknown-builder"
    assert refusal.remedy is not None
    assert "build2" in refusal.remedy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", 0),
        ("priority", 10),
        ("id", "../x"),
        ("branch", "a..b"),
        ("commit", "HEAD"),
        ("retries", {"bad luck": 1}),
        ("retries", {"test": 21}),
        ("timeout_seconds", 0),
        ("unknown_field", 1),
    ],
)
def test_an_impossible_order_names_the_field(world: World, field: str, value: object) -> None:
    """A request that does not validate is an error that names the request and the field."""
    request = {"id": "j1", "branch": "b", "commit": COMMIT, field: value}
    with pytest.raises(RecordInvalid) as caught:
        world.ask("job.create", **request)
    assert caught.value.path == "request job.create"
    assert caught.value.field.split(".")[0] == field


# Claims


def test_a_claim_is_one_decision(world: World) -> None:
    """Token, attempt, the builder's lock and its status come together."""
    world.order("j1")
    outcome = world.do("job.claim", builder="build2", holder="p2", as_op="grant-7")
    job, lock, status = world.jobs["j1"], world.locks["builder/build2"], world.status("build2")
    assert outcome == {
        "job_id": "j1",
        "status": "running",
        "outcome": None,
        "token": "1.1.grant-7",
        "attempt": 1,
    }
    assert (job.status, job.assigned_to, job.token, job.attempt) == ("running", "build2", "1.1.grant-7", 1)
    assert (lock.owner, lock.job_id, lock.token, lock.holder) == ("build2", "j1", "1.1.grant-7", "p2")
    assert lock.ttl_seconds is None
    assert status.status == "building"
    assert status.current_job is not None
    assert status.current_job.id == "j1"


def test_the_most_urgent_is_served_first_and_equals_in_order(world: World) -> None:
    """Priority 1 comes before 5; of equals the older one; own and open jobs alike."""
    world.order("old")
    world.order("own", target="build1")
    world.order("urgent", priority=1)
    world.order("foreign", priority=1, target="build2")
    order = []
    for _ in range(3):
        outcome = claim(world, "build1")
        order.append(outcome["job_id"])
        world.finish(str(outcome["job_id"]), str(outcome["token"]))
    assert order == ["urgent", "old", "own"]
    assert world.refused("job.claim", builder="build1", holder="p").reason == "nothing-to-do"


def test_a_busy_builder_claims_nothing(world: World) -> None:
    """One running job a builder: the refusal names the job and its token."""
    token = world.run("j1")
    world.order("j2")
    refusal = world.refused("job.claim", builder="build1", holder="other")
    assert refusal.reason == "busy"
    assert "j1" in refusal.message
    assert token in refusal.message


def test_start_on_a_busy_builder_waits_in_the_queue_if_asked(world: World) -> None:
    """Without `wait` nothing is recorded; with it the job is queued at its place."""
    world.run("j1")
    order = {"id": "j2", "branch": "b", "commit": COMMIT, "holder": "p2"}
    assert world.refused("job.start", **order).reason == "busy"
    assert "j2" not in world.jobs
    assert world.do("job.start", **order, wait=True)["position"] == 1
    assert world.jobs["j2"].status == "queued"


@pytest.mark.parametrize(
    ("builder", "job", "reason"),
    [
        ("build1", "running", "taken"),
        ("build1", "ended", "ended"),
        ("build1", "targeted", "not-for-you"),
        ("build1", "blocked", "blocked"),
        ("build1", "nothing", "not-found"),
        ("build9", "free", "unknown-builder"),
    ],
)
def test_a_claim_that_cannot_be_says_why(world: World, builder: str, job: str, reason: str) -> None:
    """Each hindrance has a reason of its own."""
    world.order("free")
    world.order("targeted", target="build2")
    world.order("blocked", depends_on=["free"])
    world.order("ended")
    world.do("job.cancel", job_id="ended")
    world.run("running", builder="build3")
    assert world.refused("job.claim", builder=builder, holder="p", job_id=job).reason == reason


# Dependencies


def test_a_dependent_job_waits_for_success(world: World) -> None:
    """A job is claimed only once all that it depends on has succeeded."""
    world.order("a")
    world.order("b", priority=1, depends_on=["a"])
    first = claim(world, "build1")
    assert first["job_id"] == "a"
    assert world.refused("job.claim", builder="build2", holder="p").reason == "nothing-to-do"
    world.finish("a", str(first["token"]))
    assert claim(world, "build2")["job_id"] == "b"


def test_a_dependency_that_ends_badly_ends_all_that_wait_for_it(world: World) -> None:
    """The chain behind a failed job ends cancelled in the same decision, and says why."""
    token = world.run("a")
    world.order("b", depends_on=["a"])
    world.order("c", depends_on=["b"])
    world.order("free")
    outcome = world.finish("a", token, "failed")
    assert outcome["also_ended"] == ["b", "c"]
    jobs = world.jobs
    assert [jobs[id].outcome for id in ("a", "b", "c", "free")] == ["failed", "cancelled", "cancelled", None]
    assert jobs["c"].failure is not None
    assert "`a`" in jobs["c"].failure.message


def test_a_dependency_must_be_there_and_may_still_succeed(world: World) -> None:
    """No job waits for what does not exist or has ended badly."""
    world.order("gone")
    world.do("job.cancel", job_id="gone")
    order = {"id": "j", "branch": "b", "commit": COMMIT}
    assert world.refused("job.create", **order, depends_on=["never"]).reason == "not-found"
    assert world.refused("job.create", **order, depends_on=["j"]).reason == "not-found"
    assert world.refused("job.create", **order, depends_on=["gone"]).reason == "dependency-failed"


# Cancelling


def test_a_queued_job_is_cancelled_at_once(world: World) -> None:
    """Older readers see `failed`, newer ones `cancelled`."""
    world.order("j1")
    world.do("job.cancel", job_id="j1", reason="not wanted", builder="build2")
    job = world.jobs["j1"]
    assert (job.status, job.outcome, job.cancelled) == ("failed", "cancelled", True)
    assert job.failure is not None
    assert job.failure.message == "cancelled by build2: not wanted"
    assert world.refused("job.cancel", job_id="j1").reason == "ended"


def test_a_cancelled_build_is_no_last_build(world: World) -> None:
    """The holder ends it: the builder is idle, and remembers the build before."""
    world.finish("good", world.run("good"), artifacts=["a.deb"])
    token = world.run("j1")
    world.do("job.cancel", job_id="j1")
    world.finish("j1", token, "cancelled")
    status = world.status("build1")
    assert world.jobs["j1"].outcome == "cancelled"
    assert status.status == "idle"
    assert status.last_build is not None
    assert status.last_build.id == "good"


# Losses


def test_own_recovery_requeues_what_its_dead_process_ran(world: World) -> None:
    """By the exact token and with proof, the job waits again and the builder is free."""
    token = world.run("j1")
    outcome = world.do("job.requeue", job_id="j1", token=token, observations={"process_dead": "pid 77"})
    job = world.jobs["j1"]
    assert (outcome["status"], outcome["losses"]) == ("queued", 1)
    assert (job.status, job.losses, job.assigned_to, job.started_at) == ("queued", 1, None, None)
    assert job.token != token
    assert world.locks == {}
    assert world.status("build1").status == "idle"


@pytest.mark.parametrize(
    ("builder", "observations"),
    [
        ("build1", {}),
        ("build2", {"process_dead": "pid 77"}),
        ("build2", {"silence_seconds": 299.0}),
        ("build2", {"silence_seconds": "long"}),
    ],
)
def test_nothing_is_requeued_on_suspicion(
    world: World, builder: str, observations: dict[str, object]
) -> None:
    """Own recovery proves the process dead; others have seen silence for the whole threshold."""
    token = world.run("j1")
    fields = {"job_id": "j1", "token": token, "builder": builder}
    assert world.refused("job.requeue", **fields, observations=observations).reason == "unproven"


def test_another_builder_rescues_by_silence(world: World) -> None:
    """A job of a builder that vanished waits again after 300 s without change."""
    token = world.run("j1")
    seen = {"silence_seconds": 300.0}
    world.do("job.requeue", job_id="j1", token=token, builder="build2", observations=seen)
    assert world.jobs["j1"].status == "queued"


def test_a_requeue_needs_the_exact_token(world: World) -> None:
    """A rescuer that looked a while ago does not take the job from its new holder."""
    old = world.run("j1")
    world.do("job.requeue", job_id="j1", token=old, observations={"process_dead": "x"})
    late = {"job_id": "j1", "token": old, "builder": "build3", "observations": SILENT}
    assert world.refused("job.requeue", **late).reason == "fenced"
    new = str(claim(world, "build2")["token"])
    refusal = world.refused("job.requeue", **late)
    assert refusal.reason == "fenced"
    assert new in refusal.message
    assert world.refused("job.requeue", **{**late, "job_id": "j9"}).reason == "not-found"


def test_a_job_that_is_lost_too_often_is_given_up(world: World) -> None:
    """Losses are counted apart from failures; at the limit all are told."""
    world.order("j1", maximum_losses=1, retries={"compile": 5})
    for losses in (1, 2):
        token = str(claim(world, "build1")["token"])
        world.do("job.requeue", job_id="j1", token=token, builder="build2", observations=SILENT)
        assert world.jobs["j1"].losses == losses
    job, message = world.jobs["j1"], world.messages.messages[-1]
    assert (job.status, job.outcome, job.failures) == ("failed", "dead", 0)
    assert job.failure is not None
    assert job.failure.failure_class == "lost"
    assert (message.type, message.to, message.auto) == ("error", "all", True)
    assert "invoke job.retry j1" in message.body


# Retry by hand


def test_a_retry_by_hand_is_a_new_job_that_names_the_old(world: World) -> None:
    """The old one stays as it ended; the new one is the same order, with `resume` if asked."""
    world.finish("j1", world.run("j1", options={"packages": False}, priority=2), "failed")
    old = world.jobs["j1"]
    outcome = world.do("job.retry", id="j2", job_id="j1", resume=True, target="build2", requested_by="ann")
    new = world.jobs["j2"]
    assert outcome["retry_of"] == "j1"
    assert (new.retry_of, new.status, new.target, new.requested_by) == ("j1", "queued", "build2", "ann")
    assert new.options == {"packages": False, "resume": True}
    assert (new.commit, new.priority) == (old.commit, 2)
    assert world.jobs["j1"] == old


def test_only_what_ended_is_retried(world: World) -> None:
    """A running job may succeed yet."""
    world.run("j1")
    assert world.refused("job.retry", id="j2", job_id="j1").reason == "not-ended"
    assert world.refused("job.retry", id="j2", job_id="j0").reason == "not-found"


# Archives


def test_old_ended_jobs_are_sealed_in_one_archive(world: World) -> None:
    """Above two tails the older one goes to an archive named by the ordinal, in the same decision."""
    world.order("open")
    world.twice = False
    for n in range(2 * queue.TAIL + 1):
        world.finish(f"j{n}", world.run(f"j{n}"))
    (path,) = world.archives(queue.ARCHIVES)
    archive = world.load(JobArchive, path)
    assert path == paths.job_archive(archive.ordinal)
    assert [job.id for job in archive.jobs] == [f"j{n}" for n in range(queue.TAIL)]
    assert list(world.jobs)[:2] == ["open", f"j{queue.TAIL}"]
    assert len(world.jobs) == queue.TAIL + 2


def test_a_job_that_is_needed_is_not_sealed(world: World) -> None:
    """A dependency stays at hand until its dependents have ended."""
    world.finish("needed", world.run("needed"))
    world.order("waiting", depends_on=["needed"], target="build2")
    world.twice = False
    for n in range(2 * queue.TAIL):
        world.finish(f"j{n}", world.run(f"j{n}"))
    assert world.archives(queue.ARCHIVES)
    assert claim(world, "build2")["job_id"] == "waiting"


def test_a_sealed_job_is_retried_by_its_archive(world: World) -> None:
    """Whoever retries an old job says where it is sealed."""
    world.finish("old", world.run("old"), "failed")
    world.twice = False
    for n in range(2 * queue.TAIL):
        world.finish(f"j{n}", world.run(f"j{n}"))
    (path,) = world.archives(queue.ARCHIVES)
    assert world.refused("job.retry", id="new", job_id="old").reason == "not-found"
    assert world.refused("job.retry", id="new", job_id="old", archive=paths.JOBS).reason == "not-found"
    assert world.do("job.retry", id="new", job_id="old", archive=path)["retry_of"] == "old"

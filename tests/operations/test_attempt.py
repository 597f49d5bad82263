"""One attempt: whatever keeps it from building, it ends in exactly one report, and a kept one is not lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.builds.artifacts import new_manifest
from pipeline.errors import BranchNotFound, SourceError, StoreError
from pipeline.operations import journal, queue
from pipeline.operations.attempt import Claimed, Interruption, run_attempt
from pipeline.operations.failures import failure_of
from pipeline.operations.journal import AttemptRecord
from pipeline.operations.recover import recover
from pipeline.operations.site import Site
from pipeline.records.base import dump, dump_json
from tests.operations.conftest import COMMIT, MakeSite
from tests.operations.test_recover import complete, die, start

ACK = {"kind": "message.ack", "builder": "build1", "ids": ["m"]}


def claimed(site: Site, job_id: str, source: str = "/nonexistent") -> Claimed:
    """Starts a job whose source is not there."""
    request = {"kind": "job.start", "id": job_id, "branch": "b", "commit": COMMIT, "source": source}
    value = site.ask({**request, "holder": site.holder()})
    return Claimed(queue.show(site, job_id), str(value["token"]), int(value["attempt"]))


def keep(site: Site, job_id: str, token: str, attempt: int = 1, **payloads: bytes) -> None:
    """Leaves what an attempt leaves that dies after its report was kept and before it was sent."""
    folder = journal.folder_of(site.settings.work, job_id, attempt)
    record = AttemptRecord(job_id, attempt, token, site.builder, "b", COMMIT, site.processes.myself())
    journal.write(folder, record)
    journal.write_completion(folder, complete(job_id, token), {"log": b"the log\n", **payloads})


def test_an_attempt_that_cannot_begin_ends_its_job(make_site: MakeSite) -> None:
    """A source that is gone when a job from the queue is run is that job's failure, reported and final."""
    one = make_site("build1")
    report = run_attempt(one, claimed(one, "job_a"), None)
    job = queue.show(one, "job_a")
    assert report.failure is not None
    assert (report.status, report.failure.failure_class) == ("failed", "source")
    assert (job.outcome, job.failure and job.failure.failure_class) == ("failed", "source")
    assert journal.attempts(one.settings.work) == []


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"source": 5}, "the option `source` is '5', where text is expected"),
        ({"recipe": {"a": 1}}, "the option `recipe`"),
        ({"packages": "no"}, "the option `packages` is 'no', where true or false is expected"),
        ({"resume": 1}, "the option `resume`"),
    ],
)
def test_a_job_with_an_option_of_the_wrong_type_ends(
    make_site: MakeSite, option: dict[str, object], said: str
) -> None:
    """What somebody wrote into the queue by hand fails that job, with the option's name, and no other."""
    one = make_site("build1")
    request = {"kind": "job.start", "id": "job_a", "branch": "b", "commit": COMMIT, "options": option}
    value = one.ask({**request, "holder": one.holder()})
    job = Claimed(queue.show(one, "job_a"), str(value["token"]), int(value["attempt"]))
    report = run_attempt(one, job, None)
    assert report.failure is not None
    assert said in report.failure.message
    assert queue.show(one, "job_a").outcome == "failed"


def test_a_defect_ends_the_job_that_met_it(make_site: MakeSite) -> None:
    """A mistake in the pipeline's own code fails the build once: the job is not lost to it for ever."""
    one = make_site("build1")
    said: list[str] = []
    one.say = said.append

    def defective(name: str) -> None:
        if name == "journal written":
            raise TypeError("nobody thought of this")

    one.step = defective
    report = run_attempt(one, claimed(one, "job_a"), None)
    assert report.failure is not None
    assert report.failure.message == "A defect of the pipeline, TypeError: nobody thought of this"
    assert queue.show(one, "job_a").outcome == "failed"
    assert "test_attempt.py" in "".join(said)


def test_what_is_raised_shows_no_secret(make_site: MakeSite) -> None:
    """An error that quotes a secret is masked in the report and in what is said, as in the ledger."""
    one = make_site("build1")
    said: list[str] = []
    one.say = said.append

    def defective(name: str) -> None:
        if name == "journal written":
            raise TypeError("no such header: password=s3cr3t-horse")

    one.step = defective
    failure = run_attempt(one, claimed(one, "job_a"), None).failure
    assert failure is not None
    assert failure.message.endswith("TypeError: no such header: password=*****")
    assert queue.show(one, "job_a").failure == failure
    assert "password=*****" in "".join(said)
    assert "horse" not in "".join(said)
    source = failure_of(SourceError("it said token=abcdef0123456789", remedy="Remove password=s3cr3t-horse."))
    assert (source.message, source.remedy) == ("it said token=*****", "Remove password=*****")


def test_an_attempt_that_cannot_be_noted_ends_its_job(make_site: MakeSite, tmp_path: Path) -> None:
    """Where not even the note of the attempt can be written, the job fails, and the ledger is told."""
    one = make_site("build1")
    (tmp_path / "file").write_text("")
    one.settings = replace(one.settings, work=tmp_path / "file" / "work")
    report = run_attempt(one, claimed(one, "job_a"), None)
    assert report.status == "failed"
    assert queue.show(one, "job_a").outcome == "failed"


def test_every_point_of_a_report_is_named(make_site: MakeSite) -> None:
    """Each fsync and each rename of note and report is a step on which a crash can be tried."""
    one = make_site("build1")
    steps: list[str] = []
    one.step = steps.append
    run_attempt(one, claimed(one, "job_a"), None)
    assert steps == [
        "attempt.json synced",
        "attempt.json renamed",
        "journal written",
        "built",
        "request.json synced",
        "completion renamed",
        "completion kept",
        "reported",
    ]


def test_an_outbox_that_fails_leaves_the_report_beside_it(make_site: MakeSite) -> None:
    """A report that the outbox cannot take is `unreported`; it is kept on disk, and sent by recovery."""
    one = make_site("build1")
    job = claimed(one, "job_a")
    transact = one.ledger.transact
    one.ledger.transact = refusing  # type: ignore[method-assign]
    report = run_attempt(one, job, None)
    one.ledger.transact = transact  # type: ignore[method-assign]
    assert report.status == "unreported"
    assert queue.show(one, "job_a").status == "running"
    assert recover(one).reported == ["job_a"]
    assert queue.show(one, "job_a").outcome == "failed"


def refusing(*args: object, **options: object) -> dict[str, object]:
    """An outbox on a full disk."""
    raise StoreError("The disk of the outbox is full.")


def test_a_kept_report_of_a_job_that_changed_hands_is_kept_as_late_once(make_site: MakeSite) -> None:
    """A finished build whose job was given to somebody else meanwhile is recorded as late, once."""
    one = make_site("build1")
    token = start(one, "job_a")
    keep(one, "job_a", token)
    die(one)
    request = {"kind": "job.requeue", "job_id": "job_a", "token": token, "reason": "silent"}
    two = make_site("build2")
    two.ask(request, observations={"silence_seconds": 10_000})
    back = make_site("build1", "p2")
    assert recover(back).reported == ["job_a"]
    assert recover(back).reported == []
    job = queue.show(back, "job_a")
    assert (job.status, job.late_results, job.losses) == ("queued", 1, 1)


@pytest.mark.parametrize("again", [False, True])
def test_a_report_that_the_ledger_has_is_not_sent_again(
    make_site: MakeSite, again: bool, manifest: Callable[[str], bytes]
) -> None:
    """A process that died after its report landed doubles nothing, also if the job is to be tried again."""
    one = make_site("build1")
    retries = {"test": 1} if again else {}
    request = {"kind": "job.start", "id": "job_a", "branch": "b", "commit": COMMIT, "retries": retries}
    token = str(one.ask({**request, "holder": one.holder()})["token"])
    failure = {"class": "test", "message": "a test failed"}
    report = {**complete("job_a", token), "outcome": "failed", "failure": failure}
    payload = {"manifest": manifest("job_a")}
    one.ledger.transact(report, payloads=payload)
    keep(one, "job_a", token, **payload)
    die(one)
    back = make_site("build1", "p2")
    assert recover(back).reported == []
    job = queue.show(back, "job_a")
    assert (job.status, job.late_results) == ("queued" if again else "failed", 0)


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("queued", "it waits in the queue again, for any builder"),
        ("running", "build2 builds it now, attempt 2"),
        ("ended", "it has ended: failed, on build2"),
    ],
)
def test_a_build_whose_job_changed_hands_is_lost(make_site: MakeSite, then: str, words: str) -> None:
    """Whatever came of it here, the report is of class lost, names who has the job, and does not count."""
    one, two = make_site("build1"), make_site("build2")
    job = claimed(one, "job_a")
    request = {"kind": "job.requeue", "job_id": "job_a", "token": job.token, "reason": "silent"}
    two.ask(request, observations={"silence_seconds": 10_000})
    if then != "queued":
        claim = two.ask({"kind": "job.claim", "job_id": "job_a", "holder": "other"})
        if then == "ended":
            failure = {"class": "test", "message": "a test failed"}
            two.ask({**complete("job_a", str(claim["token"])), "outcome": "failed", "failure": failure})
    report = run_attempt(one, job, None)
    assert report.failure is not None
    assert (report.status, report.failure.failure_class) == ("lost", "lost")
    assert words in report.failure.message
    found = queue.show(one, "job_a")
    assert (found.status, found.late_results) == ({"ended": "failed"}.get(then, then), 1)


def test_the_heart_names_who_has_the_job(make_site: MakeSite) -> None:
    """A beat that finds another token ends the build as lost, not as cancelled."""
    one, two = make_site("build1"), make_site("build2")
    job = claimed(one, "job_a")
    heart = one.make_heart(job.job.id, job.token, dict)
    heart.beat()
    assert heart.reason is None
    request = {"kind": "job.requeue", "job_id": "job_a", "token": job.token, "reason": "silent"}
    two.ask(request, observations={"silence_seconds": 10_000})
    heart.beat()
    assert (heart.fenced, heart.whose) == (True, "it waits in the queue again, for any builder")


def test_the_heart_says_who_cancelled_and_why(make_site: MakeSite) -> None:
    """A beat that finds a cancellation has the ledger's words for who asked for it, and the reason given."""
    one, two = make_site("build1"), make_site("build2")
    job = claimed(one, "job_a")
    heart = one.make_heart(job.job.id, job.token, dict)
    queue.cancel(two, "job_a", "fenced")
    heart.beat()
    assert (heart.reason, heart.fenced) == ("cancelled by build2: fenced", False)


@pytest.fixture
def manifest() -> Callable[[str], bytes]:
    """A maker of manifests."""

    def make(job_id: str) -> bytes:
        when = datetime(2026, 1, 2, tzinfo=UTC)
        facts = {"server": "build1", "branch": "b", "commit": COMMIT, "created_at": when, "token": "t"}
        return dump(new_manifest(job_id=job_id, **facts))  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda place: (place / "request.json").write_bytes(b"{"), "not JSON"),
        (lambda place: (place / "request.json").write_bytes(b'{"kind": "message.ack"}'), "field `builder`"),
        (lambda place: (place / "request.json").write_bytes(dump_json(ACK)), "is no report of a build"),
        (lambda place: (place / "request.json").unlink(), "No such file"),
        (
            lambda place: (place / "log").unlink() or (place / "log").symlink_to("/etc/passwd"),
            "symbolic link",
        ),
        (lambda place: (place / "deep").mkdir(), "is no regular file"),
    ],
)
def test_a_report_that_cannot_be_read_holds_nothing_up(
    make_site: MakeSite, damage: Callable[[Path], object], said: str
) -> None:
    """It is named and put aside with all its bytes; the job is given back, and that was all."""
    one = make_site("build1")
    keep(one, "job_a", start(one, "job_a"))
    place = journal.folder_of(one.settings.work, "job_a", 1) / "completion"
    damage(place)
    left = sorted(path.name for path in place.iterdir())
    die(one)
    back = make_site("build1", "p2")
    found = recover(back)
    (told,) = found.damaged
    assert said in told
    aside = back.settings.work / "damaged" / "job_a.1"
    assert str(aside) in told
    assert any(str(aside) in line for line in found.lines())
    assert sorted(path.name for path in aside.iterdir()) == left
    assert (found.reported, found.requeued) == ([], ["job_a"])
    assert recover(back).damaged == []


def test_a_removal_that_was_cut_short_is_nobodys_attempt(make_site: MakeSite) -> None:
    """What is left of a reported attempt has a hidden name: no report is missed in it, and it goes later."""
    one = make_site("build1")
    folder = journal.folder_of(one.settings.work, "job_a", 1)
    keep(one, "job_a", start(one, "job_a"))
    half = folder.with_name(".removing-job_b.1")
    (half / "completion").mkdir(parents=True)
    assert [place.name for place in journal.attempts(one.settings.work)] == ["job_a.1"]
    die(one)
    found = recover(make_site("build1", "p2"))
    assert (found.reported, found.damaged) == (["job_a"], [])
    assert list(folder.parent.iterdir()) == []


def test_another_builders_report_is_left_alone(make_site: MakeSite) -> None:
    """A machine that has been given another name does not throw away what it has still to report."""
    one = make_site("build1")
    keep(one, "job_a", start(one, "job_a"))
    die(one)
    renamed = make_site("build2", "p2", place="build1")
    assert recover(renamed).reported == []
    assert recover(make_site("build1", "p3")).reported == ["job_a"]


def test_a_report_outlives_the_note_of_its_attempt(make_site: MakeSite) -> None:
    """A good report beside a damaged note is sent: it says itself whose it is."""
    one = make_site("build1")
    keep(one, "job_a", start(one, "job_a"))
    (journal.folder_of(one.settings.work, "job_a", 1) / "attempt.json").write_bytes(b"{")
    die(one)
    back = make_site("build1", "p2")
    assert recover(back).reported == ["job_a"]
    assert queue.show(back, "job_a").outcome == "succeeded"


def test_a_job_that_was_rescued_meanwhile_is_no_error(make_site: MakeSite) -> None:
    """A builder that comes back after others gave its job on recovers without a refusal."""
    one = make_site("build1")
    token = start(one, "job_a")
    die(one)
    two = make_site("build2")
    request = {"kind": "job.requeue", "job_id": "job_a", "token": token, "reason": "silent"}
    two.ask(request, observations={"silence_seconds": 10_000})
    found = recover(make_site("build1", "p2"))
    assert found.requeued == []
    assert queue.show(two, "job_a").losses == 1


def test_a_source_that_fills_the_disk_fails_of_the_disk() -> None:
    """Whatever of the source's is at fault, the class is what an operator has to mend."""
    full = SourceError("The source cannot be copied.", failure_class="disk", remedy="Free disk space.")
    assert failure_of(full).failure_class == "disk"
    assert failure_of(BranchNotFound("There is no branch.")).failure_class == "source"
    assert failure_of(StoreError("No store.")).failure_class == "toolchain"


def test_the_first_reason_to_stop_stands() -> None:
    """A signal goes before what the heart says, and a build without either goes on."""
    stop = Interruption()
    assert stop.reason() is None
    stop.signal = "interrupted by SIGINT"
    assert stop.reason() == "interrupted by SIGINT"

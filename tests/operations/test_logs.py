"""The raw log of a job: followed to its last byte where it runs, and a clear word where it does not."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.builds.artifacts import collect, new_manifest
from pipeline.edge.memory_refs import MemoryRemote
from pipeline.errors import ArtifactsInvalid, BuildFailed, NotFound
from pipeline.operations.logs import ASK_SECONDS, follow_log
from pipeline.operations.site import Site
from tests.operations.conftest import COMMIT, WHEN, MakeSite
from tests.operations.test_queue import order
from tests.operations.test_recover import complete, die, start
from tests.operations.test_turn import Script


class Case:
    """A machine whose clock lets others act at each sleep, and what was said and shown on it."""

    def __init__(self, site: Site) -> None:
        self.said: list[str] = []
        self.clock = Script()
        self.runs = site
        self.site = replace(site, clock=self.clock, say=self.said.append)

    def log(self, job: str = "job_a", attempt: int = 1) -> Path:
        place = self.site.settings.work / "jobs" / f"{job}.{attempt}" / "raw.log"
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def follow(self, *acts: Callable[[], object], job: str = "job_a") -> str:
        self.clock.acts = list(acts)
        return "".join(follow_log(self.site, job))


@pytest.fixture
def case(make_site: MakeSite) -> Case:
    return Case(make_site("build1"))


def append(place: Path, data: bytes) -> None:
    with place.open("ab") as file:
        file.write(data)


def test_it_is_followed_to_its_last_byte(case: Case) -> None:
    """What is written is shown as it comes, also what came just before the job ended; then it ends."""
    token = start(case.site, "job_a")
    log = case.log()
    log.write_bytes(b"one\n")

    def end() -> None:
        append(log, b"three\n")
        case.site.ask(complete("job_a", token))

    assert case.follow(lambda: append(log, b"two\n"), end) == "one\ntwo\nthree\n"
    assert case.clock.acts == []
    assert case.said == []


def test_a_letter_in_two_writes_is_one(case: Case) -> None:
    """A log that is looked at in the middle of a letter of several bytes is shown whole."""
    token = start(case.site, "job_a")
    log = case.log()
    log.write_bytes(b"Zw" + "ö".encode()[:1])
    end = lambda: case.site.ask(complete("job_a", token))  # noqa: E731
    assert case.follow(lambda: append(log, "ö".encode()[1:] + b"lf\xff"), end) == "Zwölf\ufffd"


def test_a_directory_that_is_removed_ends_it(case: Case) -> None:
    """A build that succeeded takes its directory away while it reports: what was open is shown to its end."""
    start(case.site, "job_a")
    log = case.log()
    log.write_bytes(b"one\n")

    def remove() -> None:
        append(log, b"two\n")
        log.unlink()

    assert case.follow(remove) == "one\ntwo\n"


def test_a_queued_job_is_waited_for(case: Case) -> None:
    """It is said that the job waits; once it runs here its log is shown."""
    order(case.site, "job_a")

    def run() -> None:
        claim = {"kind": "job.claim", "job_id": "job_a", "holder": case.site.holder()}
        tokens.append(case.site.ask(claim)["token"])

    tokens: list[str] = []
    write = lambda: case.log().write_bytes(b"begun\n")  # noqa: E731
    end = lambda: case.site.ask(complete("job_a", tokens[0]))  # noqa: E731
    assert case.follow(lambda: None, run, lambda: None, write, end) == "begun\n"
    assert case.said == ["job_a waits in the queue; its log follows once it runs."]


@pytest.mark.parametrize("ended", [False, True])
def test_a_job_of_another_builder_is_told_as_such(case: Case, make_site: MakeSite, ended: bool) -> None:
    """It cannot be followed here: where it can, and what there is here, is said."""
    two = make_site("build2")
    token = start(two, "job_a")
    if ended:
        two.ask(complete("job_a", token, "build2"))
    with pytest.raises(NotFound) as refused:
        case.follow()
    assert refused.value.reason == "elsewhere"
    assert refused.value.message == f"job_a {'ran' if ended else 'runs'} on build2; its raw log is there."
    assert refused.value.remedy is not None
    assert "On build2: `invoke job.log job_a --follow`." in refused.value.remedy
    assert ("`invoke job.log job_a` shows" if ended else "`invoke status`") in refused.value.remedy


def test_a_job_that_never_ran_has_none(case: Case) -> None:
    """Cancelled in the queue: said as such."""
    order(case.site, "job_a")
    case.site.ask({"kind": "job.cancel", "job_id": "job_a"})
    with pytest.raises(NotFound, match="never ran"):
        case.follow()


def test_a_dead_process_ends_it_as_lost(case: Case) -> None:
    """Where the pipeline was killed no more comes: what is there is shown, and then what to do."""
    start(case.site, "job_a")
    case.log().write_bytes(b"one\n")
    shown: list[str] = []
    case.clock.acts = [lambda: die(case.site)]
    with pytest.raises(BuildFailed) as lost:
        shown.extend(follow_log(case.site, "job_a"))
    assert "".join(shown) == "one\n"
    assert lost.value.failure_class == "lost"
    assert "invoke recover" in (lost.value.remedy or "")


def test_an_attempt_that_was_given_back_is_over(case: Case, make_site: MakeSite) -> None:
    """When the job has another token, seen at the latest when the remote is asked, the old log ends."""
    token = start(case.site, "job_a")
    case.log().write_bytes(b"one\n")
    request = {"kind": "job.requeue", "job_id": "job_a", "token": token, "reason": "silent"}
    began = case.clock.boottime()
    two = make_site("build2")
    assert case.follow(lambda: two.ask(request, observations={"silence_seconds": 10_000})) == "one\n"
    assert case.clock.boottime() - began <= ASK_SECONDS + 1


def test_a_remote_that_is_away_keeps_nobody_from_following(case: Case, remote: MemoryRemote) -> None:
    """It is said once; the end is seen all the same once it is known here."""
    token = start(case.site, "job_a")
    log = case.log()
    log.write_bytes(b"one\n")
    remote.fault = lambda step: "lost" if step == "read" else "none"

    def end() -> None:
        remote.fault = lambda step: "none"
        case.site.ask(complete("job_a", token))

    assert case.follow(*[lambda: None] * 25, end) == "one\n"
    (said,) = case.said
    assert "Following what this machine knows of the job." in said


@pytest.fixture
def kept(case: Case) -> Path:
    """The kept log of a job that ended here, whose directory is gone."""
    token = start(case.site, "job_a")
    manifest = new_manifest(
        job_id="job_a", server="build1", branch="ExternalNew", commit=COMMIT, created_at=WHEN, token=token
    )
    raw = case.log("other")
    raw.write_bytes(b"first\n" + bytes(range(256)) * 4000 + b"\nlast\n")
    collect(case.site.settings.artifacts, manifest, [], raw)
    case.site.ask(complete("job_a", token))
    (place,) = case.site.settings.artifacts.rglob("build.log.gz")
    return place


def test_a_kept_log_is_shown_whole(case: Case, kept: Path) -> None:
    """After the build its log comes from what was kept."""
    shown = case.follow()
    assert shown.startswith("first\n")
    assert shown.endswith("\nlast\n")
    assert shown == gzip.decompress(kept.read_bytes()).decode(errors="replace")


@pytest.mark.parametrize("kind", ["cut", "no gzip", "empty", "flipped", "link", "gone"])
def test_a_kept_log_that_is_damaged_is_told(case: Case, kept: Path, tmp_path: Path, kind: str) -> None:
    """It ends with the file's name and what else there is; a link is not followed."""
    data = kept.read_bytes()
    kept.unlink()
    if kind == "link":
        (tmp_path / "outside").write_bytes(data)
        kept.symlink_to(tmp_path / "outside")
    elif kind != "gone":
        flipped = data[:40] + bytes([data[40] ^ 0xFF]) + data[41:]
        kept.write_bytes({"cut": data[:-20], "no gzip": b"x" * 50, "empty": b"", "flipped": flipped}[kind])
    if kind in ("gone", "empty"):
        if kind == "gone":
            with pytest.raises(NotFound, match="any more"):
                case.follow()
        else:
            assert case.follow() == ""
        return
    with pytest.raises(ArtifactsInvalid) as damaged:
        case.follow()
    assert str(kept) in damaged.value.message
    assert "`invoke job.log job_a`" in (damaged.value.remedy or "")

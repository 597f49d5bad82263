"""Whatever happens between claim and report, with real processes: one terminal state, nothing left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_kill import assert_once, settled
from tests.cluster.tiny import BRANCH, Host, finish, output, wait_until
from tests.mounts import needs_mounts


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A builder that beats four times a second, and whose processes are all ended with the test."""
    made = Host(tmp_path / "host", heartbeat_seconds="0.25")
    yield made
    clean(made)


def clean(host: Host) -> None:
    """Ends what a failed test left running."""
    host.unswitch()
    for pid in host.processes():
        os.kill(pid, signal.SIGKILL)


def building(host: Host, at: str = "maven", *words: str, **options: str) -> subprocess.Popen[str]:
    """Starts a build and waits until it waits in Maven or in the packaging."""
    host.switch(f"hold-{at}")
    build = host.start("build", "--branch", BRANCH, "--json", *words, **options)
    host.wait_for(f"at-{at}", build)
    return build


# -- signals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_job_as_cancelled(host: Host, name: str) -> None:
    """The tree is ended, the job is reported as cancelled under its class's exit code, the lock is free."""
    build = building(host)
    tree = host.tree()
    build.send_signal(signal.Signals[name])
    ended = finish(build)
    report = ended.json()
    assert ended.code == 79
    assert (report["status"], report["failure"]["class"]) == ("cancelled", "cancelled")
    assert name in report["failure"]["message"]
    facts = host.facts()
    assert_once(facts)
    assert [job.outcome for job in facts.jobs] == ["cancelled"]
    assert facts.commits == 2
    assert settled(host, tree) == []
    assert host.invoke("recover").out.strip() == "Nothing to recover."


def test_nohup_is_respected(host: Host) -> None:
    """A build whose SIGHUP was to be ignored goes on when its terminal is closed."""
    host.switch("hold-maven")
    build = host.start("build", "--branch", BRANCH, "--json", wrapper=("nohup",))
    host.wait_for("at-maven", build)
    build.send_signal(signal.SIGHUP)
    host.unswitch()
    ended = finish(build)
    assert (ended.code, ended.json()["status"]) == (0, "succeeded"), ended.err


def test_ctrl_c_while_a_small_tree_is_checked_out(host: Host) -> None:
    """Pressed at a terminal it reaches git as well: the job is cancelled all the same, no source failed."""
    pids, programs = host.folder / "pids", host.folder / "programs"
    programs.mkdir()
    (programs / "git").write_text(
        f'#!/bin/sh\ncase "$1" in checkout) echo $$ > {pids}; exec sleep 60;; esac\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    (programs / "git").chmod(0o755)
    build = host.start(
        "build", "--branch", BRANCH, "--json", wrapper=("setsid",), PATH=f"{programs}:{host.env['PATH']}"
    )
    assert wait_until(lambda: pids.exists() and bool(pids.read_text().strip()))
    os.killpg(build.pid, signal.SIGINT)
    ended = finish(build)
    assert (ended.code, ended.json()["failure"]["class"]) == (79, "cancelled"), ended.err
    assert not Path(f"/proc/{pids.read_text().strip()}").exists()
    assert [job.outcome for job in host.facts().jobs] == ["cancelled"]


def test_a_signal_before_the_claim_records_nothing(host: Host) -> None:
    """Ctrl-C while the branch is still being resolved ends with 130, and the ledger knows of nothing."""
    # The cached clone's lock is the first thing that a build waits for.
    assert host.invoke("build", "--branch", BRANCH, "--dry-run").code == 0
    (lock,) = host.home.glob("cache/sources/*.lock")
    with lock.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        build = host.start("build", "--branch", BRANCH)
        assert wait_until(lambda: "waiting for another process" in output(build)[1])
        build.send_signal(signal.SIGINT)
        ended = finish(build)
    assert ended.code == 130
    assert host.facts().jobs == []


def test_stopped_and_continued(host: Host) -> None:
    """After Ctrl-Z and fg within its time a build goes on as if nothing had been."""
    build = building(host)
    build.send_signal(signal.SIGSTOP)
    host.unswitch()
    time.sleep(1.0)
    beside = host.invoke("recover")
    assert "nothing of it was touched" in beside.out
    build.send_signal(signal.SIGCONT)
    ended = finish(build)
    assert (ended.code, ended.json()["status"]) == (0, "succeeded")
    assert_once(host.facts())


def test_stopped_past_its_deadline(tmp_path: Path) -> None:
    """Stopped for longer than its timeout, a build's tree is ended on time, and reported after fg."""
    # However slow the machine is: so long it takes to where a build can be stopped.
    first = Host(tmp_path / "first")
    began = time.monotonic()
    build = building(first)
    seconds = max(4, round(2 * (time.monotonic() - began)))
    clean(first)
    finish(build)
    host = Host(tmp_path / "host", recipe=f'{{"timeout_seconds": {seconds}}}')
    build = building(host)
    tree = host.tree()
    build.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: not (host.processes(tree)), seconds + 60), "the watchdog kept no deadline"
    build.send_signal(signal.SIGCONT)
    ended = finish(build)
    assert (ended.code, ended.json()["failure"]["class"]) == (78, "timeout")
    assert_once(host.facts())


def test_a_build_that_hangs(tmp_path: Path) -> None:
    """The timeout ends a build that hangs, with class timeout and its exit code."""
    host = Host(tmp_path / "host", recipe='{"timeout_seconds": 3}')
    build = building(host)
    tree = host.tree()
    ended = finish(build)
    assert (ended.code, ended.json()["failure"]["class"]) == (78, "timeout")
    assert settled(host, tree) == []
    assert_once(host.facts())


def test_a_child_that_makes_itself_a_daemon(host: Host) -> None:
    """A process that left session, terminal and environment ends with the build all the same."""
    host.switch("daemon")
    build = building(host)
    host.switch("hold-packaging")
    (host.switches / "hold-maven").unlink()
    host.wait_for("at-packaging", build)
    tree = host.tree()
    assert any(b"sleep\x00300" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid, _ in tree)
    host.unswitch()
    ended = finish(build)
    assert (ended.code, ended.json()["status"]) == (0, "succeeded")
    assert host.processes(tree) == []


def test_maven_killed_for_want_of_memory(host: Host) -> None:
    """A Maven that the kernel kills is a failure of class toolchain that names the signal, and a remedy."""
    build = building(host)
    os.kill(host.program_of("/bin/mvn"), signal.SIGKILL)
    failure = finish(build).json()["failure"]
    assert failure["class"] == "toolchain"
    assert "SIGKILL" in failure["message"] or "memory" in failure["message"]
    assert "memory" in failure["remedy"]
    assert_once(host.facts())


# -- the remote ----------------------------------------------------------------------------------------------


def test_the_remote_is_away_for_the_whole_build_and_back(tmp_path: Path) -> None:
    """Built, not yet reported: exit 80, and the next command reports it; the build costs two commits."""
    host = Host(tmp_path / "host", heartbeat_seconds="0.25", report_seconds="1")
    build = building(host)
    away = host.ledger.with_name("away.git")
    host.ledger.rename(away)
    host.unswitch()
    ended = finish(build)
    report = ended.json()
    assert (ended.code, report["status"]) == (80, "unreported")
    assert Path(report["manifest"]).is_file()
    away.rename(host.ledger)
    assert [job.status for job in host.facts().jobs] == ["running"]
    recovered = host.invoke("recover")
    assert f"job.complete {report['job_id']}" in recovered.out
    facts = host.facts()
    assert_once(facts)
    assert [(job.outcome, job.attempt, job.losses) for job in facts.jobs] == [("succeeded", 1, 0)]
    assert facts.commits == 2
    assert host.invoke("artifacts.verify", "--id", report["job_id"]).code == 0


def hang(host: Host) -> Path:
    """Makes the remote take every push and never answer; returns what it runs meanwhile."""
    program = host.folder / "unanswered"
    program.symlink_to(shutil.which("sleep") or "")
    hook = host.ledger / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{program} 300\n")
    hook.chmod(0o755)
    return program


def running(program: Path) -> list[str]:
    """Returns the command lines that name a program, of whomever."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = place.read_bytes().split(b"\0")
            if str(program).encode() in words:
                found.append(b" ".join(words).decode())
    return found


def test_a_push_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    """`report_seconds` holds although git would wait longer, for a beat under way too; nothing runs on."""
    host = Host(tmp_path / "host", heartbeat_seconds="0.25", report_seconds="4")
    build = building(host)
    program = hang(host)
    assert wait_until(lambda: bool(running(program)))  # a beat is under way
    host.unswitch()
    begun = time.monotonic()
    ended = finish(build)
    took = time.monotonic() - begun
    assert (ended.code, ended.json()["status"]) == (80, "unreported")
    assert "git gave no answer within" in ended.err
    assert took < 25, ended.err  # the beat, the report, and a build of a second
    assert running(program) == []
    (host.ledger / "hooks" / "pre-receive").unlink()
    assert host.invoke("recover").code == 0
    facts = host.facts()
    assert_once(facts)
    assert [(job.outcome, job.attempt, job.losses) for job in facts.jobs] == [("succeeded", 1, 0)]


# -- the disk ------------------------------------------------------------------------------------------------


_LIST = 'echo left:; find "$0" -type f'


def on_small_disk(
    host: Host, folder: str, limit: str, *words: str, then: str = ":", **env: str
) -> subprocess.Popen[str]:
    """Starts `invoke` with a small file system of its own on one of the host's folders. Needs root."""
    place = host.home / folder
    place.mkdir(parents=True, exist_ok=True)
    script = f'mount -t tmpfs -o {limit} none "$0" && "$@"; code=$?; {then}; exit $code'
    wrapper = ("unshare", "--mount", "--propagation", "slave", "sh", "-c", script, str(place))
    return host.start(*words, wrapper=wrapper, **env)


@needs_mounts
def test_the_disk_fills_up_while_building(host: Host) -> None:
    """A disk that runs out under the build ends it before it is full, with class disk and a remedy."""
    host.switch("fill", value="120")
    ended = finish(on_small_disk(host, "work", "size=1100m", "build", "--branch", BRANCH, "--json"))
    report = ended.json()
    assert (ended.code, report["failure"]["class"]) == (77, "disk")
    assert report["failure"]["remedy"]
    facts = host.facts()
    assert_once(facts)
    assert [job.outcome for job in facts.jobs] == ["failed"]


@needs_mounts
def test_the_disk_is_full_while_collecting(host: Host) -> None:
    """Artifacts that do not fit fail the build with class disk, and half a set is never left behind."""
    # Room for the folders of one set and for one file of it.
    ended = finish(
        on_small_disk(host, "artifacts", "nr_inodes=6", "build", "--branch", BRANCH, "--json", then=_LIST)
    )
    report = json.loads(ended.out.partition("left:")[0])
    assert (report["failure"]["class"], report["artifacts"]) == ("disk", []), ended.err
    assert ended.out.partition("left:")[2].split() == []
    assert_once(host.facts())


def fill(place: Path) -> None:
    """Writes a file until its disk is full."""
    with place.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@needs_mounts
def test_the_outbox_is_full_and_then_lost(host: Host) -> None:
    """A result that the outbox cannot take is kept beside it, and reported even when the outbox is gone."""
    host.switch("hold-maven")
    words = ("build", "--branch", BRANCH, "--json")
    build = on_small_disk(host, "stores", "size=8m", *words, PIPELINE_REPORT_SECONDS="1")
    host.wait_for("at-maven", build)
    inside = Path(f"/proc/{host.journals()[0]['owner_pid']}/root{host.home}/stores")
    fill(inside / "filler")
    host.unswitch()
    ended = finish(build)
    assert (ended.code, ended.json()["status"]) == (80, "unreported"), ended.err
    # Its file system went with the process, and the outbox with it.
    assert "Reported the finished build" in host.invoke("recover").out
    facts = host.facts()
    assert_once(facts)
    assert [(job.outcome, job.attempt, job.losses) for job in facts.jobs] == [("succeeded", 1, 0)]


# -- several at once -----------------------------------------------------------------------------------------


def test_two_builds_at_once_on_one_builder(host: Host) -> None:
    """The second waits, says its place, and builds after the first; both succeed, one after the other."""
    first = building(host)
    second = host.start("build", "--branch", BRANCH, "--json")
    assert wait_until(lambda: "waits; 1 before it" in output(second)[1]), output(second)
    host.unswitch()
    assert [finish(build).code for build in (first, second)] == [0, 0]
    facts = host.facts()
    assert facts.problems == []
    assert [(job.outcome, job.attempt) for job in facts.jobs] == [("succeeded", 1), ("succeeded", 1)]
    assert facts.jobs[0].completed_at is not None
    assert facts.jobs[1].started_at is not None
    assert facts.jobs[0].completed_at <= facts.jobs[1].started_at
    # The one that waited costs one commit more, for its place in the queue.
    assert facts.commits == 5


def test_a_busy_machine_is_left_at_once_with_wait_0(host: Host) -> None:
    """`--wait 0` leaves a busy machine with exit code 45, and records nothing."""
    first = building(host)
    before = host.facts()
    ended = host.invoke("build", "--branch", BRANCH, "--wait", "0")
    assert ended.code == 45
    after = host.facts()
    assert (after.commits, len(after.jobs)) == (before.commits, 1)
    host.unswitch()
    assert finish(first).code == 0


def test_ctrl_c_while_waiting_for_the_machine(host: Host) -> None:
    """A build that is interrupted while it waits takes its order back: it ends cancelled."""
    first = building(host)
    second = host.start("build", "--branch", BRANCH, "--json")
    assert wait_until(lambda: "waits; 1 before it" in output(second)[1]), output(second)
    second.send_signal(signal.SIGINT)
    assert finish(second).code == 130
    assert sorted(str(job.status) for job in host.facts().jobs) == ["failed", "running"]
    host.unswitch()
    assert finish(first).code == 0
    facts = host.facts()
    assert [job.outcome for job in facts.jobs] == ["succeeded", "cancelled"]


def test_two_builders_after_one_open_job(tmp_path: Path) -> None:
    """Of two machines that take the same open job one runs it, and one result is accepted."""
    one = Host(tmp_path / "one")
    assert one.invoke("build", "--branch", BRANCH, "--on", "any").code == 0
    (job,) = one.facts().jobs
    assert (job.status, job.target) == ("queued", None)
    two = Host(tmp_path / "two", builder="build2", ledger=str(one.ledger), source=str(one.source))
    two.switches.rmdir()
    two.switches.symlink_to(one.switches)
    one.switch("hold-maven")
    workers = [host.start("work", "--once") for host in (one, two)]
    one.wait_for("at-maven")
    assert wait_until(lambda: any(worker.poll() is not None for worker in workers)), "nobody stood back"
    one.unswitch()
    ended = [finish(worker) for worker in workers]
    assert [each.code for each in ended] == [0, 0], ended
    assert sorted("Nothing to do" in each.out for each in ended) == [False, True]
    facts = one.facts()
    assert_once(facts)
    assert [(j.outcome, j.attempt, j.losses) for j in facts.jobs] == [("succeeded", 1, 0)]


def test_cancel_from_another_process(host: Host) -> None:
    """`job.cancel` ends a running build within a few heartbeats, and the result says who asked, and why."""
    build = building(host)
    tree = host.tree()
    (job,) = host.facts().jobs
    assert host.invoke("job.cancel", job.id, "--reason", "not needed").code == 0
    asked = time.monotonic()
    ended = finish(build)
    assert time.monotonic() - asked < 20
    assert (ended.code, ended.json()["status"]) == (79, "cancelled")
    why = f"Cancelled by {job.assigned_to}: not needed."
    assert ended.json()["failure"]["message"] == why
    facts = host.facts()
    assert_once(facts)
    assert facts.jobs[0].outcome == "cancelled"
    assert json.loads(host.invoke("job.show", job.id, "--json").out)["failure"]["message"] == why
    assert settled(host, tree) == []


# -- again ---------------------------------------------------------------------------------------------------


def test_resumed_after_the_packaging_failed(host: Host) -> None:
    """A retry with --resume goes on after Maven, says so, and never counts as complete."""
    host.switch("fail-packaging")
    failed = host.invoke("build", "--branch", BRANCH, "--json")
    assert (failed.code, failed.json()["failure"]["class"]) == (76, "package"), failed.out
    host.unswitch()
    host.switch("fail-maven")  # a second Maven would fail
    ordered = host.invoke("job.retry", failed.json()["job_id"], "--resume")
    assert ordered.code == 0, ordered.err
    done = host.invoke("work", "--once", "--json")
    assert done.code == 0, done.out + done.err
    report = done.json()
    manifest = json.loads(Path(report["manifest"]).read_text())
    assert manifest["complete"] is False
    assert manifest["recipe"]["resumed_from"] == failed.json()["job_id"]
    assert report["stages"][0]["name"] == "packages"
    facts = host.facts()
    assert [job.outcome for job in facts.jobs] == ["failed", "succeeded"]
    assert facts.jobs[1].retry_of == facts.jobs[0].id


def test_a_late_result_is_kept_as_late(host: Host) -> None:
    """A build whose job has changed hands is reported as late: kept, not applied, and said."""
    build = building(host, PIPELINE_HEARTBEAT_SECONDS="0")
    (job,) = host.facts().jobs
    broken = host.invoke("lock.break", f"builder/{host.builder}", "--token", job.token or "")
    assert broken.code == 0, broken.err
    host.unswitch()
    ended = finish(build)
    report = ended.json()
    assert (ended.code, report["status"], report["failure"]["class"]) == (81, "lost", "lost")
    assert "it waits in the queue again" in report["failure"]["message"]
    facts = host.facts()
    assert facts.problems == []
    assert (facts.late, facts.accepted) == (1, [])
    assert [(j.status, j.losses, j.late_results) for j in facts.jobs] == [("queued", 1, 1)]
    assert host.invoke("work", "--once").code == 0
    assert [(j.outcome, j.attempt) for j in host.facts().jobs] == [("succeeded", 2)]


@pytest.mark.parametrize("first", ["the old holder", "the new holder"])
def test_two_builders_build_one_job(tmp_path: Path, first: str) -> None:
    """Two machines with a store each build the same job, one after it was taken from it: one result counts.

    Whoever is ready first, the job's present token decides; the other's result is kept as late, with its log.
    """
    one = Host(tmp_path / "one", heartbeat_seconds="0")  # does not notice, and builds on
    two = Host(tmp_path / "two", builder="build2", ledger=str(one.ledger), source=str(one.source))
    assert one.invoke("build", "--branch", BRANCH, "--on", "any").code == 0
    one.switch("hold-maven")
    old = one.start("work", "--once", "--json")
    one.wait_for("at-maven", old)
    (job,) = one.facts().jobs
    assert two.invoke("lock.break", "builder/build1", "--token", job.token or "").code == 0
    two.switch("hold-maven")
    new = two.start("work", "--once", "--json")
    two.wait_for("at-maven", new)
    (job,) = one.facts().jobs
    assert (job.status, job.assigned_to, job.attempt) == ("running", "build2", 2)
    ended = {}
    builds = {"the old holder": (one, old), "the new holder": (two, new)}
    for name in sorted(builds, key=lambda name: name != first):
        host, process = builds[name]
        host.unswitch()
        ended[name] = finish(process)
    lost, counts = ended["the old holder"], ended["the new holder"]
    assert (counts.code, counts.json()["status"], counts.json()["attempt"]) == (0, "succeeded", 2)
    assert (lost.code, lost.json()["failure"]["class"]) == (81, "lost")
    whose = "build2 builds it now, attempt 2" if first == "the old holder" else "succeeded, on build2"
    assert whose in lost.json()["failure"]["message"]
    facts = one.facts()
    assert facts.problems == []
    assert (len(facts.accepted), facts.late) == (1, 1)
    assert [(j.outcome, j.attempt, j.losses, j.late_results) for j in facts.jobs] == [("succeeded", 2, 1, 1)]
    assert facts.told == 1
    late = one.files(f"{job.id}.late-{lost.json()['token']}")
    assert sorted(Path(path).suffix for path in late) == [".json", ".json", ".log", ".md"]
    clean(one)
    clean(two)


def test_a_build_is_ended_when_its_job_changes_hands(host: Host) -> None:
    """With its heart beating it notices within a beat or two: its tree is ended, and its end is lost, 81."""
    build = building(host)
    tree = host.tree()
    (job,) = host.facts().jobs
    broken = host.invoke("lock.break", f"builder/{host.builder}", "--token", job.token or "")
    assert broken.code == 0, broken.err
    ended = finish(build)
    report = ended.json()
    assert (ended.code, report["status"], report["failure"]["class"]) == (81, "lost", "lost")
    assert "it waits in the queue again" in report["failure"]["message"]
    assert settled(host, tree) == []
    assert [(j.status, j.losses, j.late_results) for j in host.facts().jobs] == [("queued", 1, 1)]

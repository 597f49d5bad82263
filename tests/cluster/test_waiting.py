"""Builds that wait for one machine, as real processes: each is served by its place in the queue."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_between import building
from tests.cluster.tiny import BRANCH, Host, finish, output, wait_until


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A builder whose processes are all ended with the test."""
    made = Host(tmp_path / "host")
    yield made
    made.unswitch()
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


def waiting(host: Host, before: int, *words: str) -> subprocess.Popen[str]:
    """Starts a build and waits until it has said its place."""
    build = host.start("build", "--branch", BRANCH, "--json", *words)
    told = f"waits; {before} before it"
    assert wait_until(lambda: told in output(build)[1] or build.poll() is not None), output(build)
    assert told in output(build)[1]
    return build


def test_the_place_in_the_queue_decides(host: Host) -> None:
    """An urgent build goes before those that came first; of equals the earlier one goes first."""
    first = building(host)
    second = waiting(host, 1)
    third = waiting(host, 2)
    urgent = waiting(host, 1, "--priority", "1")
    host.unswitch()
    assert [finish(build).code for build in (first, second, third, urgent)] == [0, 0, 0, 0]
    facts = host.facts()
    assert facts.problems == []
    started = sorted(facts.jobs, key=lambda job: (job.started_at, job.completed_at))  # type: ignore[arg-type, return-value]
    ids = [finish(build).json()["job_id"] for build in (first, urgent, second, third)]
    assert [job.id for job in started] == ids
    told = [line for line in output(third)[1].splitlines() if "before it" in line]
    assert [line.split("; ")[1] for line in told][:2] == ["2 before it.", "3 before it."]
    assert told[-1].endswith("1 before it.")
    assert not (host.folder / "machine.lock.waiting").exists()


def test_a_killed_waiter_blocks_nobody(host: Host) -> None:
    """After `kill -9` of a waiter the next one is served; its job stays in the queue, and is told of."""
    first = building(host)
    killed = waiting(host, 1)
    third = waiting(host, 2)
    killed.kill()
    finish(killed)
    assert wait_until(lambda: "; 1 before it" in output(third)[1])
    (job,) = host.invoke("status", "--json").json()["abandoned"]
    told = (
        f"{job} waits, queued by a command that has ended: `invoke work --once` runs it,"
        f" `invoke job.cancel {job}` removes it."
    )
    assert told in host.invoke("status").err
    assert told in host.invoke("recover").out
    host.unswitch()
    assert [finish(build).code for build in (first, third)] == [0, 0]
    assert sorted(str(job.status) for job in host.facts().jobs) == ["completed", "completed", "queued"]
    assert host.invoke("work", "--once").code == 0
    facts = host.facts()
    assert [(job.outcome, job.attempt) for job in facts.jobs] == [("succeeded", 1)] * 3
    assert facts.problems == []
    assert host.invoke("recover").out == "Nothing to recover.\n"
    assert list(host.home.glob("work/waiting/*")) == []


def test_a_killed_build_leaves_its_machine_to_who_waits(host: Host) -> None:
    """Whoever waited behind a build that was killed ends its remains, gives its job back, and builds."""
    first = building(host)
    second = waiting(host, 1)
    host.unswitch()
    first.kill()
    finish(first)
    ended = finish(second)
    assert (ended.code, ended.json()["status"]) == (0, "succeeded"), ended.err
    facts = host.facts()
    assert [(job.status, job.losses) for job in facts.jobs] == [("queued", 1), ("completed", 0)]
    assert facts.problems == []


def test_a_cancelled_job_ends_who_waits_for_it(host: Host) -> None:
    """`job.cancel` ends the waiter with a report and a cancelled build's exit code; the others move up."""
    first = building(host)
    second = waiting(host, 1)
    third = waiting(host, 2)
    (job,) = [job for job in host.facts().jobs if job.status == "queued"][:1]
    assert host.invoke("job.cancel", job.id, "--reason", "not needed").code == 0
    ended = finish(second)
    report = ended.json()
    assert (ended.code, report["status"], report["failure"]["class"]) == (79, "cancelled", "cancelled")
    assert (report["job_id"], report["attempt"]) == (job.id, 0)
    assert "not needed" in report["failure"]["message"]
    assert wait_until(lambda: "; 1 before it" in output(third)[1])
    host.unswitch()
    assert [finish(build).code for build in (first, third)] == [0, 0]
    assert [job.outcome for job in host.facts().jobs] == ["succeeded", "cancelled", "succeeded"]


def test_who_waits_is_not_overtaken_by_work(host: Host) -> None:
    """`work --once` beside a build that waits claims nothing: its job is run once, by itself."""
    first = building(host)
    second = waiting(host, 1)
    beside = host.invoke("work", "--once")
    assert beside.code == 45
    second.send_signal(signal.SIGSTOP)  # for less than its time: it is still waited for
    host.unswitch()
    assert finish(first).code == 0
    assert host.invoke("work", "--once").code == 45
    second.send_signal(signal.SIGCONT)
    assert finish(second).code == 0
    facts = host.facts()
    assert [(job.outcome, job.attempt) for job in facts.jobs] == [("succeeded", 1)] * 2
    assert len(facts.accepted) == 2


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_takes_the_order_back(host: Host, name: str) -> None:
    """Whichever signal ends a build that waits, its job is cancelled and nothing is left of it."""
    first = building(host)
    second = waiting(host, 1)
    second.send_signal(signal.Signals[name])
    ended = finish(second)
    assert ended.code == 130
    assert ended.json()["error"]["message"] == f"Interrupted by {name}."
    host.unswitch()
    assert finish(first).code == 0
    assert [job.outcome for job in host.facts().jobs] == ["succeeded", "cancelled"]
    assert not (host.folder / "machine.lock.waiting").exists()

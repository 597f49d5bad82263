"""`kill -9` at every named point: one terminal state, nothing left running, nothing lost, nothing doubled.

Each test kills a real build of a real process tree, then does what an operator does: `invoke recover`, and
`invoke work --once` while something waits. With `-s` each prints a row of the table in
docs/explanation/main-job.md: point, what was found, terminal state, processes left, lost or doubled.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.cluster.tiny import BRANCH, Facts, Host, finish, wait_until

#: What must come of it. nothing: the claim never counted. withdrawn: the claim counted, but nobody learned of
#: it. again: the attempt is lost and made again. kept: what was built counts, and is not built again.
Fate = Literal["nothing", "withdrawn", "again", "kept"]


@dataclass(frozen=True)
class Point:
    """A point, what it means, and what must come of a death there."""

    name: str
    words: str
    fate: Fate


POINTS = [
    Point("enqueued#1", "the claim is in the outbox", "nothing"),
    Point("attempt begun#1", "the claim's push is noted, durably", "nothing"),
    Point("push#1", "before the claim's push", "nothing"),
    Point("pushed#1", "the server applied the claim, its answer is lost", "withdrawn"),
    Point("settled#1", "the claim is known to be in", "withdrawn"),
    Point("taken#1", "the claim's answer was taken", "again"),
    Point("attempt.json synced", "the attempt's note is written, not renamed", "again"),
    Point("attempt.json renamed", "the attempt's note is there, its folder not synced", "again"),
    Point("workspace made", "the workspace is made", "again"),
    Point("checked out", "the source is checked out", "again"),
    Point("before the build", "the stand-ins are ready", "again"),
    Point("build ended", "the build ended, nothing is kept", "again"),
    Point("artifact synced#1", "copying: one file is copied", "again"),
    Point("artifact synced#5", "copying: the set's manifest is written", "again"),
    Point("artifact synced#7", "the set of artifacts is renamed", "again"),
    Point("artifacts kept", "the artifacts are kept", "again"),
    Point("request.json synced", "the report is written, not renamed", "again"),
    Point("completion renamed", "the report is renamed, its folder not synced", "kept"),
    Point("completion kept", "the report is kept", "kept"),
    Point("enqueued#2", "the report is in the outbox", "kept"),
    Point("attempt begun#2", "the report's push is noted, durably", "kept"),
    Point("push#2", "before the final push", "kept"),
    Point("pushed#2", "the server applied the report, its answer is lost", "kept"),
    Point("settled#2", "the report is known to be in", "kept"),
    Point("taken#2", "the report's answer was taken", "kept"),
    Point("reported", "reported; nothing is tidied up", "kept"),
]
SMALL = {"pushed#1", "attempt.json renamed", "artifact synced#1", "completion kept", "pushed#2", "reported"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A builder whose processes are all ended with the test."""
    made = Host(tmp_path / "host")
    yield made
    made.unswitch()
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name.replace(" ", "-"))
def test_killed_at_a_named_point(host: Host, point: Point, size: str) -> None:
    """At every point: one terminal state, one result, no process, no lock; what was kept is not rebuilt."""
    if size == "small" and point.name not in SMALL:
        pytest.skip("--size medium kills at this point too")
    killed = finish(host.start_killed(point.name))
    assert killed.code == -signal.SIGKILL, f"the point was not reached: {killed.err}"
    assert_sound(host, point, host.tree())


@pytest.mark.parametrize(("hold", "words"), [("maven", "in Maven"), ("packaging", "in the packaging")])
@pytest.mark.parametrize("whom", ["pipeline", "pipeline and watchdog"])
def test_killed_while_the_tree_runs(host: Host, hold: str, words: str, whom: str, size: str) -> None:
    """A pipeline killed beside a running tree leaves none of it, with its watchdog or without."""
    if size == "small" and (hold, whom) != ("maven", "pipeline and watchdog"):
        pytest.skip("--size medium kills here too")
    host.switch(f"hold-{hold}")
    build = host.start("build", "--branch", BRANCH)
    host.wait_for(f"at-{hold}", build)
    tree, journal = host.tree(), host.journals()[0]
    assert len(tree) > 3
    if "watchdog" in whom:
        os.kill(journal["watchdog_pid"], signal.SIGKILL)
    os.kill(build.pid, signal.SIGKILL)
    finish(build)
    if whom == "pipeline":
        assert wait_until(lambda: not host.processes(tree), 30), "the watchdog did not end the tree"
    else:
        assert host.processes(tree), "there is nothing for recovery to end"
    assert_sound(host, Point(f"{whom} {words}", f"{whom}, {words}", "again"), tree)


@pytest.mark.parametrize("whom", ["watchdog", "Maven", "the program"])
def test_one_process_killed(host: Host, whom: str, size: str) -> None:
    """The pipeline outlives its watchdog, and Maven: it ends what is left and reports one failure."""
    if size == "small" and whom != "watchdog":
        pytest.skip("--size medium kills these too")
    host.switch("hold-maven")
    build = host.start("build", "--branch", BRANCH, "--json")
    host.wait_for("at-maven", build)
    tree, journal = host.tree(), host.journals()[0]
    pids = {"watchdog": journal["watchdog_pid"], "the program": journal["pid"]}
    os.kill(pids.get(whom) or host.program_of("/bin/mvn"), signal.SIGKILL)
    ended = finish(build)
    report = ended.json()
    left = settled(host, tree)
    facts = host.facts()
    kind = report["failure"]["class"]
    show(f"{whom} alone, in Maven", f"`{report['failure']['message']}`", f"failed ({kind})", left, facts)
    assert (report["status"], kind) == ("failed", "lost" if whom == "watchdog" else "toolchain")
    assert ended.code == {"lost": 81, "toolchain": 72}[kind]
    assert_once(facts)
    assert [job.attempt for job in facts.jobs] == [1]
    assert left == []


# -- what is asserted ----------------------------------------------------------------------------------------


def assert_sound(host: Host, point: Point, tree: set[tuple[int, int]]) -> None:
    """Recovers, works off the queue, and looks at everything. What hangs is let hang till then."""
    recovered = host.invoke("recover")
    assert recovered.code == 0, recovered.err
    left = settled(host, tree)
    host.unswitch()
    facts = host.facts()
    assert facts.status != "building"
    assert facts.locks == []
    for _ in range(3):
        if not any(job.status == "queued" for job in facts.jobs):
            break
        worked = host.invoke("work", "--once", "--json")
        assert worked.code == 0, worked.err
        facts = host.facts()
    found = " ".join(recovered.out.splitlines())
    state = ", ".join(f"{job.outcome}, attempt {job.attempt}" for job in facts.jobs) or "no job"
    show(point.words, _without_ids(found), state, left, facts)
    assert left == []
    assert_once(facts)
    outcomes = [(job.outcome, job.attempt, job.losses) for job in facts.jobs]
    expected = {
        "nothing": [],
        "withdrawn": [("cancelled", 1, 0)],
        "again": [("succeeded", 2, 1)],
        "kept": [("succeeded", 1, 0)],
    }
    assert outcomes == expected[point.fate], recovered.out
    if point.fate in ("again", "kept"):
        verified = host.invoke("artifacts.verify", "--id", facts.jobs[0].id)
        assert verified.code == 0, verified.out
    again = host.invoke("recover")
    assert again.out.strip() == "Nothing to recover."
    assert not list(host.home.glob("artifacts/*/*/.*"))
    assert not list(host.home.glob("work/attempts/*"))


def assert_once(facts: Facts) -> None:
    """The chain holds, every job has ended, and each result was accepted, and told, once."""
    assert facts.problems == []
    assert facts.locks == []
    assert facts.status != "building"
    assert all(job.ended for job in facts.jobs)
    assert len(facts.jobs) <= 1
    reported = [job for job in facts.jobs if job.outcome != "cancelled" or facts.accepted]
    assert len(facts.accepted) == len(reported)
    assert facts.told == len(facts.accepted)
    assert facts.late == 0


def settled(host: Host, tree: set[tuple[int, int]]) -> list[int]:
    """Returns the processes of the build that are left once those that are ending have ended."""
    wait_until(lambda: not host.processes(tree), 15)
    return host.processes(tree)


def show(point: str, found: str, state: str, left: list[int], facts: Facts) -> None:
    """Prints a row of the table."""
    lost = len([job for job in facts.jobs if not job.ended])
    doubled = max(0, len(facts.accepted) - 1) + facts.late + max(0, facts.told - len(facts.accepted))
    print(f"\n| {point} | {found} | {state} | {len(left)} | {lost} / {doubled} |")


def _without_ids(text: str) -> str:
    return " ".join("the job" if word.startswith("job_") else word for word in text.split())

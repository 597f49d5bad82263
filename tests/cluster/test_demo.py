"""`invoke cluster --demo`, as an operator runs it: real processes, real packages, and nothing left of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.coordination.adoption import adopt
from pipeline.coordination.reducer import REDUCER_VERSION, decide
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.procfs import all_stats, environment_of
from pipeline.ledger.check import check_chain
from pipeline.operations.history import validate
from tests.cluster.tiny import ROOT, wait_until

pytestmark = [pytest.mark.timeout(600)]


def start(folder: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    """Starts the demonstration in a folder; its outputs go to files beside it."""
    out, err = folder.with_suffix(".out").open("w"), folder.with_suffix(".err").open("w")
    with out, err:
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", "cluster", "--demo", "--folder", str(folder), *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
        )


def stop(process: subprocess.Popen[str], folder: Path) -> None:
    """Ends what a failed test left."""
    if process.poll() is None:
        process.terminate()
        process.wait(60)
    assert left(folder) == []


def left(folder: Path) -> list[int]:
    """Returns the living processes that have to do with a folder: by environment or command line."""
    found = []
    for stat in all_stats().values():
        try:
            words = Path(f"/proc/{stat.pid}/cmdline").read_bytes()
        except OSError:
            continue
        inside = str(folder).encode() in environment_of(stat.pid) + words
        if inside and stat.state not in "ZX" and stat.pid != os.getpid():
            found.append(stat.pid)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for the scratch folder."""
    made = tmp_path / "scratch"
    made.mkdir()
    return made


def at(events: list[dict[str, Any]], pattern: str, after: int = -1) -> int:
    """Returns the place of the first event after another whose text begins with a pattern."""
    for place, event in enumerate(events):
        if place > after and re.match(pattern, event["text"]):
            return place
    raise AssertionError(f"no `{pattern}` after {after} in {[event['text'] for event in events]}")


def test_the_whole_story(folder: Path) -> None:
    """Two builders build side by side; one dies, one freezes, the remote goes away; every promise holds.

    What is kept shows it as well: the chain is computed again here, from the kept ledger.
    """
    # What this machine is configured for must not matter, a ledger that does not exist least of all.
    demo = start(folder, "--json", "--keep", PIPELINE_LEDGER="/nonexistent/ledger.git", SERVER_ID="build9")
    try:
        code = demo.wait(300)
    finally:
        stop(demo, folder)
    said = folder.with_suffix(".err").read_text()
    played = json.loads(folder.with_suffix(".out").read_text())
    assert code == 0, said
    assert played["holds"] is True
    assert len(played["promises"]) == 10
    assert all(promise["held"] for promise in played["promises"])

    events = played["events"]
    assert all(event["text"] in said for event in events)
    assert [event["seconds"] for event in events] == sorted(event["seconds"] for event in events)
    both = [at(events, "takes job 1"), at(events, "takes job 2")]
    assert max(both) < min(at(events, "reports job 1"), at(events, "reports job 2"))
    assert at(events, "has read its message") < at(events, "2. ")
    killed = at(events, "kill -9")
    put_back = at(events, r"puts job 3 back, token \S+ is void: its process \d+ is dead", killed)
    again = at(events, "takes job 3: attempt 2", put_back)
    assert at(events, "reports job 3 under token .*: succeeded", again)
    late = at(events, "reports job 5 under token .* which is void", at(events, "SIGCONT"))
    assert at(events, "reports job 5 under token .*: succeeded", late)
    gone, back = at(events, "The remote is gone"), at(events, "The remote is back")
    assert events[back]["seconds"] - events[gone]["seconds"] >= 2
    assert not any(event["commit"] for event in events[gone:back])
    assert at(events, "writes to build2: Can you hear me", back)
    assert at(events, "reports job 6", back)
    assert at(events, "reports job 7", back)

    attempts = [
        (job["name"], a["number"], a["ending"], a["late"]) for job in played["jobs"] for a in job["attempts"]
    ]
    assert ("job 3", 1, "lost: its process was dead", False) in attempts
    assert ("job 5", 1, "lost: its lock was broken", True) in attempts
    assert len(attempts) == 9

    kept = Path(played["folder"])
    refs = GitRefs(folder / "look.git", str(kept / "ledger.git"))
    tip = refs.fetch()
    assert tip is not None
    assert tip == played["tip"]
    checked, findings = check_chain(refs, tip, decide, adopt, REDUCER_VERSION, validate)
    assert findings == []
    assert checked == played["transactions"]
    packages = list(kept.glob("build*/pipeline/artifacts/**/*.deb"))
    assert {package.relative_to(kept).parts[0] for package in packages} == {"build1", "build2"}


@pytest.mark.parametrize(
    ("moment", "number"), [("builds Demo Core", signal.SIGINT), ("SIGSTOP", signal.SIGTERM)]
)
def test_a_signal_leaves_nothing(folder: Path, size: str, moment: str, number: int) -> None:
    """Ctrl-C while both build, and SIGTERM while one is frozen: exit code 130, no process, no file."""
    if moment == "SIGSTOP" and size != "large":
        pytest.skip("half a minute: with --size large")
    err = folder.with_suffix(".err")
    demo = start(folder, "--json")
    try:
        wait_until(lambda: moment in err.read_text() or demo.poll() is not None, 200)
        assert moment in err.read_text()
        assert len(left(folder)) > 2
        demo.send_signal(number)
        code = demo.wait(60)
    finally:
        stop(demo, folder)
    assert code == 130, err.read_text()
    assert json.loads(folder.with_suffix(".out").read_text())["error"]["name"] == "Interrupted"
    assert list(folder.iterdir()) == []

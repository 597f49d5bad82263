"""`job.log --follow` beside a real build: to its end, until Ctrl-C, or until its reader goes away."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_between import building
from tests.cluster.tiny import ROOT, Host, finish, output, wait_until


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A builder whose processes are all ended with the test."""
    made = Host(tmp_path / "host")
    yield made
    made.unswitch()
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


def test_it_ends_with_the_job(host: Host) -> None:
    """Every line is shown while the job runs, and the follower ends with 0 when the job does."""
    build = building(host)
    (job,) = host.facts().jobs
    follower = host.start("job.log", job.id, "--follow")
    assert wait_until(lambda: "Building Tiny Parent" in output(follower)[0])
    assert follower.poll() is None
    host.unswitch()
    assert finish(build).code == 0
    ended = finish(follower)
    assert (ended.code, ended.err) == (0, "")
    (kept,) = host.home.glob("artifacts/*/*/*/build.log.gz")
    assert ended.out == gzip.decompress(kept.read_bytes()).decode()
    assert host.invoke("job.log", job.id, "--follow").out == ended.out


@pytest.mark.parametrize("how", ["SIGINT", "head"])
def test_who_stops_looking_stops_nothing(host: Host, how: str) -> None:
    """Ctrl-C ends the follower with 130, a reader that goes away with 141; the build goes on."""
    build = building(host)
    (job,) = host.facts().jobs
    follower = host.start("job.log", job.id, "--follow")
    if how == "SIGINT":
        assert wait_until(lambda: "Building Tiny Parent" in output(follower)[0])
        follower.send_signal(signal.SIGINT)
        ended = finish(follower)
        assert (ended.code, "Traceback" in ended.err) == (130, False)
    else:
        follower.kill()
        finish(follower)
        words = f"{sys.executable} -m invoke job.log {job.id} --follow | head -1; echo ${{PIPESTATUS[0]}}"
        host.switch("noise", value="1")
        (host.switches / "hold-maven").unlink()
        done = subprocess.run(["bash", "-c", words], cwd=ROOT, env=host.env, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "141"
        assert "Traceback" not in done.stderr
    host.unswitch()
    assert finish(build).code == 0

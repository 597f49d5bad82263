"""The fixtures that other tests stand on do what they say."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.sshd import Sshd, start_sshd


def _ssh(server: Sshd, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", str(server.config_file), server.host, *words],
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_home_is_empty_and_nothing_steers_git(home: Path) -> None:
    """A test finds an empty HOME and no variable that would change what git does."""
    assert os.environ["HOME"] == str(home)
    assert list(home.iterdir()) == []
    steering = [name for name in os.environ if name.startswith(("GIT_", "PIPELINE_"))]
    assert steering == ["PIPELINE_HOME"]
    assert Path(os.environ["PIPELINE_HOME"]).parent == home
    assert os.environ["LC_ALL"] == "C.UTF-8"


def test_ctrl_c_is_not_ignored() -> None:
    """Programs under test can be interrupted, however the suite was started."""
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_ssh_runs_a_command_in_a_home_of_its_own(sshd: Sshd) -> None:
    """The server lets the test's key in, runs what it is told, and its sessions see no real home."""
    done = _ssh(sshd, "true && printenv HOME")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{sshd.home}\n", "")


def test_git_reads_a_repository_over_ssh(sshd: Sshd, tmp_path: Path) -> None:
    """`ssh_command` is all that git needs to reach a repository on the server."""
    bare = tmp_path / "bare.git"

    def git(*words: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        argv = ["git", "-C", str(bare), *identity, *words]
        return subprocess.run(argv, input="", capture_output=True, text=True, check=True).stdout.strip()

    bare.mkdir()
    git("init", "-q", "--bare")
    committed = git("commit-tree", "-m", "one", git("mktree"))
    git("update-ref", "refs/heads/ledger", committed)
    listed = subprocess.run(
        ["git", "ls-remote", sshd.url(bare), "refs/heads/ledger"],
        env={**os.environ, "GIT_SSH_COMMAND": sshd.ssh_command()},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert listed.stdout.split() == [committed, "refs/heads/ledger"], listed.stderr


def test_a_host_key_that_is_not_known_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    """The client configuration trusts the server by its key alone."""
    empty = tmp_path / "known_hosts"
    empty.touch()
    argv = ["ssh", "-F", str(sshd.config_file), "-o", f"UserKnownHostsFile={empty}", sshd.host, "true"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


@pytest.mark.usefixtures("sshd")
def test_ending_a_server_ends_its_sessions(tmp_path: Path) -> None:
    """A session that is still open when the fixture ends does not outlive it."""
    with start_sshd(tmp_path) as server:
        client = subprocess.Popen(
            ["ssh", "-F", str(server.config_file), server.host, "echo $$; exec sleep 600"],
            stdout=subprocess.PIPE,
        )
        assert client.stdout is not None
        command = int(client.stdout.readline())
        processes = psutil.Process(server.pid).children(recursive=True)
        assert command in [process.pid for process in processes]
    client.wait(timeout=10)
    client.stdout.close()
    _gone, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []

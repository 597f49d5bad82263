"""Children: commands that run side by side, and of which nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.edge.children import Child, SystemChildren
from pipeline.edge.clock import SystemClock
from pipeline.errors import CommandFailed


def until(true: Callable[[], object]) -> None:
    """Waits until something is true, or fails."""
    for _ in range(600):
        if true():
            return
        SystemClock().sleep(0.05)
    raise AssertionError("it did not come about within 30 s")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own."""
    return {
        **os.environ,
        "PIPELINE_HOME": str(tmp_path / "home"),
        "PIPELINE_MACHINE_LOCK": str(tmp_path / "machine.lock"),
        "PYTHONPATH": "",
    }


def ended(child: Child) -> int:
    """Waits for a child; returns its status."""
    until(lambda: child.status() is not None)
    status = child.status()
    assert status is not None
    return status


def holding(children: SystemChildren, env: dict[str, str], folder: Path) -> Child:
    """Starts a command that holds a lock and has a process below it; returns once that runs."""
    there = folder / "there"
    words = ["lock.run", "deploy", "--shell", "--command", f"touch {there}; sleep 300"]
    child = children.start(words, env, folder)
    until(lambda: there.exists() or child.status() is not None)
    assert there.exists(), child.news()
    return child


def test_a_command_runs_to_its_end(tmp_path: Path, env: dict[str, str]) -> None:
    """Output, messages and status of a task of the pipeline are told apart; each line is news once."""
    with SystemChildren() as children:
        child = children.start(["job.show", "job_none", "--json"], env, tmp_path / "out")
        assert ended(child) == 41
        assert b'"exit_code": 41' in child.output()
        assert any("No job job_none" in line for line in child.news())
        assert child.news() == []
        assert children.left() == 0


def test_what_is_below_a_killed_child_is_known(tmp_path: Path, env: dict[str, str]) -> None:
    """After SIGKILL of a child, what ran below it is still counted, until it has ended."""
    with SystemChildren() as children:
        child = holding(children, env, tmp_path / "out")
        below = child.below()
        assert len(below) >= 2
        assert children.living(below) == len(below)
        child.send(signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        until(lambda: children.living(below) == 0)
        assert children.left() == 0


def test_nothing_is_left_at_the_end(tmp_path: Path, env: dict[str, str]) -> None:
    """Leaving ends whatever still runs, a child that is stopped included, and whatever is below it."""
    with SystemChildren() as children:
        child = holding(children, env, tmp_path / "out")
        below = child.below()
        child.send(signal.SIGSTOP)
        assert children.left() == len(below) + 1
    assert children.living(below) == 0
    assert child.status() is not None


def test_what_was_there_before_is_left_alone(tmp_path: Path, env: dict[str, str]) -> None:
    """A process that this one had started before counts for nothing, and lives on."""
    with subprocess.Popen(["sleep", "300"]) as other:
        try:
            with SystemChildren() as children:
                holding(children, env, tmp_path / "out")
                assert children.left() >= 3
            assert other.poll() is None
        finally:
            other.kill()


def test_a_command_that_cannot_be_started(tmp_path: Path, env: dict[str, str]) -> None:
    """A folder that cannot be written is an error that names the command."""
    (tmp_path / "out").touch()
    with SystemChildren() as children, pytest.raises(CommandFailed, match=r"`job\.list` cannot be started"):
        children.start(["job.list"], env, tmp_path / "out")

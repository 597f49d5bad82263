"""Standard streams as cron, containers and pipes leave them: closed, in a strange encoding, or unread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from pipeline.console.program import main; main()"]


def run(home: Path, *words: str, shell: str = '"$@"', **more: str) -> subprocess.CompletedProcess[str]:
    """Runs one command as a process of its own, in a line of shell that may redirect it."""
    environment = {**os.environ, "PIPELINE_MACHINE_LOCK": str(home / "lock"), **more}
    return subprocess.run(
        ["sh", "-c", shell, "sh", *COMMAND, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(home: Path, closed: str) -> None:
    """A command works with any stream closed, and no file that it opens takes a stream's number."""
    done = run(home, "sm", "2", "hello", shell=f'"$@" {closed}')
    assert (done.returncode, done.stderr) == (0, "")
    checked = run(home, "ledger.check")
    assert checked.returncode == 0, checked.stdout


def test_another_encoding_is_no_error(home: Path) -> None:
    """What a terminal has no signs for is shown as escapes; JSON stays JSON."""
    strange = {"PYTHONIOENCODING": "ascii", "PIPELINE_WORK": str(home / "wörk")}
    shown = run(home, "config", **strange)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "w\\xf6rk" in shown.stdout
    printed = json.loads(run(home, "config", "--json", **strange).stdout)
    assert str(home / "wörk") in {row["value"] for row in printed["settings"]}


def test_progress_without_a_reader_ends_nothing(home: Path) -> None:
    """Whoever read stderr goes away: what was begun is finished, and the result is printed."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*COMMAND, "build", "--branch", "ExternalNwe", "--json"],
            cwd=ROOT,
            env={**os.environ, "PIPELINE_MACHINE_LOCK": str(home / "lock")},
            stdout=subprocess.PIPE,
            stderr=write,
        )
    finally:
        os.close(write)
    assert done.returncode == 51
    assert json.loads(done.stdout)["error"]["name"] == "BranchNotFound"

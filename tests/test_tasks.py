"""The tasks as invoke loads them: quick to list, and explained in full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.tasks import Task

from pipeline.console.program import load_tasks

ROOT = Path(__file__).resolve().parents[1]
TASKS = load_tasks().namespace

#: What takes long to load, and what listing tasks has no use for.
HEAVY = {"fabric", "pydantic", "rich", "sqlite3", "psutil", "paramiko", "stamina", "uuid_utils"}

_LIST = """
import sys
from {module} import {name}
try:
    {name}().run(["x", "--list"]) if {called} else {name}.run(["x", "--list"])
except SystemExit:
    pass
print("LOADED", *sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


@pytest.mark.parametrize(
    ("module", "name", "called"),
    [("invoke.main", "program", False), ("pipeline.console.program", "program", True)],
)
def test_listing_loads_nothing_heavy(module: str, name: str, called: bool) -> None:
    """`--list` loads neither pydantic, rich, fabric nor sqlite3, as `invoke` and as `pipeline`."""
    code = _LIST.format(module=module, name=name, called=called)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert "  build " in done.stdout
    assert not HEAVY & set(lines[-1].split())


@pytest.mark.parametrize("forbidden", [False, True])
def test_what_is_compiled_is_kept(tmp_path: Path, forbidden: bool) -> None:
    """A command compiles the pipeline's modules once and for all, unless Python was told to keep nothing."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTHONPYCACHEPREFIX": str(tmp_path / "compiled"), "PIPELINE_HOME": str(tmp_path / "home")}
    words = [sys.executable, *(["-B"] if forbidden else []), "-m", "invoke", "config"]
    subprocess.run(words, cwd=ROOT, env=env, capture_output=True, check=True)
    kept = [*(tmp_path / "compiled").rglob("pipeline/operations/configuration.*.pyc")]
    assert len(kept) == (not forbidden)


@pytest.mark.parametrize("name", sorted(TASKS.task_names))
def test_every_parameter_is_explained(name: str) -> None:
    """Each task says in one line what it does, and each of its parameters what it means."""
    task: Task = TASKS[name]
    first = (task.__doc__ or "").strip().splitlines()[0]
    assert first.endswith(".")
    assert len(first) <= 110
    unexplained = [argument.name for argument in task.get_arguments() if not argument.help]
    assert unexplained == []


def test_tasks_that_read_have_json() -> None:
    """Every task that shows something shows it as JSON too."""
    without = {
        name
        for name in TASKS.task_names
        if "json" not in {argument.name for argument in TASKS[name].get_arguments()}
    }
    # These print an id or a sentence, or what a program prints.
    writing = {"ledger.init", "lock.break", "lock.run", "message.send", "message.read", "message.ack", "sm"}
    assert without == writing


@pytest.mark.parametrize(
    ("words", "positional"),
    [
        ("job.show", ["id"]),
        ("job.log", ["id"]),
        ("job.cancel", ["id"]),
        ("job.retry", ["id"]),
        ("lock.break", ["name"]),
        ("lock.run", ["name"]),
        ("message.show", ["id"]),
        ("message.read", ["ids"]),
        ("message.ack", ["ids"]),
        ("sm", ["to", "text"]),
    ],
)
def test_ids_need_no_flag(words: str, positional: list[str]) -> None:
    """What a task is about is given as a word, without an option's name."""
    arguments = TASKS[words].get_arguments()
    assert [argument.name for argument in arguments if argument.positional] == positional


def test_a_pipe_that_closes_early_is_no_error(home: Path) -> None:
    """A reader that goes away ends a command, without a complaint on stderr."""
    environment = {**os.environ, "PIPELINE_MACHINE_LOCK": str(home / "lock")}
    words = [sys.executable, "-c", "from pipeline.console.program import main; main()", "config"]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            words, cwd=ROOT, env=environment, stdout=write, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_behind_stdout_is_said(home: Path) -> None:
    """Output that cannot be written ends with words and the code for a file that failed."""
    environment = {**os.environ, "PIPELINE_MACHINE_LOCK": str(home / "lock")}
    words = [sys.executable, "-c", "from pipeline.console.program import main; main()", "config", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            words, cwd=ROOT, env=environment, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 33
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr

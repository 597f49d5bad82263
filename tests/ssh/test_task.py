"""`invoke compare` as a program: two servers, its exit codes, and what it prints where."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ssh.servers import Builder, configured

ROOT = Path(__file__).resolve().parents[2]


def invoke(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs a task of this checkout."""
    argv = [sys.executable, "-m", "invoke", *words]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_two_builders_by_name(builders: tuple[Builder, Builder], home: Path) -> None:
    """In a checkout that has folders of these names, the builders are meant; results alone are on stdout."""
    one, two = builders
    assert (ROOT / "build1").is_dir()
    configured(home, build1=one, build2=two)
    done = invoke("compare", "--left", "build1", "--right", "build2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["verdict"], found["left"], found["right"]) == ("AGREE", "build1", "build2")
    assert found["wire"]["round_trips"] == 1
    assert "Connecting to build1 and build2" in done.stderr


def test_a_refusal_has_its_exit_code_and_its_remedy(builders: tuple[Builder, Builder]) -> None:
    """An unknown host key ends with 93, says what to do, and leaves standard output empty."""
    one, two = builders
    two.knows("")
    done = invoke("compare", "--left", one.place, "--right", two.place)
    assert (done.returncode, done.stdout) == (93, "")
    assert "ssh-keyscan" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("word", ["build2", "nobody", "-oProxyCommand=touch:/x"])
def test_a_side_that_cannot_be_meant_is_refused(word: str, tmp_path: Path) -> None:
    """A builder without a folder, nobody, an option: refused before anybody is connected to."""
    done = invoke("compare", "--left", str(tmp_path), f"--right={word}")
    assert (done.returncode, done.stdout) == (2, "")
    assert repr(word.partition(":")[0]) in done.stderr


def test_listing_tasks_knows_nothing_of_ssh() -> None:
    """What is slow to load is loaded by whoever needs it."""
    code = (
        "import sys, tasks, pipeline.runtime; print([m for m in sys.modules if m in ('fabric', 'paramiko')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

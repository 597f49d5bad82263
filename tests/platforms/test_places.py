"""The main job where nothing is as usual: a user without rights, a home, a locale; paths that need quoting.

Under root the user is one that the system does not know; everybody else is himself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 987_654
#: Through a shell: what setpriv itself starts, it still finds with root's rights.
AS_NOBODY = [
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "sh",
    "-c",
    'exec "$@"',
    "sh",
]
pytestmark = [
    pytest.mark.maven,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("mvn") is None, reason="Maven is not installed: ./bootstrap installs it"),
]


class Place:
    """A checkout that its user may not write, in a folder with a space and a letter of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)
        self.checkout = folder / "a ö b" / "checkout"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs")
        shutil.copytree(ROOT, self.checkout, ignore=ignored)
        self.own = folder / "own"
        self.temporary = self.own / "t m p"
        self.temporary.mkdir(parents=True)
        self.user: list[str] = []
        self.python = sys.executable
        if os.geteuid() == 0:
            for path in (self.own, self.temporary):
                os.chown(path, NOBODY, NOBODY)
            self.user = AS_NOBODY
            self.python = _python_for_others()
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": "/nonexistent/home",
            "LC_ALL": "tr_TR.UTF-8",
            "LANG": "de_DE",
            "TZ": "Asia/Kathmandu",
            "TMPDIR": str(self.temporary),
            "TERM": "dumb",
            "XDG_RUNTIME_DIR": "/run/user/0",
            "PYTHONPATH": sysconfig.get_path("purelib"),
            "PIPELINE_HOME": str(self.own / "pipeline"),
            "PIPELINE_MACHINE_LOCK": str(self.own / "lock"),
        }

    def invoke(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs one task with nothing on standard input, and files that only their owner may read."""
        line = ["sh", "-c", 'umask 077; exec "$@" <&-', "sh"]
        return subprocess.run(
            [*self.user, *line, self.python, "-m", "invoke", *words],
            cwd=self.checkout,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
        )


def _python_for_others() -> str:
    """Returns a Python that any user may run and that takes this environment's modules, or skips the test."""
    wanted = "{}.{}".format(*sys.version_info)
    for program in (sys.executable, "/usr/bin/python3"):
        words = [program, "-c", "import sys, pydantic; print('{}.{}'.format(*sys.version_info))"]
        modules = {"PYTHONPATH": sysconfig.get_path("purelib")}
        try:
            done = subprocess.run([*AS_NOBODY, *words], env=modules, capture_output=True, text=True)
        except OSError:
            continue
        if done.stdout.strip() == wanted:
            return program
    pytest.skip(f"no Python {wanted} that another user may run")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Not below pytest's own folder, which is closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="pipeline-places-", dir="/var/tmp"))
    try:
        yield Place(folder)
    finally:
        shutil.rmtree(folder)


def test_a_stranger_in_a_strange_place(place: Place) -> None:
    """Packages, two commits, and nothing left: no process, no file outside what this user was given."""
    done = place.invoke("build", "--branch", "ExternalNew", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len([a for a in report["artifacts"] if a["name"].endswith(".deb")]) == 6
    assert report["ledger"] == {"commits": 2, "pushes": 2}
    assert "the ledger holds" in place.invoke("ledger.check").stdout
    assert list(place.temporary.iterdir()) == []
    assert not list(place.checkout.rglob(".pipeline"))
    assert not Path("/nonexistent").exists()
    modes = {path.stat().st_mode & 0o077 for path in (place.own / "pipeline").iterdir()}
    assert modes == {0}
    if place.user:
        assert [p.info for p in psutil.process_iter(["pid", "uids"]) if p.info["uids"].real == NOBODY] == []


def test_what_this_user_cannot_have_is_said(place: Place) -> None:
    """A home and a lock that cannot be written are named, each with the setting that puts it elsewhere."""
    kept = place.invoke("status", PIPELINE_HOME=str(place.checkout / ".pipeline"))
    if place.user:
        assert kept.returncode == 33
        assert f"`{place.checkout / '.pipeline'}`: Permission denied" in kept.stderr
        assert "Set $PIPELINE_HOME" in kept.stderr
    lock = place.invoke("build", "--branch", "ExternalNew", PIPELINE_MACHINE_LOCK="/proc/nowhere/lock")
    assert lock.returncode == 31
    assert "Set `machine_lock`" in lock.stderr

"""What every test has: an empty home, a scrubbed environment, and on request a real sshd on loopback."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.sshd import Sshd, sshd_program, start_sshd

settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# A suite started in the background or by nohup ignores these, and so would every program under test.
for each, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(each) is signal.SIG_IGN:
        signal.signal(each, usual)

#: What steers git, the pipeline, Maven or a locale from outside, by the start of its name.
STEERING = ("GIT_", "PIPELINE_", "BOOTSTRAP_", "XDG_", "LC_", "MAVEN_", "DEB_", "DEBIAN_", "DH_")
STEERING_NAMES = frozenset({"LANG", "LANGUAGE", "SERVER_ID", "MAKEFLAGS", "SOURCE_DATE_EPOCH", "NO_COLOR"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--size`: how much of the simulated cluster runs."""
    parser.addoption(
        "--size",
        choices=("small", "medium", "large"),
        default="small",
        help="how much of the simulated cluster to run: seconds, minutes or hours",
    )


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> str:
    """How much to run: `small`, `medium` or `large`."""
    value: str = pytestconfig.getoption("--size")
    return value


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HOME, and an environment in which nothing steers git or the pipeline.

    The pipeline's own folder would be the one of this checkout otherwise, with a developer's ledger in it.
    """
    folder = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(STEERING) or name in STEERING_NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PIPELINE_HOME", str(folder / ".pipeline"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    return folder


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A real sshd on loopback, of this worker alone, for the whole session."""
    if sshd_program() is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    with start_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server

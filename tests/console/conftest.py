"""Commands run in this process, each test with a home and a machine of its own, or all with the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.console.driver import Run


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A runner of command lines over an embedded default of its own."""
    monkeypatch.setenv("PIPELINE_MACHINE_LOCK", str(home / "machine.lock"))
    monkeypatch.setenv("PIPELINE_PATIENCE_SECONDS", "5")
    monkeypatch.chdir(home)
    return Run(capsys)


@pytest.fixture(scope="session")
def common_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of all tests of this worker that only ask and are refused."""
    return tmp_path_factory.mktemp("common") / ".pipeline"


@pytest.fixture
def ask(run: Run, common_home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A runner over the one home: making a ledger costs more than asking it."""
    monkeypatch.setenv("PIPELINE_HOME", str(common_home))
    return run

"""The installed wheel: what was in the checkout and is needed travels along, and no checkout is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.builds.sample import sample_digest
from pipeline.console.program import load_tasks

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.timeout(600)]


class Installed:
    """A fresh environment with the wheel in it, and an empty directory to work in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "empty"
        self.home = folder / "home"
        self.folder.mkdir()
        self.home.mkdir()
        wheels = folder / "wheels"
        self._run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", wheels, ROOT])
        self._run([sys.executable, "-m", "venv", folder / "venv"])
        self.python = folder / "venv" / "bin" / "python"
        self._run([self.python, "-m", "pip", "install", "--quiet", *wheels.glob("*.whl")])

    def pipeline(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs the console script."""
        return self._run([self.python.with_name("pipeline"), *words])

    def _run(self, words: list[str | Path]) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
        environment |= {"HOME": str(self.home), "PIPELINE_MACHINE_LOCK": str(self.home / "lock")}
        done = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_the_same_tasks(installed: Installed) -> None:
    """`pipeline --list` names every task of the checkout."""
    listed = json.loads(installed.pipeline("--list", "--list-format=json").stdout)

    def names(collection: dict[str, object], prefix: str = "") -> set[str]:
        tasks, inner = collection["tasks"], collection["collections"]
        assert isinstance(tasks, list)
        assert isinstance(inner, list)
        found = {prefix + task["name"] for task in tasks}
        return found.union(*(names(each, f"{prefix}{each['name']}.") for each in inner))

    assert names(listed) == set(load_tasks().namespace.task_names)


def test_the_same_demonstration(installed: Installed) -> None:
    """What `cluster --demo` builds, and its stand-ins for Maven and the JDK, have the checkout's bytes."""
    code = "from pipeline.builds.sample import sample_root; print(sample_root() / 'demo')"
    words = [installed.python, "-c", code]
    done = subprocess.run(words, cwd=installed.folder, check=True, capture_output=True, text=True)
    own, there = ROOT / "sample" / "demo", Path(done.stdout.strip())
    assert not there.is_relative_to(ROOT)
    shipped = {path.relative_to(own): path.read_bytes() for path in own.rglob("*") if path.is_file()}
    assert {
        path.relative_to(there): path.read_bytes() for path in there.rglob("*") if path.is_file()
    } == shipped
    assert Path("stand-ins/mvn") in shipped


def test_the_same_sample_and_recipes(installed: Installed) -> None:
    """The sample has the checkout's digest, and each shipped recipe its bytes."""
    code = (
        "from pipeline.builds.sample import sample_digest, sample_root\n"
        "from pipeline.operations.prepare import recipe_folder\n"
        "print(sample_digest(sample_root()))\n"
        "print(recipe_folder())\n"
    )
    done = subprocess.run(
        [installed.python, "-c", code], cwd=installed.folder, check=True, capture_output=True, text=True
    )
    digest, recipes = done.stdout.splitlines()
    assert digest == sample_digest(ROOT / "sample")
    own = ROOT / "shared" / "recipes"
    there = {path.relative_to(own): path.read_bytes() for path in own.rglob("*") if path.is_file()}
    assert len(there) >= 4
    assert {name: (Path(recipes) / name).read_bytes() for name in there} == there


@pytest.mark.maven
def test_a_build_from_an_empty_directory(installed: Installed) -> None:
    """The main job runs without a checkout, keeps its part in the user's data directory, and nothing here."""
    report = json.loads(installed.pipeline("build", "--branch", "ExternalNew", "--json").stdout)
    assert report["status"] == "succeeded"
    assert len([a for a in report["artifacts"] if a["name"].endswith(".deb")]) == 6
    assert Path(report["manifest"]).is_relative_to(installed.home / ".local/share/cloudstack-build-pipeline")
    assert list(installed.folder.iterdir()) == []
    assert "the ledger holds" in installed.pipeline("ledger.check").stdout

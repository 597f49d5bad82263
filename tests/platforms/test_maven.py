"""The main job with the Maven that is first on PATH: what is read out of its output, for every way to build.

`nox -s platforms` runs this with each Maven that users have. With the machine's own it is
`./bootstrap pytest tests/platforms/test_maven.py`.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = "Apache CloudStack Server"
BESIDE_SERVER = {"Apache CloudStack Agents", "Apache CloudStack Usage Server", "Apache CloudStack marvin"}

pytestmark = [
    pytest.mark.maven,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("mvn") is None, reason="Maven is not installed: ./bootstrap installs it"),
]


class Builder:
    """A builder with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.environment = {
            **os.environ,
            "PIPELINE_HOME": str(self.home),
            "PIPELINE_MACHINE_LOCK": str(folder / "machine.lock"),
        }

    def invoke(self, *words: str, status: int = 0) -> dict[str, Any]:
        """Runs one task that has to end with this exit code, and returns what it printed."""
        argv = (sys.executable, "-m", "invoke", *words, "--json")
        done = subprocess.run(
            argv, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=800
        )
        assert done.returncode == status, done.stdout + done.stderr
        printed: dict[str, Any] = json.loads(done.stdout)
        return printed

    def log(self, report: Mapping[str, Any]) -> str:
        """Returns the whole log of a build."""
        with gzip.open(Path(report["manifest"]).parent / "build.log.gz", "rt") as log:
            return log.read()


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """One builder for all of these tests: its cache is filled by the first."""
    return Builder(tmp_path_factory.mktemp("builder"))


@pytest.fixture(scope="module")
def built(builder: Builder) -> dict[str, Any]:
    """The first build, from nothing."""
    return builder.invoke("build", "--branch", "ExternalNew")


def modules(report: Mapping[str, Any]) -> dict[str, str]:
    """Returns the status of each module."""
    return {module["name"]: module["status"] for module in report["modules"]}


def test_this_maven_makes_all_packages(builder: Builder, built: dict[str, Any]) -> None:
    """Twelve modules, each with its time; six packages; and the Maven that ran is the first one on PATH."""
    assert list(modules(built).values()) == ["success"] * 12
    assert all(module["duration_seconds"] > 0 for module in built["modules"])
    assert len([a for a in built["artifacts"] if a["name"].endswith(".deb")]) == 6
    tools = json.loads(Path(built["manifest"]).read_bytes())["recipe"]["toolchain"]
    program = shutil.which("mvn")
    assert program is not None
    asked = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert f"Apache Maven {tools['maven']}" in asked
    assert f"Maven home: {tools['maven_home']}" in asked
    # Maven 3.9 began to name plugins by their prefix: so the log tells which one really ran.
    new = tuple(int(part) for part in tools["maven"].split(".")[:2]) >= (3, 9)
    assert ("--- clean:" in builder.log(built), "--- maven-clean-plugin:" in builder.log(built)) == (
        new,
        not new,
    )


def test_a_second_build_needs_no_network(
    builder: Builder, built: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the first build fetched is in the cache: with no repository to ask, the next one comes through."""
    monkeypatch.setitem(builder.environment, "PIPELINE_MAVEN_MIRROR", f"file://{tmp_path}/nothing")
    assert builder.invoke("build", "--branch", "other")["status"] == "succeeded"
    monkeypatch.setitem(builder.environment, "PIPELINE_CACHE", str(tmp_path / "empty"))
    error = builder.invoke("build", "--branch", "other", status=60)["error"]
    assert "dependencies: " in error["message"]


def test_a_compile_error_keeps_going_beside_the_module(builder: Builder, built: dict[str, Any]) -> None:
    """`--keep-going` builds what does not depend on the failed module; class, module and place are told."""
    report = builder.invoke("build", "--branch", "fails-compile", "--keep-going", status=74)
    failure = report["failure"]
    assert (failure["class"], failure["module"]) == ("compile", SERVER)
    assert failure["message"].startswith(
        "server/src/main/java/org/apache/cloudstack/server/CapacityManager.java:[27"
    )
    assert "volume()" in failure["message"]
    seen = modules(report)
    assert seen[SERVER] == "failed"
    assert {seen[name] for name in BESIDE_SERVER} == {"success"}
    assert seen["Apache CloudStack Client UI"] == "skipped"
    assert builder.log(report).splitlines()[failure["line"] - 1].endswith("cannot find symbol")


def test_a_failed_test_is_told_as_one(builder: Builder, built: dict[str, Any]) -> None:
    """The test, its line, what it expected; and every module after it is skipped."""
    report = builder.invoke("build", "--branch", "fails-test", status=75)
    failure = report["failure"]
    assert (failure["class"], failure["module"]) == ("test", "Apache CloudStack Utils")
    assert failure["message"].startswith("ByteSizeTest.writesTheLargestUnit:23 ")
    assert list(modules(report).values()) == ["success", "failed", *["skipped"] * 10]


def test_a_failed_packaging_goes_on_after_maven(builder: Builder, built: dict[str, Any]) -> None:
    """`job.retry --resume` packs what Maven left: the second attempt starts no Maven."""
    report = builder.invoke("build", "--branch", "fails-packaging", status=76)
    assert report["failure"]["class"] == "package"
    assert "cloud-agent-guide" in report["failure"]["message"]
    assert list(modules(report).values()) == ["success"] * 12
    builder.invoke("job.retry", report["job_id"], "--resume")
    again = builder.invoke("work", "--once", status=76)
    assert again["failure"]["class"] == "package"
    assert "maven" not in {stage["name"] for stage in again["stages"]}
    assert again["modules"] == []


def test_without_packages_maven_installs(builder: Builder, built: dict[str, Any]) -> None:
    """`--no-packages` ends after `install`, into the job's own repository, and keeps the jars."""
    report = builder.invoke("build", "--branch", "ExternalNew", "--no-packages")
    assert {stage["name"] for stage in report["stages"]} == {"source", "maven", "artifacts"}
    assert list(modules(report).values()) == ["success"] * 12
    assert "Installing /" in builder.log(report)
    assert not list((builder.home / "cache" / "maven").rglob("*-SNAPSHOT"))


def test_two_threads_are_told_apart(builder: Builder, built: dict[str, Any], tmp_path: Path) -> None:
    """With -T the modules run side by side; each has its own time, and they end as without."""
    sample = json.loads((ROOT / "shared/recipes/sample.json").read_bytes())
    recipe = tmp_path / "threads.json"
    recipe.write_text(json.dumps({**sample, "parallel_builds": 2}))
    report = builder.invoke("build", "--branch", "ExternalNew", "--recipe", str(recipe))
    assert list(modules(report).values()) == ["success"] * 12
    assert all(module["duration_seconds"] > 0 for module in report["modules"])
    broken = builder.invoke("build", "--branch", "fails-compile", "--recipe", str(recipe), status=74)
    assert (broken["failure"]["class"], broken["failure"]["module"]) == ("compile", SERVER)


def test_a_dependency_that_exists_nowhere_is_known_before(builder: Builder, built: dict[str, Any]) -> None:
    """This Maven's way to Central is known to preflight, which refuses the branch before Maven starts."""
    error = builder.invoke("build", "--branch", "fails-dependency", status=60)["error"]
    assert "in no repository: invalid.example:nowhere-to-be-found:1.0.0" in error["message"]

"""The main job as a stranger runs it: real git, real Maven, real dpkg, on the embedded sample."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"agent", "common", "management", "marvin", "ui", "usage"}

pytestmark = [
    pytest.mark.maven,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("main-job"),
    pytest.mark.skipif(shutil.which("mvn") is None, reason="Maven is not installed: ./bootstrap installs it"),
]


def invoke(home: Path, *words: str, seconds: float = 500, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs one task in the checkout, as a process of its own."""
    environment = {
        **os.environ,
        "PIPELINE_HOME": str(home),
        "PIPELINE_MACHINE_LOCK": str(home.parent / "machine.lock"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **more,
    }
    words = (sys.executable, "-m", "invoke", *words)
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    """One build of ExternalNew from nothing, and what it printed."""
    home = tmp_path_factory.mktemp("main") / "home"
    done = invoke(home, "build", "--branch", "ExternalNew", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return home, report


def test_a_branch_becomes_packages(built: tuple[Path, Mapping[str, Any]]) -> None:
    """Every package is there, dpkg-deb reads it, and its digest is the manifest's."""
    _, report = built
    folder = Path(report["manifest"]).parent
    debs = {a["name"]: a for a in report["artifacts"] if a["name"].endswith(".deb")}
    assert {name.split("_")[0].removeprefix("cloudstack-") for name in debs} == PACKAGES
    assert report["status"] == "succeeded"
    assert report["failure"] is None
    assert {stage["name"] for stage in report["stages"]} >= {"source", "maven", "packages"}
    for name, artifact in debs.items():
        subprocess.run(["dpkg-deb", "--info", folder / name], check=True, capture_output=True)
        subprocess.run(["dpkg-deb", "--contents", folder / name], check=True, capture_output=True)
        digest = subprocess.run(["sha256sum", folder / name], check=True, capture_output=True, text=True)
        assert digest.stdout.split()[0] == artifact["sha256"]


def test_a_build_costs_two_commits(built: tuple[Path, Mapping[str, Any]]) -> None:
    """The ledger has its beginning, the claim and the completion, and nothing else; all of it holds."""
    home, report = built
    log = subprocess.run(
        ["git", "--git-dir", home / "ledger.git", "log", "--format=%s", "ledger"],
        check=True,
        capture_output=True,
        text=True,
    )
    kinds = [line.split(" ")[1] for line in log.stdout.splitlines()]
    assert kinds == ["job.complete", "job.start", "the"]
    assert report["ledger"] == {"commits": 2, "pushes": 2}
    checked = invoke(home, "ledger.check", "--json")
    assert checked.returncode == 0, checked.stdout
    assert json.loads(checked.stdout)["findings"] == []


def test_the_peers_are_told_and_the_machine_is_free(built: tuple[Path, Mapping[str, Any]]) -> None:
    """After the build no lock is held, the status says what was built, and a message went to all."""
    home, report = built
    assert json.loads(invoke(home, "lock.list", "--json").stdout) == {"locks": [], "waiters": []}
    status = json.loads(invoke(home, "status", "--json").stdout)
    here = next(b for b in status["builders"] if b["name"] == "build1")
    assert here["status"]["last_build"]["id"] == report["job_id"]
    messages = json.loads(invoke(home, "message.list", "--json").stdout)
    assert [m["subject"].split(":")[0] for m in messages] == ["Succeeded"]


def test_the_packages_install(built: tuple[Path, Mapping[str, Any]], tmp_path: Path) -> None:
    """`dpkg -i` unpacks and configures them in a scratch root that knows no other package."""
    if os.geteuid() != 0:
        pytest.skip("dpkg --root needs root")
    _, report = built
    debs = sorted(Path(report["manifest"]).parent.glob("*.deb"))
    root = tmp_path / "root"
    for folder in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "var/log", "etc", "usr/bin", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    # There is no shell in that root: the maintainer scripts run outside it, and are told where it is.
    words = [
        "dpkg",
        f"--root={root}",
        "--force-depends",
        "--force-script-chrootless",
        "--install",
        *map(str, debs),
    ]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "DPKG_ROOT": str(root)})
    assert done.returncode == 0, done.stdout + done.stderr
    listed = subprocess.run(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show", "--showformat", "${Package} ${Status}\n"],
        check=True,
        capture_output=True,
        text=True,
    )
    states = dict(line.split(" ", 1) for line in listed.stdout.splitlines())
    assert states == {f"cloudstack-{name}": "install ok installed" for name in PACKAGES}


def test_a_flipped_byte_is_found(built: tuple[Path, Mapping[str, Any]]) -> None:
    """`artifacts.verify` passes what was built, and names the one file that was changed afterwards."""
    home, report = built
    assert invoke(home, "artifacts.verify").returncode == 0
    victim = next(iter(sorted(Path(report["manifest"]).parent.glob("*.deb"))))
    before = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(before[:100] + bytes([before[100] ^ 1]) + before[101:])
    try:
        found = invoke(home, "artifacts.verify", "--json")
    finally:
        victim.write_bytes(before)
    assert found.returncode == 85
    (problems,) = json.loads(found.stdout).values()
    assert [problem["path"] for problem in problems] == [victim.name]


def test_a_compile_error_is_told_as_one(built: tuple[Path, Mapping[str, Any]]) -> None:
    """A branch that does not compile ends with the class, the module, the line and a terminal state."""
    home, _ = built
    done = invoke(home, "build", "--branch", "fails-compile", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 74, done.stderr
    assert report["failure"]["class"] == "compile"
    assert report["failure"]["module"] == "Apache CloudStack Server"
    jobs = json.loads(invoke(home, "job.list", "--json").stdout)
    assert [(j["status"], j["outcome"]) for j in jobs if j["id"] == report["job_id"]] == [
        ("failed", "failed")
    ]
    assert json.loads(invoke(home, "lock.list", "--json").stdout) == {"locks": [], "waiters": []}


def test_an_unknown_branch_is_refused_before_anything_is_recorded(
    built: tuple[Path, Mapping[str, Any]],
) -> None:
    """A misspelt branch ends with its own exit code, near names, and no new commit."""
    home, _ = built
    tip = json.loads(invoke(home, "status", "--json").stdout)["tip"]
    done = invoke(home, "build", "--branch", "ExternalNwe")
    assert done.returncode == 51
    assert "ExternalNew" in done.stderr
    assert json.loads(invoke(home, "status", "--json").stdout)["tip"] == tip


def test_a_second_builder_makes_the_same(built: tuple[Path, Mapping[str, Any]]) -> None:
    """`compare` after the first build has build2 build it elsewhere, as another user, and both agree."""
    home, report = built
    compared = ("compare", "--branch", "ExternalNew", "--json")
    done = invoke(home, *compared)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["verdict"], found["scope"], found["independent"]) == ("AGREE", "builds", False)
    assert found["left_build"]["job_id"] == report["job_id"]
    assert found["right_build"]["builder"] == "build2"
    packages = {each["name"].split("_")[0].removeprefix("cloudstack-") for each in found["artifacts"]}
    assert packages == PACKAGES
    varied = {each["name"] for each in found["environment"]}
    assert {"folder", "timezone"} <= varied
    if "user and host name stay the same" not in done.stderr:
        assert {"user", "host"} <= varied
    jobs = invoke(home, "job.list", "--json").stdout
    assert json.loads(invoke(home, *compared).stdout)["verdict"] == "AGREE"
    assert invoke(home, "job.list", "--json").stdout == jobs

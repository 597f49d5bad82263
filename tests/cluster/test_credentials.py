"""A whole build from a source behind a password, as a real process, which leaves the password nowhere."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builds.test_credentials import publish
from tests.builds.web import SECRETS, serve_with_password
from tests.builds.web import Host as GitHost
from tests.cluster.tiny import BRANCH, Host


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[GitHost, Host]]:
    """A git host that has the tiny tree, and a builder that knows its password by a setting."""
    with serve_with_password(tmp_path / "root") as git_host:
        host = Host(tmp_path / "host")
        publish(git_host, host.source, BRANCH)
        host.env["PIPELINE_SOURCE"] = git_host.address("tree.git")
        yield git_host, host
        host.unswitch()
        for pid in host.processes():
            os.kill(pid, signal.SIGKILL)


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yields what is below a folder: files, what is in compressed ones, the objects of repositories."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        yield str(path), data
        if path.suffix == ".gz":
            yield f"{path} (unpacked)", gzip.decompress(data)
        if path.name == "HEAD" and (path.parent / "objects").is_dir():
            words = ["git", "cat-file", "--batch", "--batch-all-objects"]
            yield str(path.parent), subprocess.run(words, cwd=path.parent, capture_output=True).stdout


def test_a_build_with_a_password_leaves_it_nowhere(hosts: tuple[GitHost, Host]) -> None:
    """Ledger, outbox, manifest, logs, journals, cache and artifacts lack it, and every command line."""
    git_host, host = hosts
    built = host.invoke("build", "--branch", BRANCH, "--json")
    assert built.code == 0, built.err
    seen = dict(contents(host.home))
    assert any(git_host.address("tree.git", password=False).encode() in data for data in seen.values())
    leaks = [name for name, data in seen.items() if any(secret.encode() in data for secret in SECRETS)]
    assert leaks == []
    assert not any(secret in built.out + built.err for secret in SECRETS)
    assert any(path.startswith("/library.git") for path in git_host.seen.accepted)
    assert git_host.seen.command_lines == set()


def test_a_job_from_the_queue_uses_this_machines_own(hosts: tuple[GitHost, Host]) -> None:
    """A job remembers no password: it is built where the setting `source` knows it, and fails elsewhere."""
    _, host = hosts
    first = host.invoke("build", "--branch", BRANCH, "--json")
    assert first.code == 0, first.err
    assert host.invoke("job.retry", first.json()["job_id"]).code == 0
    assert host.invoke("work", "--once").code == 0
    assert host.invoke("job.retry", first.json()["job_id"]).code == 0
    for place in host.home.glob("cache/sources/*"):  # what is cached needs no password
        subprocess.run(["rm", "-rf", str(place)], check=True)
    ended = host.invoke("work", "--once", "--json", PIPELINE_SOURCE="")
    assert (ended.code, ended.json()["failure"]["class"]) == (71, "source")
    assert "asks for credentials" in ended.json()["failure"]["message"]


def test_what_a_program_printed_is_masked_for_everybody(tmp_path: Path) -> None:
    """A failure shows no secret: not as JSON, on a terminal, in the ledger; the raw log stays as it is."""
    host = Host(tmp_path / "host")
    secret = "s3cr3t-horse-battery"
    goal = "Failed to execute goal org.example:deploy:1.0:put (default) on project tiny-core"
    host.switch("say", value=f"[ERROR] {goal}: server said: password={secret}\n")
    host.switch("fail-maven")
    told = [host.invoke("build", "--branch", BRANCH, *words) for words in (("--json",), ())]
    assert {ended.code for ended in told} == {70}
    failure = told[0].json()["failure"]
    assert failure["message"].endswith("server said: password=*****")
    assert failure["message"] in told[1].out
    assert not any(secret in ended.out + ended.err for ended in told)
    host.unswitch()
    leaks = {Path(name).name for name, data in contents(host.home) if secret.encode() in data}
    assert leaks == {"raw.log", "build.log.gz (unpacked)"}

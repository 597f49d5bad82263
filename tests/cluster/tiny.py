"""A machine of a test's own with a tree that builds in a second: real processes, real packaging, no Maven.

The tree's `debian/rules` runs a program called `mvn`, which stands first on PATH and prints what Maven
prints. Files in `switches` steer both while they run:

    hold-maven, hold-packaging   wait there while the file exists; `at-maven`, `at-packaging` say so
    fail-maven, fail-packaging   end with status 1
    daemon                       leave a process behind that has left session and environment
    say                          print what the file says before Maven ends
    noise                        print as many megabytes as the file says
    fill                         write a file of as many megabytes as the file says into the tree
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.coordination.adoption import adopt
from pipeline.coordination.reducer import REDUCER_VERSION, decide
from pipeline.edge.git_objects import TreeView, parse_commit
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.procfs import all_stats, descendants, environment_of
from pipeline.ledger.check import check_chain
from pipeline.ledger.history import Story, history
from pipeline.operations import site as sites
from pipeline.operations.history import validate
from pipeline.records.jobs import Job

ROOT = Path(__file__).resolve().parents[2]
BRANCH = "ExternalNew"
WAIT_SECONDS = 90.0

_MVN = """#!/bin/sh
case "$1" in -version|--version) echo "Apache Maven 3.8.7"; echo "Maven home: {home}"; exit 0;; esac
wait_while() {{
  test -e {switches}/hold-$1 || return 0
  : > {switches}/at-$1
  n=0; while [ -e {switches}/hold-$1 ] && [ $n -lt 1200 ]; do sleep 0.1; n=$((n+1)); done
}}
line() {{ echo "[INFO] $*"; }}
line "Scanning for projects..."
line "Reactor Build Order:"
line ""
line "Tiny Parent                                                        [pom]"
line "Tiny Core                                                          [jar]"
line ""
line "-----------------------< org.example:tiny >-----------------------"
line "Building Tiny Parent 1.0                                          [1/2]"
line "--------------------------------[ pom ]---------------------------------"
wait_while maven
if [ -e {switches}/daemon ]; then
  setsid env -i sh -c 'trap "" TERM HUP; exec sleep 300' > /dev/null 2>&1 < /dev/null &
  sleep 1.5
fi
if [ -e {switches}/noise ]; then
  yes "[INFO] $(printf 'x%.0s' $(seq 92))" | head -c "$(cat {switches}/noise)000000"; echo
fi
test -e {switches}/say && cat {switches}/say
if [ -e {switches}/fill ]; then
  head -c "$(cat {switches}/fill)000000" /dev/zero > filled || echo "cannot write" >&2
  sleep 5
fi
line "-----------------------< org.example:tiny-core >------------------------"
line "Building Tiny Core 1.0                                            [2/2]"
line "--------------------------------[ jar ]---------------------------------"
word=SUCCESS; test -e {switches}/fail-maven && word=FAILURE
mkdir -p core/target && echo jar > core/target/tiny-core-1.0.jar
line "------------------------------------------------------------------------"
line "Reactor Summary for Tiny Parent 1.0:"
line ""
line "Tiny Parent ........................................ SUCCESS [  0.010 s]"
line "Tiny Core .......................................... $word [  0.020 s]"
line "------------------------------------------------------------------------"
line "BUILD $word"
line "------------------------------------------------------------------------"
test $word = SUCCESS
"""

# ruff: noqa: E101
_RULES = """#!/usr/bin/make -f
build: build-stamp
build-stamp:
	mvn clean package $(ACS_BUILD_OPTS)
	touch build-stamp
build-arch build-indep: build
clean:
	rm -rf build-stamp debian/tiny core/target
binary: build
	if [ -e {switches}/hold-packaging ]; then : > {switches}/at-packaging; n=0; \\
	  while [ -e {switches}/hold-packaging ] && [ $$n -lt 1200 ]; do sleep 0.1; n=$$((n+1)); done; fi
	if [ -e {switches}/fail-packaging ]; then echo "cp: cannot stat 'nothing.jar': No such file"; exit 1; fi
	mkdir -p debian/tiny/DEBIAN debian/tiny/usr/share/tiny
	cp core/target/tiny-core-1.0.jar debian/tiny/usr/share/tiny/
	dpkg-gencontrol -ptiny -Pdebian/tiny
	dpkg-deb --root-owner-group -Znone --build debian/tiny ..
binary-arch binary-indep: binary
.PHONY: build build-arch build-indep clean binary binary-arch binary-indep
"""

_FILES = {
    "pom.xml": """<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>
<artifactId>tiny</artifactId><version>1.0</version><packaging>pom</packaging>
<modules><module>core</module></modules></project>
""",
    "core/pom.xml": """<project><modelVersion>4.0.0</modelVersion><parent><groupId>org.example</groupId>
<artifactId>tiny</artifactId><version>1.0</version></parent><artifactId>tiny-core</artifactId></project>
""",
    "debian/control": """Source: tiny
Section: libs
Priority: optional
Maintainer: Sample Author <sample@example.invalid>
Standards-Version: 4.6.2
Rules-Requires-Root: no

Package: tiny
Architecture: all
Description: one file
 To try a build pipeline on.
""",
    "debian/changelog": """tiny (1.0) unstable; urgency=low

  * The only version.

 -- Sample Author <sample@example.invalid>  Sun, 01 Jun 2025 00:00:00 +0000
""",
}


@dataclass(frozen=True)
class Ended:
    """A command that ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Returns what `--json` printed."""
        return json.loads(self.out)


@dataclass
class Facts:
    """What a ledger says at one moment, and what its whole chain shows."""

    jobs: list[Job]
    locks: list[str]
    status: str | None
    commits: int
    accepted: list[dict[str, Any]] = field(default_factory=list)
    late: int = 0
    told: int = 0
    problems: list[str] = field(default_factory=list)


class Host:
    """One builder: a home, a machine lock, an environment. Several may share a ledger and a source."""

    def __init__(self, folder: Path, *, builder: str = "build1", **settings: str) -> None:
        self.folder = folder
        self.switches = folder / "switches"
        self.home = folder / "home"
        self.builder = builder
        self.ledger = Path(settings.get("ledger", str(self.home / "ledger.git")))
        folder.mkdir(parents=True, exist_ok=True)
        self.switches.mkdir()
        maven = folder / "maven"
        (maven / "bin").mkdir(parents=True)
        program = maven / "bin" / "mvn"
        program.write_text(_MVN.format(home=maven, switches=self.switches))
        program.chmod(0o755)
        self.source = Path(settings.pop("source", "") or make_source(folder / "source", self.switches))
        recipe = {"minimum_disk_gb": 0, "minimum_memory_gb": 0, "maven_opts": "-Xmx64m"}
        recipe |= {"timeout_seconds": 120, **json.loads(settings.pop("recipe", "{}"))}
        (folder / "recipe.json").write_text(json.dumps(recipe))
        self.env = {
            **os.environ,
            "PATH": f"{maven / 'bin'}:{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(ROOT),
            "PIPELINE_HOME": str(self.home),
            "PIPELINE_MACHINE_LOCK": str(folder / "machine.lock"),
            "PIPELINE_SOURCE": str(self.source),
            "PIPELINE_RECIPE": str(folder / "recipe.json"),
            "PIPELINE_MAVEN_MIRROR": "file:///nonexistent",
            "PIPELINE_BUILDER": builder,
            **{f"PIPELINE_{name.upper()}": value for name, value in settings.items()},
        }

    # -- commands ------------------------------------------------------------------------------------

    def start(self, *words: str, wrapper: tuple[str, ...] = (), **env: str) -> subprocess.Popen[str]:
        """Starts `invoke` with these words, as a process of its own."""
        return self._start([*wrapper, sys.executable, "-m", "invoke", *words], env)

    def start_killed(self, point: str, branch: str = BRANCH, *more: str) -> subprocess.Popen[str]:
        """Starts a build that kills itself at a named point: see `killed`, also for `more`."""
        return self._start([sys.executable, "-m", "tests.cluster.killed", point, branch, *more], {})

    def _start(self, words: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
        out = (self.folder / f"out{time.monotonic_ns()}").open("w+")
        err = (self.folder / f"err{time.monotonic_ns()}").open("w+")
        # Files, not pipes: what a killed command leaves behind must not keep this process waiting.
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
        )
        process.stdout, process.stderr = out, err
        return process

    def invoke(self, *words: str, **env: str) -> Ended:
        """Runs `invoke` with these words to its end."""
        return finish(self.start(*words, **env))

    def switch(self, *names: str, value: str = "") -> None:
        """Turns switches on."""
        for name in names:
            (self.switches / name).write_text(value)

    def unswitch(self) -> None:
        """Turns all switches off."""
        for file in self.switches.iterdir():
            file.unlink(missing_ok=True)

    def wait_for(self, name: str, process: subprocess.Popen[str] | None = None) -> None:
        """Waits until a build says that it waits at a switch."""
        there = self.switches / name
        wait_until(lambda: there.exists() or (process is not None and process.poll() is not None))
        assert there.exists(), output(process) if process else name

    # -- what is there -------------------------------------------------------------------------------

    def facts(self) -> Facts:
        """Reads the ledger, all of its chain, in this process."""
        refs = GitRefs(self.folder / f"look{time.monotonic_ns()}.git", str(self.ledger))
        tip = refs.fetch()
        found = refs.read(tip) if tip else None
        assert tip is not None
        assert found is not None
        view = TreeView(refs.read, parse_commit(found.data).tree)
        stories = list(history(refs, tip, REDUCER_VERSION))
        status = sites.status(view, self.builder)
        facts = Facts(
            jobs=list(sites.jobs(view).jobs),
            locks=[lock.name for lock in sites.locks(view).locks],
            status=status.status if status else None,
            commits=len(stories) - 1,
        )
        for outcome in _completions(stories):
            if outcome.get("accepted"):
                facts.accepted.append(outcome)
            facts.late += bool(outcome.get("late"))
        messages = json.loads(view.read("coordination/messages.json") or b"{}").get("messages", [])
        facts.told = sum(m["subject"].startswith(("Succeeded", "Failed", "Cancelled")) for m in messages)
        checked, findings = check_chain(refs, tip, decide, adopt, REDUCER_VERSION, validate)
        facts.problems = [f.problem for f in findings]
        assert checked == len(stories)
        return facts

    def files(self, name: str) -> list[str]:
        """Returns the paths in the ledger that hold a name."""
        words = ["git", "--git-dir", str(self.ledger), "ls-tree", "-r", "--name-only", "ledger"]
        listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
        return [path for path in listed if name in path]

    def journals(self) -> list[dict[str, Any]]:
        """Reads the process journals of builds that run, or were killed, here."""
        found = []
        for place in self.home.glob("work/jobs/*/journal.json"):
            found.append(json.loads(place.read_text()))
        return found

    def processes(self, known: set[tuple[int, int]] | None = None) -> list[int]:
        """Returns the living processes of any build of this host: by marker, by descent, or known before."""
        stats = all_stats()
        home = str(self.folder).encode()
        mine = [
            s
            for s in stats.values()
            if s.state not in "ZX"
            and ((s.pid, s.start_ticks) in (known or set()) or _is_builds(environment_of(s.pid), home))
        ]
        found = {s.pid for s in mine}
        for stat in mine:
            found |= {below.pid for below in descendants(stat.pid, stats)}
        return sorted(found - {os.getpid()})

    def tree(self) -> set[tuple[int, int]]:
        """Returns (pid, start ticks) of watchdog, program and everything below them, as they run now."""
        stats = all_stats()
        found: set[tuple[int, int]] = set()
        for journal in self.journals():
            for pid in (journal["watchdog_pid"], journal["pid"]):
                if pid in stats:
                    found.add((pid, stats[pid].start_ticks))
                    found |= {(below.pid, below.start_ticks) for below in descendants(pid, stats)}
        return found

    def program_of(self, word: str) -> int:
        """Returns the pid of the process below a build's watchdog whose command line holds a word."""
        for pid, _ in sorted(self.tree()):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word in each.decode(errors="replace") for each in words[:2]):
                return pid
        raise AssertionError(f"no process {word}")


def _is_builds(environment: bytes, home: bytes) -> bool:
    entries = environment.split(b"\0")
    job = any(entry.startswith(b"PIPELINE_JOB=job_") for entry in entries)
    # With a fixed build path only PATH still names this host's folder.
    return job and any(entry.startswith(b"PATH=") and home in entry for entry in entries)


def _completions(stories: list[Story]) -> list[dict[str, Any]]:
    entries = [entry for story in stories if story.record for entry in story.record.entries]
    outcomes = [entry.outcome for entry in entries if entry.request.get("kind") == "job.complete"]
    return [dict(outcome.get("value") or {}) for outcome in outcomes if outcome.get("ok")]


def make_source(place: Path, switches: Path) -> Path:
    """Makes the tree a repository with one branch."""
    for name, text in {**_FILES, "debian/rules": _RULES.format(switches=switches)}.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (place / "debian/rules").chmod(0o755)
    env = {
        **os.environ,
        **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _WHO.items()},
    }
    for words in (["init", "-q", "-b", BRANCH], ["add", "."], ["commit", "-q", "-m", "tiny"]):
        subprocess.run(["git", "-C", str(place), *words], check=True, env=env, stdout=subprocess.DEVNULL)
    return place


_WHO = {"NAME": "Sample Author", "EMAIL": "sample@example.invalid", "DATE": "2025-06-01T00:00:00+0000"}


def finish(process: subprocess.Popen[str], seconds: float = WAIT_SECONDS) -> Ended:
    """Waits for a command and returns what it printed. Kills one that takes too long."""
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"{process.args} did not end:\n{output(process)}") from None
    out, err = output(process)
    close(process)
    return Ended(code, out, err)


def output(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Returns what a command has printed so far."""
    assert process.stdout is not None
    assert process.stderr is not None
    return tuple(Path(stream.name).read_text() for stream in (process.stdout, process.stderr))  # type: ignore[return-value]


def close(process: subprocess.Popen[str]) -> None:
    """Closes a command's files."""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def wait_until(true: Callable[[], bool], seconds: float = WAIT_SECONDS) -> bool:
    """Waits until something is true; says whether it became so."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def remove(host: Host) -> None:
    """Removes what a host left on disk."""
    shutil.rmtree(host.folder, ignore_errors=True)

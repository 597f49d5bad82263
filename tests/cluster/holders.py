"""Builders that want outside locks: real commands, a store for each, and a remote over real SSH.

The thing outside is a file to which whoever works appends `<CLOCK_BOOTTIME> <token> <word> <pid>`: `enter`,
then lines ten times a second of the work and of a child in a session of its own, then `leave`. All of it is
deaf to SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.coordination.reducer import REDUCER_VERSION, genesis
from pipeline.edge.bare import make_bare
from pipeline.edge.clock import SystemClock
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.identity import SystemRandomness
from pipeline.edge.procfs import all_stats, environment_of, read_stat
from pipeline.ledger.genesis import initialise
from pipeline.records import builders
from pipeline.records.base import dump
from pipeline.records.builds import BuildConfig
from pipeline.records.locks import Token
from tests.cluster.tiny import ROOT, Ended, finish, output, wait_until
from tests.sshd import Sshd

LOCK = "promotion"
TTL = 10.0

WORK = """
import os, signal, sys, time
journal, stop = sys.argv[1:]
token = os.environ["PIPELINE_LOCK_TOKEN"]
signal.signal(signal.SIGTERM, signal.SIG_IGN)
handle = os.open(journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
def note(word):
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    os.write(handle, f"{now:.3f} {token} {word} {os.getpid()}\\n".encode())
note("enter")
child = os.fork()
if child == 0:
    os.setsid()
while not os.path.exists(stop):
    note("works")
    time.sleep(0.1)
if child:
    os.waitpid(child, 0)
    note("leave")
"""


def make_ledger(folder: Path, names: list[str]) -> Path:
    """Makes a bare repository with the ledger of some builders."""
    bare = folder / "ledger.git"
    make_bare(bare)
    files = genesis([builders.Builder(name=name) for name in names], dump(BuildConfig()), SystemClock().now())
    refs = GitRefs(folder / "init.git", str(bare))
    initialise(refs, files, names[0], SystemClock(), SystemRandomness(), REDUCER_VERSION)
    return bare


class Outside:
    """What the lock guards, and who worked on it when."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "outside"
        self.started: list[subprocess.Popen[str]] = []

    def story(self) -> str:
        """Returns what every command said so far, for a test that failed."""
        return "\n".join(f"{x.args}: {x.poll()}\n{output(x)}" for x in self.started if not x.stdout.closed)  # type: ignore[union-attr]

    def lines(self) -> list[tuple[float, str, str]]:
        """Returns (moment, token, word) of every line."""
        text = self.journal.read_text() if self.journal.exists() else ""
        return [
            (float(w[0]), w[1], w[2])
            for w in (x.split() for x in text.splitlines(keepends=False))
            if len(w) == 4
        ]

    def entered(self) -> list[str]:
        """Returns the tokens of all who began to work, in order."""
        return [token for _, token, word in self.lines() if word == "enter"]

    def wait_for(self, number: int, process: subprocess.Popen[str], seconds: float = 90.0) -> str:
        """Waits until so many have begun, and returns the last one's token."""
        there = wait_until(lambda: len(self.entered()) >= number or process.poll() is not None, seconds)
        assert there, self.story()
        assert len(self.entered()) >= number, self.story()
        return self.entered()[-1]

    def last(self, token: str) -> float:
        """Returns when somebody worked under a token for the last time."""
        return max(moment for moment, by, _ in self.lines() if by == token)

    def first(self, token: str) -> float:
        """Returns when work under a token began."""
        return min(moment for moment, by, _ in self.lines() if by == token)

    def assert_alone(self) -> None:
        """Nobody worked beside another, no token came twice, and each was greater than those before."""
        order = [token for _, token, _ in self.lines()]
        blocks = [token for at, token in enumerate(order) if at == 0 or order[at - 1] != token]
        assert len(set(blocks)) == len(blocks), "two worked at once"
        numbers = [Token.parse(token) for token in blocks]
        assert numbers == sorted(numbers)


class Builder:
    """One builder with a home of its own."""

    def __init__(
        self, folder: Path, name: str, bare: Path, sshd: Sshd, outside: Outside, **settings: str
    ) -> None:
        self.folder, self.name, self.outside = folder / name, name, outside
        self.folder.mkdir()
        self.started: list[subprocess.Popen[str]] = []
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PIPELINE_HOME": str(self.folder / "home"),
            "PIPELINE_MACHINE_LOCK": str(self.folder / "machine.lock"),
            "PIPELINE_LEDGER": sshd.url(bare),
            "PIPELINE_BUILDER": name,
            "PIPELINE_PATIENCE_SECONDS": "20",
            "GIT_SSH_COMMAND": sshd.ssh_command(),
            **{f"PIPELINE_{key.upper()}": value for key, value in settings.items()},
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts `invoke` with these words, as a process of its own."""
        number = len(self.started)
        out, err = ((self.folder / f"{kind}{number}").open("w+") for kind in ("out", "err"))
        process = subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
        )
        process.stdout, process.stderr = out, err
        self.started.append(process)
        self.outside.started.append(process)
        return process

    def invoke(self, *words: str) -> Ended:
        """Runs `invoke` with these words to its end."""
        return finish(self.start(*words))

    def work(self, *words: str, lock: str = LOCK, ttl: float = TTL) -> subprocess.Popen[str]:
        """Starts `lock.run`: the work goes on until `stop` is called."""
        program = [sys.executable, "-c", WORK, str(self.outside.journal), str(self.folder / "stop")]
        return self.start("lock.run", lock, "--ttl", f"{ttl:g}", *words, "--", *program)

    def stop(self) -> None:
        """Lets this builder's work end, now and from now on."""
        (self.folder / "stop").touch()

    def locks(self) -> dict[str, Any]:
        """Returns what `lock.list` shows."""
        listed = self.invoke("lock.list", "--json")
        assert listed.code == 0, listed.err
        found: dict[str, Any] = listed.json()
        return found

    def renewed(self) -> float:
        """Returns when this builder's last renewal that was taken was begun, to the second and not later."""
        (place,) = (self.folder / "home/stores").glob("*/*/pulse/pushed.json")
        begun = datetime.fromisoformat(json.loads(place.read_text())["timestamp"])
        return now() - (time.time() - begun.timestamp())

    def takeovers(self) -> int:
        """Returns how many locks changed hands by silence, as the ledger tells."""
        listed = self.invoke("ledger.log", "--json", "--limit", "1000")
        assert listed.code == 0, listed.err
        entries = [entry for each in listed.json() for entry in (each["record"] or {}).get("entries", [])]
        assert any(entry["request"]["kind"] == "lock.acquire" for entry in entries)
        return sum(e["request"]["kind"] == "lock.takeover" and bool(e["outcome"]["ok"]) for e in entries)

    def processes(self) -> list[int]:
        """Returns the living processes of this builder's work, by what is in their environment."""
        home = f"PIPELINE_HOME={self.folder / 'home'}".encode()
        found = []
        for stat in all_stats().values():
            entries = environment_of(stat.pid).split(b"\0") if stat.state not in "ZX" else []
            if home in entries and any(entry.startswith(b"PIPELINE_JOB=lock.") for entry in entries):
                found.append(stat.pid)
        return found

    def watchdog(self) -> int:
        """Returns the watchdog's pid of the work that runs here."""
        (place,) = (self.folder / "home" / "work" / "locks").glob("*.json")
        pid: int = json.loads(place.read_text())["watchdog_pid"]
        assert read_stat(pid) is not None
        return pid

    def waits(self, process: subprocess.Popen[str], place: int) -> None:
        """Waits until a command says which place in the queue it has."""
        words = f"place {place} in the queue"
        there = wait_until(lambda: words in output(process)[1] or process.poll() is not None)
        assert there, self.outside.story()
        assert words in output(process)[1], self.outside.story()

    def clean(self) -> None:
        """Ends what a failed test left running."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


def now() -> float:
    """Returns CLOCK_BOOTTIME, which the work's lines show."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

"""`lock.run` at a terminal, under a real shell: what a program reads, what keys, signals and `fg` do."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.edge.procfs import all_stats, environment_of
from tests.cluster.holders import now
from tests.cluster.tiny import ROOT, wait_until

WAIT_SECONDS = 60.0

#: Says what it hears, and ends with 7 when it reads a line.
LISTENER = """
import signal, sys
heard = []
def hear(number, frame):
    heard.append(number)
    print(f"<{signal.Signals(number).name} {len(heard)}>", flush=True)
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, hear)
print("<ready>", flush=True)
print("<read", sys.stdin.readline().strip() + ">", flush=True)
sys.exit(7)
"""


class Terminal:
    """A shell with job control on a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        (folder / "listener.py").write_text(LISTENER)
        self.run = f"{sys.executable} -m invoke lock.run"
        self.listener = f"{sys.executable} {folder / 'listener.py'}"
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PIPELINE_HOME": str(self.home),
            "PIPELINE_MACHINE_LOCK": str(folder / "machine.lock"),
            "PS1": "$ ",
            "TERM": "dumb",
        }
        self.text = ""
        self._master, slave = pty.openpty()
        self.shell = subprocess.Popen(
            ["setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"],
            cwd=ROOT,
            env=self.env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.until(r"\$ ")

    def type(self, text: str) -> None:
        """Types something; what was shown before is forgotten."""
        self.text = ""
        os.write(self._master, text.encode())

    def until(self, pattern: str) -> str:
        """Reads until the screen shows something; returns all of it since the last typing."""
        until = now() + WAIT_SECONDS
        while not re.search(pattern, self.text):
            assert now() < until, f"no {pattern!r} in {self.text!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                self.text += os.read(self._master, 65536).decode(errors="replace")
        return self.text

    def processes(self) -> list[int]:
        """Returns the living processes that run under a lock of this home."""
        mark = f"PIPELINE_HOME={self.home}".encode()
        return [
            stat.pid
            for stat in all_stats().values()
            if stat.state not in "ZX" and mark in (e := environment_of(stat.pid).split(b"\0"))
            if any(entry.startswith(b"PIPELINE_JOB=lock.") for entry in e)
        ]

    def holder(self) -> int:
        """Returns the pid of the `lock.run` that runs."""
        (found,) = (
            stat.pid
            for stat in all_stats().values()
            if stat.parent == self.shell.pid
            and f"PIPELINE_HOME={self.home}".encode() in environment_of(stat.pid)
        )
        return found

    def close(self) -> None:
        """Ends the shell and whatever the test left."""
        for pid in [*self.processes(), self.shell.pid]:
            os.kill(pid, signal.SIGKILL)
        self.shell.wait()
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A shell at its prompt."""
    made = Terminal(tmp_path)
    yield made
    made.close()


def piped(terminal: Terminal, *words: str, input: str) -> subprocess.CompletedProcess[str]:
    """Runs `lock.run` with something on its standard input."""
    command = [sys.executable, "-m", "invoke", "lock.run", *words]
    return subprocess.run(
        command, cwd=ROOT, env=terminal.env, input=input, capture_output=True, text=True, timeout=WAIT_SECONDS
    )


def test_a_program_reads_what_its_caller_reads(terminal: Terminal) -> None:
    """A pipe's every byte and its end arrive; the exit code is its own, or 128 and a signal's."""
    text = "x" * 300_000 + "\n"
    ended = piped(terminal, "a", "--", "sh", "-c", "cat; exit 3", input=text)
    assert (ended.returncode, ended.stdout) == (3, text), ended.stderr
    assert (
        piped(terminal, "a", "--", "sh", "-c", "kill -USR1 $$", input="").returncode == 128 + signal.SIGUSR1
    )


def test_the_terminal_is_the_programs(terminal: Terminal) -> None:
    """It reads what is typed, and each key's signal reaches it once and is its own to judge."""
    terminal.type(f"{terminal.run} a -- {terminal.listener}\n")
    terminal.until("<ready>")
    for number, key in enumerate(("\x03", "\x1c", "\x03"), 1):
        name = "SIGQUIT" if key == "\x1c" else "SIGINT"
        terminal.type(key)
        terminal.until(f"<{name} {number}>")
    terminal.type("a line\n")
    shown = terminal.until(r"<read a line>[^$]*\$ ")
    assert "<SIG" not in shown, "the watchdog or the holder sent another"
    terminal.type("echo status=$?\n")
    terminal.until("status=7\r")


def test_ctrl_c_ends_what_does_not_care(terminal: Terminal) -> None:
    """The program dies of it, 130 is the exit code, and the lock is free."""
    terminal.type(f"{terminal.run} a -- sh -c 'echo be''gun; sleep 60'\n")
    terminal.until("begun")
    began = now()
    terminal.type("\x03")
    terminal.until(r"\$ ")
    terminal.type("echo status=$?\n")
    terminal.until("status=130\r")
    assert now() - began < 30.0
    assert terminal.processes() == []
    listed = piped(terminal, "a", "--wait", "0", "--", "echo", "free", input="")
    assert (listed.returncode, listed.stdout) == (0, "free\n"), listed.stderr


def test_ctrl_z_stops_and_fg_continues(terminal: Terminal) -> None:
    """Program and holder stop as one job of the shell; after `fg` the program reads the terminal again."""
    terminal.type(f"{terminal.run} a -- {terminal.listener}\n")
    terminal.until("<ready>")
    terminal.type("\x1a")
    terminal.until(r"Stopped[^$]*\$ ")
    stats = all_stats()
    (program,) = terminal.processes()
    assert [stats[pid].state for pid in (program, terminal.holder())] == ["T", "T"]
    terminal.type("fg\n")
    terminal.until("lock.run")
    terminal.type("again\n")
    terminal.until(r"<read again>[^$]*\$ ")
    terminal.type("echo status=$?\n")
    terminal.until("status=7\r")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGQUIT"])
def test_a_signal_that_somebody_sends_ends_the_program(terminal: Terminal, name: str) -> None:
    """Sent to `lock.run` alone it is an order to end, at a terminal too; a second one does not wait."""
    terminal.type(f"{terminal.run} a --ttl 300 -- {terminal.listener}\n")
    terminal.until("<ready>")
    os.kill(terminal.holder(), signal.Signals[name])
    terminal.until("<SIGTERM 1>")  # which it survives
    os.kill(terminal.holder(), signal.Signals[name])
    terminal.until(rf"interrupted by {name}[^$]*\$ ")
    terminal.type("echo status=$?\n")
    terminal.until("status=130\r")
    assert wait_until(lambda: terminal.processes() == [])


def test_nohup_is_respected(terminal: Terminal) -> None:
    """What was to be ignored is ignored by `lock.run` and by its program."""
    script = "kill -HUP $PPID; kill -HUP $$; kill -HUP $(ps -o ppid= -p $PPID); echo alive"
    terminal.type(f"nohup {terminal.run} a -- sh -c '{script}' < /dev/null 2> /dev/null | cat\n")
    terminal.until("alive\r")
    terminal.type(f"(trap '' HUP; exec {terminal.run} a -- {terminal.listener})\n")
    terminal.until("<ready>")
    os.kill(terminal.holder(), signal.SIGHUP)
    terminal.type("still there\n")
    terminal.until("<read still there>")

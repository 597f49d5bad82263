"""Runs several commands at once, as processes of their own that can be watched, stopped and killed.

The process that starts them becomes a subreaper: whatever they leave behind is below it in the end, whoever
of them is killed, and is found there by descent.

Non-guarantee: if this process itself is killed with SIGKILL, its children go on to the end of what they do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import psutil

from pipeline.edge.kernel import set_subreaper
from pipeline.edge.lines import Lines
from pipeline.edge.procfs import Stat, all_stats, descendants, is_alive, send
from pipeline.edge.survivors import end_processes
from pipeline.errors import CommandFailed

ROOT = str(Path(__file__).resolve().parents[2])
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from pipeline.console.program import main; main()"
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

#: A process: its id, and when it started, in ticks since boot.
Process = tuple[int, int]


class Child(Protocol):
    """One command that was started."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def status(self) -> int | None:
        """Returns its exit status (negative: the signal that ended it), or None while it runs."""

    def output(self) -> bytes:
        """Returns what it has printed to standard output so far."""

    def news(self) -> list[str]:
        """Returns the lines that it has printed to standard error since this was last asked."""

    def send(self, number: int) -> None:
        """Sends it, and nothing below it, a signal."""

    def below(self) -> frozenset[Process]:
        """Returns the living processes below it."""


class Children(Protocol):
    """Starts commands, and knows what is left of them."""

    def start(self, words: Sequence[str], env: Mapping[str, str], folder: Path) -> Child:
        """Starts a task of the pipeline, in a session of its own; its outputs go to files in a folder.

        `env` is the whole environment. Raises CommandFailed where the system cannot start it.
        """

    def living(self, known: frozenset[Process]) -> int:
        """Returns how many of these processes still live."""

    def left(self) -> int:
        """Returns how many processes live of what was started here, and of what that has started."""

    def end(self, grace_seconds: float = 5.0) -> list[int]:
        """Ends all of them: terminate, grace, kill. Returns the ids of those that could not be ended."""


class SystemChildren:
    """Real processes. Use it as a context manager: at its end nothing of them is left."""

    def __init__(self) -> None:
        self._before = False
        self._others: frozenset[Process] = frozenset()
        self._started: list[_SystemChild] = []

    def __enter__(self) -> Self:
        self._others = frozenset((stat.pid, stat.start_ticks) for stat in _children(all_stats()))
        self._before = set_subreaper(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        set_subreaper(self._before)

    def start(self, words: Sequence[str], env: Mapping[str, str], folder: Path) -> Child:
        number = len(self._started) + 1
        out, err = folder / f"{number}.out", folder / f"{number}.err"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-c", _START, ROOT, *words],
                dict(env),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.fspath(out), _WRITE, 0o600),
                    (os.POSIX_SPAWN_OPEN, 2, os.fspath(err), _WRITE, 0o600),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
            )
        except OSError as exc:
            raise CommandFailed(f"`{' '.join(words[:2])}` cannot be started: {exc.strerror}") from exc
        child = _SystemChild(pid, out, err)
        self._started.append(child)
        return child

    def living(self, known: frozenset[Process]) -> int:
        return sum(is_alive(pid, ticks) for pid, ticks in known)

    def left(self) -> int:
        self._bury()
        return len(self._below())

    def end(self, grace_seconds: float = 5.0) -> list[int]:
        unkillable = end_processes(self._below, grace_seconds)
        self._bury()
        return unkillable

    def _own(self, stats: dict[int, Stat]) -> list[Stat]:
        """Returns what was started here and the orphans of it: not what this process had started before."""
        return [stat for stat in _children(stats) if (stat.pid, stat.start_ticks) not in self._others]

    def _below(self) -> list[psutil.Process]:
        """Returns everything that lives of what was started here."""
        stats, found = all_stats(), []
        for own in self._own(stats):
            for stat in (own, *descendants(own.pid, stats)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process = psutil.Process(stat.pid)
                    if is_alive(stat.pid, stat.start_ticks):
                        found.append(process)
        return found

    def _bury(self) -> None:
        """Takes the exit status of what has ended, and of orphans that came to this process."""
        for child in self._started:
            child.status()
        for stat in self._own(all_stats()):
            if stat.state == "Z":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(stat.pid, os.WNOHANG)


class _SystemChild:
    """One process that was started here."""

    def __init__(self, pid: int, out: Path, err: Path) -> None:
        self.pid = pid
        self._out = out
        self._err = err
        self._read = 0
        self._lines = Lines()
        self._status: int | None = None

    def status(self) -> int | None:
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._status = -signal.SIGKILL  # whoever ended it has buried it as well
            else:
                self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def output(self) -> bytes:
        return self._out.read_bytes()

    def news(self) -> list[str]:
        with self._err.open("rb") as file:
            file.seek(self._read)
            chunk = file.read()
        self._read += len(chunk)
        return self._lines.feed(chunk)

    def send(self, number: int) -> None:
        if self.status() is None:
            send(self.pid, number)

    def below(self) -> frozenset[Process]:
        return frozenset((stat.pid, stat.start_ticks) for stat in descendants(self.pid, all_stats()))


def _children(stats: dict[int, Stat]) -> list[Stat]:
    return [stat for stat in stats.values() if stat.parent == os.getpid()]

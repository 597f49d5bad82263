"""Runs programs. The only module that imports subprocess.

`run` is for short commands whose output fits in memory. A build's own process tree, which has to be
watched and ended whole, is supervised in `supervisor`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.edge.procfs import Stat, all_stats, descendants, is_alive, send
from pipeline.errors import CommandFailed, CommandTimedOut

#: So often somebody is asked whether a command shall go on; so long it may take to end.
STOP_SECONDS = 0.2
_GRACE_SECONDS = 2.0
#: However little time is left, a command that was begun may take so long.
_LEAST_SECONDS = 2.0


@dataclass(frozen=True)
class Finished:
    """What a command left: exit status (negative: the signal), output, and its length in seconds."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text, without the last newline."""
        return self.stdout.decode(errors="replace").rstrip("\n")

    @property
    def errors(self) -> str:
        """Standard error as text."""
        return self.stderr.decode(errors="replace").strip()


class Leash:
    """Bounds commands: by a deadline that they share, and from another thread, at once."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pulled = False
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Bounds what is begun in the block, all together; the last command may take two seconds more."""
        before, until = self._until, time.monotonic() + seconds
        self._until = until if before is None else min(before, until)
        try:
            yield
        finally:
            self._until = before

    def left(self, timeout: float | None) -> float | None:
        """Returns how long a command that is begun now may take."""
        if self._until is None:
            return timeout
        left = max(self._until - time.monotonic(), _LEAST_SECONDS)
        return left if timeout is None else min(timeout, left)

    def pull(self) -> None:
        """Ends the command that runs, if one does, and every later one before it begins."""
        with self._guard:
            self._pulled = True
            if self._process is not None:
                _signal(_tree(self._process), signal.SIGTERM)

    @contextlib.contextmanager
    def on(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Makes a process the one that `pull` ends."""
        with self._guard:
            self._process = process
            if self._pulled:
                _signal(_tree(process), signal.SIGTERM)
        try:
            yield
        finally:
            with self._guard:
                self._process = None


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes = b"",
    timeout: float | None = None,
    check: bool = True,
    stop: Callable[[], bool] | None = None,
    leash: Leash | None = None,
    umask: int = -1,
) -> Finished:
    """Runs one command without a shell and waits for it.

    `env`, when given, is the whole environment. After `timeout` seconds the command is ended with what it has
    started: git leaves the transport to a process of its own, which would wait for a silent host for ever.
    `stop`, when given, is asked every `STOP_SECONDS`, and ends it in the same way once it says so; the
    command is in a process group of its own then, so that a terminal's Ctrl-C reaches whoever can say why.
    `umask` is the command's, where it is not to have this process's own.
    Raises CommandFailed for a non-zero status when `check` is set and for a program that cannot be started,
    CommandTimedOut, which comes sooner where a `leash` says so.
    """
    words = tuple(os.fspath(word) for word in argv)
    whole = None if env is None else dict(env)
    begun = time.monotonic()
    leash = leash or Leash()
    timeout = leash.left(timeout)
    try:
        done = _run_until(words, cwd, whole, input, timeout, stop, leash, umask)
    except FileNotFoundError as exc:
        raise CommandFailed(f"{words[0]} is not installed", remedy="Run `invoke doctor --install`.") from exc
    except OSError as exc:
        raise CommandFailed(f"{words[0]} cannot be started: {exc.strerror}") from exc
    except subprocess.TimeoutExpired as exc:
        raise CommandTimedOut(f"{words[0]} gave no answer within {timeout:g} s") from exc
    finished = Finished(words, done.returncode, done.stdout, done.stderr, time.monotonic() - begun)
    if check and done.returncode != 0:
        tail = finished.errors[-2000:]
        raise CommandFailed(
            f"`{' '.join(words[:4])}` ended with status {done.returncode}: {(tail.splitlines() or [''])[-1]}",
            returncode=done.returncode,
            stderr_tail=tail,
        )
    return finished


def _run_until(
    words: tuple[str, ...],
    cwd: Path | str | None,
    env: dict[str, str] | None,
    input: bytes,
    timeout: float | None,
    stop: Callable[[], bool] | None,
    leash: Leash,
    umask: int,
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command to its end, or ends it. Raises TimeoutExpired, OSError."""
    pipe, until = subprocess.PIPE, None if timeout is None else time.monotonic() + timeout
    group = None if stop is None else 0
    with (
        subprocess.Popen(
            words, cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=pipe, process_group=group, umask=umask
        ) as child,
        leash.on(child),
    ):
        try:
            data: bytes | None = input
            while True:
                left = None if until is None else max(0.0, until - time.monotonic())
                step = left if stop is None else min(STOP_SECONDS, STOP_SECONDS if left is None else left)
                try:
                    out, errors = child.communicate(data, timeout=step)
                    return subprocess.CompletedProcess(words, child.returncode, out, errors)
                except subprocess.TimeoutExpired:
                    data = None  # what was begun goes on
                    if until is not None and time.monotonic() >= until:
                        raise
                if stop is not None and stop():
                    out, errors = _end(child)
                    return subprocess.CompletedProcess(words, child.returncode, out, errors)
        except BaseException:
            if child.returncode is None:
                _end(child)
            raise


def _end(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Ends a command and what descends from it, in the end by force. Returns what it had printed.

    It is asked first: git removes its lock files.
    """
    tree, printed = _tree(child), (b"", b"")
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(tree, number)
        if child.returncode is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                printed = child.communicate(timeout=_GRACE_SECONDS)
    # They are nobody's children any more, so that nobody can wait for them otherwise.
    until = time.monotonic() + _GRACE_SECONDS
    while any(is_alive(each.pid, each.start_ticks) for each in tree) and time.monotonic() < until:
        time.sleep(0.01)
    return printed


def _tree(child: subprocess.Popen[bytes]) -> list[Stat]:
    """Returns a command and what descends from it: itself first, so that it does not see its children end."""
    stats = all_stats()
    return [*([stats[child.pid]] if child.pid in stats else []), *descendants(child.pid, stats)]


def _signal(tree: list[Stat], number: int) -> None:
    """Signals those that are still what they were; a stopped process takes no other signal."""
    for each in tree:
        if is_alive(each.pid, each.start_ticks):
            send(each.pid, number)
            send(each.pid, signal.SIGCONT)

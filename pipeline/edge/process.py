"""Runs programs. The only module that imports subprocess.

`run` is for short commands whose output fits in memory. A build's own process tree, which has to be
watched and ended whole, is supervised in `supervisor`.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CommandFailed, CommandTimedOut


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


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes = b"",
    timeout: float | None = None,
    check: bool = True,
) -> Finished:
    """Runs one command without a shell and waits for it.

    `env`, when given, is the whole environment. Raises CommandFailed for a non-zero status when `check`
    is set and for a program that cannot be started, CommandTimedOut after `timeout` seconds.
    """
    words = tuple(os.fspath(word) for word in argv)
    begun = time.monotonic()
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=None if env is None else dict(env),
            input=input,
            capture_output=True,
            timeout=timeout,
        )
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

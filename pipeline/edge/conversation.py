"""A program that is talked with through its standard input and output, as long as somebody has questions."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Sequence
from typing import Protocol

from pipeline.errors import CommandFailed, CommandTimedOut

_GRACE_SECONDS = 2.0
_BLOCK_BYTES = 1 << 18


class Conversation(Protocol):
    """Bytes to and from a program that runs somewhere."""

    def send(self, data: bytes) -> None:
        """Sends all of `data`. Raises CommandFailed where the other side is gone."""

    def receive(self, length: int, seconds: float) -> bytes:
        """Returns exactly `length` bytes. Raises CommandFailed, and CommandTimedOut after `seconds`."""

    def close(self) -> None:
        """Ends it, and whatever it runs. Raises nothing."""


class LocalConversation:
    """A program of this machine, started in `/`, whose environment holds nothing but a PATH and a locale."""

    def __init__(self, argv: Sequence[str], name: str) -> None:
        self.name = name
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
        if "TMPDIR" in os.environ:
            environment["TMPDIR"] = os.environ["TMPDIR"]
        pipe = subprocess.PIPE
        try:
            self._child = subprocess.Popen(
                argv, cwd="/", env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0
            )
        except OSError as exc:
            raise CommandFailed(f"{argv[0]} cannot be started for {name}: {exc.strerror}") from exc

    def send(self, data: bytes) -> None:
        """Sends all of `data`. Raises CommandFailed where the program is gone."""
        assert self._child.stdin is not None
        left = memoryview(data)
        try:
            while left:
                count = self._child.stdin.write(left) or 0
                left = left[count:]
        except OSError as exc:
            raise self._gone() from exc

    def receive(self, length: int, seconds: float) -> bytes:
        """Returns exactly `length` bytes. Raises CommandFailed, and CommandTimedOut after `seconds`."""
        assert self._child.stdout is not None
        parts, missing, until = [], length, time.monotonic() + seconds
        while missing:
            ready, _, _ = select.select([self._child.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise CommandTimedOut(f"The reader of {self.name} gave no answer within {seconds:g} s.")
            data = os.read(self._child.stdout.fileno(), min(missing, _BLOCK_BYTES))
            if not data:
                raise self._gone()
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Ends the program. Raises nothing."""
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _gone(self) -> CommandFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_GRACE_SECONDS)
        return CommandFailed(
            f"The reader of {self.name} ended in the middle (status {self._child.returncode})."
        )

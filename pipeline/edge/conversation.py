"""A program that is talked with through its standard input and output, as long as somebody has questions."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Protocol

from pipeline.errors import CommandFailed, CommandTimedOut

_GRACE_SECONDS = 2.0
_BLOCK_BYTES = 1 << 18


class Conversation(Protocol):
    """Bytes to and from a program that runs somewhere.

    `name` is the side's, for errors; `travelled` how many bytes went both ways so far, all that carries them
    included.
    """

    name: str

    @property
    def travelled(self) -> int: ...

    def send(self, data: bytes) -> None:
        """Sends all of `data`. Raises CommandFailed where the program ended, else HostUnreachable."""

    def receive(self, length: int, seconds: float) -> bytes:
        """Returns exactly `length` bytes. Raises as `send` does, and CommandTimedOut after `seconds`."""

    def close(self) -> None:
        """Ends it, and whatever it runs. Raises nothing."""


class Deadline:
    """So many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Returns how many seconds are left, 0 when it has passed."""
        return max(0.0, self._until - time.monotonic())


class LocalConversation:
    """A program of this machine, started in `/`, whose environment holds nothing but a PATH and a locale."""

    def __init__(self, argv: Sequence[str], name: str) -> None:
        self.name, self.travelled = name, 0
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
        self.travelled += len(data)

    def receive(self, length: int, seconds: float) -> bytes:
        """Returns exactly `length` bytes. Raises CommandFailed, and CommandTimedOut after `seconds`."""
        assert self._child.stdout is not None
        parts, missing, deadline = [], length, Deadline(seconds)
        poll = select.poll()  # takes descriptors of any number, which `select` does not
        poll.register(self._child.stdout, select.POLLIN)
        while missing:
            if not poll.poll(1000 * deadline.left):
                raise slow(self.name, seconds)
            data = os.read(self._child.stdout.fileno(), min(missing, _BLOCK_BYTES))
            if not data:
                raise self._gone()
            parts.append(data)
            missing -= len(data)
        self.travelled += length
        return b"".join(parts)

    def close(self) -> None:
        """Ends the program. Raises nothing."""
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        _end(self._child)

    def _gone(self) -> CommandFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_GRACE_SECONDS)
        return ended(self.name, self._child.returncode)


class Proxy:
    """A command through which a machine is reached, as ssh's `ProxyCommand` has it."""

    def __init__(self, command: str) -> None:
        self.socket, theirs = socket.socketpair()
        try:
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
            )
        except OSError as exc:
            self.socket.close()
            raise CommandFailed(f"`{command}` cannot be started: {exc.strerror}.") from exc
        finally:
            theirs.close()

    def close(self) -> None:
        """Ends the command. Raises nothing."""
        self.socket.close()
        _end(self._child)


def ended(name: str, status: int | None, tail: str = "") -> CommandFailed:
    """Returns the error of a reader that ended although somebody had questions."""
    how = "by a signal" if status is None or status < 0 else f"with status {status}"
    return CommandFailed(
        f"The reader of {name} ended in the middle, {how}.",
        returncode=-1 if status is None else status,
        stderr_tail=tail,
    )


def slow(name: str, seconds: float) -> CommandTimedOut:
    """Returns the error of a reader that keeps everybody waiting."""
    return CommandTimedOut(f"The reader of {name} gave no answer within {seconds:g} s.")


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()

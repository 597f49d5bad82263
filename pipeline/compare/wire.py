"""Questions to one side's reader and its answers: counted, bounded, and believed in nothing but shape."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import Any, Final

from pipeline.compare.bundle import program
from pipeline.edge.conversation import Conversation
from pipeline.errors import CommandFailed, CommandTimedOut, ComparisonIncomplete, ReaderMissing
from pipeline.records.base import STRICT_JSON

_LARGEST_ANSWER: Final = 64 << 20
#: Read, a value takes far more room than it takes on the wire.
_MOST_VALUES: Final = 2_000_000
#: An answer may take as long as unpacking the largest package takes a slow machine.
ANSWER_SECONDS: Final = 900.0
#: Until the first answer: an interpreter starts, and reads the program.
HELLO_SECONDS: Final = 60.0
_LEAST_PYTHON: Final = (3, 8)
_ID: Final = re.compile(r"[0-9a-f-]{32,36}")


@dataclass
class Counted:
    """What travelled: bytes both ways with all that carries them, and how often one waited for an answer.

    `handshake_bytes` before anything of ours was sent, `program_bytes` for the reader and its first answer;
    `bytes` and `round_trips` are those of all questions after.
    """

    bytes: int = 0
    round_trips: int = 0
    handshake_bytes: int = 0
    program_bytes: int = 0


@dataclass(frozen=True)
class Machine:
    """What a reader says of where it runs, and whether what it reads is one file. None: not known there."""

    machine_id: str | None
    boot_id: str | None
    host: str | None
    user: str | None
    python: str
    is_file: bool


def same_machine(one: Machine, two: Machine) -> bool | None:
    """Says whether two readers run on one machine; None where that is not known.

    A boot's id is the kernel's own, so containers with ids of their own are found to be on one machine. Two
    machines with one id are copies of each other, and count as the same.
    """
    pairs = ((one.machine_id, two.machine_id), (one.boot_id, two.boot_id))
    if any(a is not None and a == b for a, b in pairs):
        return True
    return None if any(a is None or b is None for a, b in pairs) else False


class Line:
    """The line to one side. Each failure of it is ComparisonIncomplete: it says nothing of artifacts."""

    def __init__(
        self, name: str, conversation: Conversation, seconds: float = ANSWER_SECONDS, root: str = "/"
    ) -> None:
        self.name, self._talk, self._seconds = name, conversation, seconds
        self.counted = Counted(handshake_bytes=conversation.travelled)
        self._mark = conversation.travelled
        self.machine = self._greet(root)
        self.counted.program_bytes = self._talk.travelled - self._mark
        self.counted.round_trips, self.counted.bytes = 0, 0
        self._mark = self._talk.travelled

    def _greet(self, root: str) -> Machine:
        """Sends the reader over; returns what it says of its machine. Raises ReaderMissing."""
        try:
            self._talk.send(program())
            hello = self._asked({"ask": "hello", "root": root}, min(HELLO_SECONDS, self._seconds))
        except CommandTimedOut as exc:
            raise self._failed(exc) from exc
        except CommandFailed as exc:
            raise self._missing(exc.stderr_tail or exc.message) from exc
        python = hello.get("python")
        version = (
            re.fullmatch(r"(\d{1,3})\.(\d{1,3})[\w.+]{0,20}", python) if isinstance(python, str) else None
        )
        if version and (int(version[1]), int(version[2])) < _LEAST_PYTHON:
            raise self._missing(f"it is Python {python}")
        if hello.get("protocol") != 1 or not version:
            raise self._nonsense("it does not speak this protocol")
        machine, boot, host, user = (hello.get(key) for key in ("machine", "boot", "host", "user"))
        ids = [each if isinstance(each, str) and _ID.fullmatch(each) else None for each in (machine, boot)]
        names = [each[:255] if isinstance(each, str) else None for each in (host, user)]
        return Machine(ids[0], ids[1], names[0], names[1], version[0], hello.get("file") is True)

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Asks and waits for the answer. Raises ComparisonIncomplete."""
        self.begin(question)
        return self.finish()

    def begin(self, question: dict[str, Any]) -> None:
        """Sends a question, so that several sides can work on theirs at once."""
        try:
            self._send(question)
        except CommandFailed as exc:
            raise self._failed(exc) from exc

    def finish(self) -> dict[str, Any]:
        """Waits for the answer to the question that was begun."""
        try:
            return self._receive(self._seconds)
        except CommandFailed as exc:
            raise self._failed(exc) from exc

    def close(self) -> None:
        """Ends the reader."""
        self._talk.close()

    def _parsed(self, data: bytes) -> dict[str, Any]:
        if data.count(b",") > _MOST_VALUES:
            raise self._nonsense(f"more than {_MOST_VALUES} values")
        try:
            answer = STRICT_JSON.decode(data.decode("ascii"))
        except (ValueError, RecursionError) as exc:
            raise self._nonsense(str(exc)[:100]) from exc
        if not isinstance(answer, dict):
            raise self._nonsense("no object")
        return answer

    def _asked(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        self._send(question)
        return self._receive(seconds)

    def _send(self, question: dict[str, Any]) -> None:
        data = json.dumps(question, separators=(",", ":")).encode("ascii")
        self._talk.send(struct.pack(">I", len(data)) + data)
        self._count()

    def _receive(self, seconds: float) -> dict[str, Any]:
        head = self._talk.receive(4, seconds)
        (length,) = struct.unpack(">I", head)
        if length > _LARGEST_ANSWER:
            raise self._nonsense(f"an answer of {length} bytes, which begins with {head!r}")
        data = self._talk.receive(length, seconds)
        self.counted.round_trips += 1
        self._count()
        return self._parsed(data)

    def _count(self) -> None:
        self.counted.bytes = self._talk.travelled - self._mark

    def _failed(self, exc: CommandFailed) -> ComparisonIncomplete:
        return ComparisonIncomplete(
            f"{self.name}: {exc.message}", remedy="Look at that machine, then compare again."
        )

    def _missing(self, why: str) -> ReaderMissing:
        return ReaderMissing(
            f"{self.name}: no reader can be started there: {' '.join(why.split())[:300]}",
            remedy="It needs a `python3` of version 3.8 or later on that user's PATH, and nothing else.",
        )

    def _nonsense(self, what: str) -> ComparisonIncomplete:
        return ComparisonIncomplete(
            f"The reader of {self.name} answers nonsense: {what}.",
            remedy="Nothing of it is believed. Look at what runs as `python3` there, and whether that"
            " user's shell prints something when it starts.",
        )

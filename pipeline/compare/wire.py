"""Questions to one side's reader and its answers: counted, bounded, and believed in nothing but shape."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Final

from pipeline.compare.bundle import program
from pipeline.edge.conversation import Conversation
from pipeline.errors import CommandFailed, ComparisonIncomplete
from pipeline.records.base import STRICT_JSON

_LARGEST_ANSWER: Final = 64 << 20
#: An answer may take as long as unpacking the largest package takes a slow machine.
ANSWER_SECONDS: Final = 900.0


@dataclass
class Counted:
    """What travelled, apart from sending the program: bytes each way, and how often somebody waited."""

    bytes: int = 0
    round_trips: int = 0


class Line:
    """The line to one side. Each failure of it is ComparisonIncomplete: it says nothing of artifacts."""

    def __init__(self, name: str, conversation: Conversation, seconds: float = ANSWER_SECONDS) -> None:
        self.name, self._talk, self._seconds = name, conversation, seconds
        self.counted = Counted()
        self._guarded_send(program())
        hello = self.ask({"ask": "hello"})
        if hello.get("protocol") != 1:
            raise self._nonsense("it does not speak this protocol")
        self.counted = Counted()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Asks and waits for the answer. Raises ComparisonIncomplete."""
        self.begin(question)
        return self.finish()

    def begin(self, question: dict[str, Any]) -> None:
        """Sends a question, so that several sides can work on theirs at once."""
        data = json.dumps(question, separators=(",", ":")).encode("ascii")
        self._guarded_send(struct.pack(">I", len(data)) + data)
        self.counted.bytes += 4 + len(data)

    def finish(self) -> dict[str, Any]:
        """Waits for the answer to the question that was begun."""
        try:
            (length,) = struct.unpack(">I", self._talk.receive(4, self._seconds))
            if length > _LARGEST_ANSWER:
                raise self._nonsense(f"an answer of {length} bytes")
            data = self._talk.receive(length, self._seconds)
        except CommandFailed as exc:
            raise ComparisonIncomplete(
                f"{self.name}: {exc.message}", remedy="Look at that machine, then compare again."
            ) from exc
        self.counted.bytes += 4 + length
        self.counted.round_trips += 1
        return self._parsed(data)

    def close(self) -> None:
        """Ends the reader."""
        self._talk.close()

    def _parsed(self, data: bytes) -> dict[str, Any]:
        try:
            answer = STRICT_JSON.decode(data.decode("ascii"))
        except (ValueError, RecursionError) as exc:
            raise self._nonsense(str(exc)[:100]) from exc
        if not isinstance(answer, dict):
            raise self._nonsense("no object")
        return answer

    def _guarded_send(self, data: bytes) -> None:
        try:
            self._talk.send(data)
        except CommandFailed as exc:
            raise ComparisonIncomplete(
                f"{self.name}: {exc.message}", remedy="Is there a Python 3.8 or later on that machine?"
            ) from exc

    def _nonsense(self, what: str) -> ComparisonIncomplete:
        return ComparisonIncomplete(
            f"The reader of {self.name} answers nonsense: {what}.",
            remedy="Nothing of it is believed. Look at what runs as `python3` there.",
        )

"""Answers questions on standard input until it ends: a length in four bytes, then so much JSON, each way."""

from __future__ import annotations

import json
import struct
import sys
from typing import Any, BinaryIO

from pipeline.compare.reader.machine import allow_files, end_with
from pipeline.compare.reader.session import Session

_LARGEST = 16 << 20


def serve(questions: BinaryIO, answers: BinaryIO, session: Session) -> None:
    """Answers one question after the other. Ends with the input, or where it is no question."""
    allow_files()
    end_with(questions.fileno())
    while True:
        head = questions.read(4)
        if len(head) < 4:
            return
        (length,) = struct.unpack(">I", head)
        if length > _LARGEST:
            raise SystemExit("a question of %d bytes is not taken" % length)
        question: Any = json.loads(questions.read(length))
        data = json.dumps(session.answer(question), separators=(",", ":")).encode("ascii")
        answers.write(struct.pack(">I", len(data)) + data)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer, Session())

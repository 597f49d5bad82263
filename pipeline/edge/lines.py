"""Cuts a stream of bytes into lines of text, in constant memory."""

from __future__ import annotations

import re

#: The most that is kept of one line; what follows up to its end is dropped.
LINE_LIMIT = 64 * 1024
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def strip_ansi(line: str) -> str:
    """Returns a line without the escape sequences that colour a terminal (Maven's -B leaves some in)."""
    return _ANSI.sub("", line) if "\x1b" in line else line


class Lines:
    """Takes chunks as they come and gives the lines that they complete.

    Bytes that are not UTF-8 become U+FFFD. However the stream is chunked, the lines are the same:
    `test_chunks_make_no_difference`.
    """

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> list[str]:
        """Returns the lines that end in this chunk, without their ends."""
        if self._skipping:
            end = chunk.find(b"\n")
            if end < 0:
                return []
            chunk = chunk[end:]
            self._skipping = False
        whole, newline, rest = (self._rest + chunk).rpartition(b"\n")
        if len(rest) > self._limit:
            rest, self._skipping = rest[: self._limit], True
        self._rest = rest
        return self._texts(whole) if newline else []

    def close(self) -> list[str]:
        """Returns the last line, when nothing ended it."""
        rest, self._rest, self._skipping = self._rest, b"", False
        return self._texts(rest) if rest else []

    def _texts(self, block: bytes) -> list[str]:
        lines = block.split(b"\n")
        if len(block) > self._limit:
            lines = [line[: self._limit] for line in lines]
        return b"\n".join(line.removesuffix(b"\r") for line in lines).decode(errors="replace").split("\n")

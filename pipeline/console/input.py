"""Text that a person gives: an argument, a file, or standard input. Never through a shell."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.errors import UsageError

_LIMIT = 1_000_000


def read_text(text: str, file: str) -> str:
    """Returns `text`, or the file's content, or standard input for `-`. Raises UsageError."""
    if text and file:
        raise UsageError("Give the text or a file, not both.")
    try:
        if file:
            data = Path(file).read_bytes()
        elif text == "-":
            data = sys.stdin.buffer.read(_LIMIT)
        else:
            return text
        return data[:_LIMIT].decode()
    except OSError as exc:
        raise UsageError(f"{file} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{file or 'standard input'} is not UTF-8 text (byte {exc.start}).") from exc

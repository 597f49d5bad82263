"""What a person gives: numbers, lists, and text from an argument, a file or standard input. No shell."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.errors import UsageError

_LIMIT = 1_000_000


def whole_number(name: str, text: str, default: int | None = None) -> int | None:
    """Reads an option's number; the default where none was given. Raises UsageError.

    Numbers come as text: what invoke itself says of a wrong one is a traceback.
    """
    if not text.strip():
        return default
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--{name} is {text!r}.", remedy="Give a whole number.") from None


def words(text: str) -> list[str]:
    """Returns what a list with commas holds, blanks taken off."""
    return [word.strip() for word in text.split(",") if word.strip()]


def read_text(text: str, file: str) -> str:
    """Returns `text`, or the file's content, or standard input for `-`. Raises UsageError."""
    if text and file:
        raise UsageError("Give the text or a file, not both.")
    try:
        if file:
            with Path(file).open("rb") as opened:
                data = opened.read(_LIMIT + 1)
        elif text == "-":
            data = sys.stdin.buffer.read(_LIMIT + 1)
        else:
            return text
        if len(data) > _LIMIT:
            raise UsageError(f"`{file or 'standard input'}` holds more than {_LIMIT:,} bytes.")
        return data.decode()
    except OSError as exc:
        raise UsageError(f"`{file or 'standard input'}` cannot be read: {exc.strerror}.") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{file or 'standard input'} is not UTF-8 text (byte {exc.start}).") from exc

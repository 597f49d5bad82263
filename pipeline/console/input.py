"""What a person gives: numbers, lists, and text from an argument, a file or standard input. No shell."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
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


def insist_on_one(options: Mapping[str, bool]) -> None:
    """Raises UsageError where more than one of these options was given: each excludes the others."""
    given = [name for name, is_given in options.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} exclude each other.", remedy="Give one of them.")


def program_words(command: str, shell: bool, arguments: Sequence[str]) -> list[str]:
    """Returns a program and its arguments: what stands after `--` on the command line, word for word.

    Or `command`, taken apart at blanks and quotes; with `shell` the shell takes it. Raises UsageError.
    """
    after = list(arguments[arguments.index("--") + 1 :]) if "--" in arguments else []
    if after and (command or shell):
        raise UsageError(
            "The program stands after `--`, and in --command or --shell as well.", remedy="Give it once."
        )
    if shell and not command:
        raise UsageError("--shell without --command.", remedy="`--shell --command 'one && two'`")
    if shell:
        return ["/bin/sh", "-c", command]
    try:
        return after or shlex.split(command)
    except ValueError as exc:
        raise UsageError(
            f"--command cannot be taken apart: {exc}.",
            remedy="Close its quotes, or put the program after `--`.",
        ) from exc


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
            if sys.stdin is None:
                raise UsageError(
                    "Standard input is closed.", remedy="Give the text as an argument or a file."
                )
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

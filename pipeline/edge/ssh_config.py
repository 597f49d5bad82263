"""The text of ssh's own configuration, with what its `Include` lines name put in their place."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.edge.plain_file import read_plain

_MOST_BYTES: Final = 4 << 20
_MOST_DEPTH: Final = 16


def read_text(file: Path, depth: int = 0) -> str:
    """Returns a configuration file's text, whole; of one that is not there, none.

    A name in an `Include` counts from the folder of the file that begins it all, as ssh has it. Raises
    OSError for a file that cannot be read, ValueError for one that is no text or includes itself.
    """
    try:
        text = read_plain(file, limit=_MOST_BYTES, follow=True).decode()
    except FileNotFoundError:
        return ""
    return "\n".join(_lines(text, file.parent, depth))


def _lines(text: str, folder: Path, depth: int) -> Iterator[str]:
    block = "Host *"
    for line in text.splitlines():
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if word.lower() in ("host", "match"):
            block = line
        if word.lower() != "include":
            yield line
            continue
        if depth >= _MOST_DEPTH:
            raise ValueError(f"`Include` more than {_MOST_DEPTH} deep")
        for pattern in shlex.split(rest, comments=True):
            for file in _named(pattern, folder):
                yield from _lines(
                    read_plain(file, limit=_MOST_BYTES, follow=True).decode(), folder, depth + 1
                )
        yield block  # what a file included ends with it


def _named(pattern: str, folder: Path) -> list[Path]:
    whole = Path(pattern).expanduser() if pattern.startswith("~") else folder / pattern
    return sorted(each for each in Path("/").glob(str(whole)[1:]) if each.is_file())

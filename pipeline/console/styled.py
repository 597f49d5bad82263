"""Lines for a terminal: harmless, in colours where they are wanted, and no wider than there is room."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TextIO

from pipeline.console.escaping import visible
from pipeline.console.terminal import width_of

_STYLES: Mapping[str, str] = {
    "title": "1",
    "quiet": "2",
    "good": "1;32",
    "explained": "1;36",
    "bad": "1;31",
    "odd": "1;35",
    "lacking": "1;33",
}
_NARROWEST = 24
_ELLIPSIS = "…"


class Span(NamedTuple):
    """A piece of a line, and how it looks where there are colours."""

    text: str
    style: str = ""


Line = Sequence[Span]


def wants_colours(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Says whether a stream gets colours: a terminal that has them, and a user who does not object."""
    return not environment.get("NO_COLOR") and environment.get("TERM") != "dumb" and stream.isatty()


def show_lines(lines: Iterable[Line]) -> None:
    """Prints lines as results."""
    colours = wants_colours(sys.stdout, os.environ)
    for line in lines:
        print(drawn(line, colours))


def room() -> int | None:
    """Returns how many columns a line of results may have; None in a pipe, which gets all."""
    return max(_NARROWEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def drawn(line: Line, colours: bool) -> str:
    """Returns a line as it is printed. Whatever its pieces hold, nothing in them steers a terminal."""
    text = "".join(
        f"\x1b[{_STYLES[style]}m{visible(text)}\x1b[0m" if colours and style and text else visible(text)
        for text, style in line
    )
    return text.rstrip()


def shortened(text: str, columns: int | None) -> str:
    """Returns text that fits, with its middle left out where it does not: a path's ends say most."""
    text = visible(text)
    if columns is None or width_of(text) <= columns:
        return text
    keep = max(2, columns - 1)
    head = _fitting(text, keep // 3)
    tail = _fitting(text[::-1], keep - keep // 3)[::-1]
    return f"{head}{_ELLIPSIS}{tail}"


def around_difference(texts: Sequence[str], columns: int | None) -> list[str]:
    """Returns texts cut so that the place in which they first differ is seen, each at the same place."""
    texts = [visible(text) for text in texts]
    if columns is None or all(width_of(text) <= columns for text in texts):
        return texts
    same = next(
        (n for n, chars in enumerate(zip(*texts, strict=False)) if len(set(chars)) > 1), min(map(len, texts))
    )
    begin = max(0, same - columns // 3)
    return [_window(text, begin, columns) for text in texts]


def wrapped(text: str, columns: int | None) -> list[str]:
    """Returns a text's lines. Only between words is it broken: a setting that is copied has to be whole."""
    lines: list[str] = []
    for word in visible(text).split():
        if lines and (columns is None or width_of(f"{lines[-1]} {word}") <= columns):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _window(text: str, begin: int, columns: int) -> str:
    if begin and begin >= len(text):
        return _ELLIPSIS + _fitting(text[::-1], columns - 1)[::-1]
    shown = (_ELLIPSIS if begin else "") + text[begin:]
    if width_of(shown) <= columns:
        return shown
    return _fitting(shown, columns - 1) + _ELLIPSIS


def _fitting(text: str, columns: int) -> str:
    """Returns as much of a text's beginning as fits."""
    used = 0
    for index, char in enumerate(text):
        used += width_of(char)
        if used > columns:
            return text[:index]
    return text

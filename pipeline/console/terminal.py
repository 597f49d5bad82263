"""Text for a terminal or a pipe: tables, times, sizes, and the one place where an error becomes words."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def told(body: Callable[P, T]) -> Callable[P, T]:
    """Makes a task end with its error's words on stderr and its error's exit code."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        from pipeline.errors import PipelineError, exit_code_of

        try:
            return body(*args, **kwargs)
        except PipelineError as exc:
            print(f"Error: {exc}", file=sys.stderr)
            sys.exit(exit_code_of(exc))
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            # The reader went away (`| head`); Python would complain again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)

    return run


def say(text: str) -> None:
    """Shows progress."""
    print(text, file=sys.stderr, flush=True)


def show_json(value: Any) -> None:
    """Prints one JSON value."""
    print(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Prints a table; a pipe gets whole lines, however long."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = [[str(cell) for cell in row] for row in rows]
    if not listed:
        print(empty)
        return
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in listed:
        table.add_row(*(Text(cell.replace("\n", " ")) for cell in row))
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if not sys.stdout.isatty():
        console.width = 4000
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def duration(seconds: float | None) -> str:
    """Returns `1 h 02 min`, `3 min 25 s` or `4.2 s`."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(octets: int) -> str:
    """Returns `144.2 MB`: decimal units, as disks are sold."""
    value = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"

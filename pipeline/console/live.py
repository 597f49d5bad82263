"""What a person sees while a build runs: lines, and on a terminal one below them that keeps changing.

A pipe gets plain lines only, each module one. All of it is progress: stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.console.terminal import duration, printable, say


@dataclass(frozen=True)
class Screen:
    """Where progress goes. `live` takes a build's facts as they change; None where nothing can change."""

    say: Callable[[str], None]
    live: Callable[[Mapping[str, Any]], None] | None = None


@contextmanager
def screen() -> Iterator[Screen]:
    """Opens the screen for one command."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield Screen(say)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    line = Progress(
        *columns,
        console=console,
        transient=True,
        refresh_per_second=4,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = line.add_task("", total=None, visible=False, left="")

    def tell(text: str) -> None:
        console.print(printable(text, lines=True), soft_wrap=True)

    def show(facts: Mapping[str, Any]) -> None:
        total = facts.get("total")
        line.update(
            task,
            description=describe(facts),
            completed=facts["index"] if total else 0,
            total=total,
            visible=bool(total),
            left=time_left(facts),
        )

    with line:
        yield Screen(tell, show)


def describe(facts: Mapping[str, Any]) -> str:
    """Returns what is being built, cut so that it fits beside the rest of the line."""
    name = printable(str(facts.get("module") or facts.get("stage") or ""))
    return name if len(name) <= 40 else name[:39] + "…"


def time_left(facts: Mapping[str, Any]) -> str:
    """Returns the time left in words; nothing where no earlier build says."""
    left = facts.get("seconds_left")
    return "" if left is None else f"about {duration(float(left))} left"

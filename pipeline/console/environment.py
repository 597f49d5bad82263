"""What builders state of their environments, and how long they took: a line each, a builder a column."""

from __future__ import annotations

from pipeline.console.plain import plain
from pipeline.console.terminal import duration, printable, put, show_json, show_table
from pipeline.operations.everywhere import Timings
from pipeline.records.base import dump
from pipeline.records.comparison import EnvironmentComparison

_WIDEST = 40


def show_environments(found: EnvironmentComparison, as_json: bool) -> int:
    """Shows what builders state; returns the exit code, which is 0: environments may differ."""
    if as_json:
        put(dump(found).decode().rstrip("\n"))
        return 0
    names = [each.builder for each in found.builders]
    rows = [
        [
            printable(each.name),
            *(printable(each.values.get(name) or "(not stated)")[:_WIDEST] for name in names),
        ]
        for each in sorted(found.differences, key=lambda each: not each.drift)
    ]
    show_table(["differs in", *names], rows, empty="Nothing differs.")
    put()
    for each in found.builders:
        put(f"{each.builder}: {each.fingerprint or 'has stated nothing yet'}")
    put("They are set up alike." if found.alike else "They are not set up alike.")
    return 0


def show_timings(found: Timings, as_json: bool) -> int:
    """Shows how long stages and modules took on each builder; returns the exit code, which is 0."""
    if as_json:
        show_json(plain(found))
        return 0
    for title, rows in (("stage", found.stages), ("module", found.modules)):
        told = [[printable(name), *(duration(value) for value in row)] for name, row in rows.items()]
        show_table([title, *found.builders], told, empty=f"No {title} is known.")
        put()
    return 0

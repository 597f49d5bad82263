"""What builders state of their environments, as a table: a property a line, a builder a column."""

from __future__ import annotations

from pipeline.console.terminal import printable, put, show_table
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

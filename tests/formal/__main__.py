"""Checks the models and prints what was searched.

    python -m tests.formal [--large] [--jobs N] [--only WORD] [--story NAME]

Exit status 0: the models hold, each mutant and each known flaw breaks the invariant that it should.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.formal import spin
from tests.formal.models import AS_IT_IS, FLAWS, LARGE, MUTANTS, Run
from tests.formal.spin import Incomplete, Result

_HEAD = ("model", "nodes", "bounds", "states", "transitions", "depth", "CPU s", "MB", "verdict")
_BROKEN_HEAD = ("what", "model", "nodes", "bounds", "invariant violated", "steps", "states", "CPU s")


def main(words: Sequence[str]) -> int:
    """Runs what was asked for; progress goes to stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.formal", description="Checks the protocol's models."
    )
    parser.add_argument("--large", action="store_true", help="larger bounds as well: minutes and gigabytes")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="searches at once")
    parser.add_argument(
        "--only", default="", metavar="WORD", help="only runs whose name, model or bounds have it"
    )
    parser.add_argument(
        "--story", default="", metavar="NAME", help="print a mutant's or a flaw's counterexample"
    )
    asked = parser.parse_args(words)
    if lacking := spin.missing():
        print(f"not installed: {', '.join(lacking)}. apt-get install spin gcc libc6-dev", file=sys.stderr)
        return 60
    if asked.story:
        return tell(asked.story)
    runs = [*AS_IT_IS, *(LARGE if asked.large else []), *MUTANTS, *FLAWS]
    runs = [run for run in runs if asked.only in f"{run.name} {run.model} {run.bounds}"]
    begun = time.monotonic()
    with ThreadPoolExecutor(asked.jobs) as pool:
        results = dict(zip(map(id, runs), pool.map(search, runs), strict=True))
    good = all(is_expected(run, results[id(run)]) for run in runs)
    print(table(_HEAD, [row(run, results[id(run)]) for run in runs if run.breaks is None]))
    for title, kind in (("mutants", MUTANTS), ("known flaws", FLAWS)):
        rows = [broken_row(run, results[id(run)]) for run in runs if run in kind]
        print(f"\n{title}\n{table(_BROKEN_HEAD, rows)}")
    seconds = time.monotonic() - begun
    print(f"\n{'as expected' if good else 'NOT AS EXPECTED'}: {len(runs)} searches in {seconds:.0f} s")
    return 0 if good else 1


def search(run: Run) -> Result | Incomplete:
    """Checks one run in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="formal-") as folder:
        try:
            result: Result | Incomplete = run.check(Path(folder))
        except Incomplete as exc:
            result = exc
    print(f"{run.model} {run.bounds}: {'done' if is_expected(run, result) else result}", file=sys.stderr)
    return result


def is_expected(run: Run, result: Result | Incomplete) -> bool:
    """Says whether the search was whole and broke what it should, or nothing."""
    return isinstance(result, Result) and result.violated == run.breaks


def row(run: Run, result: Result | Incomplete) -> tuple[str, ...]:
    """Returns a model's line of the first table."""
    head = (run.model, str(run.nodes), f"{run.name} ({run.bounds.strip()})")
    if isinstance(result, Incomplete):
        return (*head, "", "", "", "", "", "INCOMPLETE")
    figures = (result.states, result.transitions, result.depth)
    verdict = "holds" if result.violated is None else f"VIOLATES {result.violated}"
    return (
        *head,
        *(f"{each:,}" for each in figures),
        f"{result.seconds:.1f}",
        f"{result.megabytes:.0f}",
        verdict,
    )


def broken_row(run: Run, result: Result | Incomplete) -> tuple[str, ...]:
    """Returns a mutant's line of the second table."""
    head = (run.name, run.model, str(run.nodes), " ".join(run.bounds.split()[1:]))
    if isinstance(result, Incomplete):
        return (*head, "INCOMPLETE", "", "", "")
    violated = result.violated or "NONE"
    if violated != run.breaks:
        violated += f" (EXPECTED {run.breaks})"
    return (*head, violated, str(result.steps), f"{result.states:,}", f"{result.seconds:.1f}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns rows as a table that Markdown understands."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def tell(name: str) -> int:
    """Prints the counterexample of a mutant or a flaw, step by step."""
    run = next((each for each in [*MUTANTS, *FLAWS] if each.name == name), None)
    if run is None:
        known = ", ".join(each.name for each in [*MUTANTS, *FLAWS])
        print(f"no mutant and no flaw is called {name}; there are {known}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="formal-") as folder:
        result = run.check(Path(folder))
        print(spin.story(run.model, run.defines, run.search, Path(folder)))
        print(f"\n{run.name}: {result.violated} after {result.steps} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The whole proof, which `nox -s cluster` runs: virtual cluster, mutants, models, real cluster.

    nox -s cluster                                        # what CI runs: under four minutes on two cores
    nox -s cluster -- --seeds 100000 --minutes 120        # a long run; continued by the same line
    nox -s cluster -- --real 100000 --minutes 180         # the same of the real cluster
    nox -s cluster -- --replay 273 --profile odd-disks    # one seed as a story
    nox -s cluster -- --mutant no-second-look --seeds 20  # a planted bug, and what notices it

Progress goes to stderr, tables and the verdict to stdout. Exit code 0: everything held.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from tests.proof import records
from tests.simulation import __main__ as simulation
from tests.simulation import hunting
from tests.simulation.mutants import MUTANTS
from tests.simulation.runs import Total, counts, coverage, refusals, run_all

#: What CI runs of each part: an even seed of the real cluster and the one after it have every fault.
SEEDS, REAL = 150, ("--seeds", "2", "--seconds", "16")
PARTS = ("virtual", "mutants", "models", "real")


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="nox -s cluster --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, help=f"virtual: so many seeds, continued from run to run ({SEEDS} in CI)")
    add("--first", type=int, default=0, help="virtual: the first seed")
    add("--minutes", type=float, help="begin nothing new after so many minutes")
    add("--real", type=int, metavar="N", help="real: so many transactions; in CI two short seeds")
    add("--part", action="append", default=[], choices=PARTS, help="only this part; several times for more")
    simulation.add_choices(parser)
    return parser.parse_args(words)


def parts_of(options: argparse.Namespace) -> list[str]:
    """Returns what is run: everything, or what the flags are about."""
    if options.part:
        return [part for part in PARTS if part in options.part]
    asked = [part for part, size in (("virtual", options.seeds), ("real", options.real)) if size]
    return asked or (["virtual"] if options.fault or options.mutant else list(PARTS))


class Board:
    """One line of progress on stderr, rewritten where that is a terminal."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._begun, self._last = now, now(), 0.0
        self._live = sys.stderr.isatty()

    def tell(self, text: str, *, always: bool = False) -> None:
        """Shows how far it is: at most once in ten seconds in a pipe, ten times a second on a terminal."""
        now = self._now()
        if not always and now - self._last < (0.1 if self._live else 10.0):
            return
        self._last = now
        end = "\n" if always or not self._live else ""
        start = "\r\x1b[K" if self._live else ""
        print(f"{start}{now - self._begun:6.0f} s  {text}", end=end, file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        return self._now() - self._begun


def virtual(options: argparse.Namespace, board: Board) -> bool:
    """Runs seeds of the virtual cluster; a long run is kept, continued, and recorded."""
    long = options.seeds is not None and options.mutant is None
    options.seeds = options.seeds or SEEDS
    choice = simulation.choice_of(options)
    keep = records.place_of(records.run_of(choice)) if long else None

    def tick(total: Total) -> None:
        board.tell(
            f"virtual: {total.runs} seeds, {total.transactions} transactions, {len(total.failures)} failures"
        )

    total = run_all(choice, options.mutant, tick, keep)
    failed = total.failed(choice.faults, choice.cheats) and options.mutant is None
    lines = [*coverage(total.hits, choice.faults), *refusals(total.cheats), counts(total)]
    print("Virtual cluster\n" + "\n".join(lines))
    print("\n".join(simulation.failures(total, options.mutant)))
    if unhit := total.unhit(choice.faults):
        print(f"never hit: {', '.join(unhit)}")
    if untried := total.untried(choice.cheats):
        print(f"never tried: {', '.join(untried)}")
    if long:
        records.append(records.of_virtual(total, choice))
    if options.mutant:
        return bool(total.failures)
    return not failed


def mutants(options: argparse.Namespace, board: Board) -> bool:
    """Shows that every planted bug is noticed, and which are not while an invariant is switched off."""
    rows, wrong = [], []
    for row, problem in hunting.prove_all(options.jobs):
        rows.append(row)
        wrong += [f"{row.mutant}: {problem}"] if problem else []
        board.tell(f"mutants: {len(rows)} of {len(MUTANTS)}, {len(wrong)} not as they should be")
    rows.sort(key=lambda row: list(MUTANTS).index(row.mutant))
    print(
        "\nmutant                   part          noticed by                    at                      steps"
    )
    for row in rows:
        print(f"{row.mutant:<24} {row.part:<13} {row.invariant or '-':<29} {row.where:<23} {row.steps:>5}")
    print("\nswitched off                  mutants that nothing notices then; those that another one notices")
    idle = []
    for name, found in hunting.without(options.jobs).items():
        survivors = [mutant for mutant, other in found if other is None]
        others = [f"{mutant} ({other})" for mutant, other in found if other is not None]
        idle += [] if survivors else [name]
        print(f"{name:<29} {', '.join(survivors) or 'none'}; {', '.join(others) or 'none'}")
    missing = MUTANTS.keys() - {row.mutant for row in rows}
    wrong += [f"{name}: not in the table" for name in sorted(missing)]
    wrong += [f"{name}: idle, whatever it notices is noticed by others too" for name in idle]
    for each in wrong:
        print(f"NOT AS IT SHOULD BE  {each}")
    print(f"{len(rows)} mutants, {len(rows) - len(wrong)} killed by their invariants")
    return not wrong


def other(module: str, words: Sequence[str], board: Board) -> bool:
    """Runs a part that is a program of its own, with its own progress."""
    board.tell(f"{module} {' '.join(words)}", always=True)
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-m", module, *words], check=False).returncode == 0


def main(words: Sequence[str]) -> int:
    """Does what the command line asks for, and returns the exit code: 0 if everything held."""
    options, board = arguments(words), Board()
    if options.replay is not None or options.mutant in ("all", "stale"):
        options.seeds = options.seeds or 30
        return simulation.do(options)
    real = ["--real", str(options.real)] if options.real else list(REAL)
    real += ["--minutes", str(options.minutes)] if options.minutes else []
    real += ["--nodes", str(options.nodes)] if options.nodes else []
    real += ["--record"] if options.real else []
    runs: dict[str, Callable[[], bool]] = {
        "virtual": lambda: virtual(options, board),
        "mutants": lambda: mutants(options, board),
        "models": lambda: other("tests.formal", [], board),
        "real": lambda: other("tests.cluster", real, board),
    }
    verdicts = {}
    for part in parts_of(options):
        begun = board.seconds
        held = runs[part]()
        verdicts[part] = f"{'held' if held else 'FAILED'} ({board.seconds - begun:.0f} s)"
        board.tell(f"{part}: {verdicts[part]}", always=True)
    failed = any("FAILED" in verdict for verdict in verdicts.values())
    summary = ", ".join(f"{part} {verdict}" for part, verdict in verdicts.items())
    print(f"\nverdict: {'FAILED' if failed else 'everything held'}: {summary}; {board.seconds:.0f} s in all")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

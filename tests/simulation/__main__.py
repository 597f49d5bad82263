"""`python -m tests.simulation`: runs seeds on all cores, replays one, or hunts mutants. Results to stdout."""

from __future__ import annotations

import argparse
import os
import sys
from multiprocessing import Pool

from tests.simulation import hunting
from tests.simulation.faults import VIRTUAL
from tests.simulation.mutants import MUTANTS
from tests.simulation.profiles import PROFILES
from tests.simulation.runs import Choice, Total, counts, coverage, refusals, run_all
from tests.simulation.shrink import command_of, fails, shrink, story


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=50, help="how many seeds to run")
    add("--first", type=int, default=0, help="the first of them")
    add("--minutes", type=float, help="begin no run after so many minutes")
    add_choices(parser)
    add("--without", default="", help="leave faults out, with commas")
    return parser.parse_args(words)


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Adds what the longer proof has as well."""
    add = parser.add_argument
    add("--nodes", type=int, default=0, help="machines, 2 to 8; by default drawn from the seed")
    add("--commands", type=int, default=60, help="how much is asked in one run")
    profiles = [*PROFILES, "all"]
    add("--profile", choices=profiles, default="all", help="what is likely to happen; all takes turns")
    add("--fault", action="append", default=[], choices=VIRTUAL, help="only these faults")
    add(
        "--mutant",
        choices=[*MUTANTS, "all", "stale"],
        help="plant a bug; all hunts every one and writes the table, stale those whose row is not true",
    )
    add("--replay", type=int, metavar="SEED", help="tell one run as a story")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="how many cores")


def choice_of(options: argparse.Namespace) -> Choice:
    """Returns what the command line chooses. A mutant is looked for in its own profile."""
    without = set(getattr(options, "without", "").split(","))
    chosen = [name for name in VIRTUAL if not options.fault or name in options.fault]
    profile = options.profile
    if options.mutant in MUTANTS and profile == "all":
        profile = MUTANTS[options.mutant].profile
    return Choice(
        seeds=options.seeds,
        first=options.first,
        minutes=options.minutes,
        nodes=options.nodes,
        commands=options.commands,
        profile=profile,
        faults=tuple(name for name in chosen if name not in without),
        jobs=options.jobs,
    )


def hunt_all(jobs: int, seeds: int, *, stale: bool = False) -> int:
    """Hunts every mutant over seeds 0, 1, … and writes the table; or those alone whose row is not true."""
    rows = [row for row, problem in hunting.prove_all(jobs) if not problem] if stale else []
    names = [name for name in MUTANTS if name not in {row.mutant for row in rows}]
    with Pool(jobs) as pool:
        for row in pool.imap_unordered(hunting.hunt, [(name, seeds) for name in names]):
            rows.append(row)
            print(f"{len(rows)}/{len(MUTANTS)} {row.mutant}: {row.invariant}", file=sys.stderr, flush=True)
    hunting.write(rows)
    survivors = [row.mutant for row in rows if row.invariant is None]
    print(f"{len(rows) - len(survivors)} of {len(rows)} mutants killed; survivors: {survivors or 'none'}")
    return 1 if survivors else 0


def failures(total: Total, mutant: str | None) -> list[str]:
    """Returns each failure with its command, and the first as the smallest story that was found."""
    lines = []
    for plan, name, detail in total.failures:
        lines.append(f"VIOLATED {name}: {detail[:300]}\n  {command_of(plan, mutant)}")
    for plan, _, _ in total.failures[:1]:
        smallest = shrink(
            fails(plan, mutant), mutant, lambda text: print(f"smaller: {text}", file=sys.stderr)
        )
        lines.append(f"\nThe smallest failing run that was found:\n{story(smallest.plan, mutant)}")
    return lines


def main(words: list[str] | None = None) -> int:
    """Does what the command line asks for, and returns the exit code: 0 if everything held."""
    return do(arguments(words))


def do(options: argparse.Namespace) -> int:
    """Does what was asked for, and returns the exit code."""
    choice = choice_of(options)
    if options.replay is not None:
        sys.stdout.write(story(choice.plan(options.replay), options.mutant))
        return 0
    if options.mutant in ("all", "stale"):
        return hunt_all(options.jobs, options.seeds, stale=options.mutant == "stale")

    def tick(total: Total) -> None:
        text = f"\r{total.runs} runs, {total.transactions} transactions, {len(total.failures)} failures"
        if sys.stderr.isatty():
            print(text, end="", file=sys.stderr, flush=True)

    total = run_all(choice, options.mutant, tick)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    lines = [*coverage(total.hits, choice.faults), *refusals(total.cheats), counts(total)]
    lines += failures(total, options.mutant)
    if unhit := total.unhit(choice.faults):
        lines.append(f"never hit: {', '.join(unhit)}")
    if untried := total.untried(choice.cheats):
        lines.append(f"never tried: {', '.join(untried)}")
    failed = total.failed(choice.faults, choice.cheats)
    lines.append("verdict: FAILED" if failed else "verdict: every invariant held")
    print("\n".join(lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.simulation`: runs seeds on all cores, replays one, or hunts mutants. Results to stdout."""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import Pool
from pathlib import Path

from tests.simulation import hunting
from tests.simulation.faults import FAULTS, VIRTUAL
from tests.simulation.mutants import MUTANTS
from tests.simulation.profiles import PROFILES
from tests.simulation.shrink import command_of, fails, shrink, story
from tests.simulation.world import Plan, Result

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "docs/explanation/cluster-runs.jsonl"
#: From so many seeds on, a fault that never struck anything is a failure.
ENOUGH = 64
_ORDINARY = tuple(name for name in PROFILES if name != "calm")


@dataclass
class Total:
    """What many runs come to."""

    runs: int = 0
    steps: int = 0
    commits: int = 0
    transactions: int = 0
    answers: int = 0
    simulated_seconds: float = 0.0
    cpu_seconds: float = 0.0
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)

    def add(self, result: Result, cpu: float) -> None:
        self.runs += 1
        self.steps += result.steps
        self.commits += result.commits
        self.transactions += result.transactions
        self.answers += result.answers
        self.simulated_seconds += result.seconds
        self.cpu_seconds += cpu
        self.hits += result.hits
        if result.violated:
            self.failures.append(result)

    def unhit(self, faults: tuple[str, ...]) -> list[str]:
        """Returns the faults that were on and never hit anything."""
        struck = {name for name, _ in self.hits}
        return [name for name in faults if name not in struck]


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=50, help="how many seeds to run")
    add("--first", type=int, default=0, help="the first of them; a long run is resumed with it")
    add("--minutes", type=float, help="stop after so many minutes")
    add("--nodes", type=int, default=0, help="machines, 2 to 8; 0 draws them from the seed")
    add("--commands", type=int, default=60, help="how much is asked in one run")
    add(
        "--profile",
        choices=[*PROFILES, "all"],
        default="all",
        help="what is likely to happen; all takes turns",
    )
    add("--fault", action="append", default=[], choices=VIRTUAL, help="only these faults")
    add("--without", default="", help="leave faults out, with commas")
    add("--mutant", choices=[*MUTANTS, "all"], help="plant a bug; all hunts every one and writes the table")
    add("--replay", type=int, metavar="SEED", help="tell one run as a story")
    add("--jobs", type=int, default=os.cpu_count() or 1)
    add("--record", action="store_true", help=f"append a record to {RECORDS.relative_to(ROOT)}")
    return parser.parse_args(words)


def plan_of(seed: int, options: argparse.Namespace) -> Plan:
    """Returns the plan of a seed: what is not given is drawn from it."""
    without = set(options.without.split(","))
    faults = tuple(
        name for name in VIRTUAL if (not options.fault or name in options.fault) and name not in without
    )
    profile = _ORDINARY[seed % len(_ORDINARY)] if options.profile == "all" else options.profile
    return Plan(seed, options.nodes or 2 + seed // len(_ORDINARY) % 4, options.commands, faults, profile)


def _run(work: tuple[Plan, str | None]) -> tuple[Result, float]:
    begun = time.process_time()
    gc.disable()  # a run makes little that refers to itself, and ends soon
    result = fails(*work)
    result.story = []
    gc.collect()
    return result, time.process_time() - begun


def run_all(options: argparse.Namespace, mutant: str | None) -> Total:
    """Runs the seeds on all cores, with progress on stderr."""
    total, until = Total(), time.monotonic() + (options.minutes or 1e9) * 60

    def plans() -> Iterator[tuple[Plan, str | None]]:
        for seed in range(options.first, options.first + options.seeds):
            if time.monotonic() < until:
                yield plan_of(seed, options), mutant

    with Pool(options.jobs) as pool:
        for result, cpu in pool.imap_unordered(_run, plans()):
            total.add(result, cpu)
            print(
                f"\r{total.runs} runs, {total.transactions} transactions, {len(total.failures)} failures",
                end="",
                file=sys.stderr,
                flush=True,
            )
    print(file=sys.stderr)
    return total


def report(total: Total, faults: tuple[str, ...]) -> str:
    """Returns fault × step as a table, the counts, and a verdict line."""
    lines = ["fault                  hits  where most"]
    for name in faults:
        steps = Counter({step: n for (fault, step), n in total.hits.items() if fault == name})
        most = ", ".join(
            f"{step} {n}" for step, n in sorted(steps.items(), key=lambda item: (-item[1], item[0]))[:6]
        )
        lines.append(f"{name:<20} {sum(steps.values()):>6}  {most}")
    years, cpu = total.simulated_seconds / 31_557_600, max(total.cpu_seconds, 1e-9)
    lines.append(
        f"{total.runs} seeds, {total.steps} steps, {total.commits} commits, "
        f"{total.transactions} transactions, "
        f"{total.answers} answers, {years:.2f} cluster-years; a core: {total.steps / cpu:.0f} steps/s, "
        f"{total.transactions / cpu:.0f} checked transactions/s"
    )
    for result in total.failures:
        lines.append(f"VIOLATED {result.violated}: {result.detail[:300]}\n  {command_of(result.plan, None)}")
    if total.unhit(faults):
        lines.append(f"NEVER HIT: {', '.join(total.unhit(faults))}")
    if failed(total, faults):
        lines.append("verdict: FAILED")
    else:
        every = "not every" if total.unhit(faults) else "every"
        lines.append(f"verdict: every invariant held, {every} fault hit")
    return "\n".join(lines)


def failed(total: Total, faults: tuple[str, ...]) -> bool:
    """Says whether an invariant was broken, or a fault struck nothing in a run that is long enough."""
    return bool(total.failures) or (total.runs >= ENOUGH and bool(total.unhit(faults)))


def hunt_all(options: argparse.Namespace) -> int:
    """Hunts every mutant over seeds 0, 1, … and writes the table."""
    rows = []
    with Pool(options.jobs) as pool:
        for row in pool.imap_unordered(hunting.hunt, [(name, options.seeds) for name in MUTANTS]):
            rows.append(row)
            print(f"{len(rows)}/{len(MUTANTS)} {row.mutant}: {row.invariant}", file=sys.stderr, flush=True)
    hunting.write(rows)
    survivors = [row.mutant for row in rows if row.invariant is None]
    print(f"{len(rows) - len(survivors)} of {len(rows)} mutants killed; survivors: {survivors or 'none'}")
    return 1 if survivors else 0


def keep(total: Total) -> None:
    """Appends what a run came to, for docs/ to show."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    ).stdout
    record = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"), "commit": commit.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "seeds": total.runs, "steps": total.steps, "transactions": total.transactions,
        "commits": total.commits,
        "cluster_years": round(total.simulated_seconds / 31_557_600, 3),
        "cpu_seconds": round(total.cpu_seconds),
        "failures": [{"seed": r.plan.seed, "invariant": r.violated} for r in total.failures],
    }  # fmt: skip
    with RECORDS.open("a") as file:
        file.write(json.dumps(record) + "\n")


def main(words: list[str] | None = None) -> int:
    """Does what the command line asks for, and returns the exit code: 0 if everything held."""
    options = arguments(words)
    if options.replay is not None:
        mutant = options.mutant
        profile = MUTANTS[mutant].profile if mutant and options.profile == "all" else options.profile
        options.profile = profile
        sys.stdout.write(story(plan_of(options.replay, options), mutant))
        return 0
    if options.mutant == "all":
        return hunt_all(options)
    if options.mutant:
        options.profile = MUTANTS[options.mutant].profile if options.profile == "all" else options.profile
    total = run_all(options, options.mutant)
    faults = plan_of(0, options).faults
    print(report(total, faults))
    for result in total.failures[:1]:
        smallest = shrink(result, options.mutant, lambda text: print(f"smaller: {text}", file=sys.stderr))
        print(f"\nThe smallest failing run that was found:\n{story(smallest.plan, options.mutant)}")
    if options.record:
        keep(total)
    return 1 if failed(total, faults) else 0


if __name__ == "__main__":
    sys.exit(main())


__all__ = ["FAULTS", "main"]

"""`python -m tests.cluster`: the real cluster over many seeds, or one. Progress to stderr, results to stdout.

python -m tests.cluster --real 2000              # so many transactions, then the table and a verdict
python -m tests.cluster --seeds 10 --ssh         # over a real sshd
python -m tests.cluster --seed 7 --fault kill    # one plan of trouble again; real timing differs each time
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, cast

from tests.cluster.faults import MOUNTED, REAL, STOPPED, on_in
from tests.cluster.mounts import can_mount
from tests.cluster.mutants import MUTANTS
from tests.cluster.plan import Plan, Result
from tests.cluster.run import play
from tests.cluster.total import Total
from tests.proof import records
from tests.simulation.runs import coverage


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, help="how many seeds to run; 3 unless --real or --minutes is given")
    add("--first", type=int, default=0, help="the first of them; a long run is resumed with it")
    add("--minutes", type=float, help="start no seed after so many minutes")
    add("--real", type=int, metavar="N", help="start no seed after so many transactions")
    add("--nodes", type=int, default=2, help="machines, 2 to 8")
    add("--writers", type=int, default=6, help="writing processes of each machine, beside its other four")
    add("--seconds", type=float, default=30.0, help="for how long each seed makes trouble")
    add("--kills", type=float, default=8.0, help="how many processes are killed a second")
    add("--fault", action="append", default=[], choices=REAL, help="only these faults")
    add("--without", default="", help="leave faults out, with commas")
    add("--ssh", action="store_true", help="the remote is behind a real sshd on loopback")
    add("--seed", type=int, help="one seed's plan again, told as a story; what it meets is up to real time")
    add("--trouble", type=float, default=1.2, help="seconds between two troubles, kills aside")
    add("--stopped", type=float, help="for how many seconds whoever is stopped stays so; drawn otherwise")
    add("--builds", action="store_true", help="real `invoke build` of a tiny recipe on each machine, too")
    add("--mutant", choices=MUTANTS, default="", help="plant a bug in the workers")
    add("--jobs", type=int, default=1, help="how many clusters run beside each other")
    add("--no-speed", action="store_true", help="do not stop for bare pushes now and then")
    add("--stop-at-failure", action="store_true", help="start no seed after one that failed")
    add(
        "--record",
        action="store_true",
        help=f"append a record to {records.RECORDS.name}; the same line continues an interrupted run",
    )
    return parser.parse_args(words)


def faults_of(options: argparse.Namespace) -> tuple[str, ...]:
    """Returns the faults that are on in one seed or another."""
    without = set(options.without.split(",")) | (set() if can_mount() else set(MOUNTED))
    return tuple(
        name for name in REAL if (not options.fault or name in options.fault) and name not in without
    )


def plan_of(seed: int, options: argparse.Namespace) -> Plan:
    """Returns the plan of a seed. Where a full disk can strike builds, there are builds."""
    faults = on_in(seed, faults_of(options))
    builds = "artifact-full" in faults
    return Plan(
        seed=seed,
        nodes=min(max(options.nodes, 2), 8),
        seconds=options.seconds,
        writers=options.writers,
        faults=faults,
        kills=options.kills / 4 if builds else options.kills,  # a build lives for seconds
        ssh=options.ssh,
        builds=options.builds or builds,
        trouble=options.trouble,
        stopped=(options.stopped,) if options.stopped else STOPPED,
        speed=not options.no_speed and not options.ssh,
        mutant=options.mutant,
    )


def run_all(options: argparse.Namespace, keep: Path | None = None) -> Total:
    """Runs seed after seed, each in a process of its own, with progress on stderr.

    The next one begins when all is mended in the one before, whose end is mostly waiting. `keep` is a file
    from which an earlier run is continued, and where this one is kept after each seed.
    """
    total, begun = Total.saved(keep) if keep else Total(), time.monotonic()
    endless = options.real is not None or options.minutes is not None
    seeds = options.seeds if options.seeds is not None else 1_000_000 if endless else 3

    def plans() -> Iterator[Plan]:
        for seed in range(options.first, options.first + seeds):
            if options.minutes is not None and time.monotonic() > begun + 60 * options.minutes:
                return
            if options.stop_at_failure and total.failures:
                return
            if options.real is not None and total.transactions >= options.real:
                return
            if seed not in total.seeds:
                yield plan_of(seed, options)

    context = get_context("fork")
    todo = plans()
    #: Those that run, by their pipe: the process, its plan, and whether it still makes trouble.
    running: dict[Any, tuple[Any, Plan, bool]] = {}
    jobs = max(options.jobs, 1)
    most = jobs if options.stop_at_failure else 2 * jobs
    while True:
        while sum(busy for _, _, busy in running.values()) < jobs and len(running) < most:
            plan = next(todo, None)
            if plan is None:
                break
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(plan, theirs))
            process.start()
            theirs.close()
            running[ours] = (process, plan, True)
        if not running:
            break
        for pipe in cast(list[Any], wait(list(running))):
            process, plan, _ = running[pipe]
            try:
                result = pipe.recv()
            except EOFError:
                result = Result(
                    plan=plan, violated="no-defect", detail="the controller itself failed; see above"
                )
            if result is None:
                running[pipe] = (process, plan, False)
                continue
            del running[pipe]
            if (failure := total.add(result)) is not None:
                print(f"\n{failure}", file=sys.stderr)
            if keep:
                total.save(keep)
            process.join()
            print(
                f"\rseed {plan.seed}: {total.runs} runs, {total.transactions} transactions,"
                f" {total.kills} kills, {len(total.failures)} failures,"
                f" {(time.monotonic() - begun) / 60:.1f} min",
                end="",
                file=sys.stderr,
                flush=True,
            )
    print(file=sys.stderr)
    return total


def _run(plan: Plan, to: Any) -> None:
    to.send(play(plan, lambda: to.send(None)))


def report(total: Total, faults: tuple[str, ...]) -> str:
    """Returns fault × step as a table, the counts, and a verdict line."""
    lines = coverage(total.hits, faults)
    lines.append(
        f"{total.runs} seeds, {total.commits} commits, {total.transactions} transactions,"
        f" {total.kills} kills, {total.answers} answers, {total.unknown} without one,"
        f" {total.stamps} moments of work under locks"
    )
    lines.append("what was raised: " + ", ".join(f"{name} {n}" for name, n in total.errors.most_common()))
    if total.ratio is not None:
        mine, bare = total.measured / total.active_seconds, total.bare_pushes / total.bare_seconds
        lines.append(
            f"{mine:.1f} transactions/s, in turns with {bare:.1f} bare pushes/s:"
            f" {total.ratio:.2f} x (at least 0.6 x)"
        )
    lines += [str(failure) for failure in total.failures]
    if total.unhit:
        lines.append(f"NEVER HIT: {', '.join(total.unhit)}")
    if off := [name for name in faults if name not in total.on]:
        lines.append(f"in none of these seeds: {', '.join(off)}")
    every = "not every" if total.unhit or off else "every"
    good = f"verdict: every invariant held, {every} fault hit"
    lines.append("verdict: FAILED" if total.failed else good)
    return "\n".join(lines)


def record_of(total: Total, options: argparse.Namespace) -> dict[str, Any]:
    """Returns what a run came to, for docs/ to show."""
    return {
        **records.about("real"),
        "run": _run_of(options),
        "over": "ssh" if options.ssh else "file",
        "nodes": options.nodes,
        "first": options.first,
        "seeds": total.runs,
        "transactions": total.transactions,
        "commits": total.commits,
        "kills": total.kills,
        "answers": total.answers,
        "unhit": total.unhit,
        "of_bare_pushes": None if total.ratio is None else round(total.ratio, 2),
        "failures": [{"seed": each.seed, "invariant": each.invariant} for each in total.failures],
    }


def _run_of(options: argparse.Namespace) -> str:
    """Returns what tells long runs apart: their choices, on a commit. How long it goes on is none of them."""
    size = ("seeds", "minutes", "real", "jobs", "record", "stop_at_failure")
    choice = {name: value for name, value in vars(options).items() if name not in size}
    return records.name_of("real", *sorted(choice.items()))


def main(words: list[str] | None = None) -> int:
    """Does what the command line asks for, and returns the exit code: 0 if everything held."""
    options = arguments(words)
    if options.seed is not None:
        options.first, options.seeds = options.seed, 1
    total = run_all(options, records.place_of(_run_of(options)) if options.record else None)
    faults = faults_of(options)
    if not can_mount() and not options.fault:
        print(f"left out, for want of the right to mount: {', '.join(MOUNTED)}")
    print(report(total, faults))
    if options.record:
        records.append(record_of(total, options))
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())

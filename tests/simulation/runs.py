"""Many runs of the virtual cluster on all cores: what they come to, kept on disk while they go on."""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import Pool
from pathlib import Path
from threading import Semaphore
from typing import Any

from tests.simulation.cheats import CHEATS
from tests.simulation.faults import VIRTUAL
from tests.simulation.profiles import PROFILES
from tests.simulation.shrink import fails
from tests.simulation.world import Plan, Result

#: From so many seeds on, a fault that never struck anything is a failure, and a cheat that nobody tried.
ENOUGH = 64
SECONDS_A_YEAR = 31_557_600
_ORDINARY = tuple(name for name in PROFILES if name != "calm")
#: A worker ends after so many runs, so that whatever Python keeps does not add up.
_RUNS_A_WORKER = 500
_RUNS_A_COLLECTION = 4
_DONE = count(1)
#: What the first so many runs take at most is kept, to see whether memory grows afterwards.
_EARLY = 1000


@dataclass(frozen=True)
class Choice:
    """Which runs: how many seeds from which on, and what is not drawn from the seed."""

    seeds: int = 50
    first: int = 0
    minutes: float | None = None
    nodes: int = 0
    commands: int = 60
    profile: str = "all"
    faults: tuple[str, ...] = VIRTUAL
    jobs: int = os.cpu_count() or 1

    @property
    def cheats(self) -> tuple[str, ...]:
        """Returns the ways to cheat that are tried."""
        return tuple(CHEATS) if self.profile in ("all", "cheats") else ()

    def plan(self, seed: int) -> Plan:
        """Returns the plan of a seed: what is not given is drawn from it."""
        profile = _ORDINARY[seed % len(_ORDINARY)] if self.profile == "all" else self.profile
        nodes = self.nodes or 2 + seed // len(_ORDINARY) % 4
        return Plan(seed, nodes, self.commands, self.faults, profile)


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
    most_memory: int = 0
    early_memory: int = 0
    next_seed: int = 0
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    cheats: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[Plan, str, str]] = field(default_factory=list)

    def add(self, result: Result, cpu: float, memory: int) -> None:
        """Counts one run: its processor time in seconds, and the memory of the worker in KiB after it."""
        self.runs += 1
        self.steps += result.steps
        self.commits += result.commits
        self.transactions += result.transactions
        self.answers += result.answers
        self.simulated_seconds += result.seconds
        self.cpu_seconds += cpu
        self.most_memory = max(self.most_memory, memory)
        if self.runs <= _EARLY:
            self.early_memory = self.most_memory
        self.next_seed = max(self.next_seed, result.plan.seed + 1)
        self.hits += result.hits
        self.cheats += result.cheats
        if result.violated:
            self.failures.append((result.plan, result.violated, result.detail))

    def unhit(self, faults: Sequence[str]) -> list[str]:
        """Returns the faults that were on and never hit anything."""
        return unhit(self.hits, faults)

    def untried(self, cheats: Sequence[str]) -> list[str]:
        """Returns the ways to cheat that nobody found an opportunity for."""
        return unhit(self.cheats, cheats)

    def failed(self, faults: tuple[str, ...], cheats: tuple[str, ...] = ()) -> bool:
        """Says whether an invariant was broken; or, in a run that is long enough, a fault struck nothing or
        nobody cheated in one of these ways.
        """
        idle = self.unhit(faults) or self.untried(cheats)
        return bool(self.failures) or (self.runs >= ENOUGH and bool(idle))

    @property
    def years(self) -> float:
        return self.simulated_seconds / SECONDS_A_YEAR

    def save(self, place: Path) -> None:
        """Keeps everything but the details of failures, in one rename."""
        kept: dict[str, Any] = {
            name: value for name, value in vars(self).items() if name not in ("hits", "cheats", "failures")
        }
        for name, counter in (("hits", self.hits), ("cheats", self.cheats)):
            kept[name] = [[*key, count] for key, count in sorted(counter.items())]
        kept["failures"] = [[vars(plan), name, detail] for plan, name, detail in self.failures]
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_suffix(".new")
        new.write_text(json.dumps(kept))
        new.replace(place)

    @classmethod
    def saved(cls, place: Path) -> Total:
        """Returns what was kept, or nothing."""
        if not place.exists():
            return cls()
        kept = json.loads(place.read_text())
        hits = Counter({(fault, step): count for fault, step, count in kept.pop("hits")})
        cheats = Counter({(cheat, reason): count for cheat, reason, count in kept.pop("cheats", [])})
        failures = [
            (Plan(**{**plan, "faults": tuple(plan["faults"])}), name, detail)
            for plan, name, detail in kept.pop("failures")
        ]
        return cls(**kept, hits=hits, cheats=cheats, failures=failures)


def run_one(work: tuple[Plan, str | None]) -> tuple[Result, float, int]:
    """Runs one plan. Returns its result without the story, its processor time, and the memory in use."""
    begun = time.process_time()
    gc.disable()  # a run makes little that refers to itself, and ends soon
    result = fails(*work)
    result.story = []
    if next(_DONE) % _RUNS_A_COLLECTION == 0:
        gc.collect()
    return result, time.process_time() - begun, _memory()


def run_all(
    choice: Choice,
    mutant: str | None = None,
    tick: Callable[[Total], None] = lambda total: None,
    keep: Path | None = None,
) -> Total:
    """Runs the seeds on all cores, in their order. Ctrl-C ends it early, with what was done.

    `keep` is a file from which an earlier run is continued, and where this one is kept twice a minute.
    """
    total = Total.saved(keep) if keep else Total()
    first = max(choice.first, total.next_seed)
    until = time.monotonic() + (choice.minutes if choice.minutes is not None else 1e7) * 60
    room, saved = Semaphore(choice.jobs * 4), time.monotonic()

    def plans() -> Iterator[tuple[Plan, str | None]]:
        for seed in range(first, choice.first + choice.seeds):
            room.acquire()
            if time.monotonic() >= until:
                return
            yield choice.plan(seed), mutant

    with Pool(choice.jobs, _begin_worker, maxtasksperchild=_RUNS_A_WORKER) as pool:
        try:
            for result, cpu, memory in pool.imap(run_one, plans()):
                room.release()
                total.add(result, cpu, memory)
                tick(total)
                if keep and time.monotonic() > saved + 30:
                    total.save(keep)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            pass
    if keep:
        total.save(keep)
    return total


def _begin_worker() -> None:
    """A worker leaves Ctrl-C to who started it, and never looks again through what was imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()


def _memory() -> int:
    """Returns this process's resident memory in KiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def unhit(hits: Counter[tuple[str, str]], faults: Sequence[str]) -> list[str]:
    """Returns the faults that never hit anything; `hits` counts by fault and step."""
    struck = {name for name, _ in hits}
    return [name for name in faults if name not in struck]


def coverage(hits: Counter[tuple[str, str]], faults: Sequence[str]) -> list[str]:
    """Returns fault × step as lines: how often each struck, at how many steps, and where most."""
    lines = ["fault                  hits  steps  where most"]
    for name in faults:
        steps = Counter({step: n for (fault, step), n in hits.items() if fault == name})
        most = sorted(steps.items(), key=lambda item: (-item[1], item[0]))[:5]
        words = ", ".join(f"{step} {n}" for step, n in most)
        lines.append(f"{name:<20} {sum(steps.values()):>6} {len(steps):>6}  {words}")
    return lines


def refusals(cheats: Counter[tuple[str, str]]) -> list[str]:
    """Returns each way to cheat as a line: how often it was tried, and what it was refused as."""
    lines = ["cheat                       tried  refused as"] if cheats else []
    for name in sorted({name for name, _ in cheats}):
        of = {reason: count for (each, reason), count in cheats.items() if each == name}
        words = ", ".join(f"{reason} {count}" for reason, count in sorted(of.items()))
        lines.append(f"{name:<26} {sum(of.values()):>6}  {words}")
    return lines


def counts(total: Total) -> str:
    """Returns in one line what was run, and how fast."""
    cpu = max(total.cpu_seconds, 1e-9)
    return (
        f"{total.runs} seeds, {total.steps} steps, {total.commits} commits, {total.transactions} checked"
        f" transactions, {total.answers} answers, {total.years:.2f} cluster-years; a core:"
        f" {total.steps / cpu:.0f} steps/s, {total.transactions / cpu:.0f} checked transactions/s;"
        f" {total.most_memory // 1024} MB at most, {total.early_memory // 1024} in the first {_EARLY} runs"
    )

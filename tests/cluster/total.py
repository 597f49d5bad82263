"""What many runs of the real cluster come to, kept on disk while they go on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tests.cluster.faults import REAL
from tests.cluster.plan import ENOUGH_SECONDS, Counts, Plan, Result
from tests.simulation.runs import unhit

_COUNTED = ("transactions", "commits", "kills", "answers", "unknown", "stamps")
_MEASURED = ("measured", "active_seconds", "bare_pushes", "bare_seconds")


@dataclass(frozen=True)
class Failure:
    """A run in which an invariant did not hold, and the command that plays its plan again."""

    seed: int
    invariant: str
    detail: str
    command: str

    def __str__(self) -> str:
        return f"VIOLATED {self.invariant}: {self.detail[:600]}\n  {self.command}"


@dataclass
class Total(Counts):
    """What many runs come to."""

    failures: list[Failure] = field(default_factory=list)
    #: The seeds that were run to their end. One that was interrupted is run again.
    seeds: set[int] = field(default_factory=set)
    #: The faults that were on in a seed, and those in one that was long enough for all it has.
    on: set[str] = field(default_factory=set)
    due: set[str] = field(default_factory=set)

    def add(self, result: Result) -> Failure | None:
        """Counts one run. Returns what was violated in it."""
        plan = result.plan
        self.seeds.add(plan.seed)
        self.on |= set(plan.faults)
        if plan.seconds >= ENOUGH_SECONDS:
            self.due |= set(plan.faults)
        for name in _COUNTED:
            setattr(self, name, getattr(self, name) + getattr(result, name))
        if result.bare_seconds and not result.violated:
            for name in _MEASURED:
                setattr(self, name, getattr(self, name) + getattr(result, name))
        self.hits += result.hits
        self.errors += result.errors
        if not result.violated:
            return None
        failure = Failure(plan.seed, result.violated, result.detail, command_of(plan))
        self.failures.append(failure)
        return failure

    @property
    def runs(self) -> int:
        return len(self.seeds)

    @property
    def unhit(self) -> list[str]:
        """Returns the faults that were on and never hit anything."""
        return unhit(self.hits, [name for name in REAL if name in self.on])

    @property
    def failed(self) -> bool:
        """Says whether an invariant was broken, or a fault struck nothing in a seed that was long enough."""
        return bool(self.failures) or not self.due.isdisjoint(self.unhit)

    @property
    def ratio(self) -> float | None:
        """Returns transactions a second over bare pushes a second, taken in turns; None if not measured."""
        if not self.bare_seconds or not self.active_seconds:
            return None
        return (self.measured / self.active_seconds) / (self.bare_pushes / self.bare_seconds)

    def save(self, place: Path) -> None:
        """Keeps everything, in one rename."""
        kept: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        kept["hits"] = [[*key, count] for key, count in sorted(self.hits.items())]
        kept["failures"] = [vars(each) for each in self.failures]
        kept |= {name: sorted(kept[name]) for name in ("seeds", "on", "due")}
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
        kept["hits"] = Counter({(fault, step): count for fault, step, count in kept["hits"]})
        kept["errors"] = Counter(kept["errors"])
        kept["failures"] = [Failure(**each) for each in kept["failures"]]
        kept |= {name: set(kept[name]) for name in ("seeds", "on", "due")}
        return cls(**kept)


def command_of(plan: Plan) -> str:
    """Returns the command that plays a plan again."""
    words = f"python -m tests.cluster --seed {plan.seed} --nodes {plan.nodes} --writers {plan.writers}"
    words += f" --seconds {plan.seconds:g} --kills {plan.kills:g}{' --ssh' if plan.ssh else ''}"
    words += f" --trouble {plan.trouble:g}{' --builds' if plan.builds else ''}"
    words += f" --stopped {plan.stopped[0]:g}" if len(plan.stopped) == 1 else ""
    words += "".join(f" --fault {name}" for name in plan.faults) if len(plan.faults) < 8 else ""
    return words + (f" --mutant {plan.mutant}" if plan.mutant else "")

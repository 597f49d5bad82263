"""What long runs came to: one line of JSON each in docs/, and the page that shows them.

`python -m tests.proof.records` writes the page anew; tests/proof insists that it is up to date.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from tests.simulation.runs import Choice, Total

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "docs/explanation/cluster-runs.jsonl"
_HEAD = """# Long runs of the simulated cluster

Made by `nox -s cluster -- --seeds N --minutes M` and `-- --real N`; each line is one run, as
`cluster-runs.jsonl` has it. A run that was interrupted and continued is one line, counted together.
`+` behind a commit: the code differed from it. Years are simulated time of whole clusters; kills are
`kill -9` and losses of power; MB is the most memory that one worker took in the first 1,000 seeds, and in
all. Violations name the invariant and the seed. See [the simulated cluster](cluster.md).

| date | commit | machine | layer | seeds | transactions | commits | kills | years | CPU h | MB | violations |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def run_of(choice: Choice) -> str:
    """Returns what tells long runs apart: a choice, on a commit."""
    return name_of(choice.first, choice.nodes, choice.commands, choice.profile, choice.faults)


def name_of(*about: object) -> str:
    """Returns the name of a run of this commit's code."""
    return hashlib.sha256(repr((_git("rev-parse", "HEAD"), *about)).encode()).hexdigest()[:16]


def place_of(run: str) -> Path:
    """Returns where a long run keeps what it has done so far."""
    return ROOT / ".nox" / "cluster" / f"{run}.json"


def about(layer: str) -> dict[str, Any]:
    """Returns when, of what and where a run is made. A commit with a mark: the code differed from it."""
    changed = _git("status", "--porcelain", "--", "pipeline", "tests")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if changed else ""),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "layer": layer,
    }


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, cwd=ROOT).stdout.strip()


def of_virtual(total: Total, choice: Choice) -> dict[str, Any]:
    """Returns the record of a run of the virtual cluster."""
    kills = ("kill", "leader-killed", "waiter-dies", "power-loss")
    return {
        **about("virtual"),
        "run": run_of(choice),
        "seeds": total.runs,
        "first": choice.first,
        "next": total.next_seed,
        "steps": total.steps,
        "transactions": total.transactions,
        "commits": total.commits,
        "kills": sum(count for (fault, _), count in total.hits.items() if fault in kills),
        "cluster_years": round(total.years, 3),
        "cpu_seconds": round(total.cpu_seconds),
        "most_memory_mb": total.most_memory // 1024,
        "early_memory_mb": total.early_memory // 1024,
        "failures": [{"seed": plan.seed, "invariant": name} for plan, name, _ in total.failures],
    }


def append(record: dict[str, Any], place: Path = RECORDS) -> None:
    """Adds a run to the list, in the place of the one that it continues (the same `run`), and shows it."""
    others = [each for each in records(place) if "run" not in record or each.get("run") != record["run"]]
    place.write_text("".join(json.dumps(each) + "\n" for each in [*others, record]))
    place.with_suffix(".md").write_text(page(place))


def records(place: Path = RECORDS) -> list[dict[str, Any]]:
    """Returns all runs, the oldest first."""
    if not place.exists():
        return []
    return [json.loads(line) for line in place.read_text().splitlines() if line.strip()]


def page(place: Path = RECORDS) -> str:
    """Returns the page that shows them."""
    return _HEAD + "".join(_row(each) for each in records(place))


def _row(record: dict[str, Any]) -> str:
    failures = record.get("failures") or []
    seeds = ", ".join(f"{each.get('invariant')} at {each.get('seed')}" for each in failures)
    cells = (
        record["date"],
        f"`{record['commit']}`",
        record["machine"],
        record.get("layer", "virtual"),
        f"{record.get('seeds', 0):,}",
        f"{record.get('transactions', 0):,}",
        f"{record.get('commits', 0):,}",
        f"{record.get('kills', 0):,}",
        f"{record['cluster_years']:.2f}" if "cluster_years" in record else "",
        f"{record['cpu_seconds'] / 3600:.1f}" if "cpu_seconds" in record else "",
        f"{record['early_memory_mb']} → {record['most_memory_mb']}" if "early_memory_mb" in record else "",
        f"{len(failures)}: {seeds}" if failures else "0",
    )
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    RECORDS.with_suffix(".md").write_text(page())

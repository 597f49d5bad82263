"""What long runs came to: one line of JSON each in docs/, and the page that shows them.

`python -m tests.proof.records` writes the page anew; a test insists that it is up to date.
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
PAGE = ROOT / "docs/explanation/cluster-runs.md"
_HEAD = """# Long runs of the simulated cluster

Made by `nox -s cluster -- --seeds N --minutes M` and `-- --real N`; each line is one run, as
`cluster-runs.jsonl` has it. A run that was interrupted and continued is one line, counted together.
[The simulated cluster](cluster.md) says what the columns mean.

| date | commit | machine | layer | seeds | transactions | commits | kills | years | CPU hours | violations |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def kept(choice: Choice) -> Path:
    """Returns where a long run of this choice, on this commit, keeps what it has done so far."""
    about = (commit(), choice.first, choice.nodes, choice.commands, choice.profile, choice.faults)
    name = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    return ROOT / ".nox" / "cluster" / f"{name}.json"


def commit() -> str:
    """Returns the commit of this checkout, with a mark where files differ from it."""
    words = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def of_virtual(total: Total, choice: Choice) -> dict[str, Any]:
    """Returns the record of a run of the virtual cluster."""
    kills = ("kill", "leader-killed", "waiter-dies", "power-loss")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "layer": "virtual",
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
        "failures": [{"seed": plan.seed, "invariant": name} for plan, name, _ in total.failures],
    }


def append(record: dict[str, Any]) -> None:
    """Adds a run to the list, in the place of the one that it continues, and shows it."""
    key = ("layer", "commit", "first", "machine")
    lines = [each for each in records() if [each.get(k) for k in key] != [record.get(k) for k in key]]
    text = "".join(json.dumps(each) + "\n" for each in [*lines, record])
    RECORDS.write_text(text)
    PAGE.write_text(page())


def records() -> list[dict[str, Any]]:
    """Returns all runs, the oldest first."""
    if not RECORDS.exists():
        return []
    return [json.loads(line) for line in RECORDS.read_text().splitlines() if line.strip()]


def page() -> str:
    """Returns the page that shows them."""
    return _HEAD + "".join(_row(each) for each in records())


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
        f"{len(failures)}: {seeds}" if failures else "0",
    )
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    PAGE.write_text(page())

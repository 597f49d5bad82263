"""Runs every benchmark of this folder and prints one table. `--json FILE` writes the rows as well.

Each module has `rows(only)`, which yields dicts {name, value, unit, limit, ok, runs}: ratios taken in one run
against a named baseline. A limit that is missed makes the exit code 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import tests.bench


def main() -> int:
    """Runs the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="also write the rows as a JSON list")
    parser.add_argument("modules", nargs="*", help="which of the benchmarks; all by default")
    chosen = parser.parse_args()
    names = [m.name for m in pkgutil.iter_modules(tests.bench.__path__) if not m.name.startswith("_")]
    rows: list[dict[str, Any]] = []
    for name in chosen.modules or names:
        module = importlib.import_module(f"tests.bench.{name}")
        for row in module.rows():
            rows.append(row)
            limit = "-" if row["limit"] is None else f"{row['limit']:g}"
            verdict = "ok" if row["ok"] else "MISSED"
            figure = f"{row['value']:10.3f} {row['unit']:8} limit {limit:>6}"
            print(f"{verdict:6}  {figure}  runs {row['runs']:>4}  {row['name']}", flush=True)
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

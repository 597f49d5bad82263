"""What the pipeline costs beside the build itself: time, memory, disk, start-up, and the ledger.

Baselines, each measured in the same run: the same `dpkg-buildpackage` by hand on the same commit with the
same recipe and an equally warm Maven repository, in a tree that lies there already; bare invoke with an
empty file of tasks. Pairs are interleaved, and take turns at who is first, so that a machine that is busy is
busy for both; what either left unwritten is written before the other's clock starts. Python keeps its
compiled files in a folder of the run, as an installed package has them: a checkout may be told not to.

Where the time of a build goes is read off what it leaves: the stages of its report, and the time of its
manifest, which is written when the artifacts are kept. So the command that is measured is the plain one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.builds import commands, toolchain, workspace
from pipeline.builds.commands import Surroundings
from pipeline.builds.maven_repository import populate
from pipeline.builds.source import Resolved, Sources
from pipeline.builds.workspace import Place
from pipeline.records.base import load
from pipeline.records.builds import JavaSettings, Manifest
from tests.cluster.tiny import BRANCH, ROOT, Host, finish

PAIRS = int(os.environ.get("BENCH_PAIRS", "9"))
LISTINGS = 15
CACHE_FILES, CACHE_BYTES = 20_000, 540_000_000
LOG_MEGABYTES = 100

Row = dict[str, Any]


def rows() -> Iterator[Row]:
    """Yields every figure; see the table of limits in docs/explanation/main-job.md."""
    with tempfile.TemporaryDirectory(prefix="bench-build-") as name:
        folder = Path(name)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        yield list_of_tasks(folder)
        yield from private_repository(folder)
        yield memory(folder)
        yield from overhead(folder)


def row(name: str, value: float, unit: str, limit: float | None, runs: int) -> Row:
    """Returns one figure and whether it keeps its limit; without one it explains another figure."""
    ok = limit is None or value <= limit
    return {"name": name, "value": value, "unit": unit, "limit": limit, "ok": ok, "runs": runs}


@dataclass(frozen=True)
class Timed:
    """One command and its parts, in seconds: until the build's own process starts, in it, and after it."""

    total: float
    before: float
    inside: float
    after: float


def overhead(folder: Path) -> Iterator[Row]:
    """`invoke build` of the sample, warm, over the same packaging by hand; and what it costs the ledger."""
    env = {**os.environ, "PIPELINE_HOME": str(folder / "home"), "PATH": _path()}
    env["PIPELINE_MACHINE_LOCK"] = str(folder / "lock")
    warm = [_build(env)[1] for _ in range(2)][-1]  # the first fills the cache, the second warms everything
    mine: list[Timed] = []
    by_hand: list[float] = []
    costs = []
    for pair in range(PAIRS):
        for first in (pair % 2 == 0, pair % 2 == 1):
            if first:
                timed, report = _build(env)
                mine.append(timed)
                costs.append(report["ledger"])
            else:
                by_hand.append(_by_hand(folder / "home", warm, pair))
    hand = statistics.median(by_hand)
    pairs = list(zip(mine, by_hand, strict=True))
    name = f"invoke build of the sample over dpkg-buildpackage by hand ({hand:.1f} s)"
    yield row(name, _median(one.total - other for one, other in pairs), "s", 1.0 + 0.01 * hand, PAIRS)
    yield row("  until the build's process starts", _median(one.before for one in mine), "s", None, PAIRS)
    yield row("  in it, over by hand", _median(one.inside - other for one, other in pairs), "s", None, PAIRS)
    yield row("  after it has ended", _median(one.after for one in mine), "s", None, PAIRS)
    fixed = _median(one.before + one.after for one in mine)
    yield row("  fixed: before and after, whatever is built", fixed, "s", None, PAIRS)
    for what in ("commits", "pushes"):
        yield row(f"ledger {what} of a build", max(cost[what] for cost in costs), what, 2, PAIRS)


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def _build(env: dict[str, str]) -> tuple[Timed, dict[str, Any]]:
    words = [sys.executable, "-m", "invoke", "build", "--branch", BRANCH, "--json"]
    os.sync()
    begun = time.monotonic()
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    total, ended = time.monotonic() - begun, time.time()
    if done.returncode != 0:
        raise RuntimeError(f"the sample was not built:\n{done.stdout}\n{done.stderr}")
    report = dict(json.loads(done.stdout))
    stages = {stage["name"]: stage["duration_seconds"] for stage in report["stages"]}
    inside = stages["maven"] + stages["packages"]
    after = ended - (Path(report["manifest"]).stat().st_mtime - stages["artifacts"])
    return Timed(total, total - inside - after, inside, after), report


def _by_hand(home: Path, report: dict[str, Any], number: int) -> float:
    """Builds the same commit in a tree of its own, made before the clock starts; returns the seconds."""
    recipe = load(Manifest, Path(report["manifest"]).read_bytes(), "manifest.json").recipe
    assert recipe is not None
    place = Place(home.parent / "hand", fixed=False, why="by hand")
    room, _ = workspace.create(place, "job_hand", number + 1, home / "cache")
    resolved = Resolved(recipe.source, recipe.branch, recipe.commit, recipe.source_date_epoch)
    Sources(home / "cache").checkout(resolved, room.tree)
    around = Surroundings("hand", toolchain.find(JavaSettings(), os.environ).path)
    os.sync()
    begun = time.monotonic()
    with (room.root / "log").open("wb") as log:
        subprocess.run(
            commands.command(recipe, room, around),
            cwd=room.tree,
            env=commands.environment(recipe, room, around),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )
    seconds = time.monotonic() - begun
    workspace.remove(room.root)
    return seconds


def memory(folder: Path) -> Row:
    """The pipeline's own process while a build writes a long log: the highest resident set the kernel saw."""
    host = Host(folder / "noisy")
    host.switch("noise", value=str(LOG_MEGABYTES))
    build = host.start("build", "--branch", BRANCH, "--json")
    peak = 0
    while build.poll() is None:
        peak = max(peak, _high_water(build.pid))
        time.sleep(0.02)
    ended = finish(build)
    assert ended.code == 0, ended.err
    manifest = json.loads(Path(ended.json()["manifest"]).read_text())
    assert manifest["log"]["raw_size_bytes"] >= LOG_MEGABYTES * 1_000_000
    name = f"pipeline process, peak resident memory, {LOG_MEGABYTES} MB log"
    return row(name, peak / 1000, "MB", 120, 1)


def _high_water(pid: int) -> int:
    """Returns a process's VmHWM in kB; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:")), 0)


def private_repository(folder: Path) -> Iterator[Row]:
    """A job's own Maven repository over a cache of the size that CloudStack needs."""
    cache = folder / "cache"
    data = os.urandom(CACHE_BYTES // CACHE_FILES)
    for number in range(CACHE_FILES):
        place = cache / f"org/g{number // 400}/a{number // 4}/1.0/a{number // 4}-1.0{_KINDS[number % 4]}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    os.sync()
    populate(cache, folder / "repository0")  # adopts the cache's files, once in its life
    seconds, extra = [], 0
    for number in range(1, 4):
        repository = folder / f"repository{number}"
        begun = time.monotonic()
        populate(cache, repository)
        seconds.append(time.monotonic() - begun)
        extra = _own_bytes(repository)
    text = f"job-private Maven repository over {CACHE_BYTES // 10**6} MB, {CACHE_FILES} files"
    yield row(text, statistics.median(seconds), "s", 3.0, 3)
    yield row("files of it that are a second copy", extra / 1e6, "MB", 0, 1)


_KINDS = (".jar", ".pom", "-sources.jar", "-tests.jar")


def _own_bytes(folder: Path) -> int:
    """Returns what the files of a tree take on disk that no other tree holds."""
    total = 0
    for at, _, names in os.walk(folder):
        stats = [(Path(at) / name).stat() for name in names]
        total += sum(stat.st_blocks * 512 for stat in stats if stat.st_nlink == 1)
    return total


def list_of_tasks(folder: Path) -> Row:
    """`invoke --list` here, over bare invoke with an empty file of tasks."""
    empty = folder / "empty"
    empty.mkdir()
    (empty / "tasks.py").write_text("")
    ratios = []
    for _ in range(LISTINGS):
        ratios.append(_listing(ROOT) / _listing(empty))
    return row("invoke --list over bare invoke", statistics.median(ratios), "x", 1.5, LISTINGS)


def _listing(folder: Path) -> float:
    begun = time.monotonic()
    words = [sys.executable, "-m", "invoke", "--list"]
    # Of an empty file invoke says that it has no tasks, with status 1.
    subprocess.run(words, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL)
    return time.monotonic() - begun


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"

"""What a comparison costs beside its baselines: a full descent, its memory, and the sample's from end to end.

With `BENCH_LEFT` and `BENCH_RIGHT` in the environment the descent is made of those two folders' packages,
two real builds for instance; without, of packages that are made here, of jars of jars.
"""

from __future__ import annotations

import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.records.comparison import Comparison, Verdict
from pipeline.runtime.comparison import compare_here
from tests.bench.ssh import row

ROOT = Path(__file__).resolve().parents[2]
RUNS = 3
PACKAGES, JARS, CLASSES = 4, 12, 1500
MANY = 1_000_000

Row = dict[str, Any]
#: Run in a process of its own, which prints the most memory that it and each of its readers took.
_MEASURED = """
import re, resource, sys
from pipeline.runtime.comparison import compare_here
found = compare_here(sys.argv[1], sys.argv[2], lambda text: None)
# Its own by the kernel's other count: getrusage begins with what the parent had before it started this.
ours = re.search("VmHWM:\\s+([0-9]+)", open("/proc/self/status").read())[1]
print(found.verdict, ours, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def rows() -> Iterator[Row]:
    """Yields the rows: the descent, the memory of very large containers, the sample."""
    with tempfile.TemporaryDirectory(prefix="bench-compare-") as name:
        folder = Path(name)
        yield from descent(folder)
        yield from memory(folder)
        yield from sample(folder)


def descent(folder: Path) -> Iterator[Row]:
    """Yields what it takes to go down into packages that differ, against unpacking them once."""
    given = os.environ.get("BENCH_LEFT"), os.environ.get("BENCH_RIGHT")
    sides = [Path(each or folder / side) for each, side in zip(given, ("left", "right"), strict=True)]
    if None in given:
        for side, hour in zip(sides, (3, 4), strict=True):
            side.mkdir()
            for number in range(PACKAGES):
                write_package(side, number, hour)
    packages = [str(each) for side in sides for each in sorted(side.glob("*.deb"))]
    times: dict[str, list[float]] = {"here": [], "dpkg-deb": []}
    found: Comparison | None = None
    for _ in range(RUNS):
        begun = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(unpack, packages))
        times["dpkg-deb"].append(time.perf_counter() - begun)
        found = compare_here(str(sides[0]), str(sides[1]), lambda text: None)
        times["here"].append(found.duration_seconds)
    assert found is not None
    size = sum(Path(each).stat().st_size for each in packages) // 2_000_000
    what = f"descent into {len(packages) // 2} packages ({size} MB a side, {found.verdict})"
    ratios = [one / two for one, two in zip(times["here"], times["dpkg-deb"], strict=True)]
    yield row(f"{what}, against dpkg-deb --fsys-tarfile", statistics.median(ratios), "x", 1.25, RUNS)
    yield row(what, statistics.median(times["here"]), "s", None, RUNS)
    yield row(f"{what}: round trips", found.wire.round_trips, "", None, 1)


def unpack(package: str) -> None:
    """Unpacks a package as dpkg does, into nothing."""
    with Path(os.devnull).open("wb") as nothing:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", package], stdout=nothing, check=True)


def memory(folder: Path) -> Iterator[Row]:
    """Yields the most memory of both ends for containers of very many entries, one of which differs."""
    for side in ("one", "two"):
        (folder / side).mkdir()
        with zipfile.ZipFile(folder / side / "a.jar", "w") as jar:
            for number in range(MANY):
                last = side if number == MANY // 2 else ""
                jar.writestr(zipfile.ZipInfo(f"p{number % 400}/C{number}.class", (2020, 1, 2, 3, 4, 6)), last)
    command = [sys.executable, "-c", _MEASURED, str(folder / "one"), str(folder / "two")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    verdict, ours, readers = done.stdout.split()
    if verdict != Verdict.DIFFER:
        raise SystemExit(f"containers of {MANY} entries: {verdict}")
    yield row(f"a reader's most memory, {MANY} entries", int(readers) / 1024, "MiB", 150, 1)
    yield row(f"the comparison's own most memory, {MANY} entries", int(ours) / 1024, "MiB", 150, 1)


def sample(folder: Path) -> Iterator[Row]:
    """Yields what `invoke compare` of the sample takes when both builders have built it."""
    home = folder / "home"
    environment = {**os.environ, "HOME": str(home), "PIPELINE_HOME": str(home / ".pipeline")}
    home.mkdir()
    invoke = [sys.executable, "-m", "invoke"]
    for words in (["build", "--branch", "ExternalNew"], ["compare"]):
        subprocess.run([*invoke, *words], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        subprocess.run([*invoke, "compare"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    yield row("invoke compare of the sample, both built", statistics.median(seconds), "s", 1.0, RUNS)


def write_package(side: Path, number: int, hour: int) -> None:
    """Makes a package of jars, in each of which the times differ, and in one of them a class."""
    tree = side / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: p{number}\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\n"
        "Description: one\n"
    )
    for jar in range(JARS):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
            for at in range(CLASSES):
                content = random.Random(f"{number} {jar} {at}").randbytes(900) * 3
                changed = b"%d" % hour if (jar, at) == (JARS // 2, CLASSES // 2) else b""
                info = zipfile.ZipInfo(f"p{at % 40}/C{at}.class", (2020, 1, 2, hour, 4, 6))
                file.writestr(info, content + changed, zipfile.ZIP_DEFLATED)
        place = tree / "usr/share/java" / f"j{jar}.jar"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data.getvalue())
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(side / f"p{number}_1_all.deb")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["rm", "-r", str(tree)], check=True)

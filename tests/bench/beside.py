"""Other tools beside `invoke compare`, on the same pairs, in the same run: what each finds, and in what time.

Only what is installed is asked: diffoscope, and strip-nondeterminism with a comparison of bytes. Time is that
of processors, of a tool and all that it starts, for it depends least on what else the machine does; memory is
that of the largest single process. With `BENCH_LEFT` and `BENCH_RIGHT` two folders of real packages are
compared as well. What takes longer than `LIMIT_SECONDS` is ended, and said to be.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench._planted import Planted, pairs
from tests.bench.ssh import ENTRIES, row, write_jar

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = float(os.environ.get("BENCH_LIMIT", "100"))
#: Prints in JSON how a command ended, its seconds, those of processors, and the largest process in KiB. What
#: has to be ended is ended with its group, and counted as far as it was waited for.
_MEASURED = """
import json, os, resource, signal, subprocess, sys, time
begun = time.perf_counter()
with open(sys.argv[1], "wb") as out:
    child = subprocess.Popen(sys.argv[3:], stdout=out, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        status = child.wait(float(sys.argv[2]))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        status = None
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""

Row = dict[str, Any]


@dataclass(frozen=True)
class Took:
    """What a command printed, its status (None: ended at the limit), seconds, of processors too, and MiB."""

    status: int | None
    output: str
    seconds: float
    processors: float
    memory: float

    @property
    def words(self) -> str:
        """Returns its cost in words."""
        end = "ended at the limit" if self.status is None else f"status {self.status}"
        return f"{end}, {self.seconds:.1f} s, {self.processors:.1f} s of processors, {self.memory:.0f} MiB"


def rows() -> Iterator[Row]:
    """Yields the rows: planted differences, the sample, large jars, real packages."""
    if shutil.which("diffoscope") is None:
        note("diffoscope is not installed, so nothing stands beside (apt-get install diffoscope)")
        return
    with tempfile.TemporaryDirectory(prefix="bench-beside-") as name:
        folder = Path(name)
        yield from planted(folder)
        yield from sample(folder)
        yield from jars(folder)
        yield from real(folder)


def planted(folder: Path) -> Iterator[Row]:
    """Yields of how many planted differences each tool's answer holds the words that name it."""
    with_strip = shutil.which("strip-nondeterminism") is not None
    every = list(pairs())
    missed: dict[str, list[str]] = {"here": [], "diffoscope": []}
    equal: dict[str, list[Planted]] = {"here": [], "strip-nondeterminism": []}
    took: dict[str, float] = {"here": 0.0, "diffoscope": 0.0}
    for number, each in enumerate(every):
        sides = [folder / str(number) / side / each.name for side in ("left", "right")]
        for place, data in zip(sides, (each.left, each.right), strict=True):
            place.parent.mkdir(parents=True)
            place.write_bytes(data)
        here, there = ours(folder, *sides), diffoscope(folder, *sides)
        found = json.loads(here.output)
        took["here"] += here.processors
        took["diffoscope"] += there.processors
        if not re.search(each.words, told(found)):
            missed["here"].append(each.what)
        if not re.search(each.words, changed(there.output)):
            missed["diffoscope"].append(each.what)
        if found["verdict"] != "DIFFER":
            equal["here"].append(each)
        if with_strip and same_after_stripping(sides):
            equal["strip-nondeterminism"].append(each)
    count = len(every)
    for tool, what in missed.items():
        yield row(
            f"planted differences named, of {count}, {tool}{_but(what)}", count - len(what), "", None, 1
        )
        yield row(f"planted differences, {tool}: processors' time", took[tool], "s", None, 1)
    for tool, same in equal.items():
        if tool == "here" or with_strip:
            wrong = [each.what for each in same if not each.noise]
            name = f"planted differences, of {count}, made equal by normalising, {tool}"
            yield row(name, len(same), "", None, 1)
            limit = 0 if tool == "here" else None
            yield row(f"{name}, that are no noise{_named(wrong)}", len(wrong), "", limit, 1)
    if not with_strip:
        note("strip-nondeterminism is not installed")


def sample(folder: Path) -> Iterator[Row]:
    """Yields what each says of the packages that two builders made of a branch of the sample."""
    home = folder / "home"
    environment = {**os.environ, "HOME": str(home), "PIPELINE_HOME": str(home / ".pipeline")}
    home.mkdir()
    for branch in ("differs-time", "differs-random"):
        for words in (["build", "--branch", branch], ["compare", "--branch", branch, "--json"]):
            done = subprocess.run(
                [sys.executable, "-m", "invoke", *words],
                cwd=ROOT,
                env=environment,
                check=False,
                capture_output=True,
            )
        found = json.loads(done.stdout)
        folders = [Path(found[side].rpartition(", ")[2]) for side in ("left", "right")]
        yield from beside(folder, f"the sample's {branch}", *folders)


def jars(folder: Path) -> Iterator[Row]:
    """Yields what it takes to find one class among very many."""
    places = [folder / side / "a.jar" for side in ("one", "two")]
    for place in places:
        place.parent.mkdir()
    with multiprocessing.Pool(2) as pool:
        pool.starmap(write_jar, zip(places, (b"", b"changed"), strict=True))
    size = places[0].stat().st_size // 10**6
    what = f"two jars of {size} MB, {ENTRIES} entries, one class changed"
    yield from beside(folder, what, *(place.parent for place in places))
    for place in places:
        place.unlink()


def real(folder: Path) -> Iterator[Row]:
    """Yields what each says of the packages of two real builds, one package after the other."""
    given = os.environ.get("BENCH_LEFT"), os.environ.get("BENCH_RIGHT")
    if given[0] is None or given[1] is None:
        return
    yield from beside(folder, "real packages", Path(given[0]), Path(given[1]))


def beside(folder: Path, what: str, left: Path, right: Path) -> Iterator[Row]:
    """Yields rows of each file that differs: what both say of it, and of what each took."""
    for one in sorted(left.iterdir()):
        other = right / one.name
        if one.suffix not in (".deb", ".jar") or one.read_bytes() == other.read_bytes():
            continue
        here, there = ours(folder, one, other), diffoscope(folder, one, other)
        name = f"{what}: {one.name}"
        yield row(f"{name}, here: {said(here)}, {here.words}", here.processors, "s", None, 1)
        lines = there.output.count("\n")
        yield row(f"{name}, diffoscope: {lines} lines, {there.words}", there.processors, "s", None, 1)
        ended = " (at the limit)" if None in (here.status, there.status) else ""
        yield row(f"{name}, here against diffoscope{ended}", here.processors / there.processors, "x", None, 1)


def said(here: Took) -> str:
    """Returns what a comparison says in words."""
    if here.status is None:
        return "nothing"
    found = json.loads(here.output)
    leaves = [leaf for each in found["artifacts"] for leaf in each["leaves"]]
    causes = ", ".join(sorted({leaf["cause"] for leaf in leaves if leaf["cause"]})) or "no cause"
    return f"{found['verdict']}, {len(leaves)} leaves ({causes})"


def ours(folder: Path, left: Path, right: Path) -> Took:
    """Compares two files as a user does."""
    command = [
        sys.executable,
        "-m",
        "invoke",
        "compare",
        "--left",
        str(left),
        "--right",
        str(right),
        "--json",
    ]
    return run(folder, command)


def diffoscope(folder: Path, left: Path, right: Path) -> Took:
    """Compares two files with diffoscope, which may print as much as it wants."""
    return run(folder, ["diffoscope", "--no-progress", "--text", "-", str(left), str(right)])


def run(folder: Path, command: Sequence[str]) -> Took:
    """Runs a command and measures it with all that it starts."""
    out = folder / "output"
    words = [sys.executable, "-c", _MEASURED, str(out), str(LIMIT_SECONDS), *command]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=True, text=True)
    status, seconds, processors, memory = json.loads(done.stdout)
    return Took(status, out.read_text("utf-8", "replace"), seconds, processors, memory / 1024)


def same_after_stripping(sides: Sequence[Path]) -> bool:
    """Says whether two files are the same bytes once strip-nondeterminism was at both."""
    for place in sides:
        subprocess.run(["strip-nondeterminism", str(place)], check=False, capture_output=True)
    return sides[0].read_bytes() == sides[1].read_bytes()


def told(found: dict[str, Any]) -> str:
    """Returns what a comparison tells of its leaves."""
    lines = []
    for artifact in found["artifacts"]:
        for leaf in artifact["leaves"]:
            lines.append(" ".join(map(str, (*leaf["path"][1:], leaf["what"], leaf["left"], leaf["right"]))))
    return "\n".join(lines)


def changed(output: str) -> str:
    """Returns the lines that diffoscope shows as changed, without its drawing and the digests of files."""
    lines = [line.lstrip("│ ") for line in output.splitlines()[2:]]
    return "\n".join(line for line in lines if line[:1] in "+-" and line and "SHA-256" not in line)


def note(text: str) -> None:
    """Says why there are fewer rows."""
    print(f"beside: {text}", file=sys.stderr)


def _but(what: Sequence[str]) -> str:
    return f" (not {'; '.join(what)})" if what else ""


def _named(what: Sequence[str]) -> str:
    return f" ({'; '.join(what)})" if what else ""

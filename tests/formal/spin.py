"""Runs spin: a model with its bounds becomes a C program, which visits every state or says why it did not.

Results count what was really done: a search that was cut short by depth, memory or time raises Incomplete.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent
PROGRAMS = ("spin", "gcc")

#: states: assertions and states without a way out. cycles: runs that never end. shortest: as states, but
#: breadth first, which finds the shortest counterexample.
Search = Literal["states", "cycles", "shortest"]

#: To compile takes longer than most searches do: no more than pays.
_FLAGS: dict[Search, tuple[str, ...]] = {
    "states": ("-O1", "-DSAFETY"),
    "cycles": ("-O1", "-DNP"),
    "shortest": ("-O0", "-DSAFETY", "-DBFS"),
}
_DEPTH = 200_000
_CUT_SHORT = ("max search depth too small", "Search not completed", "MEMLIM", "out of memory", "aborting")


class Incomplete(Exception):
    """The search did not visit every state, and found nothing wrong in those that it visited."""


@dataclass(frozen=True)
class Result:
    """What a search came to. `seconds` are of one core; `violated` names the first invariant that failed.

    `steps` is the length of the counterexample, less what sets the model up.
    """

    states: int
    transitions: int
    depth: int
    seconds: float
    megabytes: float
    violated: str | None = None
    steps: int = 0


def missing() -> list[str]:
    """Returns the programs that are needed and not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def check(
    model: str,
    defines: Sequence[str],
    search: Search,
    folder: Path,
    *,
    megabytes: int = 1900,
    cpu_seconds: int = 600,
) -> Result:
    """Checks `model` (a file's name without ending) under `defines`, in an empty `folder`.

    Raises Incomplete where memory or time were not enough, CalledProcessError where the model is no Promela.
    """
    source = FOLDER / f"{model}.pml"
    words = _words(defines, search)
    shutil.copy(source, folder)
    _run(["spin", "-a", *words, source.name], folder)
    flags = (*_FLAGS[search], f"-DMEMLIM={megabytes}")
    _run(["gcc", "-w", *flags, "-o", "pan", "pan.c"], folder)
    options = ["-n", f"-m{_DEPTH}", "-w20", *(["-l"] if search == "cycles" else [])]
    said, seconds, peak = _measured(["./pan", *options], folder, cpu_seconds)
    figures = _figures(said)
    if "errors: 1" in said:
        name, steps = _counterexample(model, words, said, folder)
        return Result(*figures, seconds, peak, name, steps)
    if "errors: 0" not in said or any(word in said for word in _CUT_SHORT):
        raise Incomplete(f"{model} {' '.join(words)}: {said.strip()[-300:]}")
    return Result(*figures, seconds, peak)


def invariants(model: str) -> set[str]:
    """Returns the names of a model's assertions: each stands in a comment beside its own."""
    names = set()
    for line in (FOLDER / f"{model}.pml").read_text().splitlines():
        if "assert(" in line and (found := _NAME.search(line)):
            names.add(found[1])
    return names


def story(model: str, defines: Sequence[str], search: Search, folder: Path) -> str:
    """Returns the counterexample that `check` has left in `folder`, a line of the model for each step."""
    text = _run(["spin", "-t", "-p", *_words(defines, search), f"{model}.pml"], folder)
    source = (FOLDER / f"{model}.pml").read_text().splitlines()
    lines, last = [], 0
    for line in text.splitlines():
        found = re.match(r"\s*(\d+):\tproc +(\d+) \((\w+):\d+\) \S+?:(\d+) \(state \d+\)", line)
        if found and found[3] != ":init:" and int(found[1]) != last:
            last, at = int(found[1]), int(found[4]) - 1
            about = source[at + 1].strip() if at + 1 < len(source) else ""
            words = [source[at].strip(), *([about] if about.startswith("/*") else [])]
            lines.append(f"{last:>4}  {found[3]} {int(found[2]) - 1}  {' '.join(words)}")
    return "\n".join(lines)


_NAME = re.compile(r"/\* ([a-z-]+) \*/")


def _words(defines: Sequence[str], search: Search) -> list[str]:
    return [f"-D{each}" for each in (*defines, *(["BREADTH_FIRST"] if search == "shortest" else []))]


def _figures(said: str) -> tuple[int, int, int]:
    found = [
        re.search(pattern, said)
        for pattern in (r"(\d+) states, stored", r"(\d+) transitions", r"depth reached (\d+)")
    ]
    states, transitions, depth = (int(each[1]) if each else 0 for each in found)
    return states, transitions, depth


def _counterexample(model: str, words: Sequence[str], said: str, folder: Path) -> tuple[str, int]:
    trail = (folder / f"{model}.pml.trail").read_text().splitlines()
    steps = sum(1 for line in trail if not line.startswith("-") and line.split(":")[1] != "0")
    what = next(line for line in said.splitlines() if line.startswith("pan:1:"))
    if "invalid end state" in what:
        return "no-dead-end", steps
    if "non-progress cycle" in what:
        return "no-endless-run", steps
    told = _run(["spin", "-t", *words, f"{model}.pml"], folder)
    line = re.search(r"pml:(\d+), Error: assertion violated", told)
    text = (FOLDER / f"{model}.pml").read_text().splitlines()[int(line[1]) - 1] if line else ""
    name = _NAME.search(text)
    return (name[1] if name else f"unnamed: {what}"), steps


def _run(words: Sequence[str], folder: Path) -> str:
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout


def _measured(words: Sequence[str], folder: Path, cpu_seconds: int) -> tuple[str, float, float]:
    """Runs a program with a bound on its processor time; returns its output, CPU seconds and megabytes."""
    with (folder / "out").open("w") as out:
        limited = ["sh", "-c", f'ulimit -t {cpu_seconds}; exec "$@"', "sh", *words]
        process = subprocess.Popen(limited, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
    return (folder / "out").read_text(), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024

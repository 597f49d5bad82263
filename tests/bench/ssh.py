"""What a comparison over SSH costs: two real sshd on loopback, files as large as CloudStack's packages.

Both sides run on this one machine, so the baseline hashes both at once as well, each in a process of its
own with nothing else to do. Connecting (SSH's greeting, the login, an interpreter, the reader sent over) is
told apart: on loopback it is all computing, elsewhere it is mostly distance.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.records.comparison import Comparison, Verdict
from pipeline.runtime.comparison import compare_here
from tests.ssh.servers import Builder, reached
from tests.sshd import sshd_program, start_sshd

RUNS = 7
PACKAGES, PACKAGE_BYTES = 8, 50_000_000
ENTRIES, ENTRY_BYTES = 60_000, 2_130
#: What one does without this product, on both sides at once.
HASHES = """
import hashlib, sys, time
begun = time.perf_counter()
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        hashlib.file_digest(file, "sha256").hexdigest()
print(time.perf_counter() - begun)
"""

Row = dict[str, Any]


def row(name: str, value: float, unit: str, limit: float | None, runs: int) -> Row:
    """Returns one row of the table."""
    ok = limit is None or value <= limit
    return {"name": name, "value": value, "unit": unit, "limit": limit, "ok": ok, "runs": runs}


def rows() -> Iterator[Row]:
    """Yields the rows: equal builds, then two large jars of which one class differs."""
    if sshd_program() is None:
        raise SystemExit("sshd is not installed: apt-get install openssh-server")
    with tempfile.TemporaryDirectory(prefix="bench-ssh-") as name, two_builders(Path(name)) as builders:
        yield from equal_builds(*builders)
        yield from large_jars(*builders)


@contextmanager
def two_builders(folder: Path) -> Iterator[tuple[Builder, Builder]]:
    """Yields two servers that this process reaches by name, with a home of its own."""
    home = folder / "home"
    for each in (home, folder / "one", folder / "two"):
        each.mkdir()
    before = {name: os.environ.get(name) for name in ("HOME", "PIPELINE_HOME")}
    os.environ.update(HOME=str(home), PIPELINE_HOME=str(home / ".pipeline"))
    try:
        with start_sshd(folder / "one") as one, start_sshd(folder / "two") as two:
            yield reached("far1", one, home, folder / "left"), reached("far2", two, home, folder / "right")
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key)
            else:
                os.environ[key] = value


def equal_builds(left: Builder, right: Builder) -> Iterator[Row]:
    """Yields what it takes to find equal builds equal."""
    for side in (left, right):
        for number in range(PACKAGES):
            write_package(side.root / f"p{number}_1_all.deb", number)
    files = [[str(each) for each in sorted(side.root.iterdir())] for side in (left, right)]
    ratios, whole, found = [], [], compare(left, right)
    for _ in range(RUNS):
        baseline = hash_both(files)
        found = compare(left, right)
        ratios.append((found.duration_seconds - found.wire.connect_seconds) / baseline)
        whole.append(found.duration_seconds)
    if found.verdict != Verdict.AGREE or found.wire.round_trips != 1:
        raise SystemExit(f"equal builds: {found.verdict} in {found.wire.round_trips} round trips")
    what = f"equal builds over SSH ({PACKAGES} packages, {PACKAGES * PACKAGE_BYTES // 10**6} MB a side)"
    yield row(f"{what}, question to verdict, against hashlib", statistics.median(ratios), "x", 1.2, RUNS)
    yield row(f"{what}, connecting and all", statistics.median(whole), "s", None, RUNS)
    yield row(f"{what}, question and answer", found.wire.bytes / 1000, "kB", 16, 1)
    yield row(f"{what}, connecting", found.wire.handshake_bytes / 1000, "kB", None, 1)
    yield row(f"{what}, both readers", found.wire.program_bytes / 1000, "kB", None, 1)
    for side in (left, right):
        for file in side.root.iterdir():
            file.unlink()


def hash_both(files: list[list[str]]) -> float:
    """Returns how many seconds hashlib takes for both sides' files, both at once."""
    words = [[sys.executable, "-c", HASHES, *side] for side in files]
    running = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in words]
    return max(float(process.communicate()[0]) for process in running)


def large_jars(left: Builder, right: Builder) -> Iterator[Row]:
    """Yields what it takes to find one class among very many."""
    with multiprocessing.Pool(2) as pool:
        pool.starmap(write_jar, [(left.root / "a.jar", b""), (right.root / "a.jar", b"changed")])
    seconds, found = [], compare(left, right)
    for _ in range(RUNS):
        found = compare(left, right)
        seconds.append(found.duration_seconds)
    leaves = {leaf.path[-1] for leaf in found.artifacts[0].leaves if leaf.what == "content"}
    if found.verdict != Verdict.DIFFER or leaves != {entry(ENTRIES // 2)}:
        raise SystemExit(f"large jars: {found.verdict}, {leaves}")
    size = (left.root / "a.jar").stat().st_size // 10**6
    what = f"two jars of {size} MB, {ENTRIES} entries, one class changed, over SSH"
    yield row(what, statistics.median(seconds), "s", 3.0, RUNS)
    yield row(f"{what}: questions and answers", found.wire.bytes / 1024, "KiB", 256, 1)
    yield row(f"{what}: round trips", found.wire.round_trips, "", None, 1)


def compare(left: Builder, right: Builder) -> Comparison:
    """Compares both as the task does."""
    return compare_here(left.place, right.place, lambda text: None)


def write_package(file: Path, seed: int) -> None:
    """Writes a package whose archives are as large as they are said to be, and whose content nobody reads."""
    data = random.Random(seed).randbytes(1 << 20)
    with file.open("wb") as out:
        out.write(b"!<arch>\n")
        sizes = {"debian-binary": 4, "control.tar.xz": 1000, "data.tar.xz": PACKAGE_BYTES // 2 * 2}
        for name, size in sizes.items():
            out.write(f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{size:<10}`\n".encode())
            content = b"2.0\n" if size == 4 else data
            for begin in range(0, size, len(content)):
                out.write(content[: size - begin])


def write_jar(file: Path, change: bytes) -> None:
    """Writes a jar of very many classes; the one in the middle ends with `change`."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as jar:
        for number in range(ENTRIES):
            info = zipfile.ZipInfo(entry(number), (2020, 1, 2, 3, 4, 6))
            data = random.Random(number).randbytes(ENTRY_BYTES - 64) + hashlib.sha256(b"%d" % number).digest()
            jar.writestr(info, data + (change if number == ENTRIES // 2 else b""), zipfile.ZIP_DEFLATED)


def entry(number: int) -> str:
    """Returns an entry's name."""
    return f"org/apache/cloudstack/p{number % 400}/Class{number}.class"

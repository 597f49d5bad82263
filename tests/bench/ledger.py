"""What a transaction costs: against a bare `git push` of the same bytes, for many writers, on a long history.

Every ratio is taken in pairs in one run, on remotes made alike (`core.fsync` at both ends). The baseline
pushes the very commit that the transaction made, from the same clone, with a plain `git push`.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.coordination.adoption import adopt
from pipeline.coordination.reducer import REDUCER_VERSION, decide, genesis
from pipeline.edge.bare import make_bare
from pipeline.edge.clock import SystemClock
from pipeline.edge.git_objects import TreeView, parse_commit, write_tree
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.identity import SystemProcesses, SystemRandomness
from pipeline.edge.process import run
from pipeline.ledger.chain import make_recorded
from pipeline.ledger.genesis import initialise
from pipeline.ledger.leader import Settings
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.store import Store
from pipeline.records import paths
from pipeline.records.base import dump_json
from pipeline.records.builders import Builder
from pipeline.records.ledger import Transaction
from tests.sshd import sshd_program, start_sshd

PAIRS = 60
#: Two transactions differ by more than what a history adds: it takes more pairs to see that.
GROWTH_PAIRS = 240
WRITERS = 16
SECONDS = 8.0
COMMITS, MESSAGES, JOBS, LOGS = 100_000, 100_000, 20_000, 2_000
WHEN = datetime(2026, 1, 1, tzinfo=UTC)

Row = dict[str, Any]


def files() -> dict[str, bytes]:
    """The initial files of the ledger that is measured."""
    builders = [Builder(name=name, manager="bench") for name in ("build1", "build2")]
    return genesis(builders, build_config=b"{}\n", now=WHEN)


class Side:
    """One ledger with a product's process on it, and the remote that the baseline pushes to."""

    def __init__(self, folder: Path, remote: str, store: str = "store") -> None:
        self.folder = folder
        self.refs = GitRefs(folder / "clone.git", remote)
        random = SystemRandomness()
        self.store = Store(folder / store, identity="bench", new_id=random.op())
        settings = Settings(author="build1", reducer=REDUCER_VERSION)
        self.ledger = Ledger(
            self.store, self.refs, decide, adopt, SystemClock(), random, SystemProcesses(), settings
        )

    def send(self) -> None:
        """One transaction."""
        assert self.ledger.transact(self.message())["ok"]

    def fill(self, count: int) -> None:
        """Many messages in few transactions, so that the tails have their full length."""
        for _ in range(count):
            self.ledger.enqueue(self.message())
        self.send()
        for entry in self.store.entries():
            self.store.take(entry.sequence)

    def message(self) -> dict[str, Any]:
        """A request of ordinary size."""
        return {
            "kind": "message.send",
            "builder": "build1",
            "to": "build2",
            "id": SystemRandomness().op(),
            "subject": "Build succeeded",
            "body": "branch ExternalNew, commit 0123456789, 8 packages\n" * 4,
        }

    def push(self, to: str) -> None:
        """The baseline: a plain push of what the last transaction made."""
        words = [
            "git",
            "--git-dir",
            self.refs.clone.folder,
            "push",
            to,
            f"{self.store.tip()}:{self.refs.ref}",
        ]
        run(words, env=self.refs.remote.env)


def timed(act: Callable[[], None]) -> float:
    """Returns an act's length in seconds."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def row(name: str, value: float, unit: str, limit: float, runs: int, *, least: bool = False) -> Row:
    """One line of the table. `least`: the limit is a minimum."""
    ok = value >= limit if least else value <= limit
    return {"name": name, "value": round(value, 3), "unit": unit, "limit": limit, "ok": ok, "runs": runs}


def compare(side: Side, to: str, pairs: int = PAIRS) -> float:
    """Returns the median of the ratios of a transaction to a bare push, taken in pairs."""
    side.fill(1)
    side.push(to)
    ratios = []
    for _ in range(pairs):
        product = timed(side.send)
        ratios.append(product / timed(lambda: side.push(to)))
    return statistics.median(ratios)


def idle_file(folder: Path) -> Iterator[Row]:
    """One transaction, idle, file remote."""
    for name in ("remote", "baseline"):
        make_bare(folder / f"{name}.git")
    side = Side(folder, str(folder / "remote.git"))
    initialise(side.refs, files(), "bench", SystemClock(), SystemRandomness(), REDUCER_VERSION)
    yield row("transaction / bare push, file", compare(side, str(folder / "baseline.git")), "x", 1.15, PAIRS)
    side.store.close()


def ssh(folder: Path) -> Iterator[Row]:
    """The same over multiplexed SSH."""
    with over_ssh(folder / "sshd") as url:
        if url is None:
            return
        for name in ("remote", "baseline"):
            make_bare(folder / f"{name}.git")
        side = Side(folder, url(folder / "remote.git"))
        initialise(side.refs, files(), "bench", SystemClock(), SystemRandomness(), REDUCER_VERSION)
        ratio = compare(side, url(folder / "baseline.git"))
        yield row("transaction / bare push, multiplexed SSH", ratio, "x", 1.3, PAIRS)
        side.store.close()


@contextmanager
def over_ssh(folder: Path) -> Iterator[Callable[[Path], str] | None]:
    """Yields what gives a repository's address through a real sshd on loopback; None where there is none."""
    if sshd_program() is None:
        yield None
        return
    with start_sshd(folder) as server:
        os.environ["GIT_SSH_COMMAND"] = server.ssh_command()
        try:
            yield server.url
        finally:
            del os.environ["GIT_SSH_COMMAND"]


def write_for_a_while(folder: Path, remote: str, together: Any, results: Any) -> None:
    """One of many writers: transacts until the time is over."""
    side = Side(folder, remote)
    side.send()
    together.wait(timeout=120)
    begun, count = time.monotonic(), 0
    while time.monotonic() < begun + SECONDS:
        side.send()
        count += 1
    results.put((count, side.ledger.counts.pushes, time.monotonic() - begun))
    side.store.close()


def writers(folder: Path) -> Iterator[Row]:
    """Sixteen processes of one builder."""
    make_bare(folder / "remote.git")
    remote = str(folder / "remote.git")
    side = Side(folder, remote)
    initialise(side.refs, files(), "bench", SystemClock(), SystemRandomness(), REDUCER_VERSION)
    side.fill(200)
    side.store.close()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    together = context.Barrier(WRITERS)
    crowd = [
        context.Process(target=write_for_a_while, args=(folder, remote, together, results))
        for _ in range(WRITERS)
    ]
    for each in crowd:
        each.start()
    counted = [results.get(timeout=SECONDS + 120) for _ in crowd]
    for each in crowd:
        each.join()
    done, pushes = sum(c[0] for c in counted), sum(c[1] for c in counted)
    seconds = max(c[2] for c in counted)
    yield row(f"{WRITERS} writers on one host", done / seconds, "tx/s", 100.0, done, least=True)
    yield row(f"{WRITERS} writers: pushes per transaction", pushes / done, "", 0.2, done)


def long_history(folder: Path) -> None:
    """Makes a ledger of the size that the limits name, in `remote.git`."""
    bare = folder / "remote.git"
    make_bare(bare)
    stream = []
    for number in range(COMMITS):
        text = f"{number}\n"
        stream.append(
            f"commit refs/heads/ledger\ncommitter a <a@b.invalid> {number} +0000\ndata 2\nx\n"
            f"M 100644 inline build1/heartbeat.json\ndata {len(text)}\n{text}\n"
        )
    run(["git", "--git-dir", bare, "fast-import", "--quiet"], input="".join(stream).encode(), timeout=600)
    refs = GitRefs(folder / "making.git", str(bare))
    before = refs.fetch()
    assert before is not None
    known = refs.read(before)
    assert known is not None
    message = {"id": "0" * 32, "from": "build1", "to": "build2", "subject": "s", "body": "b" * 200}
    job = {"id": "j" * 26, "status": "succeeded", "branch": "ExternalNew", "commit": "0" * 40}
    made = files()
    for at in range(0, MESSAGES, 100):
        made[paths.message_archive(at)] = dump_json([{**message, "n": at + n} for n in range(100)])
    for at in range(0, JOBS, 50):
        made[paths.job_archive(at)] = dump_json([{**job, "n": at + n} for n in range(50)])
    for number in range(LOGS):
        made[paths.build_log("build1", f"20260101T{number:06d}Z-x.1")] = b"log %d\n" % number * 50
    ledger = made[paths.LEDGER].replace(b'"ordinal": 0', b'"ordinal": %d' % COMMITS)
    made[paths.LEDGER] = ledger
    root, objects = write_tree(TreeView(refs.read, parse_commit(known.data).tree), made)
    record = Transaction(
        reducer=REDUCER_VERSION,
        ordinal=COMMITS,
        kind="genesis",
        parent=before,
        tree=root,
        writer="",
        settled=0,
        nonce="0",
    )
    commit = make_recorded("bench", WHEN, record)
    refs.write([*objects, commit])
    assert refs.push(commit.oid, before).kind == "landed"
    run(["git", "--git-dir", bare, "repack", "-a", "-d", "-q"], timeout=600)


def big(folder: Path) -> Iterator[Row]:
    """A transaction on a long history, and on an empty one; from a path, and over multiplexed SSH."""
    long_history(folder / "long")
    (folder / "empty").mkdir()
    make_bare(folder / "empty/remote.git")
    refs = GitRefs(folder / "empty/making.git", str(folder / "empty/remote.git"))
    initialise(refs, files(), "bench", SystemClock(), SystemRandomness(), REDUCER_VERSION)
    shutil.copytree(folder / "long/remote.git", folder / "long/baseline.git")
    yield from grown(folder, "file", str, 1.15)
    with over_ssh(folder / "sshd") as url:
        if url is not None:
            yield from grown(folder, "multiplexed SSH", url, 1.3)


def grown(folder: Path, way: str, address: Callable[[Path], str], limit: float) -> Iterator[Row]:
    """What a long history adds, over one kind of remote; `limit` is that of a bare push on an empty one.

    What is left of growth is the server's, and a bare push's as well: before it moves a ref git reads all
    folders of the parent's tree (`git rev-list --objects --not --all`), here 130 with 3,400 names.
    """
    sides = {
        name: Side(folder / name / way.replace(" ", "-"), address(folder / name / "remote.git"))
        for name in ("long", "empty")
    }
    for side in sides.values():
        side.fill(200)
    size = f"{COMMITS} commits, {MESSAGES} messages, {JOBS} jobs, {LOGS} logs"
    grew = growth(sides["long"].send, sides["empty"].send)
    yield row(f"transaction with {size} / on an empty ledger, {way}", grew, "x", 1.1, GROWTH_PAIRS)
    ratio = compare(sides["long"], address(folder / "long/baseline.git"))
    yield row(f"transaction / bare push there, {way}", ratio, "x", limit * 1.1, PAIRS)
    for side in sides.values():
        side.store.close()


def growth(one: Callable[[], None], other: Callable[[], None]) -> float:
    """Returns the median of the ratios of two acts taken in pairs, each of them first every other time.

    Each act leaves work to the disk, which whoever comes next waits for.
    """
    ratios = []
    for number in range(GROWTH_PAIRS):
        if number % 2:
            long, short = timed(one), timed(other)
        else:
            short, long = timed(other), timed(one)
        ratios.append(long / short)
    return statistics.median(ratios)


def rows() -> Iterator[Row]:
    """Runs all of it."""
    for measure in (idle_file, ssh, writers, big):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            for name in ("long", "sshd"):
                (Path(folder) / name).mkdir()
            yield from measure(Path(folder))

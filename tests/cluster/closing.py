"""The end of a run: what waits is drained, and then chain and journals are held against each other."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import Fenced, LedgerRewound, PipelineError
from pipeline.operations import lease
from pipeline.operations import site as sites
from pipeline.operations.recover import recover
from tests.cluster import between, repository, roles
from tests.cluster.chain import ChainChecker, Objects, line_of
from tests.cluster.facts import Facts, kinds
from tests.cluster.worker import Worker, begin
from tests.simulation.dice import Dice
from tests.simulation.invariants import violated
from tests.simulation.memo import memoised

if TYPE_CHECKING:
    from tests.cluster.nodes import Cluster, Node
    from tests.cluster.run import Run

#: What is open becomes less within so many seconds, or it never ends. Many queued jobs take their time.
STUCK_SECONDS = 30.0
#: After so many rounds in which nothing became less a machine's turn is over.
_IN_VAIN = 4
#: What a machine has in its folder: what is still open, and how much was when it was the least.
_OPEN, _FEWER = "open", "fewer"
#: In runs of so many seconds some wait for locks without end, and afterwards all locks must be to be had.
LONG = 20.0


def drain(run: Run, until: float) -> None:
    """Lets each machine recover and build what is queued, in turn, until nothing is open: everything-ends.

    Later than `until` only while less and less is open.
    """
    cluster = run.cluster
    nodes = [node for node in cluster.nodes if "x" not in node.folder.name]
    while True:
        for node in nodes:
            (node.folder / _OPEN).unlink(missing_ok=True)
            if not node.group:
                cluster.anchor(node)
            pid = cluster.fork(node, lambda node=node: _drain(run, node, until))  # type: ignore[misc]
            while _lives(run, pid) and time.monotonic() < _patience(node, until) + 20:
                time.sleep(0.02)
            run.tell(f"{node.folder.name}: its turn is over")
        # A turn ends early with a git that was killed or too slow, as a command does: another one comes.
        still = {node.folder.name: _open_there(node) for node in nodes}
        if not any(still.values()) or time.monotonic() > max(_patience(node, until) for node in nodes):
            break
    for name, text in still.items():
        if text:
            violated("everything-ends", f"{name}: {text}")
    # What was delayed on the line ends by itself; a shared SSH connection stays open for a minute.
    until = max(until, time.monotonic())
    while (left := cluster.processes()) and time.monotonic() < until + 20:
        left = [pid for pid in left if not _command(pid).startswith(b"ssh")]
        if not left:
            break
        time.sleep(0.1)
        cluster.reap()
    if left:
        violated("everything-ends", f"processes {[(pid, _command(pid)[:80]) for pid in left]} are left")
    for node in cluster.nodes:
        cluster.kill_node(node)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"ssh: gone"


def _lives(run: Run, pid: int) -> bool:
    run.cluster.reap()
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123
            return b") Z" not in stat.read(256)
    except OSError:
        return False


def _drain(run: Run, node: Node, until: float) -> None:
    """One machine's last rounds; writes down what is still open then."""
    board = run.cluster.board
    worker = begin(board, node.number, 0, Dice(run.plan.seed, "drain", node.number), str(node.journal), "")
    board.clear(0)
    in_vain = 0
    while True:
        worker.guarded(lambda: _round(worker))
        in_vain += 1
        try:
            open_ends = _open_ends(worker)
            in_vain = 0 if _note(node, len(open_ends)) else in_vain
        except LedgerRewound:
            open_ends = ["the rewind is not repaired"]
        except PipelineError as exc:
            open_ends = [exc.message]
        # What is left may be for another machine.
        if not open_ends or in_vain >= _IN_VAIN or time.monotonic() > _patience(node, until):
            break
        time.sleep(0.1)
    if not open_ends and node.number == 0 and run.plan.seconds >= LONG:
        open_ends = _locks(worker, until)
    (node.folder / _OPEN).write_text("; ".join(open_ends[:5]))


def _note(node: Node, count: int) -> bool:
    """Notes how much is open on a machine, if it is less than ever before, and says whether it is."""
    place = node.folder / _FEWER
    if place.exists() and count >= int(place.read_text() or "0"):
        return False
    place.write_text(str(count))
    return True


def _open_there(node: Node) -> str:
    """Returns what a machine has said to be open in its last turn; nothing is nothing."""
    said = node.folder / _OPEN
    return said.read_text() if said.exists() else "its last turn did not end"


def _patience(node: Node, until: float) -> float:
    """Returns until when a machine may take: as long as less and less is open, `until` and longer."""
    try:
        age = time.time() - (node.folder / _FEWER).stat().st_mtime
    except FileNotFoundError:
        return until
    return max(until, time.monotonic() - age + STUCK_SECONDS)


def _locks(worker: Worker, until: float) -> list[str]:
    """Whoever died holding a lock, or waiting for one, does not keep it from who asks now."""
    try:
        patience = max(30.0, until - time.monotonic())
        with lease.hold(worker.site, roles.THINGS, ttl=roles.TTL, patience=patience) as held:
            held.insist()
    except Fenced:
        pass  # it had them; a machine with much to do may be too late to keep them
    except PipelineError as exc:
        return [f"the locks cannot be had: {exc.message}"]
    return []


def _round(worker: Worker) -> None:
    recover(worker.site)
    roles.build(worker)


def _open_ends(worker: Worker) -> list[str]:
    site = worker.site
    view = site.state().view
    ends = [f"job {job.id} is {job.status}" for job in sites.jobs(view).jobs if not job.ended]
    ends += [
        f"the outbox holds {e.op}: {e.request}" for e in site.ledger.store.entries() if e.outcome is None
    ]
    return ends


# ---------------------------------------------------------------- the reckoning


def noted_hits(cluster: Cluster) -> Counter[tuple[str, str]]:
    """Returns the hits that programs on the line and hooks have noted, by fault and command."""
    hits: Counter[tuple[str, str]] = Counter()
    for node in cluster.nodes:
        for fault, command in between.hits(node.folder):
            hits["partition" if fault.startswith("partition") else fault, command] += 1
    refused = cluster.folder / "refused"
    if refused.exists():
        hits["refusal", "receive-pack"] = len(refused.read_text().split())
    return hits


def reckon(run: Run) -> None:
    """Checks the chain and the journals. Raises Violated."""
    cluster, result = run.cluster, run.result
    facts = Facts()
    odd = {node.folder.name for node in cluster.nodes if node.odd}
    for node in cluster.nodes:
        if node.journal.exists():
            facts.read(node.folder.name, node.journal)
    run.hits.update(noted_hits(cluster))
    result.answers, result.unknown, result.stamps = facts.answers, facts.unknown, facts.stamps
    result.errors = facts.errors + facts.pushes
    result.asked = kinds(facts.asked.values())
    facts.check_loss(odd)
    witness = cluster.folder / "witness.git"
    repository.keep(cluster.remote, witness, "last")
    objects = Objects(witness)
    told = {
        "tried": facts.tried,
        "last_alive": facts.last_alive,
        "asked": facts.asked,
        "odd": odd,
        "tips": facts.tips,
        "begun": facts.begun,
    }
    try:
        with memoised():
            checker = ChainChecker(objects, told)
            for tip in run.rewound:
                checker.walk(line_of(objects, tip, run.by_hand), run.by_hand)
                facts.check_told(checker, odd, last=False)
            checker.walk(line_of(objects, repository.tip_of(cluster.remote), run.by_hand), run.by_hand)
            facts.check_told(checker, odd, last=True, all_noted=not run.plan.builds)
    finally:
        objects.close()
        result.commits, result.transactions = checker.commits, checker.transactions
    if result.bare_seconds and run.tip in checker.where:
        there = sum(len(link.ops) for link in checker.links[: checker.where[run.tip] + 1])
        result.measured = there + len(checker.abandoned)
    facts.check_works(not run.rewound)

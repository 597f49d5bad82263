"""One process of a machine of the real cluster: the product's own Site, its steps told, its answers kept.

Everything comes from `runtime.make_site`. Only calls of ports are wrapped, on the objects themselves: before
each the step is noted (`board`), and what was asked and answered goes into the machine's journal, one line of
JSON in one `write`. A process that is killed loses nothing that was written; power is never lost here.

    {"is": "born", "me": PROCESS}                       a process began
    {"is": "ask", "op": …, "request": …, "evidence": …} before the entry is in the outbox
    {"is": "told", "op": …, "outcome": …}               what the asker was told
    {"is": "unknown", "op": …, "why": …}                it gave up without an answer
    {"is": "try", "ops": [SEQUENCE], "parent": …}       a push of these is about to begin
    {"is": "work", "lock": …, "token": …}               who works under a lock, when it trusted it for certain
    {"is": "defect", "text": …}                         an exception that is none of the product's own
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pipeline.edge.identity import SystemProcesses
from pipeline.errors import CommandFailed, LedgerRewound, PipelineError, StoreError
from pipeline.operations.epoch import raise_epoch
from pipeline.operations.site import Site
from pipeline.runtime import make_site
from tests.cluster.board import Board
from tests.simulation.dice import Dice

_BEFORE = (
    *("look", "answer", "begin_attempt", "settle", "answer_unpushed", "drop", "disown"),
    *("take", "rebirth", "accept_rewind", "advance_tip"),
)
_OF_REFS = ("fetch", "survey", "write", "beat")


@dataclass
class Worker:
    """What a worker's roles work with. `mutant` names a bug that is planted, to try the checker."""

    board: Board
    node: int
    slot: int
    dice: Dice
    journal: int
    site: Site
    mutant: str = ""
    #: The operation that was put into the outbox last by this process.
    op: str = ""
    sequence: int = 0

    def note(self, is_: str, **words: Any) -> None:
        """Writes one line of the journal."""
        line = json.dumps({"is": is_, "t": time.clock_gettime(time.CLOCK_BOOTTIME), **words})
        os.write(self.journal, line.encode() + b"\n")

    def step(self, name: str) -> None:
        self.board.step(self.slot, name)

    @property
    def finishing(self) -> bool:
        return self.board.finishing()

    def pause(self, seconds: float) -> None:
        """Waits between two acts."""
        self.step("between")
        time.sleep(seconds)

    def guarded(self, act: Callable[[], Any]) -> None:
        """Lets it act. What the product raises in its own words is noted; anything else is a defect."""
        try:
            act()
        except LedgerRewound:
            self.note("rewound")
            time.sleep(0.3)
            self._repair()
        except PipelineError as exc:
            self.note("error", kind=type(exc).__name__, text=exc.message[:200])
            if isinstance(exc, StoreError) and "cut off" in exc.message:
                self._deepen()
            if isinstance(exc, CommandFailed):  # as a command's process ends with it: the next begins anew
                sys.exit(1)
            time.sleep(0.05)
        except Exception:
            self.note("defect", text=traceback.format_exc()[-3000:])
            time.sleep(0.2)

    def _repair(self) -> None:
        """As an operator who was told what is missing: goes on from what the remote has."""

        def act() -> None:
            seen = self.site.ledger.store.tip()
            if seen is None:
                return
            try:
                self.site.state()
            except LedgerRewound:
                raise_epoch(self.site, seen)

        try:
            act()
        except PipelineError as exc:
            self.note("error", kind=type(exc).__name__, text=exc.message[:200])

    def _deepen(self) -> None:
        """Somebody makes history reachable again that this machine's clone has lost."""
        clone = self.site.ledger.refs.clone  # type: ignore[attr-defined]
        words = ["fetch", "--quiet", os.environ["CLUSTER_WITNESS"], "+refs/*:refs/kept/*"]
        clone.git(words, check=False)


def begin(board: Board, node: int, slot: int, dice: Dice, journal: str, mutant: str) -> Worker:
    """Puts the product together in this process, as its own commands do, and tells its steps."""
    handle = os.open(journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    site = make_site()
    machine = f"{os.environ['CLUSTER_MACHINE']:0<32}"
    site.machine = lambda: machine
    worker = Worker(board, node, slot, dice, handle, site, mutant)
    worker.note("born", me=SystemProcesses().myself())
    _wrap(worker)
    return worker


def _wrap(worker: Worker) -> None:
    site, board, slot = worker.site, worker.board, worker.slot
    store, refs, ledger = site.ledger.store, site.ledger.refs, site.ledger

    def stepped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            board.step(slot, name)
            return real(*words, **options)

        return call

    for name in _BEFORE:
        setattr(store, name, stepped(name, getattr(store, name)))
    for name in _OF_REFS:
        setattr(refs, name, stepped(name, getattr(refs, name)))
    site.clock.now = _shifted(worker, site.clock.now)  # type: ignore[method-assign]
    store.leader_lock.try_hold = _leading(worker, store.leader_lock.try_hold)  # type: ignore[method-assign]
    store.begin_attempt = _attempt(worker, store.begin_attempt)  # type: ignore[method-assign]
    store.enqueue = _enqueue(worker, store.enqueue)  # type: ignore[method-assign]
    refs.push = _push(worker, refs.push)  # type: ignore[method-assign]
    ledger.transact = _transact(worker, ledger.transact)  # type: ignore[method-assign]


def _shifted(worker: Worker, real: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: real() + timedelta(seconds=worker.board.clock(worker.node))


def _leading(worker: Worker, real: Callable[..., Any]) -> Callable[..., Any]:
    @contextmanager
    def try_hold(now: float, deadline: float) -> Iterator[bool]:
        worker.step("lead")
        with real(now, deadline) as leads:
            worker.board.lead(worker.slot, leads)
            try:
                yield leads
            finally:
                worker.board.lead(worker.slot, False)
                if not leads:
                    worker.step("polls")

    return try_hold


def _enqueue(worker: Worker, real: Callable[..., Any]) -> Callable[..., Any]:
    def enqueue(
        kind: str, op: str, request: Any, evidence: Any, asker: str, *words: Any, **options: Any
    ) -> Any:
        worker.note(
            "ask",
            op=op,
            kind=kind,
            request=dict(request),
            evidence=evidence.model_dump(mode="json"),
            asker=asker,
            base=worker.site.ledger.store.tip(),
        )
        worker.step("enqueue")
        worker.op = op
        worker.sequence = real(kind, op, request, evidence, asker, *words, **options)
        return worker.sequence

    return enqueue


def _attempt(worker: Worker, real: Callable[..., Any]) -> Callable[..., Any]:
    def begin_attempt(parent: str, writer: str, versions: Any) -> Any:
        begun = real(parent, writer, versions)
        if begun:
            worker.note("try", parent=parent, writer=writer, entries=list(versions))
            if worker.mutant == "cleared-early":
                _clear_early(worker, versions)
        return begun

    return begin_attempt


def _clear_early(worker: Worker, versions: Any) -> None:
    """The planted bug: messages count as sent, with the right answer, before their push has landed."""
    with worker.site.ledger.store.database.write(durable=False) as db:
        for sequence in versions:
            (text,) = db.execute("select request from entries where sequence=?", (sequence,)).fetchone()
            request = json.loads(text)
            if request["kind"] == "message.send" and request["to"].startswith("build"):
                done = {"ok": True, "value": {"id": request["id"], "recipients": [request["to"]]}}
                db.execute("update entries set outcome=? where sequence=?", (json.dumps(done), sequence))


def _push(worker: Worker, real: Callable[..., Any]) -> Callable[..., Any]:
    def push(commit: str, expected: str | None) -> Any:
        worker.step("push")
        pushed = real(commit, expected)
        worker.step("pushed")
        if pushed.kind in ("refused", "unknown"):
            worker.note("push", became=pushed.kind, why=type(pushed.error).__name__)
        return pushed

    return push


def _transact(worker: Worker, real: Callable[..., Any]) -> Callable[..., Any]:
    def transact(request: Any, **options: Any) -> Any:
        worker.op = ""
        op = ""
        try:
            outcome = real(request, **options)
            op = worker.op
        except BaseException as exc:
            worker.note("unknown", op=worker.op, why=type(exc).__name__)
            raise
        if (
            worker.mutant == "tells-ok" and not outcome["ok"] and request["kind"] == "message.send"
        ):  # what was refused is told as done
            outcome = {"ok": True, "value": {}}
        worker.step("told")
        worker.note("told", op=op, outcome=outcome, tip=worker.site.ledger.store.tip())
        return outcome

    return transact

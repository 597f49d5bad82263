"""The two builders of the demonstration, and the ledger as an onlooker sees it.

A builder is what it is anywhere: a name, a home, and commands that are run there. `work --once` is started
whenever the queue has a job for it and it has none, as an operator or a timer would.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.edge.children import Child, Children, Process
from pipeline.edge.ref_store import RefStore
from pipeline.errors import CheckFailed, LedgerUnreachable
from pipeline.ledger.history import record_at, tree_at
from pipeline.operations import site as sites
from pipeline.operations.demo.story import MADE, heard, progress
from pipeline.records import paths
from pipeline.records.decisions import View
from pipeline.records.jobs import Job
from pipeline.records.ledger import Transaction
from pipeline.records.messages import Message, Messages

#: What `work --once` ends with when all is well: done, and a job that had changed hands meanwhile.
_WORK_ENDS_WITH = (0, 81)
#: So often a builder may end otherwise before the demonstration gives up.
_FAILURES = 3


@dataclass
class Builder:
    """One builder. It takes jobs while it is `up`; `module` is the number of the one that it builds,
    `made` says that the package is there.
    """

    name: str
    children: Children
    env: Mapping[str, str]
    folder: Path
    up: bool = True
    work: Child | None = None
    module: int = 0
    made: bool = False
    failures: list[str] = field(default_factory=list)
    last: str = ""

    def command(self, *words: str) -> Child:
        """Starts a command of the pipeline on this builder."""
        return self.children.start(words, self.env, self.folder)

    def watch(self, queued: bool) -> list[str]:
        """Starts work where there is some; returns what the builder has said since the last time."""
        if self.work is None:
            if self.up and queued:
                self.module, self.made, self.last = 0, False, ""
                self.work = self.command("work", "--once")
            return []
        status = self.work.status()
        told = []
        for line in self.work.news():
            self.last = line.strip() or self.last
            self.module = progress(line) or self.module
            if (text := heard(line)) is not None:
                told.append(text)
                self.made = self.made or text == MADE
        if status is not None:
            self.work = None
            if self.up and status not in _WORK_ENDS_WITH:
                self._failed(status)
        return told

    def _failed(self, status: int) -> None:
        self.failures.append(f"`work --once` ended with {status}: {self.last}")
        if len(self.failures) >= _FAILURES:
            raise CheckFailed(f"{self.name} cannot work: {self.failures[-1]}")

    def kill(self) -> frozenset[Process]:
        """Kills the process that builds with SIGKILL; returns what was below it. The builder is down then."""
        assert self.work is not None
        below = self.work.below()
        self.up = False
        self.work.send(signal.SIGKILL)
        return below

    def freeze(self) -> None:
        """Stops the process that builds, not what it has started."""
        assert self.work is not None
        self.work.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        assert self.work is not None
        self.work.send(signal.SIGCONT)


class Onlooker:
    """Reads the ledger's branch as it grows. While the remote is away it shows what was seen last."""

    def __init__(self, refs: RefStore, reducer: int) -> None:
        self._refs = refs
        self._reducer = reducer
        self.tip: str | None = None
        self.records: list[Transaction] = []

    def look(self) -> list[tuple[str, Transaction]]:
        """Returns the transactions that were not seen before, oldest first, with their commits."""
        try:
            tip = self._refs.fetch()
        except LedgerUnreachable:
            return []
        if tip is None or tip == self.tip:
            return []
        commits = reversed(self._refs.since(tip, self.tip) or [])
        news = [(oid, record) for oid in commits if (record := record_at(self._refs, oid, self._reducer))]
        self.tip = tip
        self.records += [record for _, record in news]
        return news

    def view(self) -> View | None:
        """Returns the state that was seen last."""
        return tree_at(self._refs, self.tip) if self.tip else None

    def jobs(self) -> list[Job]:
        """Returns every job."""
        view = self.view()
        return list(sites.jobs(view).jobs) if view else []

    def messages(self) -> list[Message]:
        """Returns every message."""
        view = self.view()
        return list(sites.record(view, Messages, paths.MESSAGES).messages) if view else []

    def job(self, id: str) -> Job:
        """Returns one job, which has to be there."""
        return next(job for job in self.jobs() if job.id == id)


def waiting_for(jobs: Sequence[Job], builder: str) -> bool:
    """Says whether the queue has a job for a builder. PURE."""
    return any(job.status == "queued" and job.target in (None, builder) for job in jobs)

"""The heart of a running build: renews its job's token on the builder's own ref, and looks for a change of it.

Runs in a thread beside the build, with a ref store of its own. Never touches the outbox.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psutil

from pipeline.edge.clock import Clock
from pipeline.edge.identity import Randomness
from pipeline.errors import PipelineError
from pipeline.ledger.objects import TreeView, parse_commit
from pipeline.ledger.ports import RefStore
from pipeline.records import paths
from pipeline.records.base import dump, load
from pipeline.records.builders import Heartbeat, System
from pipeline.records.jobs import Jobs


class Heart:
    """Beats every `interval` seconds until it is stopped.

    `reason` tells why the build should end: cancelled, or fenced (the job has another token by now). A
    remote that does not answer is no reason: the build's work is private, and the fence holds at the end.
    """

    def __init__(
        self,
        refs: RefStore,
        builder: str,
        job_id: str,
        token: str,
        interval: float,
        clock: Clock,
        random: Randomness,
        progress: Callable[[], dict[str, Any]],
    ) -> None:
        self.reason: str | None = None
        self.beats = 0
        self._refs, self._builder, self._job, self._token = refs, builder, job_id, token
        self._interval, self._clock, self._random, self._progress = interval, clock, random, progress
        self._stop = threading.Event()
        self._tip: str | None = None
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def __enter__(self) -> Heart:
        if self._interval > 0:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=90)

    def beat(self) -> None:
        """Pushes one heartbeat, then reads whether the job is still ours and wanted."""
        record = Heartbeat(
            server=self._builder,
            timestamp=self._clock.now(),
            uptime_seconds=round(self._clock.boottime()),
            leases={self._token: self._random.hex()},
            progress=self._progress(),
        )
        self._refs.beat(paths.heartbeat_ref(self._builder), dump(record))
        self.beats += 1
        tip = self._refs.fetch()
        if tip is None or tip == self._tip:
            return
        self._tip = tip
        commit = self._refs.read(tip)
        data = TreeView(self._refs.read, parse_commit(commit.data).tree).read(paths.JOBS) if commit else None
        if data is None:
            return
        job = next((j for j in load(Jobs, data, paths.JOBS).jobs if j.id == self._job), None)
        if job is None or job.status != "running" or job.token != self._token:
            self.reason = "fenced"
        elif job.cancel_requested:
            self.reason = "cancelled"

    def _run(self) -> None:
        while True:
            try:
                self.beat()
            except PipelineError:
                pass  # the next beat tries again; silence is what others go by
            if self._stop.wait(self._interval):
                return


def system_facts(folder: str) -> System:
    """Measures this machine: CPU in percent of all cores, memory used and disk free in GiB."""
    return System(
        cpu_usage=psutil.cpu_percent(interval=None),
        memory_used_gb=round(psutil.virtual_memory().used / 2**30, 1),
        disk_free_gb=round(psutil.disk_usage(folder).free / 2**30, 1),
    )

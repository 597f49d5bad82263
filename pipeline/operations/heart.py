"""The heart of a running build: renews its job's token on the builder's ref, and looks for a change of it.

Runs in a thread beside the build, with a ref store of its own. Never touches the outbox.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from pipeline.edge.git_objects import TreeView, parse_commit
from pipeline.edge.identity import Randomness
from pipeline.errors import PipelineError
from pipeline.operations.pulse import Pulse
from pipeline.records import lists, paths
from pipeline.records.builders import System
from pipeline.records.jobs import Job, Jobs

#: The claim was a sign of life itself. Meanwhile the build is made ready, and needs the processors.
_FIRST_SECONDS = 2.0
#: So long a beat that is under way may take when the build has ended.
_LAST_BEAT_SECONDS = 3.0


class Heart:
    """Beats every `interval` seconds until it is stopped; for the first time after two, or one interval.

    `reason` tells why the build should end: in the words of the ledger who cancelled it and why, or that the
    job has another token by now. Then `fenced` is set, and `whose` says in words who has it. A remote that
    does not answer is no reason: the build's work is private, and the fence holds at the end.
    """

    def __init__(
        self,
        pulse: Pulse,
        job_id: str,
        token: str,
        interval: float,
        random: Randomness,
        progress: Callable[[], dict[str, Any]],
    ) -> None:
        self.reason: str | None = None
        self.fenced = False
        self.whose = ""
        self.beats = 0
        self._pulse, self._job, self._token = pulse, job_id, token
        self._interval, self._random, self._progress = interval, random, progress
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
            self._thread.join(_LAST_BEAT_SECONDS)
            if self._thread.is_alive():
                # A remote that does not answer must not keep the report back, which has its own patience.
                self._pulse.refs.abandon()
                self._thread.join(_LAST_BEAT_SECONDS)
        self._pulse.stop(self._token)

    def beat(self) -> None:
        """Pushes one heartbeat, then reads whether the job is still ours and wanted."""
        nonce = {self._token: self._random.hex()}
        self._pulse.renew("leases", nonce, self._progress() or {"stage": "source"})
        self.beats += 1
        refs = self._pulse.refs
        tip = refs.fetch()
        if tip is None or tip == self._tip:
            return
        self._tip = tip
        commit = refs.read(tip)
        data = TreeView(refs.read, parse_commit(commit.data).tree).read(paths.JOBS) if commit else None
        if data is None:
            return
        job = next((j for j in lists.read(Jobs, data, paths.JOBS).jobs if j.id == self._job), None)
        if job is None or job.status != "running" or job.token != self._token:
            self.fenced, self.whose = True, whose(job)
            self.reason = "fenced"
        elif job.cancel_requested is not None:
            self.reason = job.cancel_requested or "on request"

    def _run(self) -> None:
        pause = min(self._interval, _FIRST_SECONDS)
        while not self._stop.wait(pause):
            # A beat that fails, on a full disk too, is not made good: silence is what others go by.
            with contextlib.suppress(PipelineError, OSError):
                self.beat()
            pause = self._interval


def whose(job: Job | None) -> str:
    """Returns in words who has a job that was ours."""
    if job is None:
        return "it has ended long since"
    if job.status == "running":
        return f"{job.assigned_to} builds it now, attempt {job.attempt}"
    if job.status == "queued":
        return f"it waits in the queue again, for {job.target or 'any builder'}"
    where = f", on {job.assigned_to}" if job.assigned_to else ""
    return f"it has ended: {job.outcome or job.status}{where}"


def system_facts(folder: str) -> System:
    """Measures this machine: CPU in percent of all cores, memory used and disk free in GiB.

    `folder`, or the nearest above it that is there, says which disk.
    """
    place = next(p for p in (Path(folder), *Path(folder).parents) if p.is_dir())
    return System(
        cpu_usage=psutil.cpu_percent(interval=None),
        memory_used_gb=round(psutil.virtual_memory().used / 2**30, 1),
        disk_free_gb=round(psutil.disk_usage(str(place)).free / 2**30, 1),
    )

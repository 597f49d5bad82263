"""One heartbeat for all of a builder's processes: each draws its own nonces, one push carries them all.

    <store>/pulse/<digest>.json   one process's nonce for one token (or one waiter), written by that process
    <store>/pulse/pushed.json     the content of the last push that the remote acknowledged
    <store>/pulse/pusher.lock     held while pushing; a process that waited finds its nonce carried already

A nonce proves that its own process lives: nobody else ever draws one for it, and the entries of dead
processes are left out. So a builder that beats on does not keep a dead process's lease alive.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pipeline.edge.clock import Clock
from pipeline.edge.identity import Processes
from pipeline.edge.ref_store import RefStore
from pipeline.errors import LedgerUnreachable, PipelineError
from pipeline.records import paths
from pipeline.records.base import dump, dump_json, load, load_json
from pipeline.records.builders import Heartbeat

Kind = Literal["leases", "waiting"]


class Pulse:
    """Pushes one builder's heartbeat. Open one per thread: the ref store is not shared."""

    def __init__(
        self, folder: Path, refs: RefStore, builder: str, clock: Clock, processes: Processes
    ) -> None:
        self.refs = refs
        self._folder = folder
        self._builder = builder
        self._clock = clock
        self._processes = processes
        folder.mkdir(parents=True, exist_ok=True)

    def renew(self, kind: Kind, name: str, nonce: str, progress: dict[str, Any] | None = None) -> None:
        """Returns once a push that carries this nonce was acknowledged.

        Raises LedgerUnreachable where no answer came: push the SAME nonce again, and count trust from when
        it was drawn. Raises LedgerError where the remote refuses.
        """
        place = self._place(name)
        entry = {"kind": kind, "name": name, "nonce": nonce, "process": self._processes.myself()}
        _replace(place, dump_json({**entry, "progress": progress}))
        with self._pushing():
            if self._carried(kind, name, nonce) and progress is None:
                return
            record = self._collect()
            pushed = self.refs.beat(paths.heartbeat_ref(self._builder), dump(record))
            if pushed.kind != "landed":
                raise pushed.error or LedgerUnreachable("The heartbeat was not acknowledged.")
            _replace(self._folder / "pushed.json", dump(record))

    def stop(self, name: str) -> None:
        """Takes a nonce out of what the next push carries."""
        self._place(name).unlink(missing_ok=True)

    def _collect(self) -> Heartbeat:
        carried: dict[str, dict[str, str]] = {"leases": {}, "waiting": {}}
        progress = None
        for place in sorted(self._folder.glob("*.json")):
            if place.name == "pushed.json":
                continue
            try:
                entry = load_json(place.read_bytes(), place.name)
                alive = self._processes.alive(entry["process"])
                if alive:
                    carried[entry["kind"]][entry["name"]] = entry["nonce"]
                    progress = entry.get("progress") or progress
            except (OSError, PipelineError, KeyError, TypeError):
                alive = False
            if not alive:
                place.unlink(missing_ok=True)
        return Heartbeat(
            server=self._builder,
            timestamp=self._clock.now(),
            uptime_seconds=round(self._clock.boottime()),
            leases=carried["leases"],
            waiting=carried["waiting"],
            progress=progress,
        )

    def _carried(self, kind: Kind, name: str, nonce: str) -> bool:
        try:
            last = load(Heartbeat, (self._folder / "pushed.json").read_bytes(), "pushed.json")
        except (OSError, PipelineError):
            return False
        nonces: dict[str, str] = getattr(last, kind)
        return nonces.get(name) == nonce

    def _place(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"

    @contextmanager
    def _pushing(self) -> Iterator[None]:
        with (self._folder / "pusher.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _replace(place: Path, data: bytes) -> None:
    temporary = place.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(place)

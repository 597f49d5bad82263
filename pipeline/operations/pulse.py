"""One heartbeat for all of a builder's processes: each draws its own nonces, one push carries them all.

    <store>/pulse/<digest>.json   one process's nonce for one token (or one waiter), written by that process
    <store>/pulse/pushed.json     the content of the last push that the remote acknowledged
    <store>/pulse/pusher.lock     held while pushing; a process that waited finds its nonce carried already

A nonce proves that its own process lives: nobody else ever draws one for it. So a builder that beats on does
not keep a dead process's lease alive: its nonce stays, and stays the same. (It is not left out at once: a
challenger that saw no nonce, missed one that came, and saw none again would take both for one silence.)

The lock only saves work: a push is taken only where the heartbeat is still the one that its pusher knew. So
one that was held up, its pusher killed or stopped, never puts an older nonce back over a newer one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.edge.clock import Clock
from pipeline.edge.identity import Processes
from pipeline.edge.plain_file import read_plain
from pipeline.edge.ref_store import RefStore
from pipeline.errors import LedgerUnreachable, PipelineError
from pipeline.records import paths
from pipeline.records.base import Record, dump, load
from pipeline.records.builders import Heartbeat
from pipeline.records.secrets import mask_values

Kind = Literal["leases", "waiting"]

#: How long a dead process's last nonce is carried on: longer than any ttl that is granted.
DEAD_SECONDS = 24 * 3600.0
#: A pusher that takes longer is passed over: it may have been stopped.
_PUSHER_SECONDS = 5.0
_TRIES = 4
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(Record):
    """One process's nonce for one token or waiter."""

    kind: Kind
    name: str
    nonce: str
    process: str
    progress: dict[str, Any] | None = None


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

    def renew(self, kind: Kind, nonces: Mapping[str, str], progress: dict[str, Any] | None = None) -> None:
        """Returns once a push that carries these nonces (name -> nonce) was acknowledged.

        Raises LedgerUnreachable where no answer came: push the SAME nonces again, and count trust from when
        they were drawn, or draw new ones. Raises LedgerError where the remote refuses.
        """
        me = self._processes.myself()
        said = mask_values(progress) if progress else None  # a build's own words: the remote keeps them
        for name, nonce in nonces.items():
            entry = Entry(kind=kind, name=name, nonce=nonce, process=me, progress=said)
            _replace(self._place(name), dump(entry))
        with self._pushing():
            last = self._last()
            if progress is None and _carries(last, kind, nonces):
                return
            self._push(last)

    def stop(self, name: str) -> None:
        """Takes a nonce out of what the next push carries."""
        self._place(name).unlink(missing_ok=True)

    def _push(self, last: bytes | None) -> None:
        """Pushes what is to be carried now. `last` is what was pushed last, as far as this machine knows."""
        ref = paths.heartbeat_ref(self._builder)
        for _ in range(_TRIES):
            # Collected AFTER `last` was read: of what is overwritten, no nonce is newer than those carried.
            data = dump(self._collect(last))
            pushed = self.refs.beat(ref, data, last)
            if pushed.kind != "stale":
                break
            last = self.refs.beat_data([ref]).get(ref)  # a push whose answer was lost, or another store's
        if pushed.kind != "landed":
            raise pushed.error or LedgerUnreachable(
                f"The heartbeat was not taken: {ref} moved meanwhile, or holds something else.",
                remedy="Look for another machine that runs under this builder's name.",
            )
        _replace(self._folder / "pushed.json", data)

    def _collect(self, last: bytes | None) -> Heartbeat:
        """Returns what is to be carried: of the living what they drew, of the dead what `last` shows.

        A dead process may live where this store was copied from, and renew on the same ref: then what this
        disk knows of it is old.
        """
        there = _readable(last)
        carried: dict[str, dict[str, str]] = {"leases": {}, "waiting": {}}
        progress = None
        for place in sorted(self._folder.glob("*.json")):
            if place.name == "pushed.json":
                continue
            with suppress(OSError):  # whatever else lies there is nobody's nonce
                entry = _entry(place)
                alive = entry is not None and self._processes.alive(entry.process)
                recent = place.stat().st_mtime > self._clock.now().timestamp() - DEAD_SECONDS
                if entry is None or not (alive or recent):
                    place.unlink(missing_ok=True)
                    continue
                nonce = entry.nonce if alive or there is None else getattr(there, entry.kind).get(entry.name)
                if nonce is not None:
                    carried[entry.kind][entry.name] = nonce
                if alive:
                    progress = entry.progress or progress
        return Heartbeat(
            server=self._builder,
            timestamp=self._clock.now(),
            uptime_seconds=round(self._clock.boottime()),
            leases=carried["leases"],
            waiting=carried["waiting"],
            progress=progress,
        )

    def _last(self) -> bytes | None:
        try:
            return read_plain(self._folder / "pushed.json")
        except (OSError, PipelineError):
            return None

    def _place(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"

    @contextmanager
    def _pushing(self) -> Iterator[None]:
        """Waits until no other process pushes; one that was stopped while it did is passed over."""
        place, until = self._folder / "pusher.lock", self._clock.boottime() + _PUSHER_SECONDS
        with place.open("w") as handle:
            while not _try_lock(handle.fileno()):
                if self._clock.boottime() >= until:
                    place.unlink(missing_ok=True)
                    break
                self._clock.sleep(0.02)
            yield


class _Unread(dict[str, str]):
    """The nonces of a heartbeat that cannot be read: whichever is asked for, it is the content's digest."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._digest = f"unread-{hashlib.sha256(data).hexdigest()[:32]}"

    def get(self, name: str, default: Any = None) -> Any:
        return self._digest


def read_beat(data: bytes, ref: str) -> Heartbeat:
    """Reads a heartbeat. Of one that cannot be read each nonce changes whenever its content does.

    It may be of a newer version. To take it for a heartbeat without nonces would be to see silence where
    somebody renews.
    """
    try:
        return load(Heartbeat, data, ref)
    except PipelineError:
        unread = _Unread(data)
        return Heartbeat.model_construct(server="", timestamp=_NEVER, leases=unread, waiting=unread)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _readable(last: bytes | None) -> Heartbeat | None:
    try:
        return load(Heartbeat, last, "heartbeat.json") if last else None
    except PipelineError:
        return None


def _carries(last: bytes | None, kind: Kind, nonces: Mapping[str, str]) -> bool:
    record = _readable(last)
    return record is not None and nonces.items() <= getattr(record, kind).items()


def _entry(place: Path) -> Entry | None:
    """Reads a nonce; None for garbage. Raises OSError for what is no file, or cannot be read."""
    try:
        return load(Entry, read_plain(place), place.name)
    except PipelineError:
        return None


def _replace(place: Path, data: bytes) -> None:
    temporary = place.with_name(f"{place.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(place)

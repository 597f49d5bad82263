"""One heartbeat for all of a builder's processes: each draws its own nonces, one push carries them all.

    <store>/pulse/<digest>.json   one process's nonce for one token (or one waiter), written by that process
    <store>/pulse/pushed.json     the content of the last push that the remote acknowledged
    <store>/pulse/pusher.lock     held while pushing; a process that waited finds its nonce carried already

A nonce proves that its own process lives: nobody else ever draws one for it. So a builder that beats on does
not keep a dead process's lease alive: its nonce stays, and stays the same. (It is not left out at once: a
challenger that saw no nonce, missed one that came, and saw none again would take both for one silence.)
For the same reason nobody leaves out what others show: a nonce of a process that is not known here, of a
copy of this store, is carried on as one of the dead. Only who drew a nonce takes it out.

The lock only saves work: a push is taken only where the heartbeat is still the one that its pusher knew. So
one that was held up, its pusher killed or stopped, never puts an older nonce back over a newer one.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from pipeline.edge.clock import Clock
from pipeline.edge.disk import replace_file
from pipeline.edge.identity import Processes
from pipeline.edge.plain_file import read_plain
from pipeline.edge.ref_store import RefStore, Unread
from pipeline.errors import LedgerTooLarge, LedgerUnreachable, PipelineError, StoreError
from pipeline.records import paths
from pipeline.records.base import Record, dump, load
from pipeline.records.builders import Heartbeat
from pipeline.records.secrets import mask_values

Kind = Literal["leases", "waiting"]

#: How long a dead process's last nonce is carried on: longer than any ttl that is granted.
DEAD_SECONDS = 24 * 3600.0
#: The process of a nonce that was seen on the remote and not drawn here.
_ELSEWHERE = "elsewhere"
#: A pusher that takes longer is passed over: it may have been stopped.
_PUSHER_SECONDS = 5.0
_TRIES = 4
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(Record):
    """One process's nonce for one token or waiter; an empty one is to be taken out with the next push."""

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
        they were drawn, or draw new ones. Raises LedgerError where the remote refuses, StoreError where this
        machine's disk does.
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
        place = self._place(name)
        with suppress(OSError, StoreError):
            if entry := _entry(place):
                _replace(place, dump(entry.model_copy(update={"nonce": ""})))
                return
        place.unlink(missing_ok=True)

    def _push(self, last: bytes | None) -> None:
        """Pushes what is to be carried now. `last` is what was pushed last, as far as this machine knows."""
        ref = paths.heartbeat_ref(self._builder)
        for _ in range(_TRIES):
            # Collected AFTER `last` was read: of what is overwritten, no nonce is newer than those carried.
            heartbeat, stopped = self._collect(last)
            data = dump(heartbeat)
            pushed = self.refs.beat(ref, data, last)
            if pushed.kind != "stale":
                break
            last = self.refs.beat_data([ref]).get(ref)  # a push whose answer was lost, or another store's
            if isinstance(last, Unread):
                raise LedgerTooLarge(
                    f"The heartbeat cannot be renewed: {last.decode()}.",
                    0,
                    remedy=f"Look who pushed it, then delete it on the remote: `git push REMOTE :{ref}`.",
                )
        if pushed.kind != "landed":
            raise pushed.error or LedgerUnreachable(
                f"The heartbeat was not taken: {ref} moved meanwhile, or holds something else.",
                remedy="Look for another machine that runs under this builder's name.",
            )
        with suppress(StoreError):  # it was acknowledged all the same; the next push reads the ref instead
            _replace(self._folder / "pushed.json", data)
        for place in stopped:
            place.unlink(missing_ok=True)

    def _collect(self, last: bytes | None) -> tuple[Heartbeat, list[Path]]:
        """Returns what is to be carried: of the living what they drew, of all others what `last` shows.

        And the notes of what is left out because its process stopped, of no use once this has landed.

        Another process may live where this store was copied from, or where a copy of it runs, and renew on
        the same ref: what this disk knows of it is old, if it knows of it at all.
        """
        there = _readable(last)
        carried: dict[Kind, dict[str, str]] = {"leases": {}, "waiting": {}}
        progress, known, stopped = None, set(), []
        for place, entry, mtime in self._entries():
            alive = entry.process != _ELSEWHERE and self._processes.alive(entry.process)
            known.add(entry.name)
            if not (alive or mtime > self._clock.now().timestamp() - DEAD_SECONDS):
                place.unlink(missing_ok=True)
                continue
            nonce: str | None = entry.nonce
            if not nonce:
                stopped.append(place)
            elif not alive and there is not None:
                nonce = getattr(there, entry.kind).get(entry.name)
                if nonce and nonce != entry.nonce:
                    self._keep(entry.kind, entry.name, nonce)
            if nonce:
                carried[entry.kind][entry.name] = nonce
            if alive:
                progress = entry.progress or progress
        for kind, names in carried.items() if there else ():
            for name, nonce in getattr(there, kind).items():
                if name not in known:
                    self._keep(kind, name, nonce)
                    names[name] = nonce
        heartbeat = Heartbeat(
            server=self._builder,
            timestamp=self._clock.now(),
            uptime_seconds=round(self._clock.boottime()),
            leases=carried["leases"],
            waiting=carried["waiting"],
            progress=progress,
        )
        return heartbeat, stopped

    def _entries(self) -> Iterator[tuple[Path, Entry, float]]:
        """Yields what lies here, with its time; whatever else lies here is nobody's nonce."""
        for place in sorted(self._folder.glob("*.json")):
            if place.name == "pushed.json":
                continue
            with suppress(OSError):
                entry = _entry(place)
                if entry is None:
                    place.unlink(missing_ok=True)
                else:
                    yield place, entry, place.stat().st_mtime

    def _keep(self, kind: Kind, name: str, nonce: str) -> None:
        """Notes when a nonce of another store's process was first seen, to know when it is old."""
        with suppress(OSError, StoreError):
            _replace(
                self._place(name),
                dump(Entry(kind=kind, name=name, nonce=nonce, process=_ELSEWHERE)),
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
        with _opened(place) as handle:
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
    try:
        replace_file(place, data)
    except OSError as exc:
        raise _unwritable(place, exc) from exc


def _opened(place: Path) -> TextIO:
    try:
        return place.open("w")
    except OSError as exc:
        raise _unwritable(place, exc) from exc


def _unwritable(place: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The heartbeat's notes in {place.parent} cannot be written: {error.strerror}.",
        remedy="Free space there, and give this user write access.",
    )

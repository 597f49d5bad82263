"""The ref store in memory: the port's second implementation, for tests, simulations and dry runs.

It keeps the same promises as git below the port (`tests/contracts/` runs one suite over both), and lets a
caller stand between a request and its effect: `remote.fault` is asked at each step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from pipeline.edge.git_objects import (
    EMPTY_TREE,
    LARGEST_OBJECT_BYTES,
    Object,
    parse_commit,
    too_large,
)
from pipeline.edge.ref_store import BEAT_BYTES, Pushed, Unread, beat_objects
from pipeline.errors import LedgerUnreachable

#: What a fault may do to one request: nothing, lose it before the server has it, lose the answer, keep the
#: request under way until the remote's `arrive` is called, whatever became of its sender, or keep a copy of
#: it under way so, whatever becomes of the request itself.
Fault = Literal["none", "lost", "unanswered", "delayed", "doubled"]


class MemoryRemote:
    """What all clients share: objects and refs. `shallow` commits have no known parents."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.refs: dict[str, str] = {}
        self.shallow: set[str] = set()
        self.fault: Callable[[str], Fault] = lambda step: "none"
        self.refuse: Callable[[str], Pushed | None] = lambda ref: None
        self.delayed: list[Callable[[], bool]] = []
        self.lock = threading.Lock()

    def arrive(self, number: int = 0) -> bool:
        """Lets a delayed push take effect now; returns whether it moved its ref."""
        return self.delayed.pop(number)()

    def move(self, ref: str, commit: str, expected: str | None) -> bool:
        """Compare-and-swap of one ref."""
        with self.lock:
            if self.refs.get(ref) != expected:
                return False
            self.refs[ref] = commit
            return True


class MemoryRefs:
    """One client's view of a MemoryRemote; objects are known locally once fetched or written."""

    def __init__(self, remote: MemoryRemote, branch: str = "ledger") -> None:
        self.remote = remote
        self.ref = f"refs/heads/{branch}"
        self.local: dict[str, Object] = {EMPTY_TREE.oid: EMPTY_TREE}

    def read(self, oid: str) -> Object | None:
        found = self.local.get(oid)
        if found is not None and len(found.data) > LARGEST_OBJECT_BYTES:
            raise too_large(oid, len(found.data), LARGEST_OBJECT_BYTES)
        return found

    def write(self, objects: Iterable[Object]) -> None:
        self.local.update((o.oid, o) for o in objects)

    def within(self, seconds: float) -> AbstractContextManager[None]:
        return nullcontext()

    def abandon(self) -> None:
        pass

    def tip(self) -> str | None:
        if self.remote.fault("read") != "none":
            raise LedgerUnreachable("The remote in memory does not answer.")
        return self.remote.refs.get(self.ref)

    def fetch(self) -> str | None:
        tip = self.tip()
        if tip is not None:
            self.local.update(self.remote.objects)
        return tip

    def push(self, commit: str, expected: str | None) -> Pushed:
        fault = self.remote.fault("push")
        if fault == "lost":
            return Pushed("unknown", LedgerUnreachable("The request was lost."))
        if fault == "doubled":
            self.remote.objects.update(self.local)
            self.remote.delayed.append(lambda: self.remote.move(self.ref, commit, expected))
        refused = self.remote.refuse(self.ref)
        if refused is not None:
            return refused
        self.remote.objects.update(self.local)
        if fault == "delayed":
            self.remote.delayed.append(lambda: self.remote.move(self.ref, commit, expected))
            return Pushed("unknown", LedgerUnreachable("No answer came."))
        moved = self.remote.refs.get(self.ref) == commit or self.remote.move(self.ref, commit, expected)
        if fault == "unanswered":
            return Pushed("unknown", LedgerUnreachable("The answer was lost."))
        return Pushed("landed" if moved else "stale")

    def contains(self, tip: str, commit: str) -> bool | None:
        reached = self._reach(tip)
        return True if commit in reached else None if None in reached.values() else False

    def since(self, tip: str, base: str | None) -> list[str] | None:
        if base is not None and base not in self.local:
            return None
        below = self._reach(base) if base else {}
        found = {oid: parents for oid, parents in self._reach(tip).items() if oid not in below}
        return None if None in found.values() else list(found)

    def _reach(self, tip: str) -> dict[str, tuple[str, ...] | None]:
        """Returns what a commit reaches, with the parents of each, None where the history is cut."""
        reached: dict[str, tuple[str, ...] | None] = {}
        pending = [tip]
        while pending:
            oid = pending.pop()
            if oid in reached:
                continue
            found = self.local.get(oid)
            cut = found is None or oid in self.remote.shallow
            reached[oid] = None if cut or found is None else parse_commit(found.data).parents
            pending.extend(reached[oid] or ())
        return reached

    def beat(self, ref: str, data: bytes, after: bytes | None) -> Pushed:
        fault = self.remote.fault("beat")
        if fault == "lost":
            return Pushed("unknown", LedgerUnreachable("The request was lost."))
        objects = beat_objects(data)
        commit, expected = objects[-1].oid, None if after is None else beat_objects(after)[-1].oid
        self.write(objects)
        self.remote.objects.update(self.local)
        if fault == "delayed":
            self.remote.delayed.append(lambda: self.remote.move(ref, commit, expected))
            return Pushed("unknown", LedgerUnreachable("No answer came."))
        moved = self.remote.refs.get(ref) == commit or self.remote.move(ref, commit, expected)
        if fault == "unanswered":
            return Pushed("unknown", LedgerUnreachable("The answer was lost."))
        return Pushed("landed" if moved else "stale")

    def beats(self, prefix: str) -> tuple[str | None, dict[str, str]]:
        tip = self.tip()
        with self.remote.lock:
            return tip, {ref: oid for ref, oid in self.remote.refs.items() if ref.startswith(prefix)}

    def survey(self, prefix: str) -> tuple[str | None, dict[str, bytes]]:
        tip = self.fetch()
        with self.remote.lock:
            refs = [ref for ref in self.remote.refs if ref.startswith(prefix)]
        return tip, self._contents(refs)

    def beat_data(self, refs: Collection[str]) -> dict[str, bytes]:
        self.tip()
        return self._contents(refs)

    def _contents(self, refs: Collection[str]) -> dict[str, bytes]:
        found = {}
        for ref in refs:
            oid = self.remote.refs.get(ref)
            if oid is not None:
                tree = self.remote.objects[parse_commit(self.remote.objects[oid].data).tree]
                blob = self.remote.objects[_only_blob(tree)]
                large = len(blob.data) > BEAT_BYTES
                found[ref] = Unread.of(ref, blob.oid, len(blob.data)) if large else blob.data
        return found

    def maintain(self) -> None:
        pass


def _only_blob(tree: Object) -> str:
    return tree.data[-20:].hex()

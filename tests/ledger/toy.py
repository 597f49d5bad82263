"""A toy state for ledger tests: a list of ids, a register with an owner, and nodes that share a remote."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.edge.clock import ManualClock
from pipeline.edge.memory_refs import Fault, MemoryRemote
from pipeline.edge.ref_store import RefStore
from pipeline.errors import RecordInvalid
from pipeline.ledger.chain import read_state
from pipeline.ledger.check import Finding, check_chain
from pipeline.ledger.genesis import initialise
from pipeline.ledger.history import history
from pipeline.ledger.leader import Settings
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.store import Store
from pipeline.records import paths
from pipeline.records.base import dump
from pipeline.records.decisions import Adopt, Adopted, Change, Context, Decide, Refusal, View
from pipeline.records.ledger import Evidence, LedgerState

LOG = "coordination/log.json"
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def decide(view: View, request: Mapping[str, Any], evidence: Evidence, context: Context) -> Change | Refusal:
    """append adds an id (twice is never refused, so that doubling shows); hold and free guard a register."""
    log = json.loads(view.read(LOG) or b'{"ids": [], "owner": null}')
    kind = request["kind"]
    if kind == "append":
        log["ids"].append(request["id"])
    elif kind == "hold":
        if log["owner"] is not None:
            return Refusal("held", f"held by {log['owner']}")
        log["owner"] = request["owner"]
    elif kind == "free":
        if log["owner"] != request["owner"]:
            return Refusal("not-held", "somebody else's")
        log["owner"] = None
    elif kind == "withdraw":
        if log.get("granted") != request["op"]:
            return Change({"withdrawn": False})
        log["owner"] = log["granted"] = None
    elif kind == "raise_epoch":
        state = read_state(view)
        tips = [*state.abandoned_tips, *request["abandoned_tips"]]
        changed = state.model_copy(update={"epoch": state.epoch + 1, "abandoned_tips": tips})
        return Change({"epoch": changed.epoch}, {paths.LEDGER: dump(changed)})
    elif kind == "forget":
        return Change({}, {paths.LEDGER: dump(read_state(view).model_copy(update={"writers": {}}))})
    elif kind == "nothing":
        return Change({"said": "nothing"})
    elif kind == "explode":
        raise RecordInvalid(LOG, "ids", "not a list")
    if kind == "hold":
        log["granted"] = context.op
    data = (json.dumps(log) + "\n").encode()
    return Change({"ordinal": context.ordinal}, {LOG: data})


def adopt(path: str, before: bytes | None, after: bytes | None) -> Adopted:
    """Only notes may be changed by hand."""
    if path.startswith("notes/"):
        return Adopted(after)
    return Adopted(None, "only notes are free")


class CountedRandomness:
    """Draws that repeat from run to run, and never between nodes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers = itertools.count(1)

    def op(self) -> str:
        return f"{self._name}-op{next(self._numbers):04d}"

    def hex(self) -> str:
        return hashlib.md5(f"{self._name}{next(self._numbers)}".encode()).hexdigest()

    def fraction(self) -> float:
        return 0.5


class FakeProcesses:
    """Processes that live until they are struck out."""

    def __init__(self, me: str, dead: set[str] | None = None) -> None:
        self.me = me
        self.dead: set[str] = set() if dead is None else dead

    def myself(self) -> str:
        return self.me

    def alive(self, process: str) -> bool:
        return bool(process) and process not in self.dead


class Between:
    """Lets others act in the middle of one call: hooks run once, before or after the method they name."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            self.before.pop(name, lambda: None)()
            result = found(*args, **options)
            self.after.pop(name, lambda: None)()
            return result

        return call


#: Stores that a test has opened; a fixture closes them.
OPEN: list[Store] = []


class Node:
    """One process of a builder: a store on disk, a ref store, a ledger over the toy's decisions or others."""

    def __init__(
        self,
        name: str,
        folder: Path,
        refs: Any,
        *,
        reducer: int = 1,
        decide: Decide = decide,
        adopt: Adopt = adopt,
        **settings: Any,
    ) -> None:
        self.name, self.refs, self.folder = name, refs, folder / name
        self.decide, self.adopt = decide, adopt
        self.settings = Settings(author=name, reducer=reducer, **settings)
        self.clock = ManualClock(WHEN)
        self.random = CountedRandomness(name)
        self.lives = itertools.count(1)
        self._live(name, f"{name}-writer", FakeProcesses(f"{name}-process"))

    def _live(self, identity: str, new_id: str, processes: FakeProcesses) -> None:
        self.processes = processes
        self.store = Store(self.folder, identity=identity, new_id=new_id)
        OPEN.append(self.store)
        self.rewire(store=self.store)

    def rewire(self, *, store: Any = None, refs: Any = None, random: CountedRandomness | None = None) -> None:
        """Puts others in the place of this process's parts; its store stays where no other is given."""
        self.refs = refs or self.refs
        self.random = random or self.random
        self.ledger = Ledger(
            store or self.ledger.store,
            self.refs,
            self.decide,
            self.adopt,
            self.clock,
            self.random,
            self.processes,
            self.settings,
        )

    def watch(self) -> Between:
        """Lets others act in the middle of what this process does with its store."""
        between = Between(self.store)
        self.rewire(store=between)
        return between

    def reopen(
        self, *, identity: str | None = None, new_id: str = "reopened-writer", refs: Any = None
    ) -> Node:
        """Opens the same folder as another process would."""
        node = Node.__new__(Node)
        node.__dict__.update(self.__dict__)
        node.refs = refs or self.refs
        me = f"{self.name}-process{next(self.lives)}"
        node._live(identity or self.name, new_id, FakeProcesses(me, self.processes.dead))
        return node

    def die(self) -> None:
        """Strikes this process out."""
        self.processes.dead.add(self.processes.me)

    def backup(self) -> Path:
        """Copies the outbox as a snapshot of the disk would, and returns the copy."""
        copy = self.folder.with_name(f"{self.folder.name}.backup{next(self.lives)}.db")
        with (
            closing(sqlite3.connect(self.folder / "outbox.db")) as source,
            closing(sqlite3.connect(copy)) as to,
        ):
            source.backup(to)
        return copy

    def restored(self, backup: Path) -> Node:
        """Puts a backup in the place of the outbox and opens it as the only process that is alive."""
        self.die()
        self.store.close()
        for left in self.folder.glob("outbox.db*"):
            left.unlink()
        shutil.copy(backup, self.folder / "outbox.db")
        return self.reopen()

    def drain(self) -> None:
        """Drains without the leader's lock, as a second leader does."""
        self.ledger.leader.drain(self.clock.boottime() + 60)

    def copied(self, name: str) -> Node:
        """Returns a copy of this store, running on the same machine beside it."""
        node = copy.copy(self)
        node.folder = self.folder.with_name(name)
        node.folder.mkdir()
        self.backup().rename(node.folder / "outbox.db")
        node.random = CountedRandomness(name)
        node._live(self.name, f"{name}-writer", FakeProcesses(f"{name}-process"))
        return node

    def append(self, id: str) -> dict[str, Any]:
        return self.ledger.transact({"kind": "append", "id": id})

    def hold(self, owner: str) -> dict[str, Any]:
        return self.ledger.transact({"kind": "hold", "owner": owner}, kind="attached")

    def free(self, owner: str) -> dict[str, Any]:
        return self.ledger.transact({"kind": "free", "owner": owner})

    def ids(self) -> list[str]:
        view = self.ledger.view().view
        return list(json.loads(view.read(LOG) or b'{"ids": []}')["ids"])

    def owner(self) -> str | None:
        data = self.ledger.view().view.read(LOG)
        owner = json.loads(data)["owner"] if data else None
        return None if owner is None else str(owner)

    def outcome(self, op: str) -> dict[str, Any] | None:
        """Returns what the chain on the remote says of an operation."""
        stories = history(self.refs, self.refs.fetch(), self.settings.reducer)
        found = [e.outcome for s in stories if s.record for e in s.record.entries if e.op == op]
        return found[-1] if found else None

    def findings(self) -> list[Finding]:
        """Returns what `ledger.check` finds on the remote's chain, commits made by hand left out."""
        tip = self.refs.fetch()
        reducer = self.settings.reducer
        _, found = check_chain(self.refs, tip, self.decide, self.adopt, reducer, lambda path, data: None)
        return [each for each in found if not each.foreign]


def begin(refs: RefStore) -> str:
    """Makes the toy's ledger on a remote."""
    files = {paths.LEDGER: dump(LedgerState()), "notes/hello.txt": b"hello\n"}
    return initialise(refs, files, "operator", ManualClock(WHEN), CountedRandomness("init"), 1)


def faults(remote: MemoryRemote, *kinds: Fault) -> None:
    """Lets the next pushes meet these faults, and all later ones none."""
    queue = list(kinds)
    remote.fault = lambda step: queue.pop(0) if step == "push" and queue else "none"


class Violated(AssertionError):
    """An invariant does not hold. `name` tells which, so that a mutant is killed by what it breaks."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


def invariant(name: str, holds: bool, detail: object = "") -> None:
    """Raises Violated unless it holds."""
    if not holds:
        raise Violated(name, str(detail))


def raises(error: type[BaseException], act: Callable[[], object]) -> bool:
    """Says whether a call ends in this error."""
    try:
        act()
    except error:
        return True
    return False

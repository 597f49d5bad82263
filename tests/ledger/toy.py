"""A toy state for ledger tests: a list of ids, a register with an owner, and nodes that share a remote."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.edge.clock import ManualClock
from pipeline.ledger.ledger import Ledger, Settings, initialise
from pipeline.ledger.ports import RefStore
from pipeline.ledger.store import Store
from pipeline.records import paths
from pipeline.records.base import dump
from pipeline.records.decisions import Adopted, Change, Context, Refusal, View
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
        if log.get("granted") == request["op"]:
            log["owner"] = log["granted"] = None
    elif kind == "nothing":
        return Change({"said": "nothing"})
    elif kind == "explode":
        raise_invalid()
    if kind == "hold":
        log["granted"] = context.op
    data = (json.dumps(log) + "\n").encode()
    return Change({"ordinal": context.ordinal}, {LOG: data})


def raise_invalid() -> None:
    from pipeline.errors import RecordInvalid

    raise RecordInvalid(LOG, "ids", "not a list")


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
        return f"{next(self._numbers):032x}"

    def fraction(self) -> float:
        return 0.5


class FakeProcesses:
    """Processes that live until they are struck out."""

    def __init__(self, me: str) -> None:
        self.me = me
        self.dead: set[str] = set()

    def myself(self) -> str:
        return self.me

    def alive(self, process: str) -> bool:
        return process not in self.dead


class Node:
    """One builder: a store on disk, a ref store, a ledger over the toy."""

    def __init__(self, name: str, folder: Path, refs: RefStore, *, reducer: int = 1) -> None:
        self.name = name
        self.clock = ManualClock(WHEN)
        self.random = CountedRandomness(name)
        self.processes = FakeProcesses(f"{name}-process")
        self.refs = refs
        self.folder = folder / name
        self.store = Store(self.folder, identity=name, new_id=f"{name}-writer")
        self.ledger = Ledger(
            self.store,
            refs,
            decide,
            adopt,
            self.clock,
            self.random,
            self.processes,
            Settings(author=name, reducer=reducer),
        )

    def reopen(self, *, identity: str | None = None, new_id: str = "reopened-writer") -> Node:
        """Opens the same folder as another process would."""
        node = Node.__new__(Node)
        node.__dict__.update(self.__dict__)
        node.store = Store(self.folder, identity=identity or self.name, new_id=new_id)
        node.processes = FakeProcesses(f"{self.name}-other")
        node.processes.dead = self.processes.dead
        node.ledger = Ledger(
            node.store,
            self.refs,
            decide,
            adopt,
            self.clock,
            self.random,
            node.processes,
            Settings(author=self.name),
        )
        return node

    def append(self, id: str) -> dict[str, Any]:
        return self.ledger.transact({"kind": "append", "id": id})

    def ids(self) -> list[str]:
        view = self.ledger.view().view
        return list(json.loads(view.read(LOG) or b'{"ids": []}')["ids"])

    def owner(self) -> str | None:
        data = self.ledger.view().view.read(LOG)
        owner = json.loads(data)["owner"] if data else None
        return None if owner is None else str(owner)


def begin(refs: RefStore) -> str:
    """Makes the toy's ledger on a remote."""
    files = {paths.LEDGER: dump(LedgerState()), "notes/hello.txt": b"hello\n"}
    return initialise(refs, files, "operator", ManualClock(WHEN), CountedRandomness("init"), 1)

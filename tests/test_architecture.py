"""The floor plan: who may import whom. Each rule is shown to notice a breach of it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

_BELOW = frozenset({"errors", "records"})
_MIDDLE = frozenset({"coordination", "ledger", "builds", "compare"})

#: Room -> the rooms that it may import, beside itself. Imports go down only.
ROOMS: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "records": frozenset({"errors"}),
    "edge": _BELOW,
    "coordination": _BELOW,
    "ledger": _BELOW | {"edge"},
    "builds": _BELOW | {"edge"},
    "compare": _BELOW | {"edge"},
    "operations": _BELOW | _MIDDLE | {"edge"},
    "runtime": _BELOW | _MIDDLE | {"edge", "operations"},
    "agent": _BELOW | {"edge", "operations", "runtime"},
    "console": _BELOW | {"operations"},
    "tasks": _BELOW | _MIDDLE | {"edge", "operations", "runtime", "agent", "console"},
}

_SUPERVISION = frozenset({"pipeline.edge.supervisor", "pipeline.edge.survivors", "pipeline.edge.watchdog"})
_DRAWS = frozenset({"pipeline.edge.identity"})

#: Module from outside -> the only ones that import it.
SOLE_IMPORTERS: dict[str, frozenset[str]] = {
    "subprocess": frozenset(
        {"pipeline.edge.process", "pipeline.edge.supervisor", "pipeline.edge.conversation"}
    ),
    "fabric": frozenset({"pipeline.edge.ssh"}),
    "paramiko": frozenset({"pipeline.edge.ssh", "pipeline.edge.ssh_login"}),
    "time": frozenset({"pipeline.edge.clock", "pipeline.edge.process", "pipeline.edge.conversation"})
    | _SUPERVISION,
    "random": frozenset(),
    "secrets": _DRAWS,
    "uuid": frozenset(),
    "uuid_utils": _DRAWS,
}

#: What a pure decision has no use for, beside the rooms that it may not import.
IMPURE = frozenset({"os", "socket", "threading", "asyncio", "psutil", "pathlib", "shutil", "platform"})

#: Classes that only `runtime` puts together; everybody else is handed one.
CONCRETE = frozenset({"SystemClock", "SystemProcesses", "SystemRandomness", "GitRefs", "Store"})

#: What start-up may cost: the modules from outside that `invoke --list` imports.
STARTUP = frozenset({"invoke"})

STANDARD = frozenset(sys.stdlib_module_names)

#: Breaches that are known, each to be mended. One that is mended has to leave this list.
KNOWN: dict[str, str] = {}


@dataclass(frozen=True)
class Import:
    """One imported module or name: `importer` has it at its top, or only inside a function."""

    importer: str
    module: str
    name: str | None
    at_top: bool


def imports_of(importer: str, source: str, modules: Mapping[str, str]) -> Iterator[Import]:
    """Yields what a module imports; `from a import b` is module `a.b` where there is such a module."""
    tree = ast.parse(source)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        at_top = id(node) not in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, alias.name, None, at_top)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                if base == "pipeline" or whole in modules:
                    yield Import(importer, whole, None, at_top)
                else:
                    yield Import(importer, base, alias.name, at_top)


def room_of(module: str) -> str | None:
    """Returns the room that a module of the product lies in, or None for one from outside."""
    parts = module.split(".")
    if parts[0] == "tasks":
        return "tasks"
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 else None


def outside(module: str) -> str:
    """Returns the package that a module from outside belongs to."""
    return module.split(".")[0]


def breaches(modules: Mapping[str, str]) -> list[str]:
    """Returns every breach of the floor plan by modules (name -> source), in words."""
    found: set[str] = set()
    every = [line for name, source in modules.items() for line in imports_of(name, source, modules)]
    for line in every:
        room, target = room_of(line.importer), room_of(line.module)
        if line.module.startswith("."):
            found.add(f"{line.importer} imports relatively")
        if room is not None and target is not None and target not in ROOMS[room] | {room}:
            found.add(f"{line.importer} imports {line.module}")
        sole = SOLE_IMPORTERS.get(outside(line.module))
        if room is not None and target is None and sole is not None and line.importer not in sole:
            found.add(f"{line.importer} imports {outside(line.module)}")
        if room == "coordination" and outside(line.module) in IMPURE:
            found.add(f"{line.importer} imports {outside(line.module)}")
        if line.name in CONCRETE and target not in (None, room) and room != "runtime":
            found.add(f"{line.importer} imports {line.name}")
    for name, source in modules.items():
        if name != "pipeline.edge.clock" and reads_clock(source):
            found.add(f"{name} asks for the time")
    return sorted(found) + cycles(every, modules) + eager(every, modules)


def reads_clock(source: str) -> bool:
    """Says whether a module calls `datetime.now` or one of its kin."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in ("now", "utcnow", "today")
        and isinstance(node.value, ast.Name)
        and node.value.id in ("datetime", "date")
        for node in ast.walk(ast.parse(source))
    )


def cycles(every: list[Import], modules: Mapping[str, str]) -> list[str]:
    """Returns the modules that import themselves by way of others."""
    below: dict[str, set[str]] = {name: set() for name in modules}
    for line in every:
        if line.at_top and line.module in modules:
            below[line.importer].add(line.module)
    return [f"{name} imports itself" for name in sorted(modules) if name in reach(name, below)]


def reach(start: str, below: Mapping[str, set[str]]) -> set[str]:
    """Returns what is imported, directly or not, when a module is."""
    seen: set[str] = set()
    left = list(below.get(start, ()))
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left += below.get(name, ())
    return seen


def eager(every: list[Import], modules: Mapping[str, str]) -> list[str]:
    """Returns what importing `tasks` loads from outside, beyond the little that start-up may cost."""
    below: dict[str, set[str]] = {}
    for line in every:
        if line.at_top:
            parts = line.module.split(".")
            packages = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            below.setdefault(line.importer, set()).update(packages)  # a package is loaded before its modules
    loaded = {outside(name) for name in reach("tasks", below) if room_of(name) is None}
    allowed = STARTUP | STANDARD | {"pipeline"}
    return [f"tasks loads {name} at start-up" for name in sorted(loaded - allowed)]


def product() -> dict[str, str]:
    """Returns every module of the product with its source."""
    found = {}
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    tasks = ROOT / "tasks.py"
    return {**found, "tasks": tasks.read_text()} if tasks.exists() else found


def test_the_product_keeps_to_the_plan() -> None:
    """No module breaks a rule, but for those that are known; and what is known is still so."""
    assert breaches(product()) == sorted(KNOWN)


def test_every_room_is_on_the_plan() -> None:
    """A new room has to be given its place before anything can be put in it."""
    assert {room_of(name) for name in product()} - {None} <= set(ROOMS)


def test_the_plan_has_no_cycle() -> None:
    """The rooms can be put in an order in which each imports only what comes before it."""
    placed: set[str] = set()
    while left := [room for room, below in ROOMS.items() if room not in placed and below <= placed]:
        placed |= set(left)
    assert placed == set(ROOMS)


@pytest.mark.parametrize("room", sorted(set(ROOMS) - {"tasks"}))
def test_every_import_upwards_is_noticed(room: str) -> None:
    """From each room, an import of any room that it may not know is a breach; of any other, none."""
    for target in sorted(set(ROOMS) - {room, "tasks"}):
        source = f"from pipeline.{target} import something"
        expected = [] if target in ROOMS[room] else [f"pipeline.{room}.x imports pipeline.{target}"]
        assert breaches({f"pipeline.{room}.x": source}) == expected


@pytest.mark.parametrize(
    ("importer", "source", "expected"),
    [
        ("pipeline.errors", "from pipeline import records", "pipeline.errors imports pipeline.records"),
        ("pipeline.ledger.x", "import pipeline.coordination.queue", "imports pipeline.coordination.queue"),
        ("pipeline.builds.x", "def f():\n    import pipeline.ledger", "imports pipeline.ledger"),
        ("pipeline.operations.x", "import subprocess", "imports subprocess"),
        ("pipeline.edge.git", "from subprocess import run", "imports subprocess"),
        ("pipeline.operations.x", "import fabric.connection", "imports fabric"),
        ("pipeline.ledger.x", "import time", "imports time"),
        ("pipeline.builds.x", "from time import monotonic", "imports time"),
        ("pipeline.coordination.x", "import random", "imports random"),
        ("pipeline.ledger.x", "from secrets import token_hex", "imports secrets"),
        ("pipeline.operations.x", "import uuid_utils", "imports uuid_utils"),
        ("pipeline.coordination.x", "import os.path", "imports os"),
        ("pipeline.coordination.x", "from pathlib import Path", "imports pathlib"),
        ("pipeline.operations.x", "from pipeline.edge.clock import SystemClock", "imports SystemClock"),
        ("pipeline.operations.x", "from pipeline.edge.git_refs import GitRefs", "imports GitRefs"),
        ("pipeline.builds.x", "from datetime import datetime\nx = datetime.now()", "asks for the time"),
        ("pipeline.ledger.x", "from .objects import Commit", "imports relatively"),
        ("tasks", "import pydantic", "tasks loads pydantic at start-up"),
        ("tasks", "def f():\n    import pydantic", None),
        ("pipeline.edge.process", "import subprocess, time", None),
        ("pipeline.edge.ssh", "import fabric", None),
        ("pipeline.runtime", "from pipeline.edge.clock import SystemClock", None),
        ("pipeline.edge.clock", "from datetime import datetime\nx = datetime.now()", None),
    ],
)
def test_a_breach_is_noticed(importer: str, source: str, expected: str | None) -> None:
    """Each rule names the module that breaks it, and lets the module pass for which it was made."""
    found = breaches({importer: source})
    assert len(found) == (expected is not None)
    assert expected is None or expected in found[0]


def test_a_cycle_is_noticed() -> None:
    """Modules of one room that import each other at their top are a breach; inside a function, not."""
    one = "from pipeline.ledger.two import x"
    two = "from pipeline.ledger import one"
    lazy = f"def f():\n    {two}"
    assert breaches({"pipeline.ledger.one": one, "pipeline.ledger.two": two}) == [
        "pipeline.ledger.one imports itself",
        "pipeline.ledger.two imports itself",
    ]
    assert breaches({"pipeline.ledger.one": one, "pipeline.ledger.two": lazy}) == []


def test_a_slow_start_is_noticed_in_a_package() -> None:
    """What a package loads for itself counts for whoever imports one of its modules."""
    modules = {"tasks": "import pipeline.console.terminal", "pipeline.console": "import psutil"}
    assert breaches(modules) == ["tasks loads psutil at start-up"]


def test_a_slow_start_is_noticed_through_other_modules() -> None:
    """What `tasks` loads by way of a module of the product counts as well."""
    console = "import rich"
    tasks = "from pipeline.console.terminal import say"
    found = breaches({"tasks": tasks, "pipeline.console.terminal": console})
    assert found == ["tasks loads rich at start-up"]

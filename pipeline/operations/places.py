"""Where one side of a comparison lies, as it was typed: a path here, a builder, or a path on another machine.

A builder's address may come from the ledger's registry, for whoever answers there has to show a key that this
machine knows. Its folder never does: that is this machine's own setting, or typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pipeline.edge.hosts import Host
from pipeline.edge.identity import expanded
from pipeline.errors import LedgerError, UsageError
from pipeline.operations.settings import FarBuilder
from pipeline.records.builders import Builder
from pipeline.records.names import is_name

_FAR: Final = re.compile(r"(?P<host>(?:[^:/\[]*@)?(?:\[[^\]/]*\]|[^:/\[]+)):(?P<path>/.*)", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """Where one side's files lie: a folder or a file, on this machine where `host` is None.

    `machine_id` is the only machine that is taken for it, if one is pinned.
    """

    path: Path
    host: Host | None = None
    builder: str | None = None
    machine_id: str | None = None
    typed: str | None = None

    @property
    def name(self) -> str:
        """Returns it in words."""
        return self.typed or str(self.path)


@dataclass(frozen=True)
class Known:
    """Who can be meant by a builder's name.

    `own` is this machine's name and `artifacts` its folder; `settings` are its own of other builders, and
    `registered` reads the ledger's registry, which is asked only when it has to be.
    """

    own: Callable[[], str | None] = field(default=lambda: None)
    artifacts: Path | None = None
    settings: Mapping[str, FarBuilder] = field(default_factory=dict)
    registered: Callable[[], list[Builder]] = field(default=list)


def place_of(word: str, option: str, known: Known = Known()) -> Place:
    """Reads a side as it was typed. Raises UsageError, and what keeps the registry from being read.

    `[USER@]HOST:/PATH` and `ssh://[USER@]HOST[:PORT]/PATH` are another machine's, HOST being a builder or any
    other name; a builder's name is that builder; all else is a path here.
    """
    if word.startswith("ssh://"):
        return _of_address(urlsplit(word), word, option)
    far = _FAR.fullmatch(word)
    if far is not None and not word.startswith(("/", ".")):
        return _far(far["host"], far["path"], word, option, known)
    if is_name("builder", word):
        there = _builder(word, None, option, known)
        if there is not None:
            return there
    path = expanded(word).absolute()
    if not word or not path.exists():
        raise UsageError(
            f"{option} {word!r} is no file or folder of this machine{', and no builder' if word else ''}.",
            remedy="Give a file or a folder, a builder, or HOST:/PATH for another machine's whole path.",
        )
    return Place(path)


def _of_address(address: SplitResult, word: str, option: str) -> Place:
    try:
        host, port = address.hostname, address.port
    except ValueError as exc:
        raise UsageError(f"{option} {word!r}: {exc}.", remedy="Write ssh://USER@HOST:PORT/PATH.") from exc
    if not host or len(address.path) < 2 or address.password:
        raise UsageError(
            f"{option} {word!r} lacks a host or a path, or has a password in it.",
            remedy="Write ssh://USER@HOST:PORT/PATH.",
        )
    # What an address leaves out of the path by its own rules belongs to a file's name here.
    path = "/" + word.removeprefix("ssh://").partition("/")[2]
    return Place(Path(path), Host(host, address.username, port), typed=word)


def _far(whom: str, path: str, word: str, option: str, known: Known) -> Place:
    user, at, host = whom.rpartition("@")
    if not at and is_name("builder", host):
        there = _builder(host, Path(path), option, known)
        if there is not None:
            return there
    return Place(Path(path), Host(host.strip("[]"), user if at else None), typed=word)


def _builder(name: str, path: Path | None, option: str, known: Known) -> Place | None:
    """Returns where a builder's files lie; None where nobody has that name."""
    ours = known.settings.get(name)
    entry = None
    if ours is None or ours.address is None:
        entry = _entry(name, option, known)
        if entry is None and ours is None:
            return None
    typed = name if path is None else f"{name}:{path}"
    if ours is None and name == known.own():
        return Place(path or known.artifacts or Path("/"), builder=name, typed=typed)
    ours = ours or FarBuilder()
    folder = path or ours.root
    if folder is None:
        raise UsageError(
            f"{option} {name!r}: where that builder keeps its artifacts is not known here.",
            remedy=f"Type `{name}:/PATH`, or set it in this machine's config.toml:"
            f' `[builders.{name}]`, `root = "/PATH"`. (`invoke config` on {name} shows its `artifacts`.)'
            f" A folder of this name is `./{name}`.",
        )
    address = ours.address or (entry and (entry.address or entry.host)) or name
    user = ours.user or (entry.user if entry else None)
    host = Host(address, user, ours.port, ours.host_key)
    return Place(folder, host, name, ours.machine_id, typed)


def _entry(name: str, option: str, known: Known) -> Builder | None:
    try:
        return next((each for each in known.registered() if each.name == name), None)
    except LedgerError as exc:
        exc.message = f"Whether {option} {name!r} is a builder cannot be told: {exc.message}"
        exc.remedy = f"`./{name}` is a file or folder here; `USER@{name}:/PATH` needs no registry."
        raise

"""The registry of deliberate bugs. Each is some names of the product, and makers of their stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from pipeline.coordination import reducer
from tests.ledger import mutants as old

Change = tuple[Any, str, Callable[[Any], Any]]


@dataclass(frozen=True)
class Mutant:
    """One bug: the part that it is in, what is left out, and the profile in which it is looked for."""

    part: str
    text: str
    profile: str
    changes: tuple[Change, ...]


MUTANTS: dict[str, Mutant] = {}


def mutant(name: str, part: str, profile: str, text: str, *changes: Change) -> None:
    """Registers a mutant."""
    MUTANTS[name] = Mutant(part, text, profile, changes)


def taken_over(name: str, part: str, profile: str, **instead: Any) -> None:
    """Registers a mutant of the ledger's own tests; `instead` names what it replaces here."""
    known = old.MUTANTS[name]
    changes = [(instead.get("owner", owner), word, make) for (owner, word), make in known.changes.items()]
    mutant(name, part, profile, known.text, *changes)


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Puts a mutant into the product for a while."""
    with ExitStack() as stack:
        for owner, word, make in MUTANTS[name].changes if name else ():
            stack.enter_context(patch.object(owner, word, make(getattr(owner, word))))
        yield


def instead(function: Any) -> Callable[[Any], Any]:
    """Returns a maker of the same stand-in, whatever was there."""
    return lambda real: function


def decides(kind: str, make: Callable[[Any], Any]) -> Change:
    return (reducer, "_DECISIONS", lambda real: {**real, kind: make(real[kind])})

"""Results of pure functions, kept while a simulation runs: its machines read the same bytes again and again.

Each is a function of immutable values only, so keeping changes nothing but the time it takes. A decision is
never kept: the checker computes each one again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any
from unittest.mock import patch

from pipeline.coordination import adoption
from pipeline.edge import git_objects as objects
from pipeline.ledger import chain, history
from pipeline.operations import lease, pulse, site
from pipeline.records import base, lists
from pipeline.records.ledger import LedgerState, Writer

_FUNCTIONS: tuple[tuple[Any, str, int], ...] = (
    (objects, "parse_tree", 4096),
    (site, "load", 512),
    (lease, "load", 256),
    (pulse, "load", 256),
    (adoption, "load", 256),
    (chain, "read_record", 1024),
    (history, "parse_commit", 2048),
)


@contextmanager
def memoised() -> Iterator[None]:
    """Keeps results for a while. Mutants are planted outside of it, so that nothing of them stays."""
    with ExitStack() as stack:
        for module, name, size in _FUNCTIONS:
            stack.enter_context(patch.object(module, name, lru_cache(size)(getattr(module, name))))
        for name, size in (("element_of", 8192), ("whole", 1024), ("read_parts", 64)):
            bare = getattr(lists, name).__wrapped__
            stack.enter_context(patch.object(lists, name, lru_cache(size)(bare)))
        stack.enter_context(patch.object(chain, "adopt_foreign", _adopting(chain.adopt_foreign)))
        printed = _Printed()
        for module in (chain, lists):
            stack.enter_context(patch.object(module, "dump", printed.dump))
        stack.enter_context(patch.object(chain, "load", printed.load))
        yield


def _adopting(real: Any) -> Any:
    """Keeps what a foreign commit amounts to, by the two trees and what tells them."""
    kept: dict[Any, Any] = {}

    def adopt_foreign(recorded: Any, foreign: Any, tip: str, adopt: Any, ordinal: int) -> Any:
        key = (recorded.root, foreign.root, tip, adopt, ordinal)
        if key not in kept:
            if len(kept) > 200:
                kept.clear()
            kept[key] = dict(real(recorded, foreign, tip, adopt, ordinal).writes)
        return objects.Overlay(recorded, kept[key])

    return adopt_foreign


class _Printed:
    """Prints the ledger's own state from the texts of its writers, of which a transaction changes one.

    What was printed reads as the record that it was printed from. That its bytes validate and read as the
    same is the checker's to say (`records-validate`), once for each commit.
    """

    def __init__(self) -> None:
        # The writer is kept beside its text, so no other can have its identity meanwhile.
        self._texts: dict[int, tuple[Writer, str]] = {}
        self._states: dict[bytes, LedgerState] = {}

    def load(self, model: type[LedgerState], data: bytes, path: str) -> LedgerState:
        """Reads a state, if it is not one that was printed or read lately."""
        known = self._states.get(data)
        if known is None:
            known = base.load(model, data, path)
            self._keep(data, known)
        return known

    def _keep(self, data: bytes, state: LedgerState) -> None:
        if len(self._states) > 256:
            self._states.clear()
        self._states[data] = state

    def dump(self, record: Any) -> bytes:
        if type(record) is not LedgerState or not record.writers:
            return base.dump(record)
        if len(self._texts) > 2000:
            self._texts.clear()
        shell = base.dump(record.model_copy(update={"writers": {}}))
        texts = ",\n".join(
            f"    {json.dumps(name, ensure_ascii=False)}: {self._text(writer)}"
            for name, writer in sorted(record.writers.items())
        )
        data = shell.replace(b'\n  "writers": {}', f'\n  "writers": {{\n{texts}\n  }}'.encode(), 1)
        self._keep(data, record)
        return data

    def _text(self, writer: Writer) -> str:
        known = self._texts.get(id(writer))
        if known is None:
            text = base.dump(writer).decode()[:-1].replace("\n", "\n    ")
            known = self._texts[id(writer)] = writer, text
        return known[1]

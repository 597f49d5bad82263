"""The shape of a decision: what the ledger asks of the coordination, and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.records.ledger import Evidence


class View(Protocol):
    """A tree of the ledger, to read from."""

    def read(self, path: str) -> bytes | None:
        """Returns a file's bytes, or None where there is none."""

    def names(self, folder: str) -> list[str]:
        """Returns the sorted names in a folder; none where there is no such folder."""


@dataclass(frozen=True)
class Context:
    """What identifies one decision: its operation id, the transaction's ordinal, its payloads' bytes."""

    op: str
    ordinal: int
    payloads: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """Files to write (None removes one) and the outcome for the asker. No writes: nothing had to change."""

    outcome: dict[str, Any]
    writes: Mapping[str, bytes | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """Why the state does not allow a request. `reason` is one stable word for programs."""

    reason: str
    message: str
    remedy: str | None = None


class Decide(Protocol):
    """PURE: the same view, request, evidence and context give the same result, on every machine."""

    def __call__(
        self, view: View, request: Mapping[str, Any], evidence: Evidence, context: Context
    ) -> Change | Refusal: ...


@dataclass(frozen=True)
class Adopted:
    """What a foreign change of one file becomes: the bytes to keep, or None and why not."""

    data: bytes | None
    reason: str = ""


class Adopt(Protocol):
    """PURE: says whether a file's change by hand is a legal transition from `before`."""

    def __call__(self, path: str, before: bytes | None, after: bytes | None) -> Adopted: ...

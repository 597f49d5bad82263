"""What a comparison says: the verdict, per artifact and over all, and each leaf that differs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from pipeline.records.base import Record


def _escaped(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


#: Text out of a file's names and headers. A byte that is no UTF-8 is a surrogate, and `\\xe9` in JSON.
Foreign = Annotated[str, PlainSerializer(_escaped, when_used="json")]


class Verdict(StrEnum):
    """What two sides' artifacts are to each other. Only the first two are agreement."""

    AGREE = "AGREE"
    AGREE_NORMALISED = "AGREE-NORMALISED"
    DIFFER = "DIFFER"
    INCOMPARABLE = "INCOMPARABLE"
    INCOMPLETE = "INCOMPLETE"


class ComparedLeaf(Record):
    """One place where two sides differ: the names on the way to it, from the artifact to the entry.

    `what` is the property that differs (`content`, `time`, …) and `count` how many entries of the container
    at `path` differ in it in the same way, when that is told of all of them together. `left` and `right` are
    its values, as far as they can be shown. `cause` is None where nothing that is known explains it.
    """

    path: list[Foreign]
    what: str
    count: int = 1
    left: Foreign | None = None
    right: Foreign | None = None
    cause: str | None = None
    evidence: str | None = None


class ComparedSide(Record):
    """One side's artifact: its size in bytes and its SHA-256 as that side stated it; None without one."""

    size_bytes: int | None = None
    sha256: str | None = None


class ComparedArtifact(Record):
    """One artifact on both sides. `problem` says why it cannot be compared, where it cannot."""

    name: Foreign
    verdict: Verdict
    left: ComparedSide
    right: ComparedSide
    problem: Foreign | None = None
    leaves: list[ComparedLeaf] = Field(default_factory=list)
    leaves_omitted: int = 0


class Wire(Record):
    """What travelled between here and the readers, sending them and their first answer apart."""

    bytes: int
    round_trips: int


class Comparison(Record):
    """The whole of a comparison. `scope` `files` says nothing about builds: no inputs are known.

    `independent` is false where nothing shows that two different machines made the two sides.
    """

    verdict: Verdict
    scope: Literal["builds", "files"]
    independent: bool
    left: Foreign
    right: Foreign
    artifacts: list[ComparedArtifact]
    problems: list[Foreign] = Field(default_factory=list)
    normalisers: list[str] = Field(default_factory=list)
    wire: Wire
    duration_seconds: float

"""Makes an artifact the bytes that a comparison proved equal: on one side, by the same reader, step by step.

A comparison says which containers were written anew and how; it is believed in nothing. What comes out is
made from this side's own file, by a reader that refuses what must never be touched.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from pipeline.compare.wire import Line
from pipeline.errors import ReemissionRefused
from pipeline.records.comparison import ComparedArtifact

_ITEMS: Final = 32
_STEP: Final = re.compile(r"([!-~]*?)(?:#([1-9][0-9]{0,8}))?")
_PLAIN: Final = frozenset(range(0x21, 0x7F)) - frozenset(b"%#")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_AGAIN: Final = "Compare again: `invoke compare`."


def steps(path: Sequence[Any]) -> list[str]:
    """Returns a place's path inside its artifact as a record has it."""
    return [_step(os.fsencode(name), occurrence) for name, occurrence in path[1:]]


def _step(name: bytes, occurrence: int) -> str:
    text = "".join(chr(each) if each in _PLAIN else f"%{each:02X}" for each in name)
    return text + (f"#{occurrence}" if occurrence else "")


def _entry(step: str) -> list[Any]:
    found = _STEP.fullmatch(step)
    if found is not None:
        name, occurrence = unquote_to_bytes(found[1]), int(found[2] or 0)
        if _step(name, occurrence) == step:
            return [os.fsdecode(name), occurrence]
    raise _no_plan(f"`{step[:80]}` is no step of a path")


def _no_plan(why: str) -> ReemissionRefused:
    return ReemissionRefused(
        f"The comparison does not say how the bytes come about: {why}.", reason="rewrites", remedy=_AGAIN
    )


def questions(artifact: ComparedArtifact, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns what a reader is asked so that it writes an artifact anew, all of it kept.

    `values` are what was recorded of where this side was built. Raises ReemissionRefused (`rewrites`).
    """
    name = str(artifact.name)
    items: list[dict[str, Any]] = []
    done: set[tuple[str, ...]] = set()
    inside: dict[tuple[str, ...], list[Any]] = {}
    for each in artifact.rewrites:
        place = tuple(each.path)
        if place in done:
            raise _no_plan(f"{name} has a place twice")
        path = [name, *(_entry(step) for step in place)]
        below = list(inside.get(place, ()))
        items.append({"path": path, "use": list(each.use), "inside": below, "keep": True})
        done.add(place)
        if place:
            inside.setdefault(place[:-1], []).append(path[-1])
    if not items or artifact.rewrites[-1].path:
        raise _no_plan(f"of {name} the last step is not the whole")
    begins = range(0, len(items), _ITEMS)
    return [{"ask": "normalise", "items": items[at : at + _ITEMS], "values": dict(values)} for at in begins]


def rewrite(line: Line, artifact: ComparedArtifact, values: Mapping[str, str]) -> tuple[int, str]:
    """Has a reader write an artifact anew that it has hashed, and returns the size and SHA-256 of it.

    Raises ReemissionRefused: `unreadable` for what the reader does not do, `rewrites`.
    """
    told: Any = None
    for question in questions(artifact, values):
        answers = line.ask(question).get("normalised")
        if not isinstance(answers, list) or len(answers) != len(question["items"]):
            raise _refused(artifact, "the reader's answer is none")
        for item, told in zip(question["items"], answers, strict=True):
            if not isinstance(told, dict) or "unreadable" in told:
                where = " → ".join(each if isinstance(each, str) else each[0] for each in item["path"])
                why = told.get("unreadable") if isinstance(told, dict) else "says nothing"
                raise _refused(artifact, f"{where} {why}")
    size, digest = told.get("size"), told.get("sha256")
    if type(size) is not int or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _refused(artifact, "the reader's answer is none")
    return size, digest


def pieces(line: Line, artifact: ComparedArtifact, size: int) -> Iterator[bytes]:
    """Yields the bytes of an artifact that was just written anew. Raises ReemissionRefused."""
    begin = 0
    while begin < size:
        told = line.ask({"ask": "piece", "path": [str(artifact.name)], "begin": begin}).get("bytes")
        try:
            data = base64.b64decode(told if isinstance(told, str) else "", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if not data or begin + len(data) > size:
            raise _refused(artifact, "the reader gives other bytes than it said")
        yield data
        begin += len(data)


def _refused(artifact: ComparedArtifact, why: str) -> ReemissionRefused:
    return ReemissionRefused(
        f"{artifact.name} cannot be made the bytes that were compared: {why}.",
        reason="unreadable",
        remedy="What can never be written anew is removed by the recipe: see `docs/how-to/reproducible.md`.",
    )

"""A comparison for a terminal: the verdict last, above it a tree that opens at the leaves that differ."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.console.terminal import printable, put, size
from pipeline.errors import VERDICT_EXIT_CODES
from pipeline.records.base import dump
from pipeline.records.comparison import ComparedArtifact, ComparedLeaf, Comparison, Verdict

#: Of one artifact so many leaves are shown; --json has them all.
_SHOWN = 40


def show_comparison(found: Comparison, as_json: bool) -> int:
    """Shows a comparison; returns the exit code of its verdict."""
    if as_json:
        put(dump(found).decode().rstrip("\n"))
    else:
        for artifact in found.artifacts:
            for line in _artifact(artifact):
                put(line)
        for problem in found.problems:
            put(f"! {printable(problem)}")
        for line in _last(found):
            put(line)
    return VERDICT_EXIT_CODES[str(found.verdict)]


def _artifact(artifact: ComparedArtifact) -> Iterator[str]:
    bytes_of = artifact.left.size_bytes
    told = "" if bytes_of is None else f"  {size(bytes_of)}"
    yield f"{artifact.verdict:16} {printable(artifact.name)}{told}"
    if artifact.problem:
        yield f"    {printable(artifact.problem)}"
    open_at: list[str] = []
    for leaf in sorted(artifact.leaves, key=lambda each: each.path)[:_SHOWN]:
        path = leaf.path[1:]
        same = 0
        while same < min(len(path), len(open_at)) and path[same] == open_at[same]:
            same += 1
        for depth in range(same, len(path)):
            yield f"    {'  ' * depth}{printable(path[depth])}"
        open_at = path
        yield f"    {'  ' * len(path)}{_told(leaf)}"
    hidden = len(artifact.leaves) - _SHOWN + artifact.leaves_omitted
    if hidden > 0:
        yield f"    … and {hidden} more (--json has them)"


def _told(leaf: ComparedLeaf) -> str:
    many = f" of {leaf.count} entries" if leaf.count > 1 else ""
    if leaf.left is None and leaf.right is None:
        return f"≠ {printable(leaf.what)}{many}"
    values = [
        printable(each)[:100] if each is not None else "(not there)" for each in (leaf.left, leaf.right)
    ]
    example = ", for instance" if leaf.count > 1 else ""
    return f"≠ {printable(leaf.what)}{many}{example}: {values[0]} | {values[1]}"


def _last(found: Comparison) -> Iterator[str]:
    counted = dict.fromkeys(Verdict, 0)
    for artifact in found.artifacts:
        counted[Verdict(artifact.verdict)] += 1
    of = ", ".join(f"{count} {verdict}" for verdict, count in counted.items() if count) or "no artifacts"
    yield ""
    yield f"left   {printable(found.left)}"
    yield f"right  {printable(found.right)}"
    trips = f"{found.wire.round_trips} round trip{'s' if found.wire.round_trips != 1 else ''}"
    before = (
        f"{size(found.wire.handshake_bytes)} to connect, {size(found.wire.program_bytes)} for the readers"
    )
    yield f"wire   {size(found.wire.bytes)} in {trips}; {before}"
    yield f"{found.verdict}: {of}; {found.duration_seconds:.1f} s"
    if found.scope == "files":
        yield "These are files: what they were built from is not known, so nothing is said about builds."

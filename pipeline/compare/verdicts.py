"""The verdict, decided from what both sides stated. PURE, and written so that agreement has to be proved.

Every way through `judge` that is not a proof ends in something that is not agreement: what nobody thought of
differs, is incomparable or incomplete, and never agrees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.records.comparison import ComparedArtifact, ComparedSide, Verdict

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

#: What one artifact is, the whole is at best. That two differ is known for good, whatever else is missing.
_WORST_FIRST: Final = (
    Verdict.DIFFER,
    Verdict.INCOMPARABLE,
    Verdict.INCOMPLETE,
    Verdict.AGREE_NORMALISED,
    Verdict.AGREE,
)


@dataclass(frozen=True)
class Stated:
    """What a side states of one file. `inode` names it on its machine; `problem` says what is wrong.

    `stamp` is the same for one file that two machines see, on a disk that both mount or a copy of it.
    """

    path: str
    size: int | None
    sha256: str | None
    inode: str | None
    problem: str | None
    stamp: str | None = None

    @property
    def side(self) -> ComparedSide:
        """Returns it as it is recorded."""
        return ComparedSide(size_bytes=self.size, sha256=self.sha256)


def read_stated(answer: Mapping[str, Any]) -> list[Stated] | str:
    """Reads a reader's answer about a side's files; returns why not where it is not one.

    A field that is missing, of another type or of another form makes the whole answer unreadable: nothing
    of it is filled in.
    """
    files = answer.get("files")
    if set(answer) != {"files"} or not isinstance(files, list):
        return str(answer.get("unreadable") or "the answer holds no files")
    found: list[Stated] = []
    for one in files:
        if not isinstance(one, dict) or not isinstance(one.get("path"), str) or not one["path"]:
            return "a file has no name"
        problem = one.get("problem")
        if problem is not None:
            if not isinstance(problem, str) or not problem:
                return f"{one['path']!r} has a problem that says nothing"
            found.append(Stated(one["path"], None, None, None, problem))
            continue
        size, sha256, inode = one.get("size"), one.get("sha256"), one.get("inode")
        stamp = one.get("stamp")
        if type(size) is not int or size < 0:
            return f"{one['path']!r} has no size"
        if not isinstance(sha256, str) or not _DIGEST.fullmatch(sha256):
            return f"{one['path']!r} has no SHA-256"
        if not isinstance(inode, str) or not inode:
            return f"{one['path']!r} does not say which file it is"
        if not isinstance(stamp, str) or not stamp:
            return f"{one['path']!r} does not say since when it is so"
        found.append(Stated(one["path"], size, sha256, inode, None, stamp))
    if len({one.path for one in found}) != len(found):
        return "a name comes twice"
    return found


def judge(
    left: Sequence[Stated],
    right: Sequence[Stated],
    *,
    same_machine: bool | None,
    same_builder: bool = False,
    expected: Sequence[str] = (),
) -> list[ComparedArtifact]:
    """Decides about each artifact by what both sides stated; `DIFFER` may be explained later.

    `same_machine` None: that is not known. `same_builder`: nothing agrees with itself.
    `expected` names what has to be there beside what is.
    """
    ours, theirs = {one.path: one for one in left}, {one.path: one for one in right}
    names = sorted({*ours, *theirs, *expected})
    return [_judge_one(name, ours, theirs, same_machine, same_builder) for name in names]


def _judge_one(
    name: str,
    ours: Mapping[str, Stated],
    theirs: Mapping[str, Stated],
    same_machine: bool | None,
    same_builder: bool,
) -> ComparedArtifact:
    one, two = ours.get(name), theirs.get(name)
    none = ComparedSide()

    def told(verdict: Verdict, problem: str | None = None) -> ComparedArtifact:
        return ComparedArtifact(
            name=name,
            verdict=verdict,
            left=one.side if one else none,
            right=two.side if two else none,
            problem=problem,
        )

    if one is None or two is None:
        missing = (
            "neither side has it" if one is two else f"the {'left' if one is None else 'right'} side lacks it"
        )
        return told(Verdict.INCOMPLETE, missing)
    for word, side, all_of in (("left", one, ours), ("right", two, theirs)):
        if side.problem is not None:
            return told(Verdict.INCOMPLETE, f"on the {word} side it {side.problem}")
        twins = [each.path for each in all_of.values() if each.inode == side.inode and each is not side]
        if twins:
            return told(Verdict.INCOMPLETE, f"on the {word} side it is the same file as {twins[0]!r}")
    if same_machine is not False and one.inode == two.inode:
        return told(Verdict.INCOMPARABLE, "both sides are one and the same file")
    if same_machine is not True and one.stamp is not None and one.stamp == two.stamp:
        return told(Verdict.INCOMPARABLE, "both machines see one and the same file")
    if one.sha256 is not None and one.sha256 == two.sha256 and one.size == two.size:
        if same_builder:
            return told(Verdict.INCOMPARABLE, "both sides are the same builder's")
        return told(Verdict.AGREE)
    return told(Verdict.DIFFER)


def overall(artifacts: Sequence[ComparedArtifact], problems: Sequence[str]) -> Verdict:
    """Returns the verdict over all: the worst of the artifacts'; with none, or with problems, none agrees."""
    found = {artifact.verdict for artifact in artifacts}
    if problems or not artifacts:
        found.add(Verdict.INCOMPLETE)
    return next(verdict for verdict in _WORST_FIRST if verdict in found)

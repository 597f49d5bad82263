"""Two builders' builds: whose they are, which files they must have, and the verdict on both. PURE.

Nothing is believed because a manifest says it: it has to be the job's own, its files are those that were
hashed where they lie, and what is compared is what the source tree makes, not what happens to be there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.compare.inputs import Weighed, at, listed_lines, shown, weigh_dependencies, weigh_inputs
from pipeline.compare.verdicts import Stated, judge, overall
from pipeline.records.comparison import ComparedArtifact, Difference, Verdict

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SIDES: Final = ("left", "right")


@dataclass(frozen=True)
class Claimed:
    """One side: the job as the ledger has it, and the manifest that was reported for it, as parsed JSON."""

    builder: str
    job_id: str
    commit: str
    token: str | None
    manifest: Any


@dataclass
class Judged:
    """What is known of two builds before anything is looked into. `same_builder`: one was held to itself.

    `alone` are dependencies that only one side has.
    """

    artifacts: list[ComparedArtifact]
    expected: list[str]
    weighed: Weighed
    alone: list[Difference] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    same_builder: bool = False

    def verdict(self) -> Verdict:
        """Returns the verdict: about other inputs, or unknown ones, bytes say nothing."""
        if self.same_builder or self.weighed.differences:
            return Verdict.INCOMPARABLE
        if self.weighed.problems or self.problems or not self.expected:
            return Verdict.INCOMPLETE
        return overall(self.artifacts, [])


def judge_builds(
    left: Claimed,
    right: Claimed,
    files: tuple[Sequence[Stated], Sequence[Stated]],
    *,
    same_machine: bool | None,
    control: Sequence[str] | None = None,
    lists: tuple[bytes | None, bytes | None] = (None, None),
) -> Judged:
    """Decides about two builds by what was stated of them, and the `files` that were hashed on each side.

    `control` is what the tree makes by a copy of the source that no builder had a hand in, if there is one.
    `lists` are the two lists of dependencies, which are looked at where they are not the same.
    """
    sides = left, right
    problems: list[str] = []
    for word, side in zip(_SIDES, sides, strict=True):
        problems += [
            f"the manifest of the {word} side is not {side.builder}'s: {why}" for why in _why_not_of(side)
        ]
    stated = [_expected(side.manifest) for side in sides]
    for word, names in zip(_SIDES, stated, strict=True):
        if control is not None and sorted(names) != sorted(control):
            problems.append(
                f"the {word} manifest expects other packages than the commit's debian/control makes"
            )
    expected = sorted({*stated[0], *stated[1], *(control or ())})
    for word, side, there in zip(_SIDES, sides, files, strict=True):
        listed = stated_files(side.manifest)
        if isinstance(listed, str):
            problems.append(f"the manifest of the {word} side cannot be used: {listed}")
        else:
            problems += hold_to_manifest(word, listed, there, expected)
    compared = [
        [each for each in there if each.path in expected or _is_package(each.path)] for there in files
    ]
    weighed = weigh_inputs(left.manifest, right.manifest)
    alone = _weigh_lists(left.manifest, right.manifest, lists, weighed)
    return Judged(
        artifacts=judge(compared[0], compared[1], same_machine=same_machine, expected=expected),
        expected=expected,
        weighed=weighed,
        alone=alone,
        problems=problems,
        same_builder=left.builder == right.builder,
    )


def _weigh_lists(
    left: Any, right: Any, lists: tuple[bytes | None, bytes | None], weighed: Weighed
) -> list[Difference]:
    """Adds dependencies that differ to what was weighed; returns those that only one side has."""
    place = ["inputs", "dependencies"]
    if at(left, place) == at(right, place):
        return []
    lines = [listed_lines(side, place, data) for side, data in zip((left, right), lists, strict=True)]
    weighed.problems += [
        f"the dependencies differ, and the {word} side's list of them is not what its manifest states"
        for word, each in zip(_SIDES, lines, strict=True)
        if each is None
    ]
    if lines[0] is None or lines[1] is None:
        return []
    other, alone = weigh_dependencies(lines[0], lines[1])
    weighed.differences += other
    return alone


def _why_not_of(side: Claimed) -> list[str]:
    """Returns in words why a manifest is not that of a job; none: it is."""
    wanted = {"job_id": side.job_id, "server": side.builder, "commit": side.commit, "token": side.token}
    if not isinstance(side.manifest, dict):
        return ["it is no manifest"]
    return [
        f"its `{name}` is {shown(at(side.manifest, [name]))!r}, the job's is {value!r}"
        for name, value in wanted.items()
        if not isinstance(value, str) or at(side.manifest, [name]) != value
    ]


def _expected(manifest: Any) -> list[str]:
    names = at(manifest, ["inputs", "expected"])
    return [name for name in names if isinstance(name, str) and name] if isinstance(names, list) else []


def _is_package(path: str) -> bool:
    return path.endswith(".deb")


def stated_files(manifest: Any) -> dict[str, tuple[int, str]] | str:
    """Returns the files that a manifest lists, with size and SHA-256; or why it cannot be used."""
    rows, count, total = (
        at(manifest, [name]) for name in ("artifacts", "artifact_count", "total_size_bytes")
    )
    if not isinstance(rows, list) or not rows:
        return "it lists no artifacts"
    found: dict[str, tuple[int, str]] = {}
    for row in rows:
        path, name, size, digest = (
            at(row, place) for place in (["path"], ["name"], ["size_bytes"], ["checksums", "sha256"])
        )
        if (
            not isinstance(path, str)
            or not isinstance(name, str)
            or path.rpartition("/")[2] != name
            or not name
        ):
            return f"an artifact has no name, or another one than its path: {shown(path)!r}"
        if path in found:
            return f"{path!r} is listed twice"
        if type(size) is not int or size <= 0:
            return f"{path!r} has no size"
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            return f"{path!r} has no SHA-256"
        found[path] = size, digest
    if type(count) is not int or count != len(found):
        return f"it says {shown(count)} artifacts and lists {len(found)}"
    if type(total) is not int or total != sum(size for size, _ in found.values()):
        return f"it says {shown(total)} bytes in all, and its artifacts' sizes are others"
    return found


def hold_to_manifest(
    word: str, listed: Mapping[str, tuple[int, str]], files: Sequence[Stated], expected: Sequence[str]
) -> list[str]:
    """Returns in words where the files of a side are not what its manifest says of them.

    All of them, also those that are not compared, and every package that is there beside them.
    """
    there = {each.path: each for each in files}
    problems = []
    for path in sorted({*listed, *filter(_is_package, there)}):
        one = there.get(path)
        if _is_package(path) and path not in expected:
            problems.append(f"{path} on the {word} side is none of the packages that the tree makes")
        elif path not in listed:
            problems.append(f"{path} on the {word} side is not in its manifest")
        elif one is None or one.problem is not None:
            problems.append(f"{path} on the {word} side {one.problem if one else 'is not there'}")
        elif (one.size, one.sha256) != listed[path]:
            problems.append(f"{path} on the {word} side is not the file that its manifest states")
    lacking = [path for path in expected if path not in listed]
    return problems + [
        f"{path} is not in the manifest of the {word} side, which has to make it" for path in lacking
    ]


def are_independent(left: Any, right: Any) -> bool:
    """Says whether two manifests state that two different machines made them. A claim, and no proof."""
    one, two = (at(side, ["environment", "machine"]) for side in (left, right))
    return isinstance(one, str) and isinstance(two, str) and bool(one) and bool(two) and one != two

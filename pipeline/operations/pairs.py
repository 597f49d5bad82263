"""Every two of some builds held against each other; what differs is gone into once for each two contents.

None of the builds is the right one, so each is judged against each. Two builds that are the same bytes differ
from a third in the same way: what was found there is said of both, and told once. So it costs what there are
contents, not builds, and what is kept of it is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from pipeline.compare.environment import compare_surroundings, rank, values_of
from pipeline.compare.explaining import causes_of, explain, hash_again, normalisers_of
from pipeline.compare.inputs import at, listed_lines, weigh_packages
from pipeline.compare.manifests import Claimed, Judged, are_independent, judge_builds
from pipeline.compare.showing import NOT_SHOWING, Shows
from pipeline.compare.verdicts import Stated
from pipeline.compare.wire import Line, same_machine
from pipeline.records.comparison import (
    ComparedArtifact,
    ComparedBuild,
    ComparedGroup,
    ComparedPair,
    Difference,
    Verdict,
)

#: So many builds are compared at once; the ledger's record of a comparison holds as many.
MOST_BUILDS: Final = 20
#: So many different pairs of contents are gone into; of others it is known that they differ.
MOST_CONTENTS: Final = 200
#: So many leaves are kept of one artifact of a pair that is not the first to be gone into, and of all those.
MOST_LEAVES_OF_OTHERS: Final = 1_000
_MOST_BESIDE: Final = 20_000
#: Of so many pairs it is told how their environments differ: that reads lists over the wire.
_MOST_ENVIRONMENTS: Final = 15

_DEPENDENCIES: Final = ("inputs", "dependencies")
_PACKAGES: Final = ("environment", "packages")
#: Which of several pairs is told first.
_TELLING: Final = (
    Verdict.INCOMPARABLE,
    Verdict.DIFFER,
    Verdict.INCOMPLETE,
    Verdict.AGREE_NORMALISED,
    Verdict.AGREE,
)

Numbers = tuple[int, int]


@dataclass(frozen=True)
class Looked:
    """One build whose files were hashed where they lie. `read` returns a small file's bytes, or None."""

    name: str
    root: str
    claimed: Claimed
    line: Line
    files: Sequence[Stated]
    read: Callable[[str], bytes | None]


def equal_groups(builds: Sequence[Looked], control: Sequence[str] | None) -> list[list[int]]:
    """Puts builds whose packages are all the same, byte for byte, into one group; returns their numbers.

    What a build lacks, or nobody could read, is the same as nothing.
    """
    names = set(control or ())
    for each in builds:
        stated = at(each.claimed.manifest, ["inputs", "expected"])
        names.update(name for name in stated if isinstance(name, str)) if isinstance(stated, list) else None
        names.update(one.path for one in each.files if one.path.endswith(".deb"))
    groups: dict[tuple[str | int, ...], list[int]] = {}
    for number, each in enumerate(builds):
        digests = {one.path: one.sha256 for one in each.files}
        groups.setdefault(tuple(digests.get(name) or number for name in sorted(names)), []).append(number)
    return list(groups.values())


def named(builds: Sequence[Looked], groups: Sequence[Sequence[int]]) -> list[ComparedGroup]:
    """Returns groups as they are recorded."""
    return [ComparedGroup(builders=[builds[number].claimed.builder for number in group]) for group in groups]


def compare_pairs(
    builds: Sequence[Looked],
    groups: Sequence[Sequence[int]],
    control: list[str] | None,
    say: Callable[[str], None],
    showing: Shows = NOT_SHOWING,
) -> list[ComparedPair]:
    """Compares every two of some builds, the most telling first; of that one `showing` shows leaves.

    Raises ComparisonIncomplete.
    """
    judged = {pair: _judge(builds[pair[0]], builds[pair[1]], control) for pair in _every_two(builds)}
    firsts = {group[0] for group in groups}
    # What tells most is gone into first, and of equal builds the first of each group: the rest repeats it.
    order = sorted(judged, key=lambda at: (_rank(judged[at].verdict()), not firsts.issuperset(at), at))
    contents = _Contents(builds, say, showing)
    made = []
    for number, pair in enumerate(order):
        found = judged[pair]
        if found.verdict() != Verdict.INCOMPARABLE:
            found.artifacts = [contents.go_into(each, pair) for each in found.artifacts]
        if pair == contents.first:
            lines = builds[pair[0]].line, builds[pair[1]].line
            found.artifacts = showing.show(found.artifacts, *lines, say)
        made.append(_told(builds[pair[0]], builds[pair[1]], found, number < _MOST_ENVIRONMENTS))
    return sorted(made, key=lambda pair: _rank(pair.verdict))


def _every_two(builds: Sequence[Looked]) -> list[Numbers]:
    return list(combinations(range(len(builds)), 2))


def _rank(verdict: Verdict) -> int:
    return _TELLING.index(Verdict(verdict))


def _judge(left: Looked, right: Looked, control: list[str] | None) -> Judged:
    """Judges two builds by what was stated of them and hashed."""
    stated = [at(side.claimed.manifest, _DEPENDENCIES) for side in (left, right)]
    lists: tuple[bytes | None, bytes | None] = (None, None)
    if stated[0] != stated[1]:
        name = "dependencies.txt"
        lists = left.read(name), right.read(name)
    return judge_builds(
        left.claimed,
        right.claimed,
        (left.files, right.files),
        same_machine=same_machine(left.line.machine, right.line.machine),
        control=control,
        lists=lists,
    )


class _Contents:
    """What is known of two contents of one name, whichever builds they are of."""

    def __init__(self, builds: Sequence[Looked], say: Callable[[str], None], showing: Shows) -> None:
        self._builds, self._say, self._showing = builds, say, showing
        self._known: dict[tuple[str, str, str], tuple[ComparedArtifact, Numbers]] = {}
        self._values = [values_of(each.claimed.manifest) for each in builds]
        #: The pair that is gone into first: the most telling one.
        self.first: Numbers | None = None
        self._left = _MOST_BESIDE

    def go_into(self, artifact: ComparedArtifact, pair: Numbers) -> ComparedArtifact:
        """Returns an artifact that differs with what is known of why."""
        if artifact.verdict != Verdict.DIFFER:
            return artifact
        left, right = sorted((artifact.left.sha256 or "", artifact.right.sha256 or ""))
        key = artifact.name, left, right
        if key in self._known and _holds_for_others(self._known[key][0]):
            return self._once_more(artifact, pair, *self._known[key])
        if len(self._known) >= MOST_CONTENTS:
            return artifact
        self.first = self.first or pair
        one, two = pair
        values = self._values[one], self._values[two]
        note = (self._showing if pair == self.first else NOT_SHOWING).note
        done = explain(artifact, self._builds[one].line, self._builds[two].line, self._say, values, note)
        if pair != self.first:
            done = _cut(done, min(MOST_LEAVES_OF_OTHERS, self._left))
            self._left -= len(done.leaves)
        self._known.setdefault(key, (done, pair))
        return done

    def _once_more(
        self, artifact: ComparedArtifact, pair: Numbers, done: ComparedArtifact, of: Numbers
    ) -> ComparedArtifact:
        """Says of two contents what was found of the same two before."""
        lines = [self._builds[number].line for number in pair]
        moved = hash_again(artifact, lines) if done.verdict == Verdict.AGREE_NORMALISED else []
        if moved:
            return artifact.model_copy(update={"verdict": Verdict.INCOMPLETE, "problem": "; ".join(moved)})
        told = {
            "left": artifact.left,
            "right": artifact.right,
            "leaves": [],
            "leaves_omitted": len(done.leaves) + done.leaves_omitted,
            "told_in": [self._builds[number].claimed.job_id for number in of],
        }
        return done.model_copy(update=told)


def _holds_for_others(done: ComparedArtifact) -> bool:
    """Says whether what was found of two contents follows from them alone, and not from whose they were."""
    if done.verdict == Verdict.AGREE_NORMALISED:
        return not any(name.startswith("value-") for name in done.normalisers)
    return done.verdict == Verdict.DIFFER


def _cut(artifact: ComparedArtifact, most: int) -> ComparedArtifact:
    more = len(artifact.leaves) - most
    if more <= 0:
        return artifact
    changes = {"leaves": artifact.leaves[:most], "leaves_omitted": artifact.leaves_omitted + more}
    return artifact.model_copy(update=changes)


def _told(left: Looked, right: Looked, judged: Judged, surroundings: bool) -> ComparedPair:
    one, two = left.claimed, right.claimed
    same = [f"both builds are {one.builder}'s: that a builder agrees with itself proves nothing"]
    return ComparedPair(
        verdict=judged.verdict(),
        independent=are_independent(one.manifest, two.manifest),
        left=f"{left.name}, {left.root}",
        right=f"{right.name}, {right.root}",
        left_build=_build(one),
        right_build=_build(two),
        artifacts=judged.artifacts,
        problems=[*(same if judged.same_builder else []), *judged.problems, *judged.weighed.problems],
        inputs=judged.weighed.differences,
        environment=_environment(left, right, judged) if surroundings else [],
        causes=causes_of(judged.artifacts),
        normalisers=normalisers_of(judged.artifacts),
    )


def _build(claimed: Claimed) -> ComparedBuild:
    return ComparedBuild(builder=claimed.builder, job_id=claimed.job_id, commit=claimed.commit)


def _environment(one: Looked, two: Looked, judged: Judged) -> list[Difference]:
    """Returns what differs of the environment, the likeliest to be behind the leaves first."""
    left, right = one.claimed.manifest, two.claimed.manifest
    found = [*compare_surroundings(left, right), *judged.alone]
    lists = [
        listed_lines(side.claimed.manifest, _PACKAGES, side.read("packages.txt"))
        for side in (one, two)
        if at(left, _PACKAGES) != at(right, _PACKAGES)
    ]
    if len(lists) == 2 and lists[0] is not None and lists[1] is not None:
        found += weigh_packages(lists[0], lists[1])
    leaves = [leaf for artifact in judged.artifacts for leaf in artifact.leaves]
    causes: dict[str, int] = {}
    for leaf in leaves:
        if leaf.cause:
            causes[leaf.cause] = causes.get(leaf.cause, 0) + leaf.count
    return rank(found, causes, leaves)

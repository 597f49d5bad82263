"""How files were normalised, as builders and promoters sign it: by which normalisers, and which containers.

The names alone do not say what comes out: one comparison has to normalise one jar of a package, and another
one another jar. So behind the names stands the digest of all that was written anew, and two statements are
about the same bytes only if they have both.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from pipeline.records.base import dump_json
from pipeline.records.comparison import ComparedArtifact, Comparison, Rewrite
from pipeline.records.statements import sha256_of

_CONTROL: Final = re.compile(r"control\.tar")
_DIGEST: Final = re.compile(r"rewrites:[0-9a-f]{64}")


def normalisers_in(artifacts: Sequence[ComparedArtifact]) -> list[str]:
    """Returns what a statement calls the bytes that a comparison's artifacts come to; nothing where they
    agree as they are.

    The names are those of what is done, whatever the comparison calls it.
    """
    done = {
        str(each.name): [{"path": one.path, "use": one.use} for one in each.rewrites]
        for each in artifacts
        if each.rewrites
    }
    if not done:
        return []
    names = {name for each in artifacts for one in each.rewrites for name in one.use}
    return sorted([*names, "rewrites:" + sha256_of(dump_json(done))])


def normalisers_of(comparisons: Sequence[Comparison]) -> list[str]:
    """Returns the same of several comparisons: what all of them do together."""
    return normalisers_in(merged(comparisons))


def merged(comparisons: Sequence[Comparison]) -> list[ComparedArtifact]:
    """Returns the artifacts of several comparisons, each with the steps that any of them takes.

    Two builds that are the same after some steps are the same after more; so all builds come to one where
    each pair does. What that is no comparison says, unless all that take steps take the same.
    """
    found: dict[str, list[ComparedArtifact]] = {}
    for each in (each for one in comparisons for each in one.artifacts):
        found.setdefault(str(each.name), []).append(each)
    return [_merged(each) for each in found.values()]


def _merged(same: Sequence[ComparedArtifact]) -> ComparedArtifact:
    """Puts the steps of several comparisons in one order: what lies deeper first, and of one depth a
    package's control part last, which follows from its files.
    """
    taking = [each for each in same if each.rewrites]
    if not taking:
        return same[0]
    if all(
        (e.rewrites, e.normalised_sha256) == (taking[0].rewrites, taking[0].normalised_sha256) for e in taking
    ):
        return taking[0]
    use: dict[tuple[str, ...], set[str]] = {}
    for one in (one for each in taking for one in each.rewrites):
        use.setdefault(tuple(one.path), set()).update(one.use)
    order = sorted(use, key=lambda path: (-len(path), any(_CONTROL.match(step) for step in path), path))
    steps = [Rewrite(path=list(path), use=sorted(use[path])) for path in order]
    return taking[0].model_copy(update={"rewrites": steps, "normalised_sha256": None})


def names_of(normalisers: Iterable[str]) -> list[str]:
    """Returns the normalisers' names, which a policy allows or does not, out of what a statement says."""
    return sorted(each for each in normalisers if not _DIGEST.fullmatch(each))


def is_one_way(normalisers: Collection[str]) -> bool:
    """Says whether a statement names one way to normalise, or none at all: names, and one digest."""
    names = names_of(normalisers)
    return len(normalisers) - len(names) == (1 if names else 0)

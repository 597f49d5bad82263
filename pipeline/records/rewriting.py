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
from pipeline.records.comparison import ComparedArtifact, Comparison
from pipeline.records.statements import sha256_of

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
    """Returns the same of several comparisons: what each of them does, once."""
    return sorted({name for each in comparisons for name in normalisers_in(each.artifacts)})


def names_of(normalisers: Iterable[str]) -> list[str]:
    """Returns the normalisers' names, which a policy allows or does not, out of what a statement says."""
    return sorted(each for each in normalisers if not _DIGEST.fullmatch(each))


def is_one_way(normalisers: Collection[str]) -> bool:
    """Says whether a statement names one way to normalise, or none at all: names, and one digest."""
    names = names_of(normalisers)
    return len(normalisers) - len(names) == (1 if names else 0)

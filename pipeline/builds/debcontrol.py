"""Debian's package relations: Build-Depends out of `debian/control`, versions, and what is installed.

The rules are those of the Debian Policy Manual, chapters 5 and 7; versions compare as dpkg compares them.
A clause that cannot be understood is kept as text and counts as unsatisfied; nothing here raises for it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.edge import process
from pipeline.errors import CommandFailed

_ALTERNATIVE: Final = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9+._-]*)(?::[a-z0-9-]+)?\s*"
    r"(?:\(\s*(?P<relation><<|<=|=|>=|>>|<|>)\s*(?P<version>[A-Za-z0-9.+~:-]+)\s*\))?\s*"
    r"(?:\[(?P<architectures>[^\[\]]*)\])?\s*(?P<profiles>(?:<[^<>]*>\s*)*)"
)
_FIELDS: Final = ("build-depends", "build-depends-indep", "build-depends-arch")
_QUERY: Final = "${Package}\t${Version}\t${db:Status-Status}\t${Provides}\n"


class Alternative(NamedTuple):
    """One package that would do. `relation` and `version` are empty where any version does."""

    package: str
    relation: str
    version: str


class Clause(NamedTuple):
    """What one comma of Build-Depends separates: as it is written, and the packages any of which will do."""

    text: str
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True)
class Installed:
    """What dpkg has installed: versions by package, and the versions under which a name is provided."""

    versions: dict[str, str] = field(default_factory=dict)
    provided: dict[str, list[str]] = field(default_factory=dict)

    def has(self, package: str) -> bool:
        """Says whether a package, or one that provides it, is installed."""
        return package in self.versions or package in self.provided

    def satisfies(self, clause: Clause) -> bool:
        """Says whether one of a clause's alternatives is installed; a clause without any never is."""
        return any(self._satisfies(alternative) for alternative in clause.alternatives)

    def _satisfies(self, wanted: Alternative) -> bool:
        if not wanted.relation:
            return self.has(wanted.package)
        versions = [self.versions[wanted.package]] if wanted.package in self.versions else []
        versions += [version for version in self.provided.get(wanted.package, []) if version]
        return any(holds(version, wanted.relation, wanted.version) for version in versions)


def stanzas(control: str) -> list[dict[str, str]]:
    """Returns a control file's stanzas, each with its fields by lower-case name, continued lines joined."""
    found: list[dict[str, str]] = [{}]
    name = ""
    for line in control.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            if found[-1]:
                found.append({})
            name = ""
        elif line[0] in " \t":
            if name:
                found[-1][name] += "\n" + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            found[-1][name] = value.strip()
    return [stanza for stanza in found if stanza]


def fields(control: str) -> dict[str, str]:
    """Returns the fields of a control file's first stanza by lower-case name, continued lines joined."""
    return next(iter(stanzas(control)), {})


def build_depends(control: str, architecture: str = "amd64") -> list[Clause]:
    """Returns every clause of Build-Depends, -Indep and -Arch that applies to an architecture."""
    found = fields(control)
    clauses = []
    for name in _FIELDS:
        for text in re.sub(r"\s+", " ", found.get(name, "")).split(","):
            if text.strip():
                clause = _clause(text.strip(), architecture)
                if clause is not None:
                    clauses.append(clause)
    return clauses


def _clause(text: str, architecture: str) -> Clause | None:
    """Reads one clause; None if it does not apply here."""
    alternatives = []
    applies = False
    for part in text.split("|"):
        match = _ALTERNATIVE.fullmatch(part)
        if match is None:
            applies = True
            continue
        if _for_architecture(match["architectures"], architecture) and _for_profiles(match["profiles"]):
            applies = True
            relation = {"<": "<=", ">": ">="}.get(match["relation"] or "", match["relation"] or "")
            alternatives.append(Alternative(match["name"], relation, match["version"] or ""))
    return Clause(text, tuple(alternatives)) if applies else None


def _for_architecture(restriction: str | None, architecture: str) -> bool:
    words = (restriction or "").split()
    if not words:
        return True
    names = {architecture, "any", "linux-any", f"any-{architecture}"}
    if words[0].startswith("!"):
        return not any(word.lstrip("!") in names for word in words)
    return any(word in names for word in words)


def _for_profiles(restriction: str) -> bool:
    """Evaluates `<!nocheck> <cross>` with no build profile active."""
    groups = re.findall(r"<([^<>]*)>", restriction)
    return not groups or any(all(word.startswith("!") for word in group.split()) for group in groups)


def holds(version: str, relation: str, wanted: str) -> bool:
    """Says whether `version relation wanted` holds in dpkg's order."""
    order = compare_versions(version, wanted)
    signs = {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}
    return signs.get(relation, False)


def compare_versions(one: str, other: str) -> int:
    """Returns less than, equal to or more than 0 as dpkg orders two versions."""
    epoch_one, upstream_one, revision_one = _split_version(one)
    epoch_other, upstream_other, revision_other = _split_version(other)
    return (
        epoch_one - epoch_other
        or _compare_part(upstream_one, upstream_other)
        or _compare_part(revision_one, revision_other)
    )


def _split_version(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.strip().partition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,18}", epoch):
        epoch, rest = "0", version.strip()
    upstream, dash, revision = rest.rpartition("-")
    return (int(epoch), upstream, revision) if dash else (int(epoch), rest, "")


def _compare_part(one: str, other: str) -> int:
    """Compares as dpkg's verrevcmp: runs of other characters and runs of digits, by turns."""
    left, right = _runs(one), _runs(other)
    for index in range(max(len(left), len(right))):
        text_one, number_one = left[index] if index < len(left) else ("", 0)
        text_other, number_other = right[index] if index < len(right) else ("", 0)
        order = _compare_text(text_one, text_other) or number_one - number_other
        if order:
            return order
    return 0


@functools.lru_cache(maxsize=1024)
def _runs(part: str) -> tuple[tuple[str, int], ...]:
    # Longer numbers than any version has would make int() slow, or refuse.
    found = re.findall(r"([^0-9]*)([0-9]*)", part)
    return tuple((text, int(digits[:4000] or "0")) for text, digits in found if text or digits)


def _compare_text(one: str, other: str) -> int:
    for index in range(max(len(one), len(other))):
        order = _weight(one[index : index + 1]) - _weight(other[index : index + 1])
        if order:
            return order
    return 0


def _weight(character: str) -> int:
    """Weighs a character: `~` before the end of the text, letters before everything else."""
    if character == "~":
        return -1
    if not character:
        return 0
    return ord(character) if character.isascii() and character.isalpha() else ord(character) + 256


def read_installed(lines: Iterable[str]) -> Installed:
    """Reads the rows of `_QUERY`: package, version, status and Provides, separated by tabs."""
    installed = Installed()
    for line in lines:
        row = line.split("\t")
        if len(row) == 4 and row[2] == "installed":
            installed.versions[row[0]] = row[1]
            for name, version in _provides(row[3]):
                installed.provided.setdefault(name, []).append(version)
    return installed


def _provides(text: str) -> Iterator[tuple[str, str]]:
    for part in text.split(","):
        match = _ALTERNATIVE.fullmatch(part)
        if match is not None:
            yield match["name"], match["version"] or ""


def query_offered(package: str, lists: Path = Path("/var/lib/apt/lists")) -> bool:
    """Asks apt whether it could install a package. Where apt knows nothing yet, it may: try it and see."""
    if not any(lists.glob("*_Packages*")):
        return True
    try:
        done = process.run(["apt-cache", "policy", package], env={**os.environ, "LC_ALL": "C"}, timeout=60)
    except CommandFailed:
        return True
    candidate = re.search(r"^ *Candidate: (\S+)", done.text, re.MULTILINE)
    return candidate is not None and candidate[1] != "(none)"


def query_installed() -> Installed:
    """Asks dpkg once for everything that is installed. Raises CommandFailed where there is no dpkg."""
    done = process.run(["dpkg-query", "-W", "-f", _QUERY], timeout=60)
    return read_installed(done.stdout.decode(errors="replace").splitlines())

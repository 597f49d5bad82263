"""Where two builds ran: what of it differs, and which differences may be behind the leaves that do. PURE.

Environments may vary. A field that a side does not state is told as a difference, also where neither does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pipeline.compare.inputs import at, same, shown
from pipeline.records.comparison import ComparedLeaf, Difference

#: Each property, in the order in which they are told, and the causes that it may be behind.
EXPLAINS: Final[dict[str, tuple[str, ...]]] = {
    "host": ("host",),
    "user": ("user",),
    "user_id": ("user",),
    "folder": ("path",),
    "home": ("path", "user"),
    "path": ("path",),
    "timezone": ("timezone", "timestamp"),
    "locale": ("locale", "order"),
    "umask": ("umask",),
    "cores": ("cores", "order", "random"),
    "kernel": ("kernel", "order"),
    "architecture": ("architecture",),
    "distribution": ("toolchain", "compression"),
    "toolchain": ("toolchain", "compression"),
    "packages": ("toolchain", "compression"),
    "built_at": ("timestamp",),
    "download": ("download",),
    "dependency": ("dependency",),
    "package": ("toolchain", "compression"),
    "machine": (),
}
#: A value is looked for in a leaf's text from this length on: shorter ones are found anywhere.
_TELLING: Final = 3
_STATED: Final = tuple(
    name for name in EXPLAINS if name not in ("built_at", "download", "dependency", "package", "machine")
)


def compare_environments(left: Any, right: Any) -> list[Difference]:
    """Returns what differs between two environments as parsed JSON, toolchains field by field."""
    found: list[Difference] = []
    for name in _STATED:
        one, two = at(left, [name]), at(right, [name])
        if name == "packages":
            one, two = at(one, ["sha256"]), at(two, ["sha256"])
        if name == "toolchain" and isinstance(one, dict) and isinstance(two, dict):
            found += _fields("toolchain.", one, two)
        elif name == "toolchain" or not shown(one) or not shown(two) or not same(one, two):
            found.append(Difference(name=name, left=shown(one), right=shown(two)))
    return found


def _fields(prefix: str, left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*left, *right}):
        one, two = at(left, [name]), at(right, [name])
        if not same(one, two) and (shown(one) or shown(two)):
            yield Difference(name=f"{prefix}{name}", left=shown(one), right=shown(two))


def compare_surroundings(left: Any, right: Any) -> list[Difference]:
    """Returns what differs between where two manifests' builds ran, and in what they downloaded."""
    found = compare_environments(at(left, ["environment"]), at(right, ["environment"]))
    downloads = [_downloads(at(side, ["downloads"])) for side in (left, right)]
    for url in sorted({*downloads[0], *downloads[1]}):
        one, two = (side.get(url) for side in downloads)
        if one != two or one is None:
            found.append(Difference(name=f"download {url}", left=one, right=two))
    times = [shown(at(side, ["created_at"])) for side in (left, right)]
    return [*found, Difference(name="built_at", left=times[0], right=times[1])]


def values_of(manifest: Any) -> dict[str, str]:
    """Returns what a manifest states of where its build ran, as `normalising.Values`: what is no text is left
    out.
    """
    places = {"host": "host", "user": "user", "path": "folder"}
    stated = {kind: at(manifest, ["environment", name]) for kind, name in places.items()}
    stated["time"] = at(manifest, ["created_at"])
    return {kind: value for kind, value in stated.items() if isinstance(value, str) and value}


def _downloads(rows: Any) -> dict[str, str | None]:
    if not isinstance(rows, list):
        return {}
    return {str(at(row, ["url"])): shown(at(row, ["sha256"])) for row in rows if isinstance(row, dict)}


def rank(
    differences: Sequence[Difference], causes: Mapping[str, int], leaves: Sequence[ComparedLeaf]
) -> list[Difference]:
    """Puts differences in the order of how likely each is behind the leaves that differ, and says of what.

    `causes` counts leaves by the cause that was found for them. A leaf whose two values hold what the two
    sides state tells more than any cause: it counts tenfold.
    """
    scored = []
    for place, each in enumerate(differences):
        names = EXPLAINS.get(each.name.partition(".")[0].partition(" ")[0], ())
        seen = sum(leaf.count for leaf in leaves if _holds(leaf, each))
        behind = [name for name in names if causes.get(name)]
        if seen and names and names[0] not in behind:
            behind.insert(0, names[0])
        score = 10 * seen + sum(causes[name] for name in behind if name in causes)
        if each.name != "built_at" or behind:
            scored.append((-score, place, each.model_copy(update={"explains": behind})))
    return [each for _, _, each in sorted(scored, key=lambda row: row[:2])]


def _holds(leaf: ComparedLeaf, difference: Difference) -> bool:
    """Says whether a leaf's values hold what each side states, and not what the other does."""
    ours, theirs = difference.left, difference.right
    if not ours or not theirs or min(len(ours), len(theirs)) < _TELLING or not leaf.left or not leaf.right:
        return False
    return ours in leaf.left and theirs in leaf.right and ours not in leaf.right and theirs not in leaf.left

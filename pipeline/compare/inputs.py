"""What two builds were made from, and where: which inputs differ, and what of the environment does. PURE.

Both come as parsed JSON, and not as records: a record fills in what is missing, and what is missing on both
sides must never read as agreement. A field that is absent or of another shape on either side is a *problem*,
which makes the whole INCOMPLETE; fields that are sound on both and not the same are *differences*, which make
it INCOMPARABLE. What nobody thought of, fields of a newer version, counts as an input.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.records.comparison import Difference

_OID: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_JAVA: Final = re.compile(r"[0-9]+\+?")
_ABSENT: Final = object()
#: So many differences of one list are told one by one.
MOST_TOLD: Final = 50

#: Variables of a recipe that say where the build ran, or follow from the tools that it found there.
_LOCAL: Final = re.compile(r"TZ|LC_ALL|LANG|JAVA_HOME|NODE_OPTIONS|npm_config_.*")
#: Fields of a recipe that are no inputs: where, and for how long at the most.
_NO_INPUTS: Final = frozenset(
    {"source", "timezone", "locale", "umask", "build_path", "fixed_path", "toolchain", "timeout_seconds"}
)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _any_text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _positive(value: Any) -> bool:
    return type(value) is int and value > 0


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _oid(value: Any) -> bool:
    return isinstance(value, str) and bool(_OID.fullmatch(value))


def _digest(value: Any) -> bool:
    return isinstance(value, str) and bool(_DIGEST.fullmatch(value))


def _java(value: Any) -> bool:
    return isinstance(value, str) and bool(_JAVA.fullmatch(value))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(_text(each) for each in value)


def _set(value: Any) -> bool:
    """Says whether a value is a set of names that is not empty."""
    return _texts(value) and bool(value) and len(set(value)) == len(value)


def _table(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and all(_text(name) and of(each) for name, each in value.items())
    )


def _full(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Says whether a value is a table with at least one row."""
    return lambda value: bool(value) and _table(of)(value)


def _pinned(*names: str) -> Callable[[Any], bool]:
    """Says whether a value is a list of things that have these names, and are pinned by their SHA-256."""

    def sound(value: Any) -> bool:
        return isinstance(value, list) and all(
            _digest(at(each, ["sha256"])) and all(_text(at(each, [name])) for name in names) for each in value
        )

    return sound


def _substitutes(value: Any) -> bool:
    """Says whether a value states everything that may stand in for something else."""
    return isinstance(value, dict) and all(
        sound(value.get(name, _ABSENT)) for name, sound in _SUBSTITUTES.items()
    )


def _dependencies(value: Any) -> bool:
    """Says whether a value names a list; a list of nothing has no bytes, and the digest of none."""
    if (
        not isinstance(value, dict)
        or value.get("path") != "dependencies.txt"
        or not _digest(value.get("sha256"))
    ):
        return False
    count, size = value.get("count"), value.get("size_bytes")
    if not _number(count) or not _number(size):
        return False
    return bool(count) is bool(size) is bool(value["sha256"] != hashlib.sha256().hexdigest())


_SUBSTITUTES: Final[dict[str, Callable[[Any], bool]]] = {
    "mirror_central": _truth,
    "properties": _table(_any_text),
    "jars": _pinned("coordinates", "source"),
    "node_version": lambda value: value is None or _text(value),
    "npm_install_arguments": _texts,
    "downloads": _pinned("url"),
    "refuse_unpinned": _truth,
}


#: Every input, by its place in a manifest, and what it has to look like to be one.
INPUTS: Final[dict[tuple[str, ...], Callable[[Any], bool]]] = {
    ("commit",): _oid,
    ("branch",): _text,
    ("inputs", "tree"): _oid,
    ("inputs", "submodules"): _table(_oid),
    ("inputs", "expected"): _set,
    ("inputs", "npm_locks"): _table(_digest),
    ("recipe", "commit"): _oid,
    ("recipe", "branch"): _text,
    ("recipe", "source_date_epoch"): _positive,
    ("recipe", "packages"): _truth,
    ("recipe", "keep_going"): _truth,
    ("recipe", "skip_tests"): _truth,
    ("recipe", "profiles"): _texts,
    ("recipe", "properties"): _full(_any_text),
    ("recipe", "maven_opts"): _any_text,
    ("recipe", "threads"): _number,
    ("recipe", "environment"): _full(_any_text),
    ("recipe", "java"): _java,
    ("recipe", "substitutes"): _substitutes,
    ("recipe", "reproducible"): _truth,
    ("recipe", "rewriting"): lambda value: value is None or _digest(value),
}
#: What else has to be there. Lists of dependencies are compared by their lines: see `weigh_dependencies`.
REQUIRED: Final[dict[tuple[str, ...], Callable[[Any], bool]]] = {
    ("complete",): lambda value: value is True,
    ("recipe", "resumed_from"): lambda value: value is None,
    ("recipe", "toolchain", "java"): lambda value: isinstance(value, str) and bool(re.match(r"[0-9]", value)),
    ("inputs", "dependencies"): _dependencies,
}


@dataclass
class Weighed:
    """What was found of the inputs: those that differ, and what keeps from knowing."""

    differences: list[Difference] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def at(manifest: Any, place: Sequence[str]) -> Any:
    """Returns a manifest's value, or a thing that is equal to no value where there is none."""
    for name in place:
        if not isinstance(manifest, dict) or name not in manifest:
            return _ABSENT
        manifest = manifest[name]
    return manifest


def weigh_inputs(left: Any, right: Any) -> Weighed:
    """Holds the inputs that two manifests state against each other."""
    found = Weighed()
    for place, sound in {**INPUTS, **REQUIRED}.items():
        words = [word for word, side in (("left", left), ("right", right)) if not sound(at(side, place))]
        if words:
            name = ".".join(place)
            found.problems.append(
                f"the {' and the '.join(words)} manifest does not state `{name}` as it should"
            )
        elif place in INPUTS:
            found.differences += _differences(".".join(place), at(left, place), at(right, place))
    for word, side in (("left", left), ("right", right)):
        if at(side, ["commit"]) != at(side, ["recipe", "commit"]):
            found.problems.append(f"the {word} manifest names one commit, and its recipe another")
    found.differences += _pinned_tools(left, right)
    for group in ("recipe", "inputs"):
        found.differences += _unknown(group, at(left, [group]), at(right, [group]))
    return found


def inputs_of(manifest: Any) -> dict[str, Any]:
    """Returns the inputs that a manifest states, by their places: what `weigh_inputs` holds together.

    Dependencies apart, of which a repository also holds what earlier builds have fetched.
    """
    found = {".".join(place): at(manifest, place) for place in INPUTS}
    environment = found["recipe.environment"]
    if isinstance(environment, dict):
        found["recipe.environment"] = _shared(environment)
    for group in ("recipe", "inputs"):
        table = at(manifest, [group])
        if isinstance(table, dict):
            found |= {f"{group}.{name}": table[name] for name in sorted(set(table) - _known(group))}
    pin = at(manifest, ["recipe", "java"])
    major = re.match(r"[0-9]+", str(at(manifest, ["recipe", "toolchain", "java"])))
    if _java(pin) and not pin.endswith("+") and major:
        found["recipe.toolchain.java"] = major[0]
    return {place: value for place, value in found.items() if value is not _ABSENT}


def _shared(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a build's environment but for what may be another one on each builder."""
    return {key: value for key, value in environment.items() if not _LOCAL.fullmatch(key)}


def _known(group: str) -> set[str]:
    return {place[1] for place in (*INPUTS, *REQUIRED) if place[0] == group} | _NO_INPUTS


def _differences(name: str, left: Any, right: Any) -> Iterator[Difference]:
    if name == "recipe.environment":
        left, right = _shared(left), _shared(right)
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted({*left, *right}):
            if not same(one := left.get(key, _ABSENT), two := right.get(key, _ABSENT)):
                yield Difference(name=f"{name}.{key}", left=shown(one), right=shown(two))
    elif not same(left, right):
        yield Difference(name=name, left=shown(left), right=shown(right))


def _pinned_tools(left: Any, right: Any) -> Iterator[Difference]:
    """Compares the JDK's major version where a recipe pins it: with `17+` any later one will do."""
    pins = [at(side, ["recipe", "java"]) for side in (left, right)]
    majors = [re.match(r"[0-9]+", str(at(side, ["recipe", "toolchain", "java"]))) for side in (left, right)]
    if any(_java(pin) and not pin.endswith("+") for pin in pins):
        one, two = (major[0] if major else None for major in majors)
        if one and two and one != two:
            yield Difference(name="recipe.toolchain.java", left=one, right=two)


def _unknown(group: str, left: Any, right: Any) -> Iterator[Difference]:
    if not isinstance(left, dict) or not isinstance(right, dict):
        return
    for name in sorted({*left, *right} - _known(group)):
        one, two = left.get(name, _ABSENT), right.get(name, _ABSENT)
        if not same(one, two):
            yield Difference(name=f"{group}.{name}", left=shown(one), right=shown(two))


def same(one: Any, two: Any) -> bool:
    """Says whether two values are the same, also in type: 1 is not true."""
    if one is _ABSENT or two is _ABSENT:
        return one is two
    return json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


def shown(value: Any) -> str | None:
    """Returns a value as it is shown; None for one that is not there."""
    if value is _ABSENT or value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def listed_lines(manifest: Any, place: Sequence[str], data: bytes | None) -> list[str] | None:
    """Returns the lines of a list beside the artifacts; None where it is not what the manifest says."""
    stated = at(manifest, place)
    if data is None or hashlib.sha256(data).hexdigest() != at(stated, ["sha256"]):
        return None
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    return lines if at(stated, ["count"]) == len(lines) and at(stated, ["size_bytes"]) == len(data) else None


def weigh_dependencies(
    left: Sequence[str], right: Sequence[str]
) -> tuple[list[Difference], list[Difference]]:
    """Compares lists of `path sha256`; returns the inputs that differ, and what only one side has.

    A file with another SHA-256 is another input, whatever mirror it came through. One that only one side has
    is none by itself: a Maven repository also holds what earlier builds have fetched.
    """
    ours, theirs = (dict(line.rpartition(" ")[::2] for line in lines) for lines in (left, right))
    other: list[Difference] = []
    alone: list[Difference] = []
    for path in sorted({*ours, *theirs}):
        one, two = ours.get(path), theirs.get(path)
        if one != two:
            (other if one and two else alone).append(
                Difference(name=f"dependency {path}", left=one, right=two)
            )
    return _bounded(other, "dependencies"), _bounded(alone, "dependencies")


def weigh_packages(left: Sequence[str], right: Sequence[str]) -> list[Difference]:
    """Compares lists of `name=version`; returns the packages that differ."""
    ours, theirs = (dict(line.partition("=")[::2] for line in lines) for lines in (left, right))
    found = [
        Difference(name=f"packages.{name}", left=ours.get(name), right=theirs.get(name))
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    return _bounded(found, "packages")


def _bounded(found: list[Difference], what: str) -> list[Difference]:
    more = len(found) - MOST_TOLD
    if more <= 0:
        return found
    return [*found[:MOST_TOLD], Difference(name=f"{more} more {what}", left=None, right=None)]

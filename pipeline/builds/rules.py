"""What a good setting is: names, shapes and values, each refused with its file, its field and a remedy.

What must not live here: which layer of settings wins (`recipe`).
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import ValidationError

from pipeline.errors import ConfigInvalid
from pipeline.records import secrets
from pipeline.records.builds import BuildSettings, JavaSettings, Substitutes

_SETTINGS: Final = frozenset(BuildSettings.model_fields)
_SUBSTITUTES: Final = frozenset(Substitutes.model_fields)
_JAVA: Final = frozenset(JavaSettings.model_fields)
#: Settings whose names are laid over each other one by one.
_GROUPS: Final = {"properties": None, "environment": None, "substitutes": _SUBSTITUTES, "java": _JAVA}
#: What a recipe file may say beside settings.
_PROSE: Final = frozenset({"description", "name"})

#: Variables that the pipeline sets itself, and the setting to use instead, if there is one.
_RESERVED: Final = {
    "HOME": "each job has its own",
    "PATH": "the stand-ins come first in it",
    "JAVA_HOME": "use `java.home`",
    "MAVEN_OPTS": "use `maven_opts`",
    "MAVEN_SKIP_RC": "no file of the machine may change a build",
    "MAVEN_ARGS": "use `properties` and `profiles`",
    "ACS_BUILD_OPTS": "use `properties` and `profiles`",
    "SOURCE_DATE_EPOCH": "it is the commit's time",
    "LD_PRELOAD": "it would get into every program of the build",
}

_PATTERNS: Final = {
    "profiles": re.compile(r"[!?+-]?[A-Za-z0-9_.-]{1,100}"),
    "properties": re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,200}"),
    "environment": re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}"),
    "coordinates": re.compile(r"[A-Za-z0-9_.-]{1,200}:[A-Za-z0-9_.-]{1,200}:[A-Za-z0-9_.+-]{1,100}"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "node_version": re.compile(r"[0-9]+\.[0-9]+\.[0-9]+"),
    "java_version": re.compile(r"[1-9][0-9]?\+?"),
    "url": re.compile(r"(?:https?://[^\s/]+|\{loopback\})/[^\s]*"),
}


class HasOrigin(Protocol):
    """A row that says where a setting came from."""

    @property
    def origin(self) -> str: ...


def refuse(origin: str, field: str, problem: str, remedy: str) -> ConfigInvalid:
    """Returns the error for one bad setting."""
    return ConfigInvalid(f"`{origin}`, setting `{field}`: {problem}", remedy=remedy)


def flatten(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the dotted name and the value of every known setting; a value that is null takes it out."""
    for name, value in values.items():
        if name in _GROUPS and isinstance(value, Mapping):
            for inner, innermost in value.items():
                if name == "substitutes" and inner == "properties" and isinstance(innermost, Mapping):
                    yield from ((f"substitutes.properties.{key}", text) for key, text in innermost.items())
                elif _GROUPS[name] is None or inner in (_GROUPS[name] or ()):
                    yield f"{name}.{inner}", innermost
        elif name in _SETTINGS:
            yield name, value


def check_layer(values: Any, origin: str, *, strict: bool) -> None:
    """Refuses a layer that is no object, a group that is none, and a name that looks like a slip.

    `strict` (recipe files) refuses every unknown name. The configuration may hold names of other tools
    beside ours, so that there only a near miss is refused.
    """
    if not isinstance(values, Mapping):
        raise refuse(origin, "", f"expected an object, found {_kind(values)}", "Write `{ … }`.")
    _check_names(values, _SETTINGS | {"java"} | (_PROSE if strict else frozenset()), origin, "", strict)
    for name, known in _GROUPS.items():
        group = values.get(name)
        if group is None:
            continue
        if not isinstance(group, Mapping):
            problem = f"expected an object, found {_kind(group)}"
            raise refuse(origin, name, problem, f'Write `"{name}": {{ "NAME": "VALUE" }}`.')
        if known is not None:
            _check_names(group, known, origin, f"{name}.", strict)


def _check_names(
    values: Mapping[str, Any], known: frozenset[str], origin: str, prefix: str, strict: bool
) -> None:
    for name in values:
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, 1, 0.6 if strict else 0.85)
        if strict or near:
            remedy = f"Did you mean `{near[0]}`?" if near else f"Known settings: {', '.join(sorted(known))}."
            raise refuse(origin, prefix + name, "there is no such setting", remedy)


def check_pinned_files(values: Mapping[str, Any], origin: str, folder: Path) -> None:
    """Refuses a recipe that names a pinned file which is not there or has other bytes."""
    substitutes = values.get("substitutes")
    downloads = substitutes.get("downloads") if isinstance(substitutes, Mapping) else None
    for number, entry in enumerate(downloads if isinstance(downloads, list) else []):
        name = entry.get("file") if isinstance(entry, Mapping) else None
        if not isinstance(name, str):
            continue
        field = f"substitutes.downloads.{number}.file"
        if name.startswith("/") or ".." in Path(name).parts:
            raise refuse(
                origin, field, f"{name!r} leaves the recipe's folder", "Name a file beside the recipe."
            )
        try:
            data = (folder / name).read_bytes()
        except OSError as exc:
            remedy = "Put the file beside the recipe."
            raise refuse(origin, field, f"{name!r} cannot be read ({exc.strerror})", remedy) from exc
        _check_digest(data, str(entry.get("sha256")), origin, f"substitutes.downloads.{number}.sha256")


def _check_digest(data: bytes, wanted: str, origin: str, field: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        remedy = f"If the bytes are meant to be these, write {found}."
        raise refuse(origin, field, f"the bytes have another digest than {wanted}", remedy)


def validated(flat: Mapping[str, Any], rows: Mapping[str, HasOrigin]) -> tuple[BuildSettings, JavaSettings]:
    """Makes the settings of their dotted names and checks every value."""
    tree: dict[str, Any] = {"substitutes": {}}
    java: dict[str, Any] = {}
    for name, value in flat.items():
        group, _, rest = name.partition(".")
        if name.startswith("substitutes.properties."):
            inner = tree["substitutes"].setdefault("properties", {})
            inner[name.removeprefix("substitutes.properties.")] = value
        elif group == "java":
            java[rest] = value
        elif group in _GROUPS:
            tree.setdefault(group, {})[rest] = value
        else:
            tree[name] = value

    def origin(name: str) -> str:
        known = (row for key, row in rows.items() if name == key or name.startswith(f"{key}."))
        return next((row.origin for row in known), "settings")

    try:
        build, java_settings = BuildSettings.model_validate(tree), JavaSettings.model_validate(java)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        remedy = "Correct the value; `invoke config` lists every setting."
        raise refuse(origin(field), field, first["msg"], remedy) from exc
    for field, problem, remedy in _problems(build, java_settings):
        raise refuse(origin(field), field, problem, remedy)
    return build, java_settings


Problem = tuple[str, str, str]


def _problems(build: BuildSettings, java: JavaSettings) -> Iterator[Problem]:
    for profile in build.profiles:
        if not _PATTERNS["profiles"].fullmatch(profile):
            yield (
                "profiles",
                f"{profile!r} cannot be the name of a profile",
                "Use letters, digits, . _ and -.",
            )
    yield from _names("properties", build.properties)
    yield from _names("environment", build.environment)
    for name, instead in _RESERVED.items():
        if name in build.environment:
            yield f"environment.{name}", "the pipeline sets it itself", f"Leave it out: {instead}."
    yield from _text("maven_opts", build.maven_opts)
    if not 0 <= build.parallel_builds <= 1024:
        yield (
            "parallel_builds",
            "expected a number of threads from 0 to 1024",
            "0 builds one module at a time.",
        )
    for field in ("timeout_seconds", "minimum_disk_gb", "minimum_memory_gb"):
        value = getattr(build, field)
        if not 0 <= value <= 1e7 or (field == "timeout_seconds" and value == 0):
            yield field, f"{value} is out of range", "Give a positive number of seconds or GB."
    if not _PATTERNS["java_version"].fullmatch(java.version):
        remedy = 'Write a number such as "17", or "17+" where later ones will do as well.'
        yield "java.version", f"{java.version!r} is no major version", remedy
    yield from _substitute_problems(build.substitutes)


def _names(field: str, values: Mapping[str, str]) -> Iterator[Problem]:
    for name, value in values.items():
        if not _PATTERNS["environment" if field == "environment" else "properties"].fullmatch(name):
            yield f"{field}.{name}", "not a name that can be set", "Use letters, digits, . _ and -."
        yield from _text(f"{field}.{name}", value)


def _text(field: str, value: str) -> Iterator[Problem]:
    if any(character in value for character in "\0\n\r"):
        yield field, "holds a line break or a zero byte", "Write it on one line."
    if secrets.find(f"{field}={value}"):
        yield (
            field,
            "looks like a secret, and a recipe is written into the ledger",
            "Keep it out of the build.",
        )


def _substitute_problems(substitutes: Substitutes) -> Iterator[Problem]:
    yield from _names("substitutes.properties", substitutes.properties)
    version = substitutes.node_version
    if version is not None and not _PATTERNS["node_version"].fullmatch(version):
        yield "substitutes.node_version", f"{version!r} is no whole version", 'Write one such as "18.20.4".'
    for number, jar in enumerate(substitutes.jars):
        field = f"substitutes.jars.{number}"
        for part in ("coordinates", "source"):
            value = getattr(jar, part)
            if not _PATTERNS["coordinates"].fullmatch(value) or ".." in value:
                yield f"{field}.{part}", f"{value!r} is not group:artifact:version", "Write all three parts."
        yield from _digest_problem(f"{field}.sha256", jar.sha256)
    for number, download in enumerate(substitutes.downloads):
        field = f"substitutes.downloads.{number}"
        if not _PATTERNS["url"].fullmatch(download.url):
            yield (
                f"{field}.url",
                f"{download.url!r} is no address",
                "Begin with https://, http:// or {loopback}/.",
            )
        yield from _digest_problem(f"{field}.sha256", download.sha256)
        if (download.text is None) == (download.file is None):
            yield field, "needs either `text` or `file`", "Give one of the two."
        elif download.text is not None:
            found = hashlib.sha256(download.text.encode()).hexdigest()
            if found != download.sha256:
                yield f"{field}.sha256", "`text` has another digest", f"If it is meant so, write {found}."


def _digest_problem(field: str, value: str) -> Iterator[Problem]:
    if not _PATTERNS["sha256"].fullmatch(value):
        yield field, f"{value!r} is no SHA-256", "Write 64 hexadecimal digits, lower case."


def _kind(value: object) -> str:
    names = {"NoneType": "null", "str": "text", "list": "a list", "bool": "true or false"}
    return names.get(type(value).__name__, "a number")

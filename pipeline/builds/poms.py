"""Reads a reactor's poms without Maven: its modules, and the artifacts that they ask for by name and version.

A rough reading on purpose. It follows modules, parents inside the tree, properties, dependencyManagement and
profiles named on the command line or switched on by a property; what only Maven can know (a version out of a
foreign parent or an imported list, a range, other activations) is left out rather than guessed. So what it
finds is asked for, but not everything that is asked for is found.
"""

from __future__ import annotations

import posixpath
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipeline.builds.tree import Tree

_PROPERTY: Final = re.compile(r"\$\{([^${}]{1,200})\}")
_MAXIMUM_MODULES: Final = 5000
_MAXIMUM_PARENTS: Final = 20
_COORDINATE: Final = re.compile(r"[A-Za-z0-9_.+-]{1,200}")


class Dependency(NamedTuple):
    """One artifact, and the pom that asks for it."""

    group: str
    artifact: str
    version: str
    type: str
    classifier: str
    declared_in: str

    @property
    def coordinates(self) -> str:
        """Returns `group:artifact:version`."""
        return f"{self.group}:{self.artifact}:{self.version}"

    def path(self, extension: str | None = None) -> str:
        """Returns the artifact's path in a Maven repository, or that of its sibling of another extension."""
        classifier = "" if extension else (self.classifier or {"test-jar": "tests"}.get(self.type, ""))
        suffix = extension or {"test-jar": "jar", "maven-plugin": "jar", "bundle": "jar"}.get(
            self.type, self.type
        )
        name = f"{self.artifact}-{self.version}{f'-{classifier}' if classifier else ''}.{suffix}"
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{name}"


class Repository(NamedTuple):
    """A repository that a pom declares."""

    id: str
    url: str


@dataclass(frozen=True)
class Reactor:
    """What the poms say: paths of the modules' poms in order of declaration, artifacts and repositories."""

    modules: tuple[str, ...]
    dependencies: tuple[Dependency, ...]
    repositories: tuple[Repository, ...]
    #: Poms that cannot be read, with the parser's words.
    unreadable: tuple[str, ...] = ()


@dataclass
class _Pom:
    path: str
    root: ET.Element
    profiles: list[ET.Element]
    parent: _Pom | None = None
    properties: dict[str, str] = field(default_factory=dict)

    def sections(self) -> list[ET.Element]:
        return [self.root, *self.profiles]


def read_reactor(
    tree: Tree, profiles: Collection[str], properties: Mapping[str, str], root: str = "pom.xml"
) -> Reactor:
    """Reads the poms of the modules that a build with these profiles and properties has."""
    poms, unreadable = _walk(tree, profiles, properties, root)
    own = {(_own(pom, "groupId", properties), _text(pom.root, "artifactId")) for pom in poms.values()}
    found: dict[str, Dependency] = {}
    repositories: dict[str, Repository] = {}
    for pom in poms.values():
        for dependency in _asked_for(pom, properties):
            if (dependency.group, dependency.artifact) not in own:
                found.setdefault(f"{dependency.coordinates}:{dependency.path()}", dependency)
        for section in pom.sections():
            for entry in _children(section, "repositories", "repository"):
                url = _interpolate(_text(entry, "url"), pom, properties).rstrip("/")
                if url and "${" not in url:
                    repositories.setdefault(url, Repository(_text(entry, "id"), url))
    return Reactor(tuple(poms), tuple(found.values()), tuple(repositories.values()), tuple(unreadable))


def _walk(
    tree: Tree, profiles: Collection[str], properties: Mapping[str, str], root: str
) -> tuple[dict[str, _Pom], list[str]]:
    """Reads the poms level by level, so that a git tree is asked a few times and not once a module."""
    poms: dict[str, _Pom] = {}
    unreadable: list[str] = []
    level = [root]
    while level and len(poms) < _MAXIMUM_MODULES:
        data = tree.read_all(level)
        below: dict[str, None] = {}
        for path in level:
            if path not in data:
                unreadable.append(f"{path}: there is no such file")
                continue
            try:
                element = _parse(data[path])
            except (ET.ParseError, ValueError, LookupError) as exc:
                unreadable.append(f"{path}: {exc}")
                continue
            pom = _Pom(path, element, _active(element, profiles, properties))
            poms[path] = pom
            pom.parent = _parent(pom, poms)
            for section in pom.sections():
                for entry in section.findall("properties/*"):
                    pom.properties[entry.tag] = (entry.text or "").strip()
                for module in section.findall("modules/module"):
                    below[_module_path(path, (module.text or "").strip())] = None
        level = [path for path in below if path not in poms and path != ""]
    return poms, unreadable


def _parse(data: bytes) -> ET.Element:
    """Parses a pom, namespaces dropped. Refuses a document type: no pom needs one, and entities explode."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("holds a document type")
    root = ET.fromstring(data)
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return root


def _module_path(pom: str, module: str) -> str:
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(pom), module))
    if not module or joined.startswith(("..", "/")):
        return ""
    return joined if joined.endswith(".xml") else posixpath.join(joined, "pom.xml")


def _parent(pom: _Pom, poms: Mapping[str, _Pom]) -> _Pom | None:
    """Returns the parent if it is in the tree at its relativePath; parents are read before their modules."""
    element = pom.root.find("parent")
    if element is None:
        return None
    given = element.find("relativePath")
    relative = "../pom.xml" if given is None else (given.text or "").strip()
    found = poms.get(_module_path(pom.path, relative)) if relative else None
    same = found is not None and _text(found.root, "artifactId") == _text(element, "artifactId")
    return found if same else None


def _active(root: ET.Element, profiles: Collection[str], properties: Mapping[str, str]) -> list[ET.Element]:
    def wanted(profile: ET.Element) -> bool:
        name = _text(profile, "id")
        if name in profiles:
            return True
        if f"!{name}" in profiles or f"-{name}" in profiles:
            return False
        key = _text(profile, "activation/property/name")
        value = _text(profile, "activation/property/value")
        if key.startswith("!"):
            return key[1:] not in properties
        return bool(key) and key in properties and value in ("", properties[key])

    every = root.findall("profiles/profile")
    active = [profile for profile in every if wanted(profile)]
    if not active:
        active = [p for p in every if _text(p, "activation/activeByDefault") == "true"]
    return active


def _asked_for(pom: _Pom, properties: Mapping[str, str]) -> Iterator[Dependency]:
    parent = pom.root.find("parent")
    if parent is not None and pom.parent is None:
        yield from _dependency(parent, pom, properties, _text(parent, "version"), "pom")
    for section in pom.sections():
        for entry in _children(section, "dependencyManagement/dependencies", "dependency"):
            if _text(entry, "scope") == "import":
                yield from _dependency(entry, pom, properties, _text(entry, "version"), "pom")
        for entry in _children(section, "dependencies", "dependency"):
            if _text(entry, "scope") == "system":
                continue
            version = _text(entry, "version") or _managed(entry, pom, properties)
            yield from _dependency(entry, pom, properties, version, _text(entry, "type") or "jar")


def _dependency(
    entry: ET.Element, pom: _Pom, properties: Mapping[str, str], version: str, type_: str
) -> Iterator[Dependency]:
    group, artifact = (
        _interpolate(_text(entry, name), pom, properties) for name in ("groupId", "artifactId")
    )
    classifier = _interpolate(_text(entry, "classifier"), pom, properties)
    version = _interpolate(version, pom, properties)
    if all(_COORDINATE.fullmatch(part) for part in (group, artifact, version, type_)):
        yield Dependency(group, artifact, version, type_, classifier, pom.path)


def _managed(entry: ET.Element, pom: _Pom, properties: Mapping[str, str]) -> str:
    """Returns the version that the nearest dependencyManagement gives a dependency, or an empty text."""
    wanted = (_text(entry, "groupId"), _text(entry, "artifactId"))
    for ancestor in _line(pom):
        for section in ancestor.sections():
            for managed in _children(section, "dependencyManagement/dependencies", "dependency"):
                group = _interpolate(_text(managed, "groupId"), ancestor, properties)
                if (group, _text(managed, "artifactId")) == wanted and _text(managed, "scope") != "import":
                    return _text(managed, "version")
    return ""


def _interpolate(text: str, pom: _Pom, properties: Mapping[str, str]) -> str:
    for _ in range(10):
        replaced = _PROPERTY.sub(lambda match: _value(match[1], pom, properties) or match[0], text)
        if replaced == text or len(replaced) > 10_000:
            break
        text = replaced
    return text


def _value(name: str, pom: _Pom, properties: Mapping[str, str]) -> str | None:
    if name in properties:
        return properties[name]
    if name in ("project.version", "pom.version", "version"):
        return _own(pom, "version", properties)
    if name in ("project.groupId", "pom.groupId"):
        return _own(pom, "groupId", properties)
    if name == "project.parent.version":
        return _text(pom.root, "parent/version")
    return next((a.properties[name] for a in _line(pom) if name in a.properties), None)


def _own(pom: _Pom, name: str, properties: Mapping[str, str]) -> str:
    text = _text(pom.root, name) or _text(pom.root, f"parent/{name}")
    return properties.get(text[2:-1], text) if text.startswith("${") else text


def _line(pom: _Pom) -> Iterator[_Pom]:
    """Yields a pom and its ancestors inside the tree, nearest first."""
    at: _Pom | None = pom
    for _ in range(_MAXIMUM_PARENTS):
        if at is None:
            return
        yield at
        at = at.parent


def _children(section: ET.Element, path: str, name: str) -> list[ET.Element]:
    return section.findall(f"{path}/{name}")


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()

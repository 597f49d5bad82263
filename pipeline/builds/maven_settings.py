"""The job's own Maven settings: where Maven Central is for this machine, and nothing else that was not asked.

No address is written here. It comes, in this order, from the variable PIPELINE_MAVEN_MIRROR, from a mirror of
Central in the machine's own settings.xml, or out of the installed Maven itself (the super-POM in its
maven-model-builder jar).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import ConfigInvalid

MIRROR_VARIABLE: Final = "PIPELINE_MAVEN_MIRROR"
#: Artifacts are kept under the id of the repository that they came from. With the id that Central has by
#: itself, what was fetched with the mirror is known without it, and the other way round.
CENTRAL: Final = "central"
SUPER_POM: Final = "Maven's own super-POM"
_SUPER_POM_FILE: Final = "org/apache/maven/model/pom-4.0.0.xml"
#: What a job takes over from the machine's settings: how to reach repositories, never what to build.
_TAKEN_OVER: Final = ("proxies", "servers", "mirrors")


@dataclass(frozen=True)
class Mirror:
    """Where Maven Central is for this machine. `origin` says in words who said so."""

    id: str
    url: str
    origin: str


def find_mirror(environ: Mapping[str, str], settings: Path, maven_home: Path) -> Mirror:
    """Finds this machine's way to Maven Central. Raises ConfigInvalid if nothing names one."""
    given = environ.get(MIRROR_VARIABLE, "").strip()
    if given:
        if not given.startswith(("http://", "https://", "file://")):
            raise ConfigInvalid(
                f"{MIRROR_VARIABLE} is {given!r}, which is no address",
                remedy="Give the whole address of a Maven repository, with https://.",
            )
        return Mirror(CENTRAL, given.rstrip("/"), f"the variable {MIRROR_VARIABLE}")
    for mirror in _mirrors(_read(settings)):
        return mirror
    url = super_pom_address(maven_home)
    if url is None:
        raise ConfigInvalid(
            f"No address of Maven Central is known: Maven's own jars in {maven_home} name none",
            remedy=f"Set {MIRROR_VARIABLE}, or name a mirror in ~/.m2/settings.xml.",
        )
    return Mirror(CENTRAL, url, SUPER_POM)


def super_pom_address(maven_home: Path) -> str | None:
    """Returns the address of Central that an installed Maven has built in."""
    for jar in sorted((maven_home / "lib").glob("maven-model-builder-*.jar")):
        try:
            with zipfile.ZipFile(jar) as archive:
                root = ET.fromstring(archive.read(_SUPER_POM_FILE))
        except (OSError, KeyError, zipfile.BadZipFile, ET.ParseError):
            continue
        for element in root.iter():
            if _name(element) == "repository" and _child(element, "id") == CENTRAL:
                return _child(element, "url").rstrip("/")
    return None


def settings_xml(mirror: Mirror | None, settings: Path) -> bytes:
    """Returns a job's settings: with a mirror, everything goes there; without, what the machine says.

    The machine's proxies and credentials are taken over, its profiles and its local repository are not.
    """
    root = ET.Element("settings")
    machine = _read(settings)
    for element in list(machine) if machine is not None else []:
        name = _name(element)
        if name in _TAKEN_OVER and not (name == "mirrors" and mirror is not None):
            root.append(_without_namespace(element))
    if mirror is not None:
        entry = ET.SubElement(ET.SubElement(root, "mirrors"), "mirror")
        for tag, text in (("id", mirror.id), ("mirrorOf", "*"), ("url", mirror.url)):
            ET.SubElement(entry, tag).text = text
    ET.indent(root)
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _read(settings: Path) -> ET.Element | None:
    try:
        data = settings.read_bytes()
    except OSError:
        return None
    try:
        return ET.fromstring(data)
    except ET.ParseError as exc:
        raise ConfigInvalid(
            f"{settings} is no XML ({exc})", remedy="Correct it, or take it away; Maven stops at it, too."
        ) from exc


def _mirrors(root: ET.Element | None) -> Iterator[Mirror]:
    """Yields the mirrors that stand for Central."""
    for element in root.iter() if root is not None else ():
        if _name(element) != "mirror":
            continue
        of = [part.strip() for part in _child(element, "mirrorOf").split(",")]
        url = _child(element, "url").rstrip("/")
        covers = ("*" in of or CENTRAL in of or "external:*" in of) and f"!{CENTRAL}" not in of
        if covers and url:
            yield Mirror(_child(element, "id") or CENTRAL, url, "a mirror in the machine's settings.xml")


def _without_namespace(element: ET.Element) -> ET.Element:
    copy = ET.Element(_name(element))
    copy.text = element.text
    copy.extend(_without_namespace(child) for child in element if isinstance(child.tag, str))
    return copy


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _child(element: ET.Element, name: str) -> str:
    return next(((child.text or "").strip() for child in element if _name(child) == name), "")

"""The job's own Maven settings: where Maven Central is for this machine, and nothing else that was not asked.

No address is written here. It comes, in this order, from the variable PIPELINE_MAVEN_MIRROR, from a mirror of
Central in the user's settings.xml or in the one that Maven was installed with, or out of the installed Maven
itself: Maven 3 has it in the super-POM in its maven-model-builder jar, Maven 4 in a file of conf/.
"""

from __future__ import annotations

import re
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
#: The origin of an address that nobody chose.
BUILT_IN: Final = "the installed Maven"
_SUPER_POM_FILE: Final = "org/apache/maven/model/pom-4.0.0.xml"
#: Maven 4's `maven.repo.central = ${env.NAME:-address}`; a build does not see that variable.
_MAVEN_4_CENTRAL: Final = re.compile(r"^maven\.repo\.central\s*=\s*(?:\$\{[^}\s]*?:-)?([^}\s]+)\}?\s*$", re.M)
#: What a job takes over from the machine's settings: how to reach repositories, never what to build.
_TAKEN_OVER: Final = ("proxies", "servers", "mirrors")


@dataclass(frozen=True)
class Mirror:
    """Where Maven Central is for this machine. `origin` says in words who said so.

    With `of_all` everything else that a pom asks for is fetched there as well.
    """

    id: str
    url: str
    origin: str
    of_all: bool = True


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
    for place, whose in ((settings, "the machine's"), (maven_home / "conf" / "settings.xml", "Maven's")):
        for mirror in _mirrors(_read(place), f"a mirror in {whose} settings.xml"):
            return mirror
    url = super_pom_address(maven_home) or _maven_4_address(maven_home)
    if url is None:
        raise ConfigInvalid(
            f"No address of Maven Central is known: the Maven in {maven_home} names none",
            remedy=f"Set {MIRROR_VARIABLE}, or name a mirror in ~/.m2/settings.xml.",
        )
    return Mirror(CENTRAL, url, BUILT_IN, of_all=False)


def super_pom_address(maven_home: Path) -> str | None:
    """Returns the address of Central that an installed Maven 3 has built in."""
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


def _maven_4_address(maven_home: Path) -> str | None:
    # Release candidates have called it maven.properties and maven-system.properties.
    for file in sorted((maven_home / "conf").glob("maven*.properties")):
        try:
            found = _MAVEN_4_CENTRAL.search(file.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found:
            return found[1].rstrip("/")
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


def _mirrors(root: ET.Element | None, origin: str) -> Iterator[Mirror]:
    """Yields the mirrors that stand for Central."""
    for element in root.iter() if root is not None else ():
        if _name(element) != "mirror":
            continue
        of = [part.strip() for part in _child(element, "mirrorOf").split(",")]
        url = _child(element, "url").rstrip("/")
        of_all = "*" in of or "external:*" in of
        if (of_all or CENTRAL in of) and f"!{CENTRAL}" not in of and url:
            yield Mirror(_child(element, "id") or CENTRAL, url, origin, of_all)


def _without_namespace(element: ET.Element) -> ET.Element:
    copy = ET.Element(_name(element))
    copy.text = element.text
    copy.extend(_without_namespace(child) for child in element if isinstance(child.tag, str))
    return copy


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _child(element: ET.Element, name: str) -> str:
    return next(((child.text or "").strip() for child in element if _name(child) == name), "")

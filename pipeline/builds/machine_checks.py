"""Checks of the machine itself: JDK, Maven, packaging tools, disk, memory and clock."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

from pipeline.builds import debcontrol, toolchain
from pipeline.builds.checks import Check, Subject
from pipeline.records.builds import JavaSettings

_GIB: Final = 1024**3
_OLDEST_MAVEN: Final = "3.6"
_OLDEST_YEAR: Final = 2025
#: A clock this far behind the commit is wrong, and not merely another one than the author's.
_BEHIND_SECONDS: Final = 24 * 3600

#: The JDK that a distribution has chosen for itself.
_ANY_JDK: Final = "default-jdk-headless"
#: What packaging itself calls, and the package of each.
_PACKAGING: Final = {
    "dpkg-buildpackage": "dpkg-dev",
    "dpkg-deb": "dpkg",
    "dh": "debhelper",
    "fakeroot": "fakeroot",
    "make": "make",
}


def check_java(subject: Subject) -> Iterator[Check]:
    """A JDK of the configured version, compiler included."""
    java, have = subject.settings.java, subject.recipe.toolchain
    version = have.java if have else ""
    if version and java.takes(toolchain.major(version)):
        yield Check("java", True, f"JDK {version}")
        return
    number, plus, _ = java.version.partition("+")
    wanted = f"JDK {number} or later" if plus else f"JDK {number}"
    message = f"there is no {wanted}"
    if version:
        message = f"{wanted} is wanted, {version} is in {have.java_home if have else '?'}"
    package = jdk_package(java, subject.offered)
    if package is not None:
        remedy = f"Install {package}, or set `java.home` to a {wanted}."
        yield Check("java", False, message, remedy, (package,))
        return
    remedy = f"This distribution has none: set `java.home` to a {wanted} from elsewhere"
    if version:
        remedy += f", or `java.version` to {toolchain.major(version)}, if the source tree builds with that"
    yield Check("java", False, message, f"{remedy}.")


def jdk_package(java: JavaSettings, offered: Callable[[str], bool]) -> str | None:
    """Returns the package of a JDK that will do and that this distribution has; None if it has none."""
    number, plus, _ = java.version.partition("+")
    names = [f"openjdk-{number}-jdk-headless", *([_ANY_JDK] if plus else [])]
    return next((name for name in names if offered(name)), None)


def check_maven(subject: Subject) -> Iterator[Check]:
    """A Maven that is new enough."""
    version = subject.found.toolchain.maven
    if not version:
        yield Check("maven", False, "there is no Maven", "Install maven.", ("maven",))
    elif debcontrol.compare_versions(version, _OLDEST_MAVEN) < 0:
        message = f"Maven {version} is older than {_OLDEST_MAVEN}"
        yield Check("maven", False, message, "Put a newer Maven first on PATH.")
    else:
        yield Check("maven", True, f"Maven {version}")


def missing_packaging(path: str) -> dict[str, str]:
    """Returns the packaging tools that a PATH lacks, with the package of each."""
    return {name: package for name, package in _PACKAGING.items() if shutil.which(name, path=path) is None}


def check_packaging(subject: Subject) -> Iterator[Check]:
    """The tools that make packages out of what was built."""
    if not subject.recipe.packages:
        return
    missing = missing_packaging(subject.found.path)
    if missing:
        packages = tuple(missing.values())
        message, remedy = f"missing: {', '.join(missing)}", f"Install {' '.join(packages)}."
        yield Check("packaging", False, message, remedy, packages)
    else:
        yield Check("packaging", True, "dpkg, debhelper and fakeroot")


def check_disk(subject: Subject) -> Iterator[Check]:
    """Room for the build."""
    folder = next((one for one in (subject.work, *subject.work.parents) if one.exists()), Path("/"))
    free, wanted = shutil.disk_usage(folder).free / _GIB, subject.settings.build.minimum_disk_gb
    message = f"{free:.1f} GiB free in {folder}, {wanted:g} wanted"
    remedy = "Free some (`invoke artifacts.prune --keep 3`), or lower `minimum_disk_gb`."
    yield Check("disk", free >= wanted, message, None if free >= wanted else remedy)


def check_memory(subject: Subject) -> Iterator[Check]:
    """Memory that is free or can be freed."""
    available, wanted = psutil.virtual_memory().available / _GIB, subject.settings.build.minimum_memory_gb
    ok = available >= wanted
    remedy = None if ok else "End other programs, or lower `minimum_memory_gb` and `maven_opts`."
    yield Check("memory", ok, f"{available:.1f} GiB available, {wanted:g} wanted", remedy)


def check_clock(subject: Subject) -> Iterator[Check]:
    """A clock that is not years behind: times of files, certificates and leases hang on it."""
    behind = subject.recipe.source_date_epoch - subject.now.timestamp()
    ok = subject.now.year >= _OLDEST_YEAR and behind <= _BEHIND_SECONDS
    message = f"the clock says {subject.now:%Y-%m-%d %H:%M} UTC"
    if behind > _BEHIND_SECONDS:
        message += f", {behind / 86400:.0f} days before the commit was made"
    yield Check("clock", ok, message, None if ok else "Set it: `timedatectl set-ntp true`.")

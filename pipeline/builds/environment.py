"""Where a build runs, as this machine states it: what may differ between two builds that agree.

What lives here: looking. What must not: judging what a difference means (`compare.inputs`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import pwd
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pipeline.builds.debcontrol import Installed
from pipeline.records.builds import Environment, Listing, Toolchain

PACKAGES: Final = "packages.txt"
_UNKNOWN: Final = "unknown"
#: What Debian calls a processor, by what the kernel calls it.
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "i686": "i386", "armv7l": "armhf"}


def listing(path: str, lines: Sequence[str]) -> tuple[Listing, bytes]:
    """Returns a list's record, and the bytes of the file that holds it. The order is the list's own."""
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(data).hexdigest()
    return Listing(path=path, count=len(lines), size_bytes=len(data), sha256=digest), data


def list_packages(installed: Installed) -> tuple[Listing, bytes]:
    """Returns what dpkg has installed as a list of `name=version`."""
    return listing(PACKAGES, [f"{name}={version}" for name, version in sorted(installed.versions.items())])


def architecture() -> str:
    """Returns the architecture as Debian calls it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def look(
    machine: str, environ: Mapping[str, str], toolchain: Toolchain | None, packages: Listing | None
) -> Environment:
    """Looks at this machine, as this process finds it. `machine` names it; nothing here is a build's own."""
    number = os.geteuid()
    return Environment(
        machine=machine,
        host=socket.gethostname() or None,
        user=user_name(number),
        user_id=number,
        timezone=environ.get("TZ") or _local_timezone(),
        locale=environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or "C",
        umask=_umask(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        architecture=architecture(),
        distribution=toolchain.distribution if toolchain else None,
        home=environ.get("HOME"),
        path=environ.get("PATH"),
        toolchain=toolchain,
        packages=packages,
    )


def user_name(number: int) -> str | None:
    """Returns a user's name by the password file; None for one who is not in it."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return None


def _local_timezone() -> str:
    try:
        named = Path("/etc/timezone").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        named = ""
    target = os.path.realpath("/etc/localtime")
    _, found, zone = target.partition("/zoneinfo/")
    return zone if found else named or _UNKNOWN


def _umask() -> str | None:
    """Returns this process's umask; asking the system call would change it for other threads."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.split()[1].rjust(3, "0")[-3:] for line in lines if line.startswith("Umask:")), None)

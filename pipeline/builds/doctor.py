"""Carries out what the checks ask for, with apt on Debian and Ubuntu.

    refresh()                apt's lists, where they are missing or old: the choice of a JDK hangs on them
    install_plan(checks)     the packages that the failed checks name, without those that are there
    base_plan(installed)     what a bare machine lacks that has no source tree to check yet
    install(plan)            apt-get, without questions; as root, or it says the exact line for sudo

Python 2 and its setuptools, which CloudStack declares, are in no current release. The build does not need
them: the packaging is started with `-d` (`tree_checks.NOT_NEEDED`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.builds.checks import Check
from pipeline.builds.debcontrol import Installed
from pipeline.edge import process
from pipeline.errors import CommandFailed, PreflightFailed

#: What a bare Debian or Ubuntu lacks for the sample and for CloudStack itself, but for the JDK.
BASE: Final = (
    "maven",
    "dpkg-dev",
    "debhelper",
    "fakeroot",
    "make",
    "git",
    "python3",
    "ca-certificates",
)
CLOUDSTACK: Final = (
    "python3-setuptools",
    "dh-python",
    "nodejs",
    "npm",
    "wget",
    "jq",
    "bzip2",
    "genisoimage",
    "lsb-release",
    "devscripts",
    "git-lfs",
)
#: Programs that make a package superfluous, however they came here.
_INSTEAD: Final = {"nodejs": "node", "npm": "npm", "maven": "mvn", "git": "git"}

_APT: Final = ("apt-get", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120")
_INSTALL_SECONDS: Final = 1800.0
#: apt's lists older than this are fetched again first: they may name files that are no longer there.
_STALE_SECONDS: Final = 24 * 3600

#: Where apt keeps its lists.
LISTS: Final = Path("/var/lib/apt/lists")

#: Runs one command, and raises CommandFailed.
Run = Callable[[Sequence[str]], None]


def install_plan(checks: Iterable[Check], installed: Installed) -> list[str]:
    """Returns the packages that failed checks name and that are not installed, sorted."""
    named = {package for check in checks if not check.ok for package in check.apt_packages}
    return sorted(package for package in named if not installed.has(package))


def base_plan(installed: Installed, *, cloudstack: bool, path: str | None = None) -> list[str]:
    """Returns what a machine lacks before any tree was looked at; `cloudstack` adds the UI's and more."""
    wanted = BASE + (CLOUDSTACK if cloudstack else ())
    return [
        package
        for package in wanted
        if not installed.has(package)
        and not (package in _INSTEAD and shutil.which(_INSTEAD[package], path=path))
    ]


def command_line(plan: Sequence[str]) -> str:
    """Returns the line that a person would type for a plan."""
    return f"sudo apt-get install -y --no-install-recommends {' '.join(plan)}"


def install(plan: Sequence[str], *, is_root: bool | None = None, run: Run | None = None) -> None:
    """Installs packages, as root or through a sudo that asks nothing; an empty plan is a quick no-op.

    Raises PreflightFailed where there is no apt, for a user who may not, and when apt-get fails.
    """
    if not plan:
        return
    if shutil.which("apt-get") is None:
        raise PreflightFailed(
            "Packages can only be installed on Debian and Ubuntu (there is no apt-get)",
            remedy=f"Install what these are called here: {' '.join(plan)}",
        )
    execute = run or _run
    prefix = _as_root(execute, is_root)
    if prefix is None:
        raise PreflightFailed("Installing packages needs root", remedy=f"Run: {command_line(plan)}")
    try:
        execute([*prefix, *_APT, "install", *plan])
    except CommandFailed as exc:
        last = next((line for line in exc.stderr_tail.splitlines() if line.startswith("E:")), exc.message)
        raise PreflightFailed(f"apt-get failed: {last}", remedy=f"Try: {command_line(plan)}") from exc


def refresh(
    *, is_root: bool | None = None, run: Run | None = None, lists: Path = LISTS, now: float | None = None
) -> None:
    """Fetches apt's lists where they are missing or older than a day, if this user may; raises nothing.

    Lists that cannot be fetched may still do: what is missing in them, `install` says.
    """
    times = [file.stat().st_mtime for file in lists.glob("*_Packages*")]
    fresh = bool(times) and (now is None or now - max(times) <= _STALE_SECONDS)
    if fresh or shutil.which("apt-get") is None:
        return
    execute = run or _run
    prefix = _as_root(execute, is_root)
    if prefix is not None:
        with suppress(CommandFailed):
            execute([*prefix, *_APT[:2], "update"])


def _as_root(execute: Run, is_root: bool | None) -> list[str] | None:
    """Returns the words in front of a command that root runs; None where this user may not."""
    words = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
    if os.geteuid() == 0 if is_root is None else is_root:
        return words
    if shutil.which("sudo") is None:
        return None
    try:
        execute(["sudo", "-n", "true"])
    except CommandFailed:
        return None
    return ["sudo", "-n", *words]


def _run(argv: Sequence[str]) -> None:
    process.run(argv, timeout=_INSTALL_SECONDS)

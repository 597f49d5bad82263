"""Carries out what the checks ask for, with apt on Debian and Ubuntu.

    install_plan(checks)     the packages that the failed checks name, without those that are there
    base_plan(installed)     the same for a bare machine that has no source tree to check yet
    install(plan)            apt-get, without questions; as root, or it says the exact line for sudo

Python 2 and its setuptools, which CloudStack declares, are in no current release. The build does not need
them: the packaging is started with `-d` (`tree_checks.NOT_NEEDED`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pipeline.builds.checks import Check
from pipeline.builds.debcontrol import Installed
from pipeline.edge import process
from pipeline.errors import CommandFailed, PreflightFailed

#: What a bare Debian 12 or Ubuntu 24.04 lacks for the sample and for CloudStack itself.
BASE: Final = (
    "openjdk-17-jdk-headless",
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

#: Runs one command with an environment, and raises CommandFailed.
Run = Callable[[Sequence[str], Mapping[str, str]], None]


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


def install(
    plan: Sequence[str],
    *,
    is_root: bool | None = None,
    run: Run | None = None,
    lists: Path = Path("/var/lib/apt/lists"),
    now: float | None = None,
) -> None:
    """Installs packages; an empty plan is a quick no-op.

    Raises PreflightFailed where there is no apt, for a user who is not root, and when apt-get fails.
    """
    if not plan:
        return
    if shutil.which("apt-get") is None:
        raise PreflightFailed(
            "Packages can only be installed on Debian and Ubuntu (there is no apt-get)",
            remedy=f"Install what these are called here: {' '.join(plan)}",
        )
    if not (os.geteuid() == 0 if is_root is None else is_root):
        raise PreflightFailed("Installing packages needs root", remedy=f"Run: {command_line(plan)}")
    execute = run or _run
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        if _stale(lists, now):
            execute([*_APT[:2], "update"], environment)
        execute([*_APT, "install", *plan], environment)
    except CommandFailed as exc:
        last = next((line for line in exc.stderr_tail.splitlines() if line.startswith("E:")), exc.message)
        raise PreflightFailed(f"apt-get failed: {last}", remedy=f"Try: {command_line(plan)}") from exc


def _run(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    process.run(argv, env=environment, timeout=_INSTALL_SECONDS)


def _stale(lists: Path, now: float | None) -> bool:
    """Says whether apt's lists are missing or old."""
    times = [file.stat().st_mtime for file in lists.glob("*_Packages*")]
    return not times or (now is not None and now - max(times) > _STALE_SECONDS)

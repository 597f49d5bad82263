"""Looks, before anything is recorded, at everything without which a build would fail, and names the remedy.

What lives here: which checks there are, and the one error with all that failed; the checks themselves are in
`machine_checks` and `tree_checks`. What must not: carrying a remedy out (`doctor`), and identity and the
ledger's remote, which are no business of a build's.

Cheap checks run every time. Of the slow one, which artifacts Maven will not get, what was found is remembered
by the repositories' addresses (`resolution`).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipeline.builds import machine_checks, tree_checks
from pipeline.builds.checks import Check, Subject, installed_packages
from pipeline.edge.plain_file import read_plain
from pipeline.errors import PreflightFailed, RecordInvalid
from pipeline.records.base import load_json

__all__ = [
    "Check",
    "Subject",
    "installed_packages",
    "missed",
    "reads",
    "remember",
    "require",
    "run_checks",
    "run_machine_checks",
    "run_tree_checks",
]

_MISSED: Final = "missed.json"
#: Debian's own rule. A dash at the end would tell apt to REMOVE the package.
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.]")


def reads(path: str) -> bool:
    """Says whether the checks read a file of a source tree, so that a git tree can read all at once."""
    return path in ("debian/control", "debian/rules") or path.rpartition("/")[2] == "pom.xml"


def run_checks(subject: Subject) -> list[Check]:
    """Runs every check. Raises nothing for what is missing: `require` does."""
    return [*run_machine_checks(subject), *run_tree_checks(subject)]


def run_machine_checks(subject: Subject) -> list[Check]:
    """Runs the checks that look at no source tree."""
    return [
        *machine_checks.check_java(subject),
        *machine_checks.check_maven(subject),
        *machine_checks.check_packaging(subject),
        *machine_checks.check_disk(subject),
        *machine_checks.check_memory(subject),
        *machine_checks.check_clock(subject),
    ]


def run_tree_checks(subject: Subject) -> list[Check]:
    """Runs the checks of what the source tree needs."""
    return [
        *tree_checks.check_build_depends(subject),
        *tree_checks.check_tools(subject),
        *tree_checks.check_node(subject),
        *tree_checks.check_npm_modules(subject),
        *tree_checks.check_dependencies(subject),
    ]


def require(checks: Sequence[Check]) -> None:
    """Raises PreflightFailed with every failure and its remedy, if there is one."""
    failed = [check for check in checks if not check.ok]
    if not failed:
        return
    lines = [f"{len(failed)} of {len(checks)} checks failed; nothing was recorded."]
    for check in failed:
        lines.append(f"  {check.name}: {check.message}")
        if check.remedy:
            lines.append(f"    Remedy: {check.remedy}")
    packages = sorted({package for check in failed for package in check.apt_packages})
    remedy = f"`invoke doctor --install` installs: {' '.join(packages)}" if packages else None
    raise PreflightFailed("\n".join(lines), remedy=remedy)


def remember(checks: Sequence[Check], memory: Path) -> None:
    """Notes which packages the checks of a build missed, for `doctor --install`, which sees no source tree.

    A note that cannot be written is no failure: its packages are in the refusal's words.
    """
    packages = sorted({package for check in checks if not check.ok for package in check.apt_packages})
    with contextlib.suppress(OSError):
        memory.mkdir(parents=True, exist_ok=True)
        (memory / _MISSED).write_text(json.dumps(packages), encoding="utf-8")


def missed(memory: Path) -> list[str]:
    """Returns the packages that the last build's checks missed; what can be no package's name is left out."""
    try:
        found = load_json(read_plain(memory / _MISSED), _MISSED)
    except (OSError, RecordInvalid):
        return []
    names = found if isinstance(found, list) else []
    return [name for name in names if isinstance(name, str) and _PACKAGE.fullmatch(name)]

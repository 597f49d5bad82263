"""Looks, before anything is recorded, at everything without which a build would fail, and names the remedy.

What lives here: which checks there are, and the one error with all that failed; the checks themselves are in
`machine_checks` and `tree_checks`. What must not: carrying a remedy out (`doctor`), and identity and the
ledger's remote, which are no business of a build's.

Cheap checks run every time. Of the slow one, which artifacts Maven will not get, what was found is remembered
by the repositories' addresses (`resolution`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.builds import machine_checks, tree_checks
from pipeline.builds.checks import Check, Subject, installed_packages
from pipeline.errors import PreflightFailed

__all__ = [
    "Check",
    "Subject",
    "installed_packages",
    "require",
    "run_checks",
    "run_machine_checks",
    "run_tree_checks",
]


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

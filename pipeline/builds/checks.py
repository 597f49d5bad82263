"""What a check looks at, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.builds import debcontrol, resolution
from pipeline.builds.debcontrol import Installed
from pipeline.builds.recipe import Settings
from pipeline.builds.toolchain import Found, package_facts
from pipeline.builds.tree import Tree
from pipeline.edge.findings import Findings
from pipeline.errors import CommandFailed
from pipeline.records.builds import Recipe


@dataclass(frozen=True)
class Check:
    """One finding. `apt_packages` are what `doctor --install` would install for it."""

    name: str
    ok: bool
    message: str
    remedy: str | None = None
    apt_packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """What is looked at. `work` is the folder that the build will fill, `local` the Maven repositories that
    its own will start from, `memory` where slow findings are kept. `now` is the wall clock.
    `offered` says whether a package could be installed; only a check that fails asks."""

    tree: Tree
    recipe: Recipe
    settings: Settings
    found: Found
    work: Path
    now: datetime
    environ: Mapping[str, str]
    machine_settings: Path
    local: tuple[Path, ...] = ()
    memory: Path | None = None
    installed: Installed = field(default_factory=Installed)
    head: resolution.Head = resolution.http_head
    architecture: str = "amd64"
    offered: Callable[[str], bool] = debcontrol.query_offered


def installed_packages(findings: Findings | None = None) -> Installed:
    """Asks dpkg what is installed, or knows it from before; nothing where there is no dpkg."""

    def ask() -> list[dict[str, Any]]:
        installed = debcontrol.query_installed()
        return [installed.versions, installed.provided]

    try:
        return Installed(*(findings or Findings()).of("installed", package_facts(), ask))
    except CommandFailed:
        return Installed()

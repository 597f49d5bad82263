"""Is this machine fit to build? The checks of a build, and identity and the ledger's remote besides."""

from __future__ import annotations

import os
from collections.abc import Callable

from pipeline.builds import doctor, preflight, recipe, toolchain
from pipeline.builds.checks import Check
from pipeline.builds.recipe import CommitFacts, RecipeOverrides
from pipeline.builds.tree import FolderTree
from pipeline.errors import PipelineError
from pipeline.operations import site as sites
from pipeline.operations.prepare import recipe_folder, subject
from pipeline.operations.remote import probe
from pipeline.operations.site import Site


def examine(
    open_site: Callable[[], Site], *, install: bool = False, remote: bool = False, say: Callable[[str], None]
) -> list[Check]:
    """Checks everything that does not depend on a branch; `install` carries the remedies out first.

    Raises PreflightFailed where a remedy cannot be carried out.
    """
    if install:
        installed = preflight.installed_packages()
        plan = doctor.base_plan(installed, cloudstack=_needs_cloudstack(open_site))
        say(f"Installing: {' '.join(plan)}" if plan else "Everything is installed already.")
        if plan:
            doctor.install(plan)
    checks: list[Check] = []
    try:
        site = open_site()
        checks.append(Check("identity", True, f"this machine is {site.builder}"))
        standing = site.state()
        checks.append(Check("ledger", True, f"{site.settings.ledger} is at {standing.tip[:12]}"))
    except PipelineError as exc:
        return [*checks, Check("ledger", False, exc.message, exc.remedy)]
    checks += _machine(site)
    if remote:
        checks += probe(site)
    return checks


def _needs_cloudstack(open_site: Callable[[], Site]) -> bool:
    try:
        return bool(sites.build_config(open_site().state().view).cloudstack.repository)
    except PipelineError:
        return False


def _machine(site: Site) -> list[Check]:
    config = sites.build_config(site.state(fresh=False).view)
    overrides = RecipeOverrides(recipe=site.settings.recipe)
    name = recipe.recipe_name(config, overrides, config.cloudstack.branch)
    file = recipe.read_recipe_file(name, recipe_folder()) if name else None
    settings = recipe.settle(config, overrides, config.cloudstack.branch, file)
    found = toolchain.find(settings.java, os.environ)
    now = int(site.clock.now().timestamp())
    made = recipe.resolve(settings, overrides, CommitFacts("", "main", "0" * 40, now), found.toolchain)
    site.settings.work.mkdir(parents=True, exist_ok=True)
    return preflight.run_checks(subject(site, FolderTree(site.settings.work / "none"), made, settings, found))

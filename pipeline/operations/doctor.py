"""Is this machine fit to build? The checks of a build, and identity and the ledger's remote besides."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from pipeline.builds import debcontrol, doctor, machine_checks, preflight, recipe, toolchain
from pipeline.builds.checks import Check
from pipeline.builds.debcontrol import Installed
from pipeline.builds.recipe import CommitFacts, RecipeOverrides
from pipeline.builds.tree import FolderTree
from pipeline.errors import LedgerMissing, PipelineError
from pipeline.ledger.exposure import REMEDY as ROTATE
from pipeline.ledger.exposure import exposed_above
from pipeline.operations import site as sites
from pipeline.operations.clocks import check_ahead
from pipeline.operations.prepare import default_recipe, preflight_memory, recipe_folder, subject
from pipeline.operations.remote import probe
from pipeline.operations.rivals import REMEDY, known_rival, look_for_rival
from pipeline.operations.settings import masked
from pipeline.operations.site import Site
from pipeline.records.builds import JavaSettings
from pipeline.records.decisions import View

__all__ = ["Check", "examine", "remedies"]


def examine(
    open_site: Callable[[], Site], *, install: bool = False, remote: bool = False, say: Callable[[str], None]
) -> list[Check]:
    """Checks everything that does not depend on a branch; `install` carries the remedies out first.

    What the ledger's trouble keeps from being checked is left out; that trouble is a finding. A host can be
    probed before there is a ledger on it. Raises PreflightFailed where a remedy cannot be carried out.
    """
    if install:
        _install(open_site, say)
    checks: list[Check] = []
    site: Site | None = None
    try:
        site = open_site()
        standing = site.state()
        checks += _identity(site, standing.view)
        checks += _alone(site)
        address = masked(site.settings.ledger)
        checks.append(Check("ledger", True, f"{address} is at {standing.tip[:12]}"))
        checks += _by_hand(site)
        checks += _machine(site, standing.view)
        checks += check_ahead(site, standing.view)
        checks += _refused_before(site)
        if remote:
            checks += probe(site)
    except PipelineError as exc:
        checks.append(Check("ledger", False, exc.message, exc.remedy))
        if remote and site is not None and isinstance(exc, LedgerMissing):
            checks += probe(site)
    return checks


def remedies(checks: Sequence[Check]) -> str | None:
    """Returns the one command that installs all that the checks miss, if there is one."""
    packages = sorted({package for check in checks if not check.ok for package in check.apt_packages})
    return f"`invoke doctor --install` installs: {' '.join(packages)}" if packages else None


def _install(open_site: Callable[[], Site], say: Callable[[str], None]) -> None:
    plan = _plan(open_site)
    if plan:
        # Which JDK there is to install, apt's lists say.
        doctor.refresh()
        plan = _plan(open_site)
    say(f"Installing: {' '.join(plan)}" if plan else "Everything is installed already.")
    doctor.install(plan)


def _missed(open_site: Callable[[], Site], installed: Installed) -> list[str]:
    """Returns the packages that the last build's checks missed and that are still missing."""
    try:
        packages = preflight.missed(preflight_memory(open_site()))
    except PipelineError:
        return []
    return [package for package in packages if not installed.has(package)]


def _refused_before(site: Site) -> list[Check]:
    left = _missed(lambda: site, preflight.installed_packages())
    if not left:
        return []
    words = f"the last build's checks missed {', '.join(left)}"
    return [Check("last build", False, words, f"Install {' '.join(left)}.", tuple(left))]


def _plan(open_site: Callable[[], Site]) -> list[str]:
    """Returns what is missing for the source that is configured; without a ledger, for the sample."""
    installed = preflight.installed_packages()
    try:
        site = open_site()
        view = site.state().view
        checks, cloudstack = _machine(site, view), not _is_sampled(site, view)
    except PipelineError:
        checks, cloudstack = [_a_jdk()], False
    base = doctor.base_plan(installed, cloudstack=cloudstack)
    # What a build missed under a name that this release does not have would only stop apt.
    before = [package for package in _missed(open_site, installed) if debcontrol.query_offered(package)]
    return list(dict.fromkeys([*base, *doctor.install_plan(checks, installed), *before]))


def _a_jdk() -> Check:
    java = JavaSettings(version="17+")
    package = machine_checks.jdk_package(java, debcontrol.query_offered)
    found = toolchain.find(java, os.environ).toolchain.java
    return Check("java", java.takes(toolchain.major(found)), found, None, (package,) if package else ())


def _is_sampled(site: Site, view: View) -> bool:
    return not (site.settings.source or sites.build_config(view).cloudstack.repository)


def _identity(site: Site, view: View) -> list[Check]:
    known = {builder.name for builder in sites.registry(view).builders}
    if site.builder in known:
        return [Check("identity", True, f"this machine is {site.builder}")]
    return [
        Check(
            "identity",
            False,
            f"this machine is {site.builder}, which the registry does not know ({', '.join(sorted(known))})",
            "Correct the name (`invoke config` shows where it comes from), or add it to the ledger's"
            " `shared/builders.json`.",
        )
    ]


def _alone(site: Site) -> list[Check]:
    rival = look_for_rival(site) or known_rival(site)
    if rival is None:
        return []
    return [Check("identity: used elsewhere", False, rival.words(site.builder), REMEDY)]


def _by_hand(site: Site) -> list[Check]:
    standing = site.state(fresh=False)
    found = [
        Check("ledger: changed by hand", False, sites.told_of(each), sites.BY_HAND_REMEDY)
        for each in standing.state.quarantined
        if each.commit == standing.tip
    ]
    found += [
        Check("ledger: a secret", False, f"commit {each.commit[:12]}, by hand: {each.said()}", ROTATE)
        for each in exposed_above(site.ledger.refs, standing, site.reducer)
    ]
    return found


def _machine(site: Site, view: View) -> list[Check]:
    config = sites.build_config(view)
    overrides = RecipeOverrides(recipe=default_recipe(site, config))
    name = recipe.recipe_name(config, overrides, config.cloudstack.branch)
    file = recipe.read_recipe_file(name, recipe_folder()) if name else None
    settings = recipe.settle(config, overrides, config.cloudstack.branch, file)
    found = toolchain.find(settings.java, os.environ)
    now = int(site.clock.now().timestamp())
    made = recipe.resolve(settings, overrides, CommitFacts("", "main", "0" * 40, now), found.toolchain)
    nothing = FolderTree(site.settings.work / "none")
    return preflight.run_machine_checks(subject(site, nothing, made, settings, found))

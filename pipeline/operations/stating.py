"""States this builder's own environment, and compares what all have stated."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipeline.builds import preflight, recipe, toolchain
from pipeline.builds.recipe import RecipeOverrides
from pipeline.edge.findings import Findings
from pipeline.errors import ComparisonIncomplete
from pipeline.operations import site as sites
from pipeline.operations.environments import compare, stated, statuses
from pipeline.operations.prepare import preflight_memory, surroundings
from pipeline.operations.site import Site
from pipeline.records.builds import Environment
from pipeline.records.comparison import EnvironmentComparison
from pipeline.records.secrets import mask_record


def compare_stated(site: Site) -> EnvironmentComparison:
    """States this builder's environment where the ledger has another, and compares what all have stated.

    Raises ComparisonIncomplete where fewer than two have.
    """
    said = statuses(site.state().view)
    own = look(site)
    before = said.get(site.builder)
    if site.builder in said and (before is None or before.environment != mask_record(own.stated)):
        site.ask({"kind": "status.set", "facts": stated(own)})
        said = statuses(site.state(fresh=False).view)
    silent = [name for name, status in said.items() if status is None or status.environment is None]
    if len(said) - len(silent) < 2:
        raise ComparisonIncomplete(
            f"Nothing is known of the environment of {_listed(silent)}.",
            remedy="Run `invoke compare --environment`, or a build, there.",
        )
    return compare(said)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) or "any other builder"


def look(site: Site) -> Environment:
    """Looks at this machine's environment, with the tools that a build would find."""
    findings = Findings(preflight_memory(site))
    settings = recipe.settle(sites.build_config(site.state(fresh=False).view), RecipeOverrides(), "")
    found = toolchain.find(settings.java, os.environ, findings=findings)
    return surroundings(site, found.toolchain, preflight.installed_packages(findings))[0]

"""Every setting with its value and where it came from: this machine's own, then the builds'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.builds import recipe
from pipeline.builds.recipe import RecipeOverrides
from pipeline.operations import site as sites
from pipeline.operations.prepare import recipe_folder
from pipeline.operations.settings import LocalSettings
from pipeline.operations.site import Site


@dataclass(frozen=True)
class Row:
    """One setting as it is shown."""

    name: str
    value: str
    origin: str


def explain(settings: LocalSettings, open_site: Callable[[], Site]) -> list[Row]:
    """Returns all rows. Raises ConfigInvalid, or what keeps the ledger from being read."""
    rows = [Row("home", str(settings.home), "where .pipeline was found")]
    rows += [Row(s.name, s.value, s.origin) for s in settings.rows]
    site = open_site()
    config = sites.build_config(site.state().view)
    overrides = RecipeOverrides(recipe=settings.recipe)
    branch = config.cloudstack.branch
    name = recipe.recipe_name(config, overrides, branch)
    file = recipe.read_recipe_file(name, recipe_folder()) if name else None
    settled = recipe.settle(config, overrides, branch, file)
    rows.append(Row("builder (this machine)", site.builder, "identity"))
    rows += [Row(f"build.{s.name}", str(s.value), s.origin) for s in recipe.explain(settled)]
    return rows

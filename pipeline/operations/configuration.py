"""Every setting with its value and where it came from: this machine's own, then the builds'."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.builds import recipe
from pipeline.builds.recipe import RecipeOverrides
from pipeline.errors import PipelineError
from pipeline.operations import site as sites
from pipeline.operations.prepare import default_recipe, recipe_folder
from pipeline.operations.settings import LocalSettings, masked
from pipeline.operations.site import Site


@dataclass(frozen=True)
class Row:
    """One setting as it is shown."""

    name: str
    value: str
    origin: str
    meaning: str = ""


@dataclass(frozen=True)
class Explained:
    """All that could be found out, and what kept the rest from being read."""

    rows: list[Row]
    problem: PipelineError | None = None


def explain(
    settings: LocalSettings,
    home_origin: str,
    open_site: Callable[[], Site],
    identity_origin: Callable[[], str],
) -> Explained:
    """Returns all rows; without the ledger, this machine's own alone and why. Raises nothing but defects."""
    rows = [Row("home", str(settings.home), home_origin, "this machine's part of the pipeline")]
    rows += [Row(s.name, s.value, s.origin, s.meaning) for s in settings.rows]
    try:
        site = open_site()
        rows.append(Row("this machine is", site.builder, identity_origin(), "its name as a builder"))
        rows += _of_builds(site, settings)
    except PipelineError as exc:
        return Explained(rows, exc)
    return Explained(rows)


def _of_builds(site: Site, settings: LocalSettings) -> list[Row]:
    config = sites.build_config(site.state().view)
    overrides = RecipeOverrides(recipe=default_recipe(site, config))
    branch = config.cloudstack.branch
    name = recipe.recipe_name(config, overrides, branch)
    file = recipe.read_recipe_file(name, recipe_folder()) if name else None
    settled = recipe.settle(config, overrides, branch, file)
    source = Row(
        "build.source",
        masked(settings.source or config.cloudstack.repository or "the embedded sample"),
        "this machine's `source`"
        if settings.source
        else "shared/build_config.json: cloudstack"
        if config.cloudstack.repository
        else "default",
    )
    return [source, *(Row(f"build.{s.name}", _text(s.value), s.origin) for s in recipe.explain(settled))]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)

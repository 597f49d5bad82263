"""What builders state of their environments in their statuses, before any build, and where they drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.compare.environment import compare_environments
from pipeline.operations import site as sites
from pipeline.records.builders import Status
from pipeline.records.builds import WHERE_AND_WHO, Environment
from pipeline.records.comparison import EnvironmentComparison, PropertyOfBuilders, StatedEnvironment
from pipeline.records.decisions import View
from pipeline.records.secrets import mask_record


def stated(environment: Environment | None) -> dict[str, Any]:
    """Returns the fact that a request carries of an environment; empty where it was not looked at."""
    if environment is None:
        return {}
    return {"environment": mask_record(environment.stated).model_dump(mode="json")}


def statuses(view: View) -> dict[str, Status | None]:
    """Returns what each registered builder has said of itself."""
    return {each.name: sites.status(view, each.name) for each in sites.registry(view).builders if each.builds}


def compare(said: Mapping[str, Status | None]) -> EnvironmentComparison:
    """Compares what builders state, each property by builder. PURE."""
    known = {name: status.environment if status else None for name, status in said.items()}
    raw = {name: each.model_dump(mode="json") if each else None for name, each in known.items()}
    names = list(raw)
    values: dict[str, dict[str, str | None]] = {}
    for other in names[1:]:
        for each in compare_environments(raw[names[0]], raw[other]):
            row = values.setdefault(each.name, {})
            row[names[0]], row[other] = each.left, each.right
    differences = [
        PropertyOfBuilders(
            name=name,
            # A builder that has the first one's value is in no difference from it.
            values={each: row.get(each, row[names[0]]) for each in names},
            drift=name.partition(".")[0] not in WHERE_AND_WHO,
        )
        for name, row in values.items()
        if any(value is not None for value in row.values())
    ]
    fingerprints = {each.fingerprint if each else None for each in known.values()}
    return EnvironmentComparison(
        alike=len(fingerprints) == 1 and None not in fingerprints,
        builders=[
            StatedEnvironment(builder=name, fingerprint=each.fingerprint if each else None, environment=each)
            for name, each in known.items()
        ],
        differences=differences,
    )


def drift(said: Mapping[str, Status | None]) -> list[str]:
    """Returns in words that builders are not set up alike; those that state nothing are left out. PURE."""
    stating = {name: status for name, status in said.items() if status and status.environment}
    found = compare(stating)
    if found.alike or len(stating) < 2:
        return []
    names = [each.name for each in found.differences if each.drift]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return [
        f"{' and '.join(stating)} are not set up alike ({', '.join(names[:4])}{more}):"
        " `invoke compare --environment` shows it."
    ]

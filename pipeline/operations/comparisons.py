"""Comparisons of builds as they are kept: a summary in the ledger, the whole beside the artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipeline.edge.plain_file import read_plain
from pipeline.errors import NotFound, PipelineError, RecordInvalid, UsageError
from pipeline.operations import site as sites
from pipeline.operations.site import Site
from pipeline.records import paths
from pipeline.records.base import dump, load
from pipeline.records.comparison import (
    ComparedJob,
    Comparison,
    Comparisons,
    ComparisonSummary,
    KeptComparison,
)
from pipeline.records.decisions import View
from pipeline.records.jobs import Job

#: No builder's folder begins with a dot, so that nobody takes it for artifacts.
_FOLDER: Final = ".comparisons"
_FILES_KEPT: Final = 50
_INPUTS: Final = 10


def summarise(found: Comparison, jobs: Sequence[Job]) -> ComparisonSummary:
    """Returns what the ledger keeps of a comparison of these jobs' builds. PURE."""
    counted: dict[str, int] = {}
    for artifact in found.artifacts:
        counted[str(artifact.verdict)] = counted.get(str(artifact.verdict), 0) + 1
    return ComparisonSummary.model_validate(
        {
            "branch": jobs[0].branch,
            "commit": jobs[0].commit,
            "builds": [ComparedJob(builder=job.assigned_to or "", job_id=job.id) for job in jobs],
            "verdict": found.verdict,
            "independent": found.independent,
            "artifacts": counted,
            "groups": found.groups,
            "inputs": [each.name[:200] for each in found.inputs[:_INPUTS]],
            "causes": {each.name[:60]: each.leaves for each in found.causes[:20]},
        }
    )


def keep(site: Site, found: Comparison, jobs: Sequence[Job]) -> None:
    """Keeps a comparison: the whole in a file, a summary in the ledger. What cannot be kept is said."""
    folder = site.settings.artifacts / _FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / ("+".join(job.id for job in jobs)[:200] + ".json")
        place.with_suffix(".new").write_bytes(dump(found))
        place.with_suffix(".new").replace(place)
        for old in sorted(folder.glob("*.json"), key=_age)[:-_FILES_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as exc:
        site.say(f"Note: the comparison is not kept in {folder}: {exc.strerror}.")
    summary = summarise(found, jobs)
    if any(_same(each, summary) for each in kept(site.state(fresh=False).view)[-1:]):
        return
    try:
        site.ask({"kind": "comparison.record", "summary": summary.model_dump(mode="json")})
    except PipelineError as exc:
        site.say(f"Note: the ledger has no record of this comparison: {exc.message}")


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _same(one: KeptComparison, other: ComparisonSummary) -> bool:
    return one.model_dump(exclude={"id", "by", "at"}) == other.model_dump()


def kept(view: View) -> list[KeptComparison]:
    """Returns the comparisons that the ledger keeps, oldest first."""
    return list(sites.record(view, Comparisons, paths.COMPARISONS).comparisons)


def latest(view: View, most: int) -> list[KeptComparison]:
    """Returns each branch's last comparison, the newest first."""
    return list({each.branch: each for each in kept(view)}.values())[::-1][:most]


def read_comparison(place: str) -> Comparison:
    """Reads what `invoke compare --json` printed. Raises UsageError, RecordInvalid; nothing is filled in."""
    try:
        data = read_plain(Path(place).expanduser(), follow=True)
    except (OSError, RuntimeError) as exc:
        raise UsageError(f"`{place}` cannot be read: {exc}.") from exc
    found = load(Comparison, data, place)
    if missing := sorted(set(Comparison.model_fields) - found.model_fields_set):
        raise RecordInvalid(
            place, missing[0], "it is not there", remedy="Compare again: `invoke compare --json`."
        )
    return found


def find_comparison(site: Site, place: str) -> Comparison:
    """Reads a comparison by the file that has it; or, where it was made here, by its id in the ledger, or by
    a job: then it is the newest of that.

    Raises as `read_comparison`, and NotFound.
    """
    every = reversed(kept(site.state(fresh=False).view))
    one = next((e for e in every if place in (e.id, *(build.job_id for build in e.builds))), None)
    if one is None or Path(place).exists():
        return read_comparison(place)
    file = whole(site, one)
    if file is None:
        raise NotFound(
            f"The comparison {place} is not on this machine: {one.by} made it.",
            reason="not-found",
            remedy="Compare here, or bring what `invoke compare --json` said there, as a file.",
        )
    return read_comparison(str(file))


def whole(site: Site, one: KeptComparison) -> Path | None:
    """Returns the file that holds the whole of a comparison, if it was made on this machine."""
    place = site.settings.artifacts / _FOLDER / ("+".join(each.job_id for each in one.builds)[:200] + ".json")
    return place if place.is_file() else None

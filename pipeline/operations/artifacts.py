"""The finished builds that this machine keeps: list, verify, prune."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.builds.artifact_sets import (
    ArtifactSet,
    Problem,
    PrunePlan,
    Rank,
    carry_out,
    leftovers,
    list_sets,
    plan_prune,
    verify,
)
from pipeline.errors import NotFound, UsageError
from pipeline.operations import journal
from pipeline.operations import site as sites
from pipeline.operations.queue import archived
from pipeline.operations.site import Site
from pipeline.records.decisions import View
from pipeline.records.locks import Token

__all__ = ["ArtifactSet", "Problem", "PrunePlan", "check", "folder_of", "kept", "prune"]


def kept(site: Site) -> list[ArtifactSet]:
    """Returns the sets of this machine, newest first."""
    return list_sets(site.settings.artifacts)


def check(site: Site, job_id: str | None) -> dict[str, list[Problem]]:
    """Holds the files of one job, or of every build kept here, against their manifests.

    Raises NotFound for a job of which nothing is kept here.
    """
    sets = [s for s in kept(site) if job_id is None or s.name.split(".")[0] == job_id]
    if job_id is not None and not sets:
        raise NotFound(
            f"No artifacts of {job_id} are kept here.",
            reason="not-found",
            remedy="`invoke artifacts.list` shows what is; another builder's are on that builder.",
        )
    names = Counter(each.name for each in sets)
    found = {}
    for each in sets:
        name = each.name if names[each.name] == 1 else str(each.folder.relative_to(site.settings.artifacts))
        found[name] = _problems(each)
    return found


def _problems(each: ArtifactSet) -> list[Problem]:
    if each.manifest is None:
        return [Problem("manifest", "manifest.json", each.problem or "cannot be read")]
    made = each.manifest
    problems = verify(made, each.folder)
    named = f"{made.job_id}.{made.token or 'none'}"
    if each.name != named:
        problems.insert(
            0, Problem("manifest", "manifest.json", f"is that of {named}, in a folder of another")
        )
    return problems


def prune(site: Site, *, keep: int, really: bool) -> PrunePlan:
    """Plans, and with `really` carries out, the removal of old sets; never one that is referred to.

    Open jobs refer to theirs, each builder's status to its last build, and journal and outbox of this machine
    to what it has still to report.
    """
    if keep < 0:
        raise UsageError(f"Cannot keep {keep} builds.", remedy="Give a number, 0 or more.")
    root = site.settings.artifacts
    # The sets first, the ledger last: so it knows the job of every set that is listed. A report goes from the
    # journal through the outbox into the ledger, and is met in one of them when they are read in this order.
    sets, unfinished = list_sets(root), leftovers(root)
    unreported = _unreported(site)
    plan = _plan(site.state().view, sets, unfinished, keep, unreported)
    if really:
        carry_out(plan)
    return plan


def _unreported(site: Site) -> set[str]:
    """Returns the jobs that this machine has still something to report of."""
    jobs = {journal.job_of(folder) for folder in journal.attempts(site.settings.work)}
    return jobs | {str(entry.request.get("job_id", "")) for entry in site.ledger.store.entries()}


def _plan(
    view: View, sets: Sequence[ArtifactSet], unfinished: Sequence[Path], keep: int, unreported: set[str]
) -> PrunePlan:
    """Decides what may go, by what the ledger says of jobs and builders."""
    jobs = sites.jobs(view).jobs
    referenced = unreported | {j.id for j in jobs if not j.ended}
    for builder in sites.registry(view).builders:
        said = sites.status(view, builder.name)
        if said is not None and said.last_build is not None:
            referenced.add(said.last_build.id)
    running = [j for j in jobs if j.status == "running"]
    # Only of jobs of THIS ledger: another's tokens tell nothing about the order.
    known = {j.id for j in jobs} | {j.id for _, j in archived(view)}
    return plan_prune(
        sets,
        unfinished,
        keep=keep,
        referenced=referenced,
        running_since=min([j.started_at for j in running if j.started_at], default=None),
        granted=lambda one: (
            _rank(one.manifest.token) if one.manifest and one.manifest.job_id in known else None
        ),
        running_from=min([rank for j in running if (rank := _rank(j.token))], default=None),
    )


def _rank(token: str | None) -> Rank | None:
    """Returns a token's place in the order of all grants; None for what is no token."""
    try:
        parsed = Token.parse(token or "")
    except ValueError:
        return None
    return parsed.epoch, parsed.counter


def folder_of(site: Site, job_id: str) -> Path | None:
    """Returns the folder of a job's set on this machine, or None."""
    return next((s.folder for s in kept(site) if s.name.split(".")[0] == job_id), None)

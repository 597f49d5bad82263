"""Sets of files that machines keep or offer: found, compared, and chosen to be promoted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.operations import site as sites
from pipeline.operations.promote import Order
from pipeline.operations.promoted import CURRENT
from pipeline.records.comparison import (
    ComparedArtifact,
    ComparedBuild,
    ComparedSide,
    Comparison,
    Verdict,
    Wire,
)
from pipeline.records.decisions import View
from pipeline.records.jobs import Job
from tests.simulation.dice import Dice
from tests.simulation.disk import VirtualPath
from tests.simulation.node import Node

if TYPE_CHECKING:
    from tests.simulation.promoting import Campaign
    from tests.simulation.world import World
#: The branches on which something is promoted.
BRANCHES = ("open", "secret")


def jobs_of(view: View, of: Campaign) -> list[Job]:
    """Returns the builds of a campaign that succeeded and are to be seen, one of each builder."""
    found = {
        job.assigned_to: job
        for job in sites.jobs(view).jobs
        if (job.branch, job.commit, job.outcome) == (of.branch, of.commit, "succeeded") and job.manifest
    }
    return list(found.values())


def set_of(world: World, job: Job) -> VirtualPath | None:
    """Returns where the files of a build lie, on whatever machine."""
    for node in world.nodes:
        root = VirtualPath(node, "artifacts", job.assigned_to or "", job.branch)
        for one in root.iterdir() if root.is_dir() and not node.off else []:
            if one.name.startswith(f"{job.id}.{job.token}"):
                return one
    return None


def digests_in(folder: VirtualPath) -> dict[str, str]:
    """Returns the SHA-256 of each package in a set."""
    return {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest()
        for one in folder.iterdir()
        if one.name.endswith(".deb")
    }


def compared(left: Job, right: Job, digests: Sequence[Mapping[str, str]]) -> Comparison:
    """Stands for `invoke compare`: what it says of two sets of files."""
    artifacts = []
    for name in sorted({*digests[0], *digests[1]}):
        sides = [ComparedSide(size_bytes=1, sha256=each.get(name)) for each in digests]
        verdict = Verdict.AGREE if sides[0] == sides[1] else Verdict.DIFFER
        artifacts.append(ComparedArtifact(name=name, verdict=verdict, left=sides[0], right=sides[1]))
    builds = [ComparedBuild(builder=j.assigned_to or "", job_id=j.id, commit=j.commit) for j in (left, right)]
    return Comparison(
        verdict=Verdict.AGREE if digests[0] == digests[1] else Verdict.DIFFER,
        scope="builds",
        independent=left.assigned_to != right.assigned_to,
        left=left.id,
        right=right.id,
        artifacts=artifacts,
        left_build=builds[0],
        right_build=builds[1],
        wire=Wire(bytes=1, round_trips=1),
        duration_seconds=1.0,
    )


def order_of(node: Node, view: View, of: Campaign, dice: Dice) -> Order | None:
    """Compares what builders made of a campaign, and returns a set to promote that others agree with."""
    jobs = jobs_of(view, of)
    places = {job.id: place for job in jobs if (place := set_of(node.world, job))}
    jobs = [job for job in jobs if job.id in places]
    if len(jobs) < 2:
        return None
    digests = {job.id: digests_in(places[job.id]) for job in jobs}
    own = dice.pick(jobs)
    others = [job for job in jobs if job is not own and digests[job.id] == digests[own.id]]
    found = [compared(own, job, [digests[own.id], digests[job.id]]) for job in others]
    folder: Any = places[own.id]
    return Order(found, own.id, folder)


def sets_of(world: World, branch: str) -> list[VirtualPath]:
    """Returns the promoted sets of a branch on all machines, by their numbers."""
    places = [VirtualPath(node, "promoted", branch) for node in world.nodes if not node.off]
    found = [one for place in places if place.is_dir() for one in place.iterdir() if one.name.isdigit()]
    return sorted(found, key=lambda one: (one.name, one.node.name))


def offered(world: World, dice: Dice, older: int = 0) -> VirtualPath | None:
    """Returns a promoted set that some machine offers: its current one, or the one so many before."""
    places = [
        VirtualPath(node, "promoted", branch)
        for node in world.nodes
        for branch in BRANCHES
        if not node.off and VirtualPath(node, "promoted", branch, CURRENT).exists()
    ]
    if not places:
        return None
    place = dice.pick(places)
    names = sorted(one.name for one in place.iterdir() if one.name.isdigit())
    current = (place / CURRENT).read_bytes().decode()
    at = names.index(current) - older if current in names else -1
    return place / names[at] if at >= 0 else None

"""Compares what builders made of one commit: by the ledger's jobs, their manifests, and the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pipeline.builds.artifacts import set_folder
from pipeline.builds.environment import architecture
from pipeline.builds.inputs import CHANGELOG, CONTROL, expected_packages
from pipeline.builds.source import Resolved, Sources
from pipeline.builds.tree import GitTree
from pipeline.compare.inputs import at
from pipeline.compare.manifests import Claimed
from pipeline.compare.showing import NOT_SHOWING, Shows
from pipeline.compare.wire import Line
from pipeline.edge.plain_file import read_plain
from pipeline.errors import CommandFailed, ComparisonIncomplete, RecordInvalid, SourceError, UsageError
from pipeline.operations import site as sites
from pipeline.operations.choosing import Asked, choose
from pipeline.operations.comparisons import keep
from pipeline.operations.pairs import MOST_BUILDS, Looked, compare_pairs, equal_groups, named
from pipeline.operations.places import Known, Place, place_of
from pipeline.operations.queue import archived, manifest_path
from pipeline.operations.rounds import insist_on_reveals
from pipeline.operations.sides import hash_files, open_together, wire_of
from pipeline.operations.site import Site
from pipeline.records.base import load_json
from pipeline.records.comparison import Comparison
from pipeline.records.decisions import View
from pipeline.records.jobs import Job

#: The largest list that is read of what lies beside artifacts.
_LIST_BYTES: Final = 32 << 20
_FAR_LIST_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class Side:
    """Where one build's files lie. `open` starts a reader there, and `read` returns a small file's bytes, or
    None where it cannot be read.
    """

    job: Job
    root: str
    open: Callable[[], Line]
    read: Callable[[str], bytes | None]

    @property
    def name(self) -> str:
        """Returns it in words."""
        return f"{self.job.assigned_to}, {self.job.id}"


#: Finds where a job's files can be read; None where this way does not lead there.
Reach = Callable[[Job], Side | None]


def folder_of(job: Job) -> Path:
    """Returns the folder of a job's set, below whatever its builder keeps its artifacts in."""
    return set_folder(Path(), job.assigned_to or "", job.branch, job.id, job.token or "none")


def reach_here(site: Site, start: Callable[[str], Line]) -> Reach:
    """Returns the way to sets that lie on this machine. `start` opens a reader, given the side's name."""

    def reach(job: Job) -> Side | None:
        folder = site.settings.artifacts / folder_of(job)
        if not folder.is_dir():
            return None

        def read(name: str) -> bytes | None:
            try:
                return read_plain(folder / name, limit=_LIST_BYTES)
            except OSError:
                return None

        return Side(job, str(folder), lambda: start(f"{job.assigned_to}, {job.id}"), read)

    return reach


def reach_far(known: Known, start: Callable[[Place], Line]) -> Reach:
    """Returns the way to sets on other machines, as far as it is set here where a builder keeps its own.

    `start` opens a reader there. What is read of a small file travels on the same line.
    """

    def reach(job: Job) -> Side | None:
        try:
            there = place_of(job.assigned_to or "", "The builder", known)
        except UsageError:  # nobody says here where it keeps them
            return None
        if there.host is None:
            return None
        name = f"{job.assigned_to}, {job.id}"
        place = replace(there, path=there.path / folder_of(job), typed=name)
        opened: list[Line] = []

        def begin() -> Line:
            opened.append(start(place))
            return opened[0]

        def read(name: str) -> bytes | None:
            answer = opened[0].ask({"ask": "text", "file": name, "most": _FAR_LIST_BYTES})
            text = answer.get("text")
            return os.fsencode(text) if isinstance(text, str) else None

        return Side(job, str(place.path), begin, read)

    return reach


def all_jobs(view: View) -> list[Job]:
    """Returns every job, also sealed ones, in commit order."""
    return [*reversed([job for _, job in archived(view)]), *sites.jobs(view).jobs]


def compare_builds(
    site: Site, asked: Asked, ways: Sequence[Reach], showing: Shows = NOT_SHOWING
) -> Comparison:
    """Compares what two builders, or more, have made of one commit, and keeps what came of it.

    `showing` shows leaves that differ, once verdicts are known. Raises NotFound and ComparisonIncomplete
    where there are no two builds, or a side cannot be read at all; NotRevealed while a builder has committed
    to what it made and not said it yet.
    """
    begun = site.clock.boottime()
    view = site.state().view
    jobs = choose(all_jobs(view), asked)
    insist_on_reveals(view, jobs)
    if len(jobs) > MOST_BUILDS:
        raise UsageError(
            f"{len(jobs)} builds are too many at once: {MOST_BUILDS} at the most.", remedy="Name some: --job."
        )
    sides = [_side(job, ways) for job in jobs]
    claimed = [_claimed(site, view, job) for job in jobs]
    control = _control(site, jobs[0], claimed)
    site.say(f"Hashing what {' and '.join(dict.fromkeys(str(job.assigned_to) for job in jobs))} have made …")
    with ExitStack() as stack:
        lines = open_together([side.open for side in sides], stack, site.say)
        connecting = site.clock.boottime() - begun
        files = hash_files(lines, [side.root for side in sides])
        builds = [
            Looked(side.name, side.root, of, line, there, side.read)
            for side, of, line, there in zip(sides, claimed, lines, files, strict=True)
        ]
        groups = equal_groups(builds, control)
        first, *others = compare_pairs(builds, groups, control, site.say, showing)
        wire = wire_of(lines, connecting)
    found = Comparison(
        **{name: getattr(first, name) for name in type(first).model_fields},
        scope="builds",
        groups=named(builds, groups),
        pairs=others,
        wire=wire,
        duration_seconds=site.clock.boottime() - begun,
    )
    keep(site, found, jobs)
    return found


def _side(job: Job, ways: Sequence[Reach]) -> Side:
    side = next((found for way in ways if (found := way(job)) is not None), None)
    if side is None:
        raise ComparisonIncomplete(
            f"What {job.assigned_to} made in {job.id} is not on this machine.",
            remedy="If SSH leads there, say in this machine's config.toml where it keeps its artifacts:"
            f' `[builders.{job.assigned_to}]`, `root = "/PATH"`. Or compare on that machine.',
        )
    return side


def _claimed(site: Site, view: View, job: Job) -> Claimed:
    """Reads the manifest that was reported for a job; one that cannot be read is none, and said."""
    path = manifest_path(job)
    data = view.read(path) if path else None
    manifest: Any = None
    try:
        manifest = load_json(data or b"", path or "manifest.json")
    except RecordInvalid as exc:
        site.say(f"The manifest of {job.id} cannot be read: {exc.message}")
    return Claimed(job.assigned_to or "", job.id, job.commit, job.token, manifest)


def _control(site: Site, job: Job, claimed: Sequence[Claimed]) -> list[str] | None:
    """Returns which packages a commit makes, by this machine's own copy of its source; None without one."""
    source = at(claimed[0].manifest, ["recipe", "source"])
    if at(claimed[0].manifest, ["recipe", "packages"]) is not True or not isinstance(source, str):
        return None
    clone = Sources(site.settings.cache).clone_of(Resolved(source, job.branch, job.commit, 0))
    built_for = at(claimed[0].manifest, ["environment", "architecture"])
    try:
        if not (clone / "HEAD").is_file():
            raise SourceError("there is no copy")
        tree = GitTree(clone, job.commit, lambda path: path in (CONTROL, CHANGELOG))
        return expected_packages(tree, built_for if isinstance(built_for, str) else architecture())
    except (SourceError, CommandFailed):
        site.say("Note: the source is not here, so which packages it makes is taken from the manifests.")
        return None

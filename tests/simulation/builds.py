"""What a build leaves on its machine: a journal, and a set of artifacts. Around both the product's own code.

`operations.attempt`, `journal`, `recover` and `artifacts` run as they are. Stand-ins are what they do to the
machine: the build itself, its signals and threads, and what reads or writes a real folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from pipeline.builds import artifact_sets
from pipeline.builds.artifact_sets import ArtifactSet
from pipeline.builds.artifacts import MANIFEST, new_manifest, slug
from pipeline.operations import artifacts, attempt, journal, recover
from pipeline.operations.attempt import Interruption
from pipeline.operations.construct import Built
from pipeline.records.base import dump, load
from pipeline.records.builders import System
from pipeline.records.builds import Artifact, Failure, FailureClass, Manifest
from pipeline.records.jobs import Job
from tests.simulation import disk
from tests.simulation.dice import Dice
from tests.simulation.disk import VirtualPath
from tests.simulation.invariants import violated

if TYPE_CHECKING:
    from tests.simulation.pulse import VirtualSite

#: Which program runs: each strand has a context of its own.
MAKER: ContextVar[str] = ContextVar("MAKER")
_FACTS = System(cpu_usage=1.0, memory_used_gb=1.0, disk_free_gb=1.0)
_load = lru_cache(512)(lambda data: load(Manifest, data, MANIFEST))


def construct(
    site: VirtualSite,
    job: Job,
    token: str,
    number: int,
    prepared: Any,
    cancelled: Callable[[], str | None],
    report_progress: Callable[[dict[str, Any]], None],
) -> Built:
    """Stands for a build: time passes, and at the end there are files, or a failed test."""
    dice = Dice(site.node.world.seed, "build", job.id, number)
    report_progress({"stage": "b"})
    promoting = site.node.world.promoting
    begun, takes = site.clock.boottime(), dice.around(dice.pick((4.0, 30.0, 90.0, 600.0)))
    while site.clock.boottime() < begun + takes and not cancelled():
        site.clock.sleep(min(20.0, takes))
    outcome = dice.pick(("succeeded", "succeeded", "failed"))
    if why := cancelled():
        failure = Failure(failure_class=FailureClass.CANCELLED, message=f"cancelled: {why}")
        return Built(status="cancelled", failure=failure, payloads={"log": b"built\n"})
    files = {f"{job.id}.deb": f"{job.id}.deb of {token}".encode()} if outcome == "succeeded" else {}
    facts: dict[str, Any] = {}
    if promoting is not None:
        files, facts = promoting.made_by(site.node, job, number, files)
    manifest = _collect(site, job, token, number, files, facts)
    return Built(
        status="succeeded" if files else "failed",
        failure=None if files else Failure(failure_class=FailureClass.TEST, message="a test failed"),
        artifacts=list(manifest.artifacts),
        payloads={"log": b"built\n", "manifest": dump(manifest)},
    )


def _collect(
    site: VirtualSite,
    job: Job,
    token: str,
    number: int,
    files: Mapping[str, bytes],
    of_build: Mapping[str, Any],
) -> Manifest:
    """Keeps a set as the product does: under a hidden name, synced, then renamed, then the folders above."""
    root: Any = site.settings.artifacts
    group = root / site.builder / slug(job.branch)
    work = group / f".partial-{site.program.name}-{job.id}.{token}"
    work.mkdir(parents=True)
    made = []
    for name, data in files.items():
        disk.write_synced(work / name, data)
        site.step("artifact synced")
        sums = {"sha256": hashlib.sha256(data).hexdigest()}
        made.append(Artifact(name=name, path=name, size_bytes=len(data), checksums=sums))
    empty = new_manifest(
        job_id=job.id, server=site.builder, branch=job.branch, commit=job.commit,
        created_at=site.clock.now(), token=token, attempt=number,
    )  # fmt: skip
    facts = {"artifacts": made, "artifact_count": len(made)}
    manifest = empty.model_copy(
        update={
            **of_build,
            **facts,
            "total_size_bytes": sum(one.size_bytes for one in made),
            "build_dir": "/set",
        }
    )
    disk.write_synced(work / MANIFEST, dump(manifest))
    disk.flush_folder(work)
    work.rename(group / f"{job.id}.{token}")
    for folder in (group, group.parent, root, root.parent):
        disk.flush_folder(folder)
    site.step("artifacts kept")
    return manifest


# ---------------------------------------------------------------- the store of artifacts


def list_sets(root: Any) -> list[ArtifactSet]:
    """Stands for the product's, on a virtual disk: the sets, newest first."""
    sets = []
    root.node.disk_step("sets listed")
    for names in sorted(_sets(root)):
        if names[2][0] != ".":
            folder = path = root / "/".join(names)
            if not (folder / MANIFEST).exists():
                violated("sets-are-whole", f"{folder} has no manifest")
            sets.append(ArtifactSet(path, _load((folder / MANIFEST).read_bytes()), None, 1))
    return sorted(sets, key=artifact_sets._age, reverse=True)


def leftovers(root: VirtualPath) -> list[VirtualPath]:
    """Stands for the product's: what processes that are gone have left unfinished."""
    living = root.node.programs
    hidden = [names for names in _sets(root) if names[2][0] == "."]
    return [root / "/".join(names) for names in hidden if names[2].split("-")[1] not in living]


def _sets(root: VirtualPath) -> list[tuple[str, str, str]]:
    """Returns builder, branch and name of every set, and of what is to become or was one."""
    return [
        (builder, branch, name)
        for builder, branches in root.folder().names.items()
        for branch, sets in branches.names.items()
        for name in sets.names
    ]


# ---------------------------------------------------------------- in the product's place


def _write_completion(real: Any) -> Any:
    """As the product's; from then on the report is kept, which is checked."""

    def write_completion(folder: VirtualPath, request: Any, payloads: Any, step: Any) -> None:
        real(folder, request, payloads, step)
        folder.node.world.keeping.kept(folder.node, request)

    return write_completion


def _put_aside(folder: VirtualPath) -> VirtualPath:
    violated("reports-are-whole", f"{folder.node.name} finds half a report of {folder.name}")
    return folder


def _is_no_defect(exc: Exception) -> Any:
    """What the product would call a defect of its own, and end the job for, is one."""
    violated("no-defect", f"an attempt failed: {type(exc).__name__}: {exc}")


@contextmanager
def virtual_attempts() -> Iterator[None]:
    """Lets attempts, recovery and pruning work on virtual disks for a while."""
    quiet: Callable[..., AbstractContextManager[None]] = lambda *words: nullcontext()  # noqa: E731
    trees = SimpleNamespace(rmtree=disk.remove_tree)
    stand_ins: list[tuple[Any, str, Any]] = [
        (attempt, "construct", construct),
        (attempt, "system_facts", lambda folder: _FACTS),
        (attempt, "of_defect", _is_no_defect),
        (attempt, "_removing", quiet),
        (Interruption, "listening", quiet),
        (journal, "read_plain", disk.read_plain),
        (journal, "_write_synced", lambda place, data: disk.write_synced(place, data)),
        (journal, "flush_folder", lambda folder: disk.flush_folder(folder)),
        (artifact_sets, "flush_folder", lambda folder: disk.flush_folder(folder)),
        (journal, "shutil", trees),
        (journal, "write_completion", _write_completion(journal.write_completion)),
        (journal, "put_aside", _put_aside),
        (recover, "artifact_leftovers", leftovers),
        (recover, "shutil", trees),
        (artifacts, "list_sets", list_sets),
        (artifacts, "leftovers", leftovers),
        (artifact_sets, "shutil", trees),
        (artifact_sets, "process_mark", MAKER.get),
    ]
    with ExitStack() as stack:
        for owner, name, stand_in in stand_ins:
            stack.enter_context(patch.object(owner, name, stand_in))
        yield

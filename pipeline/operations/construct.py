"""Makes what a job asks for, on this machine: workspace, stand-ins, build, artifacts, logs.

Nothing here talks to the ledger. What a build left, good or bad, comes back as one value.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.builds import (
    artifacts,
    commands,
    logs,
    maven_repository,
    reproducible,
    runner,
    substitutes,
    workspace,
)
from pipeline.builds.commands import Surroundings
from pipeline.builds.environment import architecture
from pipeline.builds.events import StructuredLogWriter
from pipeline.builds.inputs import collect_inputs
from pipeline.builds.runner import BuildOutcome
from pipeline.builds.substitutes import Machine
from pipeline.builds.workspace import Workspace
from pipeline.edge.identity import user_home
from pipeline.edge.supervisor import Standby
from pipeline.errors import PipelineError
from pipeline.operations.failures import failure_of, shown
from pipeline.operations.prepare import Prepared
from pipeline.operations.progress import ProgressLine
from pipeline.operations.site import Site
from pipeline.records.base import dump
from pipeline.records.builds import (
    Artifact,
    Download,
    Environment,
    Failure,
    Inputs,
    Manifest,
    ModuleTime,
    Recipe,
    Stage,
)
from pipeline.records.jobs import Job
from pipeline.records.secrets import mask_record

RAW_LOG = "raw.log"
EVENTS = "events.json"


@dataclass(frozen=True)
class Built:
    """What a build left. `payloads` go into the ledger; `folder` is the set of artifacts, if there is one.

    `environment` is the machine's own.
    """

    status: Literal["succeeded", "failed", "cancelled"]
    failure: Failure | None = None
    stages: list[Stage] = field(default_factory=list)
    modules: list[ModuleTime] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    folder: Path | None = None
    log: Path | None = None
    payloads: dict[str, bytes] = field(default_factory=dict)
    environment: Environment | None = None


def construct(
    site: Site,
    job: Job,
    token: str,
    attempt: int,
    prepared: Prepared,
    cancelled: Callable[[], str | None],
    report_progress: Callable[[dict[str, Any]], None],
) -> Built:
    """Builds a commit. A build that fails is a value; PipelineError means that there was none."""
    clock, settings = site.clock, site.settings
    begun = clock.boottime()
    recipe = prepared.recipe
    if not prepared.place.fixed:
        recipe = recipe.model_copy(update={"build_path": prepared.place.build_path(job.id, attempt)})
    with Standby() as standby:
        room, stages = _make_ready(site, job, attempt, prepared, cancelled)
        maven_home = Path(recipe.toolchain.maven_home if recipe.toolchain else "")
        machine = Machine(os.environ, user_home(), prepared.found.path, maven_home, settings.cache)
        stand_ins = substitutes.prepare(
            recipe, room.root, room.home, room.repository, machine, prepared.recipe_folder, cancelled
        )
        identity = _identity(site, job, attempt)
        with stand_ins, StructuredLogWriter(room.root / EVENTS, identity, clock) as events:
            same = reproducible.prepare(recipe, room.bin, prepared.found.path)
            for note in (*stand_ins.notes, *same):
                events.event("info", note)
            around = Surroundings(
                f"{job.id}.{token}", prepared.found.path, stand_ins.environment, stand_ins.properties
            )
            if site.variation is not None:
                around = site.variation.of_surroundings(around, room)
            line = ProgressLine(site.say, report_progress, events.event, site.live)
            site.step("before the build")
            outcome = runner.build(
                recipe,
                room,
                around,
                log_path=room.root / RAW_LOG,
                on_event=line,
                cancelled=cancelled,
                history=prepared.history,
                standby=standby,
            )
            outcome = _shown(outcome)
            if outcome.failure is None and not outcome.packages:
                for note in reproducible.settle_jars(recipe, outcome.jars):
                    events.event("info", note)
            stages += outcome.stages
            site.step("build ended")
            facts = _facts(prepared, recipe, room, around, outcome, stand_ins.downloads())
            if site.variation is not None:
                facts.manifest["environment"] = site.variation.of_environment(facts.manifest["environment"])
            built = _keep(site, job, token, attempt, facts, room, outcome, stages, events, begun, stand_ins)
            return replace(built, environment=prepared.environment)


def _shown(outcome: BuildOutcome) -> BuildOutcome:
    """Returns an outcome without secrets that a program has printed; the raw log has them still."""
    return replace(
        outcome,
        failure=shown(outcome.failure) if outcome.failure else None,
        modules=tuple(mask_record(module) for module in outcome.modules),
    )


def _make_ready(
    site: Site, job: Job, attempt: int, prepared: Prepared, cancelled: Callable[[], str | None]
) -> tuple[Workspace, list[Stage]]:
    """Makes the attempt's directory with tree and Maven repository, or finds that of the one resumed."""
    if prepared.resumable is not None:
        return prepared.resumable, []
    begun, cache = site.clock.boottime(), site.settings.cache
    room = workspace.make(prepared.place, job.id, attempt)
    site.step("workspace made")
    left_out = [_folder_of(jar.coordinates) for jar in prepared.recipe.substitutes.jars]
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(workspace.fill, room, cache, left_out)
        notes = prepared.sources.until(cancelled).checkout(prepared.resolved, room.tree)
    if dropped := filling.result().dropped:
        notes.append(f"{dropped} damaged files left the Maven cache.")
    for note in notes:
        site.say(f"Note: {note}")
    site.step("checked out")
    return room, [_stage("source", site.clock.boottime() - begun, failed=False)]


def _keep(
    site: Site,
    job: Job,
    token: str,
    attempt: int,
    facts: _Facts,
    room: Workspace,
    outcome: BuildOutcome,
    stages: list[Stage],
    events: StructuredLogWriter,
    begun: float,
    stand_ins: substitutes.Prepared,
) -> Built:
    """Keeps a build's files and logs. Whatever fails here makes the build a failed one, with its log."""
    failure = outcome.failure
    folder: Path | None = None
    manifest = artifacts.new_manifest(
        job_id=job.id,
        server=site.builder,
        branch=job.branch,
        commit=job.commit,
        created_at=site.clock.now(),
        token=token,
        attempt=attempt,
    )
    manifest = manifest.model_copy(
        update={**facts.manifest, "stages": stages, "complete": not outcome.resumed}
    )
    started = site.clock.boottime()
    # Side by side: the files to their places, and the log read once.
    with ThreadPoolExecutor(2) as pool:
        scanning = pool.submit(logs.scan, outcome.log_path)
        texts = dict(facts.texts)
        if failure is None:
            inputs, lists = _inputs(site, facts.recipe, room)
            manifest = manifest.model_copy(update={"inputs": inputs})
            texts |= lists
        harvesting = pool.submit(_harvest, site, room, stand_ins) if failure is None else None
        try:
            manifest = _collect(site, manifest, outcome, room, texts)
            folder = artifacts.set_folder(site.settings.artifacts, site.builder, job.branch, job.id, token)
        except PipelineError as exc:
            failure = failure or failure_of(exc)
    if harvesting is not None:
        harvesting.result()
    stages = [*stages, _stage("artifacts", site.clock.boottime() - started, failed=folder is None)]
    manifest = manifest.model_copy(update={"stages": stages})
    site.step("artifacts kept")
    status: Literal["succeeded", "failed", "cancelled"] = "succeeded"
    if failure is not None:
        status = "cancelled" if failure.failure_class == "cancelled" else "failed"
    seconds = site.clock.boottime() - begun
    log_facts = logs.LogFacts(
        job_id=job.id,
        builder=site.builder,
        branch=job.branch,
        commit=job.commit,
        status=status,
        duration_seconds=seconds,
        failure=failure,
        stages=stages,
        modules=outcome.modules,
    )
    structured = events.close(status, outcome.exit_status, round(seconds, 1))
    payloads = {
        "manifest": dump(manifest),
        "log": logs.readable(scanning.result(), log_facts),
        "summary": logs.summary_markdown(log_facts, manifest).encode(),
        "structured": dump(structured),
    }
    return Built(
        status=status,
        failure=failure,
        stages=stages,
        modules=list(outcome.modules),
        artifacts=list(manifest.artifacts),
        folder=folder,
        log=folder / manifest.log.path if folder and manifest.log else outcome.log_path,
        payloads=payloads,
    )


@dataclass(frozen=True)
class _Facts:
    """What is known of a build beside its files: fields of its manifest, and lists by file name."""

    recipe: Recipe
    manifest: dict[str, Any]
    texts: dict[str, bytes]


def _facts(
    prepared: Prepared,
    recipe: Recipe,
    room: Workspace,
    around: Surroundings,
    outcome: BuildOutcome,
    downloads: list[Download],
) -> _Facts:
    """Returns a build's facts without secrets: everything but the files' own names, which have to stay."""
    seen = prepared.environment
    if seen is not None:
        build = commands.environment(recipe, room, around)
        changes = {
            "timezone": build["TZ"],
            "locale": build["LC_ALL"],
            "umask": recipe.umask,
            "folder": room.inside(room.tree),
            "home": build["HOME"],
            "path": build["PATH"],
        }
        seen = mask_record(seen.model_copy(update=changes))
    facts = {
        "recipe": mask_record(recipe),
        "modules": list(outcome.modules),
        "downloads": [mask_record(download) for download in downloads],
        "environment": seen,
    }
    return _Facts(recipe, facts, prepared.texts)


def _inputs(site: Site, recipe: Recipe, room: Workspace) -> tuple[Inputs | None, dict[str, bytes]]:
    """Looks at what the build was made from. Where that cannot be seen the build is none the worse: it is
    said, and no comparison of it can agree."""
    try:
        return collect_inputs(room.tree, room.repository, recipe, architecture())
    except (PipelineError, OSError) as exc:
        site.say(f"Note: what this build was made from is not recorded, so nothing can agree with it: {exc}")
        return None, {}


def _collect(
    site: Site, manifest: Manifest, outcome: BuildOutcome, room: Workspace, texts: Mapping[str, bytes]
) -> Manifest:
    return artifacts.collect(
        site.settings.artifacts,
        manifest,
        _items(outcome, room),
        outcome.log_path,
        texts=texts,
        sync=lambda descriptor: _sync(site, descriptor),
    )


def _harvest(site: Site, room: Workspace, stand_ins: substitutes.Prepared) -> None:
    maven_repository.harvest(room.repository, site.settings.cache / "maven", stand_ins.local_artifacts)


def _items(outcome: BuildOutcome, room: Workspace) -> list[artifacts.Item]:
    """Returns what is kept: packages, or the jars where there are none; nothing of a failed build."""
    if outcome.status != "success":
        return []
    if outcome.packages:
        return [artifacts.Item(path, path.name) for path in outcome.packages]
    return [artifacts.Item(path, str(path.relative_to(room.tree))) for path in outcome.jars]


def _sync(site: Site, descriptor: int) -> None:
    os.fsync(descriptor)
    site.step("artifact synced")


def _identity(site: Site, job: Job, attempt: int) -> Mapping[str, str]:
    return {
        "log_id": f"{job.id}.{attempt}",
        "job_id": job.id,
        "server": site.builder,
        "branch": job.branch,
        "commit": job.commit,
    }


def _stage(name: str, seconds: float, *, failed: bool) -> Stage:
    return Stage(name=name, duration_seconds=round(seconds, 3), status="failed" if failed else "success")


def _folder_of(coordinates: str) -> str:
    group, artifact, version = coordinates.split(":")
    return f"{group.replace('.', '/')}/{artifact}/{version}"

"""What a build has to know before anything is recorded: commit, tools, recipe, and what is missing."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.builds import environment, preflight, recipe, sample, toolchain
from pipeline.builds.artifact_sets import newest_of
from pipeline.builds.debcontrol import Installed
from pipeline.builds.recipe import CommitFacts, RecipeOverrides, Settings
from pipeline.builds.source import Resolved, Sources
from pipeline.builds.toolchain import Found
from pipeline.builds.tree import GitTree, Tree
from pipeline.builds.workspace import Place, Workspace, choose_place
from pipeline.builds.workspace import find as find_workspace
from pipeline.edge.credentials import split_credentials
from pipeline.edge.findings import Findings
from pipeline.edge.identity import user_home
from pipeline.edge.mounts import probe_mounts
from pipeline.edge.process import run
from pipeline.errors import PreflightFailed
from pipeline.operations import site as sites
from pipeline.operations.clocks import check_ahead
from pipeline.operations.heart import system_facts
from pipeline.operations.queue import find as find_job
from pipeline.operations.site import Site
from pipeline.records.builds import BuildConfig, Environment, Manifest, Recipe, Toolchain

_HISTORY = 5
#: A commit may claim any date; this is later than all that are meant.
_LATEST = 1 << 33
#: The embedded sample asks for less than CloudStack does, and runs its unit tests.
_SAMPLE_RECIPE = "sample"


@dataclass(frozen=True)
class Wanted:
    """What is to be built; None where the configuration decides."""

    branch: str
    commit: str | None
    source: str | None
    recipe: str | None
    packages: bool = True
    keep_going: bool = False
    timeout_seconds: int | None = None
    resume_from: str | None = None

    def options(self) -> dict[str, Any]:
        """Returns what a job has to remember of this, so that another attempt asks for the same.

        Credentials in the source's address are left out: they would be in the ledger for ever.
        """
        return {
            "recipe": self.recipe,
            "packages": self.packages,
            "keep_going": self.keep_going,
            "source": split_credentials(self.source).address if self.source else self.source,
        }


@dataclass(frozen=True)
class Prepared:
    """All that was found out. `recipe_folder` holds the recipe's pinned files, `sources` knows credentials.

    `history` are manifests of this branch's last successful builds here, newest first. `resumable` is the
    directory of the attempt that is resumed, if one is. `environment` is this machine's, with the list of its
    packages by file name; a build elsewhere has none.
    """

    resolved: Resolved
    recipe: Recipe
    settings: Settings
    found: Found
    place: Place
    recipe_folder: Path | None
    system: dict[str, Any]
    fingerprint: str
    history: list[Manifest]
    sources: Sources
    resumable: Workspace | None = None
    environment: Environment | None = None
    texts: dict[str, bytes] = field(default_factory=dict)


def prepare(site: Site, wanted: Wanted, *, check: bool = True) -> Prepared:
    """Resolves the branch, finds the tools, makes the recipe, and looks for what would fail later.

    Records nothing. `check` false leaves out what only concerns this machine: the build runs elsewhere.
    Raises SourceError, ConfigInvalid, PreflightFailed.
    """
    config = sites.build_config(site.state().view)
    address = wanted.source or config.cloudstack.repository
    # A job from the queue names the sample as it lies on the builder that ordered it; each has its own.
    sampled = not address or sample.is_repository(address)
    address = sample_repository(site) if sampled else _with_credentials(site, address)
    overrides = RecipeOverrides(
        recipe=wanted.recipe or (_SAMPLE_RECIPE if sampled else None),
        packages=wanted.packages,
        keep_going=wanted.keep_going,
        timeout_seconds=wanted.timeout_seconds,
    )
    name = recipe.recipe_name(config, overrides, wanted.branch)
    file = recipe.read_recipe_file(name, recipe_folder()) if name else None
    settings = recipe.settle(config, overrides, wanted.branch, file)
    sources = Sources(site.settings.cache, say=site.say)
    # All three wait for other programs, and none for another of them.
    with ThreadPoolExecutor(2) as pool:
        tools = pool.submit(_tools, site, settings)
        packages = pool.submit(preflight.installed_packages, _findings(site)) if check else None
        resolved = sources.resolve(address, wanted.branch, wanted.commit)
        found, place = tools.result()
    for note in resolved.notes:
        site.say(f"Note: {note}")
    facts = CommitFacts(resolved.source, resolved.branch, resolved.commit, resolved.commit_time)
    if place.why and site.variation is None:
        site.say(f"Note: builds lie at a path of their own on this machine: {place.why}.")
    made = recipe.resolve(
        settings,
        overrides,
        facts,
        found.toolchain,
        build_path=place.build_path("job", 1) if place.fixed else "",
        fixed_path=place.fixed,
        resumed_from=wanted.resume_from,
    )
    around, texts = None, dict[str, bytes]()
    if site.variation is not None:
        made = site.variation.of_recipe(made)
    if packages is not None:
        around, texts = surroundings(site, found.toolchain, packages.result())
        tree = GitTree(sources.clone_of(resolved), resolved.commit, preflight.reads)
        _require(site, subject(site, tree, made, settings, found, packages.result()))
    site.settings.work.mkdir(parents=True, exist_ok=True)
    system = system_facts(str(site.settings.work)).model_dump(mode="json")
    return Prepared(
        resolved,
        made,
        settings,
        found,
        place,
        settings.recipe_folder,
        system,
        toolchain.fingerprint(found.toolchain),
        _history(site, wanted.branch),
        sources,
        _resumable(site, place, wanted.resume_from),
        around,
        texts,
    )


def surroundings(
    site: Site, tools: Toolchain | None, installed: Installed
) -> tuple[Environment, dict[str, bytes]]:
    """Returns what this machine states of itself, and the lists that this names, by file name."""
    packages, text = environment.list_packages(installed)
    seen = environment.look(site.machine()[:16], os.environ, tools, packages)
    return seen, {packages.path: text}


def _require(site: Site, looked_at: preflight.Subject) -> None:
    """Raises PreflightFailed for what is missing or wrong on this machine; says what is merely odd."""
    made_at = datetime.fromtimestamp(min(max(looked_at.recipe.source_date_epoch, 0), _LATEST), UTC)
    clocks = check_ahead(site, site.state(fresh=False).view, not_before=made_at)
    for odd in clocks:
        if odd.ok:
            site.say(f"Note: {odd.message}.")
    checks = [*preflight.run_checks(looked_at), *clocks]
    preflight.remember(checks, preflight_memory(site))
    preflight.require(checks)


def _with_credentials(site: Site, address: str) -> str:
    """Returns an address, with the credentials that this machine's own `source` has for the same one.

    A job of the queue names its source without any.
    """
    own, given = site.settings.source, split_credentials(address)
    if own and given.user is None and split_credentials(own).address == given.address:
        return own
    return address


def _findings(site: Site) -> Findings:
    return Findings(preflight_memory(site))


def _tools(site: Site, settings: Settings) -> tuple[Found, Place]:
    findings = _findings(site)
    found = toolchain.find(settings.java, os.environ, findings=findings)
    needed: list[Path | str] = [site.settings.cache, found.toolchain.java_home]
    if site.variation is not None and (own := site.variation.place(site.settings.work)) is not None:
        return found, own
    probe = partial(probe_mounts, findings=findings)
    place = choose_place(site.settings.work, needed, probe, reproducible=settings.build.reproducible)
    return found, place


def _history(site: Site, branch: str) -> list[Manifest]:
    """Returns the manifests of the last complete builds of a branch on this builder."""
    sets = newest_of(site.settings.artifacts, site.builder, branch)
    return [*islice((manifest for manifest in sets if manifest.complete and manifest.artifacts), _HISTORY)]


def _resumable(site: Site, place: Place, job_id: str | None) -> Workspace | None:
    """Finds the directory of the attempt that is to be resumed. Raises PreflightFailed if it is gone."""
    if job_id is None:
        return None
    job, _ = find_job(site.state(fresh=False).view, job_id)
    room = find_workspace(place, job.id, job.attempt)
    if room is None:
        raise PreflightFailed(
            f"What {job_id} left is not on this machine any more, so it cannot be resumed.",
            remedy=f"Build anew: `invoke job.retry {job_id}`.",
        )
    return room


def subject(
    site: Site,
    tree: Tree,
    made: Recipe,
    settings: Settings,
    found: Found,
    installed: Installed | None = None,
) -> preflight.Subject:
    """Returns what the checks look at on this machine."""
    return preflight.Subject(
        tree=tree,
        recipe=made,
        settings=settings,
        found=found,
        work=site.settings.work,
        now=site.clock.now(),
        environ=os.environ,
        machine_settings=user_home() / ".m2" / "settings.xml",
        local=(site.settings.cache / "maven",),
        memory=preflight_memory(site),
        installed=preflight.installed_packages() if installed is None else installed,
    )


def default_recipe(site: Site, config: BuildConfig) -> str | None:
    """Returns the recipe of a build that names no source and no recipe: the sample's, where that is built."""
    sampled = not (site.settings.source or config.cloudstack.repository)
    return site.settings.recipe or (_SAMPLE_RECIPE if sampled else None)


def preflight_memory(site: Site) -> Path:
    """Returns where the findings of earlier checks are kept."""
    return site.settings.cache / "preflight"


def recipe_folder() -> Path:
    """Returns where the project's own recipes lie: in a checkout, or inside an installed package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "shared" / "recipes"


def sample_repository(site: Site) -> str:
    """Makes the embedded sample a repository in the cache, anew when the sample has changed."""
    root = sample.sample_root()
    place = site.settings.cache / sample.repository_name(root)
    if not (place / "HEAD").exists():
        making = place.with_name(f"{place.name}.{os.getpid()}.making")
        shutil.rmtree(making, ignore_errors=True)
        making.parent.mkdir(parents=True, exist_ok=True)
        run(["git", "init", "--quiet", "--bare", f"--initial-branch={sample.MAIN_BRANCH}", making])
        stream = b"".join(sample.fast_import_stream(root))
        run(["git", "--git-dir", making, "fast-import", "--quiet"], input=stream)
        try:
            making.rename(place)
        except OSError:
            shutil.rmtree(making)  # another process was quicker
    return str(place)

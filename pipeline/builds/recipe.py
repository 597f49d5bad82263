"""The recipe: from settings in layers to one frozen object that holds every input of a build.

    built in  <  build_config.json `build`  <  its `branches[NAME]`  <  recipe file  <  command line

What lives here: which layer wins, and what a good value is (`rules`). What must not: looking at the machine
(`toolchain`) or the source tree. `properties`, `environment` and `substitutes` are laid over each other name
by name, null takes a name out again; every other setting, lists too, replaces the one below it.

`settle` knows which JDK is wanted, `toolchain.find` then finds it, and `resolve` adds what follows from the
commit and the tools. All three are pure but `read_recipe_file`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from pipeline.builds import reproducible, rules
from pipeline.errors import ConfigInvalid
from pipeline.records import paths
from pipeline.records.base import load_json
from pipeline.records.builds import BuildConfig, BuildSettings, JavaSettings, Recipe, Toolchain

BUILT_IN: Final = "built in"
COMMAND_LINE: Final = "command line"
FROM_COMMIT: Final = "the commit"
FROM_TOOLS: Final = "the tools of this machine"

#: What CloudStack needs where nothing else is said: `spec` figures for a machine with 16 GB or more.
_BUILT_IN_MAVEN_OPTS: Final = "-Xms1g -Xmx8g"
#: The UI's webpack 4 asks OpenSSL for MD4 and takes more memory than Node gives by itself.
_NODE_HEAP: Final = "--max-old-space-size=8192"
_OLD_HASHES: Final = "--openssl-legacy-provider"
#: The first Node that knows, and needs, `_OLD_HASHES`; an older one refuses to start with it.
_NODE_WITH_OPENSSL_3: Final = 17
#: No recipe file is longer.
_MAXIMUM_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class CommitFacts:
    """What is built. `source` may hold credentials, the recipe does not; `time` is in seconds since 1970."""

    source: str
    branch: str
    commit: str
    time: int


@dataclass(frozen=True)
class RecipeOverrides:
    """What the command line says; None where it says nothing."""

    recipe: str | None = None
    packages: bool = True
    keep_going: bool = False
    skip_tests: bool | None = None
    profiles: Sequence[str] | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    maven_opts: str | None = None
    threads: int | None = None
    timeout_seconds: int | None = None

    def values(self) -> dict[str, Any]:
        """Returns what was said, as a layer of settings."""
        said = {
            "skip_tests": self.skip_tests,
            "profiles": None if self.profiles is None else list(self.profiles),
            "properties": dict(self.properties) or None,
            "maven_opts": self.maven_opts,
            "parallel_builds": self.threads,
            "timeout_seconds": self.timeout_seconds,
        }
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file that was read. `folder` holds the pinned files that it names."""

    name: str
    values: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class Setting:
    """One row for `invoke config`: a dotted name, its value, and where the value came from."""

    name: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Settings:
    """The layers, laid over each other. `removed` names properties and variables that a null took out."""

    build: BuildSettings
    java: JavaSettings
    rows: tuple[Setting, ...]
    removed: frozenset[str]
    recipe_folder: Path | None

    def origin(self, name: str) -> str:
        """Returns where a setting came from."""
        return next((row.origin for row in self.rows if row.name == name), BUILT_IN)


def read_recipe_file(name: str, recipe_dir: Path) -> RecipeFile:
    """Reads a recipe: a path, or the bare name of a file of `recipe_dir`.

    Raises ConfigInvalid for a file that is not there and for a pinned file beside it that is not what it
    should be, RecordInvalid for one that is not JSON.
    """
    path = Path(name)
    if "/" not in name and not path.is_file():
        path = recipe_dir / (name if name.endswith(".json") else f"{name}.json")
    try:
        with path.open("rb") as file:
            data = file.read(_MAXIMUM_BYTES + 1)
    except (OSError, ValueError) as exc:  # ValueError: a name that no file can have
        known = ", ".join(sorted(found.stem for found in recipe_dir.glob("*.json"))) or "none"
        raise ConfigInvalid(
            f"The recipe {name!r} cannot be read ({getattr(exc, 'strerror', exc)})",
            remedy=f"Name a file, or one of the recipes that are here: {known}.",
        ) from exc
    if len(data) > _MAXIMUM_BYTES:
        raise ConfigInvalid(
            f"The recipe {name!r} has more than {_MAXIMUM_BYTES:,} bytes", remedy="Name a recipe."
        )
    values = load_json(data, str(path), remedy="Correct the recipe file.")
    rules.check_layer(values, path.name, strict=True)
    rules.check_pinned_files(values, path.name, path.parent)
    return RecipeFile(path.name, values, path.parent)


def recipe_name(config: BuildConfig, overrides: RecipeOverrides, branch: str) -> str | None:
    """Returns the recipe file to read: the command line's, the branch's, or the configuration's."""
    said = overrides.recipe or config.branches.get(branch, {}).get("recipe") or config.build.recipe
    return str(said) if said else None


def settle(
    config: BuildConfig, overrides: RecipeOverrides, branch: str, recipe: RecipeFile | None = None
) -> Settings:
    """Lays the layers over each other. Raises ConfigInvalid with the file and the field of a bad value."""
    layers: list[tuple[str, dict[str, Any]]] = [(BUILT_IN, {"maven_opts": _BUILT_IN_MAVEN_OPTS})]
    shared = config.build.model_dump(exclude_unset=True)
    if not shared.get("maven_opts"):
        shared.pop("maven_opts", None)
    java = config.java.model_dump(exclude_unset=True)
    layers.append((f"{paths.BUILD_CONFIG}: build", shared))
    layers.append((f"{paths.BUILD_CONFIG}: java", {"java": java} if java else {}))
    layers.append((f"{paths.BUILD_CONFIG}: branches.{branch}", dict(config.branches.get(branch, {}))))
    if recipe is not None:
        layers.append((recipe.name, dict(recipe.values)))
    layers.append((COMMAND_LINE, overrides.values()))
    flat: dict[str, Setting] = {}
    removed: set[str] = set()
    for origin, values in layers:
        rules.check_layer(values, origin, strict=False)
        for name, value in rules.flatten(values):
            flat[name] = Setting(name, value, origin)
            (removed.add if value is None else removed.discard)(name)
    kept = {name: row for name, row in flat.items() if row.value is not None}
    build, java_settings = rules.validated({name: row.value for name, row in kept.items()}, kept)
    defaults = dict(rules.flatten({**build.model_dump(), "java": java_settings.model_dump()}))
    for name, value in defaults.items():
        kept.setdefault(name, Setting(name, value, BUILT_IN))
    rows = tuple(kept[name] for name in sorted(kept))
    return Settings(build, java_settings, rows, frozenset(removed), recipe.folder if recipe else None)


def resolve(
    settings: Settings,
    overrides: RecipeOverrides,
    commit: CommitFacts,
    toolchain: Toolchain,
    *,
    build_path: str = "",
    fixed_path: bool = False,
    resumed_from: str | None = None,
) -> Recipe:
    """Makes the frozen recipe of one build. Two equal recipes ask for the same bytes."""
    build = settings.build
    if build.substitutes.node_version:
        toolchain = toolchain.model_copy(update={"node": f"v{build.substitutes.node_version}"})
    environment = {**_environment(commit, toolchain), **build.environment}
    properties = {**build.properties}
    if build.reproducible:
        environment = {**_same_environment(commit, toolchain), **environment}
        properties = {**_same_properties(commit), **properties}
    for name in settings.removed:
        group, _, rest = name.partition(".")
        {"properties": properties, "environment": environment}.get(group, {}).pop(rest, None)
    return Recipe(
        source=without_credentials(commit.source),
        branch=commit.branch,
        commit=commit.commit,
        source_date_epoch=commit.time,
        packages=overrides.packages,
        keep_going=overrides.keep_going,
        skip_tests=build.skip_tests,
        profiles=list(build.profiles),
        properties=properties,
        maven_opts=build.maven_opts,
        threads=build.parallel_builds,
        environment=environment,
        timezone=environment.get("TZ", ""),
        locale=environment.get("LC_ALL", ""),
        build_path=build_path,
        fixed_path=fixed_path,
        toolchain=toolchain,
        java=settings.java.version,
        substitutes=build.substitutes,
        reproducible=build.reproducible,
        rewriting=reproducible.digest() if build.reproducible else None,
        timeout_seconds=build.timeout_seconds,
        resumed_from=resumed_from,
    )


def explain(settings: Settings, recipe: Recipe | None = None) -> list[Setting]:
    """Returns every setting with its value and where it came from, sorted by name.

    With a recipe, what follows from the commit and from the tools is among them.
    """
    rows = {row.name: row for row in settings.rows}
    if recipe is not None:
        for name, value in recipe.properties.items():
            rows.setdefault(f"properties.{name}", Setting(f"properties.{name}", value, FROM_COMMIT))
        for name, value in recipe.environment.items():
            origin = {
                "SOURCE_DATE_EPOCH": FROM_COMMIT,
                "npm_config_before": FROM_COMMIT,
                "JAVA_HOME": FROM_TOOLS,
                "NODE_OPTIONS": FROM_TOOLS,
            }
            row = Setting(f"environment.{name}", value, origin.get(name, BUILT_IN))
            rows.setdefault(row.name, row)
        for name, value in recipe.toolchain or Toolchain(java="", java_home="", maven="", maven_home=""):
            if value is not None:
                rows[f"toolchain.{name}"] = Setting(f"toolchain.{name}", value, FROM_TOOLS)
        rows["umask"] = Setting("umask", recipe.umask, BUILT_IN)
    return [rows[name] for name in sorted(rows)]


def maven_arguments(recipe: Recipe, properties: Mapping[str, str] | None = None) -> list[str]:
    """Returns Maven's arguments, goals and profiles excepted. `properties` replaces the substitutes' own,
    with `{loopback}` filled in."""
    stand_ins = recipe.substitutes.properties if properties is None else properties
    merged = {**recipe.properties, **stand_ins}
    words = ["-B", *(f"-D{name}={merged[name]}" for name in sorted(merged))]
    if recipe.skip_tests:
        words.append("-DskipTests")
    if recipe.threads:
        words += ["-T", str(recipe.threads)]
    if recipe.keep_going:
        words.append("--fail-at-end")
    return words


def make_words(arguments: Sequence[str]) -> str:
    """Returns arguments as one value that make and then a shell take apart into the same words.

    `debian/rules` expands ACS_BUILD_OPTS in a recipe line: make reads `$`, and the shell all the rest.
    """
    return " ".join(_make_word(argument) for argument in arguments)


def _make_word(argument: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", argument):
        return argument
    return "'" + argument.replace("'", "'\"'\"'").replace("$", "$$") + "'"


def without_credentials(source: str) -> str:
    """Returns a repository's address without user and password; `git@` of an SSH address stays."""
    if "://" not in source:
        return source
    parts = urlsplit(source)
    if parts.scheme not in ("http", "https") and ":" not in parts.netloc.rpartition("@")[0]:
        return source
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _same_properties(commit: CommitFacts) -> dict[str, str]:
    """Returns what gives two builds of one commit the same jars.

    `git.*` stand for what client/pom.xml reads out of `.git`, which differs between a clone and a worktree;
    the user's own win over the plugin's. The plugin that `maven.gitcommitid.skip` leaves out writes the
    host and the user into storpool's jar, and fails in a linked worktree.
    """
    return {
        "project.build.outputTimestamp": _moment(commit),
        "git.branch": re.sub(r"[^A-Za-z0-9._/+@-]", "_", commit.branch),
        "git.tag": "",
        "git.revision": commit.commit,
        "maven.gitcommitid.skip": "true",
    }


def _same_environment(commit: CommitFacts, toolchain: Toolchain) -> dict[str, str]:
    """Returns what gives two builds of one commit the same npm packages and the same order of sets."""
    # Marvin's generator writes sets in the order of their hashes.
    variables = {"PYTHONHASHSEED": "0"}
    if toolchain.npm:
        # What the lock file does not hold is resolved as it would have been when the commit was made.
        variables["npm_config_before"] = _moment(commit)
        # A lock that names the mirror which a package came through is another one behind each mirror.
        variables["npm_config_omit_lockfile_registry_resolved"] = "true"
    return variables


def _moment(commit: CommitFacts) -> str:
    return datetime.fromtimestamp(commit.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _environment(commit: CommitFacts, toolchain: Toolchain) -> dict[str, str]:
    variables = {
        "SOURCE_DATE_EPOCH": str(commit.time),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "LANG": "C.UTF-8",
        "MAVEN_SKIP_RC": "1",
    }
    if toolchain.java_home:
        variables["JAVA_HOME"] = toolchain.java_home
    if toolchain.node:
        match = re.match(r"v?(\d+)", toolchain.node)
        new = match is not None and int(match[1]) >= _NODE_WITH_OPENSSL_3
        variables["NODE_OPTIONS"] = f"{_NODE_HEAP} {_OLD_HASHES}" if new else _NODE_HEAP
        for name in ("audit", "fund", "update_notifier"):
            variables[f"npm_config_{name}"] = "false"
    return variables

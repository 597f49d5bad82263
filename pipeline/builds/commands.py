"""The command and the environment of a build, from its recipe. Pure but for looking whether files exist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.builds.recipe import make_words, maven_arguments
from pipeline.builds.reproducible import SEEDED
from pipeline.builds.workspace import Workspace
from pipeline.errors import UsageError
from pipeline.records.builds import Recipe

#: debhelper's steps up to the point where Maven has run. Later ones are done again by a resumed build.
_BUILD_STEPS = re.compile(
    r"(?:override_)?dh_(?:update_autotools_config|autoreconf|auto_configure|auto_build|auto_test)\b"
)


@dataclass(frozen=True)
class Surroundings:
    """What a build is given beside its recipe.

    `marker` is `<job>.<token>`, by which its processes are known. `path` is PATH without the stand-ins;
    `environment` says how mirrors are reached; `properties` are the substitutes' with `{loopback}` filled in.
    `mounts`, `host` and `user` are what the build alone sees, where that is something else on purpose;
    `through` are the words of the programs that start it then.
    """

    marker: str
    path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] | None = None
    mounts: tuple[tuple[str, str], ...] = ()
    host: str | None = None
    user: int | None = None
    through: tuple[str, ...] = ()


def has_packaging(tree: Path) -> bool:
    """Returns whether a source tree makes Debian packages."""
    return (tree / "debian" / "rules").is_file() and (tree / "debian" / "changelog").is_file()


def command(recipe: Recipe, workspace: Workspace, around: Surroundings) -> list[str]:
    """Returns the program and its arguments: the packaging, which runs Maven itself, or Maven alone."""
    if recipe.resumed_from is not None:
        return [*around.through, "fakeroot", "debian/rules", "binary"]
    if recipe.packages and has_packaging(workspace.tree):
        # -d: builders have what the tree needs, not always under the names that it asks for.
        return [*around.through, "dpkg-buildpackage", "-d", "-b", "-uc", "-us"]
    repository = f"-Dmaven.repo.local={workspace.inside(workspace.repository)}"
    return [*around.through, "mvn", *_maven(recipe, workspace, around), repository, "install"]


def environment(recipe: Recipe, workspace: Workspace, around: Surroundings) -> dict[str, str]:
    """Returns the build's whole environment."""
    home, temporary = workspace.inside(workspace.home), workspace.inside(workspace.temporary)
    # Java takes the home directory from the password file, whatever HOME says.
    options = [recipe.maven_opts, f"-Duser.home={home}", f"-Djava.io.tmpdir={temporary}"]
    if recipe.threads > 1:
        # Without the thread's name nobody could tell which module a line belongs to.
        options.append("-Dorg.slf4j.simpleLogger.showThreadName=true")
    seeded = f"--require={workspace.inside(workspace.bin / SEEDED)}" if recipe.reproducible else ""
    node = " ".join(filter(None, [seeded, recipe.environment.get("NODE_OPTIONS", "")]))
    return {
        "SOURCE_DATE_EPOCH": str(recipe.source_date_epoch),
        "TZ": recipe.timezone or "UTC",
        "LC_ALL": recipe.locale or "C.UTF-8",
        **recipe.environment,
        **({"NODE_OPTIONS": node} if node else {}),
        **around.environment,
        "HOME": home,
        "TMPDIR": temporary,
        "PATH": f"{workspace.inside(workspace.bin)}:{around.path}",
        "MAVEN_SKIP_RC": "1",
        # In a user's own namespace there is no root: a real chown to it is invalid, which fakeroot passes on.
        "FAKEROOTDONTTRYCHOWN": "1",
        "MAVEN_OPTS": " ".join(option for option in options if option),
        "ACS_BUILD_OPTS": make_words(_maven(recipe, workspace, around)),
    }


def _maven(recipe: Recipe, workspace: Workspace, around: Surroundings) -> list[str]:
    words = maven_arguments(recipe, around.properties)
    if any("\n" in word or "\0" in word for word in words):
        raise UsageError("A Maven property holds a line break, which no make file can carry.")
    if recipe.profiles:
        words.append(f"-P{','.join(recipe.profiles)}")
    return [*words, "-s", workspace.inside(workspace.settings)]


def why_not_resumable(recipe: Recipe, workspace: Workspace) -> str | None:
    """Returns why a build cannot go on after Maven in this directory, or None if it can."""
    facts = workspace.facts()
    if not has_packaging(workspace.tree):
        return "its tree is gone, or makes no packages"
    if facts.get("maven") != "success":
        return "Maven had not come through"
    if facts.get("commit") != recipe.commit:
        return f"it was built from commit {str(facts.get('commit'))[:12]}"
    return None


def rewind_packaging(tree: Path) -> None:
    """Has debhelper do everything after Maven again: what it noted as done may be half done."""
    for log in (tree / "debian").glob("*.debhelper.log"):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        log.write_text("".join(f"{line}\n" for line in lines if _BUILD_STEPS.match(line)), encoding="utf-8")

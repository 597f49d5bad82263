"""The scratch folder of the demonstration: a bare ledger, a source to build, a home for each builder.

Nothing outside of it is read or written: the builders get an environment in which no setting of this machine,
of this user's or of git's steers them, and a home of their own. Maven and the JDK are stand-ins (see
`sample/demo`); make and dpkg are real.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.builds import sample
from pipeline.builds.machine_checks import missing_packaging
from pipeline.builds.runner import Limits
from pipeline.builds.toolchain import SYSTEM_PATH
from pipeline.edge.bare import make_bare
from pipeline.edge.process import run
from pipeline.errors import CommandFailed, FileFailed, PreflightFailed

BUILDERS = ("build1", "build2")
BRANCH = sample.MAIN_BRANCH
_PREFIX = "pipeline-demo-"

#: What must be free: a running build is ended when less than its own limit is left.
FREE_BYTES = Limits().disk_bytes + (200 << 20)

#: What steers the pipeline, git, Maven, packaging or make from outside, by the start of its name.
_STEERING = ("PIPELINE_", "GIT_", "INVOKE_", "BOOTSTRAP_", "MAVEN_", "M2_", "DEB_", "DEBIAN_", "DH_", "XDG_")
_STEERING_NAMES = ("SERVER_ID", "JAVA_HOME", "MAKEFLAGS", "SOURCE_DATE_EPOCH", "NODE_OPTIONS")
_RECIPE = {"minimum_disk_gb": 0, "minimum_memory_gb": 0, "maven_opts": "-Xmx64m", "timeout_seconds": 300}


@dataclass(frozen=True)
class Stage:
    """Where everything lies. `away` is where the ledger is while it is gone; `hold` is a file that keeps
    builds in their last module as long as it is there.
    """

    folder: Path
    ledger: Path
    away: Path
    hold: Path
    environments: Mapping[str, Mapping[str, str]]

    def take_ledger_away(self) -> None:
        """Makes the ledger's remote unreachable for everybody."""
        self.ledger.rename(self.away)

    def bring_ledger_back(self) -> None:
        """Brings it back as it was."""
        self.away.rename(self.ledger)

    def hold_builds(self) -> None:
        """Keeps the builds of both builders from ending."""
        self.hold.touch()

    def let_builds_go(self) -> None:
        """Lets them go on."""
        self.hold.unlink(missing_ok=True)

    def outputs(self, builder: str) -> Path:
        """Returns the folder for what a builder's commands print."""
        return self.folder / builder / "outputs"


def require_programs(path: str) -> None:
    """Raises PreflightFailed with all that the demonstration needs and this machine lacks."""
    missing = missing_packaging(path)
    if shutil.which("git", path=path) is None:
        missing["git"] = "git"
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise PreflightFailed(
            f"The demonstration builds a real Debian package, and this machine lacks {', '.join(missing)}.",
            remedy=f"On Debian and Ubuntu: apt-get install --no-install-recommends {packages}",
        )


def searched(environment: Mapping[str, str]) -> str:
    """Returns the folders in which builds look for programs."""
    return f"{SYSTEM_PATH}:{environment.get('PATH', '')}"


def make_scratch(parent: str, wanted_bytes: int = FREE_BYTES) -> Path:
    """Makes a new, empty folder below `parent`, or where temporary files go. Raises FileFailed."""
    place = parent or tempfile.gettempdir()
    remedy = "Name another place: `--folder PATH`."
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place)).resolve()
        free = shutil.disk_usage(folder).free
    except OSError as exc:
        raise FileFailed(
            f"No scratch folder can be made in `{place}`: {exc.strerror}.", remedy=remedy
        ) from exc
    if ":" in str(folder):
        folder.rmdir()
        raise FileFailed(
            f"`{place}` has a colon in its path, so no folder below it can be on PATH.", remedy=remedy
        )
    if free < wanted_bytes:
        shutil.rmtree(folder, ignore_errors=True)
        raise FileFailed(
            f"`{place}` has {free >> 20} MiB free; the demonstration wants {wanted_bytes >> 20}: a build is"
            f" ended when less than {Limits().disk_bytes >> 20} are left.",
            remedy=f"Free some. {remedy}",
        )
    return folder


def remove_scratch(folder: Path) -> None:
    """Removes a scratch folder and all in it. Raises FileFailed for what stays."""
    try:
        shutil.rmtree(folder)
    except OSError as exc:
        raise FileFailed(
            f"The scratch folder `{folder}` cannot be removed: {exc.strerror}.", remedy="Remove it by hand."
        ) from exc


def set_up(folder: Path, outer: Mapping[str, str], builders: Sequence[str] = BUILDERS) -> Stage:
    """Fills a scratch folder. `outer` is this process's environment. Raises FileFailed, CommandFailed."""
    ledger, source, recipe = folder / "ledger.git", folder / "source.git", folder / "recipe.json"
    shipped = sample.sample_root() / "demo"
    try:
        _make_tools(shipped / "stand-ins", folder / "tools")
        recipe.write_text(json.dumps({**_RECIPE, "java": {"home": str(folder / "tools/jdk")}}))
        environments = {}
        for name in builders:
            home = folder / name
            (home / "outputs").mkdir(parents=True)
            environments[name] = environment_of(name, folder, outer)
        make_bare(ledger)
        git = environments[builders[0]]
        run(["git", "init", "--quiet", "--bare", f"--initial-branch={BRANCH}", source], env=git)
        stream = b"".join(sample.fast_import_stream(shipped))
        run(["git", "--git-dir", source, "fast-import", "--quiet"], input=stream, env=git)
    except OSError as exc:
        raise FileFailed(
            f"The scratch folder `{folder}` cannot be filled: {exc.strerror}.",
            remedy="Name another place: `--folder PATH`.",
        ) from exc
    _insist_on_running(folder / "tools/maven/bin/mvn", git)
    return Stage(folder, ledger, folder / "ledger.away", folder / "tools/maven/hold", environments)


def environment_of(builder: str, folder: Path, outer: Mapping[str, str]) -> dict[str, str]:
    """Returns a builder's whole environment: of `outer` only what steers no build. PURE."""
    home = folder / builder
    kept = {
        name: value
        for name, value in outer.items()
        if not name.startswith(_STEERING) and name not in _STEERING_NAMES
    }
    return {
        **kept,
        "PATH": f"{folder}/tools/maven/bin:{outer.get('PATH') or os.defpath}",
        "HOME": str(home),
        "PIPELINE_HOME": str(home / "pipeline"),
        "PIPELINE_LEDGER": str(folder / "ledger.git"),
        "PIPELINE_SOURCE": str(folder / "source.git"),
        "PIPELINE_RECIPE": str(folder / "recipe.json"),
        "PIPELINE_MACHINE_LOCK": str(home / "machine.lock"),
        "PIPELINE_BUILDER": builder,
        "PIPELINE_HEARTBEAT_SECONDS": "2",
        "PIPELINE_MAVEN_MIRROR": "file:///nonexistent",
    }


def _make_tools(stand_ins: Path, tools: Path) -> None:
    """Lays the stand-ins out as Maven and a JDK lie on a disk. An installation may have lost their modes."""
    for name, place in (("mvn", "maven/bin/mvn"), ("javac", "jdk/bin/javac"), ("release", "jdk/release")):
        there = tools / place
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(stand_ins / name, there)
        there.chmod(0o755)


def _insist_on_running(program: Path, env: Mapping[str, str]) -> None:
    try:
        run([program, "-version"], env=env, timeout=20)
    except CommandFailed as exc:
        raise FileFailed(
            f"Programs in `{program.parent}` cannot be run ({exc.message}).",
            remedy="It may be mounted with noexec. Name another place: `--folder PATH`.",
        ) from exc

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from pipeline.builds import commands, runner
from pipeline.builds.commands import Surroundings
from pipeline.builds.maven_repository import harvest
from pipeline.builds.progress import ModuleFinished, ModuleStarted
from pipeline.builds.runner import BuildEvent, BuildOutcome, Limits, StageFinished, StageStarted, TimeLeft
from pipeline.builds.sample import fast_import_stream, sample_root
from pipeline.builds.source import Sources
from pipeline.builds.workspace import Place, Workspace, choose_place, create
from pipeline.edge.process import run
from pipeline.edge.survivors import Journal, find_survivors
from pipeline.errors import UsageError
from pipeline.records.base import validate
from pipeline.records.builds import FailureClass, Manifest, Recipe

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
MARKER = f"test.{os.getpid()}"

REACTOR = """\
[INFO] Reactor Build Order:
[INFO] Apache CloudStack Utils  [jar]
[INFO] Apache CloudStack Server  [jar]
[INFO] --< org.apache.cloudstack:cloud-utils >--
[INFO] Building Apache CloudStack Utils 1 [1/2]
[INFO] --< org.apache.cloudstack:cloud-server >--
[INFO] Building Apache CloudStack Server 1 [2/2]
[INFO] Reactor Summary for Apache CloudStack 1:
[INFO] Apache CloudStack Utils ... SUCCESS [  1.500 s]
[INFO] Apache CloudStack Server ... SUCCESS [  2.500 s]
[INFO] BUILD SUCCESS
"""


@dataclass
class Job:
    """A workspace with a tree, and programs of its own in front of PATH."""

    workspace: Workspace
    events: list[BuildEvent] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.workspace.root / "build.log"

    def program(self, name: str, script: str) -> None:
        """Puts a shell script in front of PATH."""
        path = self.workspace.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def file(self, name: str, text: str = "") -> Path:
        path = self.workspace.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def build(
        self,
        recipe: Recipe,
        *,
        cancelled: Callable[[], str | None] = lambda: None,
        history: list[Manifest] | None = None,
        limits: Limits | None = None,
        resources: runner.Resources | None = None,
    ) -> BuildOutcome:
        return runner.build(
            recipe,
            self.workspace,
            Surroundings(f"{MARKER}.{self.workspace.root.name}", PATH),
            log_path=self.log,
            on_event=self.events.append,
            cancelled=cancelled,
            history=history or [],
            limits=limits,
            resources=resources,
        )


def _recipe(**values: object) -> Recipe:
    facts = {"source": "/src", "branch": "ExternalNew", "commit": "a" * 40, "source_date_epoch": 1748736000}
    return validate(Recipe, {**facts, **values}, "recipe")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job without a fixed path, whose tree has an empty pom."""
    workspace, _ = create(Place(tmp_path, fixed=False), "j1", 1, tmp_path / "cache")
    found = Job(workspace)
    found.file("pom.xml", "<project/>")
    return found


@pytest.fixture
def with_packaging(job: Job) -> Job:
    """A job whose packaging runs `mvn` once and then what the test writes into `packaging.sh`."""
    for name in ("rules", "changelog"):
        job.file(f"debian/{name}")
    job.program(
        "dpkg-buildpackage", 'echo "$@" > ../arguments; mvn clean package $ACS_BUILD_OPTS && . ./packaging.sh'
    )
    job.program("mvn", f"cat <<'END'\n{REACTOR}END")
    job.file("packaging.sh", "touch ../a.deb ../a.changes")
    return job


# -- what is run --------------------------------------------------------------------------------------------


def test_one_pass_gives_two_stages(with_packaging: Job) -> None:
    """Maven runs inside the packaging, once, and both stages are recorded with their modules and packages."""
    outcome = with_packaging.build(_recipe())
    assert (outcome.status, outcome.failure) == ("success", None)
    assert [(stage.name, stage.status) for stage in outcome.stages] == [
        ("maven", "success"),
        ("packages", "success"),
    ]
    assert [(m.name, m.duration_seconds) for m in outcome.modules] == [
        ("Apache CloudStack Utils", 1.5),
        ("Apache CloudStack Server", 2.5),
    ]
    assert [path.name for path in outcome.packages] == ["a.changes", "a.deb"]
    assert (with_packaging.workspace.output / "arguments").read_text().split() == ["-d", "-b", "-uc", "-us"]


def test_events_come_in_order(with_packaging: Job) -> None:
    """Stages and modules are told as they happen."""
    with_packaging.build(_recipe())
    told = [(type(event), getattr(event, "name", None)) for event in with_packaging.events]
    assert told == [
        (StageStarted, "maven"),
        (ModuleStarted, "Apache CloudStack Utils"),
        (ModuleFinished, "Apache CloudStack Utils"),
        (ModuleStarted, "Apache CloudStack Server"),
        (ModuleFinished, "Apache CloudStack Server"),
        (StageFinished, "maven"),
        (StageStarted, "packages"),
        (StageFinished, "packages"),
    ]


def test_without_packages_maven_installs(job: Job) -> None:
    """`packages` false runs Maven alone, with the job's own settings and repository, and keeps its jars.

    Every module's own: no sources, tests or originals, and nothing that lies deeper in a target folder.
    """
    job.program("mvn", f"echo \"$@\" > ../arguments; cat <<'END'\n{REACTOR}END")
    job.file("server/target/cloud-server-1.jar")
    job.file("client/target/engine.war")
    for name in (
        "original-cloud-server-1",
        "cloud-server-1-sources",
        "cloud-server-1-tests",
        "classes/inner",
    ):
        job.file(f"server/target/{name}.jar")
    outcome = job.build(_recipe(packages=False, profiles=["systemvm", "developer"], threads=2))
    words = (job.workspace.output / "arguments").read_text().split()
    assert words[-1] == "install"
    assert {"-Psystemvm,developer", "-DskipTests", f"-Dmaven.repo.local={job.workspace.repository}"} <= set(
        words
    )
    assert words[words.index("-s") + 1] == str(job.workspace.settings)
    assert words[words.index("-T") + 1] == "2"
    assert [stage.name for stage in outcome.stages] == ["maven"]
    assert [path.name for path in outcome.jars] == ["engine.war", "cloud-server-1.jar"]


def test_a_tree_without_packaging_is_said(job: Job) -> None:
    """Packages that a tree cannot make are no failure, but are not passed over in silence."""
    job.program("mvn", f"cat <<'END'\n{REACTOR}END")
    outcome = job.build(_recipe(packages=True))
    assert outcome.status == "success"
    assert "no debian/rules" in outcome.notes[0]


def test_the_environment_is_the_recipes(job: Job) -> None:
    """Nothing of the operator's gets in; home, temporary files and Java's own home are the job's."""
    around = Surroundings("m", "/usr/bin", {"https_proxy": "p"}, {"x": "http://127.0.0.1:1"})
    recipe = _recipe(environment={"NODE_OPTIONS": "--a"}, maven_opts="-Xmx8g", threads=4, timezone="UTC")
    env = commands.environment(recipe, job.workspace, around)
    assert env == {
        "SOURCE_DATE_EPOCH": "1748736000",
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "NODE_OPTIONS": "--a",
        "https_proxy": "p",
        "HOME": str(job.workspace.home),
        "TMPDIR": str(job.workspace.temporary),
        "PATH": f"{job.workspace.bin}:/usr/bin",
        "MAVEN_SKIP_RC": "1",
        "FAKEROOTDONTTRYCHOWN": "1",
        "MAVEN_OPTS": f"-Xmx8g -Duser.home={job.workspace.home} -Djava.io.tmpdir={job.workspace.temporary}"
        " -Dorg.slf4j.simpleLogger.showThreadName=true",
        "ACS_BUILD_OPTS": f"-B -Dx=http://127.0.0.1:1 -DskipTests -T 4 -s {job.workspace.settings}",
    }


def test_a_property_with_a_line_break_is_refused(job: Job) -> None:
    """What neither make nor a shell could carry does not start a build."""
    with pytest.raises(UsageError, match="line break"):
        job.build(_recipe(properties={"a": "b\nc"}))


# -- failures -----------------------------------------------------------------------------------------------


def test_a_failure_in_maven_skips_the_packages(with_packaging: Job) -> None:
    """The first error is named with its line in the raw log; the packages stage is skipped."""
    tree = with_packaging.workspace.tree
    lines = [
        "[INFO] --< org.apache.cloudstack:cloud-utils >--",
        "[INFO] Building Apache CloudStack Utils 1 [1/1]",
        f"[ERROR] {tree}/utils/A.java:[3,1] cannot find symbol",
        "[INFO] BUILD FAILURE",
        "[ERROR] Failed to execute goal x:maven-compiler-plugin:3:compile (d) on project cloud-utils: no",
    ]
    with_packaging.program("mvn", "cat <<'END'\n" + "\n".join(lines) + "\nEND\nexit 1")
    outcome = with_packaging.build(_recipe())
    assert outcome.failure is not None
    assert (outcome.failure.failure_class, outcome.failure.module) == (
        FailureClass.COMPILE,
        "Apache CloudStack Utils",
    )
    assert (outcome.failure.message, outcome.failure.line) == ("utils/A.java:[3,1] cannot find symbol", 3)
    assert with_packaging.log.read_text().splitlines()[2] == lines[2]
    assert [(stage.name, stage.status) for stage in outcome.stages] == [
        ("maven", "failed"),
        ("packages", "skipped"),
    ]


def test_a_failure_in_packaging_is_no_failure_of_maven(with_packaging: Job) -> None:
    """Maven's stage stays successful, and the build can be resumed."""
    with_packaging.file("packaging.sh", "cp no-such-file x || exit 2")
    outcome = with_packaging.build(_recipe())
    assert outcome.failure is not None
    assert outcome.failure.failure_class == FailureClass.PACKAGE
    assert [stage.status for stage in outcome.stages] == ["success", "failed"]
    assert commands.why_not_resumable(_recipe(), with_packaging.workspace) is None


def test_a_build_that_says_nothing_of_success_failed(job: Job) -> None:
    """Exit status 0 without BUILD SUCCESS is no successful build."""
    job.program("mvn", "exit 0")
    outcome = job.build(_recipe(packages=False))
    assert outcome.failure is not None
    assert outcome.failure.failure_class == FailureClass.UNKNOWN


def test_a_missing_program_is_a_failed_build(job: Job) -> None:
    """A program that is not there is named, in the outcome and in the log."""
    around = Surroundings("m", "/nowhere")
    outcome = runner.build(_recipe(packages=False), job.workspace, around, log_path=job.log)
    assert outcome.failure is not None
    assert outcome.failure.failure_class == FailureClass.TOOLCHAIN
    assert "mvn" in outcome.failure.message
    assert "mvn" in job.log.read_text()


def test_maven_killed_alone_is_a_failure_with_its_signal(job: Job) -> None:
    """A SIGKILL from outside is told by its name."""
    job.program("mvn", "kill -9 $$")
    outcome = job.build(_recipe(packages=False))
    assert outcome.killed_by == signal.SIGKILL
    assert outcome.failure is not None
    assert "SIGKILL" in outcome.failure.message


def test_a_timeout_ends_the_build(job: Job) -> None:
    """A build that hangs ends at its timeout, as such."""
    job.program("mvn", "sleep 600")
    outcome = job.build(_recipe(packages=False, timeout_seconds=1))
    assert outcome.failure is not None
    assert outcome.failure.failure_class == FailureClass.TIMEOUT


def test_a_cancelled_build_leaves_nothing_running(job: Job) -> None:
    """The reason is kept, and the whole tree is gone when the outcome is there."""
    job.program("mvn", "sleep 600 & setsid sleep 600 & touch ../started; wait")

    def cancelled() -> str | None:
        return "asked for by build2" if (job.workspace.output / "started").exists() else None

    outcome = job.build(_recipe(packages=False), cancelled=cancelled)
    assert outcome.failure is not None
    assert outcome.failure.failure_class == FailureClass.CANCELLED
    assert "asked for by build2" in outcome.failure.message
    assert find_survivors(Journal(0, 0, f"{MARKER}.{job.workspace.root.name}")) == []
    assert not job.workspace.journal.exists()


@dataclass
class Scarce:
    """Resources that are as scarce as a test wants them."""

    disk: int = 1 << 40
    memory: int = 1 << 40

    def disk_free_bytes(self, path: Path) -> int:
        return self.disk

    def memory_available_bytes(self) -> int:
        return self.memory


@pytest.mark.parametrize(
    ("resources", "expected", "said"),
    [
        (Scarce(disk=100 << 20), FailureClass.DISK, "0.1 GiB are left"),
        (Scarce(memory=100 << 20), FailureClass.TOOLCHAIN, "100 MiB are left"),
    ],
)
def test_a_build_ends_before_the_machine_is_full(
    job: Job, resources: Scarce, expected: FailureClass, said: str
) -> None:
    """Below the floor of disk or memory the build is ended, with the reason and what helps."""
    job.program("mvn", "sleep 600")
    outcome = job.build(_recipe(packages=False), resources=resources)
    assert outcome.failure is not None
    assert outcome.failure.failure_class == expected
    assert said in outcome.failure.message
    assert outcome.failure.remedy is not None


def test_a_log_that_cannot_be_written_ends_the_build(job: Job) -> None:
    """A disk that is full when the log is written is a failed build of class disk, not an exception."""
    job.program("mvn", "echo x; sleep 600")
    around = Surroundings(f"{MARKER}.full", PATH)
    outcome = runner.build(_recipe(packages=False), job.workspace, around, log_path=Path("/dev/full"))
    assert outcome.failure is not None
    assert outcome.failure.failure_class == FailureClass.DISK


def test_the_time_left_is_told_from_history(job: Job) -> None:
    """With a former build on record an estimate comes while the build runs."""
    job.program("mvn", f"cat <<'END'\n{REACTOR}END\nsleep 0.3")
    facts = {"job_id": "j0", "server": "build1", "branch": "b", "commit": "a" * 40, "build_dir": "x"}
    facts |= {"created_at": "2025-10-29T12:00:00Z"}
    past = validate(
        Manifest,
        {
            **facts,
            "artifacts": [],
            "artifact_count": 0,
            "total_size_bytes": 0,
            "modules": [{"name": "Apache CloudStack Utils", "duration_seconds": 50.0}],
        },
        "manifest",
    )
    job.build(_recipe(packages=False), history=[past], limits=Limits(time_left_seconds=0.0))
    assert any(isinstance(event, TimeLeft) for event in job.events)


# -- resuming, with real debhelper --------------------------------------------------------------------------

RULES = """\
#!/usr/bin/make -f
%:
\tdh $@
override_dh_auto_configure:
\ttrue
override_dh_auto_build:
\tmvn package ${ACS_BUILD_OPTS}
override_dh_auto_clean:
\ttrue
override_dh_auto_test:
\ttrue
override_dh_auto_install:
\tmkdir debian/tmp
\tmkdir -p debian/tmp/usr/share/thing
\tcp made.jar debian/tmp/usr/share/thing/
\ttest ! -e fail-in-install
override_dh_fixperms:
\tdh_fixperms
\ttest ! -e fail-in-fixperms
"""


@pytest.mark.parametrize("compat", [9, 13])
@pytest.mark.parametrize("place", ["fail-in-install", "fail-in-fixperms"])
def test_a_resumed_build_goes_on_after_maven(job: Job, compat: int, place: str) -> None:
    """After a failed packaging Maven does not run again, and the package has all its files."""
    if not all(map(shutil.which, ("dpkg-buildpackage", "dh", "fakeroot"))):
        pytest.skip("the packaging tools are not installed")
    control = "Source: thing\nMaintainer: A <a@example.org>\nStandards-Version: 4.6.0\n"
    if compat > 9:
        control += f"Build-Depends: debhelper-compat (= {compat})\n"
    else:
        job.file("debian/compat", f"{compat}\n")
    job.file("debian/control", control + "\nPackage: thing\nArchitecture: all\nDescription: x\n")
    stamp = " -- A <a@example.org>  Wed, 29 Oct 2025 12:00:00 +0000\n"
    job.file("debian/changelog", f"thing (1.0) unstable; urgency=low\n\n  * x\n\n{stamp}")
    job.file("debian/thing.install", "usr/share/thing\n")
    job.file("debian/rules", RULES).chmod(0o755)
    job.program("mvn", f"echo x >> ../runs; echo made > made.jar; cat <<'END'\n{REACTOR}END")
    job.file(place)
    first = job.build(_recipe())
    assert [stage.status for stage in first.stages] == ["success", "failed"]
    (job.workspace.tree / place).unlink()

    outcome = job.build(_recipe(resumed_from="j1"))
    assert (outcome.failure, outcome.resumed) == (None, True)
    assert [stage.name for stage in outcome.stages] == ["packages"]
    (package,) = (path for path in outcome.packages if path.suffix == ".deb")
    assert "./usr/share/thing/made.jar" in run(["dpkg-deb", "--contents", package]).text
    assert (job.workspace.output / "runs").read_text().split() == ["x"]


def test_only_a_build_that_got_past_maven_can_be_resumed(with_packaging: Job) -> None:
    """Nothing is resumed in a directory where Maven failed, or that was built from another commit."""
    with pytest.raises(UsageError, match="Maven had not come through"):
        with_packaging.build(_recipe(resumed_from="j1"))
    with_packaging.workspace.note(maven="success", commit="b" * 40)
    with pytest.raises(UsageError, match="commit bbbbbbbbbbbb"):
        with_packaging.build(_recipe(resumed_from="j1"))


def test_fakeroot_works_in_a_namespace_without_root(job: Job) -> None:
    """A builder that is not root has a namespace without root: a real chown to it is invalid there."""
    if not all(map(shutil.which, ("fakeroot", "unshare"))):
        pytest.skip("fakeroot or unshare is not installed")
    job.file("a")
    words = ["unshare", "--user", "--map-user=2001", "--map-group=2001", "fakeroot", "sh", "-c"]
    variables = commands.environment(_recipe(), job.workspace, Surroundings(MARKER, PATH))

    def chown(variables: dict[str, str]) -> str:
        script = "chown 0:0 a && stat -c %u a"
        return run([*words, script], cwd=job.workspace.tree, env=variables, check=False).text

    plain = {name: value for name, value in variables.items() if name != "FAKEROOTDONTTRYCHOWN"}
    if run([*words[:4], "true"], check=False).returncode != 0:
        pytest.skip("this machine allows no user namespaces")
    assert chown(plain) == ""
    assert chown(variables) == "0"


# -- real Maven, real packaging -----------------------------------------------------------------------------


@pytest.fixture
def sample(tmp_path: Path, pytestconfig: pytest.Config) -> Callable[[str], Job]:
    """Makes a job of one of the sample's branches. What Maven downloads is kept from run to run."""
    cache = pytestconfig.cache
    assert cache is not None
    kept = cache.mkdir("maven")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "maven").symlink_to(kept)
    origin = tmp_path / "sample.git"
    run(["git", "init", "--quiet", "--bare", origin])
    run(["git", "-C", origin, "fast-import", "--quiet"], input=b"".join(fast_import_stream(sample_root())))

    def make(branch: str) -> Job:
        sources = Sources(tmp_path / "cache")
        workspace, _ = create(choose_place(tmp_path), branch, 1, tmp_path / "cache")
        sources.checkout(sources.resolve(str(origin), branch), workspace.tree)
        return Job(workspace)

    return make


@pytest.mark.maven
def test_the_sample_is_built(sample: Callable[[str], Job], tmp_path: Path) -> None:
    """Real Maven and real packaging: every module, packages that dpkg accepts, no SNAPSHOT in the cache."""
    job = sample("ExternalNew")
    outcome = job.build(_recipe())
    assert outcome.failure is None
    assert len(outcome.modules) >= 8
    assert all(m.status == "success" and m.duration_seconds is not None for m in outcome.modules)
    debs = [path for path in outcome.packages if path.suffix == ".deb"]
    assert len(debs) >= 4
    for deb in debs:
        assert run(["dpkg-deb", "--field", deb, "Version"]).text.startswith("4.21.0.0")
    harvest(job.workspace.repository, tmp_path / "cache" / "maven")
    assert not list((tmp_path / "cache" / "maven").rglob("*-SNAPSHOT"))


@pytest.mark.maven
def test_maven_killed_in_the_sample(sample: Callable[[str], Job]) -> None:
    """`kill -9` of Java while the packaging waits for it: the signal is named, nothing is left."""
    job = sample("hangs")

    def kill(event: BuildEvent) -> None:
        if isinstance(event, ModuleStarted) and event.index == 2:
            marker = f"{MARKER}.{job.workspace.root.name}"
            java = [p for p in find_survivors(Journal(0, 0, marker)) if p.name() == "java"]
            min(java, key=psutil.Process.create_time).kill()

    job.events = _Listening(kill)
    outcome = job.build(_recipe(timeout_seconds=100))
    assert outcome.failure is not None
    assert outcome.failure.message == "Maven was ended by SIGKILL (signal 9)."
    assert find_survivors(Journal(0, 0, f"{MARKER}.{job.workspace.root.name}")) == []


class _Listening(list[BuildEvent]):
    def __init__(self, act: Callable[[BuildEvent], None]) -> None:
        super().__init__()
        self._act = act

    def append(self, event: BuildEvent) -> None:
        super().append(event)
        self._act(event)

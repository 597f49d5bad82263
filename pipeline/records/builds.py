"""What a build is made from and what it leaves: configuration, recipe, manifest, failure, structured log."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import Field

from pipeline.records.base import Record, Timestamp, dump_json


class FailureClass(StrEnum):
    """Why a build did not succeed. Each has an exit code of its own (`errors.FAILURE_EXIT_CODES`)."""

    SOURCE = "source"
    TOOLCHAIN = "toolchain"
    DEPENDENCY = "dependency"
    COMPILE = "compile"
    TEST = "test"
    PACKAGE = "package"
    DISK = "disk"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LOST = "lost"
    UNKNOWN = "unknown"


class Failure(Record):
    """The one cause that is shown to a person. `line` is the 1-based line of the raw log."""

    failure_class: FailureClass = Field(alias="class")
    module: str | None = None
    message: str
    remedy: str | None = None
    line: int | None = None


class Stage(Record):
    """One recorded stage of a build (source, preflight, maven, packages, artifacts …)."""

    name: str
    duration_seconds: float
    status: Literal["success", "failed", "skipped"] = "success"


class ModuleTime(Record):
    """One module of the reactor, in the order in which it started.

    `artifact` is its artifact id; `started_seconds` counts from the start of the build.
    """

    name: str
    duration_seconds: float | None = None
    status: Literal["success", "failed", "skipped", "running"] = "success"
    artifact: str | None = None
    started_seconds: float | None = None


class JarSubstitute(Record):
    """A jar that is installed into the job's Maven repository under `coordinates`, taken from `source`.

    Both are `group:artifact:version`. `sha256` pins the bytes.
    """

    coordinates: str
    source: str
    sha256: str


class DownloadSubstitute(Record):
    """One URL that the build may fetch outside Maven and npm, with the bytes it gets: `text` or `file`.

    A URL that begins with `{loopback}` is a path of the stand-in server itself. `file` is relative to the
    recipe's own folder. `sha256` pins the bytes that are served.
    """

    url: str
    sha256: str
    text: str | None = None
    file: str | None = None


class Substitutes(Record):
    """What stands in for things that a builder cannot reach. Every one is an input of the build.

    `mirror_central`: one Maven settings file that sends every repository to Maven Central (or to
    `maven_mirror`, an address that only the machine's own configuration holds). `properties` are given
    to Maven as -D; the text `{loopback}` in a value is replaced by the stand-in server's address.
    `npm_install_arguments` are added to `npm install` and to nothing else. `refuse_unpinned` makes a
    download that is not listed fail.
    """

    mirror_central: bool = False
    properties: dict[str, str] = Field(default_factory=dict)
    jars: list[JarSubstitute] = Field(default_factory=list)
    node_version: str | None = None
    npm_install_arguments: list[str] = Field(default_factory=list)
    downloads: list[DownloadSubstitute] = Field(default_factory=list)
    refuse_unpinned: bool = False


class CloudStackSettings(Record):
    version: str = ""
    branch: str = ""
    repository: str = ""


class BuildSettings(Record):
    """`parallel_builds` is Maven's -T, as a number of threads; 0 leaves the reactor sequential.

    The fields after it are additions to the older format. `reproducible` keeps the day, the machine and
    chance out of what is built, from outside the source tree. `recipe` names a recipe file whose settings
    lie over these. `repository` of CloudStackSettings empty means: the embedded sample.
    """

    maven_opts: str = ""
    profiles: list[str] = Field(default_factory=lambda: ["systemvm", "developer"])
    skip_tests: bool = True
    parallel_builds: int = 0
    properties: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    substitutes: Substitutes = Field(default_factory=Substitutes)
    reproducible: bool = True
    recipe: str | None = None
    timeout_seconds: int = 4 * 3600
    minimum_disk_gb: float = 15.0
    minimum_memory_gb: float = 4.0


class JavaSettings(Record):
    """Which JDK builds. `version` is a major version, `17`; with a plus, `17+`, later ones will do as well.

    `home` is the folder of a JDK; empty has one found.
    """

    version: str = "17"
    home: str = ""

    def takes(self, major: int | None) -> bool:
        """Says whether a JDK of this major version will do."""
        wanted = int(self.version.removesuffix("+"))
        return major is not None and (major == wanted or (self.version.endswith("+") and major > wanted))


class Notifications(Record):
    on_success: bool = True
    on_failure: bool = True
    notify_via: str | list[str] = "messages"


class BuildConfig(Record):
    """`shared/build_config.json`. `branches` may hold settings of one branch, laid over `build`."""

    cloudstack: CloudStackSettings = Field(default_factory=CloudStackSettings)
    build: BuildSettings = Field(default_factory=BuildSettings)
    java: JavaSettings = Field(default_factory=JavaSettings)
    notifications: Notifications = Field(default_factory=Notifications)
    branches: dict[str, dict[str, Any]] = Field(default_factory=dict)
    last_updated: Timestamp | None = None


class Toolchain(Record):
    """The versions that a build ran with, as their programs print them; None where there is none."""

    java: str
    java_home: str
    maven: str
    maven_home: str
    node: str | None = None
    npm: str | None = None
    dpkg: str | None = None
    debhelper: str | None = None
    python: str | None = None
    git: str | None = None
    kernel: str | None = None
    distribution: str | None = None


class Listing(Record):
    """A list that is kept in a file beside the artifacts, one entry a line: too long for a ledger."""

    path: str
    count: int
    size_bytes: int
    sha256: str


class Environment(Record):
    """Where something is built: what may differ between two builds that agree. None: not known.

    `machine` tells this machine from others and is no secret. `folder` is where the tree lay as the build saw
    it, `path` its PATH, `home` its HOME. `packages` are the machine's, as `name=version`. `varied` names what
    was made different on purpose.
    """

    machine: str | None = None
    host: str | None = None
    user: str | None = None
    user_id: int | None = None
    timezone: str | None = None
    locale: str | None = None
    umask: str | None = None
    cores: int | None = None
    kernel: str | None = None
    architecture: str | None = None
    distribution: str | None = None
    folder: str | None = None
    home: str | None = None
    path: str | None = None
    toolchain: Toolchain | None = None
    packages: Listing | None = None
    varied: list[str] = Field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits: the same for builders that are set up alike, wherever they are."""
        facts = self.model_dump(mode="json", exclude=set(WHERE_AND_WHO))
        return hashlib.sha256(dump_json(facts)).hexdigest()[:16]

    @property
    def stated(self) -> Environment:
        """Returns what a builder states of itself in its status: no paths."""
        return self.model_copy(update=dict.fromkeys(("folder", "home", "path")))


#: What differs between any two builders, however alike they are set up.
WHERE_AND_WHO: Final = (
    "machine", "host", "user", "user_id", "cores", "folder", "home", "path", "varied",
)  # fmt: skip


class Inputs(Record):
    """What a build was made from beside its recipe, as it was found on the builder.

    `expected` are the packages' file names, by the tree's own `debian/control` and changelog. `dependencies`
    are the files of the Maven repository by SHA-256. `npm_locks` maps each lock file to its SHA-256 after the
    build, `submodules` each path to its commit.
    """

    tree: str
    expected: list[str]
    submodules: dict[str, str] = Field(default_factory=dict)
    npm_locks: dict[str, str] = Field(default_factory=dict)
    dependencies: Listing | None = None


class Recipe(Record):
    """Every input that can change what a build makes, resolved once.

    `source` is the repository's address without credentials. `packages` false stops after `mvn install`.
    `environment` is the build's WHOLE environment but HOME, PATH and the addresses of the stand-ins.
    `build_path` is where the tree lies while it is built; `fixed_path` says whether it is the same on
    every builder. `java` is the version of the JDK that was asked for, as the setting is written.
    `reproducible` says whether known causes of differences were removed, and `rewriting` is the SHA-256 of
    the program and the preload that do what settings cannot.
    """

    source: str
    branch: str
    commit: str
    source_date_epoch: int
    packages: bool = True
    keep_going: bool = False
    skip_tests: bool = True
    profiles: list[str] = Field(default_factory=list)
    properties: dict[str, str] = Field(default_factory=dict)
    maven_opts: str = ""
    threads: int = 0
    environment: dict[str, str] = Field(default_factory=dict)
    timezone: str = "UTC"
    locale: str = "C.UTF-8"
    umask: str = "022"
    build_path: str = ""
    fixed_path: bool = False
    toolchain: Toolchain | None = None
    java: str | None = None
    substitutes: Substitutes = Field(default_factory=Substitutes)
    reproducible: bool = False
    rewriting: str | None = None
    timeout_seconds: int = 4 * 3600
    resumed_from: str | None = None


class Artifact(Record):
    """One file of a build. `path` is relative to the manifest's `build_dir`; DEBs have package facts."""

    name: str
    path: str
    size_bytes: int
    checksums: dict[str, str]
    package: str | None = None
    version: str | None = None
    architecture: str | None = None

    @property
    def sha256(self) -> str:
        return self.checksums["sha256"]


class RawLog(Record):
    """The whole log of a build, compressed, beside the artifacts. `sha256` is of the compressed file."""

    path: str
    size_bytes: int
    raw_size_bytes: int
    sha256: str


class Download(Record):
    """One request of a build for something outside Maven and npm."""

    url: str
    tool: str
    status: Literal["served", "refused", "passed"]
    sha256: str | None = None
    size_bytes: int | None = None


class Manifest(Record):
    """What one attempt of a job made. `complete` is false for a resumed or incremental build.

    `locks` are npm's lock files as the build left them, by their path in the tree, with their SHA-256: which
    packages of npm it took.
    """

    job_id: str
    server: str
    branch: str
    commit: str
    created_at: Timestamp
    build_dir: str
    artifacts: list[Artifact]
    artifact_count: int
    total_size_bytes: int
    attempt: int = 1
    token: str | None = None
    complete: bool = True
    recipe: Recipe | None = None
    stages: list[Stage] = Field(default_factory=list)
    modules: list[ModuleTime] = Field(default_factory=list)
    downloads: list[Download] = Field(default_factory=list)
    log: RawLog | None = None
    inputs: Inputs | None = None
    environment: Environment | None = None

    @property
    def listings(self) -> list[Listing]:
        """Returns the lists that lie beside the artifacts."""
        found = [self.inputs.dependencies if self.inputs else None]
        found.append(self.environment.packages if self.environment else None)
        return [each for each in found if each is not None]


class LogEvent(Record):
    timestamp: Timestamp
    level: Literal["debug", "info", "warning", "error"]
    message: str
    details: dict[str, Any] = Field(default_factory=dict)


class StructuredLog(Record):
    log_id: str
    job_id: str
    server: str
    branch: str
    commit: str
    started_at: Timestamp
    events: list[LogEvent]
    status: str
    exit_code: int | None
    completed_at: Timestamp | None
    duration_seconds: float | None

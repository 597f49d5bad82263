"""Prepares what stands in for the things that a builder cannot reach, in a folder of the job's own.

    1. Maven settings      where Central is for this machine (`maven_settings`)
    2. the stand-in server with pinned files, and `wget` and `curl` that ask it (`standin`)
    3. `npm`               with the recipe's arguments, for `npm install` only
    4. Node                of the pipeline's own, kept in its cache
    5. jars                under other coordinates, in the job's own Maven repository

Every one is named in the recipe, and so in the manifest; nothing of the machine but the way to its mirrors
gets in. Nothing is written outside the job's folders and the cache.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from pipeline.builds import maven_settings, standin, standin_client
from pipeline.builds.poms import Dependency
from pipeline.builds.standin import LOOPBACK, StandIn
from pipeline.edge import process
from pipeline.errors import BuildFailed, CommandFailed
from pipeline.records.builds import Download, JarSubstitute, Recipe, Substitutes

_FETCH_SECONDS: Final = 60.0
_BLOCK_BYTES: Final = 1 << 16
_NODE_INSTALL_SECONDS: Final = 600.0
#: How this machine reaches the outside. None of it changes what is fetched.
_PROXIES: Final = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_CERTIFICATES: Final = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
)

_POM: Final = """\
<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>{group}</groupId>
  <artifactId>{artifact}</artifactId>
  <version>{version}</version>
  <description>Stands in for the artifact of this name: {source}</description>
</project>
"""

_NPM: Final = """\
#!/bin/sh
# npm as it is, with the recipe's arguments behind `install`.
found=
count=$#
while [ "$count" -gt 0 ]; do
  word=$1
  shift
  count=$((count - 1))
  set -- "$@" "$word"
  if [ -z "$found" ]; then
    case $word in
      install | i | add) found=yes; set -- "$@" {arguments} ;;
      run | run-script | exec | x | test | t | start | rebuild) found=no ;;
    esac
  fi
done
exec {npm} "$@"
"""

#: Fetches a URL into a file, or raises OSError.
Fetch = Callable[[str, Path], None]


@dataclass(frozen=True)
class Machine:
    """What a preparation may look at. `path` is the build's own PATH, `cache` the pipeline's cache."""

    environ: Mapping[str, str]
    home: Path
    path: str
    maven_home: Path
    cache: Path

    @property
    def settings(self) -> Path:
        """Returns the file of the machine's own Maven settings."""
        return self.home / ".m2" / "settings.xml"


@dataclass(frozen=True)
class Prepared:
    """What a build is given. Close it when the build has ended.

    `bin_dir` comes first on PATH. `environment` is added to the recipe's: addresses only. `properties` are
    the recipe's substitutes with `{loopback}` filled in. `local_artifacts` are folders, relative to the job's
    Maven repository, that must not get into the shared cache. `notes` say in words what was prepared.
    """

    bin_dir: Path
    environment: dict[str, str]
    properties: dict[str, str]
    local_artifacts: tuple[str, ...]
    notes: tuple[str, ...]
    standin: StandIn = field(repr=False)

    def downloads(self) -> list[Download]:
        """Returns what the build has asked the stand-ins for so far."""
        return self.standin.downloads()

    def close(self) -> None:
        """Stops the server."""
        self.standin.close()

    def __enter__(self) -> Prepared:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prepare(
    recipe: Recipe,
    job_dir: Path,
    home: Path,
    repository: Path,
    machine: Machine,
    recipe_folder: Path | None,
    cancelled: Callable[[], str | None] = lambda: None,
) -> Prepared:
    """Prepares a job: `home` is its HOME, `repository` its Maven repository, both made here if need be.

    `cancelled` is asked while something is fetched. Raises ConfigInvalid for a recipe whose pinned bytes are
    not there, BuildFailed (class `dependency` or `toolchain`) for a jar or a Node that cannot be fetched, or
    `cancelled`.
    """
    wanted = recipe.substitutes
    bin_dir = job_dir / "bin"
    for folder in (bin_dir, home / ".m2", repository):
        folder.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    mirror = None
    # Whoever sets the variable means it, for every recipe.
    everything = wanted.mirror_central or bool(
        machine.environ.get(maven_settings.MIRROR_VARIABLE, "").strip()
    )
    if everything or wanted.jars:
        mirror = maven_settings.find_mirror(machine.environ, machine.settings, machine.maven_home)
    used = mirror if everything else None
    _write(home / ".m2" / "settings.xml", maven_settings.settings_xml(used, machine.settings), 0o600)
    if used is not None:
        notes.append(f"every Maven repository is mirrored by Central (address from {used.origin})")
    for jar in wanted.jars:
        install_jar(jar, repository, machine, mirror.url if mirror else "", cancelled=cancelled)
        notes.append(f"{jar.coordinates} is {jar.source}")
    node = own_node(wanted.node_version, machine, cancelled) if wanted.node_version else None
    if node is not None:
        _link(bin_dir / "node", node)
        notes.append(f"Node {wanted.node_version} of the pipeline's own")
    _write_npm(bin_dir, wanted, node, machine)
    folder = recipe_folder or job_dir
    pinned = [standin.pin(one, folder) for one in wanted.downloads]
    server = StandIn(pinned, refuse_unpinned=wanted.refuse_unpinned).__enter__()
    try:
        _write_tools(bin_dir, server.address, machine.path)
    except BaseException:
        server.close()
        raise
    notes += [f"{one.url} is pinned to {one.sha256[:12]}" for one in pinned]
    return Prepared(
        bin_dir=bin_dir,
        environment=outside(machine),
        properties={
            name: value.replace(LOOPBACK, server.address) for name, value in wanted.properties.items()
        },
        local_artifacts=tuple(_artifact(jar.coordinates).path().rpartition("/")[0] for jar in wanted.jars),
        notes=tuple(notes),
        standin=server,
    )


def outside(machine: Machine) -> dict[str, str]:
    """Returns the variables that say how this machine reaches mirrors: proxies, certificates, npm's own."""
    names = [*_PROXIES, *(name.upper() for name in _PROXIES), *_CERTIFICATES]
    found = {name: machine.environ[name] for name in names if machine.environ.get(name)}
    if any("proxy" in name.lower() for name in found):
        for name in ("no_proxy", "NO_PROXY"):
            found[name] = ",".join(filter(None, [found.get(name, ""), "127.0.0.1", "localhost"]))
    found["npm_config_cache"] = str(machine.cache / "npm")
    own = machine.home / ".npmrc"
    if own.is_file():
        found["npm_config_userconfig"] = str(own)
    return found


def install_jar(
    jar: JarSubstitute,
    repository: Path,
    machine: Machine,
    central: str,
    fetch: Fetch | None = None,
    cancelled: Callable[[], str | None] = lambda: None,
) -> Path:
    """Puts a jar and a minimal pom under other coordinates into a Maven repository; returns the jar's path.

    The job's repository shares its files with the cache by hard links: nothing is written through one,
    every file is made new beside it and renamed over it.
    """
    from xml.sax.saxutils import escape  # it loads all of urllib

    source, target = _artifact(jar.source), _artifact(jar.coordinates)
    data = _pinned_jar(source, jar.sha256, [repository], machine, central, fetch or _http_fetch(cancelled))
    place = repository / target.path()
    place.parent.mkdir(parents=True, exist_ok=True)
    for stale in place.parent.glob("*.lastUpdated"):
        stale.unlink()
    pom = _POM.format(
        group=escape(target.group),
        artifact=escape(target.artifact),
        version=escape(target.version),
        source=escape(jar.source),
    )
    _write(place, data, 0o644)
    _write(repository / target.path("pom"), pom.encode(), 0o644)
    # An empty origin means "installed here": Maven then asks no repository whether it has the artifact.
    names = (place.name, place.with_suffix(".pom").name)
    _write(place.parent / "_remote.repositories", "".join(f"{name}>=\n" for name in names).encode(), 0o644)
    return place


def _pinned_jar(
    source: Dependency,
    sha256: str,
    repositories: Sequence[Path],
    machine: Machine,
    central: str,
    fetch: Fetch,
) -> bytes:
    """Returns the bytes of a jar from a repository on disk, from the cache, or from Central once."""
    kept = machine.cache / "pinned" / sha256
    for candidate in (kept, *(folder / source.path() for folder in repositories)):
        try:
            data = candidate.read_bytes()
        except OSError:
            continue
        if hashlib.sha256(data).hexdigest() == sha256:
            if candidate != kept:
                _write(kept, data, 0o644)
            return data
    url = f"{central}/{source.path()}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".fetch-") as folder:
        fresh = Path(folder) / "jar"
        try:
            fetch(url, fresh)
            data = fresh.read_bytes()
        except OSError as exc:
            raise BuildFailed(
                f"The jar {source.coordinates} that the recipe substitutes cannot be fetched: {exc}",
                failure_class="dependency",
                remedy=f"Make {url} reachable, or set {maven_settings.MIRROR_VARIABLE}.",
            ) from exc
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BuildFailed(
            f"The jar {source.coordinates} has the digest {found}, the recipe says {sha256}",
            failure_class="dependency",
            remedy="If the new bytes are right, write their digest into the recipe.",
        )
    _write(kept, data, 0o644)
    return data


def _http_fetch(cancelled: Callable[[], str | None]) -> Fetch:
    def fetch(url: str, target: Path) -> None:
        # HTTP takes 15 ms to import, and a builder whose cache is full fetches nothing.
        import urllib.error
        import urllib.request

        try:
            with urllib.request.urlopen(url, timeout=_FETCH_SECONDS) as reply, target.open("wb") as file:
                while block := reply.read1(_BLOCK_BYTES):
                    _insist_on_going_on(cancelled, "a jar")
                    file.write(block)
        except (urllib.error.URLError, ValueError) as exc:
            raise OSError(str(exc)) from exc

    return fetch


def _insist_on_going_on(cancelled: Callable[[], str | None], what: str) -> None:
    if (reason := cancelled()) is not None:
        raise BuildFailed(f"Cancelled while {what} was fetched: {reason}.", failure_class="cancelled")


def own_node(version: str, machine: Machine, cancelled: Callable[[], str | None] = lambda: None) -> Path:
    """Returns a Node of the given version out of the cache; the first time npm fetches it there."""
    architecture = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"node-linux-{architecture}"
    folder = machine.cache / "node" / version
    program = folder / "node_modules" / package / "bin" / "node"
    if program.is_file():
        return program
    npm = shutil.which("npm", path=machine.path)
    remedy = "Install npm (`invoke doctor --install`), or leave `substitutes.node_version` out."
    if npm is None:
        problem = f"Node {version} of the recipe cannot be fetched: there is no npm"
        raise BuildFailed(problem, failure_class="toolchain", remedy=remedy)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as made:
        fresh = Path(made) / "tree"
        words = [
            "install",
            "--no-save",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(fresh),
        ]
        environment = {**outside(machine), "PATH": machine.path, "HOME": str(machine.home)}
        try:
            process.run(
                [npm, *words, f"{package}@{version}"],
                env=environment,
                timeout=_NODE_INSTALL_SECONDS,
                stop=lambda: cancelled() is not None,
            )
            process.run([fresh / "node_modules" / package / "bin" / "node", "--version"], timeout=30)
        except CommandFailed as exc:
            _insist_on_going_on(cancelled, "Node")
            problem = f"Node {version} of the recipe cannot be fetched: {exc.message}"
            raise BuildFailed(problem, failure_class="toolchain", remedy=remedy) from exc
        if not program.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
    return program


def _write_npm(bin_dir: Path, wanted: Substitutes, node: Path | None, machine: Machine) -> None:
    npm = shutil.which("npm", path=machine.path)
    if npm is None or not (wanted.npm_install_arguments or node):
        return
    command = shlex.quote(npm)
    if node is not None:
        command = f"{shlex.quote(str(bin_dir / 'node'))} {shlex.quote(os.path.realpath(npm))}"
    arguments = " ".join(shlex.quote(word) for word in wanted.npm_install_arguments)
    _write(bin_dir / "npm", _NPM.format(arguments=arguments, npm=command).encode(), 0o755)


def _write_tools(bin_dir: Path, address: str, path: str) -> None:
    for tool in ("wget", "curl"):
        real = shutil.which(tool, path=path) or ""
        words = [sys.executable, "-I", "-S", str(Path(standin_client.__file__)), address, tool, real]
        script = f'#!/bin/sh\nexec {" ".join(shlex.quote(word) for word in words)} "$@"\n'
        _write(bin_dir / tool, script.encode(), 0o755)


def _artifact(coordinates: str) -> Dependency:
    group, artifact, version = coordinates.split(":")
    return Dependency(group, artifact, version, "jar", "", "")


def _link(place: Path, target: Path) -> None:
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replaces a file by a new one, never writing through a hard link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

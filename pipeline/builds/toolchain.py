"""The tools of this machine: where they are, which versions they have, and one fingerprint of them all.

Versions are read from files where there are any (a JDK's `release`, Maven's own jar, npm's package.json), and
what compiled programs say of themselves is kept as long as their files are the same (`edge.findings`): a look
costs about 60 ms the first time and 3 ms afterwards. What must not live here: whether a version will do
(`preflight`).

Python, git and the packaging tools are taken from the system's folders before anything else on PATH: the
build's Python modules are Debian packages, and only the system's own Python sees them. Java, Maven and Node
are taken from PATH first, because that is where an operator puts the ones that he means.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.edge import process
from pipeline.edge.findings import Findings, file_facts, program_facts
from pipeline.errors import CommandFailed, RecordInvalid
from pipeline.records.base import dump, load_json
from pipeline.records.builds import JavaSettings, Toolchain

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_JVM_FOLDER: Final = Path("/usr/lib/jvm")
_TIMEOUT_SECONDS: Final = 20.0
_MAVEN_CORE: Final = "META-INF/maven/org.apache.maven/maven-core/pom.properties"


@dataclass(frozen=True)
class Found:
    """What was found. `programs` maps a name to its file; `path` is the PATH of a build that uses them."""

    toolchain: Toolchain
    programs: Mapping[str, Path]

    @property
    def path(self) -> str:
        """Returns the folders of the found programs that the system's PATH lacks, then the system's."""
        system = SYSTEM_PATH.split(":")
        names = ("javac", "mvn", "node", "npm")
        own = [str(self.programs[name].parent) for name in names if name in self.programs]
        return ":".join(dict.fromkeys([folder for folder in own if folder not in system] + system))


@dataclass(frozen=True)
class Jdk:
    """A JDK's folder, its whole version and the first number of it."""

    home: Path
    version: str
    major: int


def find(
    java: JavaSettings,
    environ: Mapping[str, str],
    *,
    jvm_folder: Path = _JVM_FOLDER,
    os_release: Path = Path("/etc/os-release"),
    system_path: str = SYSTEM_PATH,
    findings: Findings | None = None,
) -> Found:
    """Looks for every tool; what is missing is None, or empty for Java and Maven. Raises nothing.

    `findings` are what former looks have found.
    """
    kept = findings or Findings()
    own_path = environ.get("PATH", "")
    chosen = _choose_jdk(java, environ, jvm_folder)
    programs: dict[str, Path] = {}
    for name, search in {
        **dict.fromkeys(("mvn", "node", "npm"), f"{own_path}:{system_path}"),
        **dict.fromkeys(("python3", "git", "dpkg-deb", "dpkg-query", "dh"), f"{system_path}:{own_path}"),
    }.items():
        at = shutil.which(name, path=search)
        if at:
            programs[name] = Path(at)
    if chosen:
        programs["javac"] = chosen.home / "bin" / "javac"
    maven_home, maven = _maven(programs.get("mvn"), environ)
    with ThreadPoolExecutor(4) as pool:
        node = pool.submit(_version, programs.get("node"), kept)
        python = pool.submit(_version, programs.get("python3"), kept)
        git = pool.submit(_version, programs.get("git"), kept)
        packages = pool.submit(_package_versions, programs.get("dpkg-query"), kept)
        versions = packages.result()
        toolchain = Toolchain(
            java=chosen.version if chosen else "",
            java_home=str(chosen.home) if chosen else "",
            maven=maven,
            maven_home=maven_home,
            node=node.result(),
            npm=_npm_version(programs.get("npm")),
            dpkg=versions.get("dpkg"),
            debhelper=versions.get("debhelper"),
            python=_last_word(python.result()),
            git=_last_word(git.result()),
            kernel=platform.release(),
            distribution=distribution(os_release).get("PRETTY_NAME"),
        )
    return Found(toolchain, programs)


def fingerprint(toolchain: Toolchain) -> str:
    """Returns 16 hexadecimal digits that are the same for the same versions in the same places."""
    return hashlib.sha256(dump(toolchain)).hexdigest()[:16]


def major(version: str | None) -> int | None:
    """Returns the first number of a version such as `v20.20.2` or `17.0.15+6`; 8 for Java's `1.8`."""
    match = re.match(r"v?(?:1\.(?=[0-8]\b))?(\d+)", version or "")
    return int(match[1]) if match else None


def distribution(os_release: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Returns the fields of an os-release file; empty where there is none."""
    try:
        lines = os_release.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def read_jdk(home: Path) -> Jdk | None:
    """Reads one JDK by its `release` file; None for a folder that holds no compiler."""
    if not (home / "bin" / "javac").is_file():
        return None
    try:
        text = (home / "release").read_text(errors="replace")
    except OSError:
        return _asked_jdk(home)
    fields = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', text, re.MULTILINE))
    version = fields.get("JAVA_RUNTIME_VERSION") or fields.get("JAVA_VERSION") or ""
    number = major(version)
    return Jdk(home, version, number) if number is not None else _asked_jdk(home)


def _asked_jdk(home: Path) -> Jdk | None:
    line = _first_line(home / "bin" / "javac", "-version")
    version = _last_word(line) or ""
    number = major(version)
    return None if number is None else Jdk(home, version, number)


def _choose_jdk(java: JavaSettings, environ: Mapping[str, str], jvm_folder: Path) -> Jdk | None:
    """Returns the configured JDK, else the first of the wanted version, else the nearest later one.

    Where none will do, it is the first there is: the checks then name it.
    """
    if java.home:
        return read_jdk(Path(java.home))
    wanted = major(java.version)
    found: list[Jdk] = []
    for home in _jdk_homes(environ, jvm_folder):
        jdk = read_jdk(home)
        if jdk is not None and jdk.major == wanted:
            return jdk
        found += [jdk] if jdk is not None else []
    fitting = [jdk for jdk in found if java.takes(jdk.major)]
    return min(fitting or found[:1], key=lambda jdk: jdk.major, default=None)


def _jdk_homes(environ: Mapping[str, str], jvm_folder: Path) -> Iterator[Path]:
    if environ.get("JAVA_HOME"):
        yield Path(environ["JAVA_HOME"])
    compiler = shutil.which("javac", path=environ.get("PATH", ""))
    if compiler:
        yield Path(os.path.realpath(compiler)).parent.parent
    if jvm_folder.is_dir():
        # The links that Debian puts beside them have other names on other releases.
        yield from sorted(home for home in jvm_folder.iterdir() if not home.is_symlink())


def _maven(program: Path | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Returns Maven's home and version; both empty where there is none."""
    if program is None:
        return "", ""
    homes = [Path(os.path.realpath(program)).parent.parent]
    homes += [Path(environ[name]) for name in ("MAVEN_HOME", "M2_HOME") if environ.get(name)]
    for home in homes:
        version = maven_version(home)
        if version:
            return str(home), version
    text = _first_line(program, "-version", whole=True) or ""
    found = re.search(r"Apache Maven (\S+)", text)
    at = re.search(r"Maven home: (.+)", text)
    return (at[1].strip() if at else ""), (found[1].removesuffix("\x1b[m") if found else "")


def maven_version(home: Path) -> str | None:
    """Reads Maven's version out of its core jar; None where that cannot be read."""
    for jar in sorted(home.glob("lib/maven-core-*.jar")):
        try:
            with zipfile.ZipFile(jar) as archive:
                text = archive.read(_MAVEN_CORE).decode()
        except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError):
            continue
        found = re.search(r"^version=(\S+)", text, re.MULTILINE)
        if found:
            return found[1]
    return None


def _npm_version(program: Path | None) -> str | None:
    if program is None:
        return None
    description = Path(os.path.realpath(program)).parent.parent / "package.json"
    try:
        version = load_json(description.read_bytes(), "package.json").get("version")
    except (OSError, RecordInvalid, AttributeError):  # a script, or another layout: ask npm itself
        version = None
    return str(version) if version else _first_line(program, "--version")


def _version(program: Path | None, findings: Findings) -> str | None:
    """Returns what a program answers to `--version`."""
    if program is None:
        return None
    facts = program_facts(program)
    answer = findings.of(f"version-{program.name}", facts, lambda: _first_line(program, "--version"))
    return None if answer is None else str(answer)


def _package_versions(program: Path | None, findings: Findings) -> dict[str, str]:
    if program is None:
        return {}
    facts = package_facts(program)
    return dict(findings.of("packaging", facts, lambda: _asked_package_versions(program)))


def package_facts(program: Path | None = None) -> list[Any] | None:
    """Returns what dpkg's answers depend on: itself, its list, and changes to the list that are under way."""
    place = Path(os.environ.get("DPKG_ADMINDIR", "/var/lib/dpkg"))
    own = program_facts(program or Path("/usr/bin/dpkg-query"))
    status, updates = file_facts(place / "status"), file_facts(place / "updates")
    return [own, status, updates] if own and status else None


def _asked_package_versions(program: Path) -> dict[str, str]:
    format_ = "${Package} ${Version} ${db:Status-Status}\n"
    try:
        done = process.run(
            [program, "-W", "-f", format_, "dpkg", "debhelper"], timeout=_TIMEOUT_SECONDS, check=False
        )
    except CommandFailed:
        return {}
    rows = (line.split(" ") for line in done.text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def _first_line(program: Path | None, *arguments: str, whole: bool = False) -> str | None:
    """Returns what a program prints about itself; None if it cannot."""
    if program is None:
        return None
    try:
        done = process.run([program, *arguments], timeout=_TIMEOUT_SECONDS)
    except CommandFailed:
        return None
    text = done.text.strip() or done.errors
    if whole:
        return text
    return text.splitlines()[0].strip() if text else None


def _last_word(line: str | None) -> str | None:
    return line.split()[-1] if line else None

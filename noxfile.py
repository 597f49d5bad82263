"""What CI runs. `./bootstrap nox` runs the sessions that decide; `nox --list` shows the others.

The sessions use the environment that nox itself runs in, which `bootstrap` made with the extra `dev`. Only
the tests on other Pythons need environments of their own: `.nox/tests-<version>`, kept from run to run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
RUNNING = "{}.{}".format(*sys.version_info)
VERSIONS = sorted({"3.11", "3.12", "3.13", "3.14", RUNNING}, key=lambda version: int(version.split(".")[1]))
OWN_SESSIONS = ("cluster", "simulation", "bench", "platforms")
#: The Mavens that users have, and the next one. The binary distribution is an artifact of Maven Central.
MAVENS = ("3.6.3", "3.8.8", "3.9.11", "4.0.0-rc-5")

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "types", f"tests({RUNNING})"]
nox.options.default_venv_backend = "none"


@nox.session
def lint(session: nox.Session) -> None:
    """Style and form: ruff."""
    session.run(sys.executable, "-m", "ruff", "check", ".")
    session.run(sys.executable, "-m", "ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy, strict."""
    session.run(sys.executable, "-m", "mypy")


@nox.session
@nox.parametrize("version", [nox.param(version, id=version) for version in VERSIONS])
def tests(session: nox.Session, version: str) -> None:
    """The test suite, on every installed Python; arguments go to pytest."""
    python = sys.executable if version == RUNNING else other_python(session, version)
    ignored = [f"--ignore=tests/{folder}" for folder in OWN_SESSIONS]
    session.run(python, "-m", "pytest", "-n", "auto", *ignored, *session.posargs)


@nox.session
@nox.parametrize("maven", [nox.param(version, id=f"maven-{version}") for version in MAVENS])
def platforms(session: nox.Session, maven: str) -> None:
    """The main job with each Maven that users have; arguments go to pytest."""
    program = other_maven(session, maven)
    path = f"{program.parent}:{session.env.get('PATH') or os.environ['PATH']}"
    words = ("-n", "auto", "--dist", "loadfile", "tests/platforms/test_maven.py", "tests/test_main_job.py")
    session.run(sys.executable, "-m", "pytest", *words, *session.posargs, env={"PATH": path})


@nox.session
def places(session: nox.Session) -> None:
    """The installed wheel, and the main job as a user who has next to nothing; arguments go to pytest."""
    words = (
        "-n",
        "auto",
        "--dist",
        "loadfile",
        "tests/platforms/test_wheel.py",
        "tests/platforms/test_places.py",
        "tests/platforms/test_verdicts.py",
        "tests/platforms/test_rebuild.py",
        "tests/platforms/test_rounds.py",
        "tests/platforms/test_three_builders.py",
    )
    session.run(sys.executable, "-m", "pytest", *words, *session.posargs)


@nox.session
def schemas(session: nox.Session) -> None:
    """The committed JSON Schemas are those of the records."""
    session.run(sys.executable, "-m", "pipeline.records.schemas", "--check")


@nox.session
def docs(session: nox.Session) -> None:
    """The generated reference is up to date, and the pages' links lead somewhere."""
    session.run(sys.executable, "-m", "pipeline.console.reference", "--check")
    session.run(sys.executable, "-m", "pytest", "-q", "tests/test_docs.py")


@nox.session
def cluster(session: nox.Session) -> None:
    """The proof: simulated cluster, mutants, models, real cluster; `-- --help` lists its longer forms.

    `-- --size small|medium|large` runs the directed tests of tests/simulation and tests/cluster instead.
    """
    if not any(word.startswith("--size") for word in session.posargs):
        session.run(sys.executable, "-m", "tests.proof", *session.posargs)
        return
    words = ("-n", "auto", "--timeout", "1800", "tests/simulation", "tests/cluster", *session.posargs)
    session.run(sys.executable, "-m", "pytest", *words)


@nox.session
def bench(session: nox.Session) -> None:
    """The figures that are promised, measured. `-- --json FILE` writes them for programs as well."""
    if not (ROOT / "tests/bench/__main__.py").exists():
        session.error("there is no benchmark: tests/bench/__main__.py is missing")
    session.run(sys.executable, "-m", "tests.bench", *session.posargs)


def other_maven(session: nox.Session, version: str) -> Path:
    """Returns `mvn` of that version, fetched once by the Maven that is installed, into `.nox/mavens`."""
    folder = ROOT / ".nox" / "mavens"
    program = folder / f"apache-maven-{version}" / "bin" / "mvn"
    if program.exists():
        return program
    archive = f"org.apache.maven:apache-maven:{version}:tar.gz:bin"
    making = folder / f"making-{version}"
    shutil.rmtree(making, ignore_errors=True)
    copy = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
    words = ("mvn", "-q", "-B", "-C", copy, f"-Dartifact={archive}", f"-DoutputDirectory={making}")
    session.run(*words, env={"MAVEN_SKIP_RC": "1"}, external=True)
    shutil.unpack_archive(making / f"apache-maven-{version}-bin.tar.gz", making, filter="data")
    (making / program.parent.parent.name).rename(program.parent.parent)
    shutil.rmtree(making)
    return program


def other_python(session: nox.Session, version: str) -> str:
    """Returns a Python of that version with the project in it, or skips the session where there is none.

    An interpreter counts when it runs: version switchers leave programs on PATH that only print an error.
    """
    program = shutil.which(f"python{version}")
    if program is None or subprocess.run([program, "-c", "import venv"], capture_output=True).returncode != 0:
        session.skip(f"Python {version} is not installed")
    folder = ROOT / ".nox" / f"tests-{version}"
    python, stamp = folder / "bin" / "python", folder / ".ready"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if not python.exists() or not stamp.exists() or stamp.read_text() != wanted:
        stamp.unlink(missing_ok=True)
        session.run(program, "-m", "venv", "--clear", str(folder))
        session.run(str(python), "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[test]")
        stamp.write_text(wanted)
    return str(python)

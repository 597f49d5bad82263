"""Promises of the toolchain: the right JDK, versions out of files, and no error for what is missing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.builds import toolchain
from pipeline.builds.toolchain import Found
from pipeline.edge.findings import Findings
from pipeline.records.builds import JavaSettings, Toolchain


def program(path: Path, body: str) -> Path:
    """Makes an executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def jdk(home: Path, version: str | None, *, compiler: bool = True) -> Path:
    """Makes a folder like a JDK's; without a version it has no `release` file."""
    home.mkdir(parents=True)
    if compiler:
        program(home / "bin" / "javac", "echo javac 11.0.2")
    if version is not None:
        (home / "release").write_text(f'IMPLEMENTOR="X"\nJAVA_RUNTIME_VERSION="{version}"\n')
    return home


def maven(home: Path, version: str) -> Path:
    """Makes a folder like Maven's, and returns its program."""
    (home / "lib").mkdir(parents=True)
    with zipfile.ZipFile(home / "lib" / "maven-core-x.jar", "w") as jar:
        jar.writestr(toolchain._MAVEN_CORE, f"artifactId=maven-core\nversion={version}\n")
    return program(home / "bin" / "mvn", "echo started && exit 1")


def find(tmp_path: Path, java: JavaSettings | None = None, **environ: str) -> Found:
    """Looks in a world that has nothing but what a test put into `tmp_path`."""
    (tmp_path / "jvm").mkdir(exist_ok=True)
    environ.setdefault("PATH", str(tmp_path / "bin"))
    return toolchain.find(
        java or JavaSettings(version="17"),
        environ,
        jvm_folder=tmp_path / "jvm",
        os_release=tmp_path / "os-release",
        system_path=str(tmp_path / "sbin"),
    )


def test_an_empty_machine_is_described_and_not_an_error(tmp_path: Path) -> None:
    """Nothing found is an answer: empty Java and Maven, None for the rest."""
    found = find(tmp_path)
    assert (found.toolchain.java, found.toolchain.maven) == ("", "")
    assert found.toolchain.node is None
    assert found.toolchain.distribution is None
    assert found.programs == {}


def test_the_configured_jdk_is_taken_whatever_else_there_is(tmp_path: Path) -> None:
    """`java.home` decides, even with another version than wanted: preflight then says so."""
    jdk(tmp_path / "jvm" / "a-17", "17.0.1+2")
    home = jdk(tmp_path / "mine", "21.0.1+3")
    assert find(tmp_path, JavaSettings(version="17", home=str(home))).toolchain.java == "21.0.1+3"


def test_the_jdk_of_the_wanted_version_is_chosen(tmp_path: Path) -> None:
    """JAVA_HOME of another version gives way to a JDK of the wanted one."""
    other = jdk(tmp_path / "other", "21.0.1+3")
    jdk(tmp_path / "jvm" / "b-17", "17.0.9+9")
    found = find(tmp_path, JAVA_HOME=str(other))
    assert found.toolchain.java == "17.0.9+9"
    assert found.programs["javac"] == tmp_path / "jvm" / "b-17" / "bin" / "javac"


def test_of_later_jdks_the_nearest_is_chosen(tmp_path: Path) -> None:
    """Where later ones will do: the wanted one, else the nearest later one, and no earlier one."""
    jdk(tmp_path / "jvm" / "a-11", "11.0.1+2")
    jdk(tmp_path / "jvm" / "b-25", "25.0.1+2")
    jdk(tmp_path / "jvm" / "c-21", "21.0.1+2")
    later = JavaSettings(version="17+")
    assert find(tmp_path, later).toolchain.java == "21.0.1+2"
    assert find(tmp_path, JavaSettings(version="26+")).toolchain.java == "11.0.1+2"
    jdk(tmp_path / "jvm" / "d-17", "17.0.9+9")
    assert find(tmp_path, later).toolchain.java == "17.0.9+9"


def test_a_runtime_without_compiler_is_no_jdk(tmp_path: Path) -> None:
    """A folder without javac is passed over."""
    jdk(tmp_path / "jvm" / "a-17-jre", "17.0.9+9", compiler=False)
    assert find(tmp_path).toolchain.java == ""


def test_a_jdk_without_release_file_is_asked(tmp_path: Path) -> None:
    """Where no file tells the version, javac does."""
    assert toolchain.read_jdk(jdk(tmp_path / "old", None)) == toolchain.Jdk(tmp_path / "old", "11.0.2", 11)


def test_maven_s_version_comes_from_its_jar(tmp_path: Path) -> None:
    """Maven is not started: its program would fail here."""
    program_ = maven(tmp_path / "maven", "3.9.6")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mvn").symlink_to(program_)
    found = find(tmp_path)
    assert (found.toolchain.maven, found.toolchain.maven_home) == ("3.9.6", str(tmp_path / "maven"))


def test_a_maven_of_another_layout_is_asked(tmp_path: Path) -> None:
    """A wrapper without jars beside it is run, and its words are read."""
    program(tmp_path / "bin" / "mvn", "echo 'Apache Maven 3.6.3 (abc)'; echo 'Maven home: /opt/m'")
    found = find(tmp_path)
    assert (found.toolchain.maven, found.toolchain.maven_home) == ("3.6.3", "/opt/m")


def test_npm_s_version_comes_from_its_own_file(tmp_path: Path) -> None:
    """npm, which takes long to start, is not started."""
    root = tmp_path / "lib" / "npm"
    cli = program(root / "bin" / "npm-cli.js", "exit 1")
    (root / "package.json").write_text('{"version": "10.2.3"}')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").symlink_to(cli)
    assert find(tmp_path).toolchain.npm == "10.2.3"


def test_the_system_s_python_and_the_operator_s_node(tmp_path: Path) -> None:
    """Python is the system's first, because Debian's modules are only there; Node is PATH's first."""
    for folder, version in (("bin", "1"), ("sbin", "2")):
        program(tmp_path / folder / "python3", f"echo Python 3.{version}")
        program(tmp_path / folder / "node", f"echo v{version}.0.0")
    found = find(tmp_path)
    assert found.toolchain.python == "3.2"
    assert found.toolchain.node == "v1.0.0"


def test_the_build_s_path_leads_to_what_was_found(tmp_path: Path) -> None:
    """Folders of found programs come first, each once, then the system's."""
    program(tmp_path / "bin" / "node", "echo v20.0.0")
    home = jdk(tmp_path / "jvm" / "b-17", "17.0.9+9")
    path = find(tmp_path).path.split(":")
    assert path[:2] == [str(home / "bin"), str(tmp_path / "bin")]
    assert ":".join(path[2:]) == toolchain.SYSTEM_PATH


def test_a_tool_that_hangs_up_is_a_tool_without_version(tmp_path: Path) -> None:
    """A program that fails when it is asked counts as not there."""
    program(tmp_path / "bin" / "node", "exit 3")
    assert find(tmp_path).toolchain.node is None


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("v20.20.2", 20),
        ("17.0.15+6", 17),
        ("1.8.0_392", 8),
        ("21", 21),
        ("", None),
        (None, None),
        ("x", None),
    ],
)
def test_major_versions(version: str | None, number: int | None) -> None:
    """The first number counts, and Java 1.8 is 8."""
    assert toolchain.major(version) == number


def test_the_distribution_is_read_as_os_release_has_it(tmp_path: Path) -> None:
    """Quotes go, comments and lines without a sign are passed over."""
    (tmp_path / "os-release").write_text('# c\nPRETTY_NAME="Debian 12"\nID=debian\nnonsense\n')
    assert toolchain.distribution(tmp_path / "os-release") == {"PRETTY_NAME": "Debian 12", "ID": "debian"}


@settings(max_examples=30)
@given(st.binary(max_size=300))
def test_no_release_file_makes_a_traceback(data: bytes) -> None:
    """Any bytes in a JDK's release file give a JDK or none."""
    with tempfile.TemporaryDirectory() as folder:
        home = jdk(Path(folder) / "jdk", None)
        (home / "release").write_bytes(data)
        toolchain.read_jdk(home)


def test_the_fingerprint_follows_the_versions() -> None:
    """Equal tools have one fingerprint, another version another."""
    one = Toolchain(java="17", java_home="/j", maven="3.8", maven_home="/m")
    assert toolchain.fingerprint(one) == toolchain.fingerprint(one.model_copy())
    assert toolchain.fingerprint(one) != toolchain.fingerprint(one.model_copy(update={"maven": "3.9"}))
    assert len(toolchain.fingerprint(one)) == 16


def test_a_program_is_asked_again_once_it_is_another(tmp_path: Path) -> None:
    """A compiled program's version is known as long as its file is the same, to who keeps findings."""
    node, findings = tmp_path / "bin" / "node", Findings(tmp_path / "findings")
    node.parent.mkdir()
    shutil.copy(os.path.realpath("/bin/true"), node)

    def version(kept: Findings | None) -> str | None:
        found = toolchain.find(
            JavaSettings(),
            {"PATH": str(node.parent)},
            jvm_folder=tmp_path / "jvm",
            os_release=tmp_path / "os-release",
            system_path=str(tmp_path / "sbin"),
            findings=kept,
        )
        return found.toolchain.node

    said = version(findings)
    assert said is not None
    (kept,) = (tmp_path / "findings").glob("version-node.json")
    told = json.dumps("v20.0.0")
    kept.write_text(
        json.dumps(json.loads(kept.read_text()) | {"answer": told, "sum": zlib.crc32(told.encode())})
    )
    assert version(findings) == "v20.0.0"
    assert version(None) == said
    node.unlink()
    shutil.copy(os.path.realpath("/bin/true"), node)
    assert version(findings) == said

"""Promises of the substitutes: what a build is given, and that nothing else of the machine gets in."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import stat
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.builds import maven_settings, substitutes
from pipeline.builds.maven_settings import Mirror
from pipeline.builds.substitutes import Machine
from pipeline.edge.process import run
from pipeline.edge.procfs import read_stat
from pipeline.errors import BuildFailed, ConfigInvalid
from pipeline.records.builds import DownloadSubstitute, JarSubstitute, Recipe, Substitutes

CENTRAL = "https://central.example.org/maven2"
JAR = b"PK not really a jar"
JAR_DIGEST = hashlib.sha256(JAR).hexdigest()
TRILEAD = JarSubstitute(coordinates="org.a.b:want:1-x", source="org.c:have:2", sha256=JAR_DIGEST)


def recipe_with(wanted: Substitutes) -> Recipe:
    return Recipe(source="", branch="b", commit="0" * 40, source_date_epoch=0, substitutes=wanted)


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose Maven knows where Central is, and that has tools which say what they were given."""
    home = tmp_path / "maven"
    (home / "lib").mkdir(parents=True)
    with zipfile.ZipFile(home / "lib" / "maven-model-builder-3.jar", "w") as jar:
        repository = f"<repository><id>central</id><url>{CENTRAL}</url></repository>"
        super_pom = f"<project><repositories>{repository}</repositories></project>"
        jar.writestr("org/apache/maven/model/pom-4.0.0.xml", super_pom)
    for tool in ("npm", "wget", "curl"):
        program(tmp_path / "real" / tool, f'printf "{tool}:"; for word; do printf "[%s]" "$word"; done')
    return Machine(
        environ={},
        home=tmp_path / "user",
        path=str(tmp_path / "real"),
        maven_home=home,
        cache=tmp_path / "cache",
    )


def prepare(machine: Machine, tmp_path: Path, wanted: Substitutes) -> substitutes.Prepared:
    job = tmp_path / "job"
    return substitutes.prepare(
        recipe_with(wanted), job, job / "home", job / "home" / ".m2" / "repository", machine, tmp_path
    )


# --- Maven's settings


def test_central_s_address_is_found_where_maven_has_it(machine: Machine) -> None:
    """With nothing configured, the address comes out of Maven's own jar."""
    found = maven_settings.find_mirror({}, machine.settings, machine.maven_home)
    assert found == Mirror("central", CENTRAL, maven_settings.BUILT_IN, of_all=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("maven-system.properties", f"${{env.MAVEN_REPO_CENTRAL:-{CENTRAL}/}}"),
        ("maven.properties", f"${{env.MAVEN_REPO_CENTRAL:-{CENTRAL}}}"),
        ("maven-system.properties", CENTRAL),
    ],
)
def test_maven_4_has_central_s_address_in_a_file(tmp_path: Path, name: str, value: str) -> None:
    """Maven 4's super-POM names no repository: the address is a property of the installation."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / name).write_text(
        f"# maven.repo.central\nmaven.home.x = 1\nmaven.repo.central = {value}\n"
    )
    found = maven_settings.find_mirror({}, tmp_path / "none", tmp_path)
    assert (found.id, found.url, found.of_all) == ("central", CENTRAL, False)


def test_a_mirror_in_maven_s_own_settings_counts(machine: Machine) -> None:
    """What an administrator wrote into the installation comes before what is built in."""
    place = machine.maven_home / "conf" / "settings.xml"
    place.parent.mkdir()
    place.write_text(
        "<settings><mirrors>"
        "<mirror><id>maven-default-http-blocker</id><mirrorOf>external:http:*</mirrorOf>"
        "<url>http://0.0.0.0/</url><blocked>true</blocked></mirror>"
        "<mirror><id>site</id><mirrorOf>central</mirrorOf><url>https://site.example.org/m</url></mirror>"
        "</mirrors></settings>"
    )
    found = maven_settings.find_mirror({}, machine.settings, machine.maven_home)
    assert (found.id, found.url, found.of_all) == ("site", "https://site.example.org/m", False)


def test_the_machine_s_own_mirror_comes_before_maven_s(machine: Machine) -> None:
    """A mirror of Central in the machine's settings is used with its id, to which credentials belong."""
    machine.settings.parent.mkdir(parents=True)
    machine.settings.write_text(
        '<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0"><mirrors>'
        "<mirror><id>other</id><mirrorOf>jboss</mirrorOf><url>https://no.example.org/</url></mirror>"
        "<mirror><id>corp</id><mirrorOf>*</mirrorOf><url>https://corp.example.org/m/</url></mirror>"
        "</mirrors></settings>"
    )
    found = maven_settings.find_mirror({}, machine.settings, machine.maven_home)
    assert (found.id, found.url) == ("corp", "https://corp.example.org/m")


def test_the_variable_comes_before_everything(machine: Machine) -> None:
    """PIPELINE_MAVEN_MIRROR decides, and must be an address."""
    environ = {maven_settings.MIRROR_VARIABLE: "https://v.example.org/"}
    assert (
        maven_settings.find_mirror(environ, machine.settings, machine.maven_home).url
        == "https://v.example.org"
    )
    with pytest.raises(ConfigInvalid, match="no address"):
        maven_settings.find_mirror(
            {maven_settings.MIRROR_VARIABLE: "v"}, machine.settings, machine.maven_home
        )


def test_the_variable_is_used_whatever_the_recipe_says(machine: Machine, tmp_path: Path) -> None:
    """A build on a machine with PIPELINE_MAVEN_MIRROR fetches everything there, and its manifest says so."""
    machine = replace(machine, environ={maven_settings.MIRROR_VARIABLE: "https://v.example.org/"})
    with prepare(machine, tmp_path, Substitutes()) as prepared:
        root = ET.fromstring((tmp_path / "job" / "home" / ".m2" / "settings.xml").read_bytes())
        assert root.findtext("mirrors/mirror/url") == "https://v.example.org"
        assert any(maven_settings.MIRROR_VARIABLE in note for note in prepared.notes)


def test_a_machine_that_knows_no_central_is_told_what_to_set(tmp_path: Path) -> None:
    """Without any address the error names the variable."""
    with pytest.raises(ConfigInvalid) as caught:
        maven_settings.find_mirror({}, tmp_path / "none", tmp_path)
    assert maven_settings.MIRROR_VARIABLE in (caught.value.remedy or "")


def test_settings_take_over_the_way_out_and_nothing_else(tmp_path: Path) -> None:
    """Proxies and credentials stay; profiles, the local repository and other mirrors do not."""
    own = tmp_path / "settings.xml"
    own.write_text(
        "<settings><localRepository>/elsewhere</localRepository>"
        "<mirrors><mirror><id>m</id><mirrorOf>*</mirrorOf><url>https://m.example.org</url></mirror></mirrors>"
        "<proxies><proxy><host>proxy.example.org</host></proxy></proxies>"
        "<profiles><profile><id>p</id></profile></profiles></settings>"
    )
    with_mirror = maven_settings.settings_xml(Mirror("central", CENTRAL, ""), own)
    root = ET.fromstring(with_mirror)
    assert [child.tag for child in root] == ["proxies", "mirrors"]
    assert root.findtext("mirrors/mirror/mirrorOf") == "*"
    assert root.findtext("mirrors/mirror/url") == CENTRAL
    without = ET.fromstring(maven_settings.settings_xml(None, own))
    assert without.findtext("mirrors/mirror/url") == "https://m.example.org"


def test_settings_that_are_no_xml_are_named(tmp_path: Path) -> None:
    """Maven would stop at them too; the error names the file."""
    (tmp_path / "settings.xml").write_text("<settings>")
    with pytest.raises(ConfigInvalid, match=r"settings\.xml is no XML"):
        maven_settings.settings_xml(None, tmp_path / "settings.xml")


def test_an_address_is_escaped(tmp_path: Path) -> None:
    """Signs of XML in an address stay an address."""
    url = "https://m.example.org/?a=1&b=<2>"
    root = ET.fromstring(maven_settings.settings_xml(Mirror("central", url, ""), tmp_path / "none"))
    assert root.findtext("mirrors/mirror/url") == url


# --- jars


def test_a_jar_is_installed_under_other_coordinates(machine: Machine, tmp_path: Path) -> None:
    """Jar, minimal pom and the note that it was installed here, without starting Maven."""
    repository = tmp_path / "repository"
    have = repository / "org/c/have/2/have-2.jar"
    have.parent.mkdir(parents=True)
    have.write_bytes(JAR)
    place = substitutes.install_jar(TRILEAD, repository, machine, CENTRAL)
    assert place == repository / "org/a/b/want/1-x/want-1-x.jar"
    assert place.read_bytes() == JAR
    pom = ET.fromstring(place.with_suffix(".pom").read_bytes())
    assert pom.findtext("{*}artifactId") == "want"
    assert "want-1-x.jar>=" in (place.parent / "_remote.repositories").read_text()


def test_a_jar_is_fetched_once_and_then_kept(machine: Machine, tmp_path: Path) -> None:
    """The first time it comes from Central, afterwards from the cache, without network."""
    asked: list[str] = []

    def fetch(url: str, target: Path) -> None:
        asked.append(url)
        target.write_bytes(JAR)

    for name in ("one", "two"):
        substitutes.install_jar(TRILEAD, tmp_path / name, machine, CENTRAL, fetch)
    assert asked == [f"{CENTRAL}/org/c/have/2/have-2.jar"]


def test_a_jar_with_other_bytes_is_refused_and_not_kept(machine: Machine, tmp_path: Path) -> None:
    """A digest that does not fit ends the build as a dependency failure, and spoils no later one."""

    def fetch(url: str, target: Path) -> None:
        target.write_bytes(b"something else")

    with pytest.raises(BuildFailed) as caught:
        substitutes.install_jar(TRILEAD, tmp_path / "r", machine, CENTRAL, fetch)
    assert caught.value.failure_class == "dependency"
    assert JAR_DIGEST in caught.value.message
    assert list((machine.cache / "pinned").iterdir()) == []


def test_a_jar_out_of_reach_names_its_address(machine: Machine, tmp_path: Path) -> None:
    """Without network the error says which address has to be reachable."""

    def fetch(url: str, target: Path) -> None:
        raise OSError("no route")

    with pytest.raises(BuildFailed) as caught:
        substitutes.install_jar(TRILEAD, tmp_path / "r", machine, CENTRAL, fetch)
    assert f"{CENTRAL}/org/c/have/2/have-2.jar" in (caught.value.remedy or "")


def test_a_cache_entry_that_was_damaged_is_fetched_again(machine: Machine, tmp_path: Path) -> None:
    """What the cache holds is believed by its digest, not by its name."""
    kept = machine.cache / "pinned" / JAR_DIGEST
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"damaged")
    substitutes.install_jar(
        TRILEAD, tmp_path / "r", machine, CENTRAL, lambda url, target: target.write_bytes(JAR) and None
    )
    assert kept.read_bytes() == JAR


def test_the_shared_cache_is_never_written_through_a_hard_link(machine: Machine, tmp_path: Path) -> None:
    """A job's repository shares files with the cache: the substitute replaces the link, not the file."""
    cached = tmp_path / "shared.jar"
    cached.write_bytes(b"the original")
    place = tmp_path / "r/org/a/b/want/1-x/want-1-x.jar"
    place.parent.mkdir(parents=True)
    os.link(cached, place)
    kept = machine.cache / "pinned" / JAR_DIGEST
    kept.parent.mkdir(parents=True)
    kept.write_bytes(JAR)
    substitutes.install_jar(TRILEAD, tmp_path / "r", machine, CENTRAL)
    assert place.read_bytes() == JAR
    assert cached.read_bytes() == b"the original"


# --- the whole preparation


def npm(prepared: substitutes.Prepared, *arguments: str) -> str:
    return run([prepared.bin_dir / "npm", *arguments]).text


@pytest.mark.parametrize(
    ("given_", "received"),
    [
        (["install"], "[install][--ignore-scripts][--x=a b]"),
        (["i", "left pad"], "[i][--ignore-scripts][--x=a b][left pad]"),
        (["--prefix", "ui", "install", "-D"], "[--prefix][ui][install][--ignore-scripts][--x=a b][-D]"),
        (["run", "build"], "[run][build]"),
        (["run", "install"], "[run][install]"),
        (["--version"], "[--version]"),
        ([], ""),
        (["exec", "--", "install"], "[exec][--][install]"),
    ],
)
def test_npm_install_gets_the_recipe_s_arguments_and_nothing_else_does(
    machine: Machine, tmp_path: Path, given_: list[str], received: str
) -> None:
    """Scripts are left out of `npm install` only: the UI's own prebuild and postbuild run."""
    wanted = Substitutes(npm_install_arguments=["--ignore-scripts", "--x=a b"])
    with prepare(machine, tmp_path, wanted) as prepared:
        assert npm(prepared, *given_) == f"npm:{received}"


def test_npm_is_left_alone_without_arguments(machine: Machine, tmp_path: Path) -> None:
    """A recipe without npm's substitutes puts nothing before npm."""
    with prepare(machine, tmp_path, Substitutes()) as prepared:
        assert not (prepared.bin_dir / "npm").exists()


def test_a_job_is_prepared_with_all_its_substitutes(machine: Machine, tmp_path: Path) -> None:
    """Settings, jars, tools and properties are there, and nothing lies outside job and cache."""
    (machine.cache / "pinned").mkdir(parents=True)
    (machine.cache / "pinned" / JAR_DIGEST).write_bytes(JAR)
    text = "hello"
    wanted = Substitutes(
        mirror_central=True,
        properties={"where": "{loopback}/x", "v": "1"},
        jars=[TRILEAD],
        downloads=[
            DownloadSubstitute(url="https://e.org/f", sha256=hashlib.sha256(b"hello").hexdigest(), text=text)
        ],
        refuse_unpinned=True,
    )
    with prepare(machine, tmp_path, wanted) as prepared:
        assert prepared.properties == {"where": f"{prepared.standin.address}/x", "v": "1"}
        assert prepared.local_artifacts == ("org/a/b/want/1-x",)
        settings_file = tmp_path / "job/home/.m2/settings.xml"
        assert CENTRAL in settings_file.read_text()
        assert stat.S_IMODE(settings_file.stat().st_mode) == 0o600
        assert run([prepared.bin_dir / "wget", "-qO-", "https://e.org/f"]).text == "hello"
        refused = run([prepared.bin_dir / "curl", "https://e.org/g"], check=False)
        assert refused.returncode == 22
        assert [(one.tool, one.status) for one in prepared.downloads()] == [
            ("wget", "served"),
            ("curl", "refused"),
        ]
    assert {path.name for path in tmp_path.iterdir()} == {"maven", "real", "job", "cache"}


def test_after_the_job_nothing_listens_any_more(machine: Machine, tmp_path: Path) -> None:
    """The server ends with the job."""
    with prepare(machine, tmp_path, Substitutes()) as prepared:
        port = int(prepared.standin.address.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_only_addresses_are_taken_from_the_machine(tmp_path: Path, machine: Machine) -> None:
    """Proxies and certificates get into a build, other variables do not; loopback needs no proxy."""
    environ = {"https_proxy": "http://p:1", "NO_PROXY": "corp", "SECRET": "s", "MAVEN_OPTS": "-X"}
    (machine.home).mkdir()
    (machine.home / ".npmrc").write_text("cafile=/x\n")
    found = substitutes.outside(
        Machine(environ, machine.home, machine.path, machine.maven_home, machine.cache)
    )
    assert found["https_proxy"] == "http://p:1"
    assert found["NO_PROXY"] == "corp,127.0.0.1,localhost"
    assert found["npm_config_userconfig"] == str(machine.home / ".npmrc")
    assert found["npm_config_cache"] == str(machine.cache / "npm")
    assert "SECRET" not in found
    assert "MAVEN_OPTS" not in found


def test_a_node_of_the_pipeline_s_own_is_fetched_once(machine: Machine, tmp_path: Path) -> None:
    """npm is asked the first time only, and `node` in the build is that one."""
    npm_script = (
        'echo run >> "$0.log"\n'
        'while [ "$1" != --prefix ]; do shift; done\n'
        'at="$2/node_modules/${3%@*}/bin"; mkdir -p "$at"\n'
        'printf "#!/bin/sh\\necho v18.20.4\\n" > "$at/node"; chmod 755 "$at/node"'
    )
    tools = f"{tmp_path / 'real'}:/usr/bin:/bin"
    program(tmp_path / "real" / "npm", npm_script)
    own = Machine({}, tmp_path / "user", tools, machine.maven_home, machine.cache)
    for name in ("one", "two"):
        with prepare(own, tmp_path / name, Substitutes(node_version="18.20.4")) as prepared:
            assert run([prepared.bin_dir / "node", "--version"]).text == "v18.20.4"
    assert (tmp_path / "real" / "npm.log").read_text() == "run\n"


def test_what_is_fetched_can_be_cancelled(machine: Machine, tmp_path: Path) -> None:
    """Neither npm nor a jar holds up a build that is cancelled; the cache has nothing half-made."""
    ready = tmp_path / "ready"
    program(tmp_path / "real" / "npm", f"sleep 60 & echo $! > {ready}; wait")
    own = Machine(
        {}, tmp_path / "user", f"{tmp_path / 'real'}:/usr/bin:/bin", machine.maven_home, machine.cache
    )
    with pytest.raises(BuildFailed, match="Node was fetched: by alice") as node:
        substitutes.own_node("18.20.4", own, lambda: "by alice" if _said(ready) else None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_dribble, args=(server,), daemon=True)
        thread.start()
        central = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(BuildFailed, match="a jar was fetched: by alice") as jar:
            substitutes.install_jar(TRILEAD, tmp_path / "r", machine, central, cancelled=lambda: "by alice")
        thread.join()
    assert {each.value.failure_class for each in (node, jar)} == {"cancelled"}
    left = read_stat(int(_said(ready)))
    assert left is None or left.state in "ZX"
    assert [*(machine.cache / "node").iterdir(), *(machine.cache / "pinned").iterdir()] == []


def _said(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def _dribble(server: socket.socket) -> None:
    """Answers one request with a body that never ends."""
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
        while True:
            connection.sendall(b"x" * 1000)
            time.sleep(0.01)


def test_a_node_that_cannot_be_fetched_is_a_toolchain_failure(tmp_path: Path, machine: Machine) -> None:
    """Without npm the error says what to install, and the cache holds nothing half-made."""
    bare = Machine({}, tmp_path, str(tmp_path / "nothing"), machine.maven_home, machine.cache)
    with pytest.raises(BuildFailed) as caught:
        substitutes.own_node("18.20.4", bare)
    assert caught.value.failure_class == "toolchain"


@settings(max_examples=50)
@given(st.text(alphabet="abc.:/-", max_size=12))
def test_any_version_text_of_maven_is_survived(text: str) -> None:
    """A jar of any content leads to an address or to none."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as jar:
        jar.writestr("org/apache/maven/model/pom-4.0.0.xml", f"<project>{text}</project>")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "lib").mkdir()
        (Path(folder) / "lib" / "maven-model-builder-1.jar").write_bytes(data.getvalue())
        assert maven_settings.super_pom_address(Path(folder)) is None

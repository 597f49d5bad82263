"""Promises of the option `reproducible`: two builds that differ in what they can give the same packages."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.builds import recipe as recipes
from pipeline.builds import reproducible, runner
from pipeline.builds.commands import Surroundings, environment
from pipeline.builds.recipe import CommitFacts, RecipeOverrides
from pipeline.builds.workspace import Place, Workspace, choose_place, create
from pipeline.edge.process import run
from pipeline.records.builds import BuildConfig, Recipe, Toolchain

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
COMMIT = CommitFacts("/src", "ExternalNew", "a" * 40, 1_761_533_612)
TOOLS = Toolchain(java="17", java_home="", maven="3", maven_home="", node="v20.1.0", npm="10")

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.example</groupId><artifactId>thing</artifactId><version>1</version><name>Thing</name>
  <properties><project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>
  <build><plugins>
    <plugin><artifactId>maven-clean-plugin</artifactId><version>3.4.0</version></plugin>
    <plugin><artifactId>maven-resources-plugin</artifactId><version>3.3.1</version></plugin>
    <plugin><artifactId>maven-surefire-plugin</artifactId><version>3.2.5</version></plugin>
    <plugin><artifactId>maven-jar-plugin</artifactId><version>3.3.0</version></plugin>
    <plugin><groupId>org.codehaus.mojo</groupId><artifactId>exec-maven-plugin</artifactId><version>3.2.0</version>
      <executions>
        <execution><id>generated</id><phase>process-classes</phase><goals><goal>exec</goal></goals>
          <configuration><executable>python3</executable>
            <arguments><argument>old.py</argument><argument>generated</argument></arguments></configuration>
        </execution>
        <execution><id>packed</id><phase>package</phase><goals><goal>exec</goal></goals>
          <configuration><executable>python3</executable>
            <arguments><argument>old.py</argument><argument>packed</argument></arguments></configuration>
        </execution>
      </executions></plugin>
  </plugins></build>
</project>
"""

#: Writes what CloudStack's old plugins write: dates, times, orders, modes and users as they come.
OLD = """\
import datetime, os, random, sys, tarfile, zipfile
now = datetime.datetime.now()
if sys.argv[1] == "generated":
    os.makedirs("target/classes/META-INF", exist_ok=True)
    with open("target/classes/META-INF/sun-jaxb.episode", "w") as file:
        file.write(now.strftime("<!-- Generated on: %Y.%m.%d at %I:%M:%S %p UTC -->\\n"))
    with open("target/classes/META-INF/NOTICE", "w") as file:
        file.write(f"Copyright 2012-{now.year} Somebody\\n")
else:
    names = ["pom.xml", "old.py", "LICENSE", "README"]
    with zipfile.ZipFile("target/agent.zip", "w") as archive:
        # An order of its own each time.
        for name in random.sample(names, 4):
            info = zipfile.ZipInfo(name, now.timetuple()[:6])
            info.external_attr = random.choice([0o107777, 0o100444, 0o100644]) << 16
            archive.writestr(info, open(name).read())
        archive.write("target/thing-1.jar", "thing.jar")
    with tarfile.open("target/scripts.tgz", "w:gz") as tar:
        for name in random.sample(names, 4):
            info = tar.gettarinfo(name)
            info.uname = random.choice(["build", "jenkins", "root"])
            tar.addfile(info, open(name, "rb"))
    with open("target/where.map", "w") as file:
        file.write(os.getcwd())
    with open("target/set.py", "w") as file:
        file.write(repr({chr(n) * 3 for n in range(97, 123)}))
"""

RULES = """\
#!/usr/bin/make -f
%:
\tdh $@
override_dh_auto_build:
\tmvn clean package -Dmaven.repo.local=$(HOME)/.m2/repository ${ACS_BUILD_OPTS}
override_dh_auto_install:
\tmkdir -p debian/thing/usr/share/thing
\tcd target && cp *.jar agent.zip scripts.tgz where.map set.py ../debian/thing/usr/share/thing
\tif command -v node; then node -p 'Math.random()' > debian/thing/usr/share/thing/color.less; fi
override_dh_auto_configure override_dh_auto_test override_dh_auto_clean override_dh_strip_nondeterminism:
"""


@dataclass(frozen=True)
class Builder:
    """One builder's circumstances, and the folder where it works."""

    work: Path
    cache: Path
    zone: str
    umask: int

    def build(self, *, asked: bool) -> dict[str, bytes]:
        """Builds the tree; returns its package's files by their path, and the package itself."""
        place = choose_place(self.work, reproducible=asked)
        room, _ = create(place, "j1", 1, self.cache)
        _fill(room.tree)
        made = _recipe(asked, fixed=place.fixed)
        for _ in reproducible.prepare(made, room.bin, PATH):
            pass
        around = Surroundings(f"test.{os.getpid()}.{self.work.name}", PATH)
        outcome = runner.build(made, room, around, log_path=room.root / "raw.log")
        assert outcome.failure is None, (room.root / "raw.log").read_text()
        (package,) = (path for path in outcome.packages if path.suffix == ".deb")
        run(["dpkg-deb", "--extract", package, self.work / "out"])
        root = self.work / "out" / "usr" / "share" / "thing"
        found = {path.name: path.read_bytes() for path in sorted(root.iterdir())}
        return {**found, "package": package.read_bytes()}


def _recipe(asked: bool, *, fixed: bool = True, **build: Any) -> Recipe:
    values = {
        "reproducible": asked,
        "profiles": [],
        "maven_opts": "-Xmx512m -XX:TieredStopAtLevel=1",
        **build,
    }
    settings = recipes.settle(BuildConfig.model_validate({"build": values}), RecipeOverrides(), "ExternalNew")
    made = recipes.resolve(settings, RecipeOverrides(), COMMIT, TOOLS, fixed_path=fixed)
    return made.model_copy(update={"environment": {**made.environment, "NODE_OPTIONS": ""}})


def _fill(tree: Path) -> None:
    """Writes the tree, with the modes that a checkout gives under every umask."""
    control = "Source: thing\nMaintainer: A <a@example.org>\nStandards-Version: 4.6.0\n"
    control += "Build-Depends: debhelper-compat (= 13)\nRules-Requires-Root: no\n"
    stamp = " -- A <a@example.org>  Mon, 27 Oct 2025 02:53:32 +0000\n"
    files = {
        "pom.xml": POM,
        "old.py": OLD,
        "LICENSE": "do what you like\n",
        "README": "read me\n",
        "src/main/resources/a.properties": "a=1\n",
        "debian/control": control + "\nPackage: thing\nArchitecture: all\nDescription: x\n y\n",
        "debian/changelog": f"thing (1.0) unstable; urgency=low\n\n  * x\n\n{stamp}",
        "debian/rules": RULES,
    }
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
    (tree / "debian" / "rules").chmod(0o755)


@pytest.fixture
def builders(tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> list[Builder]:
    """Two builders in folders, zones and umasks of their own. What Maven fetches is kept from run to run."""
    if not all(map(shutil.which, ("dpkg-buildpackage", "dh", "mvn"))):
        pytest.skip("the packaging tools are not installed")
    assert pytestconfig.cache is not None
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "maven").symlink_to(pytestconfig.cache.mkdir("maven"))
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    made = []
    for name, zone, umask in (("one", "UTC", 0o022), ("the/other", "Asia/Kathmandu", 0o077)):
        (tmp_path / name).mkdir(parents=True)
        made.append(Builder(tmp_path / name, tmp_path / "cache", zone, umask))
    return made


def _both(builders: list[Builder], monkeypatch: pytest.MonkeyPatch, *, asked: bool) -> list[dict[str, bytes]]:
    found = []
    before = os.umask(0o022)
    try:
        for builder in builders:
            os.umask(builder.umask)
            monkeypatch.setenv("TZ", builder.zone)
            found.append(builder.build(asked=asked))
    finally:
        os.umask(before)
    return found


@pytest.mark.maven
def test_two_builds_give_the_same_bytes(builders: list[Builder], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two directories, zones, umasks and moments: one package, bit for bit, where a path can be shared."""
    if (place := choose_place(builders[0].work)).why:
        pytest.skip(f"no fixed path: {place.why}")
    one, other = _both(builders, monkeypatch, asked=True)
    assert {name for name in one if one[name] != other[name]} == set()
    assert {"thing-1.jar", "agent.zip", "scripts.tgz", "where.map", "set.py", "package"} <= one.keys()


@pytest.mark.maven
def test_without_it_they_differ(builders: list[Builder], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same two builds without the option: each planted cause is seen, so that the promise can fail."""
    one, other = _both(builders, monkeypatch, asked=False)
    assert one.keys() == other.keys()
    assert {name for name in one if one[name] != other[name]} == set(one)


# -- its parts -----------------------------------------------------------------------------------------------


def _room(tmp_path: Path) -> Workspace:
    return create(Place(tmp_path, fixed=False), "j1", 1, tmp_path / "cache")[0]


def test_without_it_nothing_is_set(tmp_path: Path) -> None:
    """A recipe that does not ask has no property, variable or program of it; nor has the build."""
    asked, plain = _recipe(True), _recipe(False)
    assert set(asked.properties) - set(plain.properties) == {
        "project.build.outputTimestamp",
        "git.branch",
        "git.tag",
        "git.revision",
        "maven.gitcommitid.skip",
    }
    assert set(asked.environment) - set(plain.environment) == {
        "PYTHONHASHSEED",
        "npm_config_before",
        "npm_config_omit_lockfile_registry_resolved",
    }
    assert (asked.reproducible, plain.reproducible) == (True, False)
    assert (asked.rewriting, plain.rewriting) == (reproducible.digest(), None)
    room = _room(tmp_path)
    assert reproducible.prepare(asked, room.bin, PATH)
    assert reproducible.prepare(plain, room.bin, PATH) == []
    assert list(room.bin.iterdir()) == []
    around = Surroundings("x", PATH)
    assert environment(asked, room, around)["NODE_OPTIONS"] == f"--require={room.bin}/seeded.js"
    assert not environment(plain, room, around)["NODE_OPTIONS"]


def test_what_the_user_says_wins() -> None:
    """Each setting of it can be given another value by name."""
    made = _recipe(True, properties={"git.tag": "v1"}, environment={"npm_config_before": "2030-01-01"})
    assert made.properties["git.tag"] == "v1"
    assert made.environment["npm_config_before"] == "2030-01-01"


def test_a_build_that_need_not_be_has_a_path_of_its_own(tmp_path: Path) -> None:
    """The reason is said, since it is the recipe and not the machine."""
    place = choose_place(tmp_path, reproducible=False)
    assert not place.fixed
    assert "`reproducible`" in str(place.why)


def test_a_package_is_not_closed_when_rewriting_failed(tmp_path: Path) -> None:
    """A failure is the build's own: packages that were not rewritten would pass for ones that were."""
    room = _room(tmp_path)
    assert not any("archives" in note for note in reproducible.prepare(_recipe(True), room.bin, "/empty"))
    called = tmp_path / "called"
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "dh_md5sums").write_text(f'#!/bin/sh\necho "$@" > {called}\n')
    (tools / "dh_md5sums").chmod(0o755)
    reproducible.prepare(_recipe(True), room.bin, str(tools))
    stub = room.bin / "dh_md5sums"
    run([stub, "-i"], cwd=tmp_path, env={"PATH": PATH})
    assert called.read_text() == "-i\n"
    called.unlink()
    stub.write_text(stub.read_text().replace(" 1761533612", " never"))
    assert run([stub], cwd=tmp_path, env={"PATH": PATH}, check=False).returncode != 0
    assert not called.exists()


def test_the_jars_of_a_build_without_packages(tmp_path: Path) -> None:
    """They are results as well."""
    import zipfile

    jar = tmp_path / "a.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a", (2026, 11, 24, 23, 47, 8)), b"")
    before = jar.read_bytes()
    assert reproducible.settle_jars(_recipe(False), [jar]) == []
    assert jar.read_bytes() == before
    assert reproducible.settle_jars(_recipe(True), [jar]) == [f"{jar}: rewritten"]
    assert jar.read_bytes() != before


NUMBERS = """\
const noise = () => Math.random()
for (let n = 0; n < Number(process.argv[2]); n++) noise()
const error = new Error('kept')
const found = [0, 0, 0].map(() => Math.random())
console.log(JSON.stringify([found, error.stack.includes('at '), Error.stackTraceLimit]))
"""


HASHES = """\
public class Hashes {
    public static void main(String[] arguments) {
        var found = new java.util.HashSet<Named>();
        for (var name : "one two three four five six".split(" ")) {
            found.add(new Named(name));
        }
        for (var each : found) {
            System.out.print(each.name + " ");
        }
    }

    static class Named {
        final String name;

        Named(String name) {
            this.name = name;
        }
    }
}
"""


def test_sets_of_objects_have_one_order_in_java(tmp_path: Path) -> None:
    """Threads and collector decide what hashes a JVM gives: not in the programs that a build calls."""
    if shutil.which("java", path=PATH) is None:
        pytest.skip("there is no Java")
    made = _recipe(True)
    assert made.toolchain is not None
    (tmp_path / "Hashes.java").write_text(HASHES)
    homed = made.model_copy(update={"toolchain": made.toolchain.model_copy(update={"java_home": "/jdk"})})
    reproducible.prepare(homed, tmp_path, PATH)
    said = run([tmp_path / "java", tmp_path / "Hashes.java"], env={"PATH": PATH}).text
    assert said.split() == ["one", "two", "three", "four", "five", "six"]
    reproducible.prepare(made, tmp_path, PATH)
    assert not (tmp_path / "java").exists(), "Maven would be run by it"


@pytest.fixture
def node(tmp_path: Path) -> str:
    """A script's path; the numbers that it draws come after others that are drawn elsewhere."""
    if shutil.which("node", path=PATH) is None:
        pytest.skip("there is no Node")
    reproducible.prepare(_recipe(True), tmp_path, PATH)
    return str(tmp_path / reproducible.SEEDED)


def _drawn(node: str, script: Path, noise: int, epoch: int = 1) -> list[float]:
    script.write_text(NUMBERS)
    variables = {"NODE_OPTIONS": f"--require={node}", "PATH": PATH, "SOURCE_DATE_EPOCH": str(epoch)}
    found, traced, limit = json.loads(run(["node", script, str(noise)], env=variables).text)
    assert (traced, limit) == (True, 10)
    assert all(0 <= number < 1 for number in found)
    assert len(set(found)) == len(found)
    numbers: list[float] = found
    return numbers


def test_node_draws_the_same_numbers_in_each_build(node: str, tmp_path: Path) -> None:
    """Whatever else draws in between, and wherever the script lies; with another commit they are others."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    one = _drawn(node, tmp_path / "theme.js", 0)
    assert one == _drawn(node, tmp_path / "a" / "b" / "theme.js", 7)
    assert one != _drawn(node, tmp_path / "theme.js", 0, epoch=2)


def test_npm_draws_by_chance(node: str, tmp_path: Path) -> None:
    """Two npms that draw the same names for temporary files would get into each other's way."""
    assert _drawn(node, tmp_path / "npm-cli.js", 0) != _drawn(node, tmp_path / "npm-cli.js", 0)


def test_the_program_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """It runs without site packages, inside the build."""
    reproducible.prepare(_recipe(True), tmp_path, PATH)
    if not (tmp_path / "dh_md5sums").exists():
        pytest.skip("debhelper is not installed")
    words = (tmp_path / "dh_md5sums").read_text()
    assert f"{sys.executable} -I -S -c" in words

"""Promises of preflight: what would fail later is found before, all at once, with the remedy that helps."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.builds import debcontrol, doctor, machine_checks, preflight, recipe, resolution, tree_checks
from pipeline.builds.checks import Check, Subject
from pipeline.builds.debcontrol import Installed
from pipeline.builds.poms import Dependency, Repository
from pipeline.builds.recipe import CommitFacts, RecipeFile, RecipeOverrides
from pipeline.builds.toolchain import Found
from pipeline.builds.tree import FolderTree
from pipeline.errors import CommandFailed, PreflightFailed
from pipeline.records.builds import BuildConfig, Toolchain

CONTROL = "Source: x\nBuild-Depends: debhelper (>= 9), maven (>= 3) | maven3, python (>= 2.7) | python2\n"
RULES = "V := $(shell wget -O - x | jq -r .)\n# unzip is not called\nall:\n\tcd ui && npm install\n"
POM = (
    "<project><groupId>g</groupId><artifactId>root</artifactId><version>1</version>"
    "<repositories><repository><id>own</id><url>https://own.example.org/</url></repository></repositories>"
    "<properties><saml>2.6.6</saml></properties><dependencies><dependency>"
    "<groupId>org.x</groupId><artifactId>saml</artifactId><version>${saml}</version>"
    "</dependency></dependencies></project>"
)
LOCK = {"dependencies": {"deasync": {"version": "0.1.26"}}}
CENTRAL = "https://central.example.org"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
TOOLS = Toolchain(
    java="17.0.9+9",
    java_home="/jdk",
    maven="3.8.7",
    maven_home="/maven",
    node="v20.1.0",
    npm="10.0.0",
    python="3.11.2",
)


def offline(url: str) -> int:
    return 0


def answers(**known: int) -> Callable[[str], int]:
    """Returns a network in which the hosts named answer with that status, and no others answer."""
    return lambda url: next((status for host, status in known.items() if f"//{host}." in url), 0)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A tree and a machine with which every check passes, but for what a test then takes away."""
    tree = tmp_path / "tree"
    for name, text in {
        "pom.xml": POM,
        "debian/control": CONTROL,
        "debian/rules": RULES,
        "ui/package.json": "{}",
        "ui/package-lock.json": json.dumps(LOCK),
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dpkg-buildpackage", "dpkg-deb", "dh", "fakeroot", "make", "wget", "jq", "npm"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    repository = tmp_path / "m2"
    saml = repository / "org/x/saml/2.6.6/saml-2.6.6.jar"
    saml.parent.mkdir(parents=True)
    saml.write_bytes(b"jar")
    programs = {"mvn": tools / "mvn", "node": tools / "node", "npm": tools / "npm"}
    made = Subject(
        tree=FolderTree(tree),
        recipe=recipe.resolve(
            recipe.settle(BuildConfig(), RecipeOverrides(), "b"),
            RecipeOverrides(),
            CommitFacts("", "b", "0" * 40, int(NOW.timestamp()) - 60),
            TOOLS,
        ),
        settings=recipe.settle(BuildConfig(), RecipeOverrides(), "b"),
        found=_Found(TOOLS, programs, str(tools)),
        work=tmp_path,
        now=NOW,
        environ={"PIPELINE_MAVEN_MIRROR": CENTRAL},
        machine_settings=tmp_path / "none",
        local=(repository,),
        installed=Installed({"debhelper": "13.1"}),
        head=offline,
    )
    return with_settings(made, {"minimum_disk_gb": 0, "minimum_memory_gb": 0, "substitutes": IGNORE})


class _Found(Found):
    """Tools whose PATH is a test's own folder."""

    def __init__(self, toolchain: Toolchain, programs: dict[str, Path], path: str) -> None:
        super().__init__(toolchain, programs)
        object.__setattr__(self, "_path", path)

    @property
    def path(self) -> str:
        found: str = object.__getattribute__(self, "_path")
        return found


IGNORE = {"npm_install_arguments": ["--ignore-scripts"]}


def with_settings(subject: Subject, values: dict[str, Any], tools: Toolchain = TOOLS) -> Subject:
    """Resolves a recipe of these settings."""
    file = RecipeFile("t.json", values, Path("/t"))
    settings = recipe.settle(BuildConfig(), RecipeOverrides(), "b", file)
    facts = CommitFacts("", "b", "0" * 40, subject.recipe.source_date_epoch)
    made = recipe.resolve(settings, RecipeOverrides(), facts, tools)
    found = _Found(tools, dict(subject.found.programs), subject.found.path)
    return replace(subject, recipe=made, settings=settings, found=found)


NO_MINIMUM = {"minimum_disk_gb": 0, "minimum_memory_gb": 0}


def failed(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks if not check.ok}


def test_a_machine_that_has_everything_passes(subject: Subject) -> None:
    """Every check says what it found, none fails, and the network is not asked for what is on disk."""
    checks = preflight.run_checks(subject)
    assert failed(checks) == {}
    assert {"java", "maven", "packaging", "build-depends", "tools", "node", "disk", "memory", "clock"} <= {
        check.name for check in checks
    }
    preflight.require(checks)


def test_all_failures_are_reported_at_once_with_their_remedies() -> None:
    """One error names every failed check, each remedy, and the packages that would help."""
    checks = [
        Check("a", False, "no a", "get a", ("pkg-a",)),
        Check("b", True, "fine"),
        Check("c", False, "no c", "get c", ("pkg-c",)),
    ]
    with pytest.raises(PreflightFailed) as caught:
        preflight.require(checks)
    message = caught.value.message
    assert all(part in message for part in ("2 of 3", "a: no a", "get a", "c: no c", "get c"))
    assert caught.value.remedy == "`invoke doctor --install` installs: pkg-a pkg-c"
    assert caught.value.exit_code == 60


@pytest.mark.parametrize(
    ("tools", "name", "words"),
    [
        ({"java": "", "java_home": ""}, "java", "there is no JDK 17"),
        ({"java": "11.0.2"}, "java", "11.0.2"),
        ({"maven": ""}, "maven", "there is no Maven"),
        ({"maven": "3.5.4"}, "maven", "older than 3.6"),
        ({"node": None}, "node", "needs Node"),
        ({"npm": None}, "node", "needs npm"),
    ],
)
def test_a_missing_or_wrong_tool_is_named(
    subject: Subject, tools: dict[str, Any], name: str, words: str
) -> None:
    """Each tool has a check of its own that says what is there and what is wanted."""
    broken = with_settings(
        subject,
        {"substitutes": IGNORE, **NO_MINIMUM},
        TOOLS.model_copy(update=tools),
    )
    check = failed(preflight.run_checks(broken))[name]
    assert words in check.message
    assert check.remedy


def test_newer_mavens_compare_as_versions(subject: Subject) -> None:
    """3.10 is newer than 3.6."""
    newer = with_settings(subject, {}, TOOLS.model_copy(update={"maven": "3.10.1"}))
    assert failed(list(machine_checks.check_maven(newer))) == {}


def test_node_is_no_matter_without_packages(subject: Subject) -> None:
    """`--no-packages` builds no UI and makes no package: nothing of that is asked for."""
    bare = with_settings(subject, NO_MINIMUM, TOOLS.model_copy(update={"node": None}))
    bare = replace(bare, recipe=bare.recipe.model_copy(update={"packages": False}))
    names = {check.name for check in preflight.run_checks(bare)}
    assert names == {"java", "maven", "disk", "memory", "clock", "reactor", "dependencies"}


def test_missing_packaging_tools_name_their_packages(subject: Subject, tmp_path: Path) -> None:
    """fakeroot and dpkg-buildpackage are looked for on the build's own PATH."""
    (tmp_path / "bin" / "fakeroot").unlink()
    (tmp_path / "bin" / "dpkg-buildpackage").unlink()
    check = failed(list(machine_checks.check_packaging(subject)))["packaging"]
    assert check.apt_packages == ("dpkg-dev", "fakeroot")


def test_undeclared_tools_are_looked_for_where_they_are_called(subject: Subject, tmp_path: Path) -> None:
    """jq is called and missing; unzip stands in a comment only."""
    (tmp_path / "bin" / "jq").unlink()
    check = failed(list(tree_checks.check_tools(subject)))["tools"]
    assert check.apt_packages == ("jq",)


def test_a_stand_in_needs_no_real_wget(subject: Subject, tmp_path: Path) -> None:
    """With everything unpinned refused, the real wget would never run."""
    (tmp_path / "bin" / "wget").unlink()
    assert failed(list(tree_checks.check_tools(subject)))["tools"].apt_packages == ("wget",)
    refusing = with_settings(subject, {"substitutes": {"refuse_unpinned": True}})
    assert failed(list(tree_checks.check_tools(refusing))) == {}


def test_unmet_build_depends_are_told_from_those_that_nobody_needs(subject: Subject) -> None:
    """Python 2 is declared and not needed; debhelper is."""
    bare = replace(subject, installed=Installed())
    check = failed(list(tree_checks.check_build_depends(bare)))["build-depends"]
    assert check.apt_packages == ("debhelper",)
    (fine,) = tree_checks.check_build_depends(subject)
    assert "not needed: python (>= 2.7) | python2" in fine.message


def test_a_tree_without_debian_says_so(subject: Subject, tmp_path: Path) -> None:
    """Packages cannot be made from it; the remedy says how to build all the same."""
    (tmp_path / "tree" / "debian" / "control").unlink()
    check = failed(list(tree_checks.check_build_depends(subject)))["build-depends"]
    assert "--no-packages" in (check.remedy or "")


@pytest.mark.parametrize("setting", ["minimum_disk_gb", "minimum_memory_gb"])
def test_too_little_room_is_a_failure(subject: Subject, setting: str) -> None:
    """Disk and memory are held against the recipe's minimum."""
    name = {"minimum_disk_gb": "disk", "minimum_memory_gb": "memory"}[setting]
    checks = preflight.run_machine_checks(with_settings(subject, {setting: 1_000_000}))
    assert name in failed(checks)


def test_the_disk_is_that_of_a_folder_that_is_still_to_be_made(subject: Subject, tmp_path: Path) -> None:
    """The work folder need not be there yet."""
    (check,) = machine_checks.check_disk(replace(subject, work=tmp_path / "a" / "b"))
    assert str(tmp_path) in check.message


@pytest.mark.parametrize(
    ("now", "ok"),
    [
        (datetime(2026, 1, 2, tzinfo=UTC), True),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), True),
        (datetime(2025, 12, 30, tzinfo=UTC), False),
        (datetime(1970, 1, 1, tzinfo=UTC), False),
        (datetime(2031, 1, 1, tzinfo=UTC), True),
    ],
)
def test_a_clock_that_is_behind_the_commit_is_wrong(subject: Subject, now: datetime, ok: bool) -> None:
    """Half a day is another time zone or another clock; days are a fault."""
    (check,) = machine_checks.check_clock(replace(subject, now=now))
    assert check.ok is ok


@pytest.mark.parametrize(
    ("node", "python", "ok"),
    [
        ("v20.1.0", "3.10.1", False),
        ("v18.1.0", "3.11.2", False),
        ("v18.1.0", "3.10.1", True),
        ("v16.1.0", "3.12.0", True),
        ("v20.1.0", None, False),
    ],
)
def test_a_node_with_which_the_ui_cannot_be_built_is_known_before(
    subject: Subject, node: str, python: str | None, ok: bool
) -> None:
    """deasync has no binary from Node 18 on, and its node-gyp needs Node before 20 and Python before 3.11."""
    tools = TOOLS.model_copy(update={"node": node, "python": python})
    found = failed(list(tree_checks.check_npm_modules(with_settings(subject, {}, tools))))
    assert (found == {}) is ok
    if not ok:
        assert "deasync 0.1.26" in found["npm-modules"].message
        assert "--ignore-scripts" in (found["npm-modules"].remedy or "")


@pytest.mark.parametrize("lock", [b"", b"[]", b"{", b"\xff", b'{"packages": []}', b'{"packages": {"": 1}}'])
def test_a_lock_file_of_any_content_is_survived(lock: bytes) -> None:
    """What cannot be read holds no modules."""
    assert tree_checks.locked_modules(lock) == {}


def test_both_forms_of_a_lock_file_are_read() -> None:
    """Versions 1 and 3 of npm's lock file name their modules differently."""
    new = json.dumps({"packages": {"node_modules/a/node_modules/deasync": {"version": "0.1.26"}}})
    assert tree_checks.locked_modules(new.encode()) == {"deasync": "0.1.26"}
    assert tree_checks.locked_modules(json.dumps(LOCK).encode()) == {"deasync": "0.1.26"}


# --- artifacts that Maven will not get


def test_an_artifact_that_no_repository_has_is_found_before_maven(subject: Subject) -> None:
    """It is named with the pom that asks for it, and the remedy is to substitute it."""
    cold = replace(subject, local=(), head=answers(central=404))
    check = failed(list(tree_checks.check_dependencies(cold)))["dependencies"]
    assert "org.x:saml:2.6.6 (pom.xml)" in check.message
    assert "--recipe" in (check.remedy or "")


def test_a_property_of_the_recipe_asks_for_another_version(subject: Subject) -> None:
    """The check sees what Maven will see: a substitute's property is laid over the pom's."""
    asked: list[str] = []

    def head(url: str) -> int:
        asked.append(url)
        return 200

    other = with_settings(subject, {"substitutes": {"properties": {"saml": "2.6.4"}}})
    assert failed(list(tree_checks.check_dependencies(replace(other, head=head)))) == {}
    assert set(asked) == {f"{CENTRAL}/org/x/saml/2.6.4/saml-2.6.4.pom"}


def test_a_substituted_jar_is_not_looked_for(subject: Subject) -> None:
    """What the recipe installs itself need be in no repository."""
    jar = {"coordinates": "org.x:saml:2.6.6", "source": "a:b:1", "sha256": "0" * 64}
    with_jar = with_settings(subject, {"substitutes": {"jars": [jar]}})
    assert failed(list(tree_checks.check_dependencies(replace(with_jar, local=())))) == {}


def test_repositories_of_the_pom_that_do_not_answer_are_named(subject: Subject, tmp_path: Path) -> None:
    """Without a mirror Maven stops at a repository that it cannot reach, even if Central has the artifact."""
    settings = tmp_path / "maven" / "lib"
    settings.mkdir(parents=True)
    open_world = replace(subject, environ={}, local=(), head=answers(central=200))
    tools = TOOLS.model_copy(update={"maven_home": str(tmp_path / "maven")})
    _super_pom(settings)
    direct = with_settings(open_world, {}, tools)
    check = failed(list(tree_checks.check_dependencies(direct)))["dependencies"]
    assert "own" in check.message
    assert "mirror_central" in (check.remedy or "")
    mirrored = with_settings(open_world, {"substitutes": {"mirror_central": True}}, tools)
    assert failed(list(tree_checks.check_dependencies(mirrored))) == {}


def test_a_mirror_of_central_alone_stands_for_no_other_repository(subject: Subject, tmp_path: Path) -> None:
    """With a mirror of Central in the machine's settings, the pom's own repositories are asked themselves."""
    own = tmp_path / "settings.xml"
    mirror = "<mirror><id>m</id><mirrorOf>{}</mirrorOf><url>https://m.example.org</url></mirror>"
    asked: list[str] = []

    def head(url: str) -> int:
        asked.append(url)
        return 200 if url.startswith("https://own.") else 404

    for of, hosts in (("central", {"m.example.org", "own.example.org"}), ("*", {"m.example.org"})):
        asked.clear()
        own.write_text(f"<settings><mirrors>{mirror.format(of)}</mirrors></settings>")
        list(
            tree_checks.check_dependencies(
                replace(subject, environ={}, local=(), machine_settings=own, head=head)
            )
        )
        assert {url.split("/")[2] for url in asked} == hosts


def _super_pom(lib: Path) -> None:
    with zipfile.ZipFile(lib / "maven-model-builder-3.jar", "w") as jar:
        text = f"<project><r><repository><id>central</id><url>{CENTRAL}</url></repository></r></project>"
        jar.writestr("org/apache/maven/model/pom-4.0.0.xml", text)


def test_without_network_a_warm_cache_is_enough(subject: Subject) -> None:
    """All artifacts on disk: no repository is asked."""
    assert failed(list(tree_checks.check_dependencies(replace(subject, head=offline)))) == {}


def test_without_network_a_cold_cache_is_refused(subject: Subject) -> None:
    """Artifacts missing and nobody to ask: Maven could only fail."""
    check = failed(list(tree_checks.check_dependencies(replace(subject, local=()))))["dependencies"]
    assert "no answer" in check.message


def test_a_tree_without_pom_is_not_a_reactor(subject: Subject, tmp_path: Path) -> None:
    """The wrong branch is noticed before Maven."""
    (tmp_path / "tree" / "pom.xml").unlink()
    assert "pom.xml" in failed(list(tree_checks.check_dependencies(subject)))["reactor"].message


DEPENDENCIES = [Dependency("g", f"a{number}", "1", "jar", "", "pom.xml") for number in range(5)]
REPOSITORY = Repository("central", CENTRAL)


def test_what_was_found_once_is_not_asked_again(tmp_path: Path) -> None:
    """The second look costs one request, to see that the repository still answers."""
    asked: list[str] = []

    def head(url: str) -> int:
        asked.append(url)
        return 404 if "a3" in url else 200

    for expected in (6, 2):
        asked.clear()
        found = resolution.resolve(DEPENDENCIES, [REPOSITORY], [], set(), memory=tmp_path, head=head)
        assert [one.artifact for one in found.missing] == ["a3"]
        assert len(asked) == expected


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1, null]", b"\xff", b"["])
def test_a_damaged_memory_costs_requests_only(tmp_path: Path, damage: bytes) -> None:
    """What was remembered may be anything; it is then forgotten."""
    resolution.resolve(DEPENDENCIES, [REPOSITORY], [], set(), memory=tmp_path, head=lambda url: 200)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(damage)
    found = resolution.resolve(DEPENDENCIES, [REPOSITORY], [], set(), memory=tmp_path, head=lambda url: 200)
    assert found.asked == 5


@pytest.mark.parametrize("status", [401, 403, 500, 429])
def test_an_answer_that_decides_nothing_leaves_an_artifact_open(status: int) -> None:
    """Only 404 and 410 say that it is not there; Maven may have credentials that this check has not."""
    found = resolution.resolve(DEPENDENCIES, [REPOSITORY], [], set(), head=lambda url: status)
    assert found.missing == ()
    assert len(found.unchecked) == 5


def test_slow_repositories_are_left_after_the_deadline() -> None:
    """Preflight does not hang with a repository that does."""
    let_go = threading.Event()

    def head(url: str) -> int:
        if "a0" not in url:
            let_go.wait(20)
        return 200

    try:
        found = resolution.resolve(DEPENDENCIES, [REPOSITORY], [], set(), head=head, deadline_seconds=0.1)
    finally:
        let_go.set()
    assert [one.artifact for one in found.unchecked] == ["a1", "a2", "a3", "a4"]


def test_an_artifact_that_has_moved_is_on_disk_by_its_pom(tmp_path: Path) -> None:
    """Maven keeps only the pom of a relocated artifact."""
    pom = tmp_path / "g/a0/1/a0-1.pom"
    pom.parent.mkdir(parents=True)
    pom.write_text("<project><relocation>elsewhere</relocation></project>")
    assert (
        resolution.resolve(DEPENDENCIES[:1], [REPOSITORY], [tmp_path], set(), head=offline)
        == resolution.Resolution()
    )


@pytest.mark.parametrize(
    "address", ["http://[::1", "https://ex ample/x", "${x}", "", "data:nothing", "file:///nonexistent", "x:y"]
)
def test_a_repository_with_an_odd_address_gives_no_answer(address: str) -> None:
    """Whatever a pom names as a repository, asking it is no defect."""
    assert resolution.http_head(address) == 0


def test_a_repository_in_a_folder_is_asked(tmp_path: Path) -> None:
    """A pom may name a folder of this machine: what is there is found."""
    (tmp_path / "a.pom").write_text("x")
    assert resolution.http_head((tmp_path / "a.pom").as_uri()) == 200


# --- which JDK


def without_jdk(subject: Subject, wanted: str, have: str, *offered: str) -> Check:
    """Checks a machine whose only JDK has version `have`, and whose distribution has these packages."""
    tools = TOOLS.model_copy(update={"java": have})
    bare = with_settings(subject, {"java": {"version": wanted}, **NO_MINIMUM}, tools)
    (check,) = machine_checks.check_java(replace(bare, offered=lambda name: name in offered))
    return check


def test_the_jdk_s_package_is_one_that_the_distribution_has(subject: Subject) -> None:
    """JDK 17 where there is one; else its own, if that will do; else it is said that there is none."""
    both = ("openjdk-17-jdk-headless", "default-jdk-headless")
    assert without_jdk(subject, "17", "", *both).apt_packages == (both[0],)
    assert without_jdk(subject, "17+", "", *both).apt_packages == (both[0],)
    assert without_jdk(subject, "17+", "", both[1]).apt_packages == (both[1],)
    check = without_jdk(subject, "17", "21.0.5+11", both[1])
    assert (check.ok, check.apt_packages) == (False, ())
    assert check.message.startswith("JDK 17 is wanted, 21.0.5+11 is in ")
    assert check.remedy is not None
    assert "This distribution has none: set `java.home` to a JDK 17 from elsewhere" in check.remedy
    assert "`java.version` to 21" in check.remedy


@pytest.mark.parametrize(
    ("wanted", "have", "ok"),
    [("17", "17.0.1", True), ("17", "21.0.1", False), ("17+", "21.0.1", True), ("17+", "11.0.2", False)],
)
def test_later_jdks_do_where_it_says_so(subject: Subject, wanted: str, have: str, ok: bool) -> None:
    """`17` is that one; `17+` is that one or any later."""
    assert without_jdk(subject, wanted, have).ok is ok


# --- doctor


def test_the_plan_holds_what_is_missing_and_nothing_else() -> None:
    """Packages of failed checks, each once, without those that are installed or provided."""
    checks = [
        Check("a", False, "", None, ("jq", "wget")),
        Check("b", True, "", None, ("fine",)),
        Check("c", False, "", None, ("jq", "here", "provided")),
    ]
    installed = Installed({"here": "1"}, {"provided": [""]})
    assert doctor.install_plan(checks, installed) == ["jq", "wget"]


def test_the_base_of_a_bare_machine_leaves_out_what_came_another_way(tmp_path: Path) -> None:
    """A Maven that is no Debian package is a Maven."""
    (tmp_path / "mvn").write_text("#!/bin/sh\n")
    (tmp_path / "mvn").chmod(0o755)
    plan = doctor.base_plan(Installed({"make": "4"}), cloudstack=False, path=str(tmp_path))
    assert "debhelper" in plan
    assert "maven" not in plan
    assert "make" not in plan
    assert "npm" not in plan
    assert "npm" in doctor.base_plan(Installed(), cloudstack=True, path=str(tmp_path))


class Shell:
    """Takes the commands that would be run; those that hold `refused` fail."""

    def __init__(self, refused: str = "", words: str = "") -> None:
        self.ran: list[str] = []
        self.refused, self.words = refused, words

    def __call__(self, argv: Sequence[str]) -> None:
        self.ran.append(" ".join(argv))
        if self.refused and self.refused in self.ran[-1]:
            raise CommandFailed("x", stderr_tail=self.words)


def test_root_installs_without_questions() -> None:
    """apt-get is told to ask nothing, and nor do the packages."""
    shell = Shell()
    doctor.install(["jq"], is_root=True, run=shell)
    (line,) = shell.ran
    assert line.startswith("env DEBIAN_FRONTEND=noninteractive ")
    assert " apt-get -y " in line
    assert line.endswith(" install jq")


def test_a_sudo_that_asks_nothing_is_used() -> None:
    """Another user's packages are installed through sudo, with the same environment."""
    shell = Shell()
    with_sudo(lambda: doctor.install(["jq"], is_root=False, run=shell))
    assert shell.ran[0] == "sudo -n true"
    assert shell.ran[1].startswith("sudo -n env DEBIAN_FRONTEND=noninteractive ")
    assert shell.ran[1].endswith(" install jq")


def with_sudo(act: Callable[[], None]) -> None:
    """Does something on a machine that has a sudo and an apt-get; neither is run."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name in ("sudo", "apt-get"):
            (Path(folder) / name).write_text("#!/bin/sh\nexit 1\n")
            (Path(folder) / name).chmod(0o755)
        patch.setenv("PATH", folder)
        act()


def test_lists_are_fetched_where_they_are_missing_or_old(tmp_path: Path) -> None:
    """Fresh lists are left alone; a failure is left to what is installed next; nobody's are not touched."""
    for age, expected in ((None, 1), (10.0, 0), (100_000.0, 1)):
        shell = Shell(refused="update")
        if age is not None:
            file = tmp_path / "x_Packages.lz4"
            file.touch()
            os.utime(file, (1e9 - age, 1e9 - age))
        doctor.refresh(is_root=True, run=shell, lists=tmp_path, now=1e9)
        assert len([line for line in shell.ran if line.endswith("apt-get -y update")]) == expected
    shell = Shell(refused="sudo")
    with_sudo(lambda: doctor.refresh(is_root=False, run=shell, lists=tmp_path / "none"))
    assert shell.ran == ["sudo -n true"]


def test_an_empty_plan_is_a_no_op() -> None:
    """Nothing is started, not even for a user who could not install anything."""
    shell = Shell()
    doctor.install([], is_root=False, run=shell)
    assert shell.ran == []


def test_everybody_else_is_told_the_line() -> None:
    """Without root and without a sudo that asks nothing, the remedy is the line to type."""
    with pytest.raises(PreflightFailed) as caught:
        doctor.install(["jq", "wget"], is_root=False, run=Shell(refused="sudo"))
    assert caught.value.remedy == "Run: sudo apt-get install -y --no-install-recommends jq wget"


def test_apt_s_own_words_are_passed_on() -> None:
    """A package that apt does not know is named by apt's error line."""
    broken = Shell(refused="install", words="W: y\nE: Unable to locate package jqq\n")
    with pytest.raises(PreflightFailed, match="Unable to locate package jqq"):
        doctor.install(["jqq"], is_root=True, run=broken)


@pytest.mark.parametrize(
    ("said", "offered"),
    [
        ("jdk:\n  Installed: (none)\n  Candidate: 17.0.1\n", True),
        ("jdk:\n  Installed: (none)\n  Candidate: (none)\n", False),
        ("", False),
    ],
)
def test_what_apt_could_install_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, offered: bool
) -> None:
    """A package that is only mentioned by others has no candidate, and an unknown one has no row."""
    (tmp_path / "apt-cache").write_text(f"#!/bin/sh\n[ $LC_ALL = C ] || exit 1\nprintf '{said}'\n")
    (tmp_path / "apt-cache").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "x_Packages").touch()
    assert debcontrol.query_offered("jdk", tmp_path) is offered


def test_without_lists_any_package_may_be_there(tmp_path: Path) -> None:
    """A machine that never fetched apt's lists knows nothing: nothing is ruled out."""
    assert debcontrol.query_offered("anything", tmp_path)

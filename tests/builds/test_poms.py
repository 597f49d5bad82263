"""Promises of the reader of poms: the modules that Maven builds, and the artifacts that it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.builds.poms import Reactor, read_reactor
from pipeline.builds.preflight import reads
from pipeline.builds.sample import sample_root
from pipeline.builds.tree import FolderTree, GitTree, Tree
from pipeline.edge.process import run
from pipeline.errors import CommandFailed, SourceError


class Texts:
    """A tree out of texts."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = {path: text.encode() for path, text in files.items()}

    def has(self, path: str) -> bool:
        return path in self._files

    def read(self, path: str) -> bytes | None:
        return self._files.get(path)

    def read_all(self, paths: object) -> dict[str, bytes]:
        return {path: self._files[path] for path in paths if path in self._files}  # type: ignore[attr-defined]

    def digest(self, paths: object) -> str:
        return ""


def pom(artifact: str, body: str = "", parent: str | None = None, version: str = "1") -> str:
    above = ""
    if parent:
        above = f"<parent><groupId>g</groupId><artifactId>{parent}</artifactId><version>1</version></parent>"
    own = f"<groupId>g</groupId><version>{version}</version>" if not parent else ""
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0">'
        f"{above}{own}<artifactId>{artifact}</artifactId>{body}</project>"
    )


def dependency(artifact: str, version: str = "", extra: str = "") -> str:
    given_ = f"<version>{version}</version>" if version else ""
    return f"<dependency><groupId>x</groupId><artifactId>{artifact}</artifactId>{given_}{extra}</dependency>"


def deps(*entries: str) -> str:
    return f"<dependencies>{''.join(entries)}</dependencies>"


def read(files: dict[str, str], profiles: list[str] | None = None, **properties: str) -> Reactor:
    tree: Tree = Texts(files)
    return read_reactor(tree, profiles or [], properties)


def versions(reactor: Reactor) -> list[str]:
    return [one.coordinates for one in reactor.dependencies]


def test_modules_are_followed_with_those_of_active_profiles() -> None:
    """A profile named on the command line, or switched on by a property, brings its modules."""
    root = pom(
        "root",
        "<modules><module>a</module></modules><profiles>"
        "<profile><id>p</id><modules><module>b</module></modules></profile>"
        "<profile><id>q</id><activation><property><name>on</name></property></activation>"
        "<modules><module>c</module></modules></profile></profiles>",
    )
    files = {"pom.xml": root, **{f"{name}/pom.xml": pom(name) for name in "abc"}}
    assert read(files).modules == ("pom.xml", "a/pom.xml")
    assert read(files, ["p"]).modules == ("pom.xml", "a/pom.xml", "b/pom.xml")
    assert read(files, on="").modules == ("pom.xml", "a/pom.xml", "c/pom.xml")
    assert read(files, ["!q"], on="").modules == ("pom.xml", "a/pom.xml")


def test_versions_come_through_parents_properties_and_management() -> None:
    """What a child leaves out is found in its parents, and -D wins over them all."""
    root = pom(
        "root",
        "<properties><v>1.0</v><w>${v}.w</w></properties><modules><module>a</module></modules>"
        f"<dependencyManagement>{deps(dependency('managed', '${w}'))}</dependencyManagement>",
    )
    child = pom("a", deps(dependency("managed"), dependency("own", "${v}")), parent="root")
    files = {"pom.xml": root, "a/pom.xml": child}
    assert versions(read(files)) == ["x:managed:1.0.w", "x:own:1.0"]
    assert versions(read(files, v="2")) == ["x:managed:2.w", "x:own:2"]


def test_the_reactor_s_own_modules_are_not_asked_for() -> None:
    """A dependency on another module is made by the build itself."""
    between = "<dependency><groupId>g</groupId><artifactId>b</artifactId><version>1</version></dependency>"
    root = pom("root", "<modules><module>a</module><module>b</module></modules>")
    files = {"pom.xml": root, "a/pom.xml": pom("a", deps(between), "root"), "b/pom.xml": pom("b", "", "root")}
    assert versions(read(files)) == []


def test_what_only_maven_can_know_is_left_out() -> None:
    """Ranges, unknown properties, foreign management and system scope are not guessed."""
    body = deps(
        dependency("range", "[1,2)"),
        dependency("unknown", "${nowhere}"),
        dependency("elsewhere"),
        dependency("system", "1", "<scope>system</scope>"),
        dependency("fine", "3"),
    )
    assert versions(read({"pom.xml": pom("root", body)})) == ["x:fine:3"]


def test_imported_lists_and_foreign_parents_are_asked_for_as_poms() -> None:
    """A bill of materials and the parent of the root are artifacts, too."""
    bill = dependency("bom", "1", "<type>pom</type><scope>import</scope>")
    parent = (
        "<parent><groupId>f</groupId><artifactId>far</artifactId><version>9</version><relativePath/></parent>"
    )
    managed = f"<dependencyManagement>{deps(bill)}</dependencyManagement>"
    root = f"<project>{parent}<artifactId>root</artifactId>{managed}</project>"
    found = read({"pom.xml": root})
    assert [(one.coordinates, one.path()) for one in found.dependencies] == [
        ("f:far:9", "f/far/9/far-9.pom"),
        ("x:bom:1", "x/bom/1/bom-1.pom"),
    ]


@pytest.mark.parametrize(
    ("extra", "path"),
    [
        ("", "x/d/1/d-1.jar"),
        ("<type>test-jar</type>", "x/d/1/d-1-tests.jar"),
        ("<classifier>linux</classifier>", "x/d/1/d-1-linux.jar"),
        ("<type>war</type>", "x/d/1/d-1.war"),
    ],
)
def test_an_artifact_s_path_is_maven_s(extra: str, path: str) -> None:
    """Type and classifier are in the name; the pom's has neither."""
    (found,) = read({"pom.xml": pom("root", deps(dependency("d", "1", extra)))}).dependencies
    assert found.path() == path
    assert found.path("pom") == "x/d/1/d-1.pom"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<project>",
        "not xml",
        '<!DOCTYPE p [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><project>&b;</project>',
        "<project><properties><a>${b}</a><b>${a}</b></properties>"
        + deps(dependency("x", "${a}"))
        + "</project>",
    ],
)
def test_a_pom_that_cannot_be_read_is_named_and_no_more(text: str) -> None:
    """Broken XML, document types and properties in a circle do no harm."""
    found = read({"pom.xml": text})
    assert found.dependencies == ()
    assert found.unreadable == () or found.unreadable[0].startswith("pom.xml: ")


def test_modules_in_a_circle_or_outside_the_tree_end() -> None:
    """A module that names its parent, or a folder above the tree, is not followed."""
    root = pom("root", "<modules><module>a</module><module>../../etc</module><module>.</module></modules>")
    child = pom("a", "<modules><module>..</module></modules>")
    assert read({"pom.xml": root, "a/pom.xml": child}).modules == ("pom.xml", "a/pom.xml")


@given(st.text(alphabet='<>/projectmdules${}."= ', max_size=80))
def test_no_text_makes_a_traceback(text: str) -> None:
    """Anything can stand in a pom."""
    read({"pom.xml": text})
    read({"pom.xml": pom("root", deps(dependency("a", text.replace("<", ""))))})


def test_the_sample_s_reactor_is_read_from_folder_and_from_git(tmp_path: Path) -> None:
    """A commit gives the same reactor as its checked-out tree, and the same digest twice."""
    tree = sample_root() / "tree"
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"],
    ):
        run(["git", f"--git-dir={tmp_path / 'g'}", f"--work-tree={tree}", *words])
    git = GitTree(tmp_path / "g", "HEAD")
    by_git, by_folder = (read_reactor(one, ["systemvm", "developer"], {}) for one in (git, FolderTree(tree)))
    assert by_git == by_folder
    assert len(by_git.modules) >= 8
    assert git.digest(by_git.modules) == GitTree(tmp_path / "g", "HEAD").digest(by_git.modules)
    assert git.read("no/such/file") is None
    with pytest.raises(SourceError, match="cannot be read"):
        GitTree(tmp_path / "g", "f" * 40)


def test_a_commit_is_read_in_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the checks read of a commit comes with the first file that they ask for, and only that."""
    tree = sample_root() / "tree"
    git = ["git", f"--git-dir={tmp_path / 'g'}", f"--work-tree={tree}"]
    for words in (["init", "-q"], ["add", "."]):
        run([*git, *words])
    run([*git, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"])
    looked = GitTree(tmp_path / "g", "HEAD", reads)
    assert looked.read("debian/control") == (tree / "debian" / "control").read_bytes()
    monkeypatch.setenv("PATH", "/nonexistent")
    by_git, by_folder = (read_reactor(one, ["systemvm"], {}) for one in (looked, FolderTree(tree)))
    assert by_git == by_folder
    assert looked.read("debian/rules") == (tree / "debian" / "rules").read_bytes()
    with pytest.raises(CommandFailed):
        looked.read("LICENSE")

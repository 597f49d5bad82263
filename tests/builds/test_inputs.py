"""What a build was made from, and where: what its manifest says of both."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from pipeline.builds.artifact_sets import verify
from pipeline.builds.artifacts import collect, new_manifest
from pipeline.builds.debcontrol import Installed
from pipeline.builds.environment import list_packages, listing, look
from pipeline.builds.inputs import collect_inputs, expected_packages
from pipeline.builds.tree import FolderTree
from pipeline.records.builds import WHERE_AND_WHO, Environment, Manifest, Recipe, Toolchain
from tests.coordination.world import NOW

CONTROL = """\
Source: cloudstack
Build-Depends: debhelper (>= 13)

Package: cloudstack-common
Architecture: all
Description: one
 Package: not-a-field

# A comment between stanzas
Package: cloudstack-native
Architecture: any

Package: cloudstack-arm
Architecture: arm64 armhf

Package: cloudstack-both
Architecture: amd64 arm64

Package: cloudstack-installer
Package-Type: udeb
Architecture: all

Package: cloudstack-doc
Build-Profiles: <!nodoc>
Architecture: all

Package: cloudstack-stage1
Build-Profiles: <stage1>
Architecture: all
"""
CHANGELOG = "\ncloudstack (2:4.21.0.0-1~rc1) unstable; urgency=low\n\n  * x\n"


def tree(folder: Path, control: str = CONTROL, changelog: str = CHANGELOG) -> FolderTree:
    """Makes a source tree with this packaging."""
    (folder / "debian").mkdir(parents=True)
    (folder / "debian" / "control").write_text(control)
    (folder / "debian" / "changelog").write_text(changelog)
    return FolderTree(folder)


def test_what_is_expected_is_what_the_control_file_says(tmp_path: Path) -> None:
    """Every package of this architecture, but for profiles and the installer; no epoch in names."""
    version = "4.21.0.0-1~rc1"
    assert expected_packages(tree(tmp_path), "amd64") == [
        f"cloudstack-both_{version}_amd64.deb",
        f"cloudstack-common_{version}_all.deb",
        f"cloudstack-doc_{version}_all.deb",
        f"cloudstack-native_{version}_amd64.deb",
    ]


@pytest.mark.parametrize(
    ("control", "changelog"),
    [("", CHANGELOG), (CONTROL, ""), (CONTROL, "no changelog\n"), ("Source: x\n", CHANGELOG)],
)
def test_nothing_is_expected_where_the_tree_does_not_say_it(
    tmp_path: Path, control: str, changelog: str
) -> None:
    """Without a control file or a version the expected set is empty, which agrees with nothing."""
    assert expected_packages(tree(tmp_path, control, changelog), "amd64") == []


def git(folder: Path, *words: str) -> str:
    """Runs git in a folder."""
    who = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_inputs_are_those_of_the_commit_and_of_the_repository(tmp_path: Path) -> None:
    """The tree's id and packages come from the commit, whatever the build did to its files; dependencies and
    lock files by their bytes, Maven's bookkeeping left out."""
    folder, repository = tmp_path / "tree", tmp_path / "m2"
    tree(folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    commit = git(folder, "rev-parse", "HEAD")
    (folder / "debian" / "control").write_text("Package: another\nArchitecture: all\n")
    (folder / "ui" / "node_modules" / "x").mkdir(parents=True)
    (folder / "ui" / "package-lock.json").write_text("{}")
    (folder / "ui" / "node_modules" / "x" / "package-lock.json").write_text("{}")
    (repository / "g" / "a" / "1").mkdir(parents=True)
    for name in ("a-1.jar", "a-1.pom", "a-1.jar.sha1", "_remote.repositories", "maven-metadata-x.xml"):
        (repository / "g" / "a" / "1" / name).write_text(name)
    recipe = Recipe(source=str(folder), branch="main", commit=commit, source_date_epoch=1)
    inputs, texts = collect_inputs(folder, repository, recipe, "amd64")
    assert inputs.tree == git(folder, "rev-parse", "HEAD^{tree}")
    assert "cloudstack-common_4.21.0.0-1~rc1_all.deb" in inputs.expected
    assert inputs.npm_locks == {"ui/package-lock.json": hashlib.sha256(b"{}").hexdigest()}
    rows = [f"g/a/1/{name} {hashlib.sha256(name.encode()).hexdigest()}\n" for name in ("a-1.jar", "a-1.pom")]
    assert texts == {"dependencies.txt": "".join(rows).encode()}
    assert inputs.dependencies is not None
    assert inputs.dependencies.sha256 == hashlib.sha256(texts["dependencies.txt"]).hexdigest()


def test_lists_lie_beside_the_artifacts_and_are_verified(tmp_path: Path) -> None:
    """A list that the manifest names is kept with the set; changed or removed, `artifacts.verify` says so."""
    packages, text = list_packages(Installed({"b": "2", "a": "1"}))
    assert text == b"a=1\nb=2\n"
    manifest = new_manifest(
        job_id="job_1", server="build1", branch="b", commit="a" * 40, created_at=NOW, token="1.1.x"
    )
    manifest = manifest.model_copy(update={"environment": Environment(packages=packages)})
    done: Manifest = collect(tmp_path, manifest, [], None, texts={packages.path: text})
    folder = Path(done.build_dir)
    assert verify(done, folder) == []
    (folder / packages.path).write_bytes(b"a=1\nb=3\n")
    assert [each.kind for each in verify(done, folder)] == ["checksum"]
    (folder / packages.path).unlink()
    assert [each.kind for each in verify(done, folder)] == ["missing"]


def test_a_machine_states_where_it_is() -> None:
    """Who, where, which zone and locale: nothing of it is left out where the machine can say it."""
    packages, _ = listing("packages.txt", ["a=1"])
    tools = Toolchain(java="17", java_home="/j", maven="3", maven_home="/m", distribution="Debian")
    seen = look(
        "machine1", {"TZ": "Asia/Tokyo", "LANG": "de_DE", "HOME": "/h", "PATH": "/p"}, tools, packages
    )
    assert (seen.machine, seen.timezone, seen.locale) == ("machine1", "Asia/Tokyo", "de_DE")
    stated = seen.model_dump(exclude={"folder", "varied"})
    assert [name for name, value in stated.items() if value is None] == []


def test_a_fingerprint_tells_how_a_builder_is_set_up_and_not_which_it_is() -> None:
    """Another host, user or folder leaves it; another zone, kernel, tool or package changes it."""
    packages, _ = listing("packages.txt", ["a=1"])
    base = Environment(host="one", timezone="UTC", kernel="6.1", packages=packages)
    for name in WHERE_AND_WHO:
        value: object = ["x"] if name == "varied" else 7 if name in ("user_id", "cores") else "other"
        assert base.model_copy(update={name: value}).fingerprint == base.fingerprint
    others, _ = listing("packages.txt", ["a=2"])
    tools = Toolchain(java="17", java_home="/j", maven="3", maven_home="/m")
    changes = ({"timezone": None}, {"kernel": "6.2"}, {"packages": others}, {"toolchain": tools})
    prints = [base.model_copy(update=change).fingerprint for change in changes]
    assert len({base.fingerprint, *prints}) == 1 + len(changes)

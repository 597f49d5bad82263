"""Promises of the embedded sample: its history, its branches, and the shape that the pipeline counts on."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.builds.sample import MAIN_BRANCH, branches, fast_import_stream, sample_digest, sample_root
from pipeline.errors import SourceError

ROOT = sample_root()
OVERLAYS = [
    "differs-inputs",
    "differs-random",
    "differs-time",
    "fails-compile",
    "fails-dependency",
    "fails-packaging",
    "fails-test",
    "hangs",
    "lacks-package",
    "noisy",
    "other",
]
POM = "{http://maven.apache.org/POM/4.0.0}"


def git(repository: Path, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
    run = subprocess.run(
        ["git", "-C", str(repository), *arguments],
        input=stdin,
        capture_output=True,
        check=True,
        env={**os.environ, **(env or {})},
    )
    return run.stdout.decode()


def imported(repository: Path, root: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Imports the sample into a new bare repository and returns the commit id of each branch."""
    repository.mkdir()
    git(repository, "init", "--quiet", "--bare")
    git(repository, "fast-import", "--quiet", stdin=b"".join(fast_import_stream(root)), env=env)
    return tips(repository)


def tips(repository: Path) -> dict[str, str]:
    lines = git(
        repository, "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads"
    ).split()
    return dict(zip(lines[::2], lines[1::2], strict=True))


def paths(repository: Path, branch: str) -> dict[str, str]:
    """Returns the mode of each file of a branch."""
    lines = git(repository, "ls-tree", "-r", branch).splitlines()
    return {line.split("\t")[1]: line.split(" ", 1)[0] for line in lines}


def small_sample(root: Path) -> Path:
    """Makes a sample of a few files."""
    (root / "tree" / "debian").mkdir(parents=True)
    (root / "tree" / "pom.xml").write_text("<project/>\n")
    (root / "tree" / "debian" / "rules").write_text("#!/usr/bin/make -f\n")
    (root / "branches" / "other").mkdir(parents=True)
    (root / "branches" / "other" / "pom.xml").write_text("<project></project>\n")
    return root


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "sample.git"
    imported(path, ROOT)
    return path


# ---- the history


def test_every_branch_is_one_commit_on_external_new(repository: Path) -> None:
    """git takes the stream: `ExternalNew` is a root commit, and every other branch is one commit on top."""
    assert branches(ROOT) == [MAIN_BRANCH, *OVERLAYS]
    assert sorted(tips(repository)) == sorted([MAIN_BRANCH, *OVERLAYS])
    assert git(repository, "rev-list", "--parents", MAIN_BRANCH).split() == [tips(repository)[MAIN_BRANCH]]
    for branch in OVERLAYS:
        assert git(repository, "rev-list", f"{MAIN_BRANCH}..{branch}").split() == [tips(repository)[branch]]
        assert git(repository, "merge-base", MAIN_BRANCH, branch).strip() == tips(repository)[MAIN_BRANCH]
    git(repository, "fsck", "--strict", "--no-dangling")


def test_commit_ids_depend_on_paths_and_bytes_only(tmp_path: Path) -> None:
    """A copy elsewhere, with other times and permissions, made by another user, gives the same ids."""
    copy = tmp_path / "somewhere else"
    shutil.copytree(ROOT, copy, copy_function=shutil.copyfile)
    for file in copy.rglob("*"):
        os.utime(file, (1, 1))
    stranger = {
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "GIT_AUTHOR_NAME": "Somebody",
        "GIT_COMMITTER_EMAIL": "somebody@example.invalid",
        "GIT_COMMITTER_DATE": "2001-01-01T00:00:00+0900",
    }
    here = imported(tmp_path / "here.git", ROOT)
    there = imported(tmp_path / "there.git", copy, stranger)
    assert here == there
    assert sample_digest(ROOT) == sample_digest(copy)


def test_authors_and_dates_are_fixed(repository: Path) -> None:
    """Every commit is by the sample's author, at a time that the sample fixes."""
    lines = git(repository, "log", "--all", "--format=%an <%ae>|%cn <%ce>|%ad|%cd", "--date=raw").splitlines()
    author = "Sample Author <sample@example.invalid>"
    main, other = (f"{int(datetime(2025, 6, 1, hour, tzinfo=UTC).timestamp())} +0000" for hour in (0, 1))
    expected = [f"{author}|{author}|{at}|{at}" for at in [main, *[other] * len(OVERLAYS)]]
    assert sorted(lines) == expected


def test_importing_again_changes_nothing(tmp_path: Path) -> None:
    """The same stream into the repository that it made is taken, and no branch moves."""
    root = small_sample(tmp_path / "sample")
    before = imported(tmp_path / "sample.git", root)
    git(tmp_path / "sample.git", "fast-import", "--quiet", stdin=b"".join(fast_import_stream(root)))
    assert tips(tmp_path / "sample.git") == before


def test_a_stream_cut_short_is_refused(tmp_path: Path) -> None:
    """git fails on a stream whose end is missing, wherever it was cut."""
    root = small_sample(tmp_path / "sample")
    chunks = list(fast_import_stream(root))
    for end in range(1, len(chunks)):
        repository = tmp_path / f"{end}.git"
        repository.mkdir()
        git(repository, "init", "--quiet", "--bare")
        with pytest.raises(subprocess.CalledProcessError):
            git(repository, "fast-import", "--quiet", stdin=b"".join(chunks[:end]))


def test_executable_bits_are_those_of_the_checkout(repository: Path) -> None:
    """What begins with `#!` is executable, in the repository as on disk; debian/rules is."""
    for branch in [MAIN_BRANCH, *OVERLAYS]:
        folder = ROOT / "tree" if branch == MAIN_BRANCH else ROOT / "branches" / branch
        for path, mode in paths(repository, branch).items():
            on_disk = folder / path
            if on_disk.exists():
                executable = on_disk.read_bytes().startswith(b"#!")
                assert mode == ("100755" if executable else "100644"), (branch, path)
                if ROOT.name == "sample":  # an installed copy may have lost the permissions
                    assert bool(on_disk.stat().st_mode & 0o100) == executable, (branch, path)
    assert paths(repository, MAIN_BRANCH)["debian/rules"] == "100755"
    assert paths(repository, "fails-packaging")["debian/rules"] == "100755"


# ---- what belongs to it


def test_what_builds_and_editors_leave_is_no_part_of_it(tmp_path: Path) -> None:
    """Files that a build, Python or an editor left behind change neither the branches nor the digest."""
    root = small_sample(tmp_path / "sample")
    before = sample_digest(root)
    for left in [
        "tree/target/classes/A.class",
        "tree/utils/target/cloud-utils.jar",
        "tree/tools/__pycache__/setup.cpython-311.pyc",
        "tree/tools/setup.pyc",
        "tree/pom.xml~",
        "tree/.pom.xml.swp",
        "tree/#pom.xml#",
        "tree/.idea/workspace.xml",
        "tree/debian/tmp/usr/bin/cloudstack-agent",
        "tree/debian/cloudstack-agent/DEBIAN/control",
        "tree/debian/.debhelper/generated/main/installed-by-dh_install",
        "tree/debian/files",
        "tree/debian/cloudstack-agent.substvars",
        "branches/.DS_Store",
        "branches/__pycache__/x.pyc",
        "branches/other/target/x",
    ]:
        (root / left).parent.mkdir(parents=True, exist_ok=True)
        (root / left).write_text("left behind\n")
    assert sample_digest(root) == before
    assert branches(root) == [MAIN_BRANCH, "other"]


@pytest.mark.parametrize("change", ["content", "name", "new file", "branch"])
def test_the_digest_notices_every_change(tmp_path: Path, change: str) -> None:
    """Another content, name, file or branch gives another digest."""
    root = small_sample(tmp_path / "sample")
    before = sample_digest(root)
    pom = root / "tree" / "pom.xml"
    if change == "content":
        pom.write_text("<project />\n")
    elif change == "name":
        pom.rename(pom.with_name("pom2.xml"))
    elif change == "new file":
        (root / "tree" / ".gitignore").write_text("target/\n")
    else:
        (root / "branches" / "other").rename(root / "branches" / "another")
    assert sample_digest(root) != before


@pytest.mark.parametrize("name", ["naïve.txt", "two\nlines", 'a "quoted" name'])
def test_a_name_that_is_not_the_same_everywhere_is_refused(tmp_path: Path, name: str) -> None:
    """A file whose name some file systems or git itself would spell otherwise stops the import, by name."""
    root = small_sample(tmp_path / "sample")
    (root / "tree" / name).write_text("x\n")
    with pytest.raises(SourceError) as caught:
        list(fast_import_stream(root))
    assert name in caught.value.message


def test_a_link_is_refused(tmp_path: Path) -> None:
    """A symbolic link stops the import, since not every way of installing keeps it."""
    root = small_sample(tmp_path / "sample")
    (root / "tree" / "link").symlink_to("pom.xml")
    with pytest.raises(SourceError, match=r"tree/link"):
        list(fast_import_stream(root))


def test_no_stray_files(repository: Path) -> None:
    """Every file of the sample's branches is text, small, and of a kind that the sample is known to have."""
    known = {".java", ".py", ".xml", ".md", ".sql", ".properties", ".html", ".css", ".js", ".json", ".txt"}
    known |= {".config", ".service", ".default", ".install", ".postinst", ".postrm"}
    plain = {
        ".gitignore",
        "LICENSE",
        "NOTICE",
        "changelog",
        "compat",
        "control",
        "copyright",
        "format",
        "rules",
    }
    files = {b: git(repository, "diff", "--name-only", MAIN_BRANCH, b).splitlines() for b in OVERLAYS}
    for branch, names in {MAIN_BRANCH: list(paths(repository, MAIN_BRANCH)), **files}.items():
        for path in names:
            name = Path(path)
            assert name.suffix in known or name.name in plain or path.startswith("scripts/"), (branch, path)
            content = git(repository, "show", f"{branch}:{path}")
            assert len(content) < 20_000, (branch, path)
            assert content.endswith("\n"), (branch, path)
            assert "\r" not in content, (branch, path)


# ---- the shape that the pipeline counts on


def poms() -> dict[str, ET.Element]:
    """Returns the POM of every module that the reactor has with the profile `developer`, by its folder."""
    root = ET.parse(ROOT / "tree" / "pom.xml").getroot()
    modules = [module.text or "" for module in root.iter(f"{POM}module")]
    return {".": root, **{m: ET.parse(ROOT / "tree" / m / "pom.xml").getroot() for m in modules}}


def test_it_has_the_shape_of_cloudstack() -> None:
    """The reactor has CloudStack's coordinates, profiles and names, one of them over 50 characters."""
    modules = poms()
    root = modules["."]
    assert [root.findtext(f"{POM}{tag}") for tag in ("groupId", "artifactId", "version")] == [
        "org.apache.cloudstack",
        "cloudstack",
        "4.21.0.0-SNAPSHOT",
    ]
    assert [e.text for e in root.findall(f"{POM}profiles/{POM}profile/{POM}id")] == ["systemvm", "developer"]
    names = [pom.findtext(f"{POM}name") or "" for pom in modules.values()]
    assert len(names) == 12
    assert all(name.startswith("Apache CloudStack") for name in names)
    assert any(len(name) > 50 for name in names)
    found = {str(p.parent.relative_to(ROOT / "tree")) for p in (ROOT / "tree").rglob("pom.xml")}
    assert found == set(modules)


def test_every_version_is_fixed() -> None:
    """No plugin and no dependency but the modules is a range or a snapshot: offline builds need that."""
    for folder, pom in poms().items():
        for element in pom.iter(f"{POM}version"):
            version = element.text or ""
            assert re.fullmatch(r"[\w.-]+|\$\{[\w.-]+\}", version), (folder, version)
            assert "SNAPSHOT" not in version or version == "4.21.0.0-SNAPSHOT", (folder, version)
    properties = poms()["."].find(f"{POM}properties")
    assert properties is not None
    versions = {p.tag.removeprefix(POM): p.text or "" for p in properties if p.tag.endswith("version")}
    for name, version in versions.items():
        assert re.fullmatch(r"\d+(\.\d+)*", version), (name, version)


def test_the_packages_are_those_of_the_install_lists() -> None:
    """Six packages for all architectures, each with its list of files, in the version of the POM."""
    debian = ROOT / "tree" / "debian"
    control = (debian / "control").read_text()
    packages = re.findall(r"^Package: (.+)$", control, re.M)
    assert packages == [
        f"cloudstack-{part}" for part in ("common", "management", "agent", "usage", "ui", "marvin")
    ]
    assert control.count("\nArchitecture: all\n") == len(packages)
    assert sorted(p.name for p in debian.glob("*.install")) == sorted(f"{p}.install" for p in packages)
    assert (debian / "changelog").read_text().startswith("cloudstack (4.21.0.0-SNAPSHOT) unstable;")
    assert "${ACS_BUILD_OPTS}" in (debian / "rules").read_text()


@pytest.mark.parametrize(
    ("branch", "path", "replaced"),
    [
        ("differs-inputs", "debian/rules", 0),
        ("differs-random", "tools/marvin/mvn-setup.py", 1),
        ("differs-time", "tools/marvin/mvn-setup.py", 1),
        ("lacks-package", "debian/rules", 0),
        ("fails-compile", "server/src/main/java/org/apache/cloudstack/server/CapacityManager.java", 1),
        ("fails-dependency", "plugins/hypervisors/simulator/pom.xml", 0),
        ("fails-packaging", "debian/rules", 0),
        ("fails-test", "utils/src/test/java/org/apache/cloudstack/utils/ByteSizeTest.java", 1),
        ("hangs", "plugins/hypervisors/simulator/pom.xml", 0),
        ("noisy", "framework/jobs/pom.xml", 0),
        ("other", "ui/public/style.css", 1),
    ],
)
def test_a_replaced_file_has_not_fallen_behind(branch: str, path: str, replaced: int) -> None:
    """A branch's file is the tree's but for one line exchanged, or some added."""
    old = (ROOT / "tree" / path).read_text().splitlines()
    new = (ROOT / "branches" / branch / path).read_text().splitlines()
    signs = [line[0] for line in difflib.ndiff(old, new)]
    assert signs.count("-") == replaced
    assert signs.count("+") == 1 if replaced else signs.count("+") > 0


def test_only_what_a_branch_is_about_differs(repository: Path) -> None:
    """Against `ExternalNew`, a branch changes one file, and at most adds the program that it runs."""
    changed = {
        branch: git(repository, "diff", "--name-status", MAIN_BRANCH, branch).splitlines()
        for branch in OVERLAYS
    }
    assert {branch: [line[0] for line in lines] for branch, lines in changed.items()} == {
        **{branch: ["M"] for branch in OVERLAYS},
        "hangs": ["M", "A"],
        "noisy": ["M", "A"],
    }

"""Promises of the artifact store: whole sets or none, every difference found, nothing needed removed."""

from __future__ import annotations

import errno
import gzip
import os
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.builds import artifacts
from pipeline.builds.artifact_sets import (
    Problem,
    carry_out,
    leftovers,
    list_sets,
    newest_of,
    plan_prune,
    verify,
)
from pipeline.builds.artifacts import Item, collect, new_manifest, set_folder
from pipeline.edge.process import run
from pipeline.errors import ArtifactsInvalid, BuildFailed
from pipeline.records.base import load
from pipeline.records.builds import Artifact, Manifest

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def facts(
    job: str = "job_1", token: str = "7", branch: str = "ExternalNew", created: datetime = NOW
) -> Manifest:
    return new_manifest(
        job_id=job, server="build1", branch=branch, commit="a" * 40, created_at=created, token=token
    )


def packages(folder: Path) -> list[Item]:
    """The packages that a build has left in a folder."""
    return [Item(path, path.name) for path in sorted(folder.glob("*.deb"))]


def deb(folder: Path, name: str, version: str = "4.21.0") -> Path:
    """Makes a real package with real dpkg-deb."""
    tree = folder / f"{name}.tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN").chmod(0o755)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: t <t@t>\nDescription: d\n"
    )
    target = folder / f"{name}_{version}_all.deb"
    run(["dpkg-deb", "--build", "--root-owner-group", tree, target])
    return target


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder with what a build leaves: two packages and a log."""
    folder = tmp_path / "built"
    folder.mkdir()
    deb(folder, "cloudstack-common")
    deb(folder, "cloudstack-ui")
    (folder / "build.log").write_bytes(b"[INFO] line\n" * 1000)
    return folder


@pytest.fixture
def stored(tmp_path: Path, built: Path) -> tuple[Manifest, Path]:
    """One set in the store, and its folder."""
    manifest = collect(tmp_path / "store", facts(), packages(built), built / "build.log")
    return manifest, Path(manifest.build_dir)


def test_a_set_holds_files_log_and_manifest(stored: tuple[Manifest, Path]) -> None:
    """Path by builder, branch, job and token; package facts, digests and totals in the manifest."""
    manifest, folder = stored
    assert folder.parts[-3:] == ("build1", "ExternalNew", "job_1.7")
    assert sorted(path.name for path in folder.iterdir()) == [
        "build.log.gz",
        "cloudstack-common_4.21.0_all.deb",
        "cloudstack-ui_4.21.0_all.deb",
        "manifest.json",
    ]
    first = manifest.artifacts[0]
    assert (first.package, first.version, first.architecture) == ("cloudstack-common", "4.21.0", "all")
    assert manifest.artifact_count == 2
    assert manifest.total_size_bytes == sum(one.size_bytes for one in manifest.artifacts)
    assert load(Manifest, (folder / "manifest.json").read_bytes(), "m") == manifest
    assert verify(manifest, folder) == []


def test_the_raw_log_is_kept_whole_and_always_the_same(stored: tuple[Manifest, Path], tmp_path: Path) -> None:
    """Compressed without a time: equal logs give equal files."""
    manifest, folder = stored
    assert manifest.log is not None
    assert gzip.decompress((folder / manifest.log.path).read_bytes()) == b"[INFO] line\n" * 1000
    assert manifest.log.raw_size_bytes == 12_000
    again = artifacts.compress_log(tmp_path / "built" / "build.log", tmp_path / "again.gz")
    assert again.sha256 == manifest.log.sha256


def test_a_set_appears_whole_or_not_at_all(tmp_path: Path, built: Path) -> None:
    """Whenever a collection is interrupted, the store lists nothing, and no partial folder is left."""
    calls = 0
    stop_at = 0

    def sync(descriptor: int) -> None:
        nonlocal calls
        assert list_sets(tmp_path / "store") == []
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt

    collect(tmp_path / "probe", facts(), packages(built), built / "build.log")
    # Syncs before the set's name is there: two packages, log, manifest, folder.
    for number in range(1, 6):
        calls, stop_at = 0, number
        with pytest.raises(KeyboardInterrupt):
            collect(tmp_path / "store", facts(), packages(built), built / "build.log", sync=sync)
        assert list((tmp_path / "store").glob("*/*/*")) == []
        assert list((tmp_path / "store").glob("*/*/.*")) == []


def test_everything_is_synced_before_the_name_is_there(tmp_path: Path, built: Path) -> None:
    """Files, folder, then the rename, then the folders above it: a power loss leaves a whole set or none."""
    seen: list[str] = []

    def sync(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    collect(tmp_path / "store", facts(), packages(built), built / "build.log", sync=sync)
    assert sorted(seen[:3]) == [
        "build.log.gz",
        "cloudstack-common_4.21.0_all.deb",
        "cloudstack-ui_4.21.0_all.deb",
    ]
    assert seen[3] == "manifest.json"
    assert seen[4].startswith(".partial-")
    assert seen[5:] == ["ExternalNew", "build1", "store"]


def test_a_set_that_is_there_is_returned_as_it_is(tmp_path: Path, built: Path) -> None:
    """Who collects again after a crash gets what was collected; nothing is copied twice."""
    first = collect(tmp_path / "store", facts(), packages(built), built / "build.log")
    assert collect(tmp_path / "store", facts(), [], None) == first


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_clean_error(tmp_path: Path, built: Path, number: int) -> None:
    """The error is of class disk, has a remedy, and nothing of the set stays."""

    def sync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(BuildFailed) as caught:
        collect(tmp_path / "store", facts(), packages(built), None, sync=sync)
    assert caught.value.failure_class == "disk"
    assert "artifacts.prune" in (caught.value.remedy or "")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte. Needs a root that may mount; others skip."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)
    if done.returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    run(["umount", "-l", folder])


def test_a_really_full_disk_is_a_clean_error(tmp_path: Path, small_disk: Path) -> None:
    """The kernel's own refusal in the middle of a copy: class disk, and the room is free again."""
    (tmp_path / "big.jar").write_bytes(b"x" * (3 << 20))
    with pytest.raises(BuildFailed) as caught:
        collect(small_disk, facts(), [Item(tmp_path / "big.jar", "big.jar")], None)
    assert caught.value.failure_class == "disk"
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    """A package that was listed and is not there any more is an error that names it."""
    with pytest.raises(ArtifactsInvalid, match=r"gone\.deb"):
        collect(tmp_path / "store", facts(), [Item(tmp_path / "gone.deb", "gone.deb")], None)


@pytest.mark.parametrize("data", [b"", b"not a package", b"!<arch>\n"])
def test_a_file_that_is_no_package_is_refused(tmp_path: Path, data: bytes) -> None:
    """A half-written DEB does not get into a manifest."""
    (tmp_path / "x.deb").write_bytes(data)
    with pytest.raises(ArtifactsInvalid, match=r"x\.deb is no Debian package"):
        collect(tmp_path / "store", facts(), [Item(tmp_path / "x.deb", "x.deb")], None)


def test_files_are_read_once(tmp_path: Path) -> None:
    """Copying and hashing are one pass: a source that can be read only once is enough."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    pid = os.fork()
    if pid == 0:
        with fifo.open("wb") as writing:
            writing.write(b"abc" * 100_000)
        os._exit(0)
    size, digest = artifacts.copy_hashed(fifo, tmp_path / "copy")
    os.waitpid(pid, 0)
    assert size == 300_000
    assert digest == artifacts.hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_copying_takes_constant_memory(tmp_path: Path) -> None:
    """A file of 24 MB is copied and hashed in 4 MB."""
    with (tmp_path / "big").open("wb") as file:
        file.truncate(24 << 20)
    tracemalloc.start()
    try:
        artifacts.copy_hashed(tmp_path / "big", tmp_path / "copy")
        artifacts.compress_log(tmp_path / "big", tmp_path / "big.gz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("one", "other"), [("a/b", "a-b"), ("ä", "-"), (".x", "x"), ("a" * 100, "a" * 80), ("A", "a")]
)
def test_different_branches_have_different_folders(one: str, other: str) -> None:
    """Whatever a branch is called, its folder is its own, and one plain name."""
    assert artifacts.slug(one) != artifacts.slug(other)
    for branch in (one, other):
        name = artifacts.slug(branch)
        assert "/" not in name
        assert not name.startswith(".")
        assert len(name) < 100


# --- verify


def flip(folder: Path) -> None:
    path = folder / "cloudstack-ui_4.21.0_all.deb"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: list[tuple[Callable[[Path], Any], list[str]]] = [
    (flip, ["checksum"]),
    (lambda folder: (folder / "cloudstack-ui_4.21.0_all.deb").unlink(), ["missing"]),
    (lambda folder: (folder / "extra.deb").write_bytes(b"x"), ["extra"]),
    (lambda folder: (folder / "deep").mkdir() or (folder / "deep" / "extra").write_bytes(b"x"), ["extra"]),
    (lambda folder: (folder / ".hidden").write_bytes(b"x"), ["extra"]),
    (lambda folder: (folder / "build.log.gz").write_bytes(b"x"), ["checksum", "size"]),
    (lambda folder: (folder / "link").symlink_to("/etc/passwd"), ["symlink"]),
    (lambda folder: (folder / "link").symlink_to("/etc"), ["symlink"]),
    (lambda folder: os.mkfifo(folder / "pipe"), ["type"]),
    (
        lambda folder: (
            (folder / "cloudstack-ui_4.21.0_all.deb").rename(folder / "x")
            and (folder / "cloudstack-ui_4.21.0_all.deb").symlink_to("x")
        ),
        ["extra", "symlink"],
    ),
    (
        lambda folder: (
            (folder / "cloudstack-ui_4.21.0_all.deb").unlink()
            or (folder / "cloudstack-ui_4.21.0_all.deb").mkdir()
        ),
        ["missing"],
    ),
]


@pytest.mark.parametrize(
    ("damage", "kinds"), DAMAGE, ids=[f"{n}-{one[1][0]}" for n, one in enumerate(DAMAGE)]
)
def test_every_difference_is_found(
    stored: tuple[Manifest, Path], damage: Callable[[Path], Any], kinds: list[str]
) -> None:
    """A flipped byte, a missing, an extra, a replaced file: each is one problem with its path."""
    manifest, folder = stored
    damage(folder)
    assert sorted(problem.kind for problem in verify(manifest, folder)) == kinds


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"artifact_count": 3}, "manifest"),
        ({"total_size_bytes": 1}, "manifest"),
        ({"artifacts": []}, "extra"),
    ],
)
def test_a_manifest_that_lies_is_found(
    stored: tuple[Manifest, Path], change: dict[str, Any], kind: str
) -> None:
    """Counts and totals are held against the list, and the list against the folder."""
    manifest, folder = stored
    assert kind in {problem.kind for problem in verify(manifest.model_copy(update=change), folder)}


@pytest.mark.parametrize(
    "path", ["../../../etc/passwd", "/etc/passwd", "", "a\0b"], ids=["up", "absolute", "empty", "zero byte"]
)
def test_a_manifest_does_not_lead_out_of_its_folder(stored: tuple[Manifest, Path], path: str) -> None:
    """A path that leaves the set is a problem, and what it names is not read."""
    manifest, folder = stored
    bad = Artifact(name="x", path=path, size_bytes=1, checksums={})
    changed = manifest.model_copy(update={"artifacts": [*manifest.artifacts, bad]})
    kinds = {(problem.kind, problem.path) for problem in verify(changed, folder)}
    assert ("manifest", path) in kinds
    assert not any(problem[0] == "checksum" for problem in kinds)


def test_a_size_that_lies_is_found_even_with_the_right_digest(stored: tuple[Manifest, Path]) -> None:
    """Size and digest are two facts."""
    manifest, folder = stored
    first = manifest.artifacts[0].model_copy(update={"size_bytes": 1})
    changed = manifest.model_copy(update={"artifacts": [first, *manifest.artifacts[1:]]})
    assert ("size", first.path) in {(one.kind, one.path) for one in verify(changed, folder)}


def test_a_folder_that_is_not_there_has_all_files_missing(
    stored: tuple[Manifest, Path], tmp_path: Path
) -> None:
    """Nothing is raised for it."""
    found = verify(stored[0], tmp_path / "nowhere")
    assert {problem.kind for problem in found} >= {"missing"}


# --- list and prune


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Five sets of one branch, an hour apart, the oldest first, and one of another branch."""
    root = tmp_path / "store"
    for number in range(5):
        collect(root, facts(f"job_{number}", str(number), created=NOW + timedelta(hours=number)), [], None)
    collect(root, facts("job_9", "9", branch="other"), [], None)
    return root


def names(sets: Any) -> list[str]:
    return sorted(one.name for one in sets)


def test_sets_are_listed_newest_first(store: Path) -> None:
    """What a store holds, by the time of each set."""
    assert [one.name for one in list_sets(store)][:2] == ["job_4.4", "job_3.3"]
    assert len(list_sets(store)) == 6


def test_the_newest_of_one_branch_are_read_one_by_one(store: Path) -> None:
    """The history of a branch comes newest first, of one builder; a broken set is passed over."""
    listed = [
        one.manifest for one in list_sets(store) if one.manifest and one.manifest.branch == "ExternalNew"
    ]
    newest = newest_of(store, listed[0].server, "ExternalNew")
    assert next(newest) == listed[0]
    (Path(listed[1].build_dir) / "manifest.json").write_bytes(b"{")
    assert list(newest) == listed[2:]
    assert list(newest_of(store, "build9", "ExternalNew")) == []
    assert list(newest_of(store / "absent", "build1", "main")) == []


def test_the_newest_of_each_branch_are_kept(store: Path) -> None:
    """`keep` counts for each builder and branch by itself; nothing is gone before the plan is carried out."""
    plan = plan_prune(list_sets(store), keep=2, referenced=set(), running_since=None)
    assert names(plan.remove) == ["job_0.0", "job_1.1", "job_2.2"]
    assert len(list_sets(store)) == 6
    assert carry_out(plan) == 3
    assert names(list_sets(store)) == ["job_3.3", "job_4.4", "job_9.9"]


@pytest.mark.parametrize("reference", ["job_0", "job_0.0"])
def test_what_is_referred_to_stays(store: Path, reference: str) -> None:
    """By job or by set: what the ledger or the outbox names is never removed."""
    plan = plan_prune(list_sets(store), keep=0, referenced={reference}, running_since=None)
    assert "job_0.0" not in names(plan.remove)
    assert next(why for one, why in plan.keep if one.name == "job_0.0").startswith("the ledger")


def test_what_is_not_older_than_a_running_job_stays(store: Path) -> None:
    """A running job may still refer to what was made since it began."""
    plan = plan_prune(list_sets(store), keep=0, referenced=set(), running_since=NOW + timedelta(hours=3))
    assert names(plan.remove) == ["job_0.0", "job_1.1", "job_2.2", "job_9.9"]


@pytest.mark.parametrize("data", [None, b"", b"{}", b"\xff", b"[]"])
def test_a_set_without_a_readable_manifest_is_listed_and_stays(store: Path, data: bytes | None) -> None:
    """What cannot be read is shown with the reason, and never removed unasked."""
    path = set_folder(store, "build1", "ExternalNew", "job_0", "0") / "manifest.json"
    path.unlink() if data is None else path.write_bytes(data)
    broken = next(one for one in list_sets(store) if one.name == "job_0.0")
    assert broken.manifest is None
    assert broken.problem
    assert "job_0.0" not in names(
        plan_prune(list_sets(store), keep=0, referenced=set(), running_since=None).remove
    )


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A whole store that is not the one that is looked at."""
    root = tmp_path / "elsewhere"
    collect(root, facts("job_x", "1"), [], None)
    mark = artifacts.process_mark().rsplit("+", 2)[0]
    (root / "build1" / "ExternalNew" / f".partial-{mark}+999999999+1-job_7.7").mkdir()
    return root


GARBAGE: list[tuple[str, Callable[[Path, Path], Any], str]] = [
    ("a FIFO for a manifest", lambda at, _: remade(at / "manifest.json", os.mkfifo), "is no regular file"),
    ("a folder for a manifest", lambda at, _: remade(at / "manifest.json", Path.mkdir), "is no regular file"),
    (
        "a link for a manifest",
        lambda at, out: remade(
            at / "manifest.json",
            lambda path: path.symlink_to(out / "build1/ExternalNew/job_x.1/manifest.json"),
        ),
        "is a symbolic link",
    ),
    (
        "an endless manifest",
        lambda at, _: remade(at / "manifest.json", lambda path: path.symlink_to("/dev/zero")),
        "is a symbolic link",
    ),
    ("a manifest too large", lambda at, _: os.truncate(at / "manifest.json", 1 << 40), "is larger than"),
]


def remade(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize(("damage", "said"), [one[1:] for one in GARBAGE], ids=[one[0] for one in GARBAGE])
def test_garbage_for_a_manifest_is_named_and_not_followed(
    store: Path, outside: Path, damage: Callable[[Path, Path], Any], said: str
) -> None:
    """Whatever stands in a manifest's place is not read; its set is listed with the reason, and stays."""
    damage(set_folder(store, "build1", "ExternalNew", "job_0", "0"), outside)
    broken = next(one for one in list_sets(store) if one.name == "job_0.0")
    assert broken.manifest is None
    assert said in (broken.problem or "")
    plan = plan_prune(list_sets(store), keep=0, referenced=set(), running_since=None)
    assert names(plan.remove) == ["job_1.1", "job_2.2", "job_3.3", "job_4.4", "job_9.9"]


@pytest.mark.parametrize("place", ["build2", "build1/other2", "build1/ExternalNew/job_x.1"])
def test_a_link_out_of_the_store_is_named_and_not_followed(store: Path, outside: Path, place: str) -> None:
    """At every level: what is behind the link is neither listed as a set nor removed, leftovers included."""
    target = outside / "/".join(("build1", "ExternalNew", "job_x.1")[: place.count("/") + 1])
    (store / place).symlink_to(target if place != "build2" else outside)
    before = sorted(outside.rglob("*"))
    (link,) = [one for one in list_sets(store) if one.manifest is None]
    assert link.folder == store / place
    assert "is a symbolic link out of the store" in (link.problem or "")
    plan = plan_prune(list_sets(store), leftovers(store), keep=0, referenced=set(), running_since=None)
    assert plan.leftovers == ()
    assert carry_out(plan) == 6
    assert sorted(outside.rglob("*")) == before


def test_a_link_within_the_store_is_passed_over(store: Path) -> None:
    """A name for the latest set, say: neither a problem nor a set of its own."""
    (store / "build1" / "ExternalNew" / "latest").symlink_to("job_4.4")
    assert len(list_sets(store)) == 6


def test_what_lies_beside_the_builders_is_nobodys(store: Path) -> None:
    """Files, a FIFO, and the folder that every file system brings along are not looked at."""
    (store / "lost+found" / "x" / "y").mkdir(parents=True)
    (store / "README").write_text("x")
    os.mkfifo(store / "build1" / "pipe")
    (store / "build1" / "ExternalNew" / "note.txt").write_text("x")
    assert len(list_sets(store)) == 6


def test_a_folder_that_may_not_be_read_is_named(store: Path) -> None:
    """What cannot be looked into is listed as such: a check must not pass what it has not seen."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (store / "build1" / "other").chmod(0)
    try:
        (hidden,) = [one for one in list_sets(store) if one.manifest is None]
    finally:
        (store / "build1" / "other").chmod(0o755)
    assert hidden.folder == store / "build1" / "other"
    assert "Permission denied" in (hidden.problem or "")


def test_what_cannot_be_read_takes_nobodys_place(store: Path) -> None:
    """A broken set is kept beside the newest, not instead of one of them."""
    (set_folder(store, "build1", "ExternalNew", "job_4", "4") / "manifest.json").write_bytes(b"{")
    plan = plan_prune(list_sets(store), keep=2, referenced=set(), running_since=None)
    assert names(plan.remove) == ["job_0.0", "job_1.1"]


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(store: Path) -> None:
    """A partial folder belongs to a process of this boot: a number that was given again is another's."""
    group = store / "build1" / "ExternalNew"
    living = group / f".partial-{artifacts.process_mark()}-job_7.7"
    mark = artifacts.process_mark()
    dead = group / f".partial-{mark.rsplit('+', 2)[0]}+999999999+1-job_7.7"
    again = group / f".partial-{mark.rsplit('+', 1)[0]}+1-job_7.7"
    before = group / f".removing-another-boot+{mark.split('+', 1)[1]}-job_7.7"
    foreign = group / ".something"
    for folder in (living, dead, again, before, foreign):
        folder.mkdir()
    plan = plan_prune(list_sets(store), leftovers(store), keep=99, referenced=set(), running_since=None)
    assert plan.leftovers == tuple(sorted((again, before, dead)))
    carry_out(plan)
    assert living.is_dir()
    assert foreign.is_dir()
    assert not dead.exists()


def test_a_set_that_went_meanwhile_is_no_error(store: Path) -> None:
    """Two who prune at the same time do not disturb each other."""
    plan = plan_prune(list_sets(store), keep=0, referenced=set(), running_since=None)
    assert carry_out(plan) == 6
    assert carry_out(plan) == 0


def test_an_empty_store_has_nothing_to_list(tmp_path: Path) -> None:
    """No folder, no sets, no error."""
    assert list_sets(tmp_path / "none") == []
    assert plan_prune(list_sets(tmp_path / "none"), keep=0, referenced=set(), running_since=None).remove == ()


def test_a_problem_says_where_and_what() -> None:
    """Kind, path and words are there for a program and for a person."""
    assert Problem("size", "a.deb", "has 1 bytes").path == "a.deb"

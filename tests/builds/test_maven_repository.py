from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from pipeline.builds.maven_repository import CACHE_TIME, harvest, populate
from tests.mounts import needs_mounts

JAR = "org/example/lib/1.0/lib-1.0.jar"


def _download(repository: Path, path: str, data: bytes = b"bytes", *, source: str = "central") -> Path:
    """Puts a file into a repository the way Maven does when it downloads one; no source: installed."""
    place = repository / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    with (place.parent / "_remote.repositories").open("a") as file:
        file.write(f"#NOTE: This is a Maven internal file\n{place.name}>{source}=\n")
    place.with_name(place.name + ".sha1").write_text(hashlib.sha1(data).hexdigest())
    return place


def _files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with one jar and its pom."""
    filled = tmp_path / "filled"
    _download(filled, JAR, b"jar")
    _download(filled, JAR.replace(".jar", ".pom"), b"pom")
    harvest(filled, tmp_path / "cache")
    return tmp_path / "cache"


def test_a_jobs_repository_shares_the_caches_files(cache: Path, tmp_path: Path) -> None:
    """Every file is the cache's own, read-only, with one fixed time: no second copy on disk."""
    filled = populate(cache, tmp_path / "job")
    assert (filled.linked, filled.copied, filled.dropped) == (2, 0, 0)
    one, other = (cache / JAR).stat(), (tmp_path / "job" / JAR).stat()
    assert one.st_ino == other.st_ino
    assert (other.st_mode & 0o777, other.st_mtime) == (0o444, CACHE_TIME)


def test_directories_are_the_jobs_own(cache: Path, tmp_path: Path) -> None:
    """What a job adds, replaces or removes changes nothing for the cache."""
    populate(cache, tmp_path / "job")
    jar = tmp_path / "job" / JAR
    (jar.parent / "new").touch()
    jar.with_suffix(".pom").unlink()
    jar.with_suffix(".tmp").write_bytes(b"other")
    jar.with_suffix(".tmp").replace(jar)
    assert _files(cache) == [JAR, JAR.replace(".jar", ".pom")]
    assert (cache / JAR).read_bytes() == b"jar"


def test_what_maven_rewrites_in_place_is_copied(cache: Path, tmp_path: Path) -> None:
    """Bookkeeping files are the job's own and writable."""
    names = (
        "_remote.repositories",
        "resolver-status.properties",
        "maven-metadata-central.xml",
        "x.lastUpdated",
    )
    for name in names:
        (cache / JAR).with_name(name).write_text("in the cache")
    assert populate(cache, tmp_path / "job").copied == 4
    for name in names:
        (tmp_path / "job" / JAR).with_name(name).write_text("in the job")
        assert (cache / JAR).with_name(name).read_text() == "in the cache"


def test_a_file_that_was_written_to_leaves_the_cache(cache: Path, tmp_path: Path) -> None:
    """Root can write through a link in place; the next job neither sees it nor keeps it."""
    populate(cache, tmp_path / "first")
    jar = tmp_path / "first" / JAR
    jar.chmod(0o644)
    jar.write_bytes(b"spoilt")
    jar.chmod(0o444)
    assert populate(cache, tmp_path / "second").dropped == 1
    assert not (tmp_path / "second" / JAR).exists()
    assert not (cache / JAR).exists()


def test_an_empty_file_leaves_the_cache(cache: Path, tmp_path: Path) -> None:
    """A file that a power loss emptied is no artifact."""
    (cache / JAR).unlink()
    (cache / JAR).touch()
    os.utime(cache / JAR, (CACHE_TIME, CACHE_TIME))
    assert populate(cache, tmp_path / "job").dropped == 1


def test_a_file_put_there_by_hand_is_adopted(cache: Path, tmp_path: Path) -> None:
    """An operator may copy a repository into the cache: its files become read-only like the others."""
    by_hand = cache / "org/example/lib/1.0/lib-1.0-tests.jar"
    by_hand.write_bytes(b"tests")
    assert populate(cache, tmp_path / "job").dropped == 0
    assert (by_hand.stat().st_mode & 0o777, by_hand.stat().st_mtime) == (0o444, CACHE_TIME)


def test_folders_can_be_left_out(cache: Path, tmp_path: Path) -> None:
    """A substitute's place in the repository is not filled from the cache."""
    populate(cache, tmp_path / "job", ["org/example/lib/1.0"])
    assert _files(tmp_path / "job") == []


def test_snapshots_do_not_leak(cache: Path, tmp_path: Path) -> None:
    """A SNAPSHOT goes neither into the cache nor, should one lie there, out of it."""
    job = tmp_path / "first"
    populate(cache, job)
    snapshot = "org/apache/cloudstack/cloud-utils/4.21.0.0-SNAPSHOT/cloud-utils-4.21.0.0-SNAPSHOT.jar"
    _download(job, snapshot)
    assert harvest(job, cache) == 0
    (cache / snapshot).parent.mkdir(parents=True)
    (cache / snapshot).touch()
    populate(cache, tmp_path / "second")
    assert not (tmp_path / "second" / snapshot).exists()


def test_what_a_build_downloaded_comes_back(cache: Path, tmp_path: Path) -> None:
    """New files are there for the next job, without Maven's bookkeeping, and as the same file on disk."""
    populate(cache, tmp_path / "job")
    new = _download(tmp_path / "job", "org/example/new/2.0/new-2.0.jar")
    assert harvest(tmp_path / "job", cache) == 1
    assert _files(cache) == [JAR, JAR.replace(".jar", ".pom"), "org/example/new/2.0/new-2.0.jar"]
    assert (cache / "org/example/new/2.0/new-2.0.jar").stat().st_ino == new.stat().st_ino


def test_what_was_installed_stays_out(cache: Path, tmp_path: Path) -> None:
    """A substitute jar and a release that the build itself installed are nobody else's business."""
    job = tmp_path / "job"
    _download(job, "org/jenkins-ci/trilead-ssh2/build-217/trilead-ssh2-build-217.jar", source="")
    (job / "org/example/unknown/1").mkdir(parents=True)
    (job / "org/example/unknown/1/unknown-1.jar").write_bytes(b"of unknown origin")
    assert harvest(job, cache) == 0


def test_what_is_not_whole_stays_out(cache: Path, tmp_path: Path) -> None:
    """A file that is empty, or not what its checksum says, is not shared."""
    job = tmp_path / "job"
    _download(job, "org/example/cut/1/cut-1.jar", b"whole")
    (job / "org/example/cut/1/cut-1.jar").write_bytes(b"who")
    _download(job, "org/example/empty/1/empty-1.jar", b"")
    _download(job, "org/example/part/1/part-1.jar.part")
    assert harvest(job, cache) == 0


def test_folders_can_be_left_out_of_the_harvest(cache: Path, tmp_path: Path) -> None:
    """What the caller names is not looked at."""
    _download(tmp_path / "job", "org/example/new/2.0/new-2.0.jar")
    assert harvest(tmp_path / "job", cache, ["org/example/new/2.0"]) == 0


def test_metadata_is_taken_along_but_local_metadata_is_not(cache: Path, tmp_path: Path) -> None:
    """What a repository says of its versions is needed offline; what this machine installed is not."""
    folder = tmp_path / "job" / "org/example/lib"
    folder.mkdir(parents=True)
    (folder / "maven-metadata-central.xml").write_text("<metadata/>")
    (folder / "maven-metadata-local.xml").write_text("<metadata/>")
    harvest(tmp_path / "job", cache)
    assert "org/example/lib/maven-metadata-central.xml" in _files(cache)
    assert "org/example/lib/maven-metadata-local.xml" not in _files(cache)


def test_a_repository_of_somebody_elses_is_only_read(tmp_path: Path) -> None:
    """Seeding the cache from ~/.m2 copies: times, modes and links of the source stay as they are."""
    jar = _download(tmp_path / "mine", JAR)
    before = jar.stat()
    assert harvest(tmp_path / "mine", tmp_path / "cache", link=False) == 1
    after = jar.stat()
    assert (after.st_mtime_ns, after.st_mode, after.st_nlink) == (before.st_mtime_ns, before.st_mode, 1)
    assert (tmp_path / "cache" / JAR).stat().st_mtime == CACHE_TIME


def test_two_harvests_at_once(tmp_path: Path) -> None:
    """Several builds that bring the same and other files at once leave a cache with every file, whole."""
    jobs = [tmp_path / f"job{number}" for number in range(4)]
    for number, job in enumerate(jobs):
        for name in range(30):
            _download(job, f"org/example/lib{name}/1/lib{name}-1.jar", b"same" * 1000)
        _download(job, f"org/example/own{number}/1/own{number}-1.jar")
    threads = [threading.Thread(target=harvest, args=(job, tmp_path / "cache")) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) == 34
    assert all(path.stat().st_size in (4000, 5) for path in files)


def test_without_links_files_are_copied(cache: Path, tmp_path: Path) -> None:
    """On another file system than the cache's the job still gets every file, and gives its own back."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        job = Path(folder) / "job"
        filled = populate(cache, job)
        assert (filled.linked, filled.copied) == (0, 2)
        _download(job, "org/example/new/2.0/new-2.0.jar")
        assert harvest(job, cache) == 1
    assert (cache / "org/example/new/2.0/new-2.0.jar").read_bytes() == b"bytes"


@needs_mounts
def test_a_full_disk_cuts_no_file(tmp_path: Path) -> None:
    """A file of which only a part fits is an error, and not a jar whose end is missing."""
    filled, job = tmp_path / "filled", tmp_path / "job"
    _download(filled, JAR, b"x" * 200_000)
    harvest(filled, tmp_path / "cache")
    job.mkdir()
    code = """
import sys
from pathlib import Path
from pipeline.builds.maven_repository import populate
try:
    populate(Path(sys.argv[1]), Path(sys.argv[2]))
except OSError as exc:
    print(exc.strerror, end="")
"""
    words = [sys.executable, "-c", code, tmp_path / "cache", job / "repository"]
    script = f'mount -t tmpfs -o size=128k none {job} && exec "$@"'
    said = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words],
        cwd=Path(__file__).resolve().parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout == "No space left on device"


def test_a_cache_that_cannot_be_added_to_is_no_error(tmp_path: Path) -> None:
    """A harvest that fails leaves no half files, and the build that it follows is none the worse."""
    _download(tmp_path / "job", JAR)
    (tmp_path / "cache").write_text("a file where the cache should be")
    assert harvest(tmp_path / "job", tmp_path / "cache") == 0


def test_an_empty_cache_is_an_empty_repository(tmp_path: Path) -> None:
    """The first build of all starts with nothing."""
    assert populate(tmp_path / "absent", tmp_path / "job").linked == 0
    assert (tmp_path / "job").is_dir()

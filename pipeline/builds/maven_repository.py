"""A Maven repository of the job's own over a cache that all jobs share, by hard links: no second copy.

The cache holds released files only (jars, poms, metadata), never a SNAPSHOT, and nothing that was installed
by hand or by a build: what Maven noted as *downloaded* goes back after a successful build, nothing else.
Maven's own bookkeeping (`_remote.repositories`) stays out of the cache: a file that it does not mention
counts as available, wherever it came from, so a cache filled through one mirror serves a build with another.

A file of the cache is shared with every job, so writing into one would change them all. They are read-only,
and they bear one fixed time: a file of another time was written to all the same (root may) and is dropped.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.edge.kernel import sync_filesystem

#: 2000-01-01: the time of every file of the cache, in seconds since 1970. The same on all builders, as some
#: Maven plugins put the times of jars into what they make.
CACHE_TIME = 946_684_800
_READ_ONLY = 0o444
#: What Maven rewrites in place: copied, not linked.
_REWRITTEN = re.compile(
    r"_remote\.repositories\Z|resolver-status\.properties\Z|maven-metadata-.*\.xml\Z|.*\.lastUpdated\Z"
)
#: What is no artifact: bookkeeping, checksums (held against their file and then left), unfinished downloads.
_NOT_KEPT = re.compile(
    r"[_.].*|resolver-status\.properties\Z|maven-metadata.*|.*\.(?:lastUpdated|sha1|md5|sha256|sha512|asc|part|tmp"
    r"|lock)\Z"
)
_METADATA = re.compile(r"maven-metadata-(?!local\.xml\Z)[^/]+\.xml\Z")


@dataclass(frozen=True)
class Populated:
    """What a job's repository was filled with, in files; `dropped` ones were damaged and left the cache."""

    linked: int
    copied: int
    dropped: int


@dataclass
class _Count:
    linked: int = 0
    copied: int = 0
    dropped: int = 0


def populate(cache: Path, repository: Path, leave_out: Collection[str] = ()) -> Populated:
    """Fills a new repository from the cache; folders `leave_out` (relative) stay out.

    Directories are the job's own, files are shared. Where links are not to be had, files are copied.
    """
    repository.mkdir(parents=True)
    count = _Count()
    if cache.is_dir():
        source, target = _open_directory(cache), _open_directory(repository)
        try:
            _populate(source, target, "", frozenset(leave_out), count)
        finally:
            os.close(source)
            os.close(target)
    return Populated(count.linked, count.copied, count.dropped)


def _populate(source: int, target: int, place: str, leave_out: frozenset[str], count: _Count) -> None:
    # Paths relative to open directories: the kernel walks no long path for each of 20,000 files.
    with os.scandir(source) as entries:
        found = list(entries)
    for entry in found:
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            inner = f"{place}{name}"
            if name.endswith("-SNAPSHOT") or name.startswith(".") or inner in leave_out:
                continue
            os.mkdir(name, 0o755, dir_fd=target)
            with _subdirectory(name, source) as below, _subdirectory(name, target) as made:
                _populate(below, made, f"{inner}/", leave_out, count)
        elif entry.is_file(follow_symlinks=False) and not name.startswith("."):
            # What another job found damaged may vanish under our eyes.
            with contextlib.suppress(FileNotFoundError):
                _populate_file(name, source, target, count)


def _populate_file(name: str, source: int, target: int, count: _Count) -> None:
    if _REWRITTEN.match(name):
        _copy(name, source, target)
        count.copied += 1
    elif not _is_sound(name, source):
        os.unlink(name, dir_fd=source)
        count.dropped += 1
    elif _link(name, source, target):
        count.linked += 1
    else:
        _copy(name, source, target)
        count.copied += 1


def _is_sound(name: str, directory: int) -> bool:
    """Returns whether a file is as it was put into the cache. One that was put there by hand is adopted."""
    stat = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.st_mtime_ns == CACHE_TIME * 10**9 and stat.st_size:
        return True
    if stat.st_mode & 0o222 and stat.st_size:
        with contextlib.suppress(PermissionError):
            os.utime(name, (CACHE_TIME, CACHE_TIME), dir_fd=directory)
            os.chmod(name, _READ_ONLY, dir_fd=directory)
        return True
    return False


def _link(name: str, source: int, target: int) -> bool:
    try:
        os.link(name, name, src_dir_fd=source, dst_dir_fd=target)
    except OSError as exc:
        # Another file system, one without links, or a file that has as many as it may have.
        if exc.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            return False
        raise
    return True


def _copy(name: str, source: int, target: int) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=source)
    try:
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=target)
        try:
            while data := os.read(reader, 1 << 20):
                # A disk that fills up takes a part and says so only the next time.
                while data:
                    data = data[os.write(writer, data) :]
            os.utime(writer, (CACHE_TIME, CACHE_TIME))
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _open_directory(path: Path | str, inside: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=inside)


@contextlib.contextmanager
def _subdirectory(name: str, inside: int) -> Iterator[int]:
    descriptor = _open_directory(name, inside)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


# -- back into the cache -------------------------------------------------------------------------------------


def harvest(repository: Path, cache: Path, leave_out: Collection[str] = (), *, link: bool = True) -> int:
    """Adds what a build downloaded to the cache; returns how many files are new there.

    Only files that Maven noted as downloaded, whole ones (held against their checksum where there is one),
    and no SNAPSHOTs. With `link` the repository's own files become the cache's; without, they are copied and
    stay as they are: to seed a cache from somebody's ~/.m2/repository. Each file appears at once, whole and
    under its final name, so any number of processes may do this at the same time
    (`test_two_harvests_at_once`). Raises nothing: a cache that is not added to costs a download.
    """
    new: list[tuple[Path, Path]] = []
    metadata: list[tuple[Path, Path]] = []
    left_out = {repository / name for name in leave_out}
    for folder, subfolders, names in os.walk(repository):
        here = Path(folder)
        subfolders[:] = [
            name for name in subfolders if not name.endswith("-SNAPSHOT") and here / name not in left_out
        ]
        target = cache / here.relative_to(repository)
        downloaded = _downloaded(here) if "_remote.repositories" in names else set()
        for name in names:
            if name in downloaded and not _NOT_KEPT.match(name):
                if not (target / name).exists() and _is_whole(here / name):
                    new.append((here / name, target / name))
            elif _METADATA.match(name) and not _equal(here / name, target / name):
                metadata.append((here / name, target / name))
    try:
        return _add(new, metadata, repository, cache, link=link)
    except OSError:
        return 0  # a full disk: the build is none the worse, and the next one downloads again


def _add(
    new: list[tuple[Path, Path]],
    metadata: list[tuple[Path, Path]],
    repository: Path,
    cache: Path,
    *,
    link: bool,
) -> int:
    for _, place in (*new, *metadata):
        place.parent.mkdir(parents=True, exist_ok=True)
    copies = [pair for pair in new if not link or not _same_device(*pair)] + metadata
    temporary: list[tuple[Path, Path]] = []
    try:
        for source, place in copies:
            temporary.append((_copy_beside(source, place), place))
        # Once for all: after a power loss the cache must not hold a name whose bytes were never written.
        if new or metadata:
            sync_filesystem(repository)
            sync_filesystem(cache)
        for made, place in temporary:
            made.replace(place)
    finally:
        for made, _ in temporary:
            made.unlink(missing_ok=True)
    for source, place in set(new) - set(copies):
        _add_link(source, place)
    return len(new)


def _downloaded(folder: Path) -> set[str]:
    """Reads `name>repository=` lines; an empty repository means installed here, not downloaded."""
    try:
        text = (folder / "_remote.repositories").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    found = set()
    for line in text.splitlines():
        name, arrow, repository = line.partition(">")
        if arrow and not line.startswith("#") and repository.rstrip("=").strip():
            found.add(name)
    return found


def _is_whole(path: Path) -> bool:
    if not path.is_file() or path.is_symlink() or path.stat().st_size == 0:
        return False
    try:
        said = path.with_name(path.name + ".sha1").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    match = re.search(r"\b[0-9a-fA-F]{40}\b", said)
    if match is None:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest() == match[0].lower()


def _equal(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()


def _same_device(source: Path, place: Path) -> bool:
    return source.stat().st_dev == place.parent.stat().st_dev


def _add_link(source: Path, place: Path) -> None:
    os.utime(source, (CACHE_TIME, CACHE_TIME))
    source.chmod(_READ_ONLY)
    # If it exists, another build brought the same file. Without links, the next build downloads it again.
    with contextlib.suppress(FileExistsError, PermissionError):
        os.link(source, place)


def _copy_beside(source: Path, place: Path) -> Path:
    """Copies a file to a temporary name in the folder of its final one."""
    descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=".new-")
    made = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as writer, source.open("rb") as reader:
            shutil.copyfileobj(reader, writer, 1 << 20)
        os.utime(made, (CACHE_TIME, CACHE_TIME))
        made.chmod(0o644 if _METADATA.match(place.name) else _READ_ONLY)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    return made

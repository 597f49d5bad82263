"""The artifact store: one folder per attempt, complete or not there at all.

    <root>/<builder>/<branch>/<job>.<token>/     the files, build.log.gz, and manifest.json, written last

A set is made under a name that begins with a dot and renamed when every byte of it is on disk. The name holds
the process that makes it, so that what a dead one left is told from what a living one is at.

Guarantees: who lists the store sees whole sets only (`test_a_set_appears_whole_or_not_at_all`); every file is
read once while it is copied and hashed (`test_files_are_read_once`).
Non-guarantee: a file that its writer changes while it is collected; builds have ended by then.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from pipeline.edge import process
from pipeline.edge.plain_file import read_plain
from pipeline.edge.procfs import lives, process_name
from pipeline.errors import ArtifactsInvalid, BuildFailed, CommandFailed, RecordInvalid
from pipeline.records.base import dump, load
from pipeline.records.builds import Artifact, Manifest, RawLog

MANIFEST: Final = "manifest.json"
RAW_LOG: Final = "build.log.gz"
_BLOCK_BYTES: Final = 1 << 20
_AT_ONCE: Final = 4
_PARTIAL: Final = re.compile(r"\.(?:partial|removing)-(?P<process>[^+]*\+[^+]*\+\d+\+\d+)-.*")
_FETCH: Final = "Build again, or fetch the set from another builder."
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Item:
    """One file to collect, and its path in the set."""

    source: Path
    path: str


class Sync(Protocol):
    """Makes what was written to a file or a folder outlive a power loss. Called from several threads."""

    def __call__(self, descriptor: int, /) -> None: ...


def slug(branch: str) -> str:
    """Returns a branch's name as one folder name; different branches never share one."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", branch).lstrip(".")[:80]
    if plain == branch:
        return plain
    return f"{plain}-{hashlib.sha256(branch.encode()).hexdigest()[:8]}"


def set_folder(root: Path, builder: str, branch: str, job: str, token: str) -> Path:
    """Returns the folder of one attempt's set."""
    return root / builder / slug(branch) / f"{job}.{token}"


def read_set(folder: Path) -> Manifest:
    """Reads the manifest of a set. Raises ArtifactsInvalid if there is none that can be read."""
    path = folder / MANIFEST
    try:
        return load(Manifest, read_plain(path), str(path))
    except OSError as exc:
        raise ArtifactsInvalid(f"{path} cannot be read: {exc.strerror}", remedy=_FETCH) from exc
    except RecordInvalid as exc:
        raise ArtifactsInvalid(exc.message, remedy=_FETCH) from exc


def collect(
    root: Path,
    manifest: Manifest,
    items: Sequence[Item],
    raw_log: Path | None,
    *,
    texts: Mapping[str, bytes] | None = None,
    sync: Sync = os.fsync,
) -> Manifest:
    """Copies a build's files into the store and returns its manifest, completed.

    `manifest` holds the facts of the build; its artifacts, totals, log and `build_dir` are filled in here.
    `texts` are the lists that it names, by their paths.
    A set of this job and token that is there already is returned as it is. Raises BuildFailed (class `disk`)
    when the disk is full, ArtifactsInvalid for a file that is missing; nothing of the set is left then.
    """
    target = set_folder(root, manifest.server, manifest.branch, manifest.job_id, manifest.token or "none")
    if target.is_dir():
        return read_set(target)
    work = target.parent / f".partial-{process_mark()}-{target.name}"
    with _cleaned(work):
        work.mkdir(parents=True)
        # Side by side: each waits for the disk and for dpkg-deb, and hashing leaves Python's lock alone.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            packing = pool.submit(compress_log, raw_log, work / RAW_LOG, sync=sync) if raw_log else None
            artifacts = list(pool.map(lambda item: _collect_one(item, work, sync), items))
            log = packing.result() if packing else None
        done = manifest.model_copy(
            update={
                "build_dir": str(target),
                "artifacts": artifacts,
                "artifact_count": len(artifacts),
                "total_size_bytes": sum(artifact.size_bytes for artifact in artifacts),
                "log": log,
            }
        )
        for name, data in (texts or {}).items():
            _write_synced(work / name, data, sync)
        _write_synced(work / MANIFEST, dump(done), sync)
        for folder in [*(entry for entry in work.rglob("*") if entry.is_dir()), work]:
            _sync_folder(folder, sync)
        work.rename(target)
        for folder in (target.parent, target.parent.parent, root):
            _sync_folder(folder, sync)
    return done


def _collect_one(item: Item, work: Path, sync: Sync) -> Artifact:
    target = work / item.path
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        size, digest = copy_hashed(item.source, target, sync=sync)
    except FileNotFoundError as exc:
        raise ArtifactsInvalid(f"{item.source.name} was built, but is not there any more") from exc
    facts = deb_facts(target) if target.suffix == ".deb" else {}
    return Artifact(
        name=Path(item.path).name,
        path=item.path,
        size_bytes=size,
        checksums={"sha256": digest},
        package=facts.get("Package"),
        version=facts.get("Version"),
        architecture=facts.get("Architecture"),
    )


def copy_hashed(source: Path, target: Path, *, sync: Sync = os.fsync) -> tuple[int, str]:
    """Copies a file to a new one and returns its size and SHA-256; one read, constant memory, synced."""
    digest, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    with source.open("rb", buffering=0) as reading, target.open("xb", buffering=0) as writing:
        while count := reading.readinto(buffer):
            block = buffer[:count]
            digest.update(block)
            size += count
            while block:
                block = block[writing.write(block) :]
        os.fchmod(writing.fileno(), 0o644)
        sync(writing.fileno())
    return size, digest.hexdigest()


def compress_log(source: Path, target: Path, *, sync: Sync = os.fsync) -> RawLog:
    """Compresses a raw log beside the artifacts. No time gets in: equal logs give equal files."""
    raw = 0
    with target.open("xb") as file:
        packed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
        with packed, source.open("rb") as reading:
            while block := reading.read(_BLOCK_BYTES):
                raw += len(block)
                packed.write(block)
        file.flush()
        sync(file.fileno())
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return RawLog(path=target.name, size_bytes=target.stat().st_size, raw_size_bytes=raw, sha256=digest)


def deb_facts(path: Path) -> dict[str, str]:
    """Returns Package, Version and Architecture of a DEB. Raises ArtifactsInvalid if it is none."""
    names = ("Package", "Version", "Architecture")
    try:
        done = process.run(["dpkg-deb", "-f", path, *names], timeout=60)
    except CommandFailed as exc:
        words = (exc.stderr_tail.splitlines() or [exc.message])[-1]
        raise ArtifactsInvalid(f"{path.name} is no Debian package: {words}", remedy=exc.remedy) from exc
    rows = (line.partition(":") for line in done.text.splitlines() if ":" in line)
    found = {name.strip(): value.strip() for name, _, value in rows}
    missing = [name for name in names if not found.get(name)]
    if missing:
        raise ArtifactsInvalid(f"{path.name} does not say its {', '.join(missing)}")
    return found


@contextmanager
def _cleaned(work: Path) -> Iterator[None]:
    """Takes an unfinished set away again whatever goes wrong, and says so when the disk is full."""
    try:
        yield
    except OSError as exc:
        shutil.rmtree(work, ignore_errors=True)
        if exc.errno in _NO_ROOM:
            raise BuildFailed(
                f"The disk is full: the artifacts do not fit into {work.parent}",
                failure_class="disk",
                remedy="Free some (`invoke artifacts.prune --keep 3`), then `invoke job.retry --resume`.",
            ) from exc
        raise ArtifactsInvalid(
            f"The artifacts cannot be stored in {work.parent}: {exc.strerror or exc}",
            remedy="Check the folder's owner, and that it is not read-only.",
        ) from exc
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _write_synced(path: Path, data: bytes, sync: Sync) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        sync(file.fileno())


def _sync_folder(folder: Path, sync: Sync) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def process_mark(pid: int | None = None) -> str:
    """Returns a process's name as part of a file's: a number alone is given again."""
    return process_name(os.getpid() if pid is None else pid).replace("/", "+")


def leftover(folder: Path) -> bool:
    """Says whether a folder of the store is what a process that is gone left unfinished."""
    match = _PARTIAL.fullmatch(folder.name)
    return match is not None and not lives(match["process"].replace("+", "/"))


def new_manifest(
    *, job_id: str, server: str, branch: str, commit: str, created_at: datetime, token: str, attempt: int = 1
) -> Manifest:
    """Returns a manifest with a build's identity and nothing else; `collect` fills it in."""
    return Manifest(
        job_id=job_id,
        server=server,
        branch=branch,
        commit=commit,
        created_at=created_at,
        build_dir="",
        artifacts=[],
        artifact_count=0,
        total_size_bytes=0,
        attempt=attempt,
        token=token,
    )

"""What an attempt leaves on disk, so that whoever comes after a crash can find it, end it and report it.

    <work>/attempts/<job>.<attempt>/attempt.json   which attempt this is, and under which token
                                   /completion/    the report, complete before it is named so
    <work>/jobs/<job>.<attempt>/    its tree, and the journal of its processes (builds.workspace)

Everything is written to a temporary name, fsynced and renamed; the folder too is fsynced.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.records.base import dump_json, load_json

_REQUEST = "request.json"

Step = Callable[[str], None]


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt on this machine."""

    job_id: str
    attempt: int
    token: str
    builder: str
    branch: str
    commit: str
    process: str


def folder_of(work: Path, job_id: str, attempt: int) -> Path:
    """Returns the folder of an attempt."""
    return work / "attempts" / f"{job_id}.{attempt}"


def attempts(work: Path) -> list[Path]:
    """Returns the folders of all attempts that left something here."""
    place = work / "attempts"
    return sorted(p for p in place.iterdir() if p.is_dir()) if place.is_dir() else []


def write(folder: Path, record: AttemptRecord, step: Step = lambda name: None) -> None:
    """Notes an attempt, durably. `step` is told each point on which a crash could fall."""
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / "attempt.json", dump_json(asdict(record)), step)


def read(folder: Path) -> AttemptRecord | None:
    """Reads an attempt's note; None where there is none, or one that a power loss cut."""
    try:
        raw = load_json((folder / "attempt.json").read_bytes(), str(folder))
        return AttemptRecord(**{name: raw[name] for name in AttemptRecord.__dataclass_fields__})
    except (OSError, PipelineError, KeyError, TypeError):
        return None


def remove(folder: Path) -> None:
    """Forgets an attempt that was reported."""
    shutil.rmtree(folder, ignore_errors=True)


def write_completion(
    folder: Path, request: dict[str, Any], payloads: dict[str, bytes], step: Step = lambda name: None
) -> None:
    """Keeps a report until the ledger has it: whole, or not there."""
    making = folder / f"completion.{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for name, data in payloads.items():
        write_durably(making / name, data, step)
    write_durably(making / _REQUEST, dump_json(request), step)
    making.rename(folder / "completion")
    step("completion renamed")
    sync_folder(folder)


def read_completion(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]] | None:
    """Returns a kept report, or None."""
    place = folder / "completion"
    if not (place / _REQUEST).is_file():
        return None
    request = load_json((place / _REQUEST).read_bytes(), str(place / _REQUEST))
    payloads = {p.name: p.read_bytes() for p in place.iterdir() if p.name != _REQUEST}
    return dict(request), payloads


def write_durably(place: Path, data: bytes, step: Step = lambda name: None) -> None:
    """Writes a file so that after a power loss it is there whole, or as it was before."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    step(f"{place.name} synced")
    temporary.replace(place)
    step(f"{place.name} renamed")
    sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Makes a folder's names durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

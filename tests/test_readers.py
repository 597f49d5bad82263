"""Every reader of a file that this machine keeps is given garbage: no traceback, its own error or nothing.

The state files of the ledger are fuzzed in tests/records, the files of tools in tests/builds, the notes of
those who wait in tests/edge; damaged files in a real ledger are in tests/console.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.builds import events, tree_checks
from pipeline.builds.artifact_sets import list_sets, plan_prune, verify
from pipeline.builds.preflight import missed
from pipeline.builds.recipe import RecipeOverrides, read_recipe_file, settle
from pipeline.builds.resolution import Repository, _Memory
from pipeline.builds.workspace import Workspace
from pipeline.edge.git_objects import Commit
from pipeline.edge.machine_lock import MachineLock
from pipeline.edge.survivors import Journal, find_survivors, owner_alive, read_journal
from pipeline.errors import ConfigInvalid, PipelineError, RecordInvalid, RecordTooNew
from pipeline.ledger.chain import read_record
from pipeline.operations import journal
from pipeline.operations.journal import AttemptRecord
from pipeline.operations.settings import resolve
from pipeline.records.builds import BuildConfig
from tests.garbage import bytes_like, damaged
from tests.records.examples import EXAMPLES, NOON

HEX = "ab" * 20
ATTEMPT = asdict(AttemptRecord("job_a", 1, "1.1.x", "build1", "b", HEX, "boot/pid:[1]/7/8"))
JOURNAL = {**asdict(Journal(7, 8, "job_a.1.1.x", 9, 10, 11, 12, "boot", "pid:[1]")), "strangers": [[1, 2]]}
REQUEST = {
    "kind": "job.complete", "builder": "build1", "job_id": "job_a", "token": "1.1.x", "outcome": "failed",
    "duration_seconds": 1.5, "failure": {"class": "test", "message": "x"}, "artifacts": [],
}  # fmt: skip
LOG = {
    "log_id": "x",
    "job_id": "j",
    "server": "build1",
    "branch": "b",
    "commit": HEX,
    "started_at": "2026-01-02T03:04:05Z",
}
EVENT = {"timestamp": NOON, "level": "info", "message": "hello", "details": {"a": 1}}
CONFIG = b"""
builder = "build1"
ledger = "ssh://git@host/x.git"
ledger_branch = "ledger"
cache = "~/cache"
heartbeat_seconds = 30.0
"""
DIGEST = "0" * 64
RECIPE = {
    "description": "x", "profiles": ["a"], "properties": {"a.b": "c"}, "environment": {"X": "y"},
    "java": {"version": "17"}, "timeout_seconds": 60,
    "substitutes": {
        "mirror_central": True, "node_version": "18.20.4",
        "jars": [{"coordinates": "a:b:1", "source": "a:b:1", "sha256": DIGEST}],
        "downloads": [
            {"url": "https://h/x", "sha256": DIGEST, "text": "x"},
            {"url": "https://h/y", "sha256": DIGEST, "file": "y"},
        ],
    },
}  # fmt: skip
PACKAGE_LOCK = {"packages": {"node_modules/deasync": {"version": "1"}, "node_modules/node-sass": {}}}


class Reader(NamedTuple):
    """One reader: its garbage, and what reads it from a file and uses what it read."""

    name: str
    garbage: st.SearchStrategy[bytes]
    read: Callable[[Path], object]
    errors: tuple[type[PipelineError], ...] = ()


def _placed(file: str, use: Callable[[Path], object]) -> Callable[[Path], object]:
    """Makes a reader of a folder out of one file that lies in it under its own name."""

    def read(place: Path) -> object:
        target = place.parent / "folder" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        place.replace(target)
        return use(place.parent / "folder")

    return read


def _journal(place: Path) -> None:
    found = read_journal(place)
    if found is not None:
        owner_alive(found)
        find_survivors(found)


def _attempt(folder: Path) -> None:
    found = journal.read(folder)
    if found is not None:
        assert {name: type(value) for name, value in asdict(found).items()} == {
            name: int if name == "attempt" else str for name in ATTEMPT
        }


def _completion(folder: Path) -> None:
    found = journal.read_completion(folder)
    assert found is None or isinstance(found[0]["token"], str)


def _settings(place: Path) -> None:
    resolve(Path("/home"), place.read_bytes().decode(errors="replace"), {})


def _recipe(place: Path) -> None:
    found = read_recipe_file(str(place), place.parent)
    settle(BuildConfig(), RecipeOverrides(), "b", found)


def _sets(folder: Path) -> None:
    root = folder / "build1"
    for one in list_sets(folder):
        assert (one.manifest is None) == bool(one.problem)
        if one.manifest is not None:
            verify(one.manifest, one.folder)
    plan_prune(list_sets(folder), keep=0, referenced=set(), running_since=None)
    assert root.is_dir()


def _memory(folder: Path) -> None:
    repositories = [Repository("central", "https://h")]
    key = next(iter(folder.iterdir()))
    memory = _Memory(folder, repositories)
    assert memory._path is not None
    key.replace(memory._path)
    again = _Memory(folder, repositories)
    again.add(["a:b:1"])
    assert all(isinstance(name, str) for name in again.found)


def _commit(place: Path) -> None:
    message = "subject\n\n" + place.read_bytes().decode(errors="replace")
    read_record(Commit("a" * 40, (), message), 1)


def _missed(folder: Path) -> None:
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", name) for name in missed(folder))


def _facts(folder: Path) -> None:
    assert isinstance(Workspace(folder, fixed=False).facts(), dict)


LINES = b"\n".join(json.dumps(row).encode() for row in (LOG, EVENT, EVENT))
RECORD = {"tree": "a" * 40, "parent": None, "reducer": 1, "format": 1}
READERS = [
    Reader("journal.json", damaged(JOURNAL), _journal),
    Reader("attempt.json", damaged(ATTEMPT), _placed("attempt.json", _attempt)),
    Reader("completion", damaged(REQUEST), _placed("completion/request.json", _completion), (RecordInvalid,)),
    Reader("config.toml", bytes_like(CONFIG), _settings, (ConfigInvalid,)),
    Reader("recipe", damaged(RECIPE), _recipe, (ConfigInvalid, RecordInvalid)),
    Reader("manifest", damaged(EXAMPLES["manifest"]), _placed("build1/b/job.1.1.x/manifest.json", _sets)),
    Reader("machine lock", damaged({"builder": "b", "for": "x"}), lambda at: MachineLock(at).holder()),
    Reader("structured log", bytes_like(LINES) | damaged(LOG), events.recover, (RecordInvalid,)),
    Reader("state.json", damaged({"maven": "success"}), _placed("state.json", _facts)),
    Reader("resolved artifacts", damaged(["a:b:1"]), _placed("x", _memory)),
    Reader("missed packages", damaged(["maven", "dpkg-dev"]), _placed("missed.json", _missed)),
    Reader("package-lock", damaged(PACKAGE_LOCK), lambda at: tree_checks.locked_modules(at.read_bytes())),
    Reader("commit message", damaged(RECORD), _commit, (RecordTooNew,)),
]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_garbage_is_refused_in_words_or_passed_over(reader: Reader, data: st.DataObject) -> None:
    """Whatever a file holds, its reader returns, or raises the one error that it documents."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "garbage.json"
        place.write_bytes(data.draw(reader.garbage))
        with contextlib.suppress(*reader.errors):
            reader.read(place)

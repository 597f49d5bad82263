"""Garbage in the files of this machine: every command ends in words and a code of its own, and none hangs."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.console.driver import Run
from tests.console.test_bad_input import git
from tests.garbage import bytes_like, damaged

OID = "ab" * 20


@pytest.fixture
def outbox(run: Run, home: Path) -> Path:
    """The outbox of a machine that has asked something before."""
    assert run("sm", "2", "hello").code == 0
    (found,) = (home / ".pipeline/stores").glob("*/build1/outbox.db")
    return found


def change(outbox: Path, words: str, *values: Any) -> None:
    with closing(sqlite3.connect(outbox)) as db:
        db.execute(words, values)
        db.commit()


@pytest.mark.parametrize("tip", ["x", "../../etc/passwd", OID, "-x", "--help", "", "\0", "refs/heads/ledger"])
def test_a_last_tip_that_is_none(run: Run, outbox: Path, tip: str) -> None:
    """A mark that was never a commit of this ledger stops all writing as a rewind, or is told as damage."""
    change(outbox, "update meta set value=? where key='tip'", tip)
    for words in (["status"], ["sm", "2", "again"], ["recover"]):
        ended = run(*words)
        assert ended.code in (20, 26, 31), ended
        assert "Remedy: " in ended.err


@pytest.mark.parametrize(
    "value", [{}, {"oid": 1}, {"oid": "x", "since": "y", "boot": None, "changed": []}, {"since": None}]
)
def test_observations_of_another_shape_count_as_none(
    run: Run, outbox: Path, home: Path, value: object
) -> None:
    """What was seen of a heartbeat before is evidence only if it can be read."""
    beat(home, "build2", {"server": "build2", "timestamp": "2026-01-02T03:04:05Z"})
    change(outbox, "insert or replace into observations values ('heartbeat/build2', ?)", json.dumps(value))
    ended = run("status", "--json")
    assert ended.code == 0
    assert [each["health"]["state"] for each in ended.json["builders"]][1] != "healthy"


def beat(home: Path, builder: str, value: object) -> None:
    """Puts a heartbeat on a builder's ref, by plain git."""
    put(home, builder, json.dumps(value).encode())


def put(home: Path, builder: str, data: bytes, name: str = "heartbeat.json") -> None:
    bare = home / ".pipeline/ledger.git"
    (home / "data").write_bytes(data)
    blob = git("hash-object", "-w", str(home / "data"), cwd=bare)
    (home / "rows").write_text(f"100644 blob {blob}\t{name}\n")
    with (home / "rows").open() as rows:
        import subprocess

        made = subprocess.run(
            ["git", "mktree"], cwd=bare, stdin=rows, check=True, capture_output=True, text=True
        )
    commit = git("commit-tree", made.stdout.strip(), "-m", "beat", cwd=bare)
    git("update-ref", f"refs/pipeline/heartbeat/{builder}", commit, cwd=bare)


BEAT = {
    "server": "build2", "timestamp": "2026-01-02T03:04:05Z", "uptime_seconds": 5.0, "healthy": True,
    "leases": {"1.1.x": "0f"}, "waiting": {}, "progress": {"module": "x", "index": 1, "total": 2},
}  # fmt: skip


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=damaged(BEAT))
def test_any_heartbeat_is_shown_or_passed_over(run: Run, outbox: Path, home: Path, data: bytes) -> None:
    """Whatever another builder has on its ref, the others are shown."""
    put(home, "build2", data)
    ended = run("status", "--json")
    assert ended.code == 0
    assert [each["name"] for each in ended.json["builders"]] == ["build1", "build2"]
    assert run("status").code == 0


@pytest.mark.parametrize("kind", ["blob", "tree", "tag", "another name"])
def test_a_heartbeat_ref_that_is_no_heartbeat(run: Run, outbox: Path, home: Path, kind: str) -> None:
    """A ref that points to something else is no heartbeat."""
    bare = home / ".pipeline/ledger.git"
    if kind == "another name":
        put(home, "build2", b"{}", "x")
    else:
        target = {"blob": "ledger:coordination/jobs.json", "tree": "ledger^{tree}", "tag": "ledger"}[kind]
        oid = git("rev-parse", target, cwd=bare)
        if kind == "tag":
            git("tag", "-a", "-m", "x", "t", oid, cwd=bare)
            oid = git("rev-parse", "t", cwd=bare)
        git("update-ref", "refs/pipeline/heartbeat/build2", oid, cwd=bare)
    ended = run("status", "--json")
    assert ended.code in (0, 20), ended
    assert run("recover").code in (0, 20)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60) | bytes_like(b"build2\n"))
def test_any_identity_file_names_a_builder_or_is_named(run: Run, home: Path, data: bytes) -> None:
    """What stands in `.build_server_id` is this machine's name, or is refused with the file's name."""
    (home / ".build_server_id").write_bytes(data)
    ended = run("status", "--json")
    assert ended.code in (0, 11)
    if ended.code == 11:
        assert ".build_server_id" in ended.err


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=bytes_like(b'builder = "build1"\nheartbeat_seconds = 5.0\ncache = "~/cache"\n'))
def test_any_configuration_is_taken_or_named(run: Run, home: Path, data: bytes) -> None:
    """What stands in `config.toml` is this machine's settings, or is refused with the file's name."""
    place = home / ".pipeline/config.toml"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    ended = run("config")
    assert ended.code in (0, 10, 11, 33), ended
    if ended.code == 10:
        assert str(place) in ended.err


@pytest.mark.parametrize(
    "content",
    [
        'cache = "~nobody-has-this-name/x"',
        "x = " + "[" * 3000 + "]" * 3000,
        "heartbeat_seconds = 2026-01-02",
        "heartbeat_seconds = nan",
        "builder = [1]",
        "recipe = {a = 1}",
    ],
)
def test_odd_settings_are_named(run: Run, home: Path, content: str) -> None:
    """A home that nobody has, nesting without end, times and lists in place of texts: exit code 10."""
    place = home / ".pipeline/config.toml"
    place.parent.mkdir()
    place.write_text(content)
    ended = run("work", "--once")
    assert ended.code == 10, ended
    assert "Remedy: " in ended.err


@pytest.mark.parametrize("name", [".pipeline/config.toml", ".build_server_id"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "endless"])
def test_what_is_no_file_hangs_nobody(run: Run, home: Path, name: str, kind: str) -> None:
    """A FIFO, a folder or an endless device in the place of a file that steers this machine ends at once."""
    place = home / name
    place.parent.mkdir(exist_ok=True)
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")
    ended = run("status")
    assert ended.code in (0, 10, 11)
    assert ended.code == 0 or name.rpartition("/")[2] in ended.err

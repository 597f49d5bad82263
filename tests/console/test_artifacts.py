"""`artifacts.*` over what lies in the folder: every kept build is checked, and garbage hangs nobody."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.builds.artifacts import Item, collect, new_manifest, set_folder
from tests.console.driver import Run

WHEN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def store(home: Path, tmp_path: Path) -> Path:
    """Three kept builds of two branches, a file each."""
    root = home / ".pipeline" / "artifacts"
    (tmp_path / "a.jar").write_bytes(b"PK" * 100)
    for number, branch in enumerate(("ExternalNew", "ExternalNew", "other")):
        manifest = new_manifest(
            job_id=f"job_{number}",
            server="build1",
            branch=branch,
            commit="a" * 40,
            created_at=WHEN,
            token=f"1.{number}.op",
        )
        collect(root, manifest, [Item(tmp_path / "a.jar", "a.jar")], None)
    return root


def folder(store: Path, number: int, branch: str = "ExternalNew") -> Path:
    return set_folder(store, "build1", branch, f"job_{number}", f"1.{number}.op")


def test_every_kept_build_is_verified(run: Run, store: Path) -> None:
    """Without an id all are checked: 0 if all are whole, 85 if one is not, and each is named."""
    ended = run("artifacts.verify", "--json")
    assert ended.code == 0
    assert ended.json == {f"job_{number}.1.{number}.op": [] for number in range(3)}
    (folder(store, 2, "other") / "a.jar").write_bytes(b"PK" * 99 + b"XX")
    ended = run("artifacts.verify")
    assert ended.code == 85
    assert "job_0.1.0.op: ok\n" in ended.out
    assert "job_2.1.2.op: 1 problem\n  a.jar (checksum): has the SHA-256 " in ended.out
    assert run("artifacts.verify", "--id", "job_0").code == 0
    assert run("artifacts.verify", "--id", "job_2").code == 85


def test_nothing_kept_is_no_problem(run: Run) -> None:
    """Without any build the check passes, and says that there was nothing to check."""
    ended = run("artifacts.verify")
    assert (ended.code, ended.out) == (0, "No builds are kept here.\n")
    assert run("artifacts.verify", "--json").json == {}
    assert run("artifacts.prune").out == "Nothing to remove.\n"


@pytest.mark.parametrize("kind", ["no JSON", "empty", "a link out", "a FIFO", "a folder", "missing"])
def test_garbage_for_a_manifest(run: Run, store: Path, tmp_path: Path, kind: str) -> None:
    """The set is named with what is wrong, the others are checked and pruned, and nothing else is touched."""
    place = folder(store, 0) / "manifest.json"
    (tmp_path / "outside.json").write_bytes(place.read_bytes())
    place.unlink()
    if kind == "no JSON":
        place.write_text("x")
    elif kind == "empty":
        place.touch()
    elif kind == "a link out":
        place.symlink_to(tmp_path / "outside.json")
    elif kind == "a FIFO":
        os.mkfifo(place)
    elif kind == "a folder":
        place.mkdir()
    ended = run("artifacts.verify")
    assert ended.code == 85
    assert "job_0.1.0.op: 1 problem\n  manifest.json (manifest): " in ended.out
    assert "job_1.1.1.op: ok\n" in ended.out
    assert run("artifacts.list").code == 0
    pruned = run("artifacts.prune", "--keep", "0", "--yes", "--json")
    assert pruned.code == 0
    assert len(pruned.json["removed"]) == 2
    assert "cannot be read" in pruned.json["kept"]["job_0.1.0.op"]
    assert folder(store, 0).is_dir()
    assert not folder(store, 1).exists()
    assert (tmp_path / "outside.json").exists()


def test_a_link_out_of_the_folder_is_not_followed(run: Run, store: Path, tmp_path: Path) -> None:
    """A builder's folder that is a link elsewhere is a problem, and what is there stays."""
    shutil.move(store / "build1", tmp_path / "elsewhere")
    (store / "build1").symlink_to(tmp_path / "elsewhere")
    ended = run("artifacts.verify")
    assert ended.code == 85
    assert "is a symbolic link out of the store" in ended.out
    assert run("artifacts.prune", "--keep", "0", "--yes").code == 0
    assert len(list((tmp_path / "elsewhere").glob("*/*/manifest.json"))) == 3


def test_a_set_in_the_place_of_another_is_noticed(run: Run, store: Path) -> None:
    """A copy of a good set under another job's name is none of that job, though every digest fits."""
    shutil.copytree(folder(store, 0), folder(store, 7))
    ended = run("artifacts.verify", "--json")
    assert ended.code == 85
    assert {name: len(problems) for name, problems in ended.json.items() if problems} == {"job_7.1.7.op": 1}
    assert "is that of job_0.1.0.op" in ended.json["job_7.1.7.op"][0]["message"]


def test_sets_of_one_name_are_both_checked(run: Run, store: Path) -> None:
    """The same name under two branches hides neither: both are shown by their places."""
    shutil.copytree(folder(store, 0), folder(store, 0, "other"))
    (folder(store, 0, "other") / "a.jar").unlink()
    ended = run("artifacts.verify", "--json")
    assert ended.code == 85
    assert ended.json["build1/ExternalNew/job_0.1.0.op"] == []
    assert [each["kind"] for each in ended.json["build1/other/job_0.1.0.op"]] == ["missing"]


def test_names_that_steer_a_terminal_are_shown_harmlessly(run: Run, store: Path) -> None:
    """A file name with escape sequences in it is printed without them."""
    (folder(store, 0) / "\x1b[2Jx").write_bytes(b"")
    ended = run("artifacts.verify")
    assert ended.code == 85
    assert "\x1b" not in ended.out
    assert "  ?[2Jx (extra): is not in the manifest" in ended.out

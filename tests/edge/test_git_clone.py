"""The local clone is a cache: whoever removes it, and when, only costs another fetch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.edge.git_clone import GitClone
from pipeline.edge.git_objects import make
from pipeline.edge.git_remote import GitRemote
from pipeline.edge.process import Finished
from pipeline.errors import LedgerNoSpace, PipelineError, StoreError

REF = "refs/heads/ledger"
ONE, TWO = make("blob", b"one"), make("blob", b"two")


def _clone(folder: Path) -> GitClone:
    return GitClone(folder, GitRemote(str(folder.with_name("remote.git")), 5.0), REF)


def test_what_is_left_of_a_removed_clone_is_in_nobodys_way(tmp_path: Path) -> None:
    """A folder with objects and without HEAD, as a removal beside a write leaves it, is made anew."""
    place = tmp_path / "clone.git"
    half = place / "objects/ab"
    half.mkdir(parents=True)
    (half / "cd").write_bytes(b"")
    clone = _clone(place)
    clone.write([ONE])
    assert clone.git(["cat-file", "-p", ONE.oid]).stdout == b"one"
    assert [each.name for each in tmp_path.iterdir()] == ["clone.git"]


def test_a_write_into_a_removed_clone_leaves_no_half_one(tmp_path: Path) -> None:
    """Who writes while the clone is renamed away is told, and makes no folder that is no repository."""
    place = tmp_path / "clone.git"
    clone = _clone(place)
    clone.write([ONE])

    shutil.rmtree(place / "objects")
    (place / "HEAD").unlink()
    with pytest.raises(StoreError, match=r"clone\.git cannot be written"):
        clone._replace("objects/ab/cd", b"x")
    assert not (place / "objects").exists()
    clone.write([TWO])
    assert _clone(place).read(TWO.oid) == TWO


def test_a_whole_clone_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    """Who found no clone a moment ago, and clears a remnant, leaves what another process has made since."""
    place = tmp_path / "clone.git"
    other = _clone(place)
    other.write([ONE])
    _clone(place)._clear_remnant()
    assert other.git(["cat-file", "-p", ONE.oid]).stdout == b"one"
    assert [each.name for each in tmp_path.iterdir()] == ["clone.git"]


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (
            "fatal: unable to write loose object file: No space left on device",
            StoreError,
            "cannot be written",
        ),
        ("remote: fatal: unable to create: No space left on device", LedgerNoSpace, "refused"),
    ],
)
def test_a_fetch_that_fills_the_disk_here_blames_nobody_else(
    tmp_path: Path, said: str, error: type[PipelineError], message: str
) -> None:
    """Git says the same of both disks; only what the remote said is its own."""

    class Full(GitRemote):
        def ask(self, folder: Path, words: list[str]) -> Finished:
            raise self.meaning(Finished(("git",), 128, b"", said.encode(), 0.1))

    clone = GitClone(tmp_path / "clone.git", Full("host:ledger.git", 5.0), REF)
    with pytest.raises(error, match=message) as caught:
        clone.fetch([REF])
    assert type(caught.value) is error

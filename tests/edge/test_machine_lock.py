"""The machine's lock: one holder, freed by death, held also where nothing can be written about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.edge.machine_lock import MachineLock
from pipeline.errors import StoreError
from tests.mounts import needs_mounts

ROOT = Path(__file__).resolve().parents[2]

#: Holds the lock `argv[1]` and says whether it did, whether another may, and what the note says.
_HOLD = """
import sys
from pathlib import Path
from pipeline.edge.machine_lock import MachineLock
from pipeline.errors import StoreError
place = Path(sys.argv[1])
try:
    mine, other = MachineLock(place), MachineLock(place)
    print(mine.try_hold('{"builder": "build1"}'), other.try_hold("{}"), other.holder())
except StoreError as exc:
    print(exc)
"""


def hold(place: Path, *before: str) -> str:
    """Holds the lock in a process of its own, after a line of shell; returns what it said."""
    words = [sys.executable, "-c", _HOLD, str(place)]
    if before:
        script = f'set -e; {" ".join(before)}; exec "$@"'
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_one_holds_it_and_says_so(tmp_path: Path) -> None:
    """A second holder is turned away and told who holds it; afterwards it is free again."""
    one, two = MachineLock(tmp_path / "run/lock"), MachineLock(tmp_path / "run/lock")
    assert one.try_hold('{"builder": "build1", "for": "ExternalNew"}')
    assert one.try_hold("{}")
    assert not two.try_hold("{}")
    assert two.holder() == {"builder": "build1", "for": "ExternalNew"}
    one.release()
    assert two.try_hold("{}")
    two.release()


def test_a_file_that_was_removed_is_nobodys_lock(tmp_path: Path) -> None:
    """Who holds a file that is gone does not keep others from the new one."""
    one, two = MachineLock(tmp_path / "lock"), MachineLock(tmp_path / "lock")
    assert one.try_hold("{}")
    (tmp_path / "lock").unlink()
    assert two.try_hold("{}")
    one.release()
    two.release()


def test_a_note_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    """A process that may write no byte to any file holds the lock all the same; an old note is gone."""
    (tmp_path / "lock").write_text('{"builder": "long ago"}')
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    words = [sys.executable, "-B", "-c", limit + _HOLD, str(tmp_path / "lock")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True False {}", done.stderr


@needs_mounts
def test_a_full_disk_costs_the_note_and_not_the_lock(tmp_path: Path) -> None:
    """On a file system without one free page the lock is held, excludes, and has no note."""
    mount = f"mount -t tmpfs -o size=4k none {tmp_path}; head -c 4096 /dev/zero > {tmp_path}/full"
    assert hold(tmp_path / "lock", mount) == "True False {}"


@needs_mounts
def test_a_disk_without_a_free_inode_is_named(tmp_path: Path) -> None:
    """Where not even the file can be made, the error names it, the cause and what to do."""
    said = hold(tmp_path / "lock", f"mount -t tmpfs -o nr_inodes=1 none {tmp_path}")
    assert f"The machine's lock {tmp_path}/lock cannot be used: No space left on device." in said
    assert "Remedy: Free space on that disk" in said


@needs_mounts
def test_a_read_only_disk_is_enough_where_the_file_is_there(tmp_path: Path) -> None:
    """A lock file on a read-only file system is locked as it is; the note in it stays what it was."""
    mount = f"mount -t tmpfs none {tmp_path}; echo '{{}}' > {tmp_path}/lock; mount -o remount,ro {tmp_path}"
    assert hold(tmp_path / "lock", mount) == "True False {}"


@needs_mounts
def test_a_read_only_disk_without_the_file_is_named(tmp_path: Path) -> None:
    """Where the file is not there and cannot be made, the error says that the disk is read-only."""
    said = hold(tmp_path / "lock", f"mount -t tmpfs -o ro none {tmp_path}")
    assert f"The machine's lock {tmp_path}/lock cannot be used: Read-only file system." in said
    assert "`machine_lock`" in said


@pytest.mark.parametrize("kind", ["directory", "below a file", "loop"])
def test_a_place_that_can_be_no_lock_is_named(tmp_path: Path, kind: str) -> None:
    """A directory, a path through a file and a link to itself end in one clear error."""
    place = tmp_path / "lock"
    if kind == "directory":
        place.mkdir()
    elif kind == "loop":
        place.symlink_to(place)
    else:
        place.write_text("x")
        place = place / "lock"
    with pytest.raises(StoreError) as refused:
        MachineLock(place).try_hold("{}")
    assert str(place) in refused.value.message
    assert "`machine_lock`" in (refused.value.remedy or "")


def test_a_link_to_somebodys_file_is_not_followed(tmp_path: Path) -> None:
    """In a folder that all may write, a link in the lock's place costs its target not a byte."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    lock = MachineLock(tmp_path / "lock")
    with pytest.raises(StoreError) as refused:
        lock.try_hold("{}")
    assert "Remove that link" in (refused.value.remedy or "")
    assert lock.holder() == {}
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_file_that_has_another_name_is_locked_and_not_written(tmp_path: Path) -> None:
    """A hard link in the lock's place is a lock, without a note."""
    (tmp_path / "precious").write_text("precious")
    os.link(tmp_path / "precious", tmp_path / "lock")
    assert MachineLock(tmp_path / "lock").try_hold("{}")
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[1]", b'"x"', b"{" * 100_000, b"\0" * 200_000])
def test_a_note_that_is_garbage_says_nothing(tmp_path: Path, data: bytes) -> None:
    """Whatever stands in the file, it is locked, and its holder is unknown."""
    (tmp_path / "lock").write_bytes(data)
    assert MachineLock(tmp_path / "lock").holder() == {}


def test_a_fifo_hangs_nobody(tmp_path: Path) -> None:
    """A FIFO in the lock's place is locked like a file, and reading its note returns at once."""
    os.mkfifo(tmp_path / "lock")
    lock = MachineLock(tmp_path / "lock")
    assert lock.try_hold("{}")
    assert lock.holder() == {}
    lock.release()

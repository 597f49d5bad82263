"""The waiting room: who waits is seen, who was killed is not, and garbage in the folder hangs nobody."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edge.waiting_room import SILENT_SECONDS, Waiter, WaitingRoom

ROOT = Path(__file__).resolve().parents[2]
NOW = 1000.0

_WAIT = """
import sys, time
from pathlib import Path
from pipeline.edge.waiting_room import Waiter, WaitingRoom
with WaitingRoom(Path(sys.argv[1])).entered(Waiter("w1", "q", "job_a", 5, 1000.0, "build1")):
    print("sits", flush=True)
    time.sleep(120)
"""


def waiter(id: str, priority: int = 5) -> Waiter:
    return Waiter(id, "ledger", f"job_{id}", priority, NOW, "build1")


def test_waiters_are_seen_as_long_as_they_wait(tmp_path: Path) -> None:
    """Each is found with all that it said, and nothing is left when the last one has gone."""
    room = WaitingRoom(tmp_path / "lock")
    assert room.waiters(NOW) == []
    with room.entered(waiter("a")):
        with room.entered(waiter("b", 1)):
            assert room.waiters(NOW) == [waiter("a"), waiter("b", 1)]
        assert WaitingRoom(tmp_path / "lock").waiters(NOW) == [waiter("a")]
    assert list(tmp_path.iterdir()) == []


def test_a_killed_waiter_is_not_waited_for(tmp_path: Path) -> None:
    """`kill -9` takes a waiter out at once, and whoever looks next removes its file."""
    room = WaitingRoom(tmp_path / "lock")
    words = [sys.executable, "-c", _WAIT, str(tmp_path / "lock")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "sits\n"
        assert [each.id for each in room.waiters(NOW)] == ["w1"]
        process.kill()
    assert (room.folder / "w1").exists()
    assert room.waiters(NOW) == []
    assert not (room.folder / "w1").exists()


def test_a_stopped_waiter_is_passed_over_and_comes_back(tmp_path: Path) -> None:
    """One that shows no life for its time is not seen; once it looks again it is."""
    room = WaitingRoom(tmp_path / "lock")
    with room.entered(waiter("a")) as seat:
        assert room.waiters(NOW + SILENT_SECONDS) == [waiter("a")]
        assert room.waiters(NOW + SILENT_SECONDS + 0.1) == []
        seat.show_life(NOW + 60)
        assert room.waiters(NOW + 61) == [waiter("a")]


def test_a_room_that_cannot_be_made_keeps_nobody_from_waiting(tmp_path: Path) -> None:
    """Where the folder's place is taken, one waits unseen."""
    (tmp_path / "lock.waiting").write_text("in the way")
    room = WaitingRoom(tmp_path / "lock")
    with room.entered(waiter("a")) as seat:
        assert seat.handle is None
        seat.show_life(NOW)
        assert room.waiters(NOW) == []
    assert (tmp_path / "lock.waiting").read_text() == "in the way"


def test_what_is_no_waiter_is_passed_over(tmp_path: Path) -> None:
    """A folder, a FIFO and a link in the room are neither followed nor waited for, and stay."""
    room = WaitingRoom(tmp_path / "lock")
    (tmp_path / "outside").write_text("x")
    with room.entered(waiter("a")):
        (room.folder / "folder").mkdir()
        os.mkfifo(room.folder / "fifo")
        (room.folder / "link").symlink_to(tmp_path / "outside")
        assert room.waiters(NOW) == [waiter("a")]
    assert sorted(path.name for path in room.folder.iterdir()) == ["fifo", "folder", "link"]
    assert (tmp_path / "outside").read_text() == "x"


@pytest.fixture(scope="module")
def garbage_room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One room for all tries."""
    return tmp_path_factory.mktemp("room") / "lock"


@given(data=st.binary(max_size=200), cut=st.integers(0, 250), at=st.integers(0, 250))
def test_garbage_in_a_note_says_nothing(garbage_room: Path, data: bytes, cut: int, at: int) -> None:
    """Random bytes, cut and changed notes: they are no waiter, or one with every field whole."""
    room = WaitingRoom(garbage_room)
    with ExitStack() as stack:
        stack.enter_context(room.entered(waiter("good")))
        whole = (room.folder / "good").read_bytes()
        for name, content in (
            ("a", data),
            ("b", whole[:cut]),
            ("c", whole[:at] + data + whole[at + len(data) :]),
        ):
            handle = os.open(room.folder / name, os.O_CREAT | os.O_RDWR)
            stack.callback(os.close, handle)
            stack.callback((room.folder / name).unlink)
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.write(handle, content)
        seen = room.waiters(NOW)
    assert waiter("good") in seen
    for each in seen:
        kinds = [type(value) for value in (each.id, each.queue, each.job_id, each.priority, each.since)]
        assert kinds == [str, str, str, int, float]

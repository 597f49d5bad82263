"""Short commands: what they print and how they end, and that nothing of one is left that was ended."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.edge.git_refs import GitRefs
from pipeline.edge.process import Leash, run
from pipeline.edge.procfs import all_stats
from pipeline.errors import CommandFailed, CommandTimedOut, LedgerUnreachable
from tests.cluster.tiny import wait_until


def processes_about(text: str) -> list[str]:
    """Returns the command lines of living processes that hold a text."""
    found = []
    for stat in all_stats().values():
        try:
            words = (
                Path(f"/proc/{stat.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except OSError:
            continue
        if text in words and stat.state not in "ZX":
            found.append(f"{stat.pid} {words}")
    return found


def test_input_goes_in_and_output_comes_out() -> None:
    """More than a pipe holds goes both ways, watched over or not."""
    data = os.urandom(300_000)
    for stop in (None, lambda: False):
        done = run(
            ["sh", "-c", "cat; echo words >&2; exit 3"], input=data, check=False, timeout=30.0, stop=stop
        )
        assert (done.returncode, done.stdout, done.errors) == (3, data, "words")


@pytest.mark.parametrize("deaf", ["", "trap '' TERM; "], ids=["obedient", "deaf"])
@pytest.mark.parametrize("how", ["timeout", "stop"])
def test_what_is_ended_leaves_nothing(tmp_path: Path, deaf: str, how: str) -> None:
    """A command whose time is over, or that is stopped, goes with its children, deaf ones too."""
    mark, ready = f"leaves-nothing-{os.getpid()}", tmp_path / "ready"
    script = f"{deaf}(exec sh -c '{deaf}touch {ready}; sleep 60; : {mark}') & wait; : {mark}"
    if how == "timeout":
        with pytest.raises(CommandTimedOut, match=r"within 1 s"):
            run(["sh", "-c", script], timeout=1.0)
    else:
        done = run(["sh", "-c", script], check=False, stop=ready.exists)
        assert done.returncode in (-signal.SIGTERM, -signal.SIGKILL)
    assert ready.exists()
    assert wait_until(lambda: processes_about(mark) == [], 10.0), processes_about(mark)


def test_a_stopped_command_is_in_no_terminals_way() -> None:
    """One that is watched over has a process group of its own; another shares its caller's."""
    words = ["sh", "-c", "ps -o pgid= -p $$"]
    assert int(run(words).text) == os.getpgrp()
    assert int(run(words, stop=lambda: False).text) != os.getpgrp()


def test_a_program_that_is_not_there_is_named() -> None:
    """Its absence is an error of its own, with or without somebody who may stop it."""
    for stop in (None, lambda: False):
        with pytest.raises(CommandFailed, match="no-such-program is not installed"):
            run(["no-such-program"], stop=stop)


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that takes connections and never says a word; its port."""
    held: list[socket.socket] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for each in held:
        each.close()


def test_a_silent_remote_collects_no_processes(tmp_path: Path, silent: int) -> None:
    """Each time it gives no answer git's own transport is ended as well: a waiter asks for hours."""
    refs = GitRefs(tmp_path / "clone", f"http://127.0.0.1:{silent}/ledger.git", timeout=1.0)
    with pytest.raises(LedgerUnreachable, match="gave no answer"):
        refs.tip()
    assert wait_until(lambda: processes_about(f":{silent}/") == [], 10.0), processes_about(f":{silent}/")


#: A program whose child goes on when its parent is killed, and holds its output open.
_FAMILY = ["sh", "-c", "sleep 300 & echo $! > pid; wait"]


def ended(folder: Path) -> bool:
    """Says whether the child of `_FAMILY` is gone, or is within twenty seconds."""
    pid, until = int((folder / "pid").read_text()), time.monotonic() + 20
    while time.monotonic() < until:
        stat = all_stats().get(pid)
        if stat is None or stat.state in "ZX":
            return True
        time.sleep(0.01)
    return False


def test_what_is_ended_may_tidy_up(tmp_path: Path) -> None:
    """It is asked before it is killed: a lock file that git holds is removed by git."""
    words = ["sh", "-c", "trap 'touch tidied; exit' TERM; while :; do sleep 0.05; done"]
    with pytest.raises(CommandTimedOut):
        run(words, cwd=tmp_path, timeout=2.0)
    assert (tmp_path / "tidied").exists()


def test_commands_on_one_leash_share_a_deadline() -> None:
    """The shorter of the command's own bound and what is left counts; each may take two seconds at least."""
    leash = Leash()
    assert leash.left(60.0) == 60.0
    assert leash.left(None) is None
    with leash.within(30.0):
        assert 29.0 < (leash.left(60.0) or 0.0) <= 30.0
        assert leash.left(5.0) == 5.0
        with leash.within(-1.0):
            assert leash.left(60.0) == 2.0
        with leash.within(50.0):
            assert (leash.left(60.0) or 0.0) <= 30.0
    assert leash.left(60.0) == 60.0


def test_a_leash_ends_what_runs_and_what_comes_after(tmp_path: Path) -> None:
    """Pulled by another thread it ends the whole family at once, and lets nothing else run."""
    leash = Leash()
    done = threading.Event()

    def work() -> None:
        run(_FAMILY, cwd=tmp_path, check=False, leash=leash)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        time.sleep(0.01)
    leash.pull()
    assert done.wait(20)
    thread.join()
    assert ended(tmp_path)
    begun = time.monotonic()
    assert run(["sleep", "300"], check=False, leash=leash).returncode != 0
    assert time.monotonic() - begun < 20

"""Names of processes: the same process has one, no other has it, and the dead are told from the living."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edge.identity import SystemProcesses
from pipeline.edge.procfs import boot_id, is_alive, lives, pid_namespace, process_name, read_stat


def test_a_process_lives_by_its_name() -> None:
    """This process lives, by the same name wherever it is asked for; `Processes` and `procfs` agree."""
    me = process_name(os.getpid())
    stat = read_stat(os.getpid())
    assert stat is not None
    assert me == f"{boot_id()}/{pid_namespace()}/{os.getpid()}/{stat.start_ticks}"
    assert SystemProcesses().myself() == me
    assert lives(me)
    assert SystemProcesses().alive(me)


def test_a_process_that_only_waits_to_be_reaped_is_dead() -> None:
    """A zombie holds no job: what was killed counts as dead before its parent has looked."""
    with subprocess.Popen(["sleep", "60"]) as child:
        name = process_name(child.pid)
        assert lives(name)
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        stat = read_stat(child.pid)
        assert stat is not None
        assert stat.state == "Z"
        assert not lives(name)
        assert not is_alive(child.pid, stat.start_ticks)
    assert not lives(name)
    assert process_name(child.pid).endswith(f"/{child.pid}/0")


@pytest.mark.parametrize(("at", "other"), [(0, "another-boot"), (2, "999999999"), (3, "1")])
def test_another_boot_pid_or_start_is_another_process(at: int, other: str) -> None:
    """Each part counts: with another one in its place the name is a dead one's."""
    parts = process_name(os.getpid()).split("/")
    parts[at] = other
    assert not lives("/".join(parts))


def test_another_namespace_is_never_declared_dead() -> None:
    """A process of another container cannot be seen from here, so it counts as alive."""
    assert lives(f"{boot_id()}/pid:[1]/999999999/1")


@given(
    st.text() | st.lists(st.text(max_size=8) | st.just(boot_id()) | st.just(pid_namespace())).map("/".join)
)
def test_what_is_no_name_is_dead(text: str) -> None:
    """Any text at all is answered; none but a whole name counts as alive."""
    if lives(text):
        parts = text.split("/")
        assert len(parts) == 4
        assert parts[0] == boot_id()
        assert parts[2].isdecimal()

"""Reads and names processes by /proc. Imports the standard library only: the watchdog needs it at once.

A process's name is `<boot>/<pid namespace>/<pid>/<start ticks>`: a pid that was given again, a reboot and
another container are never taken for the same.
"""

# pathlib takes longer to import than the whole watchdog takes to start:
# ruff: noqa: PTH115, PTH123, PTH208

from __future__ import annotations

import contextlib
import functools
import os
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """What /proc/PID/stat says. Pid and `start_ticks` name a process until the machine reboots."""

    pid: int
    state: str
    parent: int
    session: int
    start_ticks: int
    resident_bytes: int


def read_stat(pid: int) -> Stat | None:
    """Reads one process's state; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            data = file.read(2048)
    except OSError:
        return None
    # The name in brackets may hold spaces and brackets itself: the last bracket ends it.
    fields = data[data.rfind(b")") + 2 :].split()
    if len(fields) < 22:
        return None
    return Stat(
        pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]), int(fields[21]) * _PAGE
    )


def all_stats() -> dict[int, Stat]:
    """Reads the state of every process that this one can see."""
    stats = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := read_stat(int(name))) is not None:
            stats[stat.pid] = stat
    return stats


def descendants(root: int, stats: dict[int, Stat]) -> list[Stat]:
    """Returns the living processes below `root`, parents before their children."""
    children: dict[int, list[Stat]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat)
    found: list[Stat] = []
    queue = [root]
    for pid in queue:
        for child in children.get(pid, ()):
            queue.append(child.pid)
            found.append(child)
    return [stat for stat in found if stat.state not in "ZX"]


@functools.cache
def boot_id() -> str:
    """Returns the id that the kernel drew when it booted; empty where it cannot be read."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def pid_namespace() -> str:
    """Returns the identity of the namespace in which process ids mean what they mean here."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def is_alive(pid: int, start_ticks: int) -> bool:
    """Says whether a process of this boot and namespace runs; one that waits to be reaped does not."""
    stat = read_stat(pid)
    return stat is not None and stat.start_ticks == start_ticks and stat.state not in "ZX"


def process_name(pid: int) -> str:
    """Returns the name of a process; its start is 0 where it is gone."""
    stat = read_stat(pid)
    return f"{boot_id()}/{pid_namespace()}/{pid}/{0 if stat is None else stat.start_ticks}"


def lives(name: str) -> bool:
    """Says whether the process of that name still runs. What is no name counts as dead.

    One of another namespace counts as alive: nobody is declared dead from outside.
    """
    boot, _, rest = name.partition("/")
    namespace, _, process = rest.partition("/")
    pid, _, ticks = process.partition("/")
    if boot != boot_id() or not (pid.isdecimal() and ticks.isdecimal() and len(pid) < 20 > len(ticks)):
        return False
    return namespace != pid_namespace() or is_alive(int(pid), int(ticks))


def send(pid: int, number: int) -> None:
    """Sends a signal to a process that may be gone, or not ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def environment_of(pid: int) -> bytes:
    """Returns the environment that a process was started with, NUL between entries; empty when unreadable."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def oom_kills() -> int:
    """Returns how many processes the kernel has killed for want of memory since boot."""
    try:
        with open("/proc/vmstat") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0

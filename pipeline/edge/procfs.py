"""Reads processes from /proc. Imports the standard library only: the watchdog needs it at once."""

# pathlib takes longer to import than the whole watchdog takes to start:
# ruff: noqa: PTH115, PTH123, PTH208

from __future__ import annotations

import contextlib
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


def boot_id() -> str:
    """Returns the identity of this boot of the machine."""
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

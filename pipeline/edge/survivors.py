"""Finds and ends what a dead pipeline left running. Looking never kills; ending is asked for.

A process belongs to a job when the journal names it (pid with start time, on this boot and in this pid
namespace), when it is in the program's session, when its environment holds the job's marker, or when it
descends from one that does. Never by its name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipeline.edge.plain_file import read_plain
from pipeline.edge.procfs import (
    Stat,
    all_stats,
    boot_id,
    descendants,
    environment_of,
    is_alive,
    pid_namespace,
    send,
)
from pipeline.edge.watchdog import UNKILLABLE_SECONDS
from pipeline.errors import MachineBusy, PipelineError
from pipeline.records.base import load_json

MARKER_VARIABLE = "PIPELINE_JOB"
_INTERVAL_SECONDS = 0.05
_HIGHEST_PID = 2**31 - 1


@dataclass(frozen=True)
class Journal:
    """What the watchdog writes before the program may run. Pid 0 stands for a process that is not known.

    `strangers` are (pid, start ticks) of processes that left the session and dropped the marker.
    """

    pid: int
    start_ticks: int
    marker: str
    owner_pid: int = 0
    owner_start_ticks: int = 0
    watchdog_pid: int = 0
    watchdog_start_ticks: int = 0
    boot_id: str | None = None
    pid_namespace: str | None = None
    strangers: tuple[tuple[int, int], ...] = ()


def read_journal(path: Path) -> Journal | None:
    """Reads a job's journal; None where there is none, or one that cannot be read.

    One that cannot be read was cut by a power loss, after which nothing runs that it could have named.
    """
    try:
        facts = load_json(read_plain(path), str(path))
        facts["strangers"] = tuple((pid, ticks) for pid, ticks in facts["strangers"])
        found = Journal(**{key: facts[key] for key in asdict(Journal(0, 0, ""))})
    except (OSError, PipelineError, ValueError, KeyError, TypeError):
        return None
    return found if _is_sound(found) else None


def _is_sound(journal: Journal) -> bool:
    """Says whether every field of a journal is what it should be: what is read there gets signals."""
    pairs = [
        (journal.pid, journal.start_ticks),
        (journal.owner_pid, journal.owner_start_ticks),
        (journal.watchdog_pid, journal.watchdog_start_ticks),
        *journal.strangers,
    ]
    numbers = all(type(number) is int and number >= 0 for pair in pairs for number in pair)
    places = (journal.boot_id, journal.pid_namespace)
    texts = isinstance(journal.marker, str) and all(one is None or isinstance(one, str) for one in places)
    return numbers and texts and all(pid <= _HIGHEST_PID for pid, _ in pairs)


def owner_alive(journal: Journal) -> bool:
    """Returns whether the pipeline that wrote the journal still runs."""
    return _same_place(journal) and is_alive(journal.owner_pid, journal.owner_start_ticks)


def find_survivors(journal: Journal, known: Iterable[tuple[int, int]] = ()) -> list[psutil.Process]:
    """Returns the job's processes that still run, watchdog included. `known` adds (pid, start ticks)."""
    if journal.boot_id is not None and journal.boot_id != boot_id():
        return []
    stats = all_stats()
    found = {stat.pid: stat for stat in stats.values() if _belongs(stat, journal, known)}
    for root in tuple(found):
        found.update((stat.pid, stat) for stat in descendants(root, stats))
    for pid in (os.getpid(), *_ancestors(os.getpid(), stats)):
        found.pop(pid, None)
    processes = []
    for stat in found.values():
        # Made from the pid now: psutil notes its start time, so that a later signal cannot hit a successor.
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(stat.pid)
            if is_alive(stat.pid, stat.start_ticks):
                processes.append(process)
    return processes


def kill_survivors(journal: Journal, grace_seconds: float = 10.0) -> list[int]:
    """Ends the job's processes: terminate, grace, kill. Returns the pids of those that could not be ended.

    Raises MachineBusy while the pipeline that owns them is alive and another process than this one.
    """
    if journal.owner_pid != os.getpid() and owner_alive(journal):
        raise MachineBusy(
            f"The build {journal.marker} is not left over: its pipeline, process {journal.owner_pid}, runs.",
            remedy="Wait for it, or cancel it with `invoke job.cancel`.",
        )
    return end_processes(lambda: find_survivors(journal), grace_seconds)


def end_processes(find: Callable[[], list[psutil.Process]], grace_seconds: float) -> list[int]:
    """Terminates what `find` returns, kills what is left after the grace, until nothing is found.

    Returns the pids of what could not be ended.
    """
    begun = time.monotonic()
    terminated: set[psutil.Process] = set()
    while processes := find():
        elapsed = time.monotonic() - begun
        if elapsed > grace_seconds + UNKILLABLE_SECONDS:
            break
        for process in processes:
            if elapsed >= grace_seconds:
                _signal(process, signal.SIGKILL)
            elif process not in terminated:
                terminated.add(process)
                _signal(process, signal.SIGTERM)
                _signal(process, signal.SIGCONT)
        time.sleep(_INTERVAL_SECONDS)
        _bury(processes)
    return [process.pid for process in processes]


def _belongs(stat: Stat, journal: Journal, known: Iterable[tuple[int, int]]) -> bool:
    if stat.state in "ZX":
        return False
    if _same_place(journal):
        own = {
            (journal.pid, journal.start_ticks),
            (journal.watchdog_pid, journal.watchdog_start_ticks),
            *journal.strangers,
            *known,
        }
        if (stat.pid, stat.start_ticks) in own:
            return True
        if journal.pid and stat.session == journal.pid and stat.start_ticks >= journal.start_ticks:
            return True
    wanted = f"{MARKER_VARIABLE}={journal.marker}".encode()
    environment = environment_of(stat.pid)
    return wanted in environment and wanted in environment.split(b"\0")


def _same_place(journal: Journal) -> bool:
    return journal.boot_id in (None, boot_id()) and journal.pid_namespace in (None, pid_namespace())


def _ancestors(pid: int, stats: dict[int, Stat]) -> list[int]:
    found: list[int] = []
    while pid in stats and stats[pid].parent:
        pid = stats[pid].parent
        found.append(pid)
    return found


def _signal(process: psutil.Process, number: int) -> None:
    if process.is_running():
        send(process.pid, number)


def _bury(processes: Iterable[psutil.Process]) -> None:
    """Takes the exit status of those that have become this process's children."""
    for process in processes:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)

"""What tells this machine, this boot, this process and this random draw from every other."""

from __future__ import annotations

import os
import secrets
from functools import cache
from pathlib import Path
from typing import Protocol

import psutil
import uuid_utils


class Randomness(Protocol):
    """Where random things are drawn; a simulation hands in a seeded one."""

    def op(self) -> str:
        """Returns a new operation id: 32 hexadecimal digits, ordered by time (UUID version 7)."""

    def hex(self) -> str:
        """Returns 32 random hexadecimal digits."""

    def fraction(self) -> float:
        """Returns a number from 0 up to 1, for jitter."""


class SystemRandomness:
    """The operating system's own."""

    def op(self) -> str:
        return uuid_utils.uuid7().hex

    def hex(self) -> str:
        return secrets.token_hex(16)

    def fraction(self) -> float:
        return secrets.randbelow(1 << 30) / (1 << 30)


class Processes(Protocol):
    """Which processes live; named so that a reused pid or a reboot is never taken for the same."""

    def myself(self) -> str:
        """Returns this process's name."""

    def alive(self, process: str) -> bool:
        """Says whether that very process still lives. An unreadable name counts as dead."""


@cache
def machine_id() -> str:
    """Returns the machine's id, or the boot's where there is none."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            return text
    return boot_id()


@cache
def boot_id() -> str:
    """Returns the id that the kernel drew when it booted."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    return Path("/proc/self/ns/pid").readlink().name


def _start_time(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return stat.rpartition(")")[2].split()[19]


class SystemProcesses:
    """Reads /proc. A name holds boot, pid namespace, pid and start time."""

    def myself(self) -> str:
        pid = os.getpid()
        return f"{boot_id()}/{_namespace()}/{pid}/{_start_time(pid)}"

    def alive(self, process: str) -> bool:
        parts = process.split("/")
        if len(parts) != 4 or parts[0] != boot_id():
            return False
        if parts[1] != _namespace():
            return True  # another container's process: never declared dead from outside
        try:
            return _start_time(int(parts[2])) == parts[3] and psutil.pid_exists(int(parts[2]))
        except (OSError, ValueError, IndexError):
            return False

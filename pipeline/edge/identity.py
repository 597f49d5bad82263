"""What tells this machine, this boot, this process and this random draw from every other."""

from __future__ import annotations

import os
import secrets
from functools import cache
from pathlib import Path
from typing import Protocol

import uuid_utils

from pipeline.edge.procfs import boot_id, lives, process_name
from pipeline.errors import UsageError

__all__ = [
    "Processes",
    "Randomness",
    "SystemProcesses",
    "SystemRandomness",
    "boot_id",
    "expanded",
    "machine_id",
    "user_home",
]


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


class SystemProcesses:
    """Reads /proc, by the names that `procfs` gives."""

    def myself(self) -> str:
        return process_name(os.getpid())

    def alive(self, process: str) -> bool:
        return lives(process)


def user_home() -> Path:
    """Returns the user's home; a place that nobody has where neither $HOME nor the system knows one."""
    try:
        return Path.home()
    except RuntimeError:  # a user id without an entry, as containers have them
        return Path("/nonexistent")


def expanded(path: str) -> Path:
    """Returns a path with its `~` or `~user` replaced. Raises UsageError where nobody knows that home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:
        raise UsageError(
            f"`{path}` begins with a home directory that this machine does not know.",
            remedy="Write the path from `/` on, or `./~…` for a folder of that name.",
        ) from exc

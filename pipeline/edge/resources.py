"""What the machine has left: disk and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import psutil


class Resources(Protocol):
    """Two readings, in bytes."""

    def disk_free_bytes(self, path: Path) -> int:
        """Returns what an ordinary user may still write on the file system of `path`."""

    def memory_available_bytes(self) -> int:
        """Returns what programs can still take without swapping."""


class SystemResources:
    """This machine's own."""

    def disk_free_bytes(self, path: Path) -> int:
        return int(psutil.disk_usage(str(path)).free)

    def memory_available_bytes(self) -> int:
        return int(psutil.virtual_memory().available)

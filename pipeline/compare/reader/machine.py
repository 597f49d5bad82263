"""What a reader says of its machine, and what it needs of it: open files, and an end when nobody asks."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import threading
from pathlib import Path
from typing import Dict, Optional

_HANGUP = getattr(select, "POLLRDHUP", 0x2000)


def facts() -> Dict[str, Optional[str]]:
    """Returns the machine's id, its boot's, its name and the user's number; None: not known."""
    return {
        "machine": _first(("/etc/machine-id", "/var/lib/dbus/machine-id"), r"[0-9a-f]{32}"),
        "boot": _first(("/proc/sys/kernel/random/boot_id",), r"[0-9a-f-]{36}"),
        "host": os.uname().nodename[:255],
        "user": str(os.geteuid()),
    }


def _first(paths: "tuple[str, ...]", form: str) -> Optional[str]:
    for path in paths:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if re.fullmatch(form, text) and text.strip("0-"):
            return text
    return None


def allow_files() -> int:
    """Lets this process open as many files as the machine permits, and returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def end_with(descriptor: int) -> None:
    """Ends this process, whatever it does then, once nobody can ask through `descriptor` any more."""

    def watch() -> None:
        poll = select.poll()
        poll.register(descriptor, _HANGUP)
        poll.poll()  # nothing but its end is reported, and errors
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Leave a daemon behind, then stand still: hang.py PID-FILE SECONDS DAEMON-SECONDS STUBBORN.

The daemon has left the session and the process group of the build and is a child of nobody in it (setsid between
two forks), its streams lead nowhere, and it ignores SIGHUP and SIGINT; when STUBBORN is "true", SIGTERM as well.
Its process id is in PID-FILE and in the log.
"""

import os
import signal
import sys
import time
from pathlib import Path


def become_daemon(pid_file: Path, seconds: float, stubborn: bool) -> None:
    """Run as the daemon, in a process that was just forked. Never returns."""
    os.setsid()
    if os.fork():
        os._exit(0)
    for ignored in (signal.SIGHUP, signal.SIGINT, *([signal.SIGTERM] if stubborn else [])):
        signal.signal(ignored, signal.SIG_IGN)
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    written = pid_file.with_suffix(".tmp")
    written.write_text(f"{os.getpid()}\n")
    written.replace(pid_file)
    time.sleep(seconds)
    os._exit(0)


def main() -> None:
    pid_file, seconds, daemon_seconds = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    pid_file.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        become_daemon(pid_file, daemon_seconds, sys.argv[4] == "true")
    os.waitpid(child, 0)
    while not pid_file.exists():
        time.sleep(0.01)
    print(f"Straggler runs as process {pid_file.read_text().strip()} for {daemon_seconds:g} s", flush=True)
    if seconds:
        print(f"Standing still for {seconds:g} s", flush=True)
        time.sleep(seconds)


if __name__ == "__main__":
    main()

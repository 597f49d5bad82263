"""A lock between processes on one machine, held while a block of code runs. The kernel frees it at death."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.edge.clock import SystemClock

LOOK_SECONDS = 0.2


@contextmanager
def file_lock(
    path: Path, on_wait: Callable[[], None] = lambda: None, each: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Holds the lock file `path` exclusively; `on_wait` is called once when somebody else holds it.

    `each` is called every `LOOK_SECONDS` meanwhile; what it raises ends the waiting. Two threads exclude each
    other as two processes do. The file stays. Raises OSError when it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    try:
        if not _try_lock(descriptor):
            clock = SystemClock()
            on_wait()
            each()
            while not _try_lock(descriptor):
                clock.sleep(LOOK_SECONDS)
                each()
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""One contender for an outside lock, as a process of its own: acquire, work, release, again and again.

Usage: python -m tests.cluster.contender ROUNDS TTL JOURNAL
The journal is the thing outside: a file to which each holder appends `enter TOKEN` and `leave TOKEN`. It
stands for a resource that everybody can reach, so two holders at once would show as interleaved lines.
It begins once the file JOURNAL.go is there, so that contenders begin together. Between two rounds it pauses
for three times what a push takes: who writes without a pause always knows the tip that it pushes on, and
whoever has to read first hardly gets as far as the queue, which is what makes the lock fair.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pipeline.operations.lease import hold
from pipeline.runtime import make_site


def main() -> None:
    """Runs the rounds."""
    rounds, ttl, journal = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    site = make_site()
    handle = os.open(journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    Path(f"{journal}.{site.builder}").touch()
    while not Path(f"{journal}.go").exists():
        time.sleep(0.01)
    for _ in range(rounds):
        with hold(site, ["promotion"], ttl=ttl) as lease:
            lease.insist()
            token = lease.tokens["promotion"]
            os.write(handle, f"enter {token} {site.builder}\n".encode())
            lease.insist()
            os.write(handle, f"leave {token} {site.builder}\n".encode())
            begun = time.monotonic()
        time.sleep(3 * (time.monotonic() - begun))
    os.close(handle)
    site.ledger.store.close()


if __name__ == "__main__":
    main()

"""A build that kills itself, `kill -9`, at a named point.

    python -m tests.cluster.killed POINT BRANCH [JOB | on=BUILDERS]

A point is a name, with `#n` for its n-th time. Names come from the Site's own steps ("checked out"), from the
ref store ("push": before it, "pushed": the server has applied it, its answer is not processed) and from the
outbox ("enqueued", "attempt begun", "settled", "taken"). Only ports are wrapped; the rest is the product.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from pipeline.console.build import show_build
from pipeline.console.terminal import say
from pipeline.ledger.leader import Settings
from pipeline.ledger.ledger import Ledger
from pipeline.operations.build import Order, build
from pipeline.runtime import make_site


class Killer:
    """Counts how often each point was reached, and ends this process at the one that was asked for."""

    def __init__(self, point: str) -> None:
        self._name, _, number = point.partition("#")
        self._left = int(number or 1)

    def at(self, name: str) -> None:
        """Notes that a point was reached."""
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Told:
    """Another object, with a point before or after some of its methods."""

    def __init__(self, inner: Any, killer: Killer, before: dict[str, str], after: dict[str, str]) -> None:
        self._inner, self._killer, self._before, self._after = inner, killer, before, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._before and name not in self._after:
            return found

        def call(*args: Any, **options: Any) -> Any:
            self._killer.at(self._before.get(name, ""))
            value = found(*args, **options)
            self._killer.at(self._after.get(name, ""))
            return value

        return call


def main() -> None:
    """Builds, as the task does."""
    point, branch = sys.argv[1:3]
    killer = Killer(point)
    site = make_site(say)
    site.step = killer.at
    arrows = {"enqueue": "enqueued", "begin_attempt": "attempt begun", "settle": "settled", "take": "taken"}
    store: Any = Told(site.ledger.store, killer, {}, arrows)
    refs: Any = Told(site.ledger.refs, killer, {"push": "push"}, {"push": "pushed"})
    site.ledger = Ledger(
        store,
        refs,
        site.decide,
        site.adopt,
        site.clock,
        site.random,
        site.processes,
        Settings(author=site.builder, reducer=site.reducer),
    )
    more = next(iter(sys.argv[3:]), "")
    on = more.removeprefix("on=") if more.startswith("on=") else None
    order = Order(branch=branch, on=on, job=None if on else more or None)
    sys.exit(show_build(build(site, order), as_json=True))


if __name__ == "__main__":
    main()

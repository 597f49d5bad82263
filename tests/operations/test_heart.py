"""Promises of the heart: when it beats, and when it stops."""

from __future__ import annotations

import threading
from typing import Any

from pipeline.edge.identity import SystemRandomness
from pipeline.operations.heart import Heart


class Pulse:
    """Counts beats; the remote has nothing to read."""

    def __init__(self) -> None:
        self.beats = 0
        self.stopped: list[str] = []
        self.beaten = threading.Event()
        self.refs: Any = self

    def renew(self, kind: str, nonces: dict[str, str], progress: Any) -> None:
        self.beats += 1
        if self.beats == 2:
            self.beaten.set()

    def fetch(self) -> None:
        return None

    def stop(self, name: str) -> None:
        self.stopped.append(name)


def heart(pulse: Pulse, interval: float) -> Heart:
    """Returns a heart over a pulse that only counts."""
    return Heart(pulse, "job_a", "1.1.x", interval, SystemRandomness(), dict)  # type: ignore[arg-type]


def test_a_short_build_needs_no_beat() -> None:
    """The claim was a sign of life: a build that is over at once beats never, and waits for no beat."""
    pulse = Pulse()
    with heart(pulse, 30.0):
        pass
    assert (pulse.beats, pulse.stopped) == (0, ["1.1.x"])


def test_it_beats_on() -> None:
    """With a short interval the first beat comes after it, and further ones follow."""
    pulse = Pulse()
    with heart(pulse, 0.01):
        assert pulse.beaten.wait(10)
    assert pulse.beats >= 2

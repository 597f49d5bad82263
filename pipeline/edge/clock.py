"""Reads time. The only module of the product, beside process supervision, that asks a clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Three readings and a wait. Leases use `boottime` only; `now` is for people and records."""

    def now(self) -> datetime:
        """Returns wall-clock time in UTC, whole seconds."""

    def boottime(self) -> float:
        """Returns seconds since boot, suspension included (CLOCK_BOOTTIME)."""

    def sleep(self, seconds: float) -> None:
        """Waits."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock that moves only when it is told to, or slept on."""

    def __init__(self, now: datetime, boottime: float = 1000.0) -> None:
        self._now = now.timestamp()
        self._boot = boottime

    def now(self) -> datetime:
        return datetime.fromtimestamp(int(self._now), UTC)

    def boottime(self) -> float:
        return self._boot

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Moves both clocks on."""
        self._now += seconds
        self._boot += seconds

    def step_wall(self, seconds: float) -> None:
        """Steps the wall clock alone, as an operator or NTP would."""
        self._now += seconds

"""How long a build still takes, from the last successful ones. Pure.

The work of a module is its duration in former builds (the median). The work that is done now is looked up on
the time axis of the last successful build: there the same work was done after t of its w seconds. What is
left is w − t, times the pace of this build (its own elapsed time over t, drawn towards 1 while t is small).
So it holds for sequential and for parallel reactors, and learns within a build that the machine is slower.
Only successful builds may be given: a build that failed quickly is not a quick build.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from pipeline.records.builds import ModuleTime

#: How much of a former build has to be behind before this build's own pace counts for half.
_TRUST = 0.1
_SLOWEST, _FASTEST = 8.0, 0.125


def time_left(
    history: Sequence[Sequence[ModuleTime]],
    modules: Sequence[ModuleTime],
    elapsed: float,
    *,
    packaging: Sequence[float] = (),
    maven_ended: float | None = None,
) -> float | None:
    """Returns the seconds that a build still takes; None without history.

    `history` holds the modules of the last successful builds, newest first, `packaging` the seconds that
    they took after Maven. `modules` are this build's so far, `elapsed` its seconds, and `maven_ended` when
    its reactor was through, in seconds since its start.
    """
    timeline = _timeline(history[0]) if history else []
    if not timeline:
        return None
    wall = max(end for _, end, _ in timeline)
    after = median(packaging) if packaging else 0.0
    if maven_ended is not None:
        pace = _pace(maven_ended, wall, wall)
        return max(0.0, after * pace - (elapsed - maven_ended))
    usual = _usual(history)
    former = {name for _, _, name in timeline}
    done = sum(_done(module, usual, elapsed) for module in modules if module.name in former)
    position = _position(timeline, done)
    pace = _pace(elapsed, position, wall)
    new = [m for m in modules if m.name not in former and m.status in ("running", "skipped")]
    lanes = max(1.0, sum(end - start for start, end, _ in timeline) / wall)
    extra = len(new) * median(usual.values()) / lanes
    return (wall - position + after + extra) * pace


def _timeline(modules: Sequence[ModuleTime]) -> list[tuple[float, float, str]]:
    """Returns (start, end, name) of a former build; without recorded starts, one module after the other."""
    found, clock = [], 0.0
    for module in modules:
        if module.duration_seconds is None or module.duration_seconds < 0 or module.status != "success":
            continue
        start = clock if module.started_seconds is None else max(0.0, module.started_seconds)
        clock = start + module.duration_seconds
        found.append((start, clock, module.name))
    return found if any(end > 0 for _, end, _ in found) else []


def _usual(history: Sequence[Sequence[ModuleTime]]) -> dict[str, float]:
    durations: dict[str, list[float]] = {}
    for build in history:
        for start, end, name in _timeline(build):
            durations.setdefault(name, []).append(end - start)
    return {name: median(values) for name, values in durations.items()}


def _done(module: ModuleTime, usual: dict[str, float], elapsed: float) -> float:
    whole = usual[module.name]
    if module.status == "running":
        # A module that takes longer than ever is nearly, but never quite, done.
        return min(max(0.0, elapsed - (module.started_seconds or 0.0)), 0.95 * whole)
    return 0.0 if module.status == "skipped" else whole


def _position(timeline: Sequence[tuple[float, float, str]], done: float) -> float:
    """Returns when the former build had done this much work, in seconds since its start."""
    changes = sorted([(start, 1) for start, _, _ in timeline] + [(end, -1) for _, end, _ in timeline])
    clock, lanes, work = 0.0, 0, 0.0
    for at, change in changes:
        step = (at - clock) * lanes
        if lanes and work + step >= done:
            return clock + (done - work) / lanes
        clock, work, lanes = at, work + step, lanes + change
    return clock


def _pace(elapsed: float, position: float, wall: float) -> float:
    prior = _TRUST * wall
    return min(_SLOWEST, max(_FASTEST, (elapsed + prior) / (position + prior)))

"""Is this machine's clock ahead of everybody's? That it is behind, the checks of a build see by the commit.

No clock is believed, another builder's as little as this one's. But the ledger has an order that no clock
made: what another builder wrote AFTER this one cannot be days older. That is a contradiction, and refuses a
build. What is only odd is said as a note: a clock that was set ahead while this machine ran (which may have
been a correction), and a ledger and a machine on which nothing has happened for a year.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from pipeline.builds.checks import Check
from pipeline.operations import site as sites
from pipeline.operations.site import Site
from pipeline.records import paths
from pipeline.records.decisions import View
from pipeline.records.messages import Messages

#: Two clocks that differ by less are merely two clocks.
_APART = timedelta(days=1)
_LONG = timedelta(days=365)
_NAME = "clock"
#: What changes on a machine that is used.
_USED = (Path("/var/lib/dpkg/status"), Path("/var/lib/systemd/timesync/clock"), Path("/var/log/wtmp"))
_REMEDY = "Set whichever is wrong: `timedatectl set-ntp true`, there or here."


class Entry(NamedTuple):
    """Something dated in the ledger: who wrote it, and when by the clock of that builder."""

    builder: str
    when: datetime


def contradiction(
    entries: Sequence[Entry], me: str, now: datetime, not_before: datetime | None = None
) -> tuple[Entry, Entry] | None:
    """Returns an entry of this builder and a later one of another that is dated days before it. PURE.

    `entries` are in commit order; the last that tells anything counts. An own one that lies in the future
    was written by a clock that has been set right since; another's from before `not_before`, when something
    had happened already, by a clock that is behind.
    """
    mine: Entry | None = None
    found = None
    for entry in entries:
        if entry.builder == me:
            mine = entry if entry.when <= now + _APART else None
        elif mine is not None and not (not_before and entry.when < not_before - _APART):
            found = (mine, entry) if mine.when - entry.when > _APART else None
    return found


def check_ahead(
    site: Site, view: View, *, not_before: datetime | None = None, used: Sequence[Path] = _USED
) -> list[Check]:
    """Looks for signs that the clock is ahead; none is an empty list. A note is a check that is passed.

    `not_before` is a moment that has certainly passed, such as the commit's that is to be built.
    """
    now = site.clock.now()
    messages = [Entry(m.sender, m.timestamp) for m in sites.record(view, Messages, paths.MESSAGES).messages]
    jobs = [Entry(job.requested_by, job.created_at) for job in sites.jobs(view).jobs]
    found = contradiction(messages, site.builder, now, not_before) or contradiction(
        jobs, site.builder, now, not_before
    )
    stepped = _stepped(site, now)
    if found is not None:
        mine, other = found
        words = f"the clock is ahead of {other.builder}'s by {(mine.when - other.when).days} days: after what"
        words += f" this machine wrote at {_said(mine.when)}, {other.builder} wrote at {_said(other.when)}"
        return [Check("clock: ahead", False, words, _REMEDY)]
    checks = []
    if stepped > _APART:
        words = f"the clock was set ahead by {stepped.days} days while this machine ran, since its last look"
        checks.append(Check("clock: set", True, words))
    last = max([entry.when for entry in [*messages, *jobs]], default=None)
    written = max(map(_written, used), default=0.0)
    if last is not None and now - last > _LONG and 0 < written < (now - _LONG).timestamp():
        words = f"the clock says {_said(now)}, but nothing in the ledger is younger than {_said(last)}, and"
        words += f" nothing on this machine than {_said(datetime.fromtimestamp(written, UTC))}:"
        words += " if it was in use since, the clock is ahead"
        checks.append(Check("clock: far ahead", True, words))
    return checks


def _written(place: Path) -> float:
    try:
        return place.stat().st_mtime
    except OSError:
        return 0.0


def _said(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"


def _stepped(site: Site, now: datetime) -> timedelta:
    """Returns by how much the wall clock went ahead of the time since boot, after the last look."""
    boottime, boot = site.clock.boottime(), site.boot()
    kept = site.ledger.store.observation(_NAME) or {}
    site.ledger.store.observe(_NAME, {"boot": boot, "boottime": boottime, "wall": now.timestamp()})
    then, wall = kept.get("boottime"), kept.get("wall")
    if kept.get("boot") != boot or not (isinstance(then, int | float) and isinstance(wall, int | float)):
        return timedelta()
    seconds = (now.timestamp() - wall) - (boottime - then)
    return timedelta(seconds=seconds) if abs(seconds) < 1e10 else timedelta()

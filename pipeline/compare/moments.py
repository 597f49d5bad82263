"""Whether what differs is the time of each build itself: its values hold moments at which it ran. PURE.

A random number never does so, build after build. What is found needs no clock to be set: each of several
builds tells its own hour, and none another's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

#: So many builds have to tell their own moment, and so many different moments.
_BUILDS: Final = 3
_MOMENTS: Final = 2
#: Zip files count in steps of two seconds, and a build's own hour is noted to the second.
_SLACK: Final = timedelta(seconds=3)

_NAMES: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS: Final = {name: number for number, name in enumerate(_NAMES, start=1)}
_CLOCK = r"(?P<H>[0-2]?\d):(?P<M>[0-5]\d)(?::(?P<S>[0-6]\d))?(?:[.,]\d{1,9})?"
_FORMS: Final = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<y>\d{{4}})[-./](?P<m>\d{{1,2}})[-./](?P<d>\d{{1,2}})(?:[T ,]+{_CLOCK})?",
        rf"(?P<b>[a-z]{{3}})[a-z]* +(?P<d>\d{{1,2}}) +{_CLOCK}(?: ?[A-Z+:\d-]{{1,9}})? (?P<y>\d{{4}})",
        rf"(?P<d>\d{{1,2}})[ -](?P<b>[a-z]{{3}})[a-z]*[ -](?P<y>\d{{4}})(?:[T ,]+{_CLOCK})?",
        rf"(?P<b>[a-z]{{3}})[a-z]* +(?P<d>\d{{1,2}}),? +(?P<y>\d{{4}})(?:[T ,]+{_CLOCK})?",
        r"(?<!\d)(?P<y>20\d\d)(?P<m>\d\d)(?P<d>\d\d)(?:[T.-]?(?P<H>[0-2]\d)(?P<M>[0-5]\d)(?P<S>[0-6]\d)?)?(?!\d)",
    )
]
_EPOCH: Final = re.compile(r"(?<![\d.])(1[0-9]\d{8})(?:\d{3}|\.\d{1,9})?(?!\d)")


@dataclass(frozen=True)
class Told:
    """What one build has of a leaf, when it ran, and its time zone by name."""

    value: str
    begun: datetime
    ended: datetime
    timezone: str | None


def tells_its_time(builds: Sequence[Told]) -> bool:
    """Says whether each of these builds holds a moment of its own run, and which build it was can be seen.

    Of less than three builds, or where all hold the same, nothing is said.
    """
    moments = [set(_own(each)) for each in builds]
    if len(builds) < _BUILDS or not all(moments):
        return False
    return len({min(each) for each in moments}) >= _MOMENTS


def _own(told: Told) -> Iterator[datetime]:
    """Yields the moments in a build's value at which it ran; days count as a whole."""
    for moment, length in _moments(told):
        if moment <= told.ended + _SLACK and moment + length >= told.begun - _SLACK:
            yield moment


def _moments(told: Told) -> Iterator[tuple[datetime, timedelta]]:
    for found in _EPOCH.finditer(told.value):
        yield datetime.fromtimestamp(int(found[1]), UTC), timedelta(0)
    for pattern in _FORMS:
        for found in pattern.finditer(told.value):
            parts = found.groupdict()
            month = _MONTHS.get((parts.get("b") or "").lower()) or int(parts.get("m") or 0)
            hour = parts.get("H")
            length = timedelta(0) if parts.get("S") else timedelta(minutes=1) if hour else timedelta(days=1)
            for zone in _zones(told.timezone):
                try:
                    yield (
                        datetime(
                            int(parts["y"]),
                            month,
                            int(parts["d"]),
                            int(hour or 0),
                            int(parts.get("M") or 0),
                            int(parts.get("S") or 0),
                            tzinfo=zone,
                        ).astimezone(UTC),
                        length,
                    )
                except (ValueError, OverflowError):
                    continue


def _zones(name: str | None) -> list[tzinfo]:
    """Returns the zones in which a moment may have been written: the build's own, and UTC."""
    try:
        return [UTC, ZoneInfo(name)] if name else [UTC]
    except (ValueError, OSError, KeyError):  # a name that this machine does not know
        return [UTC]

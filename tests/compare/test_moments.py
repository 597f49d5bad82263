"""A clock is named by what it leaves behind: each build's own hour in that build's own file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from pipeline.compare.moments import Told, tells_its_time

WHEN = datetime(2026, 11, 25, 23, 58, 10, tzinfo=UTC)


def builds(form: str, *, count: int = 4, zone: str = "UTC", wrong: timedelta = timedelta(0)) -> list[Told]:
    """Makes builds of a minute each, two minutes apart, that write their middle in a form."""
    made = []
    offset = timezone(timedelta(hours=14)) if zone == "Pacific/Kiritimati" else UTC
    for number in range(count):
        begun = WHEN + number * timedelta(minutes=2)
        moment = (begun + timedelta(seconds=30) + wrong).astimezone(offset)
        value = form.replace("EPOCH", str(int(moment.timestamp())))
        made.append(Told(moment.strftime(value), begun, begun + timedelta(minutes=1), zone))
    return made


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati"])
@pytest.mark.parametrize(
    "form",
    [
        "#%a %b %d %H:%M:%S UTC %Y",
        "#%a %b %d %H:%M:%S GMT+14:00 %Y",
        "Generated on %Y-%m-%dT%H:%M:%SZ by hand",
        "built %d-%b-%Y %H:%M",
        "%B %d, %Y, %H:%M:%S",
        "a/B.class: %Y-%m-%d %H:%M:%S",
        "stamp=%Y%m%d%H%M%S",
        "stamp=%Y%m%d.%H%M",
        "time: EPOCH",
        "time: EPOCH123",
        "EPOCH.5 and 2011-02-03",
    ],
)
def test_a_build_tells_its_own_hour(form: str, zone: str) -> None:
    """In each usual form, in the build's zone and in UTC; an hour that is not the build's own is none."""
    assert tells_its_time(builds(form, zone=zone))
    assert not tells_its_time(builds(form, zone=zone, wrong=timedelta(minutes=5)))


def test_a_day_is_told_where_builds_are_of_different_days() -> None:
    """A date without an hour is the build's where it changes with the day."""
    assert tells_its_time(builds("%d %B %Y"))
    assert tells_its_time(builds("%Y-%m-%d"))
    assert not tells_its_time([each for each in builds("%Y-%m-%d", count=6) if each.begun.day == 26])


@pytest.mark.parametrize(
    ("form", "count"),
    [
        ("%Y-%m-%d %H:%M:%S", 2),
        ("2026-11-25 23:58:40", 4),
        ("0.7312", 4),
        ("EPOC", 4),
        ("", 4),
        ("99999-99-99", 4),
    ],
)
def test_little_or_nothing_is_no_clock(form: str, count: int) -> None:
    """Two builds are too few; a moment that is always the same, or none at all, is nobody's own."""
    assert not tells_its_time(builds(form, count=count))


def test_a_zone_that_nobody_knows_leaves_utc() -> None:
    """A manifest may state anything as its time zone."""
    assert tells_its_time(
        [Told(each.value, each.begun, each.ended, "../etc/passwd\0") for each in builds("%c")]
    )

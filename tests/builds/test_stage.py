"""What a machine can be for a build that is made again, and what of a manifest is never believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.builds.stage import Stage, look, values_of
from pipeline.builds.workspace import FIXED_ROOT
from pipeline.records.builds import Environment

OWN = {"timezone": "UTC", "locale": "C.UTF-8", "umask": "022", "user": "root(0)", "host": "vm", "cores": "4"}
STAGE = Stage(
    own=OWN,
    processors=(0, 1, 4, 5),
    speaks=lambda locale: locale in ("C", "C.UTF-8"),
    mounts=None,
    apart=None,
    backwards="disorderfs is not installed",
    grounds=Path("/srv/pipeline"),
)
FOLDER = "/srv/pipeline/work-build2/jobs/job_1.1/build/cloudstack"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timezone", "../../etc/shadow"),
        ("timezone", ":/etc/shadow"),
        ("locale", "C/../../x"),
        ("umask", "0777"),
        ("umask", "9"),
        ("host", "a\nb"),
        ("host", "-a"),
        ("user", "ann:x:0:0"),
        ("user", "Ann\nroot"),
        ("folder", "/srv/a b/build/cloudstack"),
        ("folder", "relative"),
        ("cores", 0),
    ],
)
def test_what_is_odd_is_not_taken(name: str, value: object) -> None:
    """A manifest may state anything: what does not look like one of its kind counts as not stated."""
    stated = Environment(timezone="UTC", locale="C", umask="022", host="h", user="u", user_id=1, cores=2)
    assert set(values_of(stated)) == {"timezone", "locale", "umask", "host", "user", "cores"}
    assert name not in values_of(stated.model_copy(update={name: value}))


def test_a_user_without_a_number_is_none() -> None:
    """Name and number are one thing."""
    assert values_of(Environment(user="ann")) == {}
    assert values_of(Environment(user="ann", user_id=7)) == {"user": "ann(7)"}


def test_a_build_is_given_what_differs_from_the_machine() -> None:
    """What is the machine's own is left as it is; what is not is set, processors by their numbers."""
    varied = STAGE.variation(OWN)
    assert (varied.user, varied.host, varied.processors, varied.backwards) == (None, None, (), False)
    assert (varied.timezone, varied.locale, varied.umask) == ("UTC", "C.UTF-8", "022")
    other = STAGE.variation({**OWN, "user": "ann(7)", "host": "far", "cores": "3", "order": ""})
    assert (other.user, other.number, other.host) == ("ann", 7, "far")
    assert (other.processors, other.backwards) == ((0, 1, 4), True)
    assert STAGE.variation({**OWN, "cores": "64"}).processors == (0,), "fewer is another number as well"


@pytest.mark.parametrize(
    ("thing", "value", "why"),
    [
        ("timezone", "Asia/Tokyo", None),
        ("locale", "C.UTF-8", None),
        ("locale", "de_DE.UTF-8", "the locale de_DE.UTF-8 is not installed here"),
        ("user", "root(0)", None),
        ("user", "ann(7)", "not permitted"),
        ("host", "far", "not permitted"),
        ("cores", "64", None),
        ("order", "", "disorderfs is not installed"),
    ],
)
def test_why_something_cannot_be_had_is_told(thing: str, value: str, why: str | None) -> None:
    """What the machine is already can always be had; another user only where the kernel allows it."""
    assert replace(STAGE, apart="not permitted").why_not(thing, value) == why


def test_one_processor_cannot_be_another_number() -> None:
    """A machine of one processor, or without taskset, says so."""
    small = replace(STAGE, processors=(0,), own={**OWN, "cores": "1"})
    assert small.why_not("cores", "8") == "there are only 1 here"
    assert small.why_not("cores", "1") is None


def test_a_folder_is_seen_where_it_was(tmp_path: Path) -> None:
    """The fixed path, and folders of this machine's own builders, are mounted; no other place is."""
    assert STAGE.place(tmp_path, f"{FIXED_ROOT}/build/cloudstack").at == FIXED_ROOT
    seen = STAGE.place(tmp_path, FOLDER)
    assert (seen.fixed, seen.build_path("job_1", 1)) == (True, FOLDER)
    for other in ("/usr/build/cloudstack", "/srv/pipeline/../../etc/build/cloudstack", "/home/ci/tree"):
        place = STAGE.place(tmp_path, other)
        assert not place.fixed
        assert place.work.parent == tmp_path
        assert not STAGE.exact("folder", other)
    one, two = (
        STAGE.place(tmp_path, folder).work for folder in ("/a/build/cloudstack", "/b/build/cloudstack")
    )
    assert one != two, "another folder is another one here as well"


def test_without_mounts_each_folder_is_another_one(tmp_path: Path) -> None:
    """Where the kernel allows no mounts, builds lie in one folder for each that was recorded."""
    bare = replace(STAGE, mounts="a mount namespace: Operation not permitted")
    place = bare.place(tmp_path, FOLDER)
    assert (place.fixed, place.why) == (False, "a mount namespace: Operation not permitted")
    assert place == bare.place(tmp_path, FOLDER)


def test_a_machine_is_looked_at(tmp_path: Path) -> None:
    """What it says of itself comes from here; a probe that says no is told as it is."""
    own = Environment(host="vm", user="root", user_id=0, cores=2)
    seen = look(own, tmp_path / "work", tmp_path, lambda *words, **more: "not permitted")
    assert (seen.mounts, seen.apart) == ("not permitted", "not permitted")
    assert seen.own == {"host": "vm", "user": "root(0)", "cores": "2"}
    assert seen.speaks("C")
    assert not seen.speaks("xx_XX.UTF-8")
    assert list((tmp_path / "work").iterdir()) == []

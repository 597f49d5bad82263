"""Which leaves are the same in two builds, as far as the way down to them was open."""

from __future__ import annotations

import pytest

from pipeline.compare.leaf_forms import EQUAL, UNREADABLE, Pair, form_of, key_of, pair_of
from pipeline.records.comparison import ComparedLeaf

JAR = ("a.deb", "data.tar.xz", "data", "./lib/b.jar")
CLASS = (*JAR, "C.class")


def pair(*keys: tuple[tuple[str, ...], str]) -> Pair:
    return pair_of([ComparedLeaf(path=list(path), what=what) for path, what in keys], [])


@pytest.mark.parametrize(
    ("found", "same"),
    [
        (EQUAL, True),
        (UNREADABLE, None),
        (pair((CLASS, "content")), False),
        (pair((JAR, "time")), True),
        (pair(((*JAR, "D.class"), "content")), True),
        # What is above was another file altogether, or was not there.
        (pair((JAR, "content")), None),
        (pair((JAR, "format")), None),
        (pair((JAR[:3], "more entries")), None),
        (pair((JAR, "name")), False),
        (pair((CLASS, "name")), False),
        (pair((CLASS, "format")), False),
    ],
)
def test_content_is_the_same_where_nothing_kept_the_descent_from_it(found: Pair, same: bool | None) -> None:
    """A leaf that was not reached is not known; one that was reached and is not told is the same."""
    assert found.same((CLASS, "content")) is same


def test_a_name_is_there_or_not_whatever_it_holds() -> None:
    """Where both builds have an entry, what is in it says nothing about its name."""
    assert pair((CLASS, "content")).same((CLASS, "name")) is True
    assert pair((CLASS, "name")).same((CLASS, "name")) is False
    assert pair((JAR, "content")).same((CLASS, "name")) is None


def test_packing_is_not_told_where_the_content_differs() -> None:
    """How something is compressed is left out of a descent there: then it is not known to be the same."""
    assert pair((CLASS, "content")).same((JAR, "coding")) is None
    assert pair((CLASS, "content")).same((JAR, "time")) is True
    assert pair(((*JAR[:3], "./other"), "content")).same((JAR, "coding")) is True


def test_a_form_is_that_of_a_build_with_the_same() -> None:
    """A build's form is an earlier one's where they are equal, its own where it equals none."""
    key = key_of(ComparedLeaf(path=list(CLASS), what="content"))
    other, known = pair((CLASS, "content")), {"A": "A", "B": "B", "A1": "A"}
    assert form_of("V", key, known, {"A": EQUAL, "B": other, "A1": EQUAL}) == "A"
    assert form_of("V", key, known, {"A": UNREADABLE, "B": EQUAL, "A1": UNREADABLE}) == "B"
    assert form_of("V", key, known, {"A": other, "B": other, "A1": other}) == "V"
    assert form_of("V", key, known, {"A": other, "B": UNREADABLE, "A1": other}) is None
    assert form_of("V", key, known, {"A": other, "B": other}) is None
    unsure = {**known, "A1": None}
    assert form_of("V", key, unsure, {"A": other, "B": other, "A1": other}) == "V"
    assert form_of("V", key, unsure, {"A": other, "B": other, "A1": EQUAL}) is None

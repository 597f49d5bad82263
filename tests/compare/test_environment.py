"""Where two builds ran: no field that is wrong reads as agreement; the likeliest difference comes first."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.compare.environment import EXPLAINS, compare_environments, compare_surroundings, rank
from pipeline.records.builds import WHERE_AND_WHO, Environment
from pipeline.records.comparison import ComparedLeaf, Difference

TOOLS = {"java": "17.0.9", "maven": "3.8.7", "node": None}


def environment() -> dict[str, Any]:
    """Returns what a builder states, every field of it."""
    stated: dict[str, Any] = {name: f"some {name}" for name in Environment.model_fields}
    listing = {"path": "packages.txt", "count": 1, "size_bytes": 3, "sha256": "a" * 64}
    return {**stated, "user_id": 1, "cores": 2, "varied": [], "toolchain": dict(TOOLS), "packages": listing}


OPERATIONS: dict[str, Any] = {
    "missing": lambda one, name: one.pop(name),
    "null": lambda one, name: one.__setitem__(name, None),
    "empty": lambda one, name: one.__setitem__(name, ""),
    "renamed": lambda one, name: one.__setitem__(f"{name}_", one.pop(name)),
    "other type": lambda one, name: one.__setitem__(name, [one[name]]),
    "text for a number": lambda one, name: one.__setitem__(name, str(one[name])),
    "other case": lambda one, name: one.__setitem__(name, str(one[name]).swapcase()),
    "trailing space": lambda one, name: one.__setitem__(name, f"{one[name]} "),
}
#: Told otherwise: `machine` decides about independence, and what was varied is no property.
COMPARED = sorted(set(Environment.model_fields) - {"machine", "varied"})


def test_equal_environments_do_not_differ() -> None:
    """Nothing is told of two environments that are the same."""
    assert compare_environments(environment(), environment()) == []


def test_every_property_is_compared() -> None:
    """A field that somebody adds to the record has to be given its place."""
    assert set(COMPARED) <= set(EXPLAINS)
    assert set(WHERE_AND_WHO) - {"varied"} <= set(EXPLAINS)


@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", COMPARED)
def test_a_field_that_is_wrong_is_a_difference(name: str, operation: str, side: str) -> None:
    """Each field, each way; on both sides where it then says nothing."""
    left, right = environment(), environment()
    before = environment()[name]
    for word, stated in (("left", left), ("right", right)):
        if side in (word, "both"):
            OPERATIONS[operation](stated, name)
    silent = operation in ("missing", "null", "empty", "renamed")
    changed = left != environment() or right != environment()
    if (side == "both" and not silent and not isinstance(before, dict)) or not changed:
        return
    told = [each.name for each in compare_environments(left, right)]
    assert [each.partition(".")[0] for each in told] == [name] * max(1, len(told))


@pytest.mark.parametrize("garbage", [None, [], "", 0, True, {}])
def test_nothing_is_stated_by_garbage(garbage: Any) -> None:
    """Of two sides that state nothing, everything is told as not known."""
    told = compare_environments(garbage, garbage)
    assert sorted(each.name for each in told) == COMPARED
    assert {(each.left, each.right) for each in told} == {(None, None)}


def test_tools_are_told_one_by_one() -> None:
    """Of toolchains that differ the one tool is named; one that neither has is none."""
    right = environment()
    right["toolchain"]["java"] = "21"
    assert [(each.name, each.left, each.right) for each in compare_environments(environment(), right)] == [
        ("toolchain.java", "17.0.9", "21")
    ]


def test_what_was_downloaded_is_compared_by_digest() -> None:
    """A download of a moving target is told, and the time of each build with it."""
    url = "http://example.org/md5sum.txt"
    left, right = (
        {"environment": environment(), "created_at": when, "downloads": [{"url": url, "sha256": sha256}]}
        for when, sha256 in (("t1", "a"), ("t2", "b"))
    )
    assert [(each.name, each.left, each.right) for each in compare_surroundings(left, right)] == [
        (f"download {url}", "a", "b"),
        ("built_at", "t1", "t2"),
    ]


def difference(name: str, left: str = "one", right: str = "two") -> Difference:
    """Returns a difference of the environment."""
    return Difference(name=name, left=left, right=right)


def test_the_likeliest_comes_first() -> None:
    """What most leaves' causes point at is first, and only causes that were found are named."""
    found = [difference("host"), difference("locale"), difference("timezone"), difference("built_at")]
    ranked = rank(found, {"timestamp": 40, "locale": 3}, [])
    assert [(each.name, each.explains) for each in ranked] == [
        ("timezone", ["timestamp"]),
        ("built_at", ["timestamp"]),
        ("locale", ["locale"]),
        ("host", []),
    ]


def test_the_time_of_a_build_is_told_only_where_it_may_matter() -> None:
    """Two builds never run at the same time: that alone is no news."""
    assert rank([difference("built_at")], {}, []) == []


def test_values_that_are_seen_in_leaves_tell_more_than_causes() -> None:
    """Leaves that hold each side's own host name point at the host, without any cause that is known."""
    leaf = ComparedLeaf(path=["a"], what="content", left="Built-By: alpha", right="Built-By: beta")
    ranked = rank([difference("timezone"), difference("host", "alpha", "beta")], {"timestamp": 5}, [leaf])
    assert [(each.name, each.explains) for each in ranked] == [
        ("host", ["host"]),
        ("timezone", ["timestamp"]),
    ]


@pytest.mark.parametrize(("left", "right"), [("a alpha", "no"), ("alpha beta", "alpha beta"), ("", "")])
def test_a_value_that_both_leaves_hold_points_at_nothing(left: str, right: str) -> None:
    """A side's own value has to be in its leaf, and in its leaf alone."""
    leaf = ComparedLeaf(path=["a"], what="content", left=left, right=right)
    assert rank([difference("host", "alpha", "beta")], {}, [leaf])[0].explains == []

"""The verdict: agreement has to be proved. Every field of what a side states, every way it can be wrong."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.compare.verdicts import Stated, judge, overall, read_stated
from pipeline.compare.wire import Machine, same_machine
from pipeline.records.comparison import ComparedArtifact, ComparedSide, Verdict

A, B = "a" * 64, "b" * 64
AGREEMENT = {Verdict.AGREE, Verdict.AGREE_NORMALISED}


def answer() -> dict[str, Any]:
    """Returns what a sound reader says of two files."""
    return {
        "files": [
            {"path": "one.deb", "size": 10, "inode": "1:1", "stamp": "1:5", "sha256": A, "problem": None},
            {"path": "two.deb", "size": 20, "inode": "1:2", "stamp": "2:5", "sha256": B, "problem": None},
        ]
    }


def other() -> dict[str, Any]:
    """Returns the same of equal files that lie elsewhere."""
    found = answer()
    for one, inode in zip(found["files"], ("2:1", "2:2"), strict=True):
        one["inode"] = inode
        one["stamp"] = f"{inode}9"
    return found


def verdict_of(left: Any, right: Any, same_machine: bool | None = True) -> Verdict:
    """Judges two answers as the product does."""
    sides = [read_stated(left), read_stated(right)]
    if any(isinstance(side, str) for side in sides):
        return Verdict.INCOMPLETE
    one, two = (side for side in sides if not isinstance(side, str))
    problems = [] if one and two else ["empty"]
    return overall(judge(one, two, same_machine=same_machine), problems)


OPERATIONS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "missing": lambda one, name: one.pop(name),
    "null": lambda one, name: one.__setitem__(name, None),
    "empty": lambda one, name: one.__setitem__(name, ""),
    "renamed": lambda one, name: one.__setitem__(name + "_", one.pop(name)),
    "other type": lambda one, name: one.__setitem__(name, [one[name]]),
    "other case": lambda one, name: one.__setitem__(name, str(one[name]).upper()),
    "trailing space": lambda one, name: one.__setitem__(name, f"{one[name]} "),
    "number for text": lambda one, name: one.__setitem__(name, 7.5),
    "truth for a number": lambda one, name: one.__setitem__(name, True),
    "negative": lambda one, name: one.__setitem__(name, -1),
}


def test_equal_files_agree() -> None:
    """Without anything wrong, equal files agree: the other cases of this module are no accident."""
    assert verdict_of(answer(), other()) == Verdict.AGREE


@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", ["path", "size", "sha256", "inode", "stamp"])
def test_a_field_that_is_wrong_never_agrees(name: str, operation: str, side: str) -> None:
    """Each field, each way of being wrong, on one side and on both in the same way."""
    left, right = answer(), other()
    for word, found in (("left", left), ("right", right)):
        if side in (word, "both"):
            OPERATIONS[operation](found["files"][0], name)
    # A name is any text, and what numbers a file is text that is not read: they stay what they are.
    spelled = operation in ("other case", "trailing space")
    if spelled and (name in ("inode", "stamp") or (name == "path" and side == "both")):
        assert verdict_of(left, right) == Verdict.AGREE
        return
    assert verdict_of(left, right) not in AGREEMENT


@pytest.mark.parametrize("problem", ["", 0, False, [], {}, True, 3])
def test_a_problem_that_says_nothing_is_not_no_problem(problem: Any) -> None:
    """Only a missing or null `problem` means that there is none."""
    left = answer()
    left["files"][0]["problem"] = problem
    assert verdict_of(left, other()) not in AGREEMENT


NONE = [{}, {"files": None}, {"files": {}}, {"files": "a"}, {"files": [None]}, {"files": []}, {"digests": {}}]


@pytest.mark.parametrize("answer_of", NONE)
def test_an_answer_that_is_none_never_agrees(answer_of: Any) -> None:
    """Two sides that say the same nothing prove nothing."""
    assert verdict_of(answer_of, copy.deepcopy(answer_of)) not in AGREEMENT


def test_an_unknown_field_beside_the_files_is_refused() -> None:
    """What a reader says beside what it was asked is no answer."""
    assert read_stated({**answer(), "verdict": "AGREE"}) == "the answer holds no files"


def test_a_name_that_comes_twice_is_refused() -> None:
    """The second of two files of one name never stands for both."""
    left = answer()
    left["files"].append(dict(left["files"][0], inode="1:9"))
    assert read_stated(left) == "a name comes twice"


def test_a_missing_artifact_is_incomplete() -> None:
    """An artifact that one side lacks is named, and so is one that both lack though it is expected."""
    one, two = read_stated(answer()), read_stated(other())
    assert not isinstance(one, str)
    assert not isinstance(two, str)
    found = judge(one, two[:1], same_machine=False, expected=["three.deb"])
    assert [(each.name, each.verdict, each.problem) for each in found] == [
        ("one.deb", Verdict.AGREE, None),
        ("three.deb", Verdict.INCOMPLETE, "neither side has it"),
        ("two.deb", Verdict.INCOMPLETE, "the right side lacks it"),
    ]


def test_one_file_on_both_sides_is_incomparable() -> None:
    """A file is equal to itself, which says nothing; on another machine its number is another file's."""
    one = read_stated(answer())
    assert not isinstance(one, str)
    for same in (True, None):
        found = judge(one, one, same_machine=same)
        assert {each.verdict for each in found} == {Verdict.INCOMPARABLE}
    other_time = [replace(each, stamp=f"{each.stamp}0") for each in one]
    assert {each.verdict for each in judge(one, other_time, same_machine=False)} == {Verdict.AGREE}


def test_one_file_under_two_names_is_incomplete() -> None:
    """Two artifacts that are one file are not two artifacts."""
    left, right = (
        [Stated(name, 10, A, f"{side}:1", None) for name in ("one.deb", "two.deb")] for side in (1, 2)
    )
    found = judge(left, right, same_machine=False)
    assert {each.verdict for each in found} == {Verdict.INCOMPLETE}
    assert found[0].problem == "on the left side it is the same file as 'two.deb'"


@pytest.mark.parametrize("worst", list(Verdict))
@pytest.mark.parametrize("beside", list(Verdict))
def test_the_whole_is_no_better_than_its_parts(worst: Verdict, beside: Verdict) -> None:
    """Over all it agrees only if every artifact does, and bit for bit only if every one does so."""
    none = ComparedSide()
    parts = [ComparedArtifact(name=word, verdict=word, left=none, right=none) for word in (worst, beside)]
    whole = overall(parts, [])
    assert whole in (worst, beside)
    assert (whole in AGREEMENT) == ({worst, beside} <= AGREEMENT)
    assert (whole == Verdict.AGREE) == ({worst, beside} == {Verdict.AGREE})
    assert overall(parts, ["something went wrong"]) not in AGREEMENT


def test_nothing_is_no_agreement() -> None:
    """Without any artifact there is nothing that agrees."""
    assert overall([], []) == Verdict.INCOMPLETE


@pytest.mark.parametrize("same_machine", [True, False, None])
def test_nothing_agrees_with_itself(same_machine: bool | None) -> None:
    """One file is incomparable with itself, also where two machines see it on a disk that both mount."""
    assert verdict_of(answer(), answer(), same_machine) == Verdict.INCOMPARABLE


def test_one_builder_does_not_agree_with_itself() -> None:
    """Equal files of one builder prove nothing; what differs in them differs."""
    left, right = read_stated(answer()), read_stated(other())
    assert not isinstance(left, str)
    assert not isinstance(right, str)
    judged = judge(left, right, same_machine=True, same_builder=True)
    assert {each.verdict for each in judged} == {Verdict.INCOMPARABLE}
    changed = [replace(right[0], sha256=B), *right[1:]]
    judged = judge(left, changed, same_machine=True, same_builder=True)
    assert [each.verdict for each in judged] == [Verdict.DIFFER, Verdict.INCOMPARABLE]


IDS = "0" * 31 + "1", "0" * 31 + "2", None


@pytest.mark.parametrize("one", list(itertools.product(IDS, IDS)))
@pytest.mark.parametrize("two", list(itertools.product(IDS, IDS)))
def test_two_machines_have_to_be_shown(one: tuple[str | None, ...], two: tuple[str | None, ...]) -> None:
    """Machines are two where all ids are known and none is shared; they are one where one is."""
    left, right = (Machine(each[0], each[1], "host", "0", "3.8.0", False) for each in (one, two))
    shared = any(a is not None and a == b for a, b in zip(one, two, strict=True))
    expected = True if shared else None if None in (*one, *two) else False
    assert same_machine(left, right) is expected

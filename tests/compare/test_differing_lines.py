"""Two leaves' lines held against each other: all that differs is in them, and they have an end."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence

import pytest

from pipeline.compare.differing_lines import (
    LONGEST_LINE,
    MOST_LINES,
    Lines,
    byte_lines,
    class_lines,
    text_lines,
)


def text(lines: Sequence[str]) -> bytes:
    return "\n".join(lines).encode()


def insist(one: Sequence[str], two: Sequence[str], shown: Lines) -> None:
    """Insists that each line stands where it is said to, and that the left becomes the right by it."""
    made: list[str] = []
    at = beside = 0
    for line in shown.lines:
        sign, rest = line[0], line[1:]
        if sign == "@":
            found = re.fullmatch(r"@ lines? (\d+)(?: and (\d+))?", line)
            assert found is not None
            begin = int(found[1]) - 1
            made += one[at:begin]
            at, beside = begin, int(found[2] or found[1]) - 1
        elif sign == " ":
            assert one[at] == two[beside] == rest
            made.append(rest)
            at, beside = at + 1, beside + 1
        elif sign == "-":
            assert one[at] == rest
            at += 1
        else:
            assert sign == "+"
            assert two[beside] == rest
            made.append(rest)
            beside += 1
    assert [*made, *one[at:]] == list(two)


@pytest.mark.parametrize("letters", [2, 5, 26])
def test_the_left_becomes_the_right(letters: int) -> None:
    """Whatever was put in, taken out and moved: what is shown, applied to the left, makes the right."""
    chance = random.Random(letters)
    for _ in range(400):
        one = [chr(97 + chance.randrange(letters)) for _ in range(chance.randrange(30))]
        two = list(one)
        for _ in range(chance.randrange(6)):
            at = chance.randrange(len(two) + 1)
            two[at : at + chance.randrange(3)] = [chr(97 + chance.randrange(letters))] * chance.randrange(3)
        insist("\n".join(one).split("\n"), "\n".join(two).split("\n"), text_lines(text(one), text(two)))


def test_a_small_change_of_a_large_text_is_small() -> None:
    """Two of 20,000 lines changed are four lines and what is around them, wherever they are."""
    one = [f"line {n}" for n in range(20_000)]
    two = [*one[:100], "other", *one[101:19_000], "another", *one[19_001:]]
    shown = text_lines(text(one), text(two))
    assert [line for line in shown.lines if line[0] in "-+"] == [
        *("-line 100", "+other", "-line 19000", "+another")
    ]
    assert [line for line in shown.lines if line[0] == "@"] == ["@ line 98", "@ line 18998"]
    assert shown.omitted == 0


@pytest.mark.parametrize("kind", ["the same", "two letters", "nothing alike"])
def test_no_text_takes_long(kind: str) -> None:
    """Texts that are hard to align are shown in part, within a second, and what is left out is counted."""
    chance = random.Random(7)
    lines = {
        "the same": lambda n: "x",
        "two letters": lambda n: chance.choice("ab"),
        "nothing alike": lambda n: str(chance.random()),
    }[kind]
    one, two = ([lines(n) for n in range(30_000 + more)] for more in (0, 1))
    begun = time.process_time()
    shown = text_lines(text(one), text(two))
    assert time.process_time() - begun < 5
    assert 0 < len(shown.lines) <= MOST_LINES
    assert kind == "the same" or shown.omitted > 50_000


def test_a_line_that_is_too_long_is_broken() -> None:
    """Generated text on one line is shown where it differs; that it was broken is said."""
    one = "".join(f".a{n} {{color: red;}}" for n in range(1000))
    two = one.replace(".a500 {color: red", ".a500 {color: blue")
    shown = text_lines(one.encode(), two.encode())
    assert [line for line in shown.lines if line[0] in "-+"] == ["-color: red;", "+color: blue;"]
    assert shown.word is not None
    whole = text_lines(b"x" * 5000, b"x" * 4999 + b"y")
    assert all(len(line) <= LONGEST_LINE + 1 for line in whole.lines)
    assert [line[-1] for line in whole.lines if line[0] in "-+"] == ["x", "y"]


def test_bytes_are_shown_where_they_part() -> None:
    """Rows of sixteen from two before the first that differs; what comes after is counted."""
    left, right = bytes(1000) + b"one" + bytes(1000), bytes(1000) + b"two" + bytes(1000)
    shown = byte_lines(left, right, 4096)
    assert [line[:9] for line in shown.lines[:4]] == [" 000013c0", " 000013d0", "-000013e0", "+000013e0"]
    assert shown.lines[2].endswith("  ........one.....")
    assert shown.omitted == 2003 // 16 + 1 - 1000 // 16 + 2 - 32
    assert byte_lines(b"abc", b"abcd", 0).lines[0].startswith("-00000000  61 62 63 ")
    assert byte_lines(b"a" * 16, b"a" * 16 + b"b", 0).lines[-1].startswith("+00000010  62")


CLASS = """Classfile /{folder}/leaf.class
  Last modified Nov 25, 2026; size 7 bytes
  SHA-256 checksum {folder}
public class A
  this_class: #{first}                          // A
Constant pool:
   #1 = Utf8               {constant}
{{
         1: invokespecial #{first},  0                 // Method "<init>":()V
         5: {code}
}}
"""


def javap(**more: str) -> str:
    return CLASS.format(**{"folder": "one", "first": "7", "constant": "x", "code": "iconst_1", **more})


def test_a_class_is_told_by_its_code() -> None:
    """The numbers of constants differ everywhere once one is added: only what they stand for is shown."""
    shown = class_lines(javap(), javap(folder="two", first="12", constant="y", code="iconst_2"))
    assert shown is not None
    assert [line for line in shown.lines if line[0] in "-+"] == [
        *("-         5: iconst_1", "+         5: iconst_2")
    ]
    assert '          1: invokespecial #,  0                 // Method "<init>":()V' in shown.lines


def test_constants_are_shown_where_nothing_else_differs() -> None:
    """Else a class whose constants alone differ would be shown as equal."""
    shown = class_lines(javap(), javap(folder="two", constant="y"))
    assert shown is not None
    assert [line for line in shown.lines if line[0] in "-+"] == [
        *("-   #1 = Utf8               x", "+   #1 = Utf8               y")
    ]
    assert class_lines(javap(), javap(folder="two")) is None

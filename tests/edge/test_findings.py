"""Promises of the findings: what has changed is not taken for what it was, and nothing here is an error."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edge.findings import Findings, file_facts, program_facts
from tests.garbage import damaged


class Asked:
    """An expensive question, and how often it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.times = 0

    def __call__(self) -> Any:
        self.times += 1
        return self.answers[min(self.times, len(self.answers)) - 1]


def test_an_answer_is_found_again_only_with_the_same_facts(tmp_path: Path) -> None:
    """The same facts give the kept answer, also to another process; any other fact asks anew."""
    ask = Asked("one", "two")
    assert Findings(tmp_path / "f").of("x", [1, "a", None], ask) == "one"
    assert Findings(tmp_path / "f").of("x", [1, "a", None], ask) == "one"
    assert ask.times == 1
    assert Findings(tmp_path / "f").of("x", [1, "b", None], ask) == "two"
    assert ask.times == 2


def test_answers_of_different_names_are_apart(tmp_path: Path) -> None:
    """Two questions with the same facts do not get each other's answers."""
    findings = Findings(tmp_path)
    assert findings.of("x", [1], lambda: {"a": ["1"]}) == {"a": ["1"]}
    assert findings.of("y", [1], lambda: "other") == "other"
    assert findings.of("x", [1], Asked("wrong")) == {"a": ["1"]}


@pytest.mark.parametrize(("folder", "facts"), [(None, [1]), ("f", None)])
def test_without_folder_or_facts_it_is_asked_every_time(
    tmp_path: Path, folder: str | None, facts: list[int] | None
) -> None:
    """What cannot be kept, or has no facts to go by, is asked each time."""
    ask = Asked("one", "two")
    findings = Findings(tmp_path / folder if folder else None)
    assert [findings.of("x", facts, ask) for _ in range(2)] == ["one", "two"]


def test_no_answer_is_not_kept(tmp_path: Path) -> None:
    """A program that could not answer is asked again."""
    findings, ask = Findings(tmp_path), Asked(None, "now")
    assert [findings.of("x", [1], ask) for _ in range(3)] == [None, "now", "now"]
    assert ask.times == 2


@pytest.mark.parametrize("left", [b"", b"{", b"\xff", b"[]", b'{"facts": "[1]"}', b"[" * 100_000])
def test_a_damaged_file_is_no_answer(tmp_path: Path, left: bytes) -> None:
    """Whatever a power loss or a hand left in the folder, the question is asked, and its answer kept."""
    (tmp_path / "x.json").write_bytes(left)
    ask = Asked("one")
    assert [Findings(tmp_path).of("x", [1], ask) for _ in range(2)] == ["one", "one"]
    assert ask.times == 1


@given(data=st.data())
def test_any_damage_to_a_file_is_no_answer(data: st.DataObject) -> None:
    """Whatever became of a kept answer's bytes, what is used is what was found; and never anything else."""
    with tempfile.TemporaryDirectory() as folder:
        answer = {"dpkg": ["1.21", None], "debhelper": 13}
        Findings(Path(folder)).of("x", [1], lambda: answer)
        place = Path(folder) / "x.json"
        kept = json.loads(place.read_bytes())
        place.write_bytes(data.draw(damaged(kept)))
        assert Findings(Path(folder)).of("x", [1], lambda: answer) == answer


def test_what_is_no_file_hangs_nobody(tmp_path: Path) -> None:
    """A FIFO in an answer's place is no answer."""
    os.mkfifo(tmp_path / "x.json")
    assert Findings(tmp_path).of("x", [1], lambda: "one") == "one"


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    """The answer is given all the same."""
    (tmp_path / "f").write_text("a file")
    assert Findings(tmp_path / "f").of("x", [1], lambda: "one") == "one"


def test_a_file_that_is_written_or_replaced_has_other_facts(tmp_path: Path) -> None:
    """New bytes of the same length, and a new file with the old one's time, are both noticed."""
    file = tmp_path / "file"
    file.write_text("aaaa")
    os.utime(file, ns=(5, 5))
    first = file_facts(file)
    file.write_text("bbbb")
    os.utime(file, ns=(5, 5))
    second = file_facts(file)
    shutil.copy2(file, tmp_path / "new")
    (tmp_path / "new").replace(file)
    assert first is not None
    assert len({str(facts) for facts in (first, second, file_facts(file))}) == 3
    assert file_facts(tmp_path / "absent") is None


def test_only_a_compiled_program_of_its_own_name_is_known_by_its_file(tmp_path: Path) -> None:
    """A script and a version manager's stand-in may answer otherwise the next time, so they have no facts."""
    shell = Path(os.path.realpath("/bin/sh"))
    (tmp_path / "node").symlink_to(shell)
    shutil.copy(shell, tmp_path / "node18")
    (tmp_path / "npm").write_text("#!/bin/sh\n")
    assert program_facts(tmp_path / "node") is None
    assert program_facts(tmp_path / "npm") is None
    assert program_facts(tmp_path / "absent") is None
    (tmp_path / "node").unlink()
    (tmp_path / "node").symlink_to(tmp_path / "node18")
    assert program_facts(tmp_path / "node") == file_facts(tmp_path / "node18")

"""The reader as it is sent over: a real interpreter, a real pipe, real files. And lines of nonsense."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.compare.bundle import STARTER, program
from pipeline.compare.reader.limits import Limits
from pipeline.compare.reader.session import Session
from pipeline.compare.wire import Line, same_machine
from pipeline.edge.conversation import LocalConversation
from pipeline.errors import CommandFailed, ComparisonIncomplete
from pipeline.records.base import dump
from pipeline.records.comparison import Comparison, Verdict
from pipeline.runtime.comparison import compare_here


def compared(left: Path, right: Path) -> Comparison:
    """Compares two places of this machine as the task does."""
    return compare_here(str(left), str(right), lambda text: None)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with the same two files in them, under names that want care."""
    for side in ("left", "right"):
        folder = tmp_path / side / "sub `x`"
        folder.mkdir(parents=True)
        (tmp_path / side / "-rf").write_bytes(b"one")
        (folder / os.fsdecode(b"caf\xe9 $(x)\n.bin")).write_bytes(b"two" * 1000)
    return tmp_path / "left", tmp_path / "right"


def test_equal_folders_agree_in_one_round_trip(sides: tuple[Path, Path]) -> None:
    """Equal files agree, whatever they are called, after one question; nothing of them is sent."""
    found = compared(*sides)
    assert (found.verdict, found.independent, found.scope) == (Verdict.AGREE, False, "files")
    assert found.wire.round_trips == 1
    assert [each.name for each in found.artifacts] == ["-rf", "sub `x`/caf\udce9 $(x)\n.bin"]


def test_names_that_are_no_text_can_be_written(sides: tuple[Path, Path]) -> None:
    """A name that is no UTF-8 does not keep --json from being JSON."""
    written = json.loads(dump(compared(*sides)))
    assert [each["name"] for each in written["artifacts"]] == ["-rf", "sub `x`/caf\\xe9 $(x)\n.bin"]


def test_a_changed_byte_differs(sides: tuple[Path, Path]) -> None:
    """One byte makes one artifact differ, and no other."""
    (sides[1] / "-rf").write_bytes(b"onE")
    found = compared(*sides)
    assert [each.verdict for each in found.artifacts] == [Verdict.DIFFER, Verdict.AGREE]
    assert found.verdict == Verdict.DIFFER
    assert [leaf.what for leaf in found.artifacts[0].leaves] == ["content"]


def _link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _twice(file: Path) -> None:
    file.unlink()
    os.link(next(file.parent.glob("sub*/*")), file)


def _emptied(file: Path) -> None:
    file.write_bytes(b"")


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "a symbolic link": (_link, "symbolic link"),
    "a FIFO": (_fifo, "no regular file"),
    "one file under two names": (_twice, "the same file as"),
    "zero bytes": (_emptied, "is empty"),
    "not there": (Path.unlink, "lacks it"),
}


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", SPOILT)
def test_what_is_no_artifact_never_agrees(sides: tuple[Path, Path], name: str, both: bool) -> None:
    """On one side, and on both in the same way: incomplete, with the reason, and nobody waits for a FIFO."""
    spoil, reason = SPOILT[name]
    for side in sides if both else sides[1:]:
        spoil(side / "-rf")
    found = compared(*sides)
    if name == "not there" and both:
        assert [each.name for each in found.artifacts] == ["sub `x`/caf\udce9 $(x)\n.bin"]
        return
    assert found.verdict == Verdict.INCOMPLETE
    assert reason in str([each.problem for each in found.artifacts])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_never_agrees(sides: tuple[Path, Path]) -> None:
    """What may not be read is named."""
    (sides[1] / "-rf").chmod(0)
    assert compared(*sides).verdict == Verdict.INCOMPLETE


def test_empty_folders_never_agree(tmp_path: Path) -> None:
    """Two empty sets prove nothing."""
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
    found = compared(tmp_path / "left", tmp_path / "right")
    assert found.verdict == Verdict.INCOMPLETE
    assert "two empty sets prove nothing" in found.problems[0]


def test_the_same_folder_twice_is_incomparable(sides: tuple[Path, Path], tmp_path: Path) -> None:
    """A folder does not agree with itself, nor with hard links to its files."""
    assert compared(sides[0], sides[0]).verdict == Verdict.INCOMPARABLE
    linked = tmp_path / "linked"
    shutil.copytree(sides[0], linked, copy_function=os.link)
    assert compared(sides[0], linked).verdict == Verdict.INCOMPARABLE


def test_two_files_are_compared_whatever_they_are_called(tmp_path: Path) -> None:
    """A file against a file: their names are not compared."""
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    assert compared(tmp_path / "a", tmp_path / "b").verdict == Verdict.AGREE


@contextlib.contextmanager
def answering(answers: list[bytes], greeting: Mapping[str, Any] | None = None) -> Iterator[Line]:
    """A line to somebody who greets properly and then sends these bytes, whatever is asked."""

    class Told:
        def __init__(self) -> None:
            self.name, self.travelled = "build2", 0
            hello = json.dumps({"protocol": 1, "python": "3.8.0", **(greeting or {})}).encode()
            self.left = struct.pack(">I", len(hello)) + hello + b"".join(answers)

        def send(self, data: bytes) -> None:
            pass

        def receive(self, length: int, seconds: float) -> bytes:
            if len(self.left) < length:
                raise CommandFailed("The reader ended in the middle.")
            data, self.left = self.left[:length], self.left[length:]
            return data

        def close(self) -> None:
            pass

    yield Line("build2", Told())


def framed(data: bytes) -> bytes:
    """Returns an answer as it travels."""
    return struct.pack(">I", len(data)) + data


NONSENSE = {
    "a key twice": framed(b'{"files": [], "files": []}'),
    "NaN": framed(b'{"files": NaN}'),
    "no JSON": framed(b"Last login: yesterday"),
    "no object": framed(b"[]"),
    "no UTF-8": framed(b'{"files": "\xff"}'),
    "nested without end": framed(b"[" * 100_000),
    "values without end": framed(b'{"files": [' + b"[]," * 2_000_001 + b"[]]}"),
    "ten gigabytes": struct.pack(">I", 0xFFFFFFFF),
    "cut off": framed(b'{"files": []}')[:-3],
    "nothing": b"",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_told_and_never_believed(name: str) -> None:
    """A reader that answers nonsense, too much, or not at all makes the comparison incomplete."""
    with answering([NONSENSE[name]]) as line, pytest.raises(ComparisonIncomplete, match="build2") as caught:
        line.ask({"ask": "files", "root": "/"})
    assert caught.value.exit_code == 87


def test_no_python_is_told() -> None:
    """A side without an interpreter is named, with what to do."""
    with pytest.raises(CommandFailed, match="cannot be started for build2"):
        LocalConversation(["/does/not/exist/python3"], "build2")


def test_a_planted_module_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies in the working directory or in PYTHONPATH, the reader hashes with its own hashlib."""
    (tmp_path / "hashlib.py").write_text("raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    assert compared(tmp_path / "a", tmp_path / "b").verdict == Verdict.AGREE


def interpreters() -> list[str]:
    """Returns the interpreters from 3.8 on that this machine has."""
    found = {sys.executable}
    for minor in range(8, 15):
        each = shutil.which(f"python3.{minor}")
        found |= {each} if each else set()
        found |= {str(path) for path in Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3")}
    quiet = {"env": {}, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return sorted(each for each in found if subprocess.call([each, "-I", "-c", "pass"], **quiet) == 0)


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).parts[-3])
def test_the_reader_runs_on_every_python(python: str, tmp_path: Path) -> None:
    """What is sent over needs nothing but an interpreter; it answers the same on all that are here."""
    (tmp_path / "a").write_bytes(b"same")
    line = Line("here", LocalConversation([python, "-I", "-S", "-B", "-c", STARTER], "here"))
    try:
        answer: dict[str, Any] = line.ask({"ask": "files", "root": str(tmp_path)})
    finally:
        line.close()
    assert [(each["path"], each["size"], each["problem"]) for each in answer["files"]] == [("a", 4, None)]


def test_the_program_is_small() -> None:
    """What is sent before the first question stays below 80 KiB."""
    assert len(program()) < 80 << 10


def test_more_names_than_can_be_told_are_not_told(tmp_path: Path) -> None:
    """A folder of names without end is refused where it lies: neither memory nor wire is filled with them."""
    for number in range(30):
        (tmp_path / f"{number}").write_bytes(b"a")
    question = {"ask": "files", "root": str(tmp_path)}
    assert len(Session().answer(question)["files"]) == 30
    assert Session(Limits(told=4000)).answer(question) == {
        "unreadable": "there are more files than can be told of"
    }
    assert "more than 29 names" in Session(Limits(entries=29)).answer(question)["unreadable"]


GREETINGS: dict[str, dict[str, Any]] = {
    "another protocol": {"protocol": 2},
    "no python": {"python": None},
    "a python that is none": {"python": "3.8; rm -rf"},
    "nothing": {"protocol": None, "python": None},
}


@pytest.mark.parametrize("name", GREETINGS)
def test_a_greeting_that_is_none_is_nonsense(name: str) -> None:
    """Whoever does not greet as a reader does is asked nothing."""
    with pytest.raises(ComparisonIncomplete, match="build2 answers nonsense"), answering([], GREETINGS[name]):
        pass


@pytest.mark.parametrize("word", ["", "x" * 32, "0" * 31, 7, None, ["0" * 32], "../../etc/passwd"])
def test_an_id_that_is_none_is_not_known(word: Any) -> None:
    """A machine that says something else than an id for its own has none, and is shown to be no other."""
    with answering([], {"machine": word, "boot": "0" * 31 + "1"}) as line:
        assert (line.machine.machine_id, line.machine.boot_id) == (None, "0" * 31 + "1")
        assert same_machine(line.machine, replace(line.machine, boot_id="0" * 31 + "2")) is None

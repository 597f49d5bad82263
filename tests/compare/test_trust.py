"""A reader that answers nonsense, or a file that changes: nothing of it is ever taken for agreement."""

from __future__ import annotations

import copy
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.compare.descent import descend
from pipeline.compare.explaining import explain
from pipeline.compare.normalising import normalise
from pipeline.compare.verdicts import judge, read_stated
from pipeline.errors import ComparisonIncomplete
from pipeline.records.comparison import ComparedArtifact, Verdict
from tests.compare.building import EARLY, LATE, tarred, tree, zipped
from tests.compare.sides import NOTHING, sides
from tests.compare.test_descent import EARLY as FIRST_DAY
from tests.compare.test_descent import jar

FILES = {"A.class": b"a" * 300, "B.class": b"b" * 300}
TRUE = "ab" * 32


def _pair(at: Path) -> tuple[bytes, bytes]:
    return zipped(tree(at / "t", FILES)), zipped(tree(at / "t", FILES, LATE))


def _explained(lines: Any) -> ComparedArtifact:
    stated = [read_stated(line.stated) for line in lines]
    (artifact,) = judge(stated[0], stated[1], same_machine=True)  # type: ignore[arg-type]
    return explain(artifact, *lines, lambda text: None)


def _spoil(line: Any, ask: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Has a line's reader answer one kind of question in another way."""
    answer = line._talk.session.answer

    def spoiled(question: dict[str, Any]) -> Any:
        told = answer(question)
        return change(copy.deepcopy(told)) if question["ask"] == ask else told

    line._talk.session.answer = spoiled


def _each(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda told: {"normalised": [dict(fields) for _ in told["normalised"]]}


#: Answers about what was normalised, the same from both sides, none of which is a proof.
NO_DIGESTS: list[Callable[[dict[str, Any]], Any]] = [
    _each(),
    _each(sha256=TRUE),
    _each(size=5),
    _each(sha256="", size=5),
    _each(sha256=None, size=5),
    _each(sha256=TRUE.upper(), size=5),
    _each(sha256=TRUE + " ", size=5),
    _each(sha256=TRUE, size="5"),
    _each(sha256=TRUE, size=True),
    _each(sha256=TRUE, size=5, more=1),
    _each(sha256=[TRUE], size=5),
    _each(Sha256=TRUE, size=5),
    _each(unreadable="is a signed jar"),
    _each(unreadable=None),
    lambda told: {"normalised": [None for _ in told["normalised"]]},
]
NO_ANSWERS: list[Callable[[dict[str, Any]], Any]] = [
    lambda told: {"normalised": []},
    lambda told: {"normalised": None},
    lambda told: {"normalised": told["normalised"] * 2},
    lambda told: {"normalized": told["normalised"]},
    lambda told: {},
    lambda told: {"unreadable": "the disk is full"},
]


@pytest.mark.parametrize("number", range(len(NO_DIGESTS)))
def test_what_is_no_digest_is_no_proof(tmp_path: Path, number: int) -> None:
    """Both readers say the same about what they normalised, and it is no digest: it differs."""
    with sides(tmp_path, *_pair(tmp_path), "a.jar") as lines:
        for line in lines:
            _spoil(line, "normalise", NO_DIGESTS[number])
        found = _explained(lines)
    assert (found.verdict, found.normalised_sha256) == (Verdict.DIFFER, None)


@pytest.mark.parametrize("number", range(len(NO_ANSWERS)))
def test_what_is_no_answer_is_an_error(tmp_path: Path, number: int) -> None:
    """An answer that is not about what was asked ends the comparison."""
    with sides(tmp_path, *_pair(tmp_path), "a.jar") as lines:
        for line in lines:
            _spoil(line, "normalise", NO_ANSWERS[number])
        with pytest.raises(ComparisonIncomplete) as caught:
            _explained(lines)
    assert "answer" in caught.value.message


def test_another_digest_on_one_side_is_no_proof(tmp_path: Path) -> None:
    """One side's digest or size is another than the other's: it differs."""
    for change in ({"sha256": TRUE}, {"size": 1}):

        def other(told: dict[str, Any], to: dict[str, Any] = change) -> Any:
            return {"normalised": [{**told["normalised"][0], **to}]}

        with sides(tmp_path, *_pair(tmp_path), "a.jar") as lines:
            _spoil(lines[1], "normalise", other)
            assert _explained(lines).verdict == Verdict.DIFFER


def test_a_file_that_changes_meanwhile_does_not_agree(tmp_path: Path) -> None:
    """What was normalised has to be what was hashed: a file that is another at the end is INCOMPLETE."""
    with sides(tmp_path, *_pair(tmp_path), "a.jar") as lines:
        _spoil(lines[0], "again", lambda told: {"digests": {"a.jar": TRUE}})
        found = _explained(lines)
    assert (found.verdict, found.normalisers) == (Verdict.INCOMPLETE, [])
    assert "changed on left" in str(found.problem)


@pytest.mark.parametrize(
    "answer", [{}, {"windows": None}, {"windows": [None]}, {"windows": [{"text": 1}]}, {"pieces": [[1]]}]
)
def test_what_cannot_be_shown_changes_no_verdict(tmp_path: Path, answer: dict[str, Any]) -> None:
    """A reader that does not show what differs, or nonsense: the leaf is told as before, and it differs."""
    pair = (jar([("A.class", data)]) for data in (b"one", b"two"))
    with sides(tmp_path, *pair, "a.jar") as lines:
        for ask in ("windows", "pieces"):
            _spoil(lines[0], ask, lambda told: answer)
        found = _explained(lines)
    assert found.verdict == Verdict.DIFFER
    assert [(leaf.what, leaf.cause) for leaf in found.leaves] == [("content", None)]


def test_an_answer_that_is_cut_is_asked_on(tmp_path: Path) -> None:
    """However few entries an answer holds, each that differs is found."""
    some = [(f"a/{number}.class", b"%d" % number) for number in range(400)]
    other = [(name, data + b"!" * (number % 3 == 0)) for number, (name, data) in enumerate(some)]
    for most in (1, 7, 20_000):
        with sides(tmp_path, jar(some, FIRST_DAY), jar(other, FIRST_DAY), "a.jar") as lines:
            found = descend(*lines, "a.jar", most)
        assert sorted(node.shown[-1] for node in found.root.below) == sorted(name for name, _ in some[::3])


def test_an_answer_that_is_cut_for_ever_is_not_waited_for(tmp_path: Path) -> None:
    """A reader that promises more and sends nothing is an error, and no agreement."""
    some = [(f"a/{number}.class", b"%d" % number) for number in range(400)]
    with sides(tmp_path, jar(some), jar(some[1:]), "a.jar") as lines:
        _spoil(lines[0], "rows", lambda told: {"rows": [], "cut": True})
        with pytest.raises(ComparisonIncomplete):
            descend(*lines, "a.jar")


def test_what_is_estimated_says_so(tmp_path: Path) -> None:
    """Of many entries the count is an estimate, and told as one; of few it is counted."""
    for count, about in ((3000, True), (20, False)):
        files = {f"{number}.txt": b"%d" % number for number in range(count)}
        made = [zipped(tree(tmp_path / "t", files, when)) for when in (EARLY, LATE)]
        with sides(tmp_path, *made, "a.jar") as lines:
            (leaf,) = descend(*lines, "a.jar").leaves
        assert (leaf.what, leaf.about) == ("time", about)
        assert about or leaf.count == count


def test_only_what_differs_is_written_anew(tmp_path: Path) -> None:
    """What is equal on both sides stays as it is: nothing is asked for but the container that differs."""
    same = zipped(tree(tmp_path / "jar", FILES))
    pair = [
        zipped(tree(tmp_path / "t", {"a.jar": same, "b.txt": b"b"}, when), "-0") for when in (EARLY, LATE)
    ]
    asked: list[Any] = []
    with sides(tmp_path, *pair, "a.zip") as lines:
        answer = lines[0]._talk.session.answer  # type: ignore[attr-defined]

        def noted(question: dict[str, Any]) -> Any:
            asked.append(question)
            return answer(question)

        lines[0]._talk.session.answer = noted  # type: ignore[attr-defined]
        done = normalise(lines, descend(*lines, "a.zip"), (NOTHING, NOTHING))
    assert done.names == ("zip-times",)
    items = [item for question in asked if question["ask"] == "normalise" for item in question["items"]]
    assert [(item["path"], item["inside"]) for item in items] == [(["a.zip"], [])]


def _unpacked_jar(data: bytes) -> object:
    """Returns what another reader than ours finds in a jar, but for times."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return file.comment, [
            (info.filename, info.external_attr, info.comment, file.read(info)) for info in file.infolist()
        ]


def _unpacked_tar(data: bytes) -> object:
    """Returns what another reader than ours finds in a tar, but for times and owners."""
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        found = []
        for info in file:
            content = file.extractfile(info) if info.isfile() else None
            found.append((info.name, info.mode, info.type, info.linkname, content.read() if content else b""))
        return found


def _mended(data: bytes, at: int) -> bytes:
    """Returns a tar with the right checksum in the header that a byte lies in, if it is one."""
    begin = at - at % 512
    head = data[begin : begin + 512]
    if head[257:262] != b"ustar":
        return data
    total = sum(head) - sum(head[148:156]) + 8 * 32
    return data[: begin + 148] + b"%06o\0 " % total + data[begin + 156 :]


@pytest.mark.parametrize("kind", ["jar", "tar"])
def test_a_flipped_byte_is_never_normalised_away(tmp_path: Path, kind: str) -> None:
    """Beside other times, bytes of one side are flipped: what still agrees when normalised holds, by another
    reader's word, the same names, modes, links and contents.
    """
    folders = [tree(tmp_path / "t" / str(when), FILES, when) for when in (EARLY, LATE)]
    pack, unpack = (zipped, _unpacked_jar) if kind == "jar" else (tarred, _unpacked_tar)
    one, two = (pack(folder) for folder in folders)
    agreed = 0
    # Of a tar the headers and the contents, each checksum made right; its padding is all alike.
    places = range(0, len(two), 2) if kind == "jar" else range(0, 5 * 512, 7)
    with sides(tmp_path, one, two, f"a.{kind}") as lines:
        left = lines[0]
        for at in places:
            changed = two[:at] + bytes([two[at] ^ 0x01]) + two[at + 1 :]
            changed = changed if kind == "jar" else _mended(changed, at)
            (tmp_path / "right" / f"a.{kind}").write_bytes(changed)
            right = lines[1]
            right._talk.renew()  # type: ignore[attr-defined]
            right.stated = right.ask({"ask": "files", "root": str(tmp_path / "right")})  # type: ignore[attr-defined]
            found = _explained((left, right))
            if found.verdict == Verdict.AGREE_NORMALISED:
                agreed += 1
                assert unpack(changed) == unpack(one), at
    assert agreed > 0

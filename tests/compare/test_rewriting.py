"""Writing an artifact anew on one side: the bytes that a comparison proved equal, or why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.compare.reader import zstandard
from pipeline.compare.rewriting import pieces, questions, rewrite, steps
from pipeline.compare.wire import Line
from pipeline.errors import ReemissionRefused
from pipeline.records.base import dump, load
from pipeline.records.comparison import ComparedArtifact, Comparison, Rewrite, Verdict, Wire
from pipeline.records.rewriting import merged
from tests.compare.building import EARLY, LATE, gzipped, package, tarred, tree, zipped
from tests.compare.sides import NOTHING, Near, compared
from tests.compare.test_normalising import HARMLESS, HOSTS, Pair, Values, _deb_jar, _git_properties


@contextmanager
def side(folder: Path, data: bytes, name: str) -> Iterator[Line]:
    """Yields the line to a side of its own that holds one file, and has hashed it."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    line = Line("one", Near())
    line.ask({"ask": "files", "root": str(folder)})
    try:
        yield line
    finally:
        line.close()


def written(
    folder: Path, data: bytes, artifact: ComparedArtifact, values: Mapping[str, str] = NOTHING
) -> bytes:
    """Returns what one side makes of its own file alone."""
    with side(folder, data, str(artifact.name)) as line:
        size, digest = rewrite(line, artifact, values)
        made = b"".join(pieces(line, artifact, size))
    assert (len(made), hashlib.sha256(made).hexdigest()) == (size, digest)
    return made


def refused(
    folder: Path, data: bytes, artifact: ComparedArtifact, values: Mapping[str, str] = NOTHING
) -> str:
    """Returns why a side refuses to write it anew."""
    with side(folder, data, str(artifact.name)) as line, pytest.raises(ReemissionRefused) as caught:
        rewrite(line, artifact, values)
    return caught.value.reason


@pytest.mark.parametrize(
    ("build", "name", "values", "expected"), HARMLESS, ids=lambda each: getattr(each, "__name__", "")
)
def test_each_side_alone_comes_to_what_was_proved(
    tmp_path: Path, build: Callable[[Path], Pair], name: str, values: Values, expected: set[str]
) -> None:
    """Whatever can be normalised is written by either side alone, as one and the same bytes, whose digest
    the comparison has; by the steps as they are after a way through JSON.
    """
    if build.__name__ == "_zstd_compression" and not zstandard.available():
        pytest.skip("this machine has no libzstd")
    pair = build(tmp_path / "made")
    found = compared(tmp_path, *pair, name, values)
    kept = load(ComparedArtifact, dump(found), "kept.json")
    assert {use for each in kept.rewrites for use in each.use} == expected
    one, two = (written(tmp_path / "alone", data, kept, own) for data, own in zip(pair, values, strict=True))
    assert one == two
    assert hashlib.sha256(one).hexdigest() == found.normalised_sha256


def test_a_comparison_that_does_not_agree_says_nothing_of_how(tmp_path: Path) -> None:
    """Equal files and files that differ have no steps."""
    pair = _git_properties(tmp_path / "made")
    assert compared(tmp_path, *pair, "a.jar").rewrites == []
    assert compared(tmp_path, pair[0], pair[0], "a.jar").rewrites == []


def test_what_was_recorded_of_the_other_side_replaces_nothing(tmp_path: Path) -> None:
    """With the other side's host, this side's stays: other bytes come out than were proved."""
    pair = _git_properties(tmp_path / "made")
    found = compared(tmp_path, *pair, "a.jar", HOSTS)
    assert hashlib.sha256(written(tmp_path / "x", pair[0], found, HOSTS[0])).hexdigest() == (
        found.normalised_sha256
    )
    other = written(tmp_path / "x", pair[0], found, HOSTS[1])
    assert hashlib.sha256(other).hexdigest() != found.normalised_sha256


def _three(at: Path) -> list[bytes]:
    """Three packages: each of two jars is another one in one of them, and a properties file in one."""
    made = []
    for first, second, date in ((EARLY, EARLY, "Wed"), (LATE, EARLY, "Wed"), (EARLY, LATE, "Thu")):
        jars = [
            zipped(tree(at / "jar", {"A.class": b"a" * 900, "built.properties": text}, when))
            for text, when in (
                (b"#Wed Nov 25 00:00:01 UTC 2026\nversion=1\n", first),
                (b"#%s Nov 25 00:00:01 UTC 2026\nversion=1\n" % date.encode(), second),
            )
        ]
        inner = gzipped(tarred(tree(at / "tgz", {"x/b.jar": jars[1]}, second)))
        files = {"usr/share/a.jar": jars[0], "usr/share/z.tgz": inner, "usr/share/c": b"c"}
        made.append(package(tree(at / "t", files), "-Zgzip"))
    return made


def test_the_steps_of_several_comparisons_together(tmp_path: Path) -> None:
    """Of three packages that differ harmlessly in other places each pair has steps of its own; with all of
    them, in whatever order, each comes to the same, and with those of one pair alone the third does not.
    """
    three = _three(tmp_path / "made")
    pairs = [compared(tmp_path, three[one], three[two], "a.deb") for one, two in ((0, 1), (0, 2), (1, 2))]
    assert [each.verdict for each in pairs] == [Verdict.AGREE_NORMALISED] * 3
    assert len({each.normalised_sha256 for each in pairs}) == 3
    for chosen in ((0, 1), (1, 0), (0, 2), (2, 1, 0)):
        (joined,) = merged([whole(pairs[each]) for each in chosen])
        assert joined.normalised_sha256 is None
        assert len({written(tmp_path / "x", data, joined) for data in three}) == 1, chosen
    alone = {written(tmp_path / "x", data, pairs[0]) for data in three}
    assert len(alone) == 2


def test_equal_steps_stay_as_they_are(tmp_path: Path) -> None:
    """Comparisons that take the same steps, or none, say together what each says, with the digest."""
    pair = _deb_jar(tmp_path / "made")
    found = compared(tmp_path, *pair, "a.deb")
    equal = compared(tmp_path, pair[0], pair[0], "a.deb")
    assert merged([whole(equal), whole(found), whole(found)]) == [found]
    other = found.model_copy(update={"normalised_sha256": "ff" * 32})
    (doubtful,) = merged([whole(found), whole(other)])
    assert doubtful.normalised_sha256 is None


def whole(artifact: ComparedArtifact) -> Comparison:
    """A comparison of one artifact."""
    return Comparison(
        verdict=artifact.verdict,
        scope="builds",
        independent=True,
        left="left",
        right="right",
        artifacts=[artifact],
        wire=Wire(bytes=1, round_trips=1),
        duration_seconds=1.0,
    )


FORGED: dict[str, tuple[list[Rewrite], str]] = {
    "nothing": ([], "rewrites"),
    "without the whole": ([Rewrite(path=["control.tar.xz"], use=[])], "rewrites"),
    "a place twice": ([Rewrite(path=[], use=[]), Rewrite(path=[], use=[])], "rewrites"),
    "the whole first": ([Rewrite(path=[], use=[]), Rewrite(path=["x"], use=[])], "rewrites"),
    "no step": ([Rewrite(path=["a%zz"], use=[]), Rewrite(path=[], use=[])], "rewrites"),
    "another spelling": ([Rewrite(path=["%61"], use=[]), Rewrite(path=[], use=[])], "rewrites"),
    "a name that is not there": ([Rewrite(path=["x"], use=[]), Rewrite(path=[], use=[])], "unreadable"),
    "a normaliser that there is not": ([Rewrite(path=[], use=["payload"])], "unreadable"),
    "one for another kind": ([Rewrite(path=[], use=["zip-times"])], "unreadable"),
    "a package's owners": (
        [
            Rewrite(path=["data.tar.xz", "data"], use=["tar-owners"]),
            Rewrite(path=["data.tar.xz"], use=["xz-compression"]),
            Rewrite(path=[], use=[]),
        ],
        "unreadable",
    ),
    "sums of the files": (
        [
            Rewrite(path=["data.tar.xz", "data"], use=["deb-md5sums"]),
            Rewrite(path=["data.tar.xz"], use=["xz-compression"]),
            Rewrite(path=[], use=[]),
        ],
        "unreadable",
    ),
    "too deep": ([Rewrite(path=["x"] * 40, use=[]), Rewrite(path=[], use=[])], "unreadable"),
}


@pytest.mark.parametrize("which", FORGED)
def test_steps_that_are_none_are_refused(tmp_path: Path, which: str) -> None:
    """Whoever made up the comparison: what the reader must never touch it does not, and says so."""
    data, _ = _deb_jar(tmp_path / "made")
    steps_, reason = FORGED[which]
    artifact = ComparedArtifact.model_validate(
        {"name": "a.deb", "verdict": Verdict.AGREE_NORMALISED, "left": {}, "right": {}, "rewrites": steps_}
    )
    assert refused(tmp_path / "x", data, artifact) == reason


def test_md5sums_that_are_wrong_are_not_made_right(tmp_path: Path) -> None:
    """A package whose sums were not those of its files is refused: they would hide that."""
    pair = _deb_jar(tmp_path / "made")
    found = compared(tmp_path, *pair, "a.deb")
    files = {"usr/share/a.jar": b"no jar"}
    bad = package(
        tree(tmp_path / "bad", files), scripts={"md5sums": b"0" * 32 + b"  usr/share/a.jar\n"}, sums=False
    )
    assert refused(tmp_path / "x", bad, found) == "unreadable"


names = st.lists(st.tuples(st.binary(max_size=12), st.integers(0, 3)), max_size=4)


@given(path=names)
def test_a_step_is_the_entry_that_it_was(path: list[tuple[bytes, int]]) -> None:
    """Whatever bytes a name has, a record leads to the same entry, and is plain ASCII."""
    import os

    whole = ["a.deb", *([os.fsdecode(name), nth] for name, nth in path)]
    told = steps(whole)
    assert all(step.isascii() and step.isprintable() and " " not in step for step in told)
    artifact = ComparedArtifact.model_validate(
        {
            "name": "a.deb",
            "verdict": Verdict.AGREE_NORMALISED,
            "left": {},
            "right": {},
            "rewrites": [*([{"path": told, "use": []}] if told else []), {"path": [], "use": []}],
        }
    )
    (asked,) = questions(artifact, {})
    assert asked["items"][0]["path"] == whole

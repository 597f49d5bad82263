"""Java class files, as javac makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.compare.reader import classes, formats
from pipeline.compare.reader.limits import Unreadable
from tests.compare.containers import Bytes, each_flip_shows, listing, opened, rewritten, rows, said

SOURCE = """
package sample;
import java.util.function.Supplier;
public class Sample implements Comparable<Sample> {
    static final int ANSWER = 42;
    static final double RATIO = 1.5;
    private String built = "%s";
    public int compareTo(Sample other) { return 0; }
    String told(Object what) {
        switch (what.hashCode()) { case 1: return "one"; case 2: return "two"; case 90000: return "many"; }
        try { return what.toString() + built; } catch (IllegalStateException failed) { return null; }
    }
    int sum(int[] all) { int n = 0; for (int each : all) n += each; return n; }
    Supplier<String> later() { return () -> built; }
    %s
}
"""


def compiled(folder: Path, built: str = "monday", more: str = "") -> bytes:
    """Returns the class that javac makes of the source."""
    folder.mkdir(exist_ok=True)
    (folder / "Sample.java").write_text(SOURCE % (built, more))
    subprocess.run(["javac", "-d", str(folder), str(folder / "Sample.java")], check=True)
    return (folder / "sample/Sample.class").read_bytes()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled(tmp_path_factory.mktemp("plain"))


def by_name(data: bytes) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in rows(classes, data)}


def differing(one: bytes, two: bytes, column: str) -> list[str]:
    """Returns the entries of both that differ in a column."""
    ours, theirs = by_name(one), by_name(two)
    return [name for name in ours if name in theirs and ours[name][column] != theirs[name][column]]


def test_a_class_is_a_table_of_texts_and_members(plain: bytes) -> None:
    """Its fields say what it is; a place is told by its bytes."""
    found = listing(classes, plain)
    assert (found.kind, found.strange) == ("class", [])
    assert found.fields["class"] == "sample/Sample"
    assert found.fields["superclass"] == "java/lang/Object"
    assert found.fields["interfaces"] == "java/lang/Comparable"
    names = set(by_name(plain))
    assert {"text monday", "method told(Ljava/lang/Object;)Ljava/lang/String;"} <= names
    assert {"field ANSWER I", "attribute SourceFile", "attribute BootstrapMethods"} <= names
    assert sum(len(data) for _, data in opened(classes, plain)) < len(plain)


def test_a_text_that_differs_is_the_only_one_told(tmp_path: Path, plain: bytes) -> None:
    """A constant alone, and of the methods the one that loads it."""
    other = compiled(tmp_path, built="tuesday")
    assert set(by_name(plain)) ^ set(by_name(other)) == {"text monday", "text tuesday"}
    assert differing(plain, other, "content") == ["method <init>()V"]


def test_more_constants_shift_numbers_and_not_what_is_told(tmp_path: Path, plain: bytes) -> None:
    """A constant in front shifts every number behind it: then `coding` differs, and no other content."""
    other = compiled(tmp_path, more="Object first = new java.util.ArrayList<Long>();")
    assert "field first Ljava/lang/Object;" in set(by_name(other)) - set(by_name(plain))
    assert differing(plain, other, "content") == ["method <init>()V"]
    assert len(differing(plain, other, "coding")) > 5


def test_every_byte_of_a_class_has_a_name(tmp_path: Path) -> None:
    """Whatever byte is changed, something else is told, or it is no class any more and one leaf."""
    (tmp_path / "A.java").write_text("class A { Object a(int n) { return n > 0 ? this : null; } }\n")
    subprocess.run(["javac", "-d", str(tmp_path), str(tmp_path / "A.java")], check=True)
    data = (tmp_path / "A.class").read_bytes()
    assert each_flip_shows(classes, data) == len(data)


@pytest.mark.parametrize("cut", [10, 30, 100, -1])
def test_a_class_that_is_cut_off_is_one_leaf(plain: bytes, cut: int) -> None:
    assert said(classes, plain[:cut]) == ("a leaf", plain[:cut])
    assert said(classes, plain + b"x") == ("a leaf", plain + b"x")


def test_a_fat_binary_of_the_same_magic_number_is_no_class() -> None:
    data = b"\xca\xfe\xba\xbe" + (2).to_bytes(4, "big") + bytes(64)
    with Bytes() as held:
        assert formats.recognise(held.region(data), b"lib.dylib") is None


def test_constants_that_refer_to_each_other_end() -> None:
    """A class named by a class, and a text that thousands of instructions load: no work without an end."""
    pool = b"".join([b"\x07\x00\x01", b"\x0c\x00\x02\x00\x02"])
    data = b"\xca\xfe\xba\xbe\x00\x00\x00\x34\x00\x03" + pool + b"\x00\x21\x00\x01\x00\x00" + bytes(8)
    assert said(classes, data) == ("a leaf", data)


def test_a_class_is_never_written_anew(plain: bytes) -> None:
    with pytest.raises(Unreadable, match="nothing is normalised"):
        rewritten(classes, plain)

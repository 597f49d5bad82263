"""Going down: real jars and packages that differ in one thing, and the leaf that says which."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.records.comparison import ComparedLeaf, Comparison, Verdict
from pipeline.runtime.comparison import compare_here

EARLY, LATE = (2020, 1, 2, 3, 4, 6), (2021, 5, 6, 7, 8, 10)

CONTROL = """Package: sample
Version: 1
Architecture: all
Maintainer: A <a@example.org>
Description: one
"""


def jar(entries: Sequence[tuple[str, bytes]], when: tuple[int, ...] = EARLY) -> bytes:
    """Returns a jar of these entries, in this order."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            file.writestr(zipfile.ZipInfo(name, when[:6]), data, zipfile.ZIP_DEFLATED)  # type: ignore[arg-type]
    return made.getvalue()


def deb(folder: Path, files: Mapping[str, bytes], *, compression: str = "xz") -> bytes:
    """Returns a package that holds these files, made by dpkg-deb."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = (
        "Package: sample\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: one\n"
    )
    (tree / "DEBIAN/control").write_text(control)
    for name, data in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    made = folder / "made.deb"
    subprocess.run(
        ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "--build", str(tree), str(made)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={"SOURCE_DATE_EPOCH": "1577934246", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
    )
    shutil.rmtree(tree)
    return made.read_bytes()


def compared(tmp_path: Path, left: bytes, right: bytes, name: str) -> Comparison:
    """Compares two files of this name."""
    for side, data in (("left", left), ("right", right)):
        (tmp_path / side).mkdir(exist_ok=True)
        (tmp_path / side / name).write_bytes(data)
    return compare_here(str(tmp_path / "left"), str(tmp_path / "right"), lambda text: None)


def leaves(found: Comparison) -> list[ComparedLeaf]:
    """Returns the leaves of the one artifact, whose bytes differ."""
    assert found.verdict in (Verdict.DIFFER, Verdict.AGREE_NORMALISED)
    assert len(found.artifacts) == 1
    assert found.artifacts[0].problem is None
    return list(found.artifacts[0].leaves)


MANY = [(f"org/example/p{number % 50}/C{number}.class", b"class %d" % number * 20) for number in range(3000)]


def test_one_class_in_a_large_jar_is_found(tmp_path: Path) -> None:
    """One changed class among three thousand is the one leaf, and little travels."""
    changed = [*MANY[:1500], (MANY[1500][0], b"other"), *MANY[1501:]]
    found = compared(tmp_path, jar(MANY), jar(changed), "a.jar")
    named = [leaf for leaf in leaves(found) if leaf.path[-1] == MANY[1500][0]]
    assert [leaf.what for leaf in named] == ["content"]
    assert {leaf.path[-1] for leaf in leaves(found)} <= {MANY[1500][0], "a.jar"}
    assert found.wire.bytes < 100_000


def test_times_of_all_entries_are_one_leaf(tmp_path: Path) -> None:
    """A jar in which nothing but the times differs has one leaf, with a count and an example."""
    found = compared(tmp_path, jar(MANY), jar(MANY, LATE), "a.jar")
    told = leaves(found)
    assert [leaf.what for leaf in told] == ["time"]
    assert told[0].path == ["a.jar"]
    assert 2000 < told[0].count <= 3000
    assert told[0].left != told[0].right


def test_an_entry_that_one_side_lacks_is_named(tmp_path: Path) -> None:
    """A missing entry is a leaf that says on which side it is."""
    found = compared(tmp_path, jar(MANY), jar(MANY[:-1]), "a.jar")
    missing = [leaf for leaf in leaves(found) if leaf.what == "name"]
    assert [(leaf.path, leaf.left, leaf.right) for leaf in missing] == [
        (["a.jar", MANY[-1][0]], MANY[-1][0], None)
    ]


@pytest.mark.parametrize("count", [5, 3000])
def test_another_order_is_told(tmp_path: Path, count: int) -> None:
    """The same entries in another order differ, few or many, and the order is what is told."""
    some = MANY[:count]
    found = compared(tmp_path, jar(some), jar([*some[1:], some[0]]), "a.jar")
    assert "order of entries" in [leaf.what for leaf in leaves(found)]


@pytest.mark.parametrize("compression", ["xz", "gzip"])
def test_a_class_in_a_jar_in_a_package_is_found(tmp_path: Path, compression: str) -> None:
    """Package, archive, jar, class: the whole way is named."""
    made = [
        deb(tmp_path / str(number), {"usr/share/a.jar": jar([("A.class", data)])}, compression=compression)
        for number, data in enumerate((b"one", b"two"))
    ]
    told = [leaf for leaf in leaves(compared(tmp_path, *made, "a.deb")) if leaf.what == "content"]
    assert [leaf.path[-2:] for leaf in told] == [["./usr/share/a.jar", "A.class"]]
    assert told[0].path[0] == "a.deb"
    assert {leaf.what for leaf in leaves(compared(tmp_path, *made, "a.deb"))} == {"content"}


def test_a_mode_in_a_package_is_told(tmp_path: Path) -> None:
    """A file that is setuid on one side only differs in nothing but its mode, and that is said."""
    sides = []
    for number, mode in enumerate((0o755, 0o4755)):
        folder = tmp_path / str(number)
        (folder / "tree/usr/bin").mkdir(parents=True)
        (folder / "tree/usr/bin/tool").write_bytes(b"#!/bin/sh\n")
        (folder / "tree/usr/bin/tool").chmod(mode)
        (folder / "tree/DEBIAN").mkdir()
        (folder / "tree/DEBIAN/control").write_text(CONTROL)
        made = folder / "a.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", str(folder / "tree"), str(made)],
            check=True,
            stdout=subprocess.DEVNULL,
            env={"SOURCE_DATE_EPOCH": "1577934246", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        )
        sides.append(made.read_bytes())
    modes = [leaf for leaf in leaves(compared(tmp_path, *sides, "a.deb")) if leaf.what == "mode"]
    assert len(modes) == 1
    assert "./usr/bin/tool" in str(modes[0].left)


@pytest.mark.parametrize("name", ["a.deb", "a.jar"])
def test_what_is_cut_off_never_agrees(tmp_path: Path, name: str) -> None:
    """Equal on both sides, and cut off: a package or a jar that is none agrees with nothing."""
    whole = jar(MANY[:5]) if name == "a.jar" else deb(tmp_path / "made", {"usr/a": b"a" * 5000})
    for length in (len(whole) - 1, len(whole) // 2, 9, 1, 0):
        found = compared(tmp_path, whole[:length], whole[:length], name)
        assert found.verdict == Verdict.INCOMPLETE, length
    assert compared(tmp_path, whole, whole, name).verdict == Verdict.AGREE


def test_a_changed_file_is_not_believed(tmp_path: Path) -> None:
    """What is damaged inside, on one side, is told as what cannot be read."""
    whole = deb(tmp_path / "made", {"usr/a": b"a" * 50_000})
    damaged = bytearray(whole)
    damaged[-100] ^= 0xFF
    found = compared(tmp_path, whole, bytes(damaged), "a.deb")
    assert found.verdict in (Verdict.INCOMPLETE, Verdict.DIFFER)
    assert found.artifacts[0].problem or found.artifacts[0].leaves

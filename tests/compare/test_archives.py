"""ar archives and packages."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.compare.reader import archives, formats, tars, xzs
from pipeline.compare.reader.limits import Limits, Unreadable
from pipeline.compare.reader.zstandard import available
from tests.compare.containers import (
    Bytes,
    ar,
    each_flip_shows,
    listing,
    member,
    opened,
    program,
    refused,
    rewritten,
    said,
    tar,
)

VERSION = (b"debian-binary", b"2.0\n")
CONTROL = (b"control.tar", tar((member("./control"), b"Package: a\n")))
DATA = (b"data.tar", tar((member("./usr/a"), b"a")))
DEB = ar(VERSION, CONTROL, DATA)


def strange(data: bytes) -> list[str]:
    return listing(archives, data).strange


def test_a_package_is_three_members_in_order_and_nothing_is_strange() -> None:
    found = listing(archives, DEB)
    assert (found.kind, found.strange, found.fields) == ("deb", [], {})
    assert opened(archives, DEB) == [VERSION, CONTROL, DATA]


def test_an_archive_that_does_not_begin_with_debian_binary_is_ar() -> None:
    """A second member of that name does not make it a package."""
    assert listing(archives, ar((b"a.o/", b"x"), VERSION)).kind == "ar"
    assert opened(archives, ar((b"a.o/", b"x"))) == [(b"a.o", b"x")]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (ar(VERSION, CONTROL, DATA, (b"data.tar", b"other")), "2 data members"),
        (ar(VERSION, CONTROL, DATA, (b"data.tar.xz", b"other")), "2 data members"),
        (ar(VERSION, CONTROL, DATA, (b"_gpgorigin", b"x")), "1 members behind the data member"),
        (ar(VERSION, CONTROL, CONTROL, DATA), "2 control members"),
        (ar(VERSION, CONTROL), "0 data members"),
        (ar(VERSION, DATA, CONTROL), "the data member stands before the control member"),
        (ar(VERSION, CONTROL, (b"extra", b""), DATA), "1 members that a package does not have"),
        (ar((b"debian-binary", b"3.0\n"), CONTROL, DATA), "debian-binary does not say 2.0"),
        (ar((b"debian-binary", b""), CONTROL, DATA), "debian-binary does not say 2.0"),
        (DEB + b"\n", "bytes behind the last member"),
        (DEB + bytes(59), "bytes behind the last member"),
    ],
)
def test_a_package_that_dpkg_reads_otherwise_than_others_is_strange(data: bytes, what: str) -> None:
    """Each trick alone is noted by its name, and such a package is never normalised."""
    assert what in strange(data)
    with pytest.raises(Unreadable, match="is not normalised"):
        rewritten(archives, data, "ar-times")


def test_padding_has_one_form() -> None:
    """The byte behind a member of odd length is a line's end; another, or none, is strange."""
    odd = ar((b"a", b"x"))
    assert strange(odd) == []
    assert strange(odd[:-1] + b"\0") == ["padding"]
    assert strange(odd[:-1]) == ["padding"]


def test_a_member_cut_short_is_not_read() -> None:
    assert "ends before" in refused(archives, DEB[:-1])
    assert "ends before" in refused(archives, DEB.replace(b"%-10d`" % len(DATA[1]), b"%-10d`" % 9999999))


@pytest.mark.parametrize("size", [b"-1", b"", b"0x10", b"1 2", b"+4"])
def test_a_size_that_is_no_number_is_not_read(size: bytes) -> None:
    assert "no member's header" in refused(archives, DEB.replace(b"4         `", size.ljust(10) + b"`"))


def test_how_a_size_and_a_name_are_spelled_is_seen() -> None:
    """0004 for 4 and a slash behind the name are the same member to a reader, not the same bytes."""
    plain = said(archives, DEB)
    for other in (
        DEB.replace(b"4         `", b"0004      `"),
        DEB.replace(b"debian-binary ", b"debian-binary/"),
    ):
        assert other != DEB
        assert said(archives, other) != plain


def test_an_owner_or_a_time_that_is_no_number_is_strange() -> None:
    assert strange(DEB.replace(b"1700000000", b"1700000 00", 1)) == ["a member's time is no number"]


def test_more_members_than_are_taken_are_refused() -> None:
    assert "more than 2 entries" in refused(archives, DEB, Limits(entries=2))


def test_no_byte_of_a_package_changes_unseen() -> None:
    small = ar(VERSION, (b"control.tar", b"abc"), (b"data.tar.xz", b"defgh"))
    assert each_flip_shows(archives, small) == len(small)


def test_times_are_all_that_ar_times_sets() -> None:
    """Packages that differ in times only become the same bytes; in anything else, they do not."""
    other = ar(VERSION, CONTROL, DATA, time=5)
    once = rewritten(archives, DEB, "ar-times")
    assert other != DEB
    assert rewritten(archives, other, "ar-times") == once == rewritten(archives, once, "ar-times")
    assert rewritten(archives, DEB) == DEB
    mode = DEB.replace(b"100644", b"100755", 1)
    assert rewritten(archives, mode, "ar-times") != once


def test_a_replaced_member_has_its_size_and_padding() -> None:
    new = rewritten(archives, DEB, inside={(b"control.tar", 0): b"odd"})
    assert opened(archives, new) == [VERSION, (b"control.tar", b"odd"), DATA]
    assert strange(new) == []
    with pytest.raises(Unreadable, match="not all"):
        rewritten(archives, DEB, inside={(b"control.tar", 1): b""})


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("package")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        "Package: sample\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a\n"
    )
    (root / "usr/share").mkdir(parents=True)
    (root / "usr/share/text").write_text("text\n" * 1000)
    (root / "usr/share" / ("long" * 40)).write_text("x")
    (root / "usr/share/link").symlink_to("text")
    return root


def build(tree: Path, out: Path, compression: str, time: int) -> bytes:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    subprocess.run(
        ["dpkg-deb", "-Z" + compression, "--root-owner-group", "--build", str(tree), str(out)],
        env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": str(time)},
        check=True,
        capture_output=True,
    )
    return out.read_bytes()


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd"])
def test_a_package_of_dpkg_deb_is_read_to_the_bottom(tree: Path, tmp_path: Path, compression: str) -> None:
    """Nothing of it is strange at any level, and its files are those that were put in."""
    if compression == "zstd" and not available():
        pytest.skip("needs libzstd")
    with Bytes() as held:
        region = held.region(build(tree, tmp_path / "a.deb", compression, 1700000000))
        package = archives.read(region, held.spool)
        assert (package.kind, package.strange) == ("deb", [])
        suffix = {"gzip": b".gz", "xz": b".xz", "zstd": b".zst"}[compression]
        (row,) = package.find({(b"data.tar" + suffix, 0)}).values()
        assert row.place is not None
        packed = region.part(row.place.offset, row.place.length)
        module = formats.recognise(packed, row.name)
        assert module is not None
        stream = module.read(packed, held.spool)
        assert stream.strange == []
        assert stream.unpacked is not None
        assert formats.recognise(stream.unpacked, b"data") is tars
        files = tars.read(stream.unpacked, held.spool)
        assert files.strange == []
        names = {one.name for one in files.rows()}
        assert {b"./usr/share/text", b"./usr/share/link", b"./usr/share/" + b"long" * 40} <= names


def test_packages_built_at_two_times_become_one_that_dpkg_takes(tree: Path, tmp_path: Path) -> None:
    """ar-times, xz-compression and tar-times through all levels: equal bytes, and dpkg-deb lists them."""
    pair = [build(tree, tmp_path / f"{time}.deb", "xz", time) for time in (1700000000, 1600000000)]
    outs = []
    for data in pair:
        inside = {}
        for name, packed in opened(archives, data)[1:]:
            unpacked = lzma.decompress(packed)
            inner = rewritten(tars, unpacked, "tar-times")
            inside[(name, 0)] = rewritten(xzs, packed, "xz-compression", inside={(b"data", 0): inner})
        outs.append(rewritten(archives, data, "ar-times", inside=inside))
    assert pair[0] != pair[1]
    assert outs[0] == outs[1]
    assert "1970-01-01 00:00 ./usr/share/text" in program("dpkg-deb", "-c", "{}", data=outs[0])
    assert "Package: sample" in program("dpkg-deb", "-f", "{}", data=outs[0])


def test_the_first_of_the_data_members_is_not_hidden_by_the_last() -> None:
    """dpkg installs the first; a reader that keeps the last would show the same for both."""
    good, evil = gzip.compress(b"good", mtime=0), gzip.compress(b"evil", mtime=0)
    first = ar(VERSION, CONTROL, (b"data.tar.gz", evil), (b"data.tar.gz", good))
    second = ar(VERSION, CONTROL, (b"data.tar.gz", good), (b"data.tar.gz", good))
    assert listing(archives, first).digests() != listing(archives, second).digests()
    assert listing(archives, first).duplicates

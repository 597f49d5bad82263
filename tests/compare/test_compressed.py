"""gzip and xz: one stream whose bytes are all told, unpacked once, written anew the same on any machine."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import random
import shutil
import struct
import subprocess
import zlib
from types import ModuleType

import pytest

from pipeline.compare.reader import formats, gzips, tars, xzs, zstds
from pipeline.compare.reader.contents import content
from pipeline.compare.reader.limits import Limits, Unreadable
from pipeline.compare.reader.zstandard import available
from tests.compare.containers import (
    Bytes,
    each_flip_shows,
    listing,
    member,
    opened,
    program,
    refused,
    rewritten,
    rows,
    said,
    tar,
)

DATA = b"content\n" * 50
GZ = gzip.compress(DATA, mtime=1700000000)
XZ = lzma.compress(DATA)
#: What zstd makes of them, with a checksum.
ZST = bytes.fromhex("28b52ffd04587d000040636f6e74656e740a010085530b179928dbd1")
WITH_ZSTD = pytest.mark.skipif(not available(), reason="needs libzstd")
EACH = pytest.mark.parametrize(
    ("module", "packed"),
    [
        pytest.param(gzips, GZ, id="gzip"),
        pytest.param(xzs, XZ, id="xz"),
        pytest.param(zstds, ZST, id="zstd", marks=WITH_ZSTD),
    ],
)


def named(value: object) -> str:
    """Returns what a case is called: bytes would be unreadable."""
    return value if isinstance(value, str) else "bytes"


def member_of_gzip(
    data: bytes,
    *,
    flags: int = 0,
    time: int = 0,
    level: int = 0,
    system: int = 3,
    extra: bytes = b"",
    compression: int = 6,
) -> bytes:
    """Returns a gzip with any header."""
    squeezed = zlib.compressobj(compression, zlib.DEFLATED, -15)
    stream = squeezed.compress(data) + squeezed.flush()
    head = struct.pack("<3sBIBB", b"\x1f\x8b\x08", flags, time, level, system) + extra
    return head + stream + struct.pack("<II", zlib.crc32(data), len(data))


FULL_EXTRA = struct.pack("<H", 4) + b"ab\0\0" + b"name\0" + b"comment\0"
_BARE = struct.pack("<3sBIBB", b"\x1f\x8b\x08", 0x1E, 1700000000, 2, 3) + FULL_EXTRA
FULL = member_of_gzip(
    DATA,
    flags=0x1E,
    time=1700000000,
    level=2,
    extra=FULL_EXTRA + struct.pack("<H", zlib.crc32(_BARE) & 0xFFFF),
)


def strange(module: ModuleType, data: bytes) -> list[str]:
    return listing(module, data).strange


@EACH
def test_there_is_one_entry_with_the_unpacked_bytes(module: ModuleType, packed: bytes) -> None:
    """They can be read from the listing, without unpacking again, and from the entry's place."""
    with Bytes() as held:
        region = held.region(packed)
        assert formats.recognise(region, b"") is module
        found = module.read(region, held.spool)
        (row,) = found.rows()
        assert (row.name, row.values) == (b"data", (hashlib.sha256(DATA).hexdigest().encode(),))
        assert found.unpacked is not None
        assert found.unpacked.read(0, found.unpacked.length) == DATA
        again = content(region, row.place, held.spool)
        assert again.read(0, again.length) == DATA
        assert found.strange == []


@EACH
def test_no_byte_changes_unseen(module: ModuleType, packed: bytes) -> None:
    assert each_flip_shows(module, packed) == len(packed)


def test_no_byte_of_a_full_gzip_header_changes_unseen() -> None:
    assert strange(gzips, FULL) == []
    assert each_flip_shows(gzips, FULL) == len(FULL)


def test_no_byte_of_a_packed_tar_changes_unseen() -> None:
    packed = gzip.compress(tar((member("a"), b"x"), member("b")), mtime=0)
    assert each_flip_shows(gzips, packed) == len(packed)


def test_each_field_of_a_gzip_header_is_told() -> None:
    fields = listing(gzips, FULL).fields
    assert {key: fields[key] for key in ("flags", "mtime", "xfl", "os", "extra", "name", "comment")} == {
        "flags": "30",
        "mtime": "1700000000",
        "xfl": "2",
        "os": "3",
        "extra": "ab\0\0",
        "name": "name",
        "comment": "comment",
    }
    assert fields["isize"] == "400"
    assert fields["crc"] == f"{zlib.crc32(DATA):08x}"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (GZ + GZ, "another member"),
        (GZ + gzip.compress(b"", mtime=0), "another member"),
        (GZ + b"\0", "bytes behind the end"),
        (GZ + bytes(1 << 20), "bytes behind the end"),
        (member_of_gzip(DATA, flags=0x20), "flags that no reader knows"),
        (member_of_gzip(DATA, flags=0x02, extra=b"\0\0"), "the checksum of the header is wrong"),
    ],
    ids=named,
)
def test_what_a_gzip_hides_is_strange(data: bytes, what: str) -> None:
    """gunzip joins members, other readers take the first: noted, told apart, and never normalised."""
    assert strange(gzips, data) == [what]
    assert said(gzips, data) != said(gzips, GZ)
    with pytest.raises(Unreadable, match="is not normalised"):
        rewritten(gzips, data, "gzip-header", "gzip-compression")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (XZ + XZ, "another stream"),
        (XZ + bytes(4), "bytes behind the end"),
        (XZ + b"x", "bytes behind the end"),
        (XZ + bytes(1 << 20), "bytes behind the end"),
    ],
    ids=named,
)
def test_what_an_xz_hides_is_strange(data: bytes, what: str) -> None:
    assert strange(xzs, data) == [what]
    with pytest.raises(Unreadable, match="is not normalised"):
        rewritten(xzs, data, "xz-compression")


@WITH_ZSTD
@pytest.mark.parametrize(
    ("behind", "what"),
    [
        (ZST, "another frame"),
        (struct.pack("<II", 0x184D2A50, 4) + b"skip", "bytes behind the end"),
        (b"\0", "bytes behind the end"),
    ],
    ids=named,
)
def test_what_a_zstd_hides_is_strange(behind: bytes, what: str) -> None:
    """Decoders join frames, and skip some."""
    assert strange(zstds, ZST + behind) == [what]
    with pytest.raises(Unreadable, match="is not normalised"):
        rewritten(zstds, ZST + behind, "zstd-compression")


def test_what_is_hidden_counts_byte_for_byte() -> None:
    """However long: its digest is in the field."""
    long = bytes(1 << 20)
    assert said(gzips, GZ + long) != said(gzips, GZ + long[:-1] + b"\1")
    assert said(xzs, XZ + long) != said(xzs, XZ + long[:-1] + b"\1")


@EACH
def test_every_truncation_is_refused(module: ModuleType, packed: bytes) -> None:
    for length in range(6, len(packed)):
        assert refused(module, packed[:length])


def test_a_lying_checksum_or_size_is_refused() -> None:
    assert "checksum or the size" in refused(gzips, GZ[:-8] + bytes(4) + GZ[-4:])
    assert "checksum or the size" in refused(gzips, GZ[:-4] + struct.pack("<I", 1))


@EACH
def test_no_bytes_at_all_are_read(module: ModuleType, packed: bytes) -> None:
    """A stream of nothing is a container of nothing; a file of nothing is a leaf."""
    empty = rewritten(module, packed, module.KIND + "-compression", inside={(b"data", 0): b""})
    assert opened(module, empty) == [(b"data", b"")]
    assert opened(gzips, gzip.compress(b"", mtime=0)) == opened(xzs, lzma.compress(b"")) == [(b"data", b"")]
    assert said(module, b"") == ("a leaf", b"")


def bomb(module: ModuleType) -> bytes:
    """Returns the beginning of a stream that unpacks to two gigabytes, all but its last checksums."""
    if module is zstds:
        return b"\x28\xb5\x2f\xfd\0\x38" + (struct.pack("<I", (131072 << 3) | 2)[:3] + b"\0") * 16384
    if module is gzips:
        squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
        piece = squeezed.compress(bytes(2 << 20)) + squeezed.flush(zlib.Z_FULL_FLUSH)
        return member_of_gzip(b"")[:10] + piece * 1024
    chain = [{"id": lzma.FILTER_LZMA2, "preset": 0}]
    piece = lzma.compress(bytes(2 << 20), lzma.FORMAT_RAW, filters=chain)
    return lzma.compress(bytes(2 << 20), preset=0)[:24] + piece[:-1] * 1024


@EACH
def test_a_bomb_costs_no_more_than_what_is_allowed(module: ModuleType, packed: bytes) -> None:
    """It stops at the limit, wherever that is: that much it does unpack, and nothing beyond is written."""
    data = bomb(module)
    assert len(data) < 4 << 20
    for most in (1 << 20, 5 << 20):
        with Bytes(Limits(expanded=most)) as held:
            with pytest.raises(Unreadable, match=f"unpacks to more than the {most} bytes"):
                module.read(held.region(data), held.spool)
            assert most // 2 < os.fstat(held.spool._file.fileno()).st_size <= most


def test_a_dictionary_larger_than_the_memory_is_refused() -> None:
    """Before it is allocated: what the header asks for is held against the limit."""
    huge = lzma.compress(DATA, filters=[{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 256 << 20}])
    assert "emory" in refused(xzs, huge, Limits(decoder=100 << 20))
    assert "emory" in refused(xzs, XZ, Limits(decoder=1 << 20))
    assert said(xzs, XZ, Limits(decoder=100 << 20))[0] == "xz"


def test_a_text_in_a_header_has_to_end_within_the_limit() -> None:
    named = member_of_gzip(DATA, flags=0x08, extra=b"n" * 2000 + b"\0")
    assert "does not end within 1000 bytes" in refused(gzips, named, Limits(field=1000))
    assert "does not end" in refused(gzips, b"\x1f\x8b\x08\x08" + b"n" * 500)


def test_gzip_header_sets_time_name_system_and_level() -> None:
    one = member_of_gzip(DATA, flags=0x08, time=5, level=2, system=0, extra=b"one\0")
    other = member_of_gzip(DATA, time=9, level=4, system=11)
    once = rewritten(gzips, one, "gzip-header")
    assert one != other
    assert rewritten(gzips, other, "gzip-header") == once == rewritten(gzips, once, "gzip-header")
    assert gzip.decompress(once) == DATA
    assert rewritten(gzips, one) == one


@pytest.mark.parametrize(
    "other",
    [
        member_of_gzip(DATA, compression=1),
        member_of_gzip(DATA, flags=0x10, extra=b"comment\0"),
        member_of_gzip(DATA, flags=0x04, extra=b"\2\0ab"),
        member_of_gzip(DATA, flags=0x01),
        member_of_gzip(DATA + b"x"),
    ],
    ids=named,
)
def test_gzip_header_touches_nothing_else(other: bytes) -> None:
    """Compression, comment, extra fields, flags and data still differ."""
    assert rewritten(gzips, other, "gzip-header") != rewritten(gzips, member_of_gzip(DATA), "gzip-header")


def test_a_header_with_a_checksum_keeps_a_right_one() -> None:
    once = rewritten(gzips, FULL, "gzip-header", "gzip-compression")
    assert strange(gzips, once) == []
    assert "header crc" in listing(gzips, once).fields
    assert "name" not in listing(gzips, once).fields
    assert listing(gzips, once).fields["comment"] == "comment"


NOISE = random.Random(7).randbytes(1000) * 1001
SIZES = [0, 1, 32767, 32768, 32769, 65536, 65537, 262144, 262145, 1000003]


@pytest.mark.parametrize("size", SIZES)
def test_gzip_compression_writes_the_same_for_every_level(size: int) -> None:
    """gzip unpacks it; another content stays another."""
    data = NOISE[:size]
    pair = [member_of_gzip(data, compression=level) for level in (1, 9)]
    once = rewritten(gzips, pair[0], "gzip-compression")
    assert rewritten(gzips, pair[1], "gzip-compression") == once
    assert rewritten(gzips, once, "gzip-compression") == once
    assert gzip.decompress(once) == data
    program("gzip", "-t", data=once)
    assert rewritten(gzips, member_of_gzip(data + b"x"), "gzip-compression") != once


@pytest.mark.parametrize("size", SIZES)
def test_xz_compression_writes_the_same_for_every_level_and_check(size: int) -> None:
    """xz unpacks it, and so does liblzma, with next to no memory."""
    if shutil.which("xz") is None:
        pytest.skip("needs xz")
    data = NOISE[:size]
    pair = [lzma.compress(data, preset=0), lzma.compress(data, preset=4, check=lzma.CHECK_SHA256)]
    once = rewritten(xzs, pair[0], "xz-compression")
    assert pair[0] != pair[1]
    assert rewritten(xzs, pair[1], "xz-compression") == once
    assert rewritten(xzs, once, "xz-compression") == once
    assert lzma.decompress(once, memlimit=1 << 20) == data
    program("xz", "-t", "--format=xz", "{}", data=once)
    assert strange(xzs, once) == []
    assert rewritten(xzs, lzma.compress(data + b"x"), "xz-compression") != once
    assert rewritten(xzs, pair[1]) == pair[1]


@WITH_ZSTD
@pytest.mark.parametrize("size", SIZES)
def test_zstd_compression_writes_the_same_for_every_level(size: int) -> None:
    """zstd unpacks it."""
    if shutil.which("zstd") is None:
        pytest.skip("needs zstd")
    data = NOISE[:size]
    pair = [
        subprocess.run(["zstd", "-c", *options], input=data, capture_output=True, check=True).stdout
        for options in (["-1"], ["-19", "--no-check"])
    ]
    assert pair[0] != pair[1]
    once = rewritten(zstds, pair[0], "zstd-compression")
    assert rewritten(zstds, pair[1], "zstd-compression") == once
    assert rewritten(zstds, once, "zstd-compression") == once
    done = subprocess.run(["zstd", "-dc"], input=once, capture_output=True, check=True)
    assert done.stdout == data
    assert opened(zstds, pair[1]) == [(b"data", data)]


@WITH_ZSTD
def test_a_window_larger_than_the_memory_is_refused() -> None:
    """A frame that asks for 2 GiB is refused before they are taken."""
    huge = b"\x28\xb5\x2f\xfd\0" + bytes([21 << 3]) + b"\x01\0\0"
    assert "emory" in refused(zstds, huge, Limits(decoder=100 << 20))


def test_what_is_written_is_these_very_bytes() -> None:
    """Pinned, as two machines with other libraries have to write the same."""
    assert rewritten(gzips, member_of_gzip(b"ab"), "gzip-header", "gzip-compression").hex() == (
        "1f8b08000000000000ff" + "000200fdff" + "6162" + "010000ffff" + "6d48839e" + "02000000"
    )
    assert rewritten(xzs, lzma.compress(b"ab"), "xz-compression").hex() == "".join(
        (
            "fd377a585a00" + "0001" + "6922de36",
            "0200210108000000" + "d80f2313" + "010001" + "6162" + "00" + "0000" + "6d48839e",
            "00011602" + "d06110d2" + "9042990d" + "01000000" + "0001" + "595a",
        )
    )


@EACH
def test_replaced_data_need_the_compression_set(module: ModuleType, packed: bytes) -> None:
    """Data that are new can't be compressed as the old were: that has to be asked for by name."""
    name = module.KIND + "-compression"
    new = rewritten(module, packed, name, inside={(b"data", 0): b"new"})
    assert opened(module, new) == [(b"data", b"new")]
    with pytest.raises(Unreadable, match=name):
        rewritten(module, packed, inside={(b"data", 0): b"new"})
    with pytest.raises(Unreadable, match="not all"):
        rewritten(module, packed, name, inside={(b"other", 0): b"new"})


def test_an_xz_of_several_blocks_is_read() -> None:
    """As dpkg-deb and xz -T write it."""
    if shutil.which("xz") is None:
        pytest.skip("needs xz")
    data = bytes(range(256)) * 2000
    packed = subprocess.run(
        ["xz", "-T2", "--block-size=65536", "-c"], input=data, capture_output=True, check=True
    ).stdout
    assert opened(xzs, packed) == [(b"data", data)]
    assert strange(xzs, packed) == []
    canonical = rewritten(xzs, lzma.compress(data), "xz-compression")
    assert rewritten(xzs, packed, "xz-compression") == canonical


def test_a_tgz_is_followed_down_to_the_names_that_come_twice() -> None:
    """0755 then 0644, as in a tgz of CloudStack: what is in the gzip is the tar with both rows."""
    inner = tar((member("a", mode=0o755), b"x"), (member("a", mode=0o644), b"x"))
    with Bytes() as held:
        found = gzips.read(held.region(gzip.compress(inner, mtime=0)), held.spool)
        assert found.unpacked is not None
        assert formats.recognise(found.unpacked, b"data") is tars
    assert [row["mode"] for row in rows(tars, inner)] == ["755", "644"]

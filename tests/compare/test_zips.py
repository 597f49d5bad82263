"""Zip files are read so that no byte goes unseen, and rewritten so that nothing but the named cause goes."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.compare.reader import contents, formats, zips
from pipeline.compare.reader.limits import Unreadable
from tests.compare.zipbytes import Archive, Files, Member, changed

MANIFEST = Member(b"META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\r\n\r\n", method=8, flags=8)
HONEST = Archive(
    (
        Member(b"META-INF/", external=0o40755 << 16 | 16),
        MANIFEST,
        Member(b"a/B.class", b"\xca\xfe\xba\xbe" + b"code " * 9, method=8),
        Member(b"a/c.txt", b"text"),
    )
)
TEXT = 3
FULL = 0xFFFFFFFF
TWICE = replace(HONEST, members=(*HONEST.members, Member(b"d", b"one"), Member(b"d", b"two")))
#: One class, its header inside the bytes of the entry before it.
INNER = Member(b"b", b"inner")
NESTED = Archive((Member(b"a", INNER.local()), INNER))
#: What is wrong with a jar, each alone, and the word for it in its table.
STRANGE = {
    "a shell prefix": (replace(HONEST, prefix=b"#!/bin/sh\nexec rm -rf /\n"), "in front of the first entry"),
    "a prefix that offsets leave out": (
        replace(HONEST, prefix=b"#!/bin/sh\n", shifted=True),
        "offsets count",
    ),
    "a record that the directory omits": (changed(HONEST, 2, hidden=True), "between entries"),
    "a last record that the directory omits": (changed(HONEST, TEXT, hidden=True), "entries and directory"),
    "a gap": (changed(HONEST, TEXT, gap=b"gap"), "between entries"),
    "bytes in front of the directory": (replace(HONEST, before_directory=b"x"), "entries and directory"),
    "bytes behind the directory": (replace(HONEST, after_directory=b"xy"), "behind the directory"),
    "bytes behind the end": (replace(HONEST, trailing=b"\n"), "bytes behind the end"),
    "an end in the comment": (replace(HONEST, comment=b"PK\5\6" + b"\0" * 19), "another end record"),
    "an empty zip file in the comment": (
        replace(HONEST, comment=b"PK\5\6" + b"\0" * 18),
        "in front of the directory",
    ),
    "too few entries promised": (replace(HONEST, count=3), "number of entries"),
    "another local name": (changed(HONEST, TEXT, local_name=b"a/evil.txt"), "name differs"),
    "another local method": (changed(HONEST, TEXT, local_method=8), "method differs"),
    "other local flags": (changed(HONEST, TEXT, local_flags=0x800), "flags differ"),
    "another local crc": (changed(HONEST, TEXT, local_crc=1), "crc or sizes differ"),
    "another local size": (changed(HONEST, TEXT, local_size=5), "crc or sizes differ"),
    "another local packed size": (changed(HONEST, TEXT, local_packed=3), "crc or sizes differ"),
    "a packed size too small": (changed(HONEST, TEXT, packed=3), "stored with two sizes"),
    "a stored size too large": (changed(HONEST, TEXT, size=1 << 30), "stored with two sizes"),
    "a packed size that reaches the directory": (changed(HONEST, TEXT, packed=5), "overlap the directory"),
    "no data descriptor": (changed(HONEST, 1, descriptor=b""), "data descriptor"),
    "a data descriptor that lies": (
        changed(HONEST, 1, descriptor=b"PK\7\x08" + b"\1" * 12),
        "data descriptor",
    ),
    "zip64 without its extra": (changed(HONEST, TEXT, size=FULL, local_size=FULL), "zip64 extra"),
}
#: What is told by the table without being wrong.
OTHER = {
    "two of one name swapped": (TWICE, replace(TWICE, order=(0, 1, 2, 3, 5, 4))),
    "two of one name swapped with their bytes": (
        TWICE,
        replace(TWICE, members=(*TWICE.members[:4], *TWICE.members[:3:-1])),
    ),
    "a manifest that is not first": (
        HONEST,
        replace(HONEST, members=(*HONEST.members[2:], *HONEST.members[:2])),
    ),
    "a directory in another order": (HONEST, replace(HONEST, order=(0, 1, 3, 2))),
    "a name that climbs": (HONEST, changed(HONEST, TEXT, name=b"../a/c.txt")),
    "a name that ends early for some": (HONEST, changed(HONEST, TEXT, name=b"a/c.txt\0.class")),
    "a very long name": (HONEST, changed(HONEST, TEXT, name=b"n" * 0xFFFF)),
    "a mode": (HONEST, changed(HONEST, TEXT, external=0o104755 << 16)),
    "another version": (HONEST, changed(HONEST, TEXT, made=20)),
    "a comment": (HONEST, replace(HONEST, comment=b"by me")),
    "a comment of an entry": (HONEST, changed(HONEST, TEXT, comment=b"by me")),
    "an extra field": (HONEST, changed(HONEST, TEXT, extra=b"\xca\xfe\0\0")),
    "a local extra field": (HONEST, changed(HONEST, TEXT, local_extra=b"\xca\xfe\0\0")),
    "a time": (HONEST, changed(HONEST, TEXT, time=b"\0\0\x21\0")),
    "a local time": (HONEST, changed(HONEST, TEXT, local_time=b"\0\0\x21\0")),
    "a crc that lies": (HONEST, changed(HONEST, TEXT, crc=1)),
    "content": (HONEST, changed(HONEST, TEXT, data=b"tExt")),
    "compression": (HONEST, changed(HONEST, TEXT, method=8)),
    "another level": (changed(HONEST, 2, level=9), changed(HONEST, 2, level=0)),
    "zip64": (HONEST, replace(HONEST, zip64=True)),
    "encryption": (HONEST, changed(HONEST, TEXT, flags=1)),
    "another method": (HONEST, changed(HONEST, TEXT, method=12)),
}


@pytest.fixture
def files() -> Iterator[Files]:
    made = Files()
    yield made
    made.close()


def seen(files: Files, data: bytes) -> tuple[Any, ...] | str:
    """All that travels of a zip file's table, or why it cannot be read."""
    try:
        listing = zips.read(files.region(data), files.spool)
    except Unreadable as exc:
        return exc.reason
    return listing.fields, listing.digests(), listing.strange


def rewritten(
    files: Files, data: bytes, *normalisers: str, inside: dict[tuple[bytes, int], bytes] | None = None
) -> bytes:
    regions = {key: files.region(content) for key, content in (inside or {}).items()}
    return b"".join(zips.rewrite(files.region(data), normalisers, regions, files.spool))


def test_an_honest_jar_is_not_strange(files: Files) -> None:
    """What ordinary writers make is read with nothing strange, and recognised whatever it is called."""
    region = files.region(HONEST.build())
    listing = zips.read(region, files.spool)
    assert listing.strange == []
    assert listing.fields == {}
    assert [row.name for row in listing.rows()] == [member.name for member in HONEST.members]
    assert formats.recognise(region, b"anything") is zips


def test_places_lead_to_the_content(files: Files) -> None:
    """What a row says of its place is enough to unpack it; a method that is not read is named."""
    region = files.region(HONEST.build())
    rows = list(zips.read(region, files.spool).rows())
    assert rows[0].place is None
    found = [contents.content(region, row.place, files.spool) for row in rows[1:] if row.place]
    assert [one.read(0, one.length) for one in found] == [member.data for member in HONEST.members[1:]]
    for values, word in (({"method": 12}, "method 12"), ({"flags": 1}, "encrypted")):
        other = files.region(changed(HONEST, TEXT, **values).build())
        (row,) = zips.read(other, files.spool).find({(b"a/c.txt", 0)}).values()
        assert row.place is not None
        assert row.place.coding == word


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_wrong_is_strange(name: str, files: Files) -> None:
    """Each trick is named in the table, makes it another one, and is never rewritten."""
    archive, word = STRANGE[name]
    data = archive.build()
    table = seen(files, data)
    assert isinstance(table, tuple), table
    assert any(word in what for what in table[2]), table[2]
    assert table != seen(files, HONEST.build())
    with pytest.raises(Unreadable, match="is strange"):
        rewritten(files, data)


@pytest.mark.parametrize("name", OTHER)
def test_what_differs_is_seen(name: str, files: Files) -> None:
    """Each difference makes another table, although nothing is wrong with either file."""
    left, right = (seen(files, archive.build()) for archive in OTHER[name])
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert left[2] == right[2] == []
    assert left[1] != right[1] or left[0] != right[0]


@pytest.mark.parametrize("name", STRANGE)
def test_other_bytes_in_strange_places_are_seen(name: str, files: Files) -> None:
    """What is strange is told by its bytes: flip any one of them, and the table is another."""
    data = STRANGE[name][0].build()
    table = seen(files, data)
    for place in range(len(data)):
        other = bytearray(data)
        other[place] ^= 0x20
        assert seen(files, bytes(other)) != table, f"byte {place}"


def test_flipping_any_byte_is_seen(files: Files) -> None:
    """No byte of a jar goes unseen: whichever is changed, the table differs or cannot be read."""
    extra = b"UT\x05\0\1abcd"
    long = struct.pack("<2HQ", 1, 8, 2)
    archive = Archive(
        (
            MANIFEST,
            Member(b"b", b"bb", extra=extra, local_extra=extra + b"\xca\xfe\0\0", comment=b"word"),
            Member(b"c", b"cc", size=FULL, extra=long, local_size=2, local_extra=b""),
        ),
        comment=b"of all",
        zip64=True,
    )
    honest = archive.build()
    table = seen(files, honest)
    assert isinstance(table, tuple)
    for place in range(len(honest)):
        for mask in (0x01, 0x80, 0xFF):
            other = bytearray(honest)
            other[place] ^= mask
            assert seen(files, bytes(other)) != table, f"byte {place}"


def test_a_truncated_jar_cannot_be_read(files: Files) -> None:
    """However a jar is cut, it is unreadable and never a shorter table; nothing at all is no jar."""
    honest = HONEST.build()
    for length in range(len(honest)):
        with pytest.raises(Unreadable):
            zips.read(files.region(honest[:length]), files.spool)
    assert formats.recognise(files.region(b""), b"a.jar") is None


def test_a_directory_elsewhere_cannot_be_read(files: Files) -> None:
    """A directory or an entry that lies outside the file is refused, whatever 64 bits say."""
    for far in (1 << 31, FULL - 1):
        data = bytearray(HONEST.build())
        data[-6:-2] = struct.pack("<L", far)
        with pytest.raises(Unreadable):
            zips.read(files.region(bytes(data)), files.spool)
    data = bytearray(replace(HONEST, zip64=True).build())
    at = data.rindex(b"PK\6\6")
    for place in (40, 48):
        other = bytearray(data)
        other[at + place : at + place + 8] = b"\xff" * 8
        with pytest.raises(Unreadable):
            zips.read(files.region(bytes(other)), files.spool)


def test_overlapping_entries_are_told_or_refused(files: Files) -> None:
    """One entry inside another is strange; many over the same bytes are refused before they are hashed."""
    data = NESTED.build()
    outer = NESTED.members[0]
    inner_at = 30 + len(outer.name)
    second = data.rindex(b"PK\1\2")
    lying = data[: second + 42] + struct.pack("<L", inner_at) + data[second + 46 :]
    table = seen(files, lying)
    assert isinstance(table, tuple)
    assert "entries that overlap" in table[2]
    assert table != seen(files, data)

    bomb = Member(b"a", b"\0" * 100_000)
    body, directory = bomb.local(), bomb.central(0) * 50
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 50, 50, len(directory), len(body), 0)
    with pytest.raises(Unreadable, match="overlap"):
        zips.read(files.region(body + directory + end), files.spool)


def test_a_zip_file_behind_other_bytes_is_one(files: Files) -> None:
    """A file with other bytes in front is a zip file by its end, whatever it is called; without one it is
    none.
    """
    region = files.region(replace(HONEST, prefix=b"#!/bin/sh\n").build())
    assert zips.matches(region, b"lib/a.JAR")
    assert zips.matches(region, b"a.sh")
    assert not zips.matches(files.region(b"#!/bin/sh\n" + b"PK\5\6" + bytes(18)), b"a.sh")
    assert not zips.matches(files.region(b"no zip file at all"), b"a.jar")


names = st.sampled_from([b"a", b"b", b"a/", b"META-INF/MANIFEST.MF", b"PK\5\6"])
small = st.binary(max_size=3)
members = st.builds(
    Member,
    names,
    small,
    method=st.sampled_from([0, 8]),
    flags=st.sampled_from([0, 8]),
    extra=st.sampled_from([b"", b"UT\x05\0\1abcd", b"x"]),
    comment=small,
    crc=st.sampled_from([None, 7]),
    local_crc=st.sampled_from([None, 7]),
    local_size=st.sampled_from([None, 0, FULL]),
    packed=st.sampled_from([None, None, 1]),
    hidden=st.booleans(),
    gap=small,
)
archives = st.builds(
    Archive,
    st.lists(members, max_size=3).map(tuple),
    prefix=small,
    shifted=st.booleans(),
    before_directory=small,
    after_directory=small,
    comment=small,
    trailing=small,
    zip64=st.booleans(),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(archives.map(Archive.build), min_size=12, max_size=12, unique=True))
def test_two_files_never_have_one_table(datas: list[bytes]) -> None:
    """Whatever is wrong with them, different bytes have different tables."""
    made = Files()
    try:
        tables = [str(table) for table in (seen(made, data) for data in datas) if isinstance(table, tuple)]
        assert len(set(tables)) == len(tables)
    finally:
        made.close()


EXTENDED = b"UT\x05\0\1"
NTFS = b"\x0a\0\x20\0\0\0\0\0\1\0\x18\0"
TIMED = changed(
    changed(HONEST, TEXT, extra=EXTENDED + b"abcd", local_extra=b"UT\x09\0\3abcdefgh"),
    2,
    extra=NTFS + b"a" * 24 + b"\xca\xfe\0\0",
)
#: Pairs that differ by one cause only, and the normaliser that sets it.
CAUSES = {
    "times": (HONEST, changed(HONEST, TEXT, time=b"\1\1\x21\3"), "zip-times"),
    "times that the local header has otherwise": (
        HONEST,
        changed(HONEST, TEXT, local_time=b"\1\1\x21\3"),
        "zip-times",
    ),
    "extra fields of times": (
        TIMED,
        changed(TIMED, TEXT, extra=EXTENDED + b"1234", local_extra=b"UT\x09\0\3abcd1234"),
        "zip-times",
    ),
    "extra fields of times that are there or not": (
        changed(TIMED, 2, extra=b"\xca\xfe\0\0"),
        TIMED,
        "zip-times",
    ),
    "order": (HONEST, replace(HONEST, members=tuple(HONEST.members[i] for i in (0, 1, 3, 2))), "zip-order"),
    "order of the directory": (HONEST, replace(HONEST, order=(0, 1, 3, 2)), "zip-order"),
    "level": (changed(HONEST, 2, level=9), changed(HONEST, 2, level=0), "zip-compression"),
    "stored or not": (HONEST, changed(HONEST, TEXT, method=8, needed=10), "zip-compression"),
    "descriptors": (HONEST, changed(HONEST, 1, flags=0), "zip-compression"),
    "level, with zip64": (
        replace(changed(HONEST, 2, level=9), zip64=True),
        replace(changed(HONEST, 2, level=0), zip64=True),
        "zip-compression",
    ),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_normaliser_sets_its_cause_and_no_other(name: str, files: Files) -> None:
    """Files that differ by one cause only become the same bytes by its normaliser, and by no other.

    What it writes is a zip file with the same content, is not strange, and stays the same when written again.
    """
    left, right, cause = CAUSES[name]
    datas = [left.build(), right.build()]
    assert datas[0] != datas[1]
    outputs = [rewritten(files, data, cause) for data in datas]
    assert outputs[0] == outputs[1]
    assert rewritten(files, outputs[0], cause) == outputs[0]
    table = seen(files, outputs[0])
    assert isinstance(table, tuple)
    assert table[2] == []
    for data in (*datas, outputs[0]):
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            found = {info.filename: opened.read(info) for info in opened.infolist()}
            modes = {info.filename: info.external_attr for info in opened.infolist()}
        assert found == {member.name.decode(): member.data for member in left.members}
        assert modes == {member.name.decode(): member.external for member in left.members}
    for other in sorted(set(zips.NORMALISERS) - {cause}):
        if right.order:
            with pytest.raises(Unreadable, match="another order than its directory"):
                rewritten(files, datas[1], other)
        else:
            assert rewritten(files, datas[0], other) != rewritten(files, datas[1], other)


def test_without_a_normaliser_nothing_changes(files: Files) -> None:
    """No normaliser, or only other formats', writes the same bytes."""
    for archive in (HONEST, TIMED, TWICE, replace(HONEST, zip64=True, comment=b"word"), Archive(())):
        data = archive.build()
        assert rewritten(files, data) == rewritten(files, data, "gzip-times") == data


CAUSED = {"a time", "a local time", "compression", "another level", "a directory in another order"}


@pytest.mark.parametrize("name", sorted(set(OTHER) - CAUSED))
def test_what_is_payload_stays(name: str, files: Files) -> None:
    """Names, modes, versions, comments, extra fields, content: no normaliser makes them equal, nor do all."""
    for chosen in ([], *([one] for one in zips.NORMALISERS), list(zips.NORMALISERS)):
        outputs: list[bytes | None] = []
        for archive in OTHER[name]:
            try:
                outputs.append(rewritten(files, archive.build(), *chosen))
            except Unreadable:
                outputs.append(None)
        assert outputs[0] != outputs[1] or outputs[0] is None, chosen
        assert chosen or None not in outputs or OTHER[name][1].order


SIGNED = replace(
    HONEST, members=(*HONEST.members, Member(b"META-INF/KEY.SF", b"digests"), Member(b"META-INF/key.rsa"))
)


@pytest.mark.parametrize(
    ("archive", "normalisers", "reason"),
    [
        (SIGNED, ["zip-times"], "signed"),
        (SIGNED, ["zip-order"], "signed"),
        (SIGNED, ["zip-compression"], "signed"),
        (SIGNED, [], "signed"),
        (TWICE, ["zip-order"], "two entries of one name"),
        (
            replace(HONEST, members=HONEST.members[2:] + HONEST.members[:2]),
            ["zip-order"],
            "MANIFEST.MF behind",
        ),
        (changed(HONEST, TEXT, name=b"./a/B.class"), ["zip-order"], "may lead to another"),
        (changed(HONEST, TEXT, name=b"a//B.class"), ["zip-order"], "may lead to another"),
        (changed(HONEST, TEXT, name=b"../a"), ["zip-order"], "may lead to another"),
        (changed(HONEST, TEXT, name=b"/a"), ["zip-order"], "may lead to another"),
        (changed(HONEST, TEXT, name=b"a\\B.class"), ["zip-order"], "may lead to another"),
        (changed(HONEST, TEXT, name=b"a/B.class\0"), ["zip-order"], "may lead to another"),
        (changed(HONEST, TEXT, external=0o120777 << 16), ["zip-order"], "may lead to another"),
        (changed(HONEST, TEXT, extra=b"up\x01\0\1"), ["zip-order"], "may lead to another"),
        (replace(HONEST, order=(0, 1, 3, 2)), ["zip-times"], "another order than its directory"),
        (changed(HONEST, TEXT, crc=1), ["zip-compression"], "crc"),
        (changed(HONEST, 2, size=8), ["zip-compression"], "unpacks to"),
        (changed(HONEST, TEXT, method=12), ["zip-compression"], "coded in a way"),
        (changed(HONEST, TEXT, flags=1), ["zip-compression"], "coded in a way"),
        (changed(HONEST, TEXT, extra=b"UT\x05\0\1abcde"), ["zip-times"], "not made of blocks"),
        (changed(HONEST, TEXT, extra=b"UT\x06\0\1abcde"), ["zip-times"], "more than times"),
        (changed(HONEST, TEXT, extra=NTFS[:-2] + b"\x10\0" + b"a" * 24), ["zip-times"], "more than times"),
    ],
)
def test_what_must_not_be_rewritten_is_refused(
    archive: Archive, normalisers: list[str], reason: str, files: Files
) -> None:
    """A normaliser that would hide more than its cause is refused, with the reason."""
    with pytest.raises(Unreadable, match=reason):
        rewritten(files, archive.build(), *normalisers)


def test_content_inside_is_replaced(files: Files) -> None:
    """Given content takes the place of one entry's, by name and occurrence; all else stays as it was."""
    inside = {(b"d", 1): b"second", (b"a/B.class", 0): b"class " * 100}
    output = rewritten(files, TWICE.build(), inside=inside)
    with zipfile.ZipFile(io.BytesIO(output)) as opened:
        assert opened.testzip() is None
        found = [(info.filename, opened.read(info)) for info in opened.infolist()]
    expected = {5: b"second", 2: b"class " * 100}
    assert found == [
        (member.name.decode(), expected.get(index, member.data)) for index, member in enumerate(TWICE.members)
    ]
    table = seen(files, output)
    assert isinstance(table, tuple)
    assert table[2] == []
    with pytest.raises(Unreadable, match="lacks an entry"):
        rewritten(files, TWICE.build(), inside={(b"d", 2): b"third"})
    with pytest.raises(Unreadable, match="crc"):
        rewritten(files, changed(TWICE, 5, crc=1).build(), inside={(b"d", 1): b"second"})


def test_a_rewritten_file_may_go_into_the_spool_it_came_by(files: Files) -> None:
    """The bytes can be kept in the same spool while they are made."""
    data = TWICE.build()
    kept = files.spool.keep(zips.rewrite(files.region(data), ["zip-times"], {}, files.spool))
    assert kept.read(0, kept.length) == rewritten(files, data, "zip-times")

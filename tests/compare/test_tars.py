"""Tars: every byte of a header is in a column; what tar programs read in two ways is strange or refused."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from pipeline.compare.reader import tars
from pipeline.compare.reader.limits import Limits, Unreadable
from pipeline.compare.reader.tarentries import Entries
from pipeline.compare.reader.tarheaders import right
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

PLAIN = tar((member("a"), b"content"))
DIALECTS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}


def strange(data: bytes) -> list[str]:
    return listing(tars, data).strange


def only(data: bytes) -> dict[str, str]:
    (row,) = rows(tars, data)
    return row


def differing(left: bytes, right: bytes) -> set[str]:
    """Returns the columns in which two tars of one entry differ."""
    first, second = only(left), only(right)
    return {key for key in first if first[key] != second[key]}


def summed(header: bytes) -> bytes:
    """Returns a header with its checksum made right."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def patched(data: bytes, at: int, value: bytes) -> bytes:
    """Returns a tar whose first header has other bytes, and the checksum for them."""
    return summed(data[:at] + value + data[at + len(value) : 512]) + data[512:]


def test_an_entry_is_told_in_columns_of_its_own() -> None:
    row = only(tar((member("a", mode=0o4755, uid=7, gid=8, uname="u", gname="g"), b"")))
    assert (row["type"], row["mode"], row["owner"], row["time"]) == ("0", "4755", "7:8:u:g", "1700000000")
    assert (row["link"], row["device"], row["extra"]) == ("", "", "")
    assert opened(tars, PLAIN) == [(b"a", b"content")]
    assert strange(PLAIN) == []


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"mode": 0o4644}, "mode"),
        ({"mtime": 1}, "time"),
        ({"uid": 1}, "owner"),
        ({"gid": 1}, "owner"),
        ({"uname": "u"}, "owner"),
        ({"gname": "u"}, "owner"),
        ({"name": "b"}, "name"),
    ],
)
@pytest.mark.parametrize("form", sorted(DIALECTS))
def test_one_property_changes_one_column(values: dict[str, object], column: str, form: str) -> None:
    """Nothing else moves with it, a setuid bit is no other content."""
    made = [tar((member(**{"name": "a", **more}), b"x"), form=DIALECTS[form]) for more in ({}, values)]
    assert differing(*made) == {column}


def test_a_type_a_target_and_a_device_are_columns() -> None:
    link = member("a", type=tarfile.SYMTYPE, linkname="../../etc/passwd")
    assert only(tar(link))["link"] == "../../etc/passwd"
    assert only(tar(link))["type"] == "2"
    node = only(tar(member("a", type=tarfile.CHRTYPE, devmajor=1, devminor=3)))
    assert (node["type"], node["device"]) == ("3", "1 3")
    other = tar(member("a", type=tarfile.CHRTYPE, devmajor=1, devminor=5))
    assert differing(tar(member("a", type=tarfile.CHRTYPE, devmajor=1, devminor=3)), other) == {"device"}


def test_an_extended_attribute_is_extra() -> None:
    plain = member("a", pax_headers={"comment": "x"})
    made = member("a", pax_headers={"comment": "x", "SCHILY.xattr.security.capability": "\1"})
    left, right = (tar((info, b""), form=tarfile.PAX_FORMAT) for info in (plain, made))
    assert "SCHILY.xattr.security.capability=\1" in only(right)["extra"]
    assert "extra" in differing(left, right)


def test_a_time_of_a_pax_record_is_told_as_a_time() -> None:
    made = [tar((member("a", mtime=time), b""), form=tarfile.PAX_FORMAT) for time in (1.5, 2.5)]
    assert "mtime=1.5" in only(made[0])["time"]
    assert differing(*made) == {"time"}


def test_a_name_twice_is_two_rows_in_order() -> None:
    """0755 then 0644 unpacks to another mode than 0644 then 0755."""
    pair = (member("a", mode=0o755), b"x"), (member("a", mode=0o644), b"x")
    one, other = tar(*pair), tar(*reversed(pair))
    assert [row["mode"] for row in rows(tars, one)] == ["755", "644"]
    assert listing(tars, one).duplicates
    assert listing(tars, one).digests() != listing(tars, other).digests()
    with pytest.raises(Unreadable, match="twice"):
        rewritten(tars, one, "tar-order")


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "a/../../b", "./a", "a\n\x1b[2J"])
def test_names_are_told_as_they_are(name: str) -> None:
    assert only(tar((member(name), b"")))["name"] == name


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_long_names_and_targets_are_read(form: str) -> None:
    long = member("n" * 300, type=tarfile.SYMTYPE, linkname="t" * 400)
    row = only(tar(long, form=DIALECTS[form]))
    assert (row["name"], row["link"]) == ("n" * 300, "t" * 400)


def test_a_name_that_a_header_splits_is_joined_and_where_it_is_split_is_seen() -> None:
    name = "/".join(["d" * 60] * 3)
    made = tar((member(name), b""), form=tarfile.USTAR_FORMAT)
    assert only(made)["name"] == name
    first = patched(patched(tar((member("f"), b""), form=tarfile.USTAR_FORMAT), 345, b"d/e"), 0, b"f")
    second = patched(patched(tar((member("f"), b""), form=tarfile.USTAR_FORMAT), 345, b"d"), 0, b"e/f")
    assert only(first)["name"] == only(second)["name"] == "d/e/f"
    assert differing(first, second) == {"form"}


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (100, b"000644 \0"),
        (100, b"   644\0 "),
        (100, b"0000644 "),
        (136, b"\x80\0\0\0\0\0\0\0" + (1700000000).to_bytes(4, "big")),
        (90, b"hidden"),
        (263, b"00"),
        (500, b"behind"),
        (345, b"\0hidden"),
    ],
)
def test_how_a_header_is_spelled_is_form(at: int, value: bytes) -> None:
    """The same values in other bytes, or bytes that belong to no field."""
    other = patched(PLAIN, at, value)
    assert other != PLAIN
    found = differing(PLAIN, other)
    assert "form" in found
    assert found <= {"form", "owner"}  # another magic is another dialect, which may have no names of owners


def test_a_negative_and_a_huge_number_are_read() -> None:
    made = tar((member("a", mtime=-5, uid=1 << 40), b""))
    assert only(made)["time"] == "-5"
    assert only(made)["owner"].startswith("1099511627776:0:")


def test_a_global_header_is_a_row_of_its_own() -> None:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "c" * 40}
    ) as made:
        made.addfile(member("a"))
    first, second = rows(tars, out.getvalue())
    assert (first["type"], first["extra"], second["name"]) == ("g", f"52 comment={'c' * 40}\n", "a")
    assert opened(tars, out.getvalue()) == [(b"a", b"")]
    assert strange(out.getvalue()) == []


def pax(*pairs: tuple[str, str], kind: bytes = b"x") -> bytes:
    """Returns a PAX header with records that no honest writer makes."""
    data = b""
    for key, value in pairs:
        rest = f" {key}={value}\n".encode()
        size = next(n for n in range(len(rest), len(rest) + 9) if n == len(str(n)) + len(rest))
        data += b"%d" % size + rest
    info = member("x", type=kind)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (pax(("size", "1")) + PLAIN, "two sizes of one entry"),
        (pax(("path", "b"), ("path", "c")) + PLAIN, "a PAX record twice"),
        (pax(("path", "b")) + pax(("path", "c")) + PLAIN, "two headers of one kind for one entry"),
        (pax(("path", "b\0c")) + PLAIN, "a name with a zero byte"),
        (pax(("path", "b")) + tar((member("n" * 200), b"")), "GNU and PAX headers for one entry"),
        (patched(PLAIN, 156, b"Z"), "a type that readers take differently"),
        (PLAIN[:519] + b"\1" + PLAIN[520:], "padding"),
        (PLAIN + b"\1", "bytes behind the end"),
        (PLAIN + PLAIN, "bytes behind the end"),
        (PLAIN[:1024] + bytes(512) + PLAIN, "bytes behind the end"),
        (PLAIN[:1024], "not two blocks of zeros at the end"),
        (PLAIN[:1536], "not two blocks of zeros at the end"),
        (PLAIN[:1024] + b"short", "bytes behind the end"),
    ],
)
def test_what_readers_take_differently_is_strange(data: bytes, what: str) -> None:
    """Each is noted, and such a tar is never normalised."""
    assert what in strange(data)
    with pytest.raises(Unreadable, match="is not normalised"):
        rewritten(tars, data, "tar-times")


def test_a_name_that_another_one_hides_is_still_told() -> None:
    """Some readers take the first of two headers, or the one of the other kind."""
    same = pax(("path", "same"))
    for names in (
        [pax(("path", name)) + same + PLAIN for name in ("a", "b")],
        [same + tar((member(name * 200), b"")) for name in ("a", "b")],
        [pax(("path", name), ("path", "same")) + PLAIN for name in ("a", "b")],
    ):
        left, right = names
        assert left != right
        assert said(tars, left)[1] != said(tars, right)[1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (PLAIN[:515], "ends before"),
        (PLAIN[:300], ""),
        (patched(PLAIN, 124, b"77777777777\0"), "ends before"),
        (patched(PLAIN, 124, b"\xff" * 12), "bytes"),
        (patched(PLAIN, 124, b"\x80" + b"\x7f" * 11), "ends before"),
        (patched(PLAIN, 124, b"12x4567890a\0"), "number"),
        (PLAIN[:100] + b"7" + PLAIN[101:], "checksum"),
        (patched(PLAIN, 156, b"2"), "size"),
        (patched(PLAIN, 156, b"5"), "size"),
        (pax(("size", "-1")) + PLAIN, "size"),
        (pax(("path", "b")) + bytes(1024), "belongs to a next one"),
        (pax(("path", "b")), "ends before"),
        (pax(("path", "b"), kind=b"g") + PLAIN, "global"),
        (pax(("size", "1"), kind=b"g") + PLAIN, "global"),
        (patched(pax(("path", "b")), 124, b"00000000003\0") + PLAIN, "PAX record"),
    ],
)
def test_what_lies_or_is_cut_short_is_not_read(data: bytes, reason: str) -> None:
    if len(data) < 512:
        assert said(tars, data)[0] == "a leaf"
    else:
        assert reason in refused(tars, data)


def test_what_a_header_may_add_is_bounded() -> None:
    made = tar((member("n" * 5000), b""))
    assert "adds 5001 bytes" in refused(tars, made, Limits(field=5000))
    assert rows(tars, made)[0]["name"] == "n" * 5000
    many = tar(*(member(str(n)) for n in range(5)))
    assert "more than 4 entries" in refused(tars, many, Limits(entries=4))


def sparse_tar(tmp_path: Path, form: str) -> bytes:
    with (tmp_path / "s").open("wb") as file:
        for at in range(30):
            file.seek(at << 16)
            file.write(b"x" * 4096)
    subprocess.run(
        ["tar", "-C", str(tmp_path), f"--format={form}", "-S", "-cf", str(tmp_path / "t"), "s"], check=True
    )
    return (tmp_path / "t").read_bytes()


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_file_is_a_row_whose_bytes_are_not_opened(tmp_path: Path, form: str) -> None:
    """Its map counts: a hole in another place is another tar."""
    data = sparse_tar(tmp_path, form)
    (row,) = rows(tars, data)
    assert row["form"].endswith("sparse")
    assert opened(tars, data) == []
    assert strange(data) == []
    assert rewritten(tars, data) == data
    if form == "gnu":
        at = 512 + 20
        assert said(tars, data) != said(tars, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


@pytest.mark.parametrize("form", sorted(DIALECTS))
def test_no_byte_of_a_tar_changes_unseen(form: str) -> None:
    """Nor one of a header whose checksum is made right for the change."""
    small = tar(
        (member("d" * 70 + "/" + "n" * 70, mtime=1.5 if form == "pax" else 1), b"content"),
        member("l", type=tarfile.SYMTYPE, linkname="t" * (90 if form == "ustar" else 120)),
        form=DIALECTS[form],
    ).rstrip(b"\0")
    small += bytes(-len(small) % 512 + 1024)

    def mend(data: bytes, at: int) -> bytes:
        block = at // 512 * 512
        return (
            data[:block] + summed(data[block : block + 512]) + data[block + 512 :] if block in heads else data
        )

    with Bytes() as held:
        entries = list(Entries(held.region(small), held.spool.limits))
    heads = {at for at in range(0, len(small), 512) if right(small[at : at + 512])}
    assert len(heads) >= len(entries) == 2
    assert each_flip_shows(tars, small, mend) == len(small)


def test_times_are_all_that_tar_times_sets() -> None:
    """Times of headers, of extensions and of their records; nothing else, and twice is the same as once."""
    for form in DIALECTS.values():
        left, right = (
            tar((member("n" * 90, mtime=time), b"x"), member("b", mtime=time), form=form)
            for time in (1, 12345)
        )
        once = rewritten(tars, left, "tar-times")
        assert left != right
        assert rewritten(tars, right, "tar-times") == once == rewritten(tars, once, "tar-times")
        assert {row["time"].split()[0] for row in rows(tars, once)} == {"0"}
        setuid = tar((member("n" * 90, mode=0o4644), b"x"), member("b"), form=form)
        assert rewritten(tars, setuid, "tar-times") != once
    records = [tar((member("a", mtime=time), b"x"), form=tarfile.PAX_FORMAT) for time in (1.5, 2.25)]
    assert rewritten(tars, records[0], "tar-times") == rewritten(tars, records[1], "tar-times")


def test_whether_a_time_is_recorded_is_not_touched() -> None:
    with_record, without = (
        tar((member("a", mtime=time), b"x"), form=tarfile.PAX_FORMAT) for time in (1.5, 1)
    )
    assert rewritten(tars, with_record, "tar-times") != rewritten(tars, without, "tar-times")


@pytest.mark.parametrize("values", [{"uid": 5}, {"gid": 5}, {"uname": "u"}, {"gname": "ü"}, {"uid": 1 << 40}])
def test_owners_are_set_by_tar_owners_only(values: dict[str, object]) -> None:
    left, right = (tar((member("a", **more), b"x")) for more in ({}, values))
    assert rewritten(tars, left, "tar-times") != rewritten(tars, right, "tar-times")
    once = rewritten(tars, left, "tar-owners")
    assert rewritten(tars, right, "tar-owners") == once == rewritten(tars, once, "tar-owners")
    assert only(once)["owner"] == "0:0:root:root"


def test_order_is_set_by_tar_order_only() -> None:
    entries = [(member(name), name.encode()) for name in ("./b", "./a", "./c/d")]
    folder = member("./c", type=tarfile.DIRTYPE, mode=0o755)
    left, right = tar(*entries, folder), tar(folder, *reversed(entries))
    once = rewritten(tars, left, "tar-order")
    assert rewritten(tars, right, "tar-order") == once == rewritten(tars, once, "tar-order")
    assert [name for name, _ in opened(tars, once)] == [b"./a", b"./b", b"./c/d"]
    assert rewritten(tars, left, "tar-times") != rewritten(tars, right, "tar-times")


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([member("./a"), member("a")], "twice"),
        ([member("a"), member("b", type=tarfile.LNKTYPE, linkname="a")], "hard link"),
        ([member("l", type=tarfile.SYMTYPE, linkname="/"), member("l/x")], "no directory"),
        ([member("a/../b")], "leads out"),
    ],
)
def test_order_that_may_have_an_effect_is_refused(entries: list[tarfile.TarInfo], reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        rewritten(tars, tar(*entries), "tar-order")


@pytest.mark.parametrize("form", sorted(DIALECTS))
@pytest.mark.parametrize("size", [0, 1, 512, 30000])
def test_a_replaced_content_has_its_size_and_checksum(form: str, size: int) -> None:
    """tar reads what was written, and it is the tar that would have been made of that content."""
    new = b"n" * size
    made = [tar((member("a"), b"old"), (member("b"), data), form=DIALECTS[form]) for data in (b"before", new)]
    assert rewritten(tars, made[0], inside={(b"b", 0): new}) == made[1]
    assert program("tar", "tf", "{}", data=made[1]) == "a\nb\n"


def test_the_second_of_a_name_is_replaced_alone() -> None:
    made = tar((member("a"), b"1"), (member("a"), b"2"))
    new = rewritten(tars, made, inside={(b"a", 1): b"new"})
    assert opened(tars, new) == [(b"a", b"1"), (b"a", b"new")]
    with pytest.raises(Unreadable, match="not all"):
        rewritten(tars, made, inside={(b"a", 2): b""})


def test_a_new_content_goes_into_the_size_of_a_pax_record_too() -> None:
    data = pax(("size", "7")) + PLAIN
    new = rewritten(tars, data, inside={(b"a", 0): b"something longer"})
    assert opened(tars, new) == [(b"a", b"something longer")]
    assert strange(new) == []


@pytest.mark.parametrize("form", ["gnu", "posix", "ustar", "v7", "oldgnu"])
def test_what_tar_writes_of_a_real_tree_is_read_and_written_the_same(tmp_path: Path, form: str) -> None:
    """Nothing of it is strange, its names are those that tar lists, and it stays as it is untouched."""
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/file").write_bytes(b"x" * 1000)
    (tree / "d/empty").touch()
    (tree / "link").symlink_to("d/file")
    (tree / "hard").hardlink_to(tree / "d/file")
    (tree / ("m" * 60)).mkdir()
    (tree / ("m" * 60) / ("n" * 30)).touch()
    out = tmp_path / "t.tar"
    subprocess.run(["tar", "-C", str(tree), f"--format={form}", "-cf", str(out), "."], check=True)
    data = out.read_bytes()
    assert strange(data) == []
    assert rewritten(tars, data) == data
    listed = program("tar", "tf", "{}", data=data).splitlines()
    assert [row["name"] for row in rows(tars, data)] == listed
    normal = rewritten(tars, data, "tar-times", "tar-owners")
    assert program("tar", "tf", "{}", data=normal).splitlines() == listed


def test_noise_is_refused_or_told_never_a_crash() -> None:
    """Random bytes in a good tar end in a listing or in Unreadable."""
    rng = random.Random(5)
    base = tar((member("n" * 150), b"x" * 700), member("b"), form=tarfile.PAX_FORMAT)
    refusals = 0
    for _ in range(2000):
        data = bytearray(base)
        at = rng.randrange(4096)
        data[at : at + 3] = bytes(rng.randrange(256) for _ in range(3))
        block = at // 512 * 512
        data[block : block + 512] = summed(bytes(data[block : block + 512]))
        try:
            said(tars, bytes(data))
        except Unreadable:
            refusals += 1
    assert 0 < refusals < 2000

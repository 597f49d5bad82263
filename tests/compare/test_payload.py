"""What a package installs or a jar runs, hidden beside harmless differences: it is never normalised."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.records.comparison import Verdict
from tests.compare.building import EARLY, LATE, gzipped, package, run, tarred, tree, zipped
from tests.compare.containers import ar, member, tar
from tests.compare.sides import compared, told

#: Makes one side of a pair: 0 or 1, with a time of its own.
Side = Callable[[Path, int, int], bytes]

SCRIPT = b"#!/bin/sh\nexit 0\n"


def _jar(at: Path, when: int, **files: bytes) -> bytes:
    return zipped(tree(at / "jar", {"A.class": b"a" * 500, **files}, when))


def _deb(at: Path, when: int, change: Callable[[Path], object] | None = None, **options: object) -> bytes:
    """Returns a package with a jar of its own time, a link and a tool, after a change to its files."""
    folder = tree(
        at / "t", {"usr/share/a.jar": _jar(at, when), "usr/bin/tool": SCRIPT, "etc/a.conf": b"a=1\n"}
    )
    (folder / "usr/bin/link").symlink_to("tool")
    if change is not None:
        change(folder)
    return package(folder, **options)  # type: ignore[arg-type]


def _setuid(at: Path, side: int, when: int) -> bytes:
    return _deb(at, when, lambda made: (made / "usr/bin/tool").chmod((0o755, 0o4755)[side]))


def _executable(at: Path, side: int, when: int) -> bytes:
    return _deb(at, when, lambda made: (made / "etc/a.conf").chmod((0o644, 0o664)[side]))


def _link(at: Path, side: int, when: int) -> bytes:
    def change(made: Path) -> None:
        (made / "usr/bin/link").unlink()
        (made / "usr/bin/link").symlink_to(("tool", "/tmp/x")[side])

    return _deb(at, when, change)


def _kind(at: Path, side: int, when: int) -> bytes:
    def change(made: Path) -> None:
        (made / "usr/bin/link").unlink()
        if side:
            os.link(made / "usr/bin/tool", made / "usr/bin/link")
        else:
            (made / "usr/bin/link").write_bytes(SCRIPT)

    return _deb(at, when, change, sums=False, size=1)


def _script(at: Path, side: int, when: int) -> bytes:
    return _deb(at, when, scripts={"postinst": SCRIPT + (b"", b"# another\n")[side]})


def _content(at: Path, side: int, when: int) -> bytes:
    return _deb(at, when, lambda made: (made / "usr/bin/tool").write_bytes(SCRIPT + (b"", b"x")[side]))


def _conffile(at: Path, side: int, when: int) -> bytes:
    """The jar itself, harmless as its times are, is a conffile: what an administrator may have changed."""
    return _deb(at, when, scripts={"conffiles": b"/usr/share/a.jar\n"})


def _wrong_sums(at: Path, side: int, when: int) -> bytes:
    """One side's md5sums does not match its own files."""
    sums = b"%s  usr/share/a.jar\n" % (
        b"0" * 32 if side else hashlib.md5(_jar(at, when)).hexdigest().encode()
    )
    return _deb(at, when, scripts={"md5sums": sums}, sums=False)


def _wrong_on_both(at: Path, side: int, when: int) -> bytes:
    return _deb(at, when, scripts={"md5sums": b"%d" % side * 32 + b"  usr/share/a.jar\n"}, sums=False)


def _wrong_size(at: Path, side: int, when: int) -> bytes:
    return _deb(at, when, size=(7, 7000)[side])


def _raw_deb(control: bytes, data: bytes, *more: tuple[bytes, bytes]) -> bytes:
    return ar((b"debian-binary", b"2.0\n"), (b"control.tar", control), (b"data.tar", data), *more)


def _made_by_hand(
    *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT
) -> bytes:
    control = tar((member("./control"), b"Package: a\n"))
    return _raw_deb(control, tar(*members, form=form))


def _owner_number(at: Path, side: int, when: int) -> bytes:
    return _made_by_hand((member("./a", uid=(0, 1000)[side], mtime=when), b"a"))


def _owner_name(at: Path, side: int, when: int) -> bytes:
    return _made_by_hand((member("./a", uname=("root", "www-data")[side], mtime=when), b"a"))


def _package_order(at: Path, side: int, when: int) -> bytes:
    some = [(member("./a", mtime=when), b"a"), (member("./b", mtime=when), b"b")]
    return _made_by_hand(*some[:: 1 - 2 * side])


def _package_records(at: Path, side: int, when: int) -> bytes:
    one = member("./a", mtime=when)
    one.pax_headers = {"mtime": f"{when}.5"}
    return _made_by_hand((one, b"a"), form=tarfile.PAX_FORMAT)


def _attribute(at: Path, side: int, when: int) -> bytes:
    one = member("./a", mtime=when)
    one.pax_headers = {"SCHILY.xattr.security.capability": ("none", "all")[side]}
    return _made_by_hand((one, b"a"), form=tarfile.PAX_FORMAT)


def _second_data(at: Path, side: int, when: int) -> bytes:
    control = tar((member("./control"), b"Package: a\n"))
    data = tar((member("./a", mtime=when), b"a"))
    other = tar((member("./a", mtime=when, mode=0o755), b"b"))
    return _raw_deb(control, data, *(((b"data.tar", other),) if side else ()))


def _entry(name: str, data: bytes, when: int, mode: int = 0o100644) -> tuple[zipfile.ZipInfo, bytes]:
    year = 2020 + (when != EARLY)
    info = zipfile.ZipInfo(name, (year, 1, 2, 3, 4, 6))
    info.external_attr = mode << 16
    return info, data


def _zip(*entries: tuple[zipfile.ZipInfo, bytes], comment: bytes = b"") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for info, data in entries:
            file.writestr(info, data, zipfile.ZIP_DEFLATED)
        file.comment = comment
    return made.getvalue()


def _duplicates(at: Path, side: int, when: int) -> bytes:
    one, two = _entry("A.class", b"one", when), _entry("A.class", b"two", when)
    return _zip(one, two) if side else _zip(two, one)


def _prefix(at: Path, side: int, when: int) -> bytes:
    return (b"", b"#!/bin/sh\necho run\n")[side] + _jar(at, when)


def _prefix_of_another_name(at: Path, side: int, when: int) -> bytes:
    return tarred(tree(at / "t", {"usr/bin/tool": _prefix(at, side, when)}))


def _behind(at: Path, side: int, when: int) -> bytes:
    return _jar(at, when) + (b"", b"more")[side]


def _omitted(at: Path, side: int, when: int) -> bytes:
    """An entry that the directory of one side does not list, and a streaming reader finds."""
    whole = _zip(_entry("A.class", b"a", when), _entry("Evil.class", b"evil", when))
    if not side:
        return _zip(_entry("A.class", b"a", when))
    end = whole.rindex(b"PK\5\6")
    offset = struct.unpack_from("<L", whole, end + 16)[0]
    record = whole.index(b"PK\1\2", offset + 4)
    directory = whole[offset:record]
    tail = whole[end : end + 8] + struct.pack("<HHLL", 1, 1, len(directory), offset) + whole[end + 20 :]
    return whole[:offset] + directory + tail


def _manifest_late(at: Path, side: int, when: int) -> bytes:
    manifest = _entry("META-INF/MANIFEST.MF", b"Main-Class: A\r\n\r\n", when)
    other = _entry("A.class", b"a", when)
    return _zip(manifest, other) if side else _zip(other, manifest)


def _service(at: Path, side: int, when: int) -> bytes:
    return _jar(at, when, **{"META-INF/services/a.B": (b"one.A\ntwo.A\n", b"two.A\none.A\n")[side]})


def _service_jar(at: Path, side: int, when: int) -> bytes:
    """What lies among the services is not looked into to make it equal, not even a jar of other times."""
    return _jar(at, EARLY, **{"META-INF/services/a.jar": _jar(at / "inner", when)})


def _signed(at: Path, side: int, when: int) -> bytes:
    files = {"META-INF/A.SF": b"Signature-Version: 1.0\n", "META-INF/A.RSA": b"signature"}
    return _jar(at, when, **files)


def _zip_mode(at: Path, side: int, when: int) -> bytes:
    return _zip(_entry("tool", SCRIPT, when, (0o100755, 0o104755)[side]))


def _zip_link(at: Path, side: int, when: int) -> bytes:
    return _zip(_entry("link", b"target", when, (0o100777, 0o120777)[side]))


def _zip_comment(at: Path, side: int, when: int) -> bytes:
    return _zip(_entry("A.class", b"a", when), comment=(b"", b"see here")[side])


def _class_path(at: Path, side: int, when: int) -> bytes:
    path = (b"/home/alice/src", b"/srv/bob/checkout")[side]
    return _jar(
        at, when, **{"META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\r\nClass-Path: %s\r\n\r\n" % path}
    )


def _configured_host(at: Path, side: int, when: int) -> bytes:
    """The recorded value in a field that does not tell of the build: what is installed talks to that host."""
    return _jar(at, when, **{"db.properties": b"db.cloud.host=%s\n" % (b"build1", b"build2")[side]})


def _part_of_a_value(at: Path, side: int, when: int) -> bytes:
    return _jar(at, when, **{"git.properties": b"build.host=%s.example.org\n" % (b"build1", b"build2")[side]})


def _word_for_a_value(at: Path, side: int, when: int) -> bytes:
    return _jar(at, when, **{"git.properties": b"build.host=%s\n" % (b"build1", b"@recorded host@")[side]})


def _date_as_a_value(at: Path, side: int, when: int) -> bytes:
    date = (b"Wed Nov 25 00:00:01 UTC 2026", b"Thu Nov 26 00:00:01 UTC 2026")[side]
    return _jar(at, when, **{"a.properties": b"expires=%s\n" % date})


def _second_member(at: Path, side: int, when: int) -> bytes:
    return gzipped(tarred(tree(at / "t", {"a": b"a"}, when))) + (b"", gzipped(b"more"))[side]


def _gzip_comment(at: Path, side: int, when: int) -> bytes:
    made = gzipped(b"data" * 99)
    header = made[:3] + b"\x10" + struct.pack("<L", when) + made[8:10]
    return header + (b"one\0", b"two\0")[side] + made[10:]


def _second_stream(at: Path, side: int, when: int) -> bytes:
    first = run("xz", "-c", where=Path("/"), data=tarred(tree(at / "t", {"a": b"a"}, when)))
    return first + (b"", run("xz", "-c", where=Path("/"), data=b"more"))[side]


def _tar_mode(at: Path, side: int, when: int) -> bytes:
    return tar((member("a", mode=(0o755, 0o4755)[side], mtime=when), b"a"))


def _tar_link(at: Path, side: int, when: int) -> bytes:
    return tar(member("a", type=tarfile.SYMTYPE, linkname=("b", "/etc")[side], mtime=when))


def _tar_twice(at: Path, side: int, when: int) -> bytes:
    """A name twice: the later one decides the mode."""
    some = [(member("a", mode=mode, mtime=when), b"a") for mode in (0o755, 0o644)]
    return tar(*some[:: 1 - 2 * side])


def _tar_through_a_link(at: Path, side: int, when: int) -> bytes:
    some = [
        (member("a", type=tarfile.SYMTYPE, linkname="b", mtime=when), b""),
        (member("a/c", mtime=when), b"c"),
    ]
    return tar(*some[:: 1 - 2 * side])


def _tar_behind(at: Path, side: int, when: int) -> bytes:
    return tar((member("a", mtime=when), b"a")) + (b"", b"behind")[side].ljust(512, b"\0")


def _class(at: Path, side: int, when: int) -> bytes:
    return _jar(at, when, **{"B.class": (b"one", b"two")[side]})


OF_PACKAGES: tuple[Side, ...] = (
    _setuid, _executable, _link, _kind, _script, _content, _conffile, _wrong_sums, _wrong_on_both,
    _wrong_size, _owner_number, _owner_name, _package_order, _package_records, _attribute, _second_data,
)  # fmt: skip
OF_JARS: tuple[Side, ...] = (
    _duplicates, _prefix, _behind, _omitted, _manifest_late, _service, _service_jar, _signed, _zip_mode,
    _zip_link, _zip_comment, _class_path, _configured_host, _part_of_a_value, _word_for_a_value,
    _date_as_a_value, _class,
)  # fmt: skip
OF_TARS: tuple[Side, ...] = (
    _tar_mode, _tar_link, _tar_twice, _tar_through_a_link, _tar_behind, _prefix_of_another_name,
)  # fmt: skip
PAYLOAD: list[tuple[Side, str]] = [
    *[(side, "a.deb") for side in OF_PACKAGES],
    *[(side, "a.jar") for side in OF_JARS],
    *[(side, "a.tar") for side in OF_TARS],
    (_second_member, "a.tgz"),
    (_gzip_comment, "a.gz"),
    (_second_stream, "a.txz"),
]
VALUES = (
    {"host": "build1", "user": "alice", "path": "/home/alice/src"},
    {"host": "build2", "user": "bob", "path": "/srv/bob/checkout"},
)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("build", "name"), PAYLOAD, ids=lambda each: getattr(each, "__name__", ""))
def test_what_counts_is_never_normalised(tmp_path: Path, build: Side, name: str) -> None:
    """It differs, or cannot be read; never agrees. Without the harmless difference beside it as well."""
    for times in ((EARLY, LATE), (EARLY, EARLY)):
        one, two = (build(tmp_path / "made", side, when) for side, when in zip((0, 1), times, strict=True))
        if one == two:
            assert times[0] == times[1]
            assert build in (
                _signed,
                _conffile,
                _service_jar,
                _package_records,
            )  # of these the times are what counts
            continue
        found = compared(tmp_path, one, two, name, VALUES)
        assert found.verdict == Verdict.DIFFER, told(found)
        assert (found.normalisers, found.normalised_sha256) == ([], None)
        assert found.leaves


@pytest.mark.parametrize("name", ["a.jar", "tool"])
def test_what_stands_in_front_of_a_zip_file_is_told(tmp_path: Path, name: str) -> None:
    """A program in front of a jar's first entry is a leaf of its own, whatever the file is called."""
    one, two = (prefix + _jar(tmp_path / "made", EARLY) for prefix in (b"#!/bin/sh\n:\n", b"#!/bin/sh\nx\n"))
    found = compared(tmp_path, one, two, name)
    assert found.verdict == Verdict.DIFFER
    assert [leaf.what for leaf in found.leaves] == ["strange: bytes in front of the first entry"]

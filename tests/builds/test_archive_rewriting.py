"""Promises of the rewriting: what this build wrote becomes the same everywhere, all other bytes stay."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import struct
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.builds.archive_rewriting import main, rewrite_files, rewritten
from pipeline.builds.zip_rewriting import Day, NotUnderstoodError
from pipeline.edge.process import run

#: 2025-10-27 02:53:32 UTC.
DAY = Day(1_761_533_612)
THEN = (2025, 10, 27, 2, 53, 32)
LATER = (2026, 11, 24, 23, 47, 8)
OTHER = (2026, 11, 25, 9, 10, 58)
EARLIER = (2019, 3, 1, 12, 0, 0)


@dataclass(frozen=True)
class File:
    """One entry of a zip that is made for a test."""

    name: str
    text: bytes = b"x" * 99
    time: tuple[int, int, int, int, int, int] = LATER
    mode: int = 0o100644
    extra: bytes = b""
    method: int = zipfile.ZIP_DEFLATED


def zipped(*files: File, comment: bytes = b"", streamed: bool = False) -> bytes:
    """Makes a zip; `streamed` as a writer does that cannot go back, with data descriptors."""
    target: Any = _OneWay() if streamed else io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for file in files:
            info = zipfile.ZipInfo(file.name, file.time)
            info.create_system, info.external_attr = 3, file.mode << 16
            info.compress_type, info.extra = file.method, file.extra
            archive.writestr(info, file.text)
        archive.comment = comment
    made: bytes = target.getvalue()
    return made


class _OneWay(io.RawIOBase):
    """A file that can only be written on."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def getvalue(self) -> bytes:
        return b"".join(self._parts)


def settled(name: str, data: bytes, day: Day = DAY) -> bytes:
    """Returns what an archive becomes, which is looked at again and then stays."""
    parts = rewritten(name, data, day)
    assert parts is not None, "nothing was rewritten"
    made = b"".join(parts)
    assert rewritten(name, made, day) is None, "what was rewritten is rewritten again"
    return made


def facts(data: bytes) -> list[tuple[str, bytes, tuple[int, ...], int]]:
    """Returns the entries of a zip as Python's own reader sees them, after it has checked each."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return [(i.filename, archive.read(i), i.date_time, i.external_attr >> 16) for i in archive.infolist()]


def extended(seconds: int) -> bytes:
    return struct.pack("<HHBi", 0x5455, 5, 1, seconds)


# -- zip -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_two_jars_of_one_content_become_one(streamed: bool) -> None:
    """Other times, another order, other modes and other users: one result, with every entry and its bytes."""
    names = ["META-INF/MANIFEST.MF", "a/B.class", "a/", "README"]
    owners = [struct.pack("<HHBBIBI", 0x7875, 11, 1, 4, user, 4, user) for user in (0, 1000)]
    one = [File(n, n.encode() * 9, LATER, 0o100644, extended(1_795_563_000) + owners[0]) for n in names]
    two = [
        File(n, n.encode() * 9, OTHER, 0o107777, extended(1_795_599_000) + owners[1]) for n in reversed(names)
    ]
    one[2], two[1] = File("a/", b"", LATER, 0o177777), File("a/", b"", OTHER, 0o040755)
    first = settled("x.jar", zipped(*one, streamed=streamed))
    assert first == settled("x.jar", zipped(*two, streamed=streamed))
    assert facts(first) == [
        ("META-INF/MANIFEST.MF", b"META-INF/MANIFEST.MF" * 9, THEN, 0o100644),
        ("README", b"README" * 9, THEN, 0o100644),
        ("a/", b"", THEN, 0o040755),
        ("a/B.class", b"a/B.class" * 9, THEN, 0o100644),
    ]


def test_an_old_file_of_a_new_archive_gets_the_same_time() -> None:
    """Whether a jar was in the local repository already decides how old it is, and whether read-only."""
    cold = [File("lib.jar", b"no zip", LATER, 0o100644), File("own.jar", b"no zip", LATER)]
    warm = [File("lib.jar", b"no zip", (2000, 1, 1, 0, 0, 0), 0o100444), File("own.jar", b"no zip", OTHER)]
    assert settled("agent.zip", zipped(*cold)) == settled("agent.zip", zipped(*warm))


def test_what_may_run_may_still_run() -> None:
    """A mode that the writer knew and that says `executable` stays as it is."""
    found = facts(settled("x.zip", zipped(File("a.sh", mode=0o100555), File("b.sh", mode=0o100755))))
    assert [mode for _, _, _, mode in found] == [0o100555, 0o100755]


@pytest.mark.parametrize("time", [EARLIER, THEN])
def test_other_peoples_archives_stay(time: tuple[int, int, int, int, int, int]) -> None:
    """No entry is later than the commit: not a byte is changed, whatever the order and the modes."""
    files = [File("b", mode=0o107777, time=time), File("a", time=time, extra=extended(DAY.seconds))]
    assert rewritten("x.jar", zipped(*files), DAY) is None


@pytest.mark.parametrize("kind", ["extended", "unix", "ntfs"])
def test_a_time_beside_the_entry_counts(kind: str) -> None:
    """Extra fields tell the time to the second: a later one alone is enough, and is replaced."""
    extras = {
        "extended": extended(DAY.seconds + 1),
        "unix": struct.pack("<HHii", 0x5855, 8, 5, DAY.seconds + 1),
        "ntfs": struct.pack(
            "<HHIHH3Q", 0x000A, 32, 0, 1, 24, *[(DAY.seconds + 1) * 10**7 + 116444736 * 10**9] * 3
        ),
    }
    made = settled("x.zip", zipped(File("a", time=EARLIER, extra=extras[kind])))
    assert facts(made)[0][2] == THEN


def test_entries_of_one_name_keep_their_order() -> None:
    """Which of two comes first decides what a reader finds."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = zipped(File("b", b"1"), File("a", b"2"), File("b", b"3"))
    assert [text for _, text, _, _ in facts(settled("x.zip", data))] == [b"1", b"2", b"3"]


EPISODE = b"<!--\nGenerated on: 2026.11.24 at 11:59:50 PM UTC \n-->\n"
NOTICE = b"Thing\nCopyright 2012-2026 Somebody\nCopyright 2026 B \nCopyright 2001-2024 C \n"


def test_the_day_of_the_build_in_texts_becomes_the_commits() -> None:
    """JAXB's date, in any zone, and the year to which Maven counts; years that are past stay."""
    made = settled(
        "x.jar",
        zipped(
            File("META-INF/NOTICE", NOTICE, THEN),
            File("META-INF/sun-jaxb.episode", EPISODE, THEN),
            File("doc/NOTICE", NOTICE, THEN),
        ),
    )
    assert [text for _, text, _, _ in facts(made)] == [
        b"Thing\nCopyright 2012-2025 Somebody\nCopyright 2025 B \nCopyright 2001-2024 C \n",
        b"<!--\nGenerated on: 2025.10.27 at 02:53:32 AM UTC \n-->\n",
        NOTICE,
    ]


def test_a_signed_jar_keeps_its_texts() -> None:
    """A changed text would break the signature."""
    files = (File("META-INF/NOTICE", NOTICE, THEN), File("META-INF/A.SF", b"", THEN))
    assert rewritten("x.jar", zipped(*files), DAY) is None


def test_archives_in_archives() -> None:
    """What lies inside is rewritten as well, at some depth, and what is others' stays inside too."""
    others = zipped(File("b", time=EARLIER), File("a", time=EARLIER))
    outer = []
    for time in (LATER, OTHER):
        inner = zipped(File("b", time=time), File("a", time=time))
        war = zipped(File("WEB-INF/lib/a.jar", inner), File("WEB-INF/lib/others.jar", others))
        outer.append(
            zipped(File("x.war", war, THEN, method=zipfile.ZIP_STORED), File("y.tgz", tarred(time), THEN))
        )
    made = settled("x.zip", outer[0])
    assert made == settled("x.zip", outer[1])
    war = {name: text for name, text, _, _ in facts(made)}["x.war"]
    found = {name: text for name, text, _, _ in facts(war)}
    assert found["WEB-INF/lib/others.jar"] == others
    assert [name for name, *_ in facts(found["WEB-INF/lib/a.jar"])] == ["a", "b"]


def test_more_entries_than_the_old_records_can_count() -> None:
    """A jar of 66,000 entries has its number in another record, which has to be right."""
    data = zipped(*(File(f"{n:x}", b"", method=zipfile.ZIP_STORED) for n in range(66_000)))
    made = settled("fat.jar", data)
    assert len(facts(made)) == 66_000
    assert len(made) == len(data)


def test_a_comment_and_unknown_fields_stay() -> None:
    """The archive's comment, and the field by which a jar is known, are copied."""
    mark = struct.pack("<HH", 0xCAFE, 0)
    made = settled("x.jar", zipped(File("a", extra=mark), comment=b"hello"))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert (archive.comment, archive.infolist()[0].extra) == (b"hello", mark)


ODD = {
    "no zip": b"hello, this is no zip at all",
    "empty": b"",
    "cut short": zipped(File("a"), File("b"))[:-30],
    "something before it": b"#!/bin/sh\n" + zipped(File("a")),
    "something after it": zipped(File("a")) + b"more",
    "a gzip that is none": b"hello",
}


@pytest.mark.parametrize("what", [*ODD])
def test_what_is_not_understood_is_said(what: str) -> None:
    """Nothing is guessed about a damaged archive, or one of a kind of its own."""
    with pytest.raises(NotUnderstoodError):
        rewritten("x.tgz" if "gzip" in what else "x.zip", ODD[what], DAY)


def test_a_damaged_entry_is_not_made_a_good_one() -> None:
    """A text with another check sum than its own would get a right one by being rewritten."""
    data = bytearray(zipped(File("META-INF/NOTICE", NOTICE, method=zipfile.ZIP_STORED)))
    data[data.index(b"Thing")] ^= 1
    with pytest.raises(NotUnderstoodError, match="is damaged"):
        rewritten("x.jar", bytes(data), DAY)


@given(
    st.lists(
        st.tuples(st.text("ab/-.", min_size=1, max_size=6), st.binary(max_size=60)),
        max_size=6,
        unique_by=lambda one: one[0],
    ),
    st.randoms(use_true_random=False),
)
def test_no_content_is_lost(files: list[tuple[str, bytes]], chance: Any) -> None:
    """Whatever the names, contents and order: the same entries with the same bytes, and one result."""
    made = set()
    for time in (LATER, OTHER):
        chance.shuffle(files)
        data = zipped(File("z", time=time), *(File(f"n{name}", text, time) for name, text in files))
        made.add(settled("x.zip", data))
    assert len(made) == 1
    found = {name: text for name, text, _, _ in facts(made.pop())}
    assert found == {"z": b"x" * 99, **{f"n{name}": text for name, text in files}}


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_refused_or_rewritten(junk: bytes, at: int) -> None:
    """A zip with junk written over it is understood or it is not; nothing else happens."""
    data = bytearray(zipped(File("META-INF/NOTICE", NOTICE), File("b.jar", zipped(File("c")))))
    data[at : at + len(junk)] = junk
    with contextlib.suppress(NotUnderstoodError):
        rewritten("x.jar", bytes(data), DAY)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Adak"])
def test_local_time_does_not_matter(zone: str, tmp_path: Path) -> None:
    """A zip has local time: in no zone is what was written an hour after the commit taken for old."""
    folder = tmp_path / "debian" / "thing"
    (folder / "DEBIAN").mkdir(parents=True)
    script = (
        "import sys, zipfile, datetime; sys.path.insert(0, sys.argv[1]);"
        "when = datetime.datetime.fromtimestamp(int(sys.argv[2]) + 3600).timetuple()[:6];"
        "z = zipfile.ZipFile('debian/thing/a.jar', 'w');"
        "z.writestr(zipfile.ZipInfo('a', when), b''); z.close();"
        "from pipeline.builds.archive_rewriting import main; main(sys.argv[2:])"
    )
    root = Path(__file__).resolve().parents[2]
    words = [sys.executable, "-I", "-S", "-c", script, root, str(DAY.seconds)]
    said = run(words, cwd=tmp_path, env={"TZ": zone}).text
    assert said == "debian/thing/a.jar: rewritten"
    assert facts((folder / "a.jar").read_bytes())[0][2] == THEN


# -- tar and gzip --------------------------------------------------------------------------------------------


def tarred(
    time: Sequence[int],
    names: Sequence[str] = ("p/a.py", "p/b.py"),
    *,
    user: int = 0,
    form: int = tarfile.PAX_FORMAT,
    more: Mapping[str, bytes] = {},
    fraction: float = 0.5,
) -> bytes:
    """Makes a tgz as Python's own tools do, with fractions of a second and the name of the file."""
    seconds = datetime(*time[:6], tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]
    packed = io.BytesIO()
    with (
        gzip.GzipFile("x.tar", "wb", fileobj=packed, mtime=seconds) as zipped_,
        tarfile.open(fileobj=zipped_, mode="w", format=form) as tar,
    ):
        for name, text in {**{name: name.encode() for name in names}, **more}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.gid = len(text), seconds + fraction, user, user
            info.uname = info.gname = f"user{user}"
            tar.addfile(info, io.BytesIO(text))
    return packed.getvalue()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_two_tars_of_one_content_become_one(form: int) -> None:
    """Other times, users and order: one result, in a format of the same kind."""
    fraction = 0.5 if form == tarfile.PAX_FORMAT else 0.0
    one = tarred(LATER, user=0, form=form, fraction=fraction)
    two = tarred(OTHER, ("p/b.py", "p/a.py"), user=1000, form=form, fraction=fraction)
    made = settled("Marvin-1.tar.gz", one)
    assert made == settled("Marvin-1.tar.gz", two)
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        found = [(m.name, m.mtime, m.uid, m.uname, m.pax_headers) for m in tar.getmembers()]
        assert found == [(f"p/{n}.py", DAY.seconds, 0, "root", {}) for n in "ab"]
        file = tar.extractfile("p/a.py")
        assert file is not None
        assert file.read() == b"p/a.py"


def test_an_old_tar_in_a_new_gzip_is_not_packed_again() -> None:
    """Only four bytes of the header change; other people's tars stay as they are."""
    old = tarred(EARLIER)
    assert rewritten("x.tgz", old, DAY) is None
    new = old[:4] + struct.pack("<I", DAY.seconds + 9) + old[8:]
    assert settled("x.tgz", new) == old[:4] + struct.pack("<I", DAY.seconds) + old[8:]


def test_a_plain_gzip_gets_the_commits_time() -> None:
    """A page of the manual, say, that was compressed without the option for it."""
    assert settled("x.1.gz", gzip.compress(b"x", mtime=DAY.seconds + 5)) == gzip.compress(
        b"x", mtime=DAY.seconds
    )
    assert rewritten("x.1.gz", gzip.compress(b"x", mtime=0), DAY) is None


def test_a_jar_in_a_tar() -> None:
    """Archives inside a tar are looked into as well."""
    both = [tarred(EARLIER, more={"x.jar": zipped(File("a", time=time))}) for time in (LATER, OTHER)]
    assert settled("x.tgz", both[0]) == settled("x.tgz", both[1])


# -- files ---------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_and_its_other_name_stays(tmp_path: Path) -> None:
    """A jar may be a hard link into a cache: that one keeps its bytes, and the new one has the old mode."""
    data = zipped(File("a"))
    kept, path = tmp_path / "kept", tmp_path / "x.jar"
    kept.write_bytes(data)
    kept.chmod(0o640)
    os.link(kept, path)
    assert list(rewrite_files([path], DAY)) == [f"{path}: rewritten"]
    assert (kept.read_bytes(), path.read_bytes()) == (data, settled("x.jar", data))
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["kept", "x.jar"]


def test_links_and_other_files_are_not_touched(tmp_path: Path) -> None:
    """A link may lead out of the package. An archive that is damaged is named, with the reason."""
    outside = tmp_path / "outside.jar"
    outside.write_bytes(zipped(File("a")))
    (tmp_path / "link.jar").symlink_to(outside)
    (tmp_path / "text").write_bytes(outside.read_bytes())
    (tmp_path / "bad.jar").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.jar")
    before = outside.read_bytes()
    names = ("link.jar", "text", "bad.jar", "pipe.jar", "gone.jar")
    said = list(rewrite_files([tmp_path / name for name in names], DAY))
    assert said == [f"{tmp_path / 'bad.jar'}: left as it is: it has no end record"]
    assert outside.read_bytes() == before


def test_only_packages_are_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What debhelper has described is a package; debian/tmp and the tree are not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "debian" / "thing" / "DEBIAN").mkdir(parents=True)
    for place in ("debian/thing/usr", "debian/tmp/usr", "target"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.jar").write_bytes(zipped(File("a")))
    main([str(DAY.seconds)])
    assert capsys.readouterr().out == "debian/thing/usr/a.jar: rewritten\n"

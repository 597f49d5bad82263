"""Pairs of files that differ in one planted thing each, for tools that say in what files differ.

`words` is what an answer has to hold that names the thing, by whichever tool: a regular expression each.
`noise` says that a normaliser may rightly make the two equal; all else changes what somebody gets.
"""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import struct
import subprocess
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.compare.containers import ar, member, tar

EARLY, LATE = (2020, 1, 2, 3, 4, 6), (2021, 5, 6, 7, 8, 10)
CONTROL = b"Package: sample\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: one\n"
SOURCE = """@Deprecated(since = "%s") public class A {
  int pick(int x) { switch (x) { case 1: return 7; case 2: return 8; default: return 9; } }
}"""
#: How the code of `SOURCE` begins: `iload_1`, `lookupswitch`, and two bytes of padding, which must be 0.
SWITCH = b"\x1b\xab\x00\x00"


@dataclass(frozen=True)
class Planted:
    """One pair: what differs, the file's name, both sides' bytes."""

    what: str
    name: str
    left: bytes
    right: bytes
    words: str
    noise: bool = False


def zipped(*entries: tuple[str, bytes], when: tuple[int, ...] = EARLY, mode: int = 0o644) -> bytes:
    """Returns a zip file."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            info = zipfile.ZipInfo(name, when)  # type: ignore[arg-type]
            info.external_attr = mode << 16
            info.create_system = 3
            with warnings.catch_warnings():  # of a name that is there twice
                warnings.simplefilter("ignore")
                file.writestr(info, content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def package(*members: tuple[tarfile.TarInfo, bytes], time: int = 1700000000, more: bytes = b"") -> bytes:
    """Returns a Debian package with these files; `more` is another member of data behind them."""
    control = lzma.compress(tar((member("./control"), CONTROL)))
    data = lzma.compress(tar(*members))
    parts = [(b"debian-binary", b"2.0\n"), (b"control.tar.xz", control), (b"data.tar.xz", data)]
    return ar(*parts, *([(b"data.tar.xz", more)] if more else []), time=time)


def file(
    name: str = "./usr/bin/tool", data: bytes = b"tool\n", **values: object
) -> tuple[tarfile.TarInfo, bytes]:
    """Returns a file of a tar."""
    return member(name, **values), data


def classes() -> Mapping[str, bytes] | None:
    """Returns a class, and the same with another value in an annotation; None without a compiler."""
    if shutil.which("javac") is None:
        return None
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for value in ("1", "2"):
            (Path(folder) / "A.java").write_text(SOURCE % value)
            subprocess.run(["javac", "-d", folder, f"{folder}/A.java"], check=True, timeout=120)
            found[value] = (Path(folder) / "A.class").read_bytes()
    return found


def pairs() -> Iterator[Planted]:
    """Yields all pairs."""
    yield from packages()
    yield from archives()
    made = classes()
    if made is not None:
        yield from of_classes(made["1"], made["2"])


def packages() -> Iterator[Planted]:
    """Yields pairs of Debian packages."""
    plain = package(file())
    name = "sample_1_all.deb"
    yield Planted("setuid bit of a program", name, plain, package(file(mode=0o4644)), "rwS|4644")
    yield Planted("owner of a file", name, plain, package(file(uid=1000)), r"\b1000\b")
    yield Planted(
        "time of a file", name, plain, package(file(mtime=1700003600)), "23:13|1700003600", noise=True
    )
    yield Planted(
        "another data member",
        name,
        plain,
        package(file(), more=lzma.compress(tar(file()))),
        r"data\.tar\.xz|data members",
    )
    yield Planted(
        "time in the package's own headers",
        name,
        plain,
        package(file(), time=1700003600),
        "23:13|1700003600",
        noise=True,
    )
    two = file("./usr/bin/a"), file("./usr/bin/b")
    yield Planted(
        "order of files", name, package(*two), package(*two[::-1]), "order of entries|usr/bin/a", noise=True
    )
    linked = (member("./usr/bin/tool", type=tarfile.SYMTYPE, linkname="/bin/true"), b"")
    yield Planted(
        "where a link leads",
        name,
        package(linked),
        package((member("./usr/bin/tool", type=tarfile.SYMTYPE, linkname="/bin/sh"), b"")),
        "/bin/sh",
    )
    data = tar(file())
    behind = data + bytes(512) + b"more" * 128
    control = lzma.compress(tar((member("./control"), CONTROL)))
    rest = (b"debian-binary", b"2.0\n"), (b"control.tar.xz", control)
    yield Planted(
        "bytes behind a tar's end",
        name,
        plain,
        ar(*rest, (b"data.tar.xz", lzma.compress(behind))),
        "6d6f 7265|behind the end",
    )
    yield Planted(
        "xz with another setting",
        name,
        plain,
        ar(*rest, (b"data.tar.xz", lzma.compress(data, preset=0, check=lzma.CHECK_CRC32))),
        "CRC32",
        noise=True,
    )
    capable = member("./usr/bin/tool", pax_headers={"SCHILY.xattr.security.capability": "x"})
    capable.size = 5
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as out:
        out.addfile(capable, io.BytesIO(b"tool\n"))
    yield Planted(
        "a capability in a tar",
        name,
        plain,
        ar(*rest, (b"data.tar.xz", lzma.compress(made.getvalue()))),
        "capability",
    )


def archives() -> Iterator[Planted]:
    """Yields pairs of zip files and gzip streams."""
    plain = zipped(("a.txt", b"one\n"), ("b.txt", b"two\n"))
    yield Planted(
        "an entry twice",
        "a.jar",
        plain,
        zipped(("a.txt", b"one\n"), ("b.txt", b"two\n"), ("a.txt", b"evil\n")),
        r"evil|a\.txt",
    )
    yield Planted("bytes before a jar", "a.jar", plain, b"#!/bin/sh\nexit 1\n" + plain, "bin/sh")
    gap = hidden(plain, b"hidden!!")
    yield Planted("bytes between entries", "a.jar", plain, gap, "hidden")
    commented = bytearray(plain)
    commented[-2:] = struct.pack("<H", 4)
    yield Planted("a comment of a jar", "a.jar", plain, bytes(commented) + b"evil", "evil")
    yield Planted(
        "mode of an entry",
        "a.zip",
        plain,
        zipped(("a.txt", b"one\n"), ("b.txt", b"two\n"), mode=0o755),
        "rwxr-xr-x|1ed0000",
    )
    yield Planted(
        "time of entries",
        "a.jar",
        plain,
        zipped(("a.txt", b"one\n"), ("b.txt", b"two\n"), when=LATE),
        "2021-05|21-May",
        noise=True,
    )
    yield Planted(
        "order of entries",
        "a.jar",
        plain,
        zipped(("b.txt", b"two\n"), ("a.txt", b"one\n")),
        r"order of entries|a\.txt",
        noise=True,
    )
    yield Planted(
        "another content, same size", "a.jar", plain, zipped(("a.txt", b"one\n"), ("b.txt", b"twa\n")), "twa"
    )
    one, two = (gzip.compress(each, mtime=0) for each in (b"one\n", b"two\n"))
    yield Planted("a second gzip member", "a.gz", one, one + two, "two|another member")
    yield Planted(
        "an empty second gzip member", "a.gz", one, one + gzip.compress(b"", mtime=0), "1f8b|another member"
    )
    yield Planted(
        "time of a gzip stream",
        "a.gz",
        one,
        one[:4] + struct.pack("<I", 1700000000) + one[8:],
        "2023|1700000000",
        noise=True,
    )
    dated = "#{}\nkey=value\n"
    yield Planted(
        "date in a properties file",
        "a.jar",
        zipped(("a.properties", dated.format("Thu Jan 02 03:04:06 UTC 2020").encode())),
        zipped(("a.properties", dated.format("Fri May 07 07:08:10 UTC 2021").encode())),
        "2021",
        noise=True,
    )


def of_classes(one: bytes, other: bytes) -> Iterator[Planted]:
    """Yields pairs of classes."""
    yield Planted("value of an annotation", "A.class", one, other, "since ?= ?.2|text 2")
    at = one.index(SWITCH)
    yield Planted("padding of a switch", "A.class", one, one[: at + 2] + b"\x07" + one[at + 3 :], "pick|ab07")
    yield Planted("bytes behind a class", "A.class", one, one + b"evil", "evil|6576|behind")


def hidden(data: bytes, more: bytes) -> bytes:
    """Returns a zip file with bytes between its entries and its directory, of which nothing in it tells."""
    end = data.rindex(b"PK\5\6")
    (begin,) = struct.unpack("<I", data[end + 16 : end + 20])
    moved = data[end : end + 16] + struct.pack("<I", begin + len(more)) + data[end + 20 :]
    return data[:begin] + more + data[begin:end] + moved

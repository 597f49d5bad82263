"""AGREE-NORMALISED: harmless differences that alter bytes, each with the least that makes both equal."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipeline.compare.descent import descend
from pipeline.compare.explaining import causes_of
from pipeline.compare.normalising import normalise
from pipeline.compare.reader import zstandard
from pipeline.records.comparison import Verdict
from tests.compare.building import EARLY, LATE, gzipped, package, run, tarred, tree, zipped
from tests.compare.sides import NOTHING, compared, sides, told

Pair = tuple[bytes, bytes]
Values = tuple[Mapping[str, str], Mapping[str, str]]

FILES = {"A.class": b"a" * 3000, "b/B.class": b"bc" * 4000, "b/notes.txt": b"text\n" * 500}
NAMES = ("A.class", "b/B.class", "b/notes.txt")


def _zip_times(at: Path) -> Pair:
    return zipped(tree(at / "t", FILES)), zipped(tree(at / "t", FILES, LATE))


def _zip_extra_times(at: Path) -> Pair:
    sides = []
    for when in (EARLY, LATE):
        made = tree(at / "t", FILES, when)
        (at / "made.zip").unlink(missing_ok=True)
        run("zip", "-q", "-r", str(at / "made.zip"), ".", where=made)
        sides.append((at / "made.zip").read_bytes())
    return sides[0], sides[1]


def _zip_order(at: Path) -> Pair:
    made = tree(at / "t", FILES)
    return zipped(made, names=NAMES), zipped(made, names=NAMES[::-1])


def _zip_compression(at: Path) -> Pair:
    made = tree(at / "t", FILES)
    return zipped(made, "-1"), zipped(made, "-9")


def _gzip_header(at: Path) -> Pair:
    made = tree(at / "t", {"one": FILES["b/notes.txt"]})
    return run("gzip", "-kc", "one", where=made), gzipped(FILES["b/notes.txt"])


def _gzip_compression(at: Path) -> Pair:
    data = b"".join(b"%d %d\n" % (number, number * number) for number in range(5000))
    return gzipped(data, "-n", "-4"), gzipped(data, "-n", "-6")


def _xz_compression(at: Path) -> Pair:
    return run("xz", "-c0", where=Path("/"), data=b"x" * 9999), run(
        "xz", "-c6", where=Path("/"), data=b"x" * 9999
    )


def _zstd_compression(at: Path) -> Pair:
    data = b"".join(b"%d " % number for number in range(9999))
    return run("zstd", "-qc1", where=Path("/"), data=data), run("zstd", "-qc9", where=Path("/"), data=data)


def _tar_times(at: Path) -> Pair:
    return tarred(tree(at / "t", FILES)), tarred(tree(at / "t", FILES, LATE))


def _pax_times(at: Path) -> Pair:
    sides = []
    for when in (EARLY, LATE):
        made = tree(at / "t", FILES)
        options = (
            "--format=pax",
            f"--mtime=@{when}.5",
            "--pax-option=exthdr.name=%d/x/%f,delete=atime,delete=ctime",
        )
        sides.append(tarred(made, *options))
    return sides[0], sides[1]


def _tar_owners(at: Path) -> Pair:
    made = tree(at / "t", FILES)
    return tarred(made, "--owner=alice:1001"), tarred(made, "--owner=bob:1002", "--group=staff:50")


def _tar_order(at: Path) -> Pair:
    made = tree(at / "t", FILES)
    return tarred(made, names=NAMES), tarred(made, names=NAMES[::-1])


def _tgz(at: Path) -> Pair:
    one, two = _tar_times(at)
    return gzipped(one), gzipped(two)


def _ar(at: Path) -> Pair:
    sides = []
    for when in (EARLY, LATE):
        made = tree(at / "t", {"one.o": b"one", "two.o": b"two!"}, when)
        run("ar", "rcSU", "made.a", "one.o", "two.o", where=made)
        sides.append((made / "made.a").read_bytes())
    return sides[0], sides[1]


def _deb_times(at: Path) -> Pair:
    return package(tree(at / "t", FILES)), package(tree(at / "t", FILES), epoch=LATE)


def _deb_compression(at: Path) -> Pair:
    made = tree(at / "t", {"usr/share/a": b"".join(b"%d " % each for each in range(60_000))})
    return package(made, "-Zgzip", "-z1"), package(made, "-Zgzip", "-z9")


def _deb_jar(at: Path) -> Pair:
    jars = _zip_times(at / "jars")
    made = [package(tree(at / "t", {"usr/share/a.jar": jar})) for jar in jars]
    return made[0], made[1]


def _deb_sizes(at: Path) -> Pair:
    made_of = tree(at / "jars/t", {"A.class": b"".join(b"%d " % each for each in range(30_000))})
    jars = zipped(made_of, "-1"), zipped(made_of, "-9")
    made = [package(tree(at / "t", {"usr/share/a.jar": jar})) for jar in jars]
    return made[0], made[1]


def _deb_links(at: Path) -> Pair:
    """A jar of other times that has a second name in its package."""
    made = []
    for jar in _zip_times(at / "jars"):
        folder = tree(at / "t", {"usr/share/a.jar": jar})
        (folder / "usr/share/b.jar").hardlink_to(folder / "usr/share/a.jar")
        made.append(package(folder))
    return made[0], made[1]


def _nested(at: Path) -> Pair:
    """A jar in a war in a tgz in a package, with other times in the jar alone."""
    made = []
    for jar in _zip_times(at / "jars"):
        war = zipped(tree(at / "war", {"WEB-INF/lib/a.jar": jar, "index.html": b"<html/>"}))
        tgz = gzipped(tarred(tree(at / "tgz", {"x/a.war": war})))
        made.append(package(tree(at / "t", {"usr/share/x.tgz": tgz, "usr/share/b": b"b"})))
    return made[0], made[1]


def _properties(at: Path) -> Pair:
    dates = (b"Wed Nov 25 00:00:01 UTC 2026", b"Thu Nov 26 09:41:22 CET 2026")
    made = [b"#Generated\n#%s\nversion=1\ngroup=a\n" % date for date in dates]
    jars = [zipped(tree(at / "t", {"META-INF/maven/a/pom.properties": each})) for each in made]
    return jars[0], jars[1]


def _git_properties(at: Path) -> Pair:
    made = [
        zipped(tree(at / "t", {"git.properties": b"git.build.host=%s\ngit.branch=main\n" % host}))
        for host in (b"build1", b"build2.example.org")
    ]
    return made[0], made[1]


def _built_by(at: Path) -> Pair:
    made = []
    for user, path in ((b"alice", b"/home/alice/src"), (b"bob", b"/srv/bob/checkout")):
        manifest = b"Manifest-Version: 1.0\r\nBuilt-By: %s\r\nBuild-Path: %s\r\n\r\n" % (user, path)
        folder = tree(at / "t", {"META-INF/MANIFEST.MF": manifest, "A.class": b"a"})
        made.append(zipped(folder, names=("META-INF/MANIFEST.MF", "A.class")))
    return made[0], made[1]


HOSTS: Values = ({"host": "build1", "user": "alice"}, {"host": "build2.example.org", "user": "bob"})
USERS: Values = ({"user": "alice", "path": "/home/alice/src"}, {"user": "bob", "path": "/srv/bob/checkout"})

#: What is built, what it is called, what is recorded of both sides, and the least that makes it equal.
HARMLESS: list[tuple[Callable[[Path], Pair], str, Values, set[str]]] = [
    (_zip_times, "a.jar", (NOTHING, NOTHING), {"zip-times"}),
    (_zip_extra_times, "a.zip", (NOTHING, NOTHING), {"zip-times"}),
    (_zip_order, "a.jar", (NOTHING, NOTHING), {"zip-order"}),
    (_zip_compression, "a.jar", (NOTHING, NOTHING), {"zip-compression"}),
    (_gzip_header, "a.gz", (NOTHING, NOTHING), {"gzip-header"}),
    (_gzip_compression, "a.gz", (NOTHING, NOTHING), {"gzip-compression"}),
    (_xz_compression, "a.xz", (NOTHING, NOTHING), {"xz-compression"}),
    (_zstd_compression, "a.zst", (NOTHING, NOTHING), {"zstd-compression"}),
    (_tar_times, "a.tar", (NOTHING, NOTHING), {"tar-times"}),
    (_pax_times, "a.tar", (NOTHING, NOTHING), {"tar-times"}),
    (_tar_owners, "a.tar", (NOTHING, NOTHING), {"tar-owners"}),
    (_tar_order, "a.tar", (NOTHING, NOTHING), {"tar-order"}),
    (_tgz, "a.tgz", (NOTHING, NOTHING), {"tar-times", "gzip-compression"}),
    (_ar, "a.a", (NOTHING, NOTHING), {"ar-times"}),
    (_deb_times, "a.deb", (NOTHING, NOTHING), {"ar-times", "deb-times", "xz-compression"}),
    (_deb_compression, "a.deb", (NOTHING, NOTHING), {"gzip-compression", "gzip-header"}),
    (_deb_jar, "a.deb", (NOTHING, NOTHING), {"zip-times", "deb-md5sums", "xz-compression"}),
    (_deb_links, "a.deb", (NOTHING, NOTHING), {"zip-times", "deb-md5sums", "xz-compression"}),
    (
        _deb_sizes,
        "a.deb",
        (NOTHING, NOTHING),
        {"zip-compression", "deb-md5sums", "deb-installed-size", "xz-compression"},
    ),
    (
        _nested,
        "a.deb",
        (NOTHING, NOTHING),
        {"zip-times", "gzip-compression", "deb-md5sums", "xz-compression"},
    ),
    (_properties, "a.jar", (NOTHING, NOTHING), {"properties-date"}),
    (_git_properties, "a.jar", HOSTS, {"value-host"}),
    (_built_by, "a.jar", USERS, {"value-user", "value-path"}),
]


@pytest.mark.parametrize(
    ("build", "name", "values", "expected"), HARMLESS, ids=lambda each: getattr(each, "__name__", "")
)
def test_a_harmless_difference_is_normalised(
    tmp_path: Path, build: Callable[[Path], Pair], name: str, values: Values, expected: set[str]
) -> None:
    """Bytes that differ agree after exactly these normalisers; leave out any one, and they differ."""
    if build is _zstd_compression and not zstandard.available():
        pytest.skip("this machine has no libzstd")
    one, two = build(tmp_path / "made")
    assert one != two
    found = compared(tmp_path, one, two, name, values)
    assert found.verdict == Verdict.AGREE_NORMALISED, told(found)
    assert set(found.normalisers) == expected
    assert found.normalised_sha256 is not None
    assert found.normalised_sha256 not in (found.left.sha256, found.right.sha256) or len(expected) == 1
    assert found.leaves
    assert all(leaf.cause and (leaf.evidence or "").find("proved: ") >= 0 for leaf in found.leaves), told(
        found
    )
    causes = causes_of([found])
    assert all(cause.proved for cause in causes), causes
    assert {name for cause in causes for name in cause.normalisers} <= expected
    assert any(cause.normalisers for cause in causes)
    for left_out in expected:
        with sides(tmp_path, one, two, name) as lines:
            less = normalise(lines, descend(*lines, name), values, banned={left_out})
        assert less.sha256 is None, f"{left_out} is not needed"


def test_what_was_recorded_of_one_side_does_not_count_for_the_other(tmp_path: Path) -> None:
    """A value is replaced only where it is that side's own: with the two swapped, nothing is normalised."""
    one, two = _git_properties(tmp_path / "made")
    found = compared(tmp_path, one, two, "a.jar", (HOSTS[1], HOSTS[0]))
    assert (found.verdict, found.normalisers) == (Verdict.DIFFER, [])


def test_one_of_two_recorded_values_suffices(tmp_path: Path) -> None:
    """Where host and user have one name, the set has one of them and not both."""
    lines = ((b"ann", b"ann"), (b"bob", b"bob"))
    one, two = (
        zipped(tree(tmp_path / "t", {"git.properties": b"build.host=%s\nbuild.user=%s\n" % pair}))
        for pair in lines
    )
    values = tuple({"host": who, "user": who} for who in ("ann", "bob"))
    found = compared(tmp_path, one, two, "a.jar", (values[0], values[1]))
    assert found.verdict == Verdict.AGREE_NORMALISED
    assert len(found.normalisers) == 1


def _combined(at: Path, choose: random.Random) -> tuple[bytes, bytes, bool]:
    """Returns a package with a jar and a tgz, of random times and orders, perhaps with one that counts."""
    harm = choose.random() < 0.4
    made = []
    place = choose.choice(["class", "mode", "script", "file"])
    for side in (0, 1):
        files = dict(FILES)
        if harm and side and place == "class":
            files["A.class"] = b"b" + files["A.class"][1:]
        names = list(NAMES)
        if choose.random() < 0.5:
            choose.shuffle(names)
        when = choose.choice((EARLY, LATE))
        jar = zipped(tree(at / "jar", files, when), choose.choice(("-1", "-6", "-9")), names=names)
        owner = choose.choice(("--owner=alice:1001", "--owner=bob:1002"))
        tgz = gzipped(
            tarred(tree(at / "tgz", FILES, choose.choice((EARLY, LATE))), owner),
            "-n",
            choose.choice(("-4", "-6")),
        )
        folder = tree(
            at / "t", {"usr/share/a.jar": jar, "usr/share/b.tgz": tgz, "usr/bin/tool": b"#!/bin/sh\n"}
        )
        if harm and side and place == "mode":
            (folder / "usr/bin/tool").chmod(0o4755)
        if harm and side and place == "file":
            (folder / "usr/bin/tool").write_bytes(b"#!/bin/bash\n")
        scripts = {"postinst": b"#!/bin/sh\nexit 0\n"}
        if harm and side and place == "script":
            scripts["postinst"] += b"# \n"
        options = (choose.choice(("-Zxz", "-Zxz")), choose.choice(("-z1", "-z6")))
        made.append(package(folder, *options, scripts=scripts, epoch=choose.choice((EARLY, LATE))))
    return made[0], made[1], harm


@pytest.mark.parametrize("seed", range(12))
def test_random_combinations_never_hide_what_counts(tmp_path: Path, seed: int) -> None:
    """Harmless differences of all kinds agree when normalised; with one that counts among them, they do
    not. The seed says which.
    """
    one, two, harm = _combined(tmp_path / "made", random.Random(seed))
    found = compared(tmp_path, one, two, "a.deb")
    expected = {Verdict.DIFFER} if harm else {Verdict.AGREE, Verdict.AGREE_NORMALISED}
    assert found.verdict in expected, told(found)
    if found.verdict == Verdict.AGREE_NORMALISED:
        for left_out in found.normalisers:
            with sides(tmp_path, one, two, "a.deb") as lines:
                less = normalise(lines, descend(*lines, "a.deb"), (NOTHING, NOTHING), banned={left_out})
            assert less.sha256 is None, left_out


def test_the_seeds_have_both_kinds(tmp_path: Path) -> None:
    """Of the seeds above some plant a difference that counts, and some none."""
    harms = [random.Random(seed).random() < 0.4 for seed in range(12)]
    assert len(set(harms)) == 2

"""Planted causes: what real tools leave behind, the leaf that shows it, the cause, and the remedy applied."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.compare.causes import Seen, Shown, cause_of, renamed
from pipeline.compare.explaining import causes_of
from pipeline.compare.remedies import CAUSES
from pipeline.records.comparison import Verdict
from tests.compare.building import EARLY, LATE, package, run, tarred, tree, zipped
from tests.compare.sides import compared, told

#: Builds one side, 0 or 1, naively or with the remedy.
Build = Callable[[Path, int, bool], bytes]

AGREE, DIFFER = Verdict.AGREE_NORMALISED, Verdict.DIFFER
FILES = {"a.txt": b"a" * 300, "b/c.txt": b"c" * 300}
WHEN = (EARLY, LATE)
WHO = ("alice", "bob")
WHERE = ("home/alice/src", "srv/bob/src")


def _text(at: Path, text: bytes, name: str = "a.txt") -> bytes:
    """Returns a tar in which nothing differs but this file, with what stands around it."""
    return tarred(tree(at / "t", {name: text, "other.txt": b"the same"}))


def _zip_times(at: Path, side: int, mended: bool) -> bytes:
    return zipped(tree(at / "t", FILES, EARLY if mended else WHEN[side]))


def _time_zone(at: Path, side: int, mended: bool) -> bytes:
    zone = "UTC" if mended else ("UTC", "Asia/Kolkata")[side]
    return zipped(tree(at / "t", FILES), TZ=zone)


def _tar_times(at: Path, side: int, mended: bool) -> bytes:
    made = tree(at / "t", FILES, WHEN[side])
    return tarred(made, *([f"--mtime=@{EARLY}"] if mended else []))


def _tar_owner(at: Path, side: int, mended: bool) -> bytes:
    options = (
        ["--owner=0", "--group=0", "--numeric-owner"] if mended else [f"--owner={WHO[side]}:{1000 + side}"]
    )
    return tarred(tree(at / "t", FILES), *options)


def _umask(at: Path, side: int, mended: bool) -> bytes:
    made = tree(at / "t", {})
    run("sh", "-c", "mkdir d && echo a > d/f", where=made, umask=0o022 if mended else (0o022, 0o077)[side])
    return tarred(made, f"--mtime=@{EARLY}")


def _entry_order(at: Path, side: int, mended: bool) -> bytes:
    names = ("a.txt", "b/c.txt")[:: 1 if mended else 1 - 2 * side]
    return zipped(tree(at / "t", FILES), names=names)


def _gzip_header(at: Path, side: int, mended: bool) -> bytes:
    made = tree(at / "t", FILES, WHEN[side])
    return run("gzip", "-kc", *(["-n"] if mended else []), "a.txt", where=made)


def _compression(at: Path, side: int, mended: bool) -> bytes:
    made = tree(at / "t", {"usr/a": b"".join(b"%d " % each for each in range(9000))})
    return package(made, "-Zxz", "-z6" if mended else ("-z1", "-z6")[side])


def _deb_times(at: Path, side: int, mended: bool) -> bytes:
    return package(tree(at / "t", FILES), epoch=EARLY if mended else WHEN[side])


def _java_date(at: Path, side: int, mended: bool) -> bytes:
    """What java.util.Properties itself writes, in two time zones and at two times; without comments."""
    source = tree(at / "java", {"Store.java": _STORE}) / "Store.java"
    zone = ("UTC", "Asia/Kolkata")[side]
    out = run("java", f"-Duser.timezone={zone}", "-Xshare:auto", str(source), where=at)
    lines = out.splitlines(keepends=True)
    kept = b"".join(line for line in lines if not (mended and line.startswith(b"#")))
    return zipped(tree(at / "t", {"a/pom.properties": kept}))


_STORE = b"""
public class Store {
  public static void main(String[] a) throws Exception {
    java.util.Properties p = new java.util.Properties();
    p.setProperty("version", "1");
    p.store(System.out, "Generated");
  }
}
"""


def _build_path(at: Path, side: int, mended: bool) -> bytes:
    """Python's compiler keeps where the source lay."""
    made = tree(at / WHERE[side], {"a.py": b"def f():\n    return 1\n"})
    options = ["-d", "/usr/lib/x"] if mended else []
    run(
        "python3",
        "-m",
        "compileall",
        "-q",
        *options,
        "--invalidation-mode=unchecked-hash",
        str(made),
        where=at,
    )
    (compiled,) = made.rglob("*.pyc")
    return _text(at, compiled.read_bytes(), "a.pyc")


def _debug_path(at: Path, side: int, mended: bool) -> bytes:
    made = tree(at / WHERE[side], {"a.c": b"int f(void) { return 1; }\n"})
    # The order of the strings hangs on their lengths, so these are not the lengths of this test's folder.
    options = [f"-ffile-prefix-map={made}=."] if mended else [f"-fdebug-prefix-map={at}=/mnt/builds/of/this"]
    run("gcc", "-g", "-c", *options, str(made / "a.c"), "-o", "a.o", where=at)
    return _text(at, run("objcopy", "-O", "binary", "-j", ".debug_line_str", "--set-section-flags",
                         ".debug_line_str=alloc", "a.o", "/dev/stdout", where=at), "a.debug")  # fmt: skip


def _compile_date(at: Path, side: int, mended: bool) -> bytes:
    made = tree(at / "c", {"a.c": b'const char *built = __DATE__ " " __TIME__;\n'})
    epoch = EARLY if mended else WHEN[side]
    run("gcc", "-c", "a.c", "-o", "a.o", where=made, SOURCE_DATE_EPOCH=str(epoch))
    return _text(at, (made / "a.o").read_bytes(), "a.o")


def _class_date(at: Path, side: int, mended: bool) -> bytes:
    date = "none" if mended else ("2026-11-24T10:00:00Z", "2026-11-25T11:12:13Z")[side]
    source = f'class A {{ static final String BUILT = "{date}"; int f() {{ return 1; }} }}'
    made = tree(at / "java", {"A.java": source.encode()})
    run("javac", "-g:none", "A.java", where=made)
    return zipped(tree(at / "t", {"A.class": (made / "A.class").read_bytes()}))


def _host(at: Path, side: int, mended: bool) -> bytes:
    host = "builder" if mended else ("build1", "build2")[side]
    return _text(at, run("sh", "-c", 'echo "git.build.host=$HOSTNAME"', where=Path("/"), HOSTNAME=host))


def _user(at: Path, side: int, mended: bool) -> bytes:
    manifest = b"Built-By: " + (b"nobody" if mended else WHO[side].encode()) + b"\n"
    source = tree(at / "jar", {"m.txt": manifest, "A.txt": b"a"})
    options = ("--file", "a.jar", "--manifest", "m.txt", "--date=2020-01-02T03:04:06Z")
    run("jar", "--create", *options, "A.txt", where=source)
    return (source / "a.jar").read_bytes()


def _set_order(at: Path, side: int, mended: bool) -> bytes:
    words = "print({'alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta'})"
    seed = "0" if mended else ("1", "2")[side]
    return _text(at, run("python3", "-c", words, where=Path("/"), PYTHONHASHSEED=seed))


def _line_order(at: Path, side: int, mended: bool) -> bytes:
    text = b"b\na\nC\n"
    options = {"LC_ALL": "C"}
    command = ("sort",) if mended else (("cat",), ("sort",))[side]
    return _text(at, run(*command, where=Path("/"), data=text, **options))


def _random(at: Path, side: int, mended: bool) -> bytes:
    if mended:
        made = run(
            "python3", "-c", "import uuid; print(uuid.uuid5(uuid.NAMESPACE_DNS, 'a'))", where=Path("/")
        )
    else:
        made = run("cat", "/proc/sys/kernel/random/uuid", where=Path("/"))
    return _text(at, b"id: " + made)


def _encoding(at: Path, side: int, mended: bool) -> bytes:
    text = "Grüße aus Zürich\n".encode()
    target = "UTF-8" if mended else ("UTF-8", "ISO-8859-1")[side]
    return _text(at, run("iconv", "-f", "UTF-8", "-t", target, where=Path("/"), data=text))


def _lost_signs(at: Path, side: int, mended: bool) -> bytes:
    code = "import sys; sys.stdout.write('Grüße\\n')"
    wanted = "utf-8" if mended else ("utf-8", "ascii:replace")[side]
    return _text(at, run("python3", "-c", code, where=Path("/"), PYTHONIOENCODING=wanted))


def _line_endings(at: Path, side: int, mended: bool) -> bytes:
    command = ("cat",) if mended else (("cat",), ("sed", "s/$/\\r/"))[side]
    return _text(at, run(*command, where=Path("/"), data=b"one\ntwo\n"))


def _locale(at: Path, side: int, mended: bool) -> bytes:
    sign = "." if mended else (".", ",")[side]
    return _text(at, f"size: 1{sign}5 MB\n".encode())


def _javadoc(at: Path, side: int, mended: bool) -> bytes:
    date = b"" if mended else (b" on Wed Nov 25 00:00:01 UTC 2026", b" on Thu Nov 26 03:04:05 UTC 2026")[side]
    return _text(at, b"<html>\n<!-- Generated by javadoc (17)" + date + b" -->\n</html>\n", "a.html")


def _jaxb(at: Path, side: int, mended: bool) -> bytes:
    date = b"" if mended else (b"2026.11.24 at 11:59:50 PM UTC", b"2026.11.25 at 09:21:52 AM UTC")[side]
    return _text(at, b"<!--\nGenerated on: " + date + b"\n-->\n", "META-INF/sun-jaxb.episode")


def _chunk_hash(at: Path, side: int, mended: bool) -> bytes:
    name = "js/app.3f9a1b2c.js" if mended else ("js/app.3f9a1b2c.js", "js/app.77ab12f0.js")[side]
    return tarred(tree(at / "t", {name: b"run();", "index.html": b"<html/>"}))


def _download(at: Path, side: int, mended: bool) -> bytes:
    version = b"6.3.0" if mended else (b"6.3.0", b"6.4.0")[side]
    return _text(at, b"cloudmonkey " + version + b"\n")


def _tool(at: Path, side: int, mended: bool) -> bytes:
    maker = b"17 (Vendor)" if mended else (b"17 (Vendor)", b"17 (Another)")[side]
    return zipped(tree(at / "t", {"META-INF/MANIFEST.MF": b"Created-By: " + maker + b"\r\n\r\n"}))


def _colours(at: Path, side: int, mended: bool) -> bytes:
    colour = b"#a0b1c2" if mended else (b"#a0b1c2", b"#d3e4f5")[side]
    return _text(at, b".a { color: " + colour + b"; }\n", "color.less")


def _cores(at: Path, side: int, mended: bool) -> bytes:
    """In no list: how many cores the machine had."""
    return _text(at, b"workers = %d\n" % (4 if mended else (4, 16)[side]))


def _shell(at: Path, side: int, mended: bool) -> bytes:
    """In no list: how deep the shell was that built it."""
    depth = "1" if mended else ("1", "3")[side]
    return _text(at, run("bash", "-c", "echo level=$SHLVL", where=Path("/"), SHLVL=depth))


def _padding(at: Path, side: int, mended: bool) -> bytes:
    """In no list: memory that was never written, in a file that is no text."""
    return _text(at, b"\x7fDATA" + bytes(60) + (b"\1" if mended else (b"\1", b"\2")[side]) * 8, "a.bin")


def _feature(at: Path, side: int, mended: bool) -> bytes:
    """In no list: something that one machine had installed and the other had not."""
    return _text(at, b"ssl=on\n" + (b"" if mended or side else b"lzma=on\n"))


@dataclass(frozen=True)
class Planted:
    build: Build
    name: str
    verdict: Verdict
    cause: str | None
    leaf: str


PLANTED = [
    Planted(_zip_times, "a.jar", AGREE, "zip-times", "time"),
    Planted(_time_zone, "a.jar", AGREE, "time-zone", "time"),
    Planted(_tar_times, "a.tar", AGREE, "tar-times", "time"),
    Planted(_tar_owner, "a.tar", AGREE, "owner", "owner"),
    Planted(_umask, "a.tar", DIFFER, "umask", "mode"),
    Planted(_entry_order, "a.jar", AGREE, "entry-order", "order of entries"),
    Planted(_gzip_header, "a.gz", AGREE, "gzip-header", "mtime"),
    Planted(_compression, "a.deb", AGREE, "compression", "stream"),
    Planted(_deb_times, "a.deb", AGREE, "deb-times", "time"),
    Planted(_java_date, "a.jar", AGREE, "java-properties-date", "value"),
    Planted(_build_path, "a.tar", DIFFER, "path", "content"),
    Planted(_debug_path, "a.tar", DIFFER, "path", "content"),
    Planted(_compile_date, "a.tar", DIFFER, "binary-date", "content"),
    Planted(_class_date, "a.jar", DIFFER, "text-date", "name"),
    Planted(_host, "a.tar", DIFFER, "host", "content"),
    Planted(_user, "a.jar", DIFFER, "user", "value"),
    Planted(_set_order, "a.tar", DIFFER, "set-order", "content"),
    Planted(_line_order, "a.tar", DIFFER, "set-order", "content"),
    Planted(_random, "a.tar", DIFFER, "random", "content"),
    Planted(_encoding, "a.tar", DIFFER, "encoding", "content"),
    Planted(_lost_signs, "a.tar", DIFFER, "encoding", "content"),
    Planted(_line_endings, "a.tar", DIFFER, "line-endings", "content"),
    Planted(_locale, "a.tar", DIFFER, "locale", "content"),
    Planted(_javadoc, "a.tar", DIFFER, "javadoc-date", "content"),
    Planted(_jaxb, "a.tar", DIFFER, "jaxb-date", "content"),
    Planted(_chunk_hash, "a.tar", DIFFER, "content-hash", "name"),
    Planted(_download, "a.tar", DIFFER, "moving-download", "content"),
    Planted(_tool, "a.jar", DIFFER, "toolchain", "value"),
    Planted(_colours, "a.tar", DIFFER, "random", "content"),
    Planted(_cores, "a.tar", DIFFER, None, "content"),
    Planted(_shell, "a.tar", DIFFER, None, "content"),
    Planted(_padding, "a.tar", DIFFER, None, "content"),
    Planted(_feature, "a.tar", DIFFER, None, "content"),
]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda each: each.build.__name__)
def test_a_planted_cause_is_found_and_mended(tmp_path: Path, planted: Planted) -> None:
    """The pair has its verdict and a leaf that shows what differs; the cause is named, or honestly not; with
    the remedy applied on both sides the bytes are equal.
    """
    at = tmp_path / "made"
    one, two = (planted.build(at, side, False) for side in (0, 1))
    found = compared(tmp_path, one, two, planted.name)
    assert found.verdict == planted.verdict, told(found)
    (leaf, *_) = [
        each for each in found.leaves if each.what == planted.leaf and each.cause == planted.cause
    ] or [None]
    assert leaf is not None, told(found)
    assert leaf.left != leaf.right or leaf.what == "order of entries"
    if planted.cause is None:
        assert all(each.cause is None for each in found.leaves), told(found)
    else:
        assert leaf.evidence
        assert {each.cause for each in found.leaves} & set(CAUSES)
        (told_of,) = [each for each in causes_of([found]) if each.name == planted.cause]
        assert told_of.remedy
        assert told_of.proved == (planted.verdict == AGREE)
    assert planted.build(at, 0, True) == planted.build(at, 1, True)


@pytest.mark.parametrize("size", [100, 5000, 300_000, 3_000_000])
def test_where_a_large_leaf_differs_is_told(tmp_path: Path, size: int) -> None:
    """However large a leaf is, the first byte and the line that differ are told, and little travels."""
    lines = b"".join(b"line %d\n" % number for number in range(size // 10))
    at = len(lines) * 2 // 3
    one, two = _text(tmp_path, lines), _text(tmp_path, lines[:at] + b"#" + lines[at + 1 :])
    (leaf,) = compared(tmp_path, one, two, "a.tar").leaves
    assert leaf.evidence == f"first at byte {at}, line {lines.count(10, 0, at) + 1}"
    assert "#" in str(leaf.right)


def test_names_that_hold_a_hash_are_paired() -> None:
    """Names that are equal but for a hash belong together; where two would fit, neither is told."""
    assert renamed(["a.1b2c3d4e.js", "b.js"], ["a.99aa88bb.js", "c.js"]) == {"a.1b2c3d4e.js": "a.99aa88bb.js"}
    assert renamed(["a.1b2c3d4e.js", "a.1b2c3d4f.js"], ["a.99aa88bb.js"]) == {}


def _seen(one: str, two: str, name: str = "a.txt", every: bool = True) -> Seen:
    shown = Shown(0, 1, True, every, ((one, two),), frozenset(), ("", ""))
    return Seen(["a.tar", name], "tar", "content", one, two, shown)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("built 2026-11-24T10:00:00Z", "built 2026-11-25T10:00:00Z by another"),
        ("price 100", "price 200"),
        ("/usr/lib/a", "/usr/lib/b"),
        ("sha256 " + "0" * 64, "sha256 " + "1" * 64),
        ("timeout=30", "timeout=60"),
        ("admin", "root"),
        ("port 8080", "port 8443"),
        ("key=" + "a" * 40, "key=" + "b" * 40),
    ],
)
def test_no_cause_is_made_up(one: str, two: str) -> None:
    """Values that differ in more than a known cause, or in none, have no cause."""
    assert cause_of(_seen(one, two)) is None


def test_what_was_seen_in_part_says_so() -> None:
    """A cause that is named by the first difference of a large file says that no more was seen."""
    named = cause_of(_seen("built 2026-11-24", "built 2026-11-25", every=False))
    assert named is not None
    assert "where they part first" in named[1]


def test_each_line_has_to_be_explained() -> None:
    """Of two lines that differ one is a date and the other is not: there is no cause."""
    pairs = (("built 2026-11-24", "built 2026-11-25"), ("color: blue", "color: green"))
    shown = Shown(0, 1, True, True, pairs, frozenset(), ("", ""))
    assert cause_of(Seen(["a.tar", "a.txt"], "tar", "content", "", "", shown)) is None


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("0755", "0700", "umask"),
        ("644", "600", "umask"),
        ("0755", "04755", None),
        ("0755", "0644", None),
        ("0700", "0677", None),
    ],
)
def test_a_umask_takes_bits_away_on_one_side(left: str, right: str, expected: str | None) -> None:
    """Only bits of group and others, all on one side, are the umask's; never a setuid bit."""
    named = cause_of(Seen(["a.tar"], "tar", "mode", f"a: {left}", f"a: {right}"))
    assert (named and named[0]) == expected


def test_every_named_cause_has_words() -> None:
    """What can be named stands in the table, with a remedy or a reason why there is none."""
    named = {planted.cause for planted in PLANTED} - {None}
    assert named <= set(CAUSES)
    assert all(each.text for each in CAUSES.values())
    assert len(set(itertools.chain(named))) >= 20

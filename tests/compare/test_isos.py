"""ISO 9660 images, as genisoimage makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.compare.reader import formats, isos
from pipeline.compare.reader.limits import Limits, Unreadable
from tests.compare.containers import SMALL, Bytes, listing, opened, refused, rewritten, rows, said

FILES = {"agent.zip": b"zip" * 900, "scripts/run.sh": b"#!/bin/sh\n", "scripts/deep/er/none": b""}


def image(folder: Path, *options: str, **files: bytes) -> bytes:
    """Returns an image of the files, made by genisoimage at a fixed time."""
    if shutil.which("genisoimage") is None:
        pytest.skip("genisoimage is not installed: ./bootstrap nox installs it")
    tree = folder / "tree"
    for name, data in {**FILES, **files}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    for path in (*tree.rglob("*"), tree):
        os.utime(path, (1_577_934_246, 1_577_934_246))
        path.chmod(0o755 if path.is_dir() else 0o644)
    made = folder / "made.iso"
    subprocess.run(
        ["genisoimage", "-quiet", "-no-pad", *options, "-o", str(made), str(tree)],
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1577934246", "TZ": "UTC"},
    )
    return made.read_bytes()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return image(tmp_path_factory.mktemp("iso"), "-r", "-J")


def test_files_are_entries_with_their_bytes(plain: bytes) -> None:
    """Folders before what they hold; nothing is strange, and Joliet's names for the same files come once."""
    found = listing(isos, plain)
    assert (found.kind, found.strange) == ("iso", [])
    names = [row["name"] for row in rows(isos, plain)]
    assert names == [
        *("AGENT.ZIP;1", "SCRIPTS", "SCRIPTS/DEEP", "SCRIPTS/RUN.SH;1", "SCRIPTS/DEEP/ER"),
        "SCRIPTS/DEEP/ER/NONE.;1",
    ]
    assert dict(opened(isos, plain))[b"AGENT.ZIP;1"] == FILES["agent.zip"]
    with Bytes() as held:
        assert formats.recognise(held.region(plain), b"systemvm.iso") is isos


def test_one_file_that_differs_is_the_one_that_is_told(tmp_path: Path, plain: bytes) -> None:
    other = image(tmp_path, "-r", "-J", **{"agent.zip": b"zap" * 900})
    pairs = list(zip(rows(isos, plain), rows(isos, other), strict=True))
    assert [one["name"] for one, two in pairs if one["content"] != two["content"]] == ["AGENT.ZIP;1"]
    fields = listing(isos, plain).fields, listing(isos, other).fields
    different = {name for name in fields[0] if fields[0][name] != fields[1][name]}
    assert different <= {"created", "modified", "effective", "layout", "second tree", "second descriptor"}


def test_attributes_of_rock_ridge_are_told(tmp_path: Path, plain: bytes) -> None:
    """A mode that differs is an attribute that differs."""
    other = image(tmp_path, "-r", "-J", "-file-mode", "0555")
    pairs = zip(rows(isos, plain), rows(isos, other), strict=True)
    changed = [one["name"] for one, two in pairs if one["attributes"] != two["attributes"]]
    assert "SCRIPTS/RUN.SH;1" in changed


def test_bytes_of_every_part_have_a_name(plain: bytes) -> None:
    """Each seventh byte of what is no run of zeroes, and of those one in each sector."""
    before = said(isos, plain)
    places = [at for at in range(0, len(plain), 7) if plain[at - at % 16 : at - at % 16 + 16].strip(b"\0")]
    places += range(100, len(plain), 2048)
    assert len(places) > 500
    for at in places:
        changed = plain[:at] + bytes([plain[at] ^ 0xA1]) + plain[at + 1 :]
        try:
            after = said(isos, changed)
        except Unreadable:
            continue
        assert after != before, f"byte {at} is not seen"


@pytest.mark.parametrize("length", [32768 + 2048, 40000, 60000])
def test_an_image_that_is_cut_off_is_refused(plain: bytes, length: int) -> None:
    assert "byte" in refused(isos, plain[:length])


def test_a_folder_that_holds_itself_is_refused(plain: bytes) -> None:
    """Its record is turned to the root's sector."""
    root = plain[32768 + 156 + 2 : 32768 + 156 + 10]
    at = plain.index(b"\x07SCRIPTS") - 32
    looped = plain[: at + 2] + root + plain[at + 10 :]
    assert refused(isos, looped) == "has a folder that holds itself, or too many in each other"


def test_entries_are_counted(plain: bytes) -> None:
    assert refused(isos, plain, SMALL._replace(entries=3)) == "has more than 3 entries"
    assert isinstance(SMALL, Limits)


def test_an_image_is_never_written_anew(plain: bytes) -> None:
    with pytest.raises(Unreadable, match="nothing is normalised"):
        rewritten(isos, plain)

"""A file for a result: whole or not there, never through a link, and refused before the work begins."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

import pytest

from pipeline.edge.output_file import OutputFile
from pipeline.errors import FileFailed


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    """Claiming writes nothing; writing leaves that one file, readable as the umask has it."""
    place = tmp_path / "report.html"
    before = os.umask(0o027)
    try:
        file = OutputFile(str(place))
        assert list(tmp_path.iterdir()) == []
        file.write(b"one")
        file.write(b"two")
    finally:
        os.umask(before)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"report.html": b"two"}
    assert stat.S_IMODE(place.stat().st_mode) == 0o640


def test_an_older_report_is_replaced(tmp_path: Path) -> None:
    """Who holds the old file open still reads the old one."""
    place = tmp_path / "report.md"
    place.write_bytes(b"old")
    with place.open("rb") as reader:
        OutputFile(str(place)).write(b"new and longer")
        assert reader.read() == b"old"
    assert place.read_bytes() == b"new and longer"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("folder", "a folder"),
        ("fifo", "no regular file"),
        ("nowhere", "No such file"),
        ("below a file", "Not a directory"),
        ("too long", "too long"),
    ],
)
def test_a_place_that_is_no_file_is_refused_at_once(kind: str, said: str, tmp_path: Path) -> None:
    """Before the work begins it is said which place cannot be written and why; nothing is touched."""
    place = tmp_path / "here"
    target = tmp_path / "target"
    target.write_bytes(b"kept")
    if kind == "link":
        place.symlink_to(target)
    elif kind == "dangling":
        place.symlink_to(tmp_path / "nothing")
    elif kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        more = {"nowhere": "no/folder/x", "below a file": "target/x", "too long": "x" * 300}
        place = tmp_path / more[kind]
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(FileFailed, match=said) as refused:
        OutputFile(str(place)).write(b"data")
    assert f"`{place}`" in refused.value.message
    assert refused.value.exit_code == 33
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert target.read_bytes() == b"kept"


def test_a_link_that_appears_meanwhile_is_not_followed(tmp_path: Path) -> None:
    """Between claiming and writing somebody puts a link there: its target stays as it is."""
    place, target = tmp_path / "report", tmp_path / "target"
    target.write_bytes(b"kept")
    file = OutputFile(str(place))
    place.symlink_to(target)
    with pytest.raises(FileFailed, match="symbolic link"):
        file.write(b"data")
    assert target.read_bytes() == b"kept"


def test_a_temporary_name_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    """A link under the name of our new file is neither followed nor removed: another name is taken."""
    target = tmp_path / "target"
    target.write_bytes(b"kept")
    trap = tmp_path / f".report-{os.getpid()}-0.tmp"
    trap.symlink_to(target)
    OutputFile(str(tmp_path / "report")).write(b"data")
    assert (tmp_path / "report").read_bytes() == b"data"
    assert trap.is_symlink()
    assert target.read_bytes() == b"kept"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """What cannot be written to its end is not there at all, and the old report is as it was."""
    place = tmp_path / "report"
    place.write_bytes(b"old")
    file = OutputFile(str(place))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(FileFailed, match="File too large"):
            file.write(b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"report": b"old"}

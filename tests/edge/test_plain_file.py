"""Plain files only: whatever else stands in a file's place is an error at once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.edge.plain_file import read_plain


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """Up to the limit, every byte."""
    (tmp_path / "x").write_bytes(bytes(range(256)) * 20_000)
    assert read_plain(tmp_path / "x") == bytes(range(256)) * 20_000
    assert len(read_plain(tmp_path / "x", limit=256 * 20_000)) == 256 * 20_000


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("fifo", errno.EINVAL),
        ("device", errno.EINVAL),
        ("link", errno.ELOOP),
        ("folder", errno.EINVAL),
        ("long", errno.EFBIG),
        ("none", errno.ENOENT),
    ],
)
def test_what_is_no_plain_file_is_an_error(tmp_path: Path, kind: str, number: int) -> None:
    """A FIFO, a device, a link, a folder, a file past the limit: named, and nothing of them is waited for."""
    place = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "device":
        place = Path("/dev/zero")
    elif kind == "link":
        (tmp_path / "target").write_text("x")
        place.symlink_to("target")
    elif kind == "folder":
        place.mkdir()
    elif kind == "long":
        place.touch()
        os.truncate(place, 1 << 40)
    with pytest.raises(OSError, match=r"\w") as failed:
        read_plain(place, limit=1000)
    assert (failed.value.errno, failed.value.filename) == (number, str(place))

"""What the disk below a folder is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.edge.disk import network_filesystem


@pytest.mark.parametrize(
    ("kind", "refused"),
    [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("9p", True), ("ext4", False), ("overlay", False)],
)
def test_network_file_systems_are_told(tmp_path: Path, kind: str, refused: bool) -> None:
    """File systems of other machines, where locks do not hold, are told by the mount that a folder is on."""
    device = tmp_path.stat().st_dev
    mounts = (
        "22 1 0:1 / /proc rw - proc proc rw\n"
        f"30 1 {os.major(device)}:{os.minor(device)} / /home rw,relatime shared:1 - {kind} host:/x rw\n"
    )
    assert network_filesystem(tmp_path, mounts) == (kind if refused else None)

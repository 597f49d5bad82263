"""Two servers for a worker's whole session; what is configured of them is made anew for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ssh.servers import Builder, reached
from tests.sshd import Sshd, sshd_program, start_sshd


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Sshd]]:
    """Two sshd with separate homes and keys."""
    if sshd_program() is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    with start_sshd(tmp_path_factory.mktemp("one")) as one, start_sshd(tmp_path_factory.mktemp("two")) as two:
        yield one, two


@pytest.fixture
def builders(servers: tuple[Sshd, Sshd], home: Path, tmp_path: Path) -> tuple[Builder, Builder]:
    """Both as builders, each with the same two files in a folder of its own."""
    found = []
    for number, server in enumerate(servers, 1):
        one = reached(f"far{number}", server, home, tmp_path / f"build-{number}")
        (one.root / "a.txt").write_bytes(b"same")
        (one.root / "sub `x`").mkdir()
        (one.root / "sub `x`/-rf $(y).bin").write_bytes(b"two" * 1000)
        found.append(one)
    return found[0], found[1]

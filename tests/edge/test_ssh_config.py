"""ssh's configuration with what it includes, held against what `ssh -G` makes of it."""

from __future__ import annotations

import subprocess
from io import StringIO
from pathlib import Path

import pytest
from paramiko import SSHConfig

from pipeline.edge.ssh_config import read_text

FILES = {
    "config": "Include first.conf more/*.conf  # a comment\nUser general\n"
    "Host b\n    Port 3\nInclude=last.conf\nHost *\n    Port 9\n",
    "first.conf": "Host a\n    User first\n    HostName 10.0.0.1\n",
    "more/1.conf": "Include deeper.conf\nHost a\n    Port 1\n",
    "more/2.txt": "Port 77\n",
    "deeper.conf": "Host c\n    User deep\n",
    "last.conf": "ProxyJump j\n",
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """These files, in a folder like ~/.ssh. ssh itself counts from the real one, so names are made whole."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        for other in ("first.conf", "more/*", "deeper.conf", "last.conf"):
            text = text.replace(other, f"{tmp_path}/{other}")
        (tmp_path / name).write_text(text)
    return tmp_path / "config"


@pytest.mark.parametrize("host", ["a", "b", "c", "d"])
def test_includes_mean_what_ssh_means(config: Path, host: str) -> None:
    """Each machine gets the user, port, name and jump that ssh gives it."""
    parsed = SSHConfig()
    parsed.parse(StringIO(read_text(config)))
    found = {"user": "", "port": "22", "hostname": host, "proxyjump": "", **parsed.lookup(host)}
    words = ["ssh", "-F", str(config), "-G", host]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    expected = {"proxyjump": "", **dict(line.split(" ", 1) for line in printed.splitlines() if " " in line)}
    for key in ("user", "port", "hostname", "proxyjump"):
        assert found[key] == expected[key], key


def test_relative_names_count_from_the_folder(tmp_path: Path) -> None:
    """As for ssh with ~/.ssh/config."""
    (tmp_path / "config").write_text("Include other\n")
    (tmp_path / "other").write_text("User me\n")
    assert "User me" in read_text(tmp_path / "config")


def test_a_file_that_includes_itself_is_refused(tmp_path: Path) -> None:
    """It is told, and ends."""
    (tmp_path / "config").write_text("Include config\n")
    with pytest.raises(ValueError, match="deep"):
        read_text(tmp_path / "config")


def test_no_file_is_no_text(tmp_path: Path) -> None:
    """Most machines have none."""
    assert read_text(tmp_path / "config") == ""

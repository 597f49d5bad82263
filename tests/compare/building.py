"""Files as real tools make them, for pairs that differ in one thing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

EARLY, LATE = 1577934246, 1620288490
CONTROL = """Package: sample
Version: 1
Architecture: all
Maintainer: A <a@example.org>
Installed-Size: {size}
Description: one
"""


def run(*command: str, where: Path, data: bytes = b"", umask: int = 0o022, **environment: str) -> bytes:
    """Runs a tool and returns what it prints. A machine without the tool does without the test."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} on this machine")
    done = subprocess.run(
        command,
        cwd=where,
        input=data,
        capture_output=True,
        check=False,
        umask=umask,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": str(where), **environment},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def tree(folder: Path, files: Mapping[str, bytes], when: int = EARLY) -> Path:
    """Makes a folder of these files, all of one time, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o644)
    timed(folder, when)
    return folder


def timed(folder: Path, when: int) -> None:
    """Gives all that is in a folder one time."""
    for each in (folder, *folder.rglob("*")):
        os.utime(each, (when, when), follow_symlinks=False)


def zipped(folder: Path, *options: str, names: Sequence[str] = (), **environment: str) -> bytes:
    """Returns what `zip` makes of a folder; of the files `names` in that order, where they are told."""
    made = folder.parent / "made.zip"
    made.unlink(missing_ok=True)
    run("zip", "-q", "-X", "-r", *options, str(made), *(names or ["."]), where=folder, **environment)
    return made.read_bytes()


def tarred(folder: Path, *options: str, names: Sequence[str] = (".",)) -> bytes:
    """Returns what `tar` makes of a folder."""
    return run("tar", "--sort=name", *options, "-cf", "-", *names, where=folder)


def gzipped(data: bytes, *options: str) -> bytes:
    """Returns what `gzip` makes of some bytes, without name and time unless asked for."""
    return run("gzip", "-c", *(options or ("-n",)), where=Path("/"), data=data)


def package(
    folder: Path,
    *options: str,
    scripts: Mapping[str, bytes] | None = None,
    sums: bool = True,
    size: int | None = None,
    epoch: int = EARLY,
) -> bytes:
    """Returns the package that dpkg-deb makes of a folder, with md5sums and Installed-Size that are right."""
    control = folder / "DEBIAN"
    control.mkdir()
    for name, data in (scripts or {}).items():
        (control / name).write_bytes(data)
        (control / name).chmod(0o755 if data.startswith(b"#!") else 0o644)
    files = sorted(each for each in folder.rglob("*") if each.is_file() and not each.is_symlink())
    inside = [each for each in files if control not in each.parents]
    total = sum(-(-each.stat().st_size // 1024) for each in files)
    total += sum(1 for each in (folder, *folder.rglob("*")) if each.is_symlink() or each.is_dir())
    (control / "control").write_text(CONTROL.format(size=total if size is None else size))
    if sums:
        lines = [
            f"{hashlib.md5(each.read_bytes()).hexdigest()}  {each.relative_to(folder)}\n" for each in inside
        ]
        (control / "md5sums").write_text("".join(lines))
    timed(folder, epoch)
    made = folder.parent / "made.deb"
    arguments = ("--root-owner-group", *(options or ("-Zxz",)), "--build", str(folder), str(made))
    run("dpkg-deb", *arguments, where=folder, SOURCE_DATE_EPOCH=str(epoch))
    shutil.rmtree(control)
    return made.read_bytes()

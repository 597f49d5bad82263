"""The stage: a scratch folder in which nothing of this machine steers the builders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import FileFailed, PreflightFailed
from pipeline.operations.demo import stage as stages
from pipeline.operations.demo.stage import BUILDERS, environment_of, make_scratch, require_programs, set_up
from tests.mounts import needs_mounts

TOOLS = ("dpkg-buildpackage", "dpkg-deb", "dh", "fakeroot", "make", "git")


def tools(folder: Path, *left_out: str) -> str:
    """Makes a folder with the programs that the demonstration needs, but for those left out."""
    for name in set(TOOLS) - set(left_out):
        (folder / name).touch(mode=0o755)
    return str(folder)


def test_a_machine_with_everything_passes(tmp_path: Path) -> None:
    """Where every program is there, nothing is raised."""
    require_programs(tools(tmp_path))


@pytest.mark.parametrize(
    ("missing", "package"), [("dpkg-deb", "dpkg"), ("dh", "debhelper"), ("git", "git"), ("make", "make")]
)
def test_what_is_missing_is_named_with_its_package(tmp_path: Path, missing: str, package: str) -> None:
    """A machine without dpkg, debhelper, make or git is told which program it lacks and how to get it."""
    with pytest.raises(PreflightFailed) as caught:
        require_programs(tools(tmp_path, missing))
    assert caught.value.message.endswith(f"lacks {missing}.")
    assert caught.value.remedy is not None
    assert caught.value.remedy.endswith(f" {package}")


def test_nothing_outside_steers_a_builder(tmp_path: Path) -> None:
    """Whatever this machine is configured for, a builder knows only its own scratch folder."""
    outer = {
        "PATH": "/bin",
        "HOME": "/root",
        "PIPELINE_LEDGER": "/srv/production.git",
        "PIPELINE_PATIENCE_SECONDS": "1",
        "SERVER_ID": "build9",
        "GIT_DIR": "/elsewhere",
        "JAVA_HOME": "/jdk",
        "MAVEN_OPTS": "-X",
        "INVOKE_RUN_ECHO": "1",
        "TERM": "dumb",
    }
    env = environment_of("build2", tmp_path, outer)
    assert env.pop("TERM") == "dumb"
    assert env["PATH"] == f"{tmp_path}/tools/maven/bin:/bin"
    assert env["PIPELINE_LEDGER"] == str(tmp_path / "ledger.git")
    assert env["PIPELINE_BUILDER"] == "build2"
    own = {"PATH", "PIPELINE_BUILDER", "PIPELINE_HEARTBEAT_SECONDS", "PIPELINE_MAVEN_MIRROR"}
    assert all(value.startswith(str(tmp_path)) for name, value in env.items() if name not in own)
    assert {name for name in outer if name in env} == {"PATH", "HOME", "PIPELINE_LEDGER"}


def test_the_builders_share_a_ledger_and_nothing_else(tmp_path: Path) -> None:
    """Home, store, cache and lock of one builder lie apart from the other's; the ledger is one."""
    stage = set_up(tmp_path, dict(os.environ))
    one, two = (stage.environments[name] for name in BUILDERS)
    same = {name for name in one if name.startswith("PIPELINE_") and one[name] == two[name]}
    assert same == {
        "PIPELINE_LEDGER",
        "PIPELINE_SOURCE",
        "PIPELINE_RECIPE",
        "PIPELINE_HEARTBEAT_SECONDS",
        "PIPELINE_MAVEN_MIRROR",
    }
    assert one["HOME"] != two["HOME"]


def test_it_needs_no_git_identity(tmp_path: Path, home: Path) -> None:
    """Without a name and an address for git, the source is made all the same."""
    asked = subprocess.run(["git", "config", "user.email"], cwd=tmp_path, capture_output=True)
    assert asked.returncode != 0
    stage = set_up(tmp_path, dict(os.environ))
    words = ["git", "--git-dir", str(tmp_path / "source.git"), "log", "-1", "--format=%ae", stages.BRANCH]
    shown = subprocess.run(words, capture_output=True, text=True, check=True)
    assert shown.stdout == "sample@example.invalid\n"
    assert list(stage.environments) == list(BUILDERS)


def test_the_remote_goes_and_comes_back(tmp_path: Path) -> None:
    """Taken away, the ledger is nowhere where a builder looks; brought back, it is what it was."""
    stage = set_up(tmp_path, dict(os.environ))
    inode = stage.ledger.stat().st_ino
    stage.take_ledger_away()
    assert not stage.ledger.exists()
    stage.bring_ledger_back()
    assert stage.ledger.stat().st_ino == inode


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A scratch folder is not made somewhere else than where it was asked for."""
    with pytest.raises(
        FileFailed, match=r"No scratch folder can be made in `.*nowhere`: No such file"
    ) as caught:
        make_scratch(str(tmp_path / "nowhere"))
    assert caught.value.remedy == "Name another place: `--folder PATH`."


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """A file in the place of the folder is named."""
    (tmp_path / "file").touch()
    with pytest.raises(FileFailed, match=r"`.*file`: Not a directory"):
        make_scratch(str(tmp_path / "file"))


def test_a_folder_that_cannot_be_on_path_is_refused(tmp_path: Path) -> None:
    """Below a colon the stand-ins would not be found, and a real Maven might be: nothing is made there."""
    place = tmp_path / "a:b"
    place.mkdir()
    with pytest.raises(FileFailed, match="has a colon in its path"):
        make_scratch(str(place))
    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    """A folder that this user may not write is named with the system's own word."""
    tmp_path.chmod(0o500)
    with pytest.raises(FileFailed, match="Permission denied"):
        make_scratch(str(tmp_path))


def test_too_little_room_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """Where builds would be ended for want of room, nothing begins, and what is wanted is said."""
    with pytest.raises(FileFailed, match=r"MiB free; the demonstration wants 1099511627776") as caught:
        make_scratch(str(tmp_path), wanted_bytes=1 << 60)
    assert caught.value.remedy == "Free some. Name another place: `--folder PATH`."
    assert list(tmp_path.iterdir()) == []


@needs_mounts
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("size=8m", 33, "MiB free; the demonstration wants"),
        ("ro", 33, "Read-only file system"),
        ("noexec,size=3g", 33, "noexec"),
    ],
)
def test_a_file_system_that_will_not_do(tmp_path: Path, options: str, code: int, words: str) -> None:
    """A full, a read-only and a noexec file system are refused before anything is begun."""
    task = "import sys; from pipeline.console.program import main; sys.argv[1:] = %r; main()"
    argv = ["cluster", "--demo", "--folder", str(tmp_path)]
    script = f'mount -t tmpfs -o {options} none "{tmp_path}" && exec "$0" -c "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, task % argv]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "0.0 s" not in done.stderr

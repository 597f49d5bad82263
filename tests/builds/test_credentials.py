"""A source behind a password: submodules and large files are fetched with it, and it is written nowhere."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.builds.source import Sources
from pipeline.edge.process import run
from pipeline.errors import SourceError
from tests.builds.web import SECRETS, Host, serve_with_password

LARGE = b"large" * 1000
has_lfs = run(["git", "lfs", "version"], check=False).returncode == 0


def git(*words: str, cwd: Path) -> None:
    """Runs git as somebody with a name."""
    settings = ("user.name=Somebody", "user.email=somebody@example.org", "protocol.file.allow=always")
    options = [word for setting in settings for word in ("-c", setting)]
    subprocess.run(["git", *options, *words], cwd=cwd, check=True, capture_output=True)


def commit(place: Path, text: str) -> None:
    git("add", "--all", cwd=place)
    git("commit", "--quiet", "-m", text, cwd=place)


def publish(host: Host, source: Path, branch: str) -> None:
    """Puts a tree on a host, with a submodule of the same host and, where git-lfs is there, a large file."""
    library = source.with_name("library")
    library.mkdir()
    git("init", "--quiet", "-b", "main", cwd=library)
    (library / "lib.txt").write_text("one")
    commit(library, "library")
    if has_lfs:
        git("lfs", "install", "--local", cwd=source)
        (source / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
        (source / "big.bin").write_bytes(LARGE)
        host.keep_lfs(LARGE)
    git("submodule", "--quiet", "add", "--name", "library", str(library), "deps/library", cwd=source)
    (source / ".gitmodules").write_text(
        '[submodule "library"]\n\tpath = deps/library\n\turl = ../library.git\n'
    )
    commit(source, "submodule and large file")
    for place in (library, source):
        name = "tree" if place == source else "library"
        git("clone", "--quiet", "--bare", str(place), str(host.root / f"{name}.git"), cwd=source)


def traces(folder: Path) -> list[str]:
    """Returns the files below a folder that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    return [str(path) for path in files if any(secret.encode() in path.read_bytes() for secret in SECRETS)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host with a tree, its submodule and its large file."""
    with serve_with_password(tmp_path / "root") as made:
        source = tmp_path / "origin" / "tree"
        source.mkdir(parents=True)
        git("init", "--quiet", "-b", "main", cwd=source)
        (source / "file.txt").write_text("hello")
        commit(source, "one")
        publish(made, source, "main")
        shutil.rmtree(tmp_path / "origin")
        yield made


def test_submodules_and_large_files_are_fetched_with_it(host: Host, tmp_path: Path) -> None:
    """All of a tree is there, though every request of the host was refused without the password."""
    sources = Sources(tmp_path / "cache")
    resolved = sources.resolve(host.address("tree.git"), "main")
    sources.until(lambda: None).checkout(resolved, tmp_path / "tree")
    assert (tmp_path / "tree/deps/library/lib.txt").read_text() == "one"
    if has_lfs:
        assert (tmp_path / "tree/big.bin").read_bytes() == LARGE
        assert any(path.startswith("/lfs/") for path in host.seen.accepted)
    assert any(path.startswith("/library.git/") for path in host.seen.accepted)
    assert host.seen.refused
    assert resolved.source == host.address("tree.git", password=False)


def test_it_is_written_nowhere(host: Host, tmp_path: Path) -> None:
    """No file of cache, clone and tree has it, and no process had it on its command line."""
    sources = Sources(tmp_path / "cache")
    sources.checkout(sources.resolve(host.address("tree.git"), "main"), tmp_path / "tree")
    assert traces(tmp_path / "cache") == traces(tmp_path / "tree") == []
    assert host.seen.accepted
    assert host.seen.command_lines == set()


@pytest.mark.skipif(not has_lfs, reason="git-lfs is not installed: apt-get install git-lfs")
def test_a_failure_does_not_write_it_either(host: Host, tmp_path: Path) -> None:
    """Git LFS keeps a log of what went wrong, with much of its environment: the password is not in it."""
    host.break_lfs()
    sources = Sources(tmp_path / "cache")
    resolved = sources.resolve(host.address("tree.git"), "main")
    with pytest.raises(SourceError) as failed:
        sources.checkout(resolved, tmp_path / "tree")
    assert not any(secret in str(failed.value) for secret in SECRETS)
    assert list((tmp_path / "cache/lfs").glob("*/logs/*.log"))
    assert traces(tmp_path / "cache") == traces(tmp_path / "tree") == []


def test_without_it_the_submodule_is_what_is_missing(host: Host, tmp_path: Path) -> None:
    """Whoever has forgotten the password is refused: the tree really needs it."""
    resolved = Sources(tmp_path / "cache").resolve(host.address("tree.git"), "main")
    with pytest.raises(SourceError, match="asks for credentials"):
        Sources(tmp_path / "cache").checkout(resolved, tmp_path / "tree")


def test_a_wrong_password_is_told_as_such(host: Host, tmp_path: Path) -> None:
    """The error names the address without the password that did not fit."""
    wrong = host.address("tree.git").replace(SECRETS[0], "not-this-one")
    with pytest.raises(SourceError, match="asks for credentials") as failed:
        Sources(tmp_path / "cache").resolve(wrong, "main")
    assert host.address("tree.git", password=False) in failed.value.message
    assert "not-this-one" not in str(failed.value)

"""Promises of sources over SSH and HTTPS: what is fetched, and what an operator is told when it is not.

A real sshd and a real web server on loopback. For what a network does to a connection there is a proxy.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.builds.source import Sources
from pipeline.edge.credentials import Access
from pipeline.edge.git import environment
from pipeline.edge.process import run
from pipeline.errors import BranchNotFound, SourceError
from tests.contracts.web import serve_git
from tests.sshd import Sshd

BRANCH = "ExternalNew"


def _git(place: Path, *words: str) -> str:
    author = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org"}
    committer = {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org"}
    return run(["git", "-C", place, *words], env={**os.environ, **author, **committer}).text


def _commit(place: Path, data: bytes) -> str:
    (place / "file").write_bytes(data)
    _git(place, "add", "--all")
    _git(place, "commit", "--quiet", "-m", "a commit")
    return _git(place, "rev-parse", "HEAD")


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository with a working tree, in a folder whose name has a space and a letter of its own."""
    place = tmp_path / "some where ö" / "cloudstack"
    place.mkdir(parents=True)
    _git(place, "init", "--quiet", "-b", BRANCH)
    _commit(place, b"one")
    return place


@pytest.fixture
def bare(origin: Path, tmp_path: Path) -> Path:
    """A bare clone of it."""
    place = tmp_path / "bare.git"
    _git(tmp_path, "clone", "--quiet", "--bare", str(origin), str(place))
    return place


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "cache")


def over(monkeypatch: pytest.MonkeyPatch, sshd: Sshd, *options: str) -> None:
    """Has this test's git reach the server, with further options of ssh, which come first."""
    words = ["ssh", *(word for option in options for word in ("-o", option)), "-F", str(sshd.config_file)]
    monkeypatch.setenv("GIT_SSH_COMMAND", shlex.join(words))


def refused(sources: Sources, address: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        sources.resolve(address, BRANCH)
    return caught.value


# -- what works ----------------------------------------------------------------------------------------------


def test_every_way_to_write_an_ssh_address(
    sshd: Sshd, origin: Path, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh:// and scp's form, a bare repository and one with a tree, a path with spaces: the same commit."""
    over(monkeypatch, sshd)
    tip = _git(origin, "rev-parse", "HEAD")
    for number, address in enumerate(
        (
            sshd.url(bare),
            sshd.url(origin),
            sshd.url(origin).replace(" ", "%20"),
            f"{sshd.user}@{sshd.host}:{bare}",
            f"an-alias:{origin}",
        )
    ):
        sources = Sources(tmp_path / f"cache {number}")
        resolved = sources.resolve(address, BRANCH)
        assert (resolved.commit, resolved.source, resolved.notes) == (tip, address, ())
        tree = tmp_path / f"tree {number}"
        sources.checkout(resolved, tree)
        assert (tree / "file").read_bytes() == b"one"
        assert _git(tree, "remote", "get-url", "origin") == address


def test_news_are_fetched_over_ssh(
    sshd: Sshd, origin: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next build of a branch gets what was pushed in between; without the remote, what is cached."""
    over(monkeypatch, sshd)
    address = f"an-alias:{origin}"
    sources.resolve(address, BRANCH)
    tip = _commit(origin, b"two")
    assert sources.resolve(address, BRANCH).commit == tip
    over(monkeypatch, sshd, "Port=1")
    resolved = sources.resolve(address, BRANCH)
    assert resolved.commit == tip
    assert "Not asked for news" in resolved.notes[0]
    assert "Connection refused" in resolved.notes[0]


def test_the_ssh_that_git_is_configured_with_is_used(
    sshd: Sshd, bare: Path, sources: Sources, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`core.sshCommand` counts where no variable says otherwise, as it does for git itself."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
    _git(bare, "config", "--global", "core.sshCommand", sshd.ssh_command())
    assert sources.resolve(f"an-alias:{bare}", BRANCH).commit == _git(bare, "rev-parse", BRANCH)


def test_a_shallow_source_over_ssh_says_so(
    sshd: Sshd, origin: Path, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tip of a repository without history is built, and it is said what is missing."""
    over(monkeypatch, sshd)
    _commit(origin, b"two")
    _git(tmp_path, "clone", "--quiet", "--bare", "--depth=1", f"file://{origin}", "shallow.git")
    resolved = sources.resolve(sshd.url(tmp_path / "shallow.git"), BRANCH)
    assert resolved.notes == ("The cached clone is shallow: older history is missing.",)


# -- what does not -------------------------------------------------------------------------------------------


def test_near_names_are_listed(
    sshd: Sshd, bare: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch that is not there is told apart from a repository that is not there."""
    over(monkeypatch, sshd)
    with pytest.raises(BranchNotFound) as caught:
        sources.resolve(sshd.url(bare), "ExternalNwe")
    assert caught.value.remedy == "Near names: `ExternalNew`."
    error = refused(sources, sshd.url(bare.with_name("nowhere.git")))
    assert "is not a git repository: fatal: '" in error.message
    assert shlex.quote(sshd.url(bare.with_name("nowhere.git"))) in (error.remedy or "")


def test_an_unknown_host_key(
    sshd: Sshd, bare: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked; the remedy is the line that fetches the key."""
    over(monkeypatch, sshd, "UserKnownHostsFile=/dev/null")
    error = refused(sources, sshd.url(bare))
    assert "has an SSH host key that this machine does not know" in error.message
    assert f"`ssh-keyscan -p {sshd.port} {sshd.host}`" in (error.remedy or "")


def test_a_changed_host_key(
    sshd: Sshd, bare: Path, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is another one than before is no unknown one: somebody may stand in between."""
    other = (sshd.identity.with_suffix(".pub")).read_text().split()
    known = tmp_path / "known_hosts"
    known.write_text(f"[{sshd.host}]:{sshd.port} {other[0]} {other[1]}\n")
    over(monkeypatch, sshd, f"UserKnownHostsFile={known}")
    error = refused(sources, sshd.url(bare))
    assert "has another SSH host key than before" in error.message
    assert f"`ssh-keygen -R '[{sshd.host}]:{sshd.port}'`" in (error.remedy or "")


def test_a_refused_key(
    sshd: Sshd, bare: Path, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not is told so in the server's words, and is not asked for a password."""
    stranger = tmp_path / "stranger"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger])
    config = tmp_path / "config"
    config.write_text(sshd.config_file.read_text().replace(str(sshd.identity), str(stranger)))
    monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -F {config}")
    error = refused(sources, sshd.url(bare))
    assert "asks for credentials" in error.message
    assert "Permission denied (publickey)" in error.message


def test_a_machine_without_ssh(bare: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program that is missing is named, not the repository."""
    monkeypatch.setenv("GIT_SSH_COMMAND", "/nonexistent/ssh")
    error = refused(sources, f"host:{bare}")
    assert "SSH, which is not installed" in error.message
    assert "openssh-client" in (error.remedy or "")


@pytest.mark.parametrize("address", ["ssh://nobody@127.0.0.1:1/x.git", "https://127.0.0.1:1/x.git"])
def test_a_port_where_nobody_listens(address: str, sources: Sources) -> None:
    """It is the network that is to be looked at, not the repository."""
    error = refused(sources, address)
    assert "cannot be reached" in error.message
    assert address in error.message


def test_a_host_that_falls_silent_is_given_up() -> None:
    """Connecting takes 15 s at the most, and silence afterwards a minute, whatever the network does."""
    command = environment(Access("git@host:x"))["GIT_SSH_COMMAND"].split()
    options = dict(word.split("=") for word in command if "=" in word)
    assert options["ConnectTimeout"] == "15"
    assert int(options["ServerAliveInterval"]) * int(options["ServerAliveCountMax"]) == 60


class Cutter:
    """Stands in front of a server, and ends a connection after so many bytes of it."""

    def __init__(self, port: int, after: int) -> None:
        self._to, self._after = port, after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut = threading.Event()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Accepts connections until the block ends."""
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            thread.join()

    def _serve(self) -> None:
        pumps = []
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                break
            server = socket.create_connection(("127.0.0.1", self._to))
            for ends in ((client, server, 1 << 40), (server, client, self._after)):
                pumps.append(threading.Thread(target=self._pump, args=ends, daemon=True))
                pumps[-1].start()
        for pump in pumps:
            pump.join()

    def _pump(self, source: socket.socket, target: socket.socket, left: int) -> None:
        try:
            while data := source.recv(65536):
                left -= len(data)
                if left < 0:
                    self.cut.set()
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()


@pytest.mark.parametrize("after", [20_000, 1_000_000])
def test_a_connection_that_breaks_off(
    sshd: Sshd, origin: Path, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A cut line is no damaged repository: the next try has all of its history."""
    tip = _commit(origin, os.urandom(3_000_000))
    cutter = Cutter(sshd.port, after)
    alias = f"{sshd.user}@{sshd.host}:{origin}"
    with cutter.serving():
        over(monkeypatch, sshd, f"Port={cutter.port}", f"HostKeyAlias=[{sshd.host}]:{sshd.port}")
        error = refused(sources, alias)
    assert cutter.cut.is_set()
    assert "broke off in the middle" in error.message
    over(monkeypatch, sshd)
    resolved = sources.resolve(alias, BRANCH)
    assert (resolved.commit, resolved.notes) == (tip, ())
    assert _git(sources.clone_of(resolved), "rev-list", "--count", tip) == "2"
    assert not list(sources.clone_of(resolved).rglob("tmp_*"))


# -- HTTPS ---------------------------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An HTTPS server with a certificate that it made itself: its address, and the certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with serve_git(key, certificate) as address:
        yield address, certificate


def test_a_certificate_that_nobody_vouches_for(
    web: tuple[str, Path], bare: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused as what it is; with its file in $GIT_SSL_CAINFO the same address works."""
    address, certificate = web
    error = refused(sources, f"{address}{bare}")
    assert "has a certificate that this machine does not trust" in error.message
    assert "$GIT_SSL_CAINFO" in (error.remedy or "")
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate))
    assert sources.resolve(f"{address}{bare}", BRANCH).commit == _git(bare, "rev-parse", BRANCH)
    missing = refused(sources, f"{address}{bare}-nowhere")
    assert "is not a git repository" in missing.message

"""The ref store over real git, in what only it can do: addresses with secrets, words on a cut connection."""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path

import pytest

from pipeline.edge.git_refs import GitRefs
from pipeline.edge.git_remote import GitRemote, environment, moved
from pipeline.edge.process import Finished
from pipeline.errors import LedgerUnreachable


def test_credentials_are_in_no_message(tmp_path: Path) -> None:
    """User and password of an address are shown nowhere."""
    refs = GitRefs(tmp_path / "one.git", "https://robot:s3cret@127.0.0.1:1/x.git", timeout=20)
    with pytest.raises(LedgerUnreachable) as caught:
        refs.tip()
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1" in caught.value.message


def test_words_on_a_cut_connection_are_no_verdict(tmp_path: Path) -> None:
    """Without the remote's own report a push is unknown, whatever was said before the line went dead."""
    refs = GitRefs(tmp_path / "one.git", "host:x")
    script = tmp_path / "ssh"
    script.write_text("#!/bin/sh\necho 'remote: Permission denied' >&2\nexit 1\n", encoding="ascii")
    script.chmod(0o755)
    refs.remote.env["GIT_SSH_COMMAND"] = str(script)
    assert refs._push([], "refs/heads/x:refs/heads/y").kind == "unknown"


def test_a_held_lock_is_no_lost_race() -> None:
    """Git 2.55 says `reference already exists` of both; only what goes with it tells them apart."""
    verdict = "!\tHEAD:refs/heads/ledger\t[remote rejected] (reference already exists)\n"
    held = "remote: error: cannot lock ref 'refs/heads/ledger': Unable to create '/x.lock': File exists."
    assert moved(verdict)
    assert not moved(verdict + held)


def test_sockets_lie_where_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime folder that is missing, too long for a socket or not fit for a shell is passed over."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        for folder, used in (
            (short, True),
            (f"{short}/not-there", False),
            ("/run/user/x y", False),
            (f"{short}/{'long' * 10}", False),
        ):
            if folder.endswith("long"):
                Path(folder).mkdir()
            monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
            command = environment("git@host:ledger.git")["GIT_SSH_COMMAND"]
            assert (f"ControlPath={folder}/" in command) is used
            assert "BatchMode=yes" in command


def test_ssh_s_own_words_are_passed_on() -> None:
    """What git adds to any trouble on the way is left out of the message."""
    remote = GitRemote("git@host:ledger.git", 1.0)
    said = (
        "ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote repository.\n"
    )
    said += "\nPlease make sure you have the correct access rights\nand the repository exists.\n"
    error = remote.meaning(Finished(("git",), 128, b"", said.encode(), 0.1))
    assert error.message.endswith("does not answer: ssh: connect to host h port 22: Connection refused")


@pytest.mark.parametrize("way", ["git", "ssh"])
def test_a_server_that_never_answers_is_given_up(tmp_path: Path, way: str) -> None:
    """Reads and pushes end when the patience does, whatever git would wait, and leave no process behind."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mark = f"{tmp_path.name}-never"
        address = f"git://127.0.0.1:{silent.getsockname()[1]}/{mark}" if way == "git" else f"host:{mark}"
        refs = GitRefs(tmp_path / "one.git", address)
        if way == "ssh":
            script = tmp_path / "ssh"
            script.write_text(f"#!/bin/sh\nsleep 300 # {mark}\n", encoding="ascii")
            script.chmod(0o755)
            refs.remote.env["GIT_SSH_COMMAND"] = str(script)
        begun = time.monotonic()
        with refs.within(0.0):
            with pytest.raises(LedgerUnreachable, match=r"gave no answer within 2 s"):
                refs.tip()
            assert refs.beat("refs/pipeline/heartbeat/x", b"x", None).kind == "unknown"
        assert time.monotonic() - begun < 30
        left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if mark in read(p)]
        assert left == []


def read(place: Path) -> str:
    """Returns a process's command line; nothing of one that is gone."""
    try:
        return place.read_bytes().decode(errors="replace")
    except OSError:
        return ""

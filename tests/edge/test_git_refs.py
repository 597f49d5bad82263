"""The ref store over real git, in what only it can do: addresses with secrets, words on a cut connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.edge.git_refs import GitRefs
from pipeline.edge.git_remote import moved
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

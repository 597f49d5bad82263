"""What git's words about a remote mean, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.edge.bare import make_bare
from pipeline.edge.git_objects import EMPTY_TREE, make_commit
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.git_remote import GitRemote
from pipeline.edge.process import Finished, run
from pipeline.errors import LedgerRefLocked, LedgerUnauthorised, UsageError
from tests.builds.web import SECRETS, serve_with_password

ADDRESS = "/srv/ledger.git"


@pytest.mark.parametrize(
    ("said", "error", "words", "remedy"),
    [
        (
            f"fatal: detected dubious ownership in repository at '{ADDRESS}'\nTo add an exception ...",
            LedgerUnauthorised,
            "detected dubious ownership",
            f"git config --global --add safe.directory {ADDRESS}",
        ),
        (
            f"error: cannot lock ref: Unable to create '{ADDRESS}/refs/heads/ledger.lock': File exists.\n\n"
            "Another git process seems to be running in this repository ... In that case\n"
            "remove the file manually to continue.",
            LedgerRefLocked,
            f"Unable to create '{ADDRESS}/refs/heads/ledger.lock': File exists",
            "Remove the ref's .lock file",
        ),
    ],
)
def test_a_refusal_names_what_is_in_the_way(said: str, error: type, words: str, remedy: str) -> None:
    """Whose repository it is, or which file was left: the message says it, and the remedy names it."""
    found = GitRemote(ADDRESS, 1.0).meaning(Finished((), 128, b"", said.encode(), 0.0))
    assert type(found) is error
    assert words in found.message
    assert remedy in (found.remedy or "")


def test_a_password_is_on_no_command_line(tmp_path: Path) -> None:
    """Reading, pushing, probing and a heartbeat hand it to git unseen; its host looks at every process."""
    with serve_with_password(tmp_path / "root") as host:
        bare = host.root / "ledger.git"
        make_bare(bare)
        run(["git", "--git-dir", bare, "config", "http.receivepack", "true"])
        one, two = (GitRefs(tmp_path / name, host.address("ledger.git")) for name in ("one", "two"))
        made = make_commit(EMPTY_TREE.oid, [], "a <a@b.invalid>", 1, "first\n")
        one.write([made])
        assert one.tip() is None
        assert one.push(made.oid, None).kind == "landed"
        assert one.beat("refs/pipeline/heartbeat/x", b"alive\n", None).kind == "landed"
        assert two.survey("refs/pipeline/heartbeat/") == (made.oid, {"refs/pipeline/heartbeat/x": b"alive\n"})
        assert two.try_push([f"{made.oid}:refs/heads/probe"]) is None
        assert {path.partition("?")[0] for path in host.seen.accepted} >= {
            "/ledger.git/info/refs",
            "/ledger.git/git-upload-pack",
            "/ledger.git/git-receive-pack",
        }
        assert host.seen.command_lines == set()
    for place in tmp_path.rglob("*"):
        assert not (place.is_file() and any(each.encode() in place.read_bytes() for each in SECRETS)), place


def test_a_wrong_password_is_told_as_such(tmp_path: Path) -> None:
    """The remote wants other credentials; the error shows neither user nor password."""
    with serve_with_password(tmp_path / "root") as host:
        make_bare(host.root / "ledger.git")
        address = host.address("ledger.git").replace(SECRETS[0], "not-this-one")
        with pytest.raises(LedgerUnauthorised) as failed:
            GitRefs(tmp_path / "clone", address).tip()
    assert host.address("ledger.git", password=False) in failed.value.message
    assert "not-this-one" not in str(failed.value)


def test_an_address_that_cannot_be_parsed_is_named() -> None:
    """A bracket that is not closed is the user's mistake, told without the password; no defect."""
    with pytest.raises(UsageError, match=r"'https://\[::1/x.git' cannot be a repository's address") as wrong:
        GitRemote("https://me:s3cret@[::1/x.git", 1.0)
    assert "s3cret" not in str(wrong.value)


def test_credentials_come_behind_the_users_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that the user gives git by variables stay; a name alone is told to the user's helpers."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "http.sslVerify")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    remote = GitRemote("https://me@example.org/ledger.git", 1.0)
    assert remote.address == "https://example.org/ledger.git"
    assert (remote.env["GIT_CONFIG_KEY_0"], remote.env["GIT_CONFIG_COUNT"]) == ("http.sslVerify", "2")
    assert remote.env["GIT_CONFIG_KEY_1"] == "credential.https://example.org.username"
    assert remote.env["GIT_CONFIG_VALUE_1"] == "me"

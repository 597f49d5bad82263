"""What git's words about a remote mean, and what to do about it."""

from __future__ import annotations

import pytest

from pipeline.edge.git_remote import GitRemote
from pipeline.edge.process import Finished
from pipeline.errors import LedgerRefLocked, LedgerUnauthorised

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

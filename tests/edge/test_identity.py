"""Homes that nobody knows, as containers and service accounts have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.edge.identity import expanded, user_home
from pipeline.errors import UsageError


def test_a_home_that_nobody_knows_is_said(home: Path) -> None:
    """`~` is this user's home; that of a user who is not there is refused with the path as it was given."""
    assert expanded("~/x") == home / "x"
    assert expanded("x/~y") == Path("x/~y")
    with pytest.raises(UsageError, match="~nobody-of-that-name/x") as caught:
        expanded("~nobody-of-that-name/x")
    assert caught.value.remedy is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without an entry")
def test_a_user_without_an_entry_has_a_home_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without $HOME and without an entry in the system's list of users, home is a place that nobody has."""
    monkeypatch.delenv("HOME")
    child = os.fork()
    if child == 0:
        os.setuid(987_654)
        os._exit(0 if user_home() == Path("/nonexistent") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

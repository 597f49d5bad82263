"""Secrets in commits made by hand: named by file, line and rule, and by nobody's value."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.edge.git_objects import TreeView, make_commit, parse_commit, write_tree
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.ledger.exposure import Exposed, exposed_above, exposed_by
from pipeline.ledger.ledger import Ledger
from tests.ledger.test_foreign import change_by_hand
from tests.ledger.toy import LOG, Node, begin

#: Put together here, so that no scanner takes this file for a leak.
TOKEN = "glpat-" + "x1Y2z3" * 4
KEY = "-----BEGIN RSA PRIVATE" + " KEY-----\n" + ("MIIEpAIBAAKCAQEA7bq3Zl0kq9w1Xy2Qm4vT8nB6cD5eF7gH9\n" * 3)


@pytest.fixture
def remote() -> MemoryRemote:
    """A remote with the toy's ledger."""
    made = MemoryRemote()
    begin(MemoryRefs(made))
    return made


def test_each_is_named_once_by_the_commit_that_brought_it(remote: MemoryRemote) -> None:
    """File, line and rule; what stood there before, in the same words, is not new, and a key is one place."""
    first = change_by_hand(remote, {"a.txt": f"fine\n{TOKEN}\n".encode(), "b.bin": b"\0" + TOKEN.encode()})
    second = change_by_hand(remote, {"a.txt": f"moved\nfine\n{TOKEN}\n{KEY}".encode()})
    third = change_by_hand(remote, {"a.txt": b"fine\n"})
    refs = MemoryRefs(remote)
    refs.fetch()
    assert exposed_by(refs, first) == [Exposed(first, "a.txt", 2, "gitlab_token")]
    assert exposed_by(refs, second) == [Exposed(second, "a.txt", 5, "private_key")]
    assert exposed_by(refs, third) == []


def test_a_message_and_a_merge_are_looked_at(remote: MemoryRemote) -> None:
    """A secret in a commit's own words counts; a merge has brought only what none of its parents had."""
    side = change_by_hand(remote, {"side.txt": TOKEN.encode()})
    refs = MemoryRefs(remote)
    refs.fetch()
    found = refs.read(side)
    assert found is not None
    commit = parse_commit(found.data)
    root, objects = write_tree(TreeView(refs.read, commit.tree), {"merged.txt": f"\n{TOKEN}".encode()})
    message = f"merge\n\nwith password={TOKEN}\n"
    merge = make_commit(root, [side, *commit.parents], "hand <hand@example.invalid>", 1, message)
    refs.write([*objects, merge])
    assert exposed_by(refs, merge.oid) == [
        Exposed(merge.oid, "", 3, "gitlab_token"),
        Exposed(merge.oid, "merged.txt", 2, "gitlab_token"),
    ]


def test_whoever_adopts_it_is_told(remote: MemoryRemote, tmp_path: Path) -> None:
    """The transaction above such commits warns of each, whether its file was adopted or put aside, once."""
    said: list[str] = []
    one = Node("one", tmp_path, MemoryRefs(remote))
    parts = (one.store, one.refs, one.decide, one.adopt, one.clock, one.random, one.processes, one.settings)
    one.ledger = Ledger(*parts, warn=said.append)
    first = change_by_hand(remote, {"notes/a.txt": TOKEN.encode()})
    second = change_by_hand(remote, {LOG: b"garbage " + TOKEN.encode(), "notes/a.txt": None})
    above = exposed_above(one.refs, one.ledger.view(), 1)
    assert [(each.commit, each.path) for each in above] == [(first, "notes/a.txt"), (second, LOG)]
    one.append("a")
    one.append("b")
    assert said == [
        f"Commit {each.commit[:12]}, made by hand: `{each.path}`, line 1: this looks like a password or a key"
        " (rule `gitlab_token`). Rotate it, so that it is worth nothing: the branch's history keeps it."
        for each in above
    ]
    assert not any(TOKEN in line for line in said)
    assert one.findings() == []


def test_a_ledger_that_nobody_writes_to_by_hand_costs_nothing(remote: MemoryRemote, tmp_path: Path) -> None:
    """Above a transaction nothing is read."""
    one = Node("one", tmp_path, MemoryRefs(remote))
    one.append("a")
    standing = one.ledger.view()
    assert exposed_above(Unreadable(remote), standing, 1) == []


class Unreadable(MemoryRefs):
    """A ref store that must not be asked for anything but the tip's commit."""

    def read(self, oid: str) -> None:
        raise AssertionError(f"{oid} was read")

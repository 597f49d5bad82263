"""What became of a branch that lacks what was seen: rewound and repaired, gone, or another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.edge.clock import ManualClock
from pipeline.edge.git_objects import parse_commit
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.errors import LedgerReplaced, NotALedger
from pipeline.ledger.genesis import initialise
from pipeline.records import paths
from pipeline.records.base import dump
from pipeline.records.ledger import LedgerState
from tests.ledger.toy import LOG, WHEN, CountedRandomness, Node, begin


def test_repair_on_a_clone_that_lost_what_is_given_up(tmp_path: Path) -> None:
    """A repair needs nothing of the abandoned commits: its own request was never pushed on them."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    node = Node("one", tmp_path, MemoryRefs(remote))
    node.append("a")
    lost = remote.refs[node.refs.ref]
    remote.refs[node.refs.ref] = parse_commit(remote.objects[lost].data).parents[0]
    del remote.objects[lost]
    node.refs.local.clear()
    outcome = node.ledger.accept_rewind(lambda tip, view: {"kind": "raise_epoch", "abandoned_tips": [tip]})
    assert outcome == {"ok": True, "value": {"epoch": 2}}
    assert node.append("b")["ok"]
    assert node.ids() == ["b"]


def begin_another(remote: MemoryRemote, files: dict[str, bytes]) -> str:
    """Puts another history in the branch's place, and returns its commit."""
    refs = MemoryRefs(remote)
    del remote.refs[refs.ref]
    return initialise(refs, files, "other", ManualClock(WHEN), CountedRandomness("other"), 1)


def test_a_branch_that_is_gone_is_no_rewind(tmp_path: Path) -> None:
    """A deleted branch is told as that, with the commit to push back; a repair of it is refused as well."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    node = Node("one", tmp_path, MemoryRefs(remote))
    node.append("a")
    seen = remote.refs.pop(node.refs.ref)
    for act in (node.ids, lambda: node.append("b"), lambda: node.ledger.accept_rewind(lambda tip, view: {})):
        with pytest.raises(LedgerReplaced, match=rf"was deleted\. {seen[:12]} is the last commit") as raised:
            act()
        assert f"Push {seen[:12]} back" in (raised.value.remedy or "")
    assert remote.refs == {}
    remote.refs[node.refs.ref] = seen
    assert node.ledger.deliver()
    assert node.ids() == ["a", "b"]


def test_another_ledger_in_its_place_is_told(tmp_path: Path) -> None:
    """A ledger that grew from another first commit is not written into, and no repair leads there."""
    remote = MemoryRemote()
    first = begin(MemoryRefs(remote))
    node = Node("one", tmp_path, MemoryRefs(remote))
    node.append("a")
    other = begin_another(remote, {paths.LEDGER: dump(LedgerState()), LOG: b'{"ids": [], "owner": null}'})
    for act in (node.ids, lambda: node.append("b"), lambda: node.ledger.accept_rewind(lambda tip, view: {})):
        with pytest.raises(LedgerReplaced, match=rf"grew from {other[:12]}, .* from {first[:12]}") as raised:
            act()
        assert "Point `ledger` at the right repository" in (raised.value.remedy or "")
    assert remote.refs == {node.refs.ref: other}


def test_another_repository_in_its_place_is_told(tmp_path: Path) -> None:
    """A history without a ledger is something else, not a rewind."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    node = Node("one", tmp_path, MemoryRefs(remote))
    node.append("a")
    other = begin_another(remote, {"README": b"hello\n"})
    with pytest.raises(NotALedger, match=rf"something else: its tip {other[:12]} has no `{paths.LEDGER}`"):
        node.ids()

"""The repair of a rewind where the clone has lost what is given up."""

from __future__ import annotations

from pathlib import Path

from pipeline.edge.git_objects import parse_commit
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from tests.ledger.toy import Node, begin


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

"""What only real git can do to a ledger: power losses, maintenance, addresses, words on a cut connection."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline.edge.process import run
from pipeline.errors import LedgerError, LedgerRefLocked, LedgerUnreachable, StoreError
from pipeline.ledger.git_refs import GitRefs, make_bare
from pipeline.ledger.memory import MemoryRefs, MemoryRemote
from pipeline.ledger.objects import make
from pipeline.ledger.ports import Pushed
from pipeline.ledger.receive import push_request, read_report
from tests.ledger.toy import Node, begin


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A remote with a ledger."""
    make_bare(tmp_path / "remote.git")
    begin(GitRefs(tmp_path / "init.git", str(tmp_path / "remote.git")))
    return tmp_path / "remote.git"


def git(folder: Path, *words: str) -> str:
    return run(["git", "--git-dir", folder, *words]).text


def loose(clone: Path) -> list[Path]:
    return sorted((clone / "objects").glob("[0-9a-f][0-9a-f]/*"))


def reboot(clone: Path) -> None:
    """The machine comes up again: another boot id than the one that the clone was used under."""
    (clone / "boot").write_text("another boot", encoding="ascii")


@pytest.mark.parametrize("damage", ["truncated", "empty", "gone", "ref", "null ref"])
def test_clone_after_a_power_loss(tmp_path: Path, bare: Path, damage: str) -> None:
    """What a power loss left broken in the clone is fetched again before anything is believed."""
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", str(bare)))
    one.append("a")
    one.ids()
    clone = one.refs.clone
    one.refs._note(one.store.tip())
    if damage == "truncated":
        for place in loose(clone):
            place.write_bytes(place.read_bytes()[:-7])
    elif damage == "empty":
        for place in loose(clone):
            place.write_bytes(b"")
    elif damage == "gone":
        for place in loose(clone)[::2]:
            place.unlink()
    else:
        (clone / one.refs.ref).write_bytes(b"garbage\n" if damage == "ref" else b"\0" * 41)
    reboot(clone)
    again = one.reopen()
    again.refs = again.ledger.refs = GitRefs(clone, str(bare))
    again.append("b")
    assert again.ids() == ["a", "b"]
    assert again.findings() == []
    assert git(clone, "fsck", "--connectivity-only", again.refs.tip()) is not None


def test_clone_that_was_removed_is_made_anew(tmp_path: Path, bare: Path) -> None:
    """The clone is a cache: without it the next command goes on, and knows what it has seen."""
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", str(bare)))
    one.append("a")
    run(["rm", "-rf", one.refs.clone])
    again = one.reopen()
    again.refs = again.ledger.refs = GitRefs(one.refs.clone, str(bare))
    assert again.append("b")["ok"]
    assert again.ids() == ["a", "b"]


def test_remote_that_is_written_elsewhere(tmp_path: Path, bare: Path, home: Path) -> None:
    """A remote whose push address differs from its fetch address is refused before anything is sent."""
    (home / ".gitconfig").write_text(
        f'[url "{tmp_path}/other"]\n\tpushInsteadOf = {bare}\n', encoding="utf-8"
    )
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", str(bare)))
    with pytest.raises(LedgerError, match=f"git pushes to {tmp_path}/other"):
        one.append("a")


def test_address_that_git_rewrites_both_ways(tmp_path: Path, bare: Path, home: Path) -> None:
    """`insteadOf`, which holds for both directions, is git's business."""
    (home / ".gitconfig").write_text(f'[url "{bare}"]\n\tinsteadOf = /short\n', encoding="utf-8")
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", "/short"))
    assert one.append("a")["ok"]


def test_credentials_are_in_no_message(tmp_path: Path) -> None:
    """User and password of an address are shown nowhere."""
    refs = GitRefs(tmp_path / "one.git", "https://robot:s3cret@127.0.0.1:1/x.git", timeout=20)
    with pytest.raises(LedgerUnreachable) as caught:
        refs.tip()
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1" in caught.value.message


def test_clone_that_cannot_be_written(tmp_path: Path, bare: Path) -> None:
    """A clone on a full or read-only disk is an error of this machine; what was asked waits."""
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", str(bare)))
    one.append("a")
    run(["rm", "-rf", one.refs.clone / "objects"])
    (one.refs.clone / "objects").write_bytes(b"in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        one.append("b")
    assert [e.request["id"] for e in one.store.look().entries] == ["b"]
    assert one.store.look().entries[0].doubt is None


def test_maintenance_keeps_what_is_reached(tmp_path: Path, bare: Path) -> None:
    """Old heartbeats go, the ledger stays, and a push that is being received is waited for."""
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", str(bare)))
    for number in range(5):
        one.append(str(number))
        one.refs.beat("refs/pipeline/heartbeat/build1", b"%d\n" % number)
    hours_ago = time.time() - 3 * 3600
    for folder in (bare, one.refs.clone):
        for place in loose(folder):
            os.utime(place, (hours_ago, hours_ago))
        for number in range(20):
            junk = make("blob", b"junk %d" % number)
            place = folder / "objects" / "17" / f"{number:02d}{junk.oid[4:]}"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(b"")
            os.utime(place, (hours_ago, hours_ago))
    before = len(loose(bare))
    (bare / "objects/tmp_objdir-incoming-x").mkdir()
    one.ledger.maintain()
    assert len(loose(bare)) == before
    (bare / "objects/tmp_objdir-incoming-x").rmdir()
    one.ledger.maintain()
    for folder in (bare, one.refs.clone):
        assert list((folder / "objects/pack").glob("*.pack"))
        assert len(loose(folder)) < 3
    again = Node("again", tmp_path, GitRefs(one.refs.clone, str(bare)))
    assert again.append("after")["ok"]
    assert again.ids() == ["0", "1", "2", "3", "4", "after"]
    assert again.findings() == []


def test_words_on_a_cut_connection_are_no_verdict(tmp_path: Path, bare: Path) -> None:
    """Without the remote's own report a push is unknown, whatever was said before the line went dead."""
    refs = GitRefs(tmp_path / "one.git", "host:x")
    script = tmp_path / "ssh"
    script.write_text("#!/bin/sh\necho 'remote: Permission denied' >&2\nexit 1\n", encoding="ascii")
    script.chmod(0o755)
    refs._env["GIT_SSH_COMMAND"] = str(script)
    assert refs._push([], "refs/heads/x:refs/heads/y").kind == "unknown"


def test_lock_of_another_push_is_waited_for(tmp_path: Path) -> None:
    """A ref's lock is first taken for another push at work, and believed to be left behind only later."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote))
    locked = Pushed("refused", LedgerRefLocked("Unable to create 'ledger.lock': File exists"))
    times = [2]

    def refuse(ref: str) -> Pushed | None:
        times[0] -= 1
        return locked if times[0] >= 0 else None

    remote.refuse = refuse
    assert one.append("a")["ok"]
    times[0] = 100
    with pytest.raises(LedgerRefLocked):
        one.append("b")


def test_budget_coalesces(tmp_path: Path) -> None:
    """With a budget of six pushes a minute the second one waits, and takes along what was asked meanwhile."""
    remote = MemoryRemote()
    begin(MemoryRefs(remote))
    one = Node("one", tmp_path, MemoryRefs(remote), pushes_per_minute=6)
    began = one.clock.boottime()
    one.append("a")
    assert one.clock.boottime() == began
    real = one.clock.sleep

    def sleep(seconds: float) -> None:
        if len(one.store.entries()) < 4:
            one.ledger.enqueue({"kind": "append", "id": f"m{len(one.store.entries())}"})
        real(seconds)

    one.clock.sleep = sleep  # type: ignore[method-assign]
    one.append("b")
    assert one.clock.boottime() - began == pytest.approx(10.0)
    assert one.ledger.counts.pushes == 2
    assert one.ids() == ["a", "b", "m1", "m2", "m3"]


def test_request_is_as_the_protocol_says() -> None:
    """A push is one command line, a flush, and a pack that carries its own checksum."""
    said = push_request("refs/heads/x", None, "1" * 40, [make("blob", b"x" * 300)])
    assert said[4:].startswith(b"0" * 40 + b" " + b"1" * 40 + b" refs/heads/x\0report-status0000PACK")
    assert int(said[:4], 16) == said.index(b"0000PACK")


@pytest.mark.parametrize(
    ("said", "before", "verdict"),
    [
        (b"", None, ""),
        (b"0032" + b"2" * 40 + b" re", None, ""),
        (b"003f" + b"2" * 40 + b" refs/heads/x\0caps0000", "2" * 40, ""),
        (b"000eunpack ok\n0014ok refs/heads/x\n0000", None, "ok"),
        (b"000eunpack ok\n0022ng refs/heads/x hook declined\n0000", None, "ng hook declined"),
        (b"0019unpack unpacker error\n", None, "ng unpacker error: unpacker error"),
        (b"zzzz", None, ""),
    ],
)
def test_report_is_read_or_missing(said: bytes, before: str | None, verdict: str) -> None:
    """Only a whole report is a verdict; anything cut or garbled is none."""
    assert read_report(said, "refs/heads/x") == (before, verdict)

"""What only real git can do to a ledger: power losses, maintenance, addresses, words on a cut connection."""

from __future__ import annotations

import os
import shutil
import time
import zlib
from pathlib import Path

import pytest

from pipeline.edge.bare import make_bare
from pipeline.edge.git_objects import make
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.edge.process import run
from pipeline.edge.ref_store import Pushed
from pipeline.errors import LedgerError, LedgerRefLocked, LedgerTooLarge, StoreError
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
    clone = one.refs.clone.folder
    one.refs.clone.note(one.store.tip())
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
    again = one.reopen(refs=GitRefs(clone, str(bare)))
    again.append("b")
    assert again.ids() == ["a", "b"]
    assert again.findings() == []
    assert git(clone, "fsck", "--connectivity-only", again.refs.tip()) is not None


def test_clone_that_was_removed_is_made_anew(tmp_path: Path, bare: Path) -> None:
    """The clone is a cache: without it the next command goes on, and knows what it has seen."""
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", str(bare)))
    one.append("a")
    run(["rm", "-rf", one.refs.clone.folder])
    again = one.reopen(refs=GitRefs(one.refs.clone.folder, str(bare)))
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


def test_clone_that_cannot_be_written(tmp_path: Path, bare: Path) -> None:
    """A clone on a full or read-only disk is an error of this machine; what was asked waits."""
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", str(bare)))
    one.append("a")
    run(["rm", "-rf", one.refs.clone.folder / "objects"])
    (one.refs.clone.folder / "objects").write_bytes(b"in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        one.append("b")
    assert [e.request["id"] for e in one.store.look().entries] == ["b"]
    assert one.store.look().entries[0].doubt is None


def test_maintenance_keeps_what_is_reached(tmp_path: Path, bare: Path) -> None:
    """Old heartbeats go, the ledger stays, and a push that is being received is waited for."""
    one = Node("one", tmp_path, GitRefs(tmp_path / "one.git", str(bare)))
    for number in range(5):
        one.append(str(number))
        before_it = b"%d\n" % (number - 1) if number else None
        assert one.refs.beat("refs/pipeline/heartbeat/build1", b"%d\n" % number, before_it).kind == "landed"
    hours_ago = time.time() - 3 * 3600
    for folder in (bare, one.refs.clone.folder):
        for place in loose(folder):
            os.utime(place, (hours_ago, hours_ago))
        # Whole objects: a newer git prunes nothing where one is broken.
        for junk in (make("blob", b"junk %d" % number) for number in range(8000)):
            if junk.oid.startswith("17"):
                place = folder / "objects" / "17" / junk.oid[2:]
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(zlib.compress(b"blob %d\0" % len(junk.data) + junk.data))
                os.utime(place, (hours_ago, hours_ago))
    before = len(loose(bare))
    (bare / "objects/tmp_objdir-incoming-x").mkdir()
    one.ledger.maintain()
    assert len(loose(bare)) == before
    (bare / "objects/tmp_objdir-incoming-x").rmdir()
    one.ledger.maintain()
    for folder in (bare, one.refs.clone.folder):
        assert list((folder / "objects/pack").glob("*.pack"))
        assert len(loose(folder)) < 3
    again = Node("again", tmp_path, GitRefs(one.refs.clone.folder, str(bare)))
    assert again.append("after")["ok"]
    assert again.ids() == ["0", "1", "2", "3", "4", "after"]
    assert again.findings() == []


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


@pytest.mark.parametrize("packed", [False, True])
def test_sizes_are_read_first(tmp_path: Path, bare: Path, packed: bool) -> None:
    """An object is read up to a bound; of a larger one the size is told, whether it is loose or packed."""
    refs = GitRefs(tmp_path / "one.git", str(bare))
    refs.fetch()
    large = make("blob", os.urandom(5000))
    refs.write([large])
    if packed:
        git(refs.clone.folder, "update-ref", "refs/tags/kept", large.oid)
        git(refs.clone.folder, "repack", "-adq")
        git(refs.clone.folder, "prune-packed")
        assert not refs.clone._place(large.oid).exists()
    refs = GitRefs(tmp_path / "one.git", str(bare))
    with pytest.raises(LedgerTooLarge, match=rf"{large.oid[:12]} has 5,000 bytes; more than 4,999") as raised:
        refs.clone.read(large.oid, 4999)
    assert raised.value.size_bytes == 5000
    assert refs.clone.read(large.oid, 5000) == large


def test_a_large_object_is_checked_in_parts(tmp_path: Path, bare: Path) -> None:
    """After a power loss a sound file stays, however large, and one that is cut short goes."""
    refs = GitRefs(tmp_path / "one.git", str(bare))
    refs.fetch()
    sound, cut = (make("blob", os.urandom(3 << 20)) for _ in range(2))
    refs.write([sound, cut])
    place = refs.clone._place(cut.oid)
    place.write_bytes(place.read_bytes()[:-7])
    assert refs.clone.check_objects() == 1
    assert refs.clone._place(sound.oid).exists()
    assert not place.exists()


@pytest.mark.parametrize("left", [None, "objects/ab"])
@pytest.mark.parametrize("address", ["here", "by git"])
def test_who_lives_longer_than_the_clone_goes_on(
    tmp_path: Path, bare: Path, left: str | None, address: str
) -> None:
    """A clone that is removed below a living process, wholly or in part, costs that process one fetch."""
    refs = GitRefs(tmp_path / "one.git", str(bare))
    if address == "by git":
        refs.remote.here = None
    one = Node("one", tmp_path, refs)
    one.append("a")
    shutil.rmtree(tmp_path / "one.git")
    if left:
        (tmp_path / "one.git" / left).mkdir(parents=True)
    one.append("b")
    assert one.ids() == ["a", "b"]
    assert [each.name for each in tmp_path.glob("one.git*")] == ["one.git"]

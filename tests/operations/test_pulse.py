"""The pulse: one heartbeat for all processes of a builder, in which no old nonce ever comes back."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from pipeline.edge.clock import ManualClock
from pipeline.edge.memory_refs import Fault, MemoryRemote
from pipeline.edge.ref_store import BEAT_BYTES
from pipeline.errors import LedgerTooLarge, LedgerUnreachable, StoreError
from pipeline.operations.pulse import DEAD_SECONDS, Pulse
from pipeline.operations.site import Site
from pipeline.records import paths
from pipeline.records.builders import Heartbeat
from tests.garbage import damaged
from tests.operations.conftest import MakeSite

ENTRY = {
    "kind": "leases",
    "name": "1.1.x",
    "nonce": "0f",
    "process": "build1-p1",
    "progress": {"module": "x"},
}


def beat_of(site: Site) -> Heartbeat:
    """Returns the builder's heartbeat as another one reads it."""
    return site.survey()[1][site.builder]


def places(site: Site) -> list[Path]:
    """Returns the files in which processes note their nonces."""
    found = (site.ledger.store.folder / "pulse").glob("*.json")
    return [place for place in found if place.name != "pushed.json"]


def test_one_push_carries_the_nonces_of_all(make_site: MakeSite, remote: MemoryRemote) -> None:
    """Several tokens are renewed with one push, and another process's push carries them too."""
    one, two = make_site("build1"), make_site("build1", "p2")
    steps: list[str] = []

    def note(step: str) -> Fault:
        steps.append(step)
        return "none"

    remote.fault = note
    one.make_pulse().renew("leases", {"t1": "a", "t2": "b"})
    two.make_pulse().renew("waiting", {"op": "c"})
    assert steps.count("beat") == 2
    beat = beat_of(one)
    assert (beat.leases, beat.waiting) == ({"t1": "a", "t2": "b"}, {"op": "c"})


def test_a_nonce_that_was_carried_already_is_not_pushed_again(
    make_site: MakeSite, remote: MemoryRemote
) -> None:
    """A process that had to wait for another's push finds its own nonce in it."""
    one, two = make_site("build1"), make_site("build1", "p2")
    pulse = one.make_pulse()
    pulse.renew("leases", {"t1": "a"})
    before = remote.refs[paths.heartbeat_ref("build1")]
    pulse.renew("leases", {"t1": "a"})
    assert remote.refs[paths.heartbeat_ref("build1")] == before
    two.make_pulse().renew("leases", {"t2": "b"})
    assert beat_of(one).leases == {"t1": "a", "t2": "b"}


def test_a_dead_processs_nonce_stays_the_same(make_site: MakeSite, clock: ManualClock) -> None:
    """It is carried on unchanged, so that nobody takes it for absent all the while; after a day it goes."""
    one, two = make_site("build1"), make_site("build1", "p2")
    one.make_pulse().renew("leases", {"t1": "last"})
    one.processes.dead.add("build1-p1")  # type: ignore[attr-defined]
    others = two.make_pulse()
    others.renew("leases", {"t2": "x"})
    assert beat_of(two).leases == {"t1": "last", "t2": "x"}
    long_ago = clock.now().timestamp() - DEAD_SECONDS - 1
    for place in places(two):
        os.utime(place, (long_ago, long_ago))
    others.renew("leases", {"t2": "y"})
    assert beat_of(two).leases == {"t2": "y"}


def test_41_a_push_of_a_killed_process_puts_no_old_nonce_back(
    make_site: MakeSite, remote: MemoryRemote
) -> None:
    """One is killed while its push is under way; another renews; then the first push arrives."""
    one, two = make_site("build1"), make_site("build1", "p2")
    holder = two.make_pulse()
    holder.renew("leases", {"t2": "old"})
    remote.fault = lambda step: "delayed" if step == "beat" else "none"
    with pytest.raises(LedgerUnreachable):
        one.make_pulse().renew("leases", {"t1": "a"})
    remote.fault = lambda step: "none"
    one.processes.dead.add("build1-p1")  # type: ignore[attr-defined]
    holder.renew("leases", {"t2": "new"})
    assert remote.arrive() is False
    assert beat_of(two).leases["t2"] == "new"


def test_44_a_slow_push_that_is_tried_again_puts_no_old_nonce_back(
    make_site: MakeSite, remote: MemoryRemote
) -> None:
    """One is so slow that it is passed over; another renews; then the slow one finds the heartbeat moved."""
    one, two = make_site("build1"), make_site("build1", "p2")
    holder = two.make_pulse()
    holder.renew("leases", {"t2": "old"})

    def passed_over(step: str) -> Fault:
        remote.fault = lambda step: "none"
        holder.renew("leases", {"t2": "new"})
        return "none"

    remote.fault = passed_over
    one.make_pulse().renew("leases", {"t1": "a"})
    assert beat_of(two).leases == {"t1": "a", "t2": "new"}


def test_a_push_whose_answer_was_lost_is_built_upon(make_site: MakeSite, remote: MemoryRemote) -> None:
    """What is there in truth is read, and the next heartbeat follows it."""
    one = make_site("build1")
    pulse = one.make_pulse()
    pulse.renew("leases", {"t1": "a"})
    remote.fault = lambda step: "unanswered" if step == "beat" else "none"
    with pytest.raises(LedgerUnreachable):
        pulse.renew("leases", {"t1": "b"})
    assert beat_of(one).leases == {"t1": "b"}
    remote.fault = lambda step: "none"
    pulse.renew("leases", {"t1": "c"})
    assert beat_of(one).leases == {"t1": "c"}


def test_a_stopped_pusher_is_passed_over(make_site: MakeSite, clock: ManualClock) -> None:
    """Ctrl-Z in the middle of a push costs the builder's other processes a few seconds, and only once."""
    one, two = make_site("build1"), make_site("build1", "p2")
    one.make_pulse().renew("leases", {"t1": "a"})
    with (one.ledger.store.folder / "pulse/pusher.lock").open("w") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        others: Pulse = two.make_pulse()
        for nonce, longest in (("x", 10.0), ("y", 0.0)):
            before = clock.boottime()
            others.renew("leases", {"t2": nonce})
            assert clock.boottime() - before <= longest
    assert beat_of(two).leases == {"t1": "a", "t2": "y"}


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entry=damaged(ENTRY), pushed=damaged({"server": "build1", "timestamp": "2026-01-02T03:04:05Z"}))
def test_garbage_in_a_nonce_stops_no_heartbeat(make_site: MakeSite, entry: bytes, pushed: bytes) -> None:
    """Whatever lies beside it, a process's own nonce is pushed, and what is pushed can be read."""
    one = make_site("build1")
    pulse = one.make_pulse()
    folder = one.ledger.store.folder / "pulse"
    (folder / "00.json").write_bytes(entry)
    (folder / "pushed.json").write_bytes(pushed)
    pulse.renew("leases", {"1.1.mine": "mine"})
    assert beat_of(one).leases["1.1.mine"] == "mine"


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_what_is_no_file_stops_no_heartbeat(make_site: MakeSite, kind: str, tmp_path: Path) -> None:
    """A FIFO hangs nobody, a folder is passed over, a link is not followed."""
    one = make_site("build1")
    pulse = one.make_pulse()
    place = one.ledger.store.folder / "pulse" / "00.json"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        (tmp_path / "outside").write_text(
            '{"kind": "leases", "name": "1.1.y", "nonce": "y", "process": "build1-p1"}'
        )
        place.symlink_to(tmp_path / "outside")
    pulse.renew("leases", {"1.1.mine": "mine"})
    assert beat_of(one).leases == {"1.1.mine": "mine"}


def test_a_full_disk_is_said_in_words(make_site: MakeSite) -> None:
    """Where a nonce cannot be noted nothing is pushed, and the error names the folder."""
    site = make_site("build1")
    pulse = site.make_pulse()
    pulse.renew("leases", {"t": "a"})
    (place,) = places(site)
    blocked(place).mkdir()
    with pytest.raises(StoreError, match="cannot be written") as caught:
        pulse.renew("leases", {"t": "b"})
    assert str(place.parent) in caught.value.message
    assert beat_of(site).leases == {"t": "a"}


def test_a_disk_that_fills_after_the_push_costs_no_renewal(make_site: MakeSite) -> None:
    """The remote has taken it: what this machine cannot note of that is read from the ref next time."""
    site = make_site("build1")
    pulse = site.make_pulse()
    pulse.renew("leases", {"t": "a"})
    in_the_way = blocked(site.ledger.store.folder / "pulse" / "pushed.json")
    in_the_way.mkdir()
    pulse.renew("leases", {"t": "b"})
    assert beat_of(site).leases == {"t": "b"}
    pulse.renew("leases", {"t": "c"})
    assert beat_of(site).leases == {"t": "c"}
    in_the_way.rmdir()
    pulse.renew("leases", {"t": "d"})
    assert beat_of(site).leases == {"t": "d"}


def test_a_pusher_that_cannot_lock_says_so(make_site: MakeSite) -> None:
    """The lock's file is refused in the same words."""
    site = make_site("build1")
    pulse = site.make_pulse()
    (site.ledger.store.folder / "pulse" / "pusher.lock").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        pulse.renew("leases", {"t": "a"})


def blocked(place: Path) -> Path:
    """Returns what has to be a folder so that this file cannot be replaced, as on a full disk."""
    return place.with_name(f"{place.name}.{os.getpid()}.{threading.get_ident()}.tmp")


def test_what_a_build_says_of_itself_is_masked(make_site: MakeSite) -> None:
    """A password in a module's name does not get into a heartbeat; its nonces and numbers stay."""
    one = make_site("build1")
    progress = {"module": "x https://ci:hunter22@host/y", "index": 3, "total": 12}
    one.make_pulse().renew("leases", {"1.1.a": "aa"}, progress)
    beat = beat_of(one)
    assert beat.leases == {"1.1.a": "aa"}
    assert beat.progress == {**progress, "module": "x https://ci:*****@host/y"}


def test_what_is_too_large_on_the_ref_is_told(make_site: MakeSite) -> None:
    """A builder whose own ref holds something huge cannot renew, and says which ref to delete."""
    one = make_site("build1")
    ref = paths.heartbeat_ref("build1")
    one.ledger.refs.beat(ref, bytes(BEAT_BYTES + 1), None)
    with pytest.raises(LedgerTooLarge, match=r"cannot be renewed: .* holds 1,048,577 bytes") as raised:
        one.make_pulse().renew("waiting", {"op": "a"})
    assert f"git push REMOTE :{ref}" in (raised.value.remedy or "")
    assert one.survey()[1]["build1"].waiting.get("op", "").startswith("unread-")

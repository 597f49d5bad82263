"""What the models found, and the product did once: docs/explanation/model.md tells each interleaving."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.edge.clock import ManualClock
from pipeline.edge.memory_refs import MemoryRemote
from pipeline.errors import LeaseHeld, Refused
from pipeline.operations.lease import hold
from pipeline.operations.pulse import DEAD_SECONDS
from pipeline.operations.site import Site
from pipeline.records import paths
from tests.operations.conftest import WHEN, MakeSite

TTL = 60.0
TERMS = {"holder": "h", "ttl_seconds": TTL, "interval_seconds": TTL / 3}
ACQUIRE = {"kind": "lock.acquire", "names": ["a"], **TERMS}


class EventfulClock(ManualClock):
    """A clock that lets things happen at their time while somebody sleeps."""

    def __init__(self) -> None:
        super().__init__(WHEN)
        self._events: list[tuple[float, Callable[[], None]]] = []

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Lets `act` happen `seconds` from now; in the order in which they were told."""
        self._events.append((self.boottime() + seconds, act))

    def advance(self, seconds: float) -> None:
        until = self.boottime() + seconds
        while self._events and self._events[0][0] <= until:
            when, act = self._events.pop(0)
            super().advance(max(0.0, when - self.boottime()))
            act()
        super().advance(max(0.0, until - self.boottime()))


@pytest.fixture
def clock() -> EventfulClock:
    """The one clock of all sites of a test."""
    return EventfulClock()


def copied(make_site: MakeSite, folder: Path) -> Site:
    """Starts a copy of build1's disk on another machine, which knows no process of the first."""
    shutil.copytree(folder / "build1", folder / "copy")
    copy = make_site("build1", place="copy")
    copy.processes.dead.add("build1-p1")  # type: ignore[attr-defined]
    return copy


def told(site: Site, number: int) -> dict[str, Any]:
    """Returns an entry's answer, and takes it."""
    answer = site.ledger.store.answer(number)
    assert answer is not None
    site.ledger.store.take(number)
    return answer


def test_a_heartbeat_that_cannot_be_read_is_no_silence(
    make_site: MakeSite, clock: EventfulClock, remote: MemoryRemote
) -> None:
    """A holder of a newer version renews all the while; who cannot read its heartbeat takes nothing over."""
    holder, other = make_site("build1"), make_site("build2")
    token = holder.ask(ACQUIRE)["tokens"]["a"]
    refs, ref = holder.make_pulse().refs, paths.heartbeat_ref("build1")
    beat = {"server": "build1", "timestamp": "2026-01-02T03:04:05Z", "healthy": {"disk": "full"}}
    beats = [json.dumps({**beat, "leases": {token: f"nonce {n}"}}).encode() for n in range(8)]
    landed: list[str] = []
    for n, data in enumerate(beats):
        before = beats[n - 1] if n else None
        clock.at(
            n * TTL / 3, lambda data=data, before=before: landed.append(refs.beat(ref, data, before).kind)
        )
    with pytest.raises(LeaseHeld), hold(other, ["a"], ttl=TTL, patience=2 * TTL):
        pass
    assert set(landed) == {"landed"}


def test_a_grant_that_a_copy_withdraws_leaves_its_trace(make_site: MakeSite, tmp_path: Path) -> None:
    """Its asker may live on the machine that was copied: whoever is next has to look at it and to wait."""
    holder, other = make_site("build1"), make_site("build2")
    number = holder.ledger.enqueue({"builder": "build1", **ACQUIRE}, kind="attached")
    holder.ledger.leader.drain(holder.clock.boottime() + 60, number)
    copy = copied(make_site, tmp_path)
    token = told(holder, number)["value"]["tokens"]["a"]
    holder.make_pulse().renew("leases", {token: "trusted from now on"})
    copy.ledger.deliver()
    assert other.ask({**ACQUIRE, "holder": "o"})["after"] == ["a"]


def test_a_copy_of_the_store_puts_no_old_nonce_back(make_site: MakeSite, tmp_path: Path) -> None:
    """The copy has the nonces of the machine that it was copied from, and that machine goes on renewing."""
    holder, other = make_site("build1"), make_site("build2")
    token = holder.ask(ACQUIRE)["tokens"]["a"]
    holder.make_pulse().renew("leases", {token: "old"})
    copy = copied(make_site, tmp_path)
    holder.make_pulse().renew("leases", {token: "new"})
    copy.make_pulse().renew("waiting", {"something": "else"})
    assert other.survey()[1]["build1"].leases.get(token) == "new"


def test_49_a_copy_leaves_out_no_nonce_that_it_does_not_know(make_site: MakeSite, tmp_path: Path) -> None:
    """A lease that began after the copy was made is shown by both, until its own process takes it out."""
    holder, other = make_site("build1"), make_site("build2")
    copy = copied(make_site, tmp_path)
    token = holder.ask(ACQUIRE)["tokens"]["a"]
    for nonce in ("first", "second"):
        holder.make_pulse().renew("leases", {token: nonce})
        copy.make_pulse().renew("waiting", {"something": nonce})
        beat = other.survey()[1]["build1"]
        assert beat.leases == {token: nonce}
        assert beat.waiting == {"something": nonce}
    holder.make_pulse().stop(token)
    holder.make_pulse().renew("waiting", {"more": "1"})
    copy.make_pulse().renew("waiting", {"something": "third"})
    beat = other.survey()[1]["build1"]
    assert beat.leases == {}
    assert beat.waiting == {"something": "third", "more": "1"}


def test_a_strangers_nonce_is_carried_for_a_day(make_site: MakeSite, tmp_path: Path) -> None:
    """What a copy showed that has gone for good does not stay in the heartbeat for ever."""
    holder = make_site("build1")
    copied(make_site, tmp_path).make_pulse().renew("waiting", {"gone": "1"})
    holder.make_pulse().renew("waiting", {"own": "1"})
    assert set(holder.survey()[1]["build1"].waiting) == {"gone", "own"}
    long_ago = WHEN.timestamp() - DEAD_SECONDS - 1
    for place in (holder.ledger.store.folder / "pulse").glob("*.json"):
        os.utime(place, (long_ago, long_ago))
    for nonce in ("2", "3"):
        holder.make_pulse().renew("waiting", {"own": nonce})
        assert holder.survey()[1]["build1"].waiting == {"own": nonce}


def test_what_a_copy_records_as_withdrawn_is_not_taken_for_a_grant(
    make_site: MakeSite, tmp_path: Path, clock: EventfulClock, remote: MemoryRemote
) -> None:
    """The asker's own push was lost; a copy records its request as withdrawn; the asker asks on."""
    holder = make_site("build1")

    def start_a_copy() -> None:
        remote.fault = lambda step: "none"
        copied(make_site, tmp_path).ledger.deliver()

    remote.fault = lambda step: "lost" if step == "push" else "none"
    clock.at(0.01, start_a_copy)
    with pytest.raises(Refused) as refused, hold(holder, ["a"], ttl=TTL):
        pass
    assert refused.value.reason == "withdrawn"

"""Sites over one remote in memory: several builders, each with a store on disk and a clock that is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.coordination.adoption import adopt
from pipeline.coordination.reducer import REDUCER_VERSION, decide, genesis
from pipeline.edge.bare import make_bare
from pipeline.edge.clock import ManualClock
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.identity import machine_id
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.edge.ref_store import RefStore
from pipeline.ledger.genesis import initialise
from pipeline.ledger.leader import Settings
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.store import Store
from pipeline.operations.admission import admit
from pipeline.operations.settings import resolve
from pipeline.operations.site import Site
from pipeline.records.base import dump
from pipeline.records.builders import Builder
from pipeline.records.builds import BuildConfig
from tests.contracts.signing import FakeSigner, FakeVerifier
from tests.ledger.toy import CountedRandomness, FakeProcesses
from tests.operations.yard import Yard

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMMIT = "a" * 40

MakeSite = Callable[..., Site]


@pytest.fixture
def remote() -> MemoryRemote:
    """A remote with the ledger of two builders."""
    made = MemoryRemote()
    files = genesis([Builder(name="build1"), Builder(name="build2")], dump(BuildConfig()), WHEN)
    initialise(
        MemoryRefs(made), files, "build1", ManualClock(WHEN), CountedRandomness("init"), REDUCER_VERSION
    )
    return made


@pytest.fixture
def clock() -> ManualClock:
    """The one clock of all sites of a test."""
    return ManualClock(WHEN)


@pytest.fixture
def make_site(tmp_path: Path, remote: MemoryRemote, clock: ManualClock) -> Iterator[MakeSite]:
    """A maker of sites: one for each builder and process; processes of one builder share its store.

    A builder has one home, unless a test names another `place` for it: a second machine under its name.
    """
    stores: list[Store] = []
    processes: dict[str, FakeProcesses] = {}

    def make(builder: str, process: str = "p1", place: str = "") -> Site:
        place = place or builder
        home = tmp_path / place
        settings = replace(
            resolve(home, None, {"PIPELINE_MACHINE_LOCK": str(tmp_path / f"{place}.lock")}),
            heartbeat_seconds=0.0,
            patience_seconds=5.0,
            report_seconds=5.0,
        )
        here = FakeProcesses(f"{place}-{process}")
        here.dead = processes.setdefault(place, here).dead
        random = CountedRandomness(f"{place}-{process}")
        store = Store(home / "store", identity=machine_id(), new_id=f"{place}-writer")
        stores.append(store)
        ledger = Ledger(
            store,
            MemoryRefs(remote),
            decide,
            adopt,
            clock,
            random,
            here,
            Settings(author=builder, reducer=REDUCER_VERSION),
            admit,
        )
        return Site(settings, builder, ledger, clock, random, here, decide, adopt, REDUCER_VERSION)

    yield make
    for store in stores:
        store.close()


@pytest.fixture(params=["memory", "git"])
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    """Three builders, a policy of two of three, and a ledger in either kind of remote."""
    refs: Callable[[str], RefStore]
    if request.param == "memory":
        remote = MemoryRemote()
        refs = lambda name: MemoryRefs(remote)  # noqa: E731
    else:
        make_bare(tmp_path / "remote.git")
        refs = lambda name: GitRefs(tmp_path / f"{name}.git", str(tmp_path / "remote.git"))  # noqa: E731
    made_yard = Yard(tmp_path, refs, FakeSigner, FakeVerifier())
    made_yard.begin()
    yield made_yard
    made_yard.close()

"""The play, with commands that are told what to end with: whatever does not come about ends it, in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.coordination.reducer import REDUCER_VERSION
from pipeline.edge.children import Child, Process
from pipeline.edge.clock import ManualClock
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.errors import CheckFailed, Interrupted
from pipeline.operations.demo.cast import Builder
from pipeline.operations.demo.play import Play
from pipeline.operations.demo.stage import Stage
from pipeline.operations.demo.story import Event
from tests.operations.conftest import MakeSite
from tests.operations.demo.test_story import order


@dataclass
class FakeChild:
    """A command that has ended as it was told to, or runs for ever (None)."""

    ends_with: int | None = 0
    printed: str = ""
    lines: list[str] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    pid: int = 1

    def status(self) -> int | None:
        return self.ends_with

    def output(self) -> bytes:
        return self.printed.encode()

    def news(self) -> list[str]:
        said, self.lines = self.lines, []
        return said

    def send(self, number: int) -> None:
        self.signals.append(number)

    def below(self) -> frozenset[Process]:
        return frozenset()


@dataclass
class FakeChildren:
    """Commands by their first word; `started` keeps what was started."""

    make: Mapping[str, Callable[[], FakeChild]]
    started: list[tuple[str, ...]] = field(default_factory=list)

    def start(self, words: Sequence[str], env: Mapping[str, str], folder: Path) -> Child:
        self.started.append(tuple(words))
        return self.make.get(words[0], FakeChild)()

    def living(self, known: frozenset[Process]) -> int:
        return 0

    def left(self) -> int:
        return 0

    def end(self, grace_seconds: float = 5.0) -> list[int]:
        return []


Make = Callable[..., tuple[Play, FakeChildren, list[Event]]]


@pytest.fixture
def make_play(tmp_path: Path, remote: MemoryRemote, clock: ManualClock) -> Make:
    """A maker of plays over the ledger in memory."""

    def make(
        interrupted: Callable[[], str | None] = lambda: None, **commands: Callable[[], FakeChild]
    ) -> tuple[Play, FakeChildren, list[Event]]:
        environments: dict[str, dict[str, str]] = {"build1": {}, "build2": {}}
        stage = Stage(tmp_path, tmp_path / "ledger", tmp_path / "away", tmp_path / "hold", environments)
        children = FakeChildren({name.replace("_", "."): child for name, child in commands.items()})
        events: list[Event] = []
        refs = MemoryRefs(remote)
        play = Play(stage, children, refs, clock, REDUCER_VERSION, events.append, interrupted)
        return play, children, events

    return make


def test_a_command_that_fails_ends_the_play(make_play: Make) -> None:
    """The error names the command, the builder, how it ended, and what it said."""
    play, children, events = make_play(ledger_init=lambda: FakeChild(28, lines=["Error: not empty"]))
    with pytest.raises(CheckFailed) as caught:
        play.perform()
    assert caught.value.message == "`invoke ledger.init` on build1 ended with 28: Error: not empty"
    assert [words[0] for words in children.started] == ["ledger.init"]
    assert [event.who for event in events] == ["", "build1", "ledger"]


def test_what_does_not_come_about_ends_the_play(make_play: Make, clock: ManualClock) -> None:
    """An order that never reaches the ledger is waited for, but not for ever."""
    answer = json.dumps({"jobs": [{"job_id": "job_nowhere"}]})
    play, _, _ = make_play(build=lambda: FakeChild(0, answer))
    before = clock.boottime()
    with pytest.raises(CheckFailed, match="120 s were not enough until the order is seen") as caught:
        play.perform()
    assert caught.value.remedy is not None
    assert "--keep" in caught.value.remedy
    assert 120 < clock.boottime() - before < 125


def test_a_builder_that_cannot_work_ends_the_play(make_play: Make, make_site: MakeSite) -> None:
    """A builder that fails three times is given up at once, with what it said last."""

    def ordered() -> FakeChild:
        order(make_site, "job_a", "build1")
        return FakeChild(0, json.dumps({"job_id": "job_a", "status": "queued"}))

    busy = "Error: Another build runs on this machine."
    play, children, _ = make_play(build=ordered, work=lambda: FakeChild(45, lines=[busy]))
    with pytest.raises(CheckFailed) as caught:
        play.perform()
    assert caught.value.message == f"build1 cannot work: `work --once` ended with 45: {busy}"
    assert children.started.count(("work", "--once")) == 3


def test_a_signal_ends_the_play(make_play: Make) -> None:
    """Once there is a reason to stop, nothing more is waited for."""
    reasons = iter([None, "interrupted by SIGINT"])
    play, children, _ = make_play(lambda: next(reasons), ledger_init=lambda: FakeChild(None))
    with pytest.raises(Interrupted) as caught:
        play.perform()
    assert caught.value.message == "Interrupted by SIGINT."
    assert [words[0] for words in children.started] == ["ledger.init"]


def builder(child: FakeChild, tmp_path: Path) -> Builder:
    """Returns a builder whose every command is this child."""
    return Builder("build1", FakeChildren({"work": lambda: child}), {}, tmp_path)


def test_a_builder_works_only_when_there_is_work(tmp_path: Path) -> None:
    """It starts for a job in the queue, tells what it builds, and forgets that for the next one."""
    child = FakeChild(None)
    one = builder(child, tmp_path)
    assert one.watch(queued=False) == []
    before = one.work
    one.watch(queued=True)
    assert before is None
    assert one.work is child
    child.lines = ["== maven", "[2/3] Demo Core", "== packages: success after 0.4 s"]
    assert one.watch(queued=True) == ["builds Demo Core (2 of 3)", "has made the package"]
    assert (one.module, one.made) == (2, True)
    child.ends_with = 0
    one.watch(queued=True)
    assert one.work is None
    one.watch(queued=True)
    assert (one.module, one.made) == (0, False)


@pytest.mark.parametrize("status", [0, 81])
def test_a_job_that_changed_hands_is_no_failure(tmp_path: Path, status: int) -> None:
    """What ends as it may ends without a mark, however often."""
    one = builder(FakeChild(status), tmp_path)
    for _ in range(10):
        one.watch(queued=True)
    assert one.failures == []


def test_a_builder_that_is_down_takes_nothing(tmp_path: Path) -> None:
    """Killed, it stays down until it is started again; its death is no failure of its own."""
    child = FakeChild(None)
    one = builder(child, tmp_path)
    one.watch(queued=True)
    one.kill()
    assert child.signals == [9]
    child.ends_with = -9
    one.watch(queued=True)
    one.watch(queued=True)
    assert one.work is None
    assert one.failures == []

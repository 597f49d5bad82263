"""Sets the stage, has the play performed, and clears everything away, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.edge.children import Children
from pipeline.edge.clock import Clock
from pipeline.edge.ref_store import RefStore
from pipeline.operations.attempt import Interruption
from pipeline.operations.demo import stage as stages
from pipeline.operations.demo.play import Performance, Play
from pipeline.operations.demo.story import Event


@dataclass(frozen=True)
class Theatre:
    """What the demonstration is played with. `open_refs` takes the folder of a clone, and its remote."""

    clock: Clock
    children: Callable[[], AbstractContextManager[Children]]
    open_refs: Callable[[Path, str], RefStore]
    reducer: int
    environment: Mapping[str, str]


def perform(theatre: Theatre, tell: Callable[[Event], None], *, keep: bool, parent: str = "") -> Performance:
    """Shows two builders at work, in a new folder below `parent` that is removed again unless `keep`.

    Whatever happens, no process is left, and without `keep` no file. Raises PreflightFailed and FileFailed
    before anything is begun, CheckFailed for what did not come about, Interrupted for a signal.
    """
    stages.require_programs(stages.searched(theatre.environment))
    stop = Interruption()
    with stop.listening():
        folder = stages.make_scratch(parent)
        try:
            with theatre.children() as children:
                stage = stages.set_up(folder, theatre.environment)
                refs = theatre.open_refs(folder / "onlooker.git", str(stage.ledger))
                play = Play(stage, children, refs, theatre.clock, theatre.reducer, tell, stop.reason)
                performance = play.perform()
        finally:
            if not keep:
                stages.remove_scratch(folder)
    return replace(performance, folder=str(folder) if keep else None)

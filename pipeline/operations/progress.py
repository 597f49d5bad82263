"""A build's events as lines for a person, facts for the heartbeat, and events for the structured log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline.builds.progress import ModuleFinished, ModuleStarted
from pipeline.builds.runner import BuildEvent, Notice, StageFinished, StageStarted, TimeLeft
from pipeline.records.secrets import mask


class Write(Protocol):
    """Writes one event of the structured log."""

    def __call__(self, level: Any, message: str, **details: Any) -> None: ...


class ProgressLine:
    """Takes a build's events one by one.

    `live` is a line that can change, if there is one: it is given the facts, and modules are not said then.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        report: Callable[[dict[str, Any]], None],
        write: Write,
        live: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._say = say
        self._report = report
        self._write = write
        self._live = live
        self._left: float | None = None
        self._facts: dict[str, Any] = {}

    def __call__(self, event: BuildEvent) -> None:
        match event:
            case StageStarted(name=name):
                self._say(f"== {name}")
                self._write("info", f"stage {name} started")
                self._facts = {"stage": name}
            case StageFinished(name=name, seconds=seconds, status=status):
                self._facts = {}
                self._say(f"== {name}: {status} after {seconds:.1f} s")
                self._write(
                    "info" if status == "success" else "error", f"stage {name}: {status}", seconds=seconds
                )
            case ModuleStarted(name=name, index=index, total=total):
                name = mask(name)
                left = f", about {_minutes(self._left)} left" if self._left is not None else ""
                if self._live is None:
                    self._say(f"[{index}/{total}] {name}{left}")
                self._facts |= {"module": name, "index": index, "total": total}
            case ModuleFinished(name=name, seconds=seconds, status=status):
                level = "info" if status == "success" else "error"
                self._write(level, f"module {name}: {status}", seconds=seconds)
            case TimeLeft(seconds=seconds):
                self._left = seconds
                self._facts |= {"seconds_left": round(seconds)}
            case Notice(text=text):
                self._say(f"Note: {mask(text)}")
                self._write("warning", text)
        self._report(dict(self._facts))
        if self._live is not None:
            self._live(self._facts)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

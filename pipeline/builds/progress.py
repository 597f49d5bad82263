"""Reads Maven's console output: which of n modules, since when, how it ended. Pure.

Lines come without escape sequences (`edge.lines.strip_ansi`) with the seconds since the build began. What
Maven prints, and what is made of it:
    Reactor Build Order:   the modules and their number
    < group:artifact >     which artifact the next module is: error messages name artifacts, people modules
    Building N V [i/n]     a module starts; i counts starts. In a reactor of one there is no [i/n].
    [mvn-builder-A] …      with threads and their names shown: the line belongs to artifact A
    Reactor Summary        how each module ended, with its exact duration
    BUILD SUCCESS|FAILURE  the end. Tested before the summary's lines, which have the same form.
That a module ended is only said in the summary. Until then: when more modules have started than there are
threads, the one that was silent longest has ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.records.builds import ModuleTime

Status = Literal["success", "failed", "skipped", "running"]

_LEVEL = re.compile(r"(?:\[(?P<thread>[^\[\]]{1,200})\] )?\[INFO\] (?P<text>.*)\Z", re.DOTALL)
_HEADER = re.compile(r"-+< (?P<group>[^\s:<>]+):(?P<artifact>[^\s:<>]+) >-+\Z")
_BUILDING = re.compile(
    r"Building (?P<name>\S.*?) (?P<version>\S+?)(?: +\[(?P<index>\d{1,6})/(?P<total>\d{1,6})\])?\Z"
)
_ORDER = re.compile(r"(?P<name>\S.*?) +\[[\w.-]+\]\Z")
_SUMMARY = re.compile(
    r"(?P<name>\S.*?)(?: \.+)? +(?P<status>SUCCESS|FAILURE|SKIPPED)(?: \[ *(?P<time>[^\]]*)\])?\Z"
)
_STATUS: dict[str, Status] = {"SUCCESS": "success", "FAILURE": "failed", "SKIPPED": "skipped"}
_THREAD = "mvn-builder-"
#: No reactor has this many modules; a log that pretends to must not fill the memory.
_MOST_MODULES = 2000
#: The first letters of the lines that matter outside a list: a build of 100 MB of log reads few others.
_FIRST = frozenset("BR-")


@dataclass(frozen=True)
class ModuleStarted:
    """Module `index` of `total` has started. `at` is in seconds since the build began."""

    name: str
    index: int
    total: int
    at: float


@dataclass(frozen=True)
class ModuleFinished:
    """A module has ended. `seconds` is exact once the reactor has ended, until then measured from outside."""

    name: str
    index: int
    total: int
    seconds: float
    status: Status


@dataclass(frozen=True)
class ReactorFinished:
    """Maven's pass over the reactor has ended."""

    success: bool
    at: float


Event = ModuleStarted | ModuleFinished | ReactorFinished


@dataclass
class _Module:
    name: str
    artifact: str | None = None
    index: int = 0
    started: float | None = None
    heard: float = 0.0
    seconds: float | None = None
    status: Status = "skipped"


class Progress:
    """Takes lines, gives events. `threads` is Maven's -T, as a number; 0 and 1 are one."""

    def __init__(self, threads: int = 0) -> None:
        self._threads = max(1, threads)
        self._modules: list[_Module] = []
        self._running: list[_Module] = []
        self._by_artifact: dict[str, _Module] = {}
        self._section = ""
        self._listed = 0
        self._summed = 0
        self._artifact: dict[str | None, str] = {}
        self._total = 0
        self._starts = 0
        self.finished: bool | None = None

    @property
    def total(self) -> int:
        """Returns the number of modules, as far as it is known."""
        return max(self._total, len(self._modules))

    def feed(self, line: str, at: float) -> list[Event]:
        """Reads one line, `at` seconds after the build began."""
        # Nearly every line of a long log leaves here.
        if (
            line.startswith("[INFO] ")
            and not self._section
            and self._threads == 1
            and line[7:8] not in _FIRST
        ):
            return []
        match = _LEVEL.match(line) if line.startswith("[") else None
        if match is None:
            return []
        thread, text = match["thread"], match["text"].rstrip()
        if thread is not None and thread.startswith(_THREAD):
            module = self._by_artifact.get(thread[len(_THREAD) :])
            if module is not None:
                module.heard = at
        if self._section == "summary" and text.startswith("---"):
            self._section = ""
        if text in ("BUILD SUCCESS", "BUILD FAILURE"):
            return self._end(text == "BUILD SUCCESS", at)
        if text.startswith("Reactor Summary"):
            self._section, self._summed = "summary", self._listed
            return []
        if text == "Reactor Build Order:":
            self._section, self._listed = "order", len(self._modules)
            return []
        if self._section == "summary":
            return self._summarise(text)
        return self._in_reactor(thread, text, at)

    def modules(self) -> list[ModuleTime]:
        """Returns the modules in the order in which they started, then those that never did."""
        started = sorted((m for m in self._modules if m.started is not None), key=lambda m: m.index)
        rest = [m for m in self._modules if m.started is None]
        return [
            ModuleTime(
                name=m.name,
                duration_seconds=None if m.seconds is None else round(m.seconds, 3),
                status=m.status,
                artifact=m.artifact,
                started_seconds=None if m.started is None else round(m.started, 3),
            )
            for m in (*started, *rest)
        ]

    def running(self) -> list[ModuleTime]:
        """Returns the modules that are being built now, the one heard of last first."""
        names = {id(m) for m in self._running}
        found = sorted((m for m in self._modules if id(m) in names), key=lambda m: -m.heard)
        return [ModuleTime(name=m.name, status="running", started_seconds=m.started) for m in found]

    # -- the parts of the output ---------------------------------------------------------------------

    def _in_reactor(self, thread: str | None, text: str, at: float) -> list[Event]:
        header = _HEADER.match(text)
        if header is not None:
            self._section = ""
            self._artifact[thread] = header["artifact"]
            return []
        if text.startswith("Building "):
            return list(self._start(thread, text, at))
        if self._section == "order" and text and not text.startswith("---"):
            listed = _ORDER.match(text)
            if listed is None or len(self._modules) >= _MOST_MODULES:
                self._section = ""
            else:
                self._modules.append(_Module(listed["name"]))
                self._total = len(self._modules)
        return []

    def _start(self, thread: str | None, text: str, at: float) -> Iterator[Event]:
        match = _BUILDING.match(text)
        artifact = self._artifact.get(thread)
        # `Building jar: …` is no module; in a reactor of one only a header tells them apart.
        if match is None or (match["index"] is None and artifact is None):
            return
        if len(self._modules) >= _MOST_MODULES:
            return
        self._artifact.pop(thread, None)
        self._section = ""
        if match["total"] is not None:
            self._total = max(self._total, int(match["total"]))
        while len(self._running) >= self._threads:
            oldest = min(self._running, key=lambda module: module.heard)
            yield self._finish(oldest, at, "success")
        module = self._named(match["name"])
        self._starts += 1
        module.index, module.started, module.heard = self._starts, at, at
        module.artifact, module.status = artifact, "running"
        if artifact is not None:
            self._by_artifact[artifact] = module
        self._running.append(module)
        yield ModuleStarted(module.name, module.index, self.total, at)

    def _named(self, name: str) -> _Module:
        """Returns the first module of that name that has not started; two modules may share a name."""
        for module in self._modules[self._listed :]:
            if module.name == name and module.started is None:
                return module
        self._modules.append(_Module(name))
        return self._modules[-1]

    def _finish(self, module: _Module, at: float, status: Status) -> ModuleFinished:
        self._running.remove(module)
        module.status = status
        module.seconds = at - (module.started or 0.0)
        return ModuleFinished(module.name, module.index, self.total, module.seconds, status)

    def _summarise(self, text: str) -> list[Event]:
        match = _SUMMARY.match(text)
        if match is None:
            return []
        module = self._summed_module(match["name"])
        if module is None:
            return []
        was_running = module in self._running
        if was_running:
            self._running.remove(module)
        module.status = _STATUS[match["status"]]
        seconds = parse_duration(match["time"] or "")
        if seconds is not None:
            module.seconds = seconds
        if not was_running:
            return []
        return [ModuleFinished(module.name, module.index, self.total, module.seconds or 0.0, module.status)]

    def _summed_module(self, name: str) -> _Module | None:
        """Returns the module of a summary line. The summary is in build order, and may add the version."""
        for number in range(self._summed, len(self._modules)):
            module = self._modules[number]
            if name == module.name or name.startswith(module.name + " "):
                self._summed = number + 1
                return module
        return None

    def _end(self, success: bool, at: float) -> list[Event]:
        self._section = ""
        self.finished = success
        status: Status = "success" if success else "failed"
        events: list[Event] = [self._finish(module, at, status) for module in list(self._running)]
        return [*events, ReactorFinished(success, at)]


_DURATION = re.compile(
    r"(?:(?P<days>\d{1,4}) d )?(?P<first>\d{1,6})(?:[:.](?P<second>\d{1,3}))? (?P<unit>s|min|h)\Z"
)


def parse_duration(text: str) -> float | None:
    """Returns Maven's `7.937 s`, `01:23 min`, `1:02 h` or `1 d 02:03 h` in seconds, else None."""
    match = _DURATION.match(text.strip())
    if match is None:
        return None
    if match["unit"] == "s":
        return float(f"{match['first']}.{match['second'] or 0}")
    factor = 60 if match["unit"] == "min" else 3600
    days = int(match["days"] or 0)
    return days * 86400.0 + int(match["first"]) * factor + int(match["second"] or 0) * factor / 60

"""Why a build failed: one class, one message, one line of the log, and a remedy where one is known. Pure.

`Clues` reads the log as it comes and keeps the first of each kind; `classify` weighs them afterwards:
 1. an order from outside (cancelled, timeout, disk or memory running out, supervision lost) is the cause;
 2. then what explains everything else: the kernel's memory killer, a full disk, a signal;
 3. then what the stage itself says. Maven: the goal that failed, what it failed at. Packaging: the first
    thing that went wrong; what follows it is fallout.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.builds.signatures import KINDS, REMEDIES, SIGNATURES, Kind
from pipeline.records.builds import Failure, FailureClass, ModuleTime

_LONGEST_MESSAGE = 500
#: Between an error that was printed and the goal that failed for it lies at most the reactor's summary.
_NEAR_LINES = 400
_CONTEXT_LINES = 12
_MAVEN = re.compile(r"(?:\[[^\[\]]{1,200}\] )?\[(?P<level>DEBUG|INFO|WARNING|WARN|ERROR|FATAL)\] ?")
_GOAL = re.compile(
    r"Failed to execute goal(?: (?P<plugin>[^\s@]+:[^\s@]+))?(?: \([^)]*\))?"
    r" on project (?P<artifact>[^\s:]+): (?P<message>.*)",
    re.DOTALL,
)
_COMPILE = re.compile(
    r"(?P<place>\S+\.(?:java|groovy|kt|scala|aj)):\[(?P<row>\d+)(?:,\d+)?\] (?P<message>.*)", re.DOTALL
)
_TEST = re.compile(r"(?P<message>\s{1,4}[\w$.\[\]]+(?::\d+)?(?:->[\w$.:]+)*(?: .*)?)\Z", re.DOTALL)
_SYMBOL = re.compile(r"\s+(?:symbol|location|required|found|reason) ?: .*|\s+\(.*")
_ADDRESS = re.compile(r"\s*\(?\bhttps?://[^\s)]+\)?")


@dataclass(frozen=True)
class Clue:
    """One telling line. `line` is its number in the raw log, from 1; `context` what belongs to it."""

    kind: Kind
    line: int
    text: str
    found: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    stage: str = "maven"


@dataclass(frozen=True)
class Ending:
    """How the process tree ended: `edge.supervisor.Ended`, and the stage it had reached."""

    stage: Literal["maven", "packages"]
    exit_status: int | None = None
    killed_by: int | None = None
    reason: str | None = None
    oom_kills: int = 0


@dataclass
class _Goal:
    plugin: str
    artifact: str
    message: str
    line: int


@dataclass
class Clues:
    """Reads lines (without escape sequences) and keeps the first of each kind; memory stays constant."""

    stage: Literal["maven", "packages"] = "maven"
    first: dict[tuple[str, str], Clue] = field(default_factory=dict)
    goals: list[_Goal] = field(default_factory=list)
    first_error: tuple[int, str] | None = None
    _open: Clue | None = None
    _after_failures: bool = False

    def feed(self, number: int, line: str) -> None:
        """Reads line `number` of the raw log."""
        if line.startswith("[INFO] "):
            self._open = None
            return
        maven = _MAVEN.match(line) if line.startswith("[") else None
        if maven is not None and maven["level"] not in ("ERROR", "FATAL"):
            self._open = None if maven["level"] == "INFO" else self._open
            return
        if maven is not None:
            self._maven_error(number, line[maven.end() :])
        elif self._open is not None and _SYMBOL.match(line):
            self._extend(line)
        for kind in KINDS:
            if kind.hint in line:
                match = kind.pattern.search(line)
                if match is not None:
                    self._note(
                        Clue(kind, number, line.strip(), tuple(group or "" for group in match.groups()))
                    )

    def of(self, name: str, stage: str | None = None) -> Clue | None:
        """Returns the first clue of a kind, of one stage or of any."""
        for (kind, at), clue in self.first.items():
            if kind == name and stage in (None, at):
                return clue
        return None

    def _maven_error(self, number: int, text: str) -> None:
        if self.first_error is None and text.strip():
            self.first_error = number, text.strip()
        goal = _GOAL.match(text)
        if goal is not None and len(self.goals) < 20:
            self.goals.append(_Goal(goal["plugin"] or "", goal["artifact"], goal["message"], number))
            self._open = None
            return
        compiled = _COMPILE.match(text)
        if compiled is not None:
            self._note(Clue(COMPILE, number, text.strip(), (compiled["place"], compiled["message"])))
        elif text.rstrip(" :") in ("Failures", "Errors"):
            self._after_failures = True
        elif self._after_failures and _TEST.match(text):
            self._after_failures = False
            self._note(Clue(TEST, number, text.strip()))
        elif self._open is not None and _SYMBOL.match(text):
            self._extend(text)
        else:
            self._open = None

    def _note(self, clue: Clue) -> None:
        key = (clue.kind.name, self.stage)
        if key not in self.first:
            self.first[key] = self._open = Clue(
                clue.kind, clue.line, clue.text, clue.found, clue.context, self.stage
            )

    def _extend(self, line: str) -> None:
        clue = self._open
        if clue is not None and len(clue.context) < _CONTEXT_LINES:
            extended = Clue(
                clue.kind, clue.line, clue.text, clue.found, (*clue.context, line.strip()), clue.stage
            )
            self.first[clue.kind.name, clue.stage] = self._open = extended


COMPILE = Kind("compile-error", FailureClass.COMPILE, "", re.compile(r"(?!)"))
TEST = Kind("test-failure", FailureClass.TEST, "", re.compile(r"(?!)"))


def classify(
    ending: Ending, clues: Clues, modules: Sequence[ModuleTime] = (), *, tree: Sequence[str] = ()
) -> Failure:
    """Says why a build failed. `tree` are the paths that the source tree has been seen under.

    The answer always has a class and a message; `unknown` is an honest answer.
    """
    verdict = _from_outside(ending) or _explains_all(ending, clues) or _from_stage(ending, clues)
    failure_class, message, line, artifact, remedy = verdict
    for path in tree:
        message = message.replace(path.rstrip("/") + "/", "")
    message = _ADDRESS.sub("", " ".join(message.split()))[:_LONGEST_MESSAGE]
    return Failure.model_validate(
        {
            "class": failure_class,
            "module": _module(artifact, modules) if ending.stage == "maven" else None,
            "message": message,
            "remedy": remedy,
            "line": line,
        }
    )


_Verdict = tuple[FailureClass, str, int | None, str | None, str | None]


def _from_outside(ending: Ending) -> _Verdict | None:
    """A reason is `<word>: <what>`, as the runner gives it, or the supervisor's own words."""
    reason = ending.reason
    if reason is None:
        return None
    word, _, what = reason.partition(": ")
    if word == "cancelled":
        return FailureClass.CANCELLED, _cancelled(what), None, None, None
    if word == "timeout":
        advice = "Give it more time with `--timeout`, or see in the log what it waited for."
        return FailureClass.TIMEOUT, "The build took longer than its timeout.", None, None, advice
    if word == "disk":
        return FailureClass.DISK, f"Ended before the disk was full: {what}", None, None, REMEDIES["disk"]
    if word == "memory":
        return FailureClass.TOOLCHAIN, f"Ended before memory ran out: {what}", None, None, REMEDIES["memory"]
    return (
        FailureClass.LOST,
        f"The build was lost: {reason}.",
        None,
        None,
        "Run it again: `invoke job.retry`.",
    )


def _cancelled(why: str) -> str:
    """Returns the sentence for a build that was ended on request; the ledger's own words stay as they are."""
    why = why.strip().rstrip(".") or "on request"
    return f"Cancelled{why[9:]}." if why.startswith("cancelled by ") else f"Cancelled: {why}."


def _explains_all(ending: Ending, clues: Clues) -> _Verdict | None:
    stage = ending.stage
    killed = clues.of("killed", stage)
    number = _signal_number(ending, killed)
    line = killed.line if killed else None
    if number == signal.SIGKILL and ending.oom_kills:
        text = "The kernel killed it, as memory ran out (out-of-memory killer)."
        return FailureClass.TOOLCHAIN, text, line, None, REMEDIES["memory"]
    disk = clues.of("disk", stage)
    if disk is not None:
        return FailureClass.DISK, disk.text, disk.line, None, REMEDIES["disk"]
    memory = clues.of("memory", stage)
    if memory is not None and not (clues.goals and clues.goals[0].line - memory.line > _NEAR_LINES):
        return FailureClass.TOOLCHAIN, memory.text, memory.line, None, REMEDIES["memory"]
    if number is None or (stage == "maven" and clues.goals):
        return None
    name = {known.value: known.name for known in signal.Signals}.get(number, "a signal")
    what = "Maven" if stage == "maven" else "The packaging"
    known = number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)
    failure_class = FailureClass.TOOLCHAIN if known else FailureClass.UNKNOWN
    remedy = REMEDIES["killed"] if number == signal.SIGKILL else REMEDIES["crashed"] if known else None
    return failure_class, f"{what} was ended by {name} (signal {number}).", line, None, remedy


_SIGNAL_WORDS = {
    "Killed": signal.SIGKILL,
    "Terminated": signal.SIGTERM,
    "Hangup": signal.SIGHUP,
    "Interrupt": signal.SIGINT,
    "Aborted": signal.SIGABRT,
    "Segmentation fault": signal.SIGSEGV,
    "Bus error": signal.SIGBUS,
    "Illegal instruction": signal.SIGILL,
}


def _signal_number(ending: Ending, killed: Clue | None) -> int | None:
    if ending.killed_by is not None:
        return ending.killed_by
    if killed is not None:
        return _SIGNAL_WORDS.get(killed.found[0])
    status = ending.exit_status
    # A shell says 128 + n for a child that signal n ended.
    if status in (128 + signal.SIGKILL, 128 + signal.SIGSEGV, 128 + signal.SIGABRT, 128 + signal.SIGTERM):
        return status - 128
    return None


def _from_stage(ending: Ending, clues: Clues) -> _Verdict:
    if ending.stage == "maven" and clues.goals:
        return _failed_goal(clues.goals[0], clues)
    found = sorted(
        (c for c in clues.first.values() if c.stage == ending.stage), key=lambda c: (c.kind.rank, c.line)
    )
    for clue in found:
        if clue.kind.failure_class is not None:
            return _verdict(clue)
    if ending.stage == "maven" and clues.first_error is not None:
        number, text = clues.first_error
        return FailureClass.UNKNOWN, text, number, None, _remedy(text)
    what = "Maven" if ending.stage == "maven" else "The packaging"
    how = f"exit status {ending.exit_status}" if ending.exit_status is not None else "no exit status"
    return FailureClass.UNKNOWN, f"{what} failed with {how}; the log names no cause.", None, None, None


def _failed_goal(goal: _Goal, clues: Clues) -> _Verdict:
    message, plugin = goal.message.removesuffix(" -> [Help 1]"), goal.plugin
    for name in ("dependency", "java", "maven", "missing-tool"):
        clue = clues.of(name)
        if clue is not None and (clue.line == goal.line or name in ("java", "maven")):
            failure_class, text, line, _, remedy = _verdict(clue)
            return failure_class, message if name == "dependency" else text, line, goal.artifact, remedy
    if "compiler" in plugin or "compile" in plugin.rpartition(":")[2].lower():
        clue = clues.of("compile-error")
        if clue is not None:
            text = _with_context(clue)
            return FailureClass.COMPILE, text, clue.line, goal.artifact, _remedy(text)
        return FailureClass.COMPILE, message, goal.line, goal.artifact, _remedy(message)
    if "surefire" in plugin or "failsafe" in plugin:
        clue = clues.of("test-failure")
        text, line = (clue.text, clue.line) if clue is not None else (message, goal.line)
        advice = _remedy(message) or REMEDIES["test"].format(goal.artifact)
        return FailureClass.TEST, text, line, goal.artifact, advice
    if any(name in plugin for name in ("checkstyle", "apache-rat", "enforcer", "pmd", "spotbugs")):
        return FailureClass.COMPILE, f"{plugin}: {message}", goal.line, goal.artifact, REMEDIES["check"]
    return FailureClass.UNKNOWN, f"{plugin}: {message}", goal.line, goal.artifact, _remedy(message)


def _verdict(clue: Clue) -> _Verdict:
    text = _with_context(clue)
    remedy = clue.kind.remedy
    if remedy is not None:
        remedy = remedy.format(*clue.found, *("",) * 4)
    text = text.partition("[ERROR] ")[2] or text if text.startswith("[") else text
    failure_class = clue.kind.failure_class or FailureClass.UNKNOWN
    return failure_class, text.removesuffix(" -> [Help 1]"), clue.line, None, _remedy(text) or remedy


def _with_context(clue: Clue) -> str:
    return f"{clue.text} ({', '.join(clue.context)})" if clue.context else clue.text


def _remedy(text: str) -> str | None:
    return next((remedy for pattern, remedy in SIGNATURES if re.search(pattern, text)), None)


def _module(artifact: str | None, modules: Sequence[ModuleTime]) -> str | None:
    """Returns the failed module's name: the one of the failing project, else the first that failed."""
    for module in modules:
        if artifact is not None and module.artifact == artifact:
            return module.name
    failed = next((module.name for module in modules if module.status == "failed"), None)
    running = next((module.name for module in modules if module.status == "running"), None)
    return failed or artifact or running

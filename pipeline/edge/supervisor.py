"""Runs one program's process tree so that nothing of it outlives the build. No shell.

The tree hangs below a watchdog (a process of its own, see `watchdog`), and this process is a subreaper too:
 - the pipeline dies: the watchdog's control pipe closes, and it ends the tree;
 - the watchdog dies: the kernel kills the program, its orphans come to this process, and it ends them;
 - both die: the journal in the job's directory and a marker in every process's environment find what is left
   (`find_survivors`), whoever looks next.
Processes are known by pid with start time, by the marker and by descent, never by name.

Non-guarantee: with the watchdog killed, a daemon that left its session, dropped its environment and is
younger than one sample (a second) is not recognised.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.edge.kernel import set_subreaper
from pipeline.edge.procfs import read_stat
from pipeline.edge.survivors import MARKER_VARIABLE, Journal, end_processes, find_survivors
from pipeline.edge.watchdog import INPUT, STATUS, UNKILLABLE_SECONDS
from pipeline.errors import CommandFailed

CHUNK_BYTES = 64 * 1024
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
#: How long after its own deadline the watchdog is given before it counts as hung.
_WATCHDOG_SLACK_SECONDS = 30.0
ROOT = str(Path(__file__).resolve().parents[2])
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from pipeline.edge.watchdog import main; main()"

_subreaper_lock = threading.Lock()
_subreaper_users = 0
_subreaper_before = False


@dataclass(frozen=True)
class Ended:
    """How a tree ended.

    Exactly one of `exit_status` and `killed_by` (a signal's number) is set, unless the watchdog was lost,
    when neither may be. `reason` is what `end` was given, "timeout", `EXPIRED` (nobody moved `until` on),
    or None for a program that ended by itself. `stragglers` counts processes that outlived the program and
    were ended; `left` names those that could not be. Memory is the largest sum of resident sets that was
    sampled, and at least that of the largest process. `oom_kills` counts what the kernel killed meanwhile,
    on the whole machine.
    """

    exit_status: int | None
    killed_by: int | None
    reason: str | None
    seconds: float
    peak_memory_bytes: int = 0
    cpu_seconds: float = 0.0
    oom_kills: int = 0
    stragglers: int = 0
    left: tuple[int, ...] = ()
    watchdog_lost: bool = False


class Standby:
    """A watchdog that has started and waits to be told what to run: starting it takes a while.

    Use it as a context manager: one that nobody took ends then, and with the pipeline in any case. With
    `inherit` its program has this process's own stdin, stdout, stderr and terminal. Raises CommandFailed when
    it cannot be started.
    """

    def __init__(self, *, inherit: bool = False) -> None:
        control, self._control = _pipe()
        self._output, output = _pipe()
        self._status, status = _pipe()
        self._taken = False
        with contextlib.suppress(OSError):  # a larger pipe is a luxury that an administrator may limit
            fcntl.fcntl(output, _F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", START, ROOT, *(["--input"] if inherit else [])],
                {"LC_ALL": "C.UTF-8"},
                file_actions=[
                    *([(os.POSIX_SPAWN_DUP2, 0, INPUT)] if inherit else []),
                    (os.POSIX_SPAWN_DUP2, control, 0),
                    *((os.POSIX_SPAWN_DUP2, output, number) for number in (1, 2) if not inherit),
                    (os.POSIX_SPAWN_DUP2, status, STATUS),
                ],
                setsigmask=[],
                **({"setpgroup": 0} if inherit else {"setsid": True}),
            )
        except OSError as exc:
            self._close()
            raise CommandFailed(f"the watchdog cannot be started: {exc.strerror}") from exc
        finally:
            for descriptor in (control, output, status):
                os.close(descriptor)

    def hand_over(self) -> tuple[int, int, int, int]:
        """Returns its pid and the descriptors of control, output and status; they are the caller's now."""
        assert not self._taken
        self._taken = True
        return self.pid, self._control, self._output, self._status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._taken:
            self._taken = True
            self._close()  # it reads that nobody is left, and ends
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)

    def _close(self) -> None:
        for descriptor in (self._control, self._output, self._status):
            os.close(descriptor)


class Supervised:
    """One program tree, from its start to the end of its last process. Use it as a context manager.

    `marker` is `<job>.<token>`; `journal`, where given, is the file that lets others find the tree.
    `deadline_seconds` is kept on CLOCK_BOOTTIME by the watchdog, also while the pipeline is stopped. So is
    `until`, a moment of that clock which `extend` moves on: then the tree is terminated, `grace_seconds`
    later killed, and `slack_seconds` after that it is ended from here if the watchdog has not done it. A
    program whose `until` has passed before it began does not begin. With `inherit` the program has this
    process's own stdin, stdout and stderr, is in its process group, so that a terminal is the program's as
    well, and ignores the signals that this process does; `run` hands nothing on.
    `mounts` are (source, target) pairs that the tree alone sees, `host` is its own host name, and `user` the
    number of its user as it sees it. `env` is the whole environment, `cwd` a path as the tree sees it.
    `standby` is a watchdog that was started beforehand. Raises CommandFailed when the program cannot be
    started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | str,
        env: Mapping[str, str],
        marker: str,
        journal: Path | None = None,
        deadline_seconds: float | None = None,
        until: float | None = None,
        grace_seconds: float = 10.0,
        umask: int = 0o022,
        mounts: Iterable[tuple[str, str]] = (),
        host: str | None = None,
        user: int | None = None,
        sample_seconds: float = 1.0,
        slack_seconds: float = _WATCHDOG_SLACK_SECONDS,
        inherit: bool = False,
        standby: Standby | None = None,
    ) -> None:
        own = read_stat(os.getpid())
        self._owner = (os.getpid(), 0 if own is None else own.start_ticks)
        self._config = {
            "argv": list(argv),
            "cwd": os.fspath(cwd),
            "env": {**env, MARKER_VARIABLE: marker},
            "marker": marker,
            "journal": None if journal is None else os.fspath(journal),
            "deadline_seconds": deadline_seconds,
            "until": until,
            "grace_seconds": grace_seconds,
            "umask": umask,
            "mounts": [list(mount) for mount in mounts],
            "host": host,
            "user": user,
            "sample_seconds": sample_seconds,
            "owner_pid": self._owner[0],
            "owner_start_ticks": self._owner[1],
            "group": os.getpgrp() if inherit else None,
            "ignored": _ignored() if inherit else [],
        }
        self._standby = standby
        self._marker = marker
        self._journal = journal
        self._limit = deadline_seconds
        self._until = float("inf") if until is None else until
        self._grace = grace_seconds
        self._slack = slack_seconds
        self._inherit = inherit
        self._status_rest = b""
        self._facts: dict[str, Any] = {}
        self._tree: list[tuple[int, int]] = []
        self._end_asked: float | None = None
        self._reason: str | None = None
        self.pid: int | None = None
        self.watchdog_pid = 0

    # -- life ----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        _become_subreaper()
        self._begun = _now()
        try:
            watchdog = self._standby or Standby(inherit=self._inherit)
        except CommandFailed:
            _stop_being_subreaper()
            raise
        self.watchdog_pid, self._control, self._output, self._status = watchdog.hand_over()
        self._write_control(json.dumps(self._config).encode() + b"\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "ended" not in self._facts and self.watchdog_pid:
            self.end("the pipeline gave up")
            self.run(lambda chunk: None)
        self._close()

    def end(self, reason: str) -> None:
        """Ends the tree: terminate, grace, kill. A second call does not wait. Also for signal handlers."""
        self._reason = self._reason or reason
        self._end_asked = self._end_asked or _now()
        self._write_control(b"end " + reason.replace("\n", " ").encode()[:500] + b"\n")

    def extend(self, until: float) -> None:
        """Moves `until` on, never back. Another thread may call it for as long as the tree runs."""
        self._until = max(self._until, until)
        self._write_control(b"until %.6f\n" % until)

    def elapsed(self) -> float:
        """Returns the seconds since the start, suspension included."""
        return _now() - self._begun

    def run(
        self,
        on_output: Callable[[bytes], None],
        *,
        poll: Callable[[float], str | None] | None = None,
        poll_seconds: float = 0.5,
    ) -> Ended:
        """Hands on the tree's output until its last process has ended.

        `poll` is called every `poll_seconds` with the seconds since the start; a text that it returns ends
        the tree for that reason. Raises CommandFailed when the program could not be started.
        """
        next_poll = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            selector.register(self._status, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(poll_seconds)
                for key, _ in ready:
                    data = os.read(key.fd, CHUNK_BYTES)
                    if not data:
                        selector.unregister(key.fd)
                        if key.fd == self._status:
                            self._after_watchdog()
                    elif key.fd == self._output:
                        on_output(data)
                    else:
                        self._hear(data)
                elapsed = self.elapsed()
                if poll is not None and elapsed >= next_poll and self._end_asked is None:
                    next_poll = elapsed + poll_seconds
                    reason = poll(elapsed)
                    if reason is not None:
                        self.end(reason)
                self._check_watchdog(elapsed)
                if not ready and "ended" in self._facts:
                    break  # what could not be killed still holds the pipe
        return self._ended()

    # -- the watchdog --------------------------------------------------------------------------------

    def _hear(self, data: bytes) -> None:
        *lines, self._status_rest = (self._status_rest + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            self._facts[event["event"]] = event
            if event["event"] == "started":
                self.pid = event["pid"]
                self._tree = [(event["pid"], event["start_ticks"])]
            elif event["event"] == "tree":
                self._tree = [(pid, ticks) for pid, ticks in event["processes"]]

    def _check_watchdog(self, elapsed: float) -> None:
        """Kills a watchdog that hangs: its pipe then closes, and the tree is ended from here."""
        slack = self._grace + self._slack
        late = _now() > self._until + slack or (self._limit is not None and elapsed > self._limit + slack)
        slack += UNKILLABLE_SECONDS
        if late or (self._end_asked is not None and _now() - self._end_asked > slack):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.watchdog_pid, 9)

    def _after_watchdog(self) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.watchdog_pid, 0)
        if "ended" in self._facts or "failed" in self._facts:
            return
        known = Journal(
            pid=0 if self.pid is None else self.pid,
            start_ticks=self._tree[0][1] if self._tree else 0,
            marker=self._marker,
            owner_pid=self._owner[0],
            owner_start_ticks=self._owner[1],
        )
        grace = max(0.0, min(self._grace, 5.0, self._until + self._grace - _now()))
        left = end_processes(lambda: find_survivors(known, self._tree), grace)
        self._facts["ended"] = {"lost": True, "left": left}

    def _ended(self) -> Ended:
        seconds = self.elapsed()
        failed = self._facts.get("failed")
        if failed is not None:
            self._facts.setdefault("ended", {})
            problem = os.strerror(failed["code"]) if failed["code"] else "unknown reason"
            raise CommandFailed(f"{failed['what']} cannot be started or used: {problem}")
        event = self._facts["ended"]
        if not event["left"] and self._journal is not None:
            self._journal.unlink(missing_ok=True)
        if event.get("lost"):
            reason = self._reason or "the watchdog was killed"
            return Ended(None, None, reason, seconds, left=tuple(event["left"]), watchdog_lost=True)
        status = event["wait_status"]
        code = None if status is None else os.waitstatus_to_exitcode(status)
        return Ended(
            exit_status=code if code is not None and code >= 0 else None,
            killed_by=-code if code is not None and code < 0 else None,
            reason=event["reason"],
            seconds=seconds,
            peak_memory_bytes=event["peak_memory_bytes"],
            cpu_seconds=event["cpu_seconds"],
            oom_kills=event["oom_kills"],
            stragglers=event["stragglers"],
            left=tuple(event["left"]),
        )

    def _write_control(self, data: bytes) -> None:
        # A watchdog that is gone is noticed by its status pipe, not here.
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._control, data) :]

    def _close(self) -> None:
        for descriptor in (self._control, self._output, self._status):
            os.close(descriptor)
        _stop_being_subreaper()


def _ignored() -> list[int]:
    """Returns the signals that whoever started this process wants ignored, as `nohup` does."""
    pythons = {signal.SIGPIPE, signal.SIGXFSZ}
    return [
        int(each) for each in signal.valid_signals() - pythons if signal.getsignal(each) is signal.SIG_IGN
    ]


def _pipe() -> tuple[int, int]:
    """Makes a pipe whose ends lie above the numbers that the watchdog's own are put on."""
    ends = []
    for low in os.pipe():
        ends.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(low)
    return ends[0], ends[1]


def _become_subreaper() -> None:
    global _subreaper_users, _subreaper_before
    with _subreaper_lock:
        if _subreaper_users == 0:
            _subreaper_before = set_subreaper(True)
        _subreaper_users += 1


def _stop_being_subreaper() -> None:
    global _subreaper_users
    with _subreaper_lock:
        _subreaper_users -= 1
        if _subreaper_users == 0:
            set_subreaper(_subreaper_before)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)

"""Watches one program's process tree from a process of its own. Imports the standard library only.

`supervisor` starts it as `python -I -S`, so that it runs within milliseconds, in a session of its own. For a
program that has its caller's terminal it is a process group of the caller's session instead, and the program
joins the caller's group: what a terminal sends reaches that, and not the watchdog. What it does, in order:
 1. It becomes a child subreaper: whatever the tree orphans, daemons included, becomes its child. So
    "no child left" means "no process of the tree left", and the kernel is the witness.
 2. It forks the program, which waits until the journal is written: a program that runs is in a journal.
 3. It watches four things: the program, the control pipe (a closed pipe means that the pipeline is gone),
    the deadlines on CLOCK_BOOTTIME (which neither Ctrl-Z nor a suspended machine holds up), and memory.
    Of the two deadlines one stands; the other, of a program that may run for as long as a lease is trusted,
    is moved on by its holder, as a moment: an order that was held up on the way extends nothing.
 4. It ends the tree: terminate, wait, kill until nothing is left; then it says what it saw.

Guarantee: when it ends by itself, the tree has ended, but for processes that it may not kill (`left`).
Non-guarantee: killed itself with SIGKILL, it takes only the program along (parent death signal); the
pipeline, a subreaper as well, then ends the rest, and where that is dead too, the journal finds them.

File descriptors: 0 control (a JSON line with the configuration, then lines `end <reason>` and `until
<seconds of CLOCK_BOOTTIME>`), 1 and 2 the tree's output, 3 status (JSON lines out); with `--input` 4, which
becomes the program's 0.
"""

# pathlib takes longer to import than the whole watchdog takes to start:
# ruff: noqa: PTH105, PTH123

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any, NoReturn

from pipeline.edge.kernel import die_with_parent, enter_mounts, set_subreaper
from pipeline.edge.procfs import (
    Stat,
    all_stats,
    boot_id,
    descendants,
    environment_of,
    oom_kills,
    pid_namespace,
    read_stat,
    send,
)

CONTROL, STATUS, INPUT = 0, 3, 4
#: A program that ended is given this long for children that end by themselves (fakeroot's daemon does).
SETTLE_SECONDS = 0.3
#: After this long of SIGKILL a process is not going to end: it hangs in the kernel, or is not ours to kill.
UNKILLABLE_SECONDS = 30.0
#: The reason of an end at a moment that nobody had moved on.
EXPIRED = "expired"


def _say(**event: object) -> None:
    # With nobody left to hear it, the tree is ended all the same.
    with contextlib.suppress(OSError):
        os.write(STATUS, json.dumps(event).encode() + b"\n")


class _Watch:
    """The watchdog's state: running, then settling (the program ended), terminating, killing, done."""

    def __init__(self, config: dict[str, Any], orders: bytes) -> None:
        self.config = config
        self.phase = "running"
        self.phase_ends = 0.0
        self.reason: str | None = None
        self.program = 0
        self.wait_status: int | None = None
        self.terminated: set[tuple[int, int]] = set()
        self.stragglers = 0
        self.peak = 0
        self.known: list[tuple[int, int]] = []
        self.strangers: list[tuple[int, int]] = []
        self.oom_kills = oom_kills()
        self.next_sample = 0.0
        self.buffer = orders
        self.deadline = float("inf")
        self.until: float = float("inf") if config["until"] is None else config["until"]
        self.wakeup, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.end("the watchdog was told to stop"))

    # -- starting ------------------------------------------------------------------------------------

    def start(self) -> None:
        go_read, go_write = os.pipe2(os.O_CLOEXEC)
        watchdog = os.getpid()
        self.program = os.fork()
        if self.program == 0:
            os.close(go_write)
            self._become_program(watchdog, go_read)
        os.close(go_read)
        stat = read_stat(self.program)
        self.start_ticks = 0 if stat is None else stat.start_ticks
        try:
            self._write_journal()
        except OSError as exc:
            _say(event="failed", what=f"the journal {self.config['journal']}", code=exc.errno)
            os.close(go_write)  # the program reads nothing and ends
            return
        _say(event="started", pid=self.program, start_ticks=self.start_ticks)
        if _now() < self.until:
            os.write(go_write, b"g")
        else:
            self.end(EXPIRED)  # its time was over before it began: it is not let go
        os.close(go_write)
        limit = self.config["deadline_seconds"]
        self.deadline = float("inf") if limit is None else _now() + limit

    def _write_journal(self) -> None:
        path = self.config["journal"]
        if path is None:
            return
        own = read_stat(os.getpid())
        facts = {
            "pid": self.program,
            "start_ticks": self.start_ticks,
            "watchdog_pid": os.getpid(),
            "watchdog_start_ticks": 0 if own is None else own.start_ticks,
            "owner_pid": self.config["owner_pid"],
            "owner_start_ticks": self.config["owner_start_ticks"],
            "boot_id": boot_id(),
            "pid_namespace": pid_namespace(),
            "marker": self.config["marker"],
            "strangers": self.strangers,
        }
        temporary = f"{path}.tmp"
        with open(temporary, "w") as file:
            json.dump(facts, file, indent=2, sort_keys=True)
        os.replace(temporary, path)

    def _become_program(self, watchdog: int, go: int) -> NoReturn:
        config = self.config
        what = config["argv"][0]
        try:
            signal.set_wakeup_fd(-1)
            if config["group"] is None:
                os.setsid()
            else:
                os.setpgid(0, config["group"])
            die_with_parent()
            if os.getppid() != watchdog or os.read(go, 1) != b"g":
                os._exit(127)
            # The kernel, short of memory, ends the build before the pipeline that would report it.
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
                file.write("400")
            os.umask(config["umask"])
            if config["mounts"] or config["host"] is not None:
                what = f"the mount on {config['mounts'][0][1]}" if config["mounts"] else "a host name"
                enter_mounts(config["mounts"], config["host"], config["user"])
                die_with_parent()  # other credentials may have cancelled it
            what = config["cwd"]
            os.chdir(config["cwd"])
            read = os.open(os.devnull, os.O_RDONLY) if config["group"] is None else INPUT
            os.dup2(read, 0, inheritable=True)
            for number in range(1, signal.NSIG):
                if number not in (signal.SIGKILL, signal.SIGSTOP) and not 32 <= number <= 33:
                    ignored = number in config["ignored"]
                    signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
            what = config["argv"][0]
            os.execvpe(config["argv"][0], config["argv"], config["env"])
        except OSError as exc:
            _say(event="failed", what=what, code=exc.errno)
        finally:
            os._exit(127)

    # -- watching ------------------------------------------------------------------------------------

    def run(self) -> None:
        self._obey()
        poller = select.poll()
        poller.register(CONTROL, select.POLLIN)
        poller.register(self.wakeup, select.POLLIN)
        while not self._reap():
            self._advance()
            for descriptor, _ in poller.poll(self._milliseconds()):
                if descriptor == self.wakeup:
                    os.read(self.wakeup, 4096)
                elif not self._listen():
                    poller.unregister(CONTROL)
        self._finish([])

    def _milliseconds(self) -> float:
        if self.phase != "running":
            return 50
        return max(1.0, (min(self.next_sample, self.deadline, self.until) - _now()) * 1000)

    def _listen(self) -> bool:
        """Takes orders. Returns whether the pipeline is still there."""
        data = os.read(CONTROL, 4096)
        if not data:
            self.end("the pipeline is gone")
            return False
        self.buffer += data
        self._obey()
        return True

    def _obey(self) -> None:
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            order, _, rest = line.decode(errors="replace").partition(" ")
            if order == "until":
                self.until = max(self.until, float(rest))
            else:
                self.end(rest)

    def end(self, reason: str) -> None:
        """Ends the tree. Told a second time it waits no longer."""
        if self.reason is None:
            self.reason = reason
            self._enter("terminating", self.config["grace_seconds"])
        else:
            self.phase_ends = min(self.phase_ends, _now())

    def _enter(self, phase: str, seconds: float) -> None:
        self.phase, self.phase_ends = phase, _now() + seconds

    def _reap(self) -> bool:
        """Buries the dead. Returns whether nobody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.program:
                self.wait_status = status
                if self.phase == "running":
                    self._enter("settling", SETTLE_SECONDS)

    def _advance(self) -> None:
        now = _now()
        if self.phase == "running":
            if now >= self.deadline or now >= self.until:
                self.end("timeout" if now >= self.deadline else EXPIRED)
            elif now >= self.next_sample:
                self._sample(now)
        elif self.phase == "settling" and now >= self.phase_ends:
            self.stragglers = len(descendants(os.getpid(), all_stats()))
            self._enter("terminating", min(2.0, self.config["grace_seconds"]))
        if self.phase == "terminating":
            if now >= self.phase_ends:
                self._enter("killing", UNKILLABLE_SECONDS)
            else:
                self._signal_all(signal.SIGTERM)
        if self.phase == "killing":
            left = self._signal_all(signal.SIGKILL)
            if now >= self.phase_ends:
                self._finish([stat.pid for stat in left])

    def _sample(self, now: float) -> None:
        tree = descendants(os.getpid(), all_stats())
        self.peak = max(self.peak, sum(stat.resident_bytes for stat in tree))
        self.next_sample = now + self.config["sample_seconds"]
        known = [(stat.pid, stat.start_ticks) for stat in tree]
        if known != self.known:
            # For the pipeline, should this process be killed: it then knows whom to look for.
            self.known = known
            _say(event="tree", processes=known)
        self._note_strangers(tree)

    def _note_strangers(self, tree: list[Stat]) -> None:
        """Puts in the journal who could not be found from outside: out of session, without the marker.

        Looked at each time: one that was seen between its fork and its exec still had the marker then.
        """
        strangers = [
            (stat.pid, stat.start_ticks)
            for stat in tree
            if stat.session != self.program and self._is_stranger(stat)
        ]
        if strangers != self.strangers:
            self.strangers = strangers
            with contextlib.suppress(OSError):  # a full disk: the tree is watched all the same
                self._write_journal()

    def _is_stranger(self, stat: Stat) -> bool:
        if f"PIPELINE_JOB={self.config['marker']}".encode() in environment_of(stat.pid).split(b"\0"):
            return False
        now = read_stat(stat.pid)  # one that has ended meanwhile shows no environment either
        return now is not None and now.start_ticks == stat.start_ticks and now.state not in "ZX"

    def _signal_all(self, number: int) -> list[Stat]:
        tree = descendants(os.getpid(), all_stats())
        for stat in tree:
            if number == signal.SIGKILL:
                send(stat.pid, number)
            elif (stat.pid, stat.start_ticks) not in self.terminated:
                self.terminated.add((stat.pid, stat.start_ticks))
                send(stat.pid, number)
                send(stat.pid, signal.SIGCONT)  # a stopped process takes no other signal
        return tree

    def _finish(self, left: list[int]) -> NoReturn:
        # What the tree's processes used is here: each was waited for by its parent or by this subreaper.
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        _say(
            event="ended",
            wait_status=self.wait_status,
            reason=self.reason,
            peak_memory_bytes=max(self.peak, usage.ru_maxrss * 1024),
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            oom_kills=oom_kills() - self.oom_kills,
            stragglers=self.stragglers,
            left=left,
        )
        os._exit(0)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _read_config() -> tuple[dict[str, Any], bytes]:
    data = b""
    while b"\n" not in data:
        chunk = os.read(CONTROL, 1 << 20)
        if not chunk:
            sys.exit(0)  # the pipeline died before it said what to run
        data += chunk
    first, _, rest = data.partition(b"\n")
    return json.loads(first), rest


def _probe(mounts: list[list[str]], host: str | None, user: int | None) -> NoReturn:
    """Exits 0 when this machine lets the caller have these mounts, host name and user in namespaces."""
    try:
        enter_mounts(mounts, host, user)
    except OSError as exc:
        sys.exit(f"{exc.filename}: {exc.strerror}")
    sys.exit(0)


def main() -> None:
    """Runs the watchdog, or with `--probe SOURCE TARGET [HOST USER]` only says whether that can be had."""
    if sys.argv[1:2] == ["--probe"]:
        host, user = sys.argv[4:6] or (None, None)
        _probe([sys.argv[2:4]], host, None if user is None else int(user))
    # What whoever started the pipeline left open is no business of the build's.
    own = (CONTROL, STATUS, INPUT) if sys.argv[1:] == ["--input"] else (CONTROL, STATUS)
    os.closerange(own[-1] + 1, os.sysconf("SC_OPEN_MAX"))
    for descriptor in own:
        fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    config, orders = _read_config()
    set_subreaper(True)
    watch = _Watch(config, orders)
    watch.start()
    watch.run()

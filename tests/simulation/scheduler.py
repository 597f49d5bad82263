"""The scheduler: virtual processes as greenlets, a heap of events, and a clock that jumps to the next.

A *program* is what the operating system calls a process: it can be killed, stopped and continued as a whole.
It has one or more *strands* (threads), of which exactly one runs at any moment in the whole simulation.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from greenlet import getcurrent, greenlet


class Killed(BaseException):
    """The program is gone: nothing that its code still does on its way out has an effect."""


class Endless(Exception):
    """The run takes too many steps."""


class Program:
    """One virtual process. `at` names the last step that it took."""

    __slots__ = ("at", "born", "closers", "dead", "name", "node", "owed", "refusals", "stopped", "strands")

    def __init__(self, name: str, node: Any) -> None:
        self.name = name
        self.node = node
        self.at = "start"
        self.born = 0.0
        self.refusals = 0
        self.dead = False
        self.stopped = False
        self.strands: list[Strand] = []
        self.owed: list[Strand] = []
        #: What the kernel does when the program is gone.
        self.closers: list[Callable[[], None]] = []


class Strand:
    """One thread of a program. `wake` is the number of the event that wakes it; others are out of date."""

    __slots__ = ("done", "greenlet", "heard", "program", "wake")

    def __init__(self, program: Program) -> None:
        self.program = program
        self.wake = 0
        self.heard = False
        self.done = False
        self.greenlet: Any = None


class Scheduler:
    """Runs strands and events in the order of their times; ties in the order in which they were made."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.current: Strand | None = None
        self._events: list[tuple[float, int, Any, int]] = []
        self._count = 0
        self._programs: list[Program] = []
        #: A run that takes more steps than this does not end.
        self.most_steps = 2_000_000

    # ------------------------------------------------------------ called from anywhere

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Lets an action happen after a delay; it belongs to no program and nothing stops it."""
        self._count += 1
        heappush(self._events, (self.now + delay, self._count, action, 0))

    def spawn(self, program: Program, body: Callable[[], None], delay: float = 0.0) -> Strand:
        """Starts a strand of a program; the program ends with its last one."""
        strand = Strand(program)
        strand.greenlet = greenlet(lambda: self._live(strand, body))
        program.strands.append(strand)
        if len(program.strands) == 1:
            self._programs.append(program)
        self._wake(strand, delay)
        return strand

    def wake(self, strand: Strand) -> None:
        """Ends a strand's `wait` now."""
        if not strand.done:
            strand.heard = True
            self._wake(strand, 0.0)

    def kill(self, program: Program) -> None:
        """Ends a program at once, stopped or not. Its strands unwind without any effect."""
        if program.dead:
            return
        program.dead = True
        program.stopped = False
        for close in program.closers:
            close()
        for strand in program.strands:
            if strand is not self.current:
                self._wake(strand, 0.0)

    def stop(self, program: Program) -> None:
        """SIGSTOP."""
        if not program.dead:
            program.stopped = True

    def go_on(self, program: Program) -> None:
        """SIGCONT: what was due meanwhile is due now."""
        program.stopped = False
        owed, program.owed = program.owed, []
        for strand in owed:
            self._wake(strand, 0.0)

    # ------------------------------------------------------------ called from a strand

    def pause(self, seconds: float) -> None:
        """Suspends the running strand. Raises Killed once its program is dead."""
        strand = self.current
        assert strand is not None
        if strand.program.dead:
            raise Killed
        self.steps += 1
        events = self._events
        when = self.now + seconds
        if events and when >= events[0][0]:
            self._count += 1
            strand.wake = self._count
            heappush(events, (when, self._count, strand, self._count))
            strand.greenlet.parent.switch()
            if strand.program.dead:
                raise Killed
        elif strand.program.stopped:
            self._hand_over(strand, seconds)
        else:
            self.now = when  # nothing is due before: it goes straight on

    def wait(self, seconds: float) -> bool:
        """Suspends the running strand until it is woken (True), or until a time has passed (False)."""
        strand = self.current
        assert strand is not None
        if strand.program.dead:
            raise Killed
        strand.heard = False
        self._hand_over(strand, seconds)
        return strand.heard

    def _hand_over(self, strand: Strand, seconds: float) -> None:
        self.steps += 1
        self._wake(strand, seconds)
        strand.greenlet.parent.switch()
        if strand.program.dead:
            raise Killed

    # ------------------------------------------------------------ the loop

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Runs what is due before `until`, or until `done`, asked after every event of no program."""
        events = self._events
        main = getcurrent()
        while events and events[0][0] <= until:
            when, number, what, wake = heappop(events)
            self.now = when
            if wake == 0:
                self.steps += 1
                if self.steps > self.most_steps:
                    raise Endless(f"{self.steps} steps")
                what()
                if done():
                    return
                continue
            if what.wake != number or what.done:
                continue
            program = what.program
            if program.stopped:
                program.owed.append(what)
                continue
            self.current = what
            what.greenlet.parent = main
            try:
                what.greenlet.switch()
            finally:
                self.current = None
        if self.now < until and not events:
            self.now = until

    def close(self) -> None:
        """Unwinds every strand that is left."""
        for program in self._programs:
            program.dead = True
            for strand in program.strands:
                if not strand.done and strand.greenlet:
                    self.current = strand
                    strand.greenlet.parent = getcurrent()
                    strand.greenlet.switch()
        self.current = None
        self._events.clear()

    def _live(self, strand: Strand, body: Callable[[], None]) -> None:
        try:
            if not strand.program.dead:
                body()
        except Killed:
            pass
        finally:
            strand.done = True
            program = strand.program
            if not program.dead and all(each.done for each in program.strands):
                self.kill(program)

    def _wake(self, strand: Strand, delay: float) -> None:
        self._count += 1
        strand.wake = self._count
        heappush(self._events, (self.now + delay, self._count, strand, self._count))

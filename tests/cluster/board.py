"""A page of memory that controller and workers share: who takes which step, and what strikes it there.

Each worker has a slot. It writes each step that it takes into it, which costs no call of the system, and
looks whether something lies in wait for it there: to be killed, or stopped.
So the controller knows at which step a `kill -9` at a random instant found its victim, too.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct

#: What a worker may be at, by number. The names are those of the ports' own methods.
STEPS = (
    *("start", "between", "enqueue", "look", "answer", "lead", "fetch", "survey", "read", "write"),
    *("begin_attempt", "push", "pushed", "settle", "answer_unpushed", "drop", "disown"),
    *("take", "rebirth", "accept_rewind", "advance_tip", "told", "beat", "waits", "works", "builds"),
    *("recovers", "polls", "invokes"),
)
_NUMBERS = {name: number for number, name in enumerate(STEPS)}
#: Steps of a leader in the middle of its group commit.
LEADING = ("look", "fetch", "write", "begin_attempt", "push", "pushed", "settle", "answer_unpushed")
KILL, STOP = 1, 2
_SLOT = 16
_AT, _LEADS, _ORDER, _WHERE, _LEADER_ONLY, _STRUCK, _COUNT = range(7)
_FINISH, _CLOCKS = 0, 16


class Board:
    """Made by the controller before it forks; the same page in every worker."""

    def __init__(self, slots: int, nodes: int) -> None:
        self._slots = _CLOCKS + 8 * nodes
        self._page = mmap.mmap(-1, self._slots + slots * _SLOT)

    # ------------------------------------------------------------ the controller's side

    def clear(self, slot: int) -> None:
        """Makes a slot ready for a new worker."""
        begin = self._slots + slot * _SLOT
        self._page[begin : begin + _SLOT] = bytes(_SLOT)

    def at(self, slot: int) -> str:
        """Returns the step that a worker took last."""
        return STEPS[self._get(slot, _AT)]

    def leads(self, slot: int) -> bool:
        """Says whether a worker is its store's leader now."""
        return bool(self._get(slot, _LEADS))

    def order(self, slot: int, what: int, step: str, count: int = 1, *, leader: bool = False) -> None:
        """Lies in wait: the `count`-th time at `step` ("": any) the worker strikes itself."""
        self._set(slot, _WHERE, _NUMBERS[step] + 1 if step else 0)
        self._set(slot, _LEADER_ONLY, leader)
        self._set(slot, _COUNT, count)
        self._set(slot, _ORDER, what)

    def forget(self, slot: int) -> None:
        """Takes an order back."""
        self._set(slot, _ORDER, 0)

    def struck(self, slot: int) -> str | None:
        """Returns at which step an order struck, once."""
        number = self._get(slot, _STRUCK)
        self._set(slot, _STRUCK, 0)
        return STEPS[number - 1] if number else None

    def finish(self, on: bool) -> None:
        """Tells all workers to end when they have done what they are at."""
        self._page[_FINISH] = on

    def set_clock(self, node: int, seconds: float) -> None:
        """Sets a machine's wall clock forward or back by so much."""
        struct.pack_into("d", self._page, _CLOCKS + 8 * node, seconds)

    # ------------------------------------------------------------ the workers' side

    def finishing(self) -> bool:
        return bool(self._page[_FINISH])

    def clock(self, node: int) -> float:
        """Returns by how many seconds a machine's wall clock is wrong."""
        seconds: float = struct.unpack_from("d", self._page, _CLOCKS + 8 * node)[0]
        return seconds

    def lead(self, slot: int, on: bool) -> None:
        self._set(slot, _LEADS, on)

    def step(self, slot: int, name: str) -> None:
        """Notes a step, and ends or stops this process if that is what lies in wait for it."""
        number = _NUMBERS[name]
        self._set(slot, _AT, number)
        order = self._get(slot, _ORDER)
        if not order or self._get(slot, _WHERE) not in (0, number + 1):
            return
        if self._get(slot, _LEADER_ONLY) and not self._get(slot, _LEADS):
            return
        left = self._get(slot, _COUNT)
        if left > 1:
            self._set(slot, _COUNT, left - 1)
            return
        self._set(slot, _ORDER, 0)
        self._set(slot, _STRUCK, number + 1)
        os.kill(os.getpid(), signal.SIGKILL if order == KILL else signal.SIGSTOP)

    def _get(self, slot: int, what: int) -> int:
        return self._page[self._slots + slot * _SLOT + what]

    def _set(self, slot: int, what: int, value: int) -> None:
        self._page[self._slots + slot * _SLOT + what] = value

"""A program that runs while locks are held, and never longer.

    hold (wait, grant, first renewal) -> the program, below a watchdog with a deadline -> release, by token

Trust in the lease is a moment on this machine's clock. The watchdog, a process of its own, terminates the
program's whole tree at that moment less the time that ending it takes, and kills what is left; each renewal
moves the deadline on. So it does not matter whether the holder is alive, stopped, or cut off from the remote:

    trust ends          |------------- stop_seconds --------------|-- KILL_SECONDS --|
    the tree is         ^ terminated                              ^ killed           ^ gone, for certain
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pipeline.edge.supervisor import Ended, Supervised
from pipeline.edge.survivors import (
    MARKER_VARIABLE,
    find_survivors,
    kill_survivors,
    owner_alive,
    read_journal,
)
from pipeline.edge.watchdog import EXPIRED
from pipeline.errors import CommandFailed, Fenced, Interrupted, LedgerError, Refused, UsageError
from pipeline.operations.lease import Lease, hold
from pipeline.operations.pulse import DEAD_SECONDS
from pipeline.operations.site import Site
from pipeline.records.names import check_name

#: What a program's environment holds: the first lock's token, and all of them as `NAME=TOKEN`, a line each.
TOKEN_VARIABLE, TOKENS_VARIABLE = "PIPELINE_LOCK_TOKEN", "PIPELINE_LOCK_TOKENS"
#: What a killed tree is given until it is gone, and its watchdog to show that it is.
KILL_SECONDS, SLACK_SECONDS = 1.0, 0.5
#: With a shorter ttl two renewals in a row could not fail; a longer one outlives what heartbeats carry.
SHORTEST_TTL, LONGEST_TTL = 10.0, DEAD_SECONDS / 4

_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
#: Those that a terminal sends for a key, to the program as well.
_KEYS = frozenset({signal.SIGINT, signal.SIGQUIT})


@dataclass(frozen=True)
class Order:
    """What was asked for: a program and its arguments, and the locks that it needs. Times in seconds."""

    names: Sequence[str]
    command: Sequence[str]
    ttl: float = 60.0
    wait: float | None = None
    purpose: str = ""


def stop_seconds(ttl: float) -> float:
    """Returns how long before its end a tree is terminated, so that it can end by itself."""
    return min(10.0, ttl / 10)


def run(site: Site, order: Order, environment: Mapping[str, str]) -> int:
    """Runs a program under its locks and returns its exit status; 128 and the number for a signal's.

    Raises LeaseHeld when the wait was over, Fenced when the lease was lost while the program ran (it was
    ended), Interrupted, CommandFailed for a program that cannot be started, UsageError, LedgerError.
    """
    _insist(order, environment)
    signals = _Signals()
    end_leftovers(site)
    code: int | None = None
    try:
        with (
            signals.listening(),
            hold(site, order.names, ttl=order.ttl, patience=order.wait, purpose=order.purpose) as lease,
        ):
            site.say(f"Holding {_quoted(lease.tokens)}.")
            code = _judge(lease, _run(site, lease, order, environment, signals), signals)
    except LedgerError as exc:
        if code is None:
            raise
        site.say(
            f"Not given back yet: {exc.message} The next command here does it, or others after its time."
        )
    except Fenced as exc:
        if code is None:
            raise
        raise Fenced(
            f"{exc.message} The program had ended by then, with status {code}.",
            reason="fenced",
            remedy="It worked alone; look at who took the lock away: `invoke ledger.log`.",
        ) from exc
    assert code is not None
    return code


def end_leftovers(site: Site) -> int:
    """Ends the programs of holders that died together with their watchdogs; returns how many processes."""
    ended = 0
    for place in sorted(_folder(site).glob("*.json")):
        tree = read_journal(place)
        if tree is not None and owner_alive(tree):
            continue
        left = find_survivors(tree) if tree is not None else []
        if tree is not None and left:
            kill_survivors(tree, 0.0)  # nobody trusts its lease any more
        ended += len(left)
        place.unlink(missing_ok=True)
    return ended


def _insist(order: Order, environment: Mapping[str, str]) -> None:
    """Refuses what cannot be, before anything is asked of the ledger."""
    if not order.names:
        raise UsageError("Which lock?", remedy="`invoke lock.run NAME -- PROGRAM ARGUMENT…`")
    for name in order.names:
        check_name("lock", name)
    if not order.command or not order.command[0]:
        raise UsageError("Which program?", remedy="`invoke lock.run NAME -- PROGRAM ARGUMENT…`")
    if not SHORTEST_TTL <= order.ttl <= LONGEST_TTL:
        raise UsageError(
            f"--ttl is {order.ttl:g}.", remedy=f"Give {SHORTEST_TTL:g} to {LONGEST_TTL:g} seconds."
        )
    if order.wait is not None and order.wait < 0:
        raise UsageError(f"--wait is {order.wait:g}.", remedy="Give a number of seconds, 0 or more.")
    if order.wait != 0 and (holds := environment.get(MARKER_VARIABLE)):
        raise Refused(
            f"This process belongs to {holds}, which holds a lock or a machine already; two that hold one and"
            " wait for another could wait for each other.",
            reason="hold-and-wait",
            remedy="Ask for all the locks at once, `invoke lock.run ONE,OTHER`, or do not wait: `--wait 0`.",
        )


class _Signals:
    """What SIGINT, SIGQUIT, SIGTERM and SIGHUP do: raise Interrupted, or, while a program runs, end it.

    An exception in the middle of its start or end could leave it running under a lock that is given back.
    Those of a terminal's keys reach the program by themselves, once: what they mean is its decision. Only
    the kernel's own word tells them from the same signals sent by somebody, and only `sigtimedwait` has it.
    What was ignored when this process began, as under `nohup`, stays so.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        self._noting = False
        self._tree: Supervised | None = None
        self._mine = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]

    def reason(self) -> str | None:
        """Returns what asked the program to end, if something has."""
        while (info := signal.sigtimedwait(self._keys(), 0)) is not None:
            if info.si_code <= 0:  # sent by a process
                self._note(info.si_signo, None)
        if self.asked is not None:  # the program is being ended: a second signal is heard at once
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._keys())
        return self.asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Until the block ends the signals are this object's."""
        before = {number: signal.signal(number, self._note) for number in self._mine}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Within the block no signal raises: `reason` is to be looked at."""
        self._noting = True
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._keys())
        try:
            yield
        finally:
            self.reason()  # what is left of the keys was the program's
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._noting, self._tree = False, None

    def _keys(self) -> set[signal.Signals]:
        return {each for each in self._mine if each in _KEYS}

    def ends(self, tree: Supervised) -> None:
        """Names the tree that a second signal ends without grace."""
        self._tree = tree

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, self.asked or f"interrupted by {signal.Signals(number).name}"
        if not self._noting:
            raise Interrupted(f"{self.asked[0].upper()}{self.asked[1:]}.")
        if again and self._tree is not None:
            self._tree.end(self.asked)


def _run(site: Site, lease: Lease, order: Order, environment: Mapping[str, str], signals: _Signals) -> Ended:
    """Runs the program to its end, or the lease's. When it returns nothing of the tree is left but `left`."""
    grace = stop_seconds(order.ttl)

    def deadline(trusted_until: float) -> float:
        return trusted_until - grace - KILL_SECONDS

    first = lease.tokens[order.names[0]]
    journal = _folder(site) / f"{first}.json"
    journal.parent.mkdir(parents=True, exist_ok=True)
    tokens = {
        TOKEN_VARIABLE: first,
        TOKENS_VARIABLE: "\n".join(f"{name}={token}" for name, token in lease.tokens.items()),
    }
    tree = Supervised(
        order.command,
        cwd=Path.cwd(),
        env={**environment, **tokens},
        marker=f"lock.{first}",
        journal=journal,
        until=deadline(lease.trusted_until),
        grace_seconds=grace,
        slack_seconds=SLACK_SECONDS,
        umask=_umask(),
        inherit=True,
    )
    with signals.noting(), tree:
        signals.ends(tree)
        with lease.followed(lambda trusted_until: tree.extend(deadline(trusted_until))):
            return tree.run(
                lambda data: None, poll=lambda elapsed: signals.reason() or lease.lost, poll_seconds=0.2
            )


def _judge(lease: Lease, ended: Ended, signals: _Signals) -> int:
    """Returns a program's exit status, or raises what ended it."""
    if ended.left:
        lease.keep = True
        raise CommandFailed(
            f"Processes {', '.join(map(str, ended.left))} of the program could not be ended.",
            remedy=f"{_quoted(lease.tokens)} is not given back. End them, then wait until it is taken over.",
        )
    how = f"status {ended.exit_status}" if ended.killed_by is None else f"signal {ended.killed_by}"
    if ended.reason is not None and (lease.lost or ended.reason == EXPIRED):
        why = lease.lost or f"{_quoted(lease.tokens)} could not be renewed in time"
        raise Fenced(
            f"The lease was lost: {why}. The program was ended ({how}).",
            reason="fenced",
            remedy="Find out what it had done, then run it again. Look at `invoke lock.list`.",
        )
    if signals.asked is not None and ended.reason is not None:
        raise Interrupted(f"The program was ended ({how}): {signals.asked}.")
    if ended.watchdog_lost:
        raise CommandFailed(
            "The program's watchdog was killed, and the program was ended with it.",
            remedy="Find out what it had done, then run it again.",
        )
    if ended.killed_by is not None:
        return 128 + ended.killed_by
    assert ended.exit_status is not None
    return ended.exit_status


def _folder(site: Site) -> Path:
    return site.settings.work / "locks"


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _quoted(names: Mapping[str, str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

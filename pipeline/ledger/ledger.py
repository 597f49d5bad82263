"""What a process of a builder asks of the ledger: one request and its answer, or the state as it is.

`transact` puts a request into the outbox and waits for its answer; meanwhile this process leads, if no
other does (`leader`). What was asked outlives the process: see the kinds of entries in `store`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from pipeline.edge.clock import Clock
from pipeline.edge.identity import Processes, Randomness
from pipeline.edge.ref_store import RefStore
from pipeline.errors import OutcomeUnknown
from pipeline.ledger import chain
from pipeline.ledger.branch import Branch
from pipeline.ledger.history import Standing
from pipeline.ledger.leader import Leader, Settings, withdrawal
from pipeline.ledger.store import Entry, Kind, Store
from pipeline.records.decisions import Adopt, Decide, Refusal, View
from pipeline.records.ledger import Evidence

#: Returns a request as it may be written. What it raises is raised to the asker, and nothing is kept.
Admit = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Ledger:
    """The state of one branch, as this builder sees and changes it."""

    def __init__(
        self,
        store: Store,
        refs: RefStore,
        decide: Decide,
        adopt: Adopt,
        clock: Clock,
        random: Randomness,
        processes: Processes,
        settings: Settings | None = None,
        admit: Admit = lambda request: request,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`admit` sees every request before the outbox does, and may refuse it.

        `warn` is told what a person should know although nothing failed: that this store was reborn.
        """
        settings = settings or Settings()
        self.store = store
        self.refs = refs
        self.branch = Branch(store, refs, decide, adopt, random, settings.reducer)
        self.leader = Leader(self.branch, clock, random, processes, settings, warn)
        self.counts = self.branch.counts
        self._clock = clock
        self._random = random
        self._processes = processes
        self._settings = settings
        self._admit = admit
        self._me = processes.myself()

    # ------------------------------------------------------------ asking

    def transact(
        self,
        request: Mapping[str, Any],
        *,
        kind: Kind = "deliver",
        payloads: Mapping[str, bytes] | None = None,
        observations: Mapping[str, Any] | None = None,
        patience: float = 60.0,
    ) -> dict[str, Any]:
        """Carries one request out and returns its outcome (`ok`, then `value` or `reason` and `message`).

        Raises OutcomeUnknown after `patience` seconds without an answer: a *deliver* entry then stays in
        the outbox, and the next command delivers it; an *attached* one is withdrawn. Other LedgerErrors
        say why the remote refuses to be written; the entry fares the same.
        """
        sequence = self._enqueue(request, kind, payloads, observations, durable=False)
        try:
            outcome = self._wait(sequence, self._clock.boottime() + patience)
        except BaseException:
            if kind == "deliver" or not self.store.drop(sequence):
                self.store.disown(sequence)
            raise
        self.store.take(sequence)
        return _of_the_request(request, outcome)

    def enqueue(
        self,
        request: Mapping[str, Any],
        *,
        kind: Kind = "deliver",
        payloads: Mapping[str, bytes] | None = None,
        observations: Mapping[str, Any] | None = None,
    ) -> int:
        """Puts a request into the outbox, durably, and returns its number. Talks to nobody."""
        return self._enqueue(request, kind, payloads, observations, durable=True)

    def view(self, *, fresh: bool = True) -> Standing:
        """Returns the state; `fresh` reads the remote first, otherwise the last tip seen will do."""
        tip = None if fresh else self.store.tip()
        return self.branch.stand(tip if tip and self.refs.read(tip) else self.branch.fetch())

    def survey(self, prefix: str) -> tuple[Standing, dict[str, bytes]]:
        """Returns the fresh state, and the refs below `prefix` with their content, as of one read."""
        beside: dict[str, bytes] = {}

        def read() -> str | None:
            tip, found = self.refs.survey(prefix)
            beside.clear()
            beside.update(found)
            return tip

        return self.branch.stand(self.branch.fetch(read)), beside

    def deliver(self, patience: float = 60.0) -> list[Entry]:
        """Drains the outbox to its end and takes what dead processes left: their entries, with outcomes.

        What an *attached* one was granted is withdrawn. Raises as `transact`; after it nothing of an
        earlier command is waiting here.
        """
        begun = self._clock.boottime()
        until = begun + patience
        while self.store.look().entries:
            self._lead_or_pause(begun, until)
        left = [e for e in self.store.entries() if e.outcome and not self._processes.alive(e.asker)]
        for entry in left:
            if entry.kind == "attached" and entry.outcome and entry.outcome.get("ok"):
                self.transact(withdrawal(entry), patience=until - self._clock.boottime())
            self.store.take(entry.sequence)
        return left

    def accept_rewind(
        self, request_of: Callable[[str, View | None], Mapping[str, Any]], *, patience: float = 60.0
    ) -> dict[str, Any]:
        """Goes on from the remote's tip although it lacks commits that were seen, and returns the outcome.

        An operator's decision. `request_of` gets the tip that is abandoned and its state (None where it
        cannot be read any more) and returns the request that raises the epoch. It is in the outbox before
        the mark moves, so there is no moment at which others could go on without it. What had been asked
        and not answered is asked again, unless the chain that stands has it.
        """
        mark, tip, abandoned = self.branch.rewound()
        sequence = self.enqueue(request_of(mark, abandoned))
        self.store.accept_rewind(mark, tip, self._random.op(), sequence)
        outcome = self._wait(sequence, self._clock.boottime() + patience)
        self.store.take(sequence)
        return outcome

    def maintain(self) -> None:
        """Keeps the clone, and a remote of our own, small. Costs nothing unless it is due."""
        with self._leading() as leads:
            if leads:
                self.refs.maintain()

    def _leading(self) -> AbstractContextManager[bool]:
        return self.store.leader_lock.try_hold(self._clock.boottime(), self._settings.leader_deadline)

    def _enqueue(
        self,
        request: Mapping[str, Any],
        kind: Kind,
        payloads: Mapping[str, bytes] | None,
        observations: Mapping[str, Any] | None,
        *,
        durable: bool,
    ) -> int:
        request = self._admit(request)
        evidence = Evidence(
            now=self._clock.now(), random=self._random.hex(), observations=dict(observations or {})
        )
        return self.store.enqueue(
            kind, self._random.op(), request, evidence, self._me, payloads, durable=durable
        )

    def _wait(self, sequence: int, until: float) -> dict[str, Any]:
        begun = self._clock.boottime()
        while True:
            answer = self.store.answer(sequence)
            if answer is not None:
                return answer
            self._lead_or_pause(begun, until, sequence)

    def _lead_or_pause(self, begun: float, until: float, own: int | None = None) -> None:
        """Drains the outbox, or lets its leader go on and looks again after an eighth of the time waited."""
        with self._leading() as leads:
            if leads:
                with self.refs.within(until - self._clock.boottime()):
                    self.leader.drain(until, own)
                return
        now = self._clock.boottime()
        if now >= until:
            raise OutcomeUnknown(
                "The ledger gave no answer in time; what was asked waits in the outbox.",
                remedy="Run `invoke recover` once the remote answers again.",
            )
        pause = max(self._settings.poll, min((now - begun) / 8, self._settings.poll_limit))
        self._clock.sleep(pause * (0.5 + self._random.fraction()))


def _of_the_request(request: Mapping[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    """Returns an outcome, or the refusal that it amounts to where it is not that of what was asked.

    A copy of this store takes the asker for dead and can record the request as its own withdrawal.
    """
    value = outcome.get("value")
    if request.get("kind") == "withdraw" or not isinstance(value, dict) or not value.get("withdrawn"):
        return outcome
    return chain.refusal_outcome(
        Refusal(
            "withdrawn",
            "A copy of this outbox, which runs elsewhere, took this request back before it was carried out.",
            "Ask again; and let only one of the two copies run.",
        )
    )

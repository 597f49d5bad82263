"""One transaction: from entries in the outbox to a commit in the branch, exactly once.

Whoever of the builder's processes holds the leader's lock drains all entries into one commit (group
commit). `Leader.drain` is the whole algorithm; its steps:

    1. look: the entries, the writer id and the last tip seen, as of one moment
    2. settle what is in the chain already; drop what nobody waits for and no push can bring any more
    3. decide the others on that tip, without fetching; what may be on its way for a dead asker is withdrawn
    4. nothing to write, and no push of these entries can still land: answer, if a read of the tip begun
       after the requests is that tip
    5. otherwise write the commit, note the attempt durably, push it with a lease on its parent
    6. landed: answered.  stale: fetch and begin again.  refused: read before believing it, and tell it.
       unknown: push it again while this process waits; whoever comes later begins at 1.
       Whatever was said of a push, a copy of it may be under way: only a tip past its parent ends the doubt

Two pushes of one entry, by whomever, are commits on the same parent, of which one lands at most, or the
later one is decided on a state in which the earlier is looked up. So nothing but the entries outlives a
process: no attempt has to be found again, and one that a hook refuses holds nothing up.

Guarantees, as long as no rewind goes unnoticed: an answered entry is in the chain exactly once, a refused
one never; an entry without an answer at most once, and the outbox knows that it is open.
Non-guarantees: no order between entries of different processes but the one that the chain shows; a store
restored from a backup does not know of a push that was under way when it was lost, so what it refuses
meanwhile may still be applied; and between builders a push has no turn: one that writes without a pause
can be the quicker one for long (a lease's queue is fair to whoever has got into it).
The interleavings that shaped each step stand in docs/explanation/ledger.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.edge.clock import Clock
from pipeline.edge.git_objects import Object, TreeView, make, write_tree
from pipeline.edge.identity import Processes, Randomness
from pipeline.errors import (
    LedgerBusy,
    LedgerError,
    LedgerRefLocked,
    LedgerUnreachable,
    OutcomeUnknown,
    StoreError,
)
from pipeline.ledger import chain, exposure, history
from pipeline.ledger.branch import Branch
from pipeline.ledger.chain import Batch, WriterConflict
from pipeline.ledger.history import Standing
from pipeline.ledger.store import Entry, Outbox
from pipeline.records.ledger import Transaction

#: So often a ref's lock may be another push at work; then it was left behind.
_LOCKED_TRIES = 4

_REBORN = (
    "The outbox {folder} was restored from a backup, or a copy of it is in use: {why}. It goes on as another"
    " writer; what waits in it is looked up in the ledger first, so nothing is lost and nothing done twice."
)


@dataclass(frozen=True)
class Settings:
    """Times in seconds. `leader_deadline`: a leader that shows no life for so long is passed over.

    `pushes_per_minute` is this builder's share of what the remote allows; what waits for it is coalesced.
    """

    author: str = "pipeline"
    reducer: int = 1
    leader_deadline: float = 15.0
    poll: float = 0.012
    poll_limit: float = 0.25
    backoff: float = 0.02
    backoff_limit: float = 2.0
    pushes_per_minute: float | None = None


@dataclass(frozen=True)
class _Plan:
    """What became of the entries on one tip. No commit: nothing has to be written, so nothing pushed.

    `lands` is what stands once the commit, the last of the objects, has landed; `adopts` what it was decided
    on, where that has commits made by hand.
    """

    tip: str
    writer: str
    entries: list[Entry]
    outcomes: Mapping[int, dict[str, Any]]
    commit: str = ""
    objects: list[Object] = field(default_factory=list)
    lands: Standing | None = None
    adopts: Standing | None = None

    @property
    def versions(self) -> dict[int, int]:
        """Returns what the entries were when they were decided on: who answers them compares it."""
        return _versions(self.entries)


class Leader:
    """Drains one builder's outbox into its branch."""

    def __init__(
        self,
        branch: Branch,
        clock: Clock,
        random: Randomness,
        processes: Processes,
        settings: Settings,
        warn: Callable[[str], None],
    ) -> None:
        self.counts = branch.counts
        self._branch = branch
        self._store = branch.store
        self._refs = branch.refs
        self._clock = clock
        self._random = random
        self._processes = processes
        self._settings = settings
        self._warn = warn
        self._me = processes.myself()

    def drain(self, until: float, own: int | None = None) -> None:
        """Answers every open entry; a leader who only wants its `own` leaves what came later to the next.

        Two leaders at once are safe: the store's arrows are compare-and-swap.
        """
        tries = 0
        read: tuple[str, int] | None = None  # a tip, and the last entry that was there before it was read
        while True:
            self._store.leader_lock.show_life(self._clock.boottime())
            outbox = self._store.look()
            if not any(own in (None, entry.sequence) for entry in outbox.entries):
                return
            try:
                plan = self._plan(outbox)
            except WriterConflict as exc:
                if self._store.rebirth(outbox.writer, self._random.op(), _versions(outbox.entries)):
                    self._warn(_REBORN.format(folder=self._store.folder, why=exc))
                continue
            if plan is None:
                continue
            last = plan.entries[-1].sequence
            if not plan.commit and read is not None and read[0] == plan.tip and last <= read[1]:
                self._store.answer_unpushed(plan.writer, plan.versions, plan.outcomes)
            elif not plan.commit:
                read = (self._branch.fetch(), last)
                self._insist_on_time(until)
            elif self._may_push(until):
                self._refs.write(plan.objects)
                if self._store.begin_attempt(plan.tip, plan.writer, plan.versions):
                    tries = 0 if self._carry(plan, tries, until) else tries + 1

    def _plan(self, outbox: Outbox) -> _Plan | None:
        """Decides the entries on the last tip seen. None: some were settled or dropped; look again.

        Raises WriterConflict where the ledger's record of this writer is not this store's.
        """
        if outbox.tip is None or self._refs.read(outbox.tip) is None:
            self._branch.fetch()
            return None
        standing = self._branch.stand(outbox.tip)
        done = self._known(outbox, standing)
        if done:
            self._store.settle(outbox.writer, done)
            return None
        attached = [e for e in outbox.entries if e.kind == "attached" and e.asker != self._me]
        gone = [e for e in attached if not self._processes.alive(e.asker)]
        dead = [entry for entry in gone if entry.doubt != standing.tip]  # none of their pushes can land
        dropped = [self._store.drop(entry.sequence, entry.version) for entry in dead]
        if any(dropped):
            return None
        entries = [replace(e, request=withdrawal(e)) if e in gone else e for e in outbox.entries]
        batch = Batch(outbox.writer, outbox.floor, entries, outbox.closes)
        step = chain.advance(standing.view, batch, self._branch.decide, standing.state)
        if not step.changed and all(entry.doubt != standing.tip for entry in entries):
            return _Plan(standing.tip, outbox.writer, entries, step.outcomes)
        return self._commit_of(standing, batch, entries, step)

    def _known(self, outbox: Outbox, standing: Standing) -> dict[str, dict[str, Any]]:
        """Returns outcomes by op id, of the entries that the chain has. Raises WriterConflict.

        Entries of an earlier life are looked up in the history, from the base of each through the tip.
        """
        if outbox.known:
            chain.insist_on_writer(standing.state, outbox.writer)
        done = self._found_in_history(standing.tip, [e for e in outbox.entries if e.writer != outbox.writer])
        for entry in outbox.entries:
            outcome = chain.lookup(standing.state, outbox.writer, entry.sequence, entry.op)
            if outcome is not None:
                done[entry.op] = outcome
        return done

    def _found_in_history(self, tip: str, entries: list[Entry]) -> dict[str, dict[str, Any]]:
        done: dict[str, dict[str, Any]] = {}
        for base in dict.fromkeys(e.base for e in entries):
            ops = {e.op for e in entries if e.base == base}
            found = history.find_outcomes(self._refs, tip, base, ops, self._settings.reducer)
            if found is None:
                raise StoreError(
                    f"The history since {base} is cut off: it cannot be told what of the outbox was applied.",
                    remedy="Make the remote's full history reachable, then run `invoke recover`.",
                )
            done |= found
        return done

    def _commit_of(self, standing: Standing, batch: Batch, entries: list[Entry], step: chain.Step) -> _Plan:
        root, objects = write_tree(standing.tree, {**standing.adopted, **step.writes})
        blobs = {e.sequence: {n: make("blob", d).oid for n, d in e.payloads.items()} for e in entries}
        record = Transaction(
            reducer=self._settings.reducer,
            ordinal=step.state.ordinal,
            parent=standing.tip,
            tree=root,
            writer=batch.writer,
            settled=batch.settled,
            entries=chain.entry_records(batch, step, blobs),
            closes=list(batch.closes),
            recorded=standing.recorded if standing.recorded != standing.tip else None,
            nonce=self._random.hex(),
        )
        when = max(e.evidence.now for e in entries)
        commit = chain.make_recorded(self._settings.author, when, record)
        tree = TreeView(self._refs.read, root, standing.tree)
        return _Plan(
            standing.tip,
            batch.writer,
            entries,
            step.outcomes,
            commit.oid,
            [*objects, commit],
            Standing(commit.oid, tree, tree, step.state, commit.oid),
            standing if record.recorded else None,
        )

    def _tell_exposed(self, adopted: Standing) -> None:
        """Warns of secrets that commits made by hand have brought, once what they changed is adopted."""
        with suppress(LedgerError):  # an object that is missing is told of by whoever needs it
            for each in exposure.exposed_above(self._refs, adopted, self._settings.reducer):
                self._warn(f"Commit {each.commit[:12]}, made by hand: {each.words()}")

    def _carry(self, plan: _Plan, tries: int, until: float) -> bool:
        """Pushes a commit until its outcome is known. True: it is in the chain.

        A push that races with its own success is refused in the same words as a lock left behind, or as
        stale; what stands on the remote then is the only proof. A refusal is told at once, and believed of
        the push that it answers; the entries stay in doubt, for a copy of that push may come through.
        """
        while True:
            self.counts.pushes += 1
            pushed = self._refs.push(plan.commit, plan.tip)
            if pushed.kind == "landed":
                self.counts.commits += 1
                outcomes = {e.op: plan.outcomes[e.sequence] for e in plan.entries}
                self._store.settle(plan.writer, outcomes, (plan.tip, plan.commit))
                if plan.lands is not None:
                    self._branch.stand_on(plan.lands)
                if plan.adopts is not None:
                    self._tell_exposed(plan.adopts)
                return True
            if pushed.kind != "unknown" or not isinstance(pushed.error, LedgerUnreachable):
                break
            if self._clock.boottime() >= until:
                raise OutcomeUnknown(
                    f"The remote did not answer: {pushed.error.message if pushed.error else 'cut off'}",
                    remedy="It waits in the outbox. Run `invoke recover` once the remote answers.",
                ) from pushed.error
            self._clock.sleep(min(1.0, max(0.05, (until - self._clock.boottime()) / 8)))
            self._store.leader_lock.show_life(self._clock.boottime())
        self.counts.lost_races += pushed.kind == "stale"
        believed = tries >= _LOCKED_TRIES or not isinstance(pushed.error, LedgerRefLocked)
        if pushed.error is None or not believed:
            self._back_off(tries + 1, until)  # before the read: what is read is pushed on at once
        if self._branch.fetch() == plan.tip and pushed.error is not None and believed:
            raise pushed.error
        return False

    def _may_push(self, until: float) -> bool:
        """Keeps to the budget. False, after a wait: more may have been asked meanwhile, for the same push."""
        allowed = self._settings.pushes_per_minute
        if allowed is None:
            return True
        wait = self._store.spend(self._clock.boottime(), 60.0 / allowed, max(1, int(allowed / 6)))
        if wait > 0:
            self._insist_on_time(until)
            self._clock.sleep(min(wait, 1.0))
        return wait <= 0

    def _back_off(self, tries: int, until: float) -> None:
        """Waits a random time up to a bound that doubles (full jitter), after a lost race."""
        self._insist_on_time(until)
        bound = min(self._settings.backoff_limit, self._settings.backoff * 2 ** min(tries, 10))
        self._clock.sleep(bound * self._random.fraction())

    def _insist_on_time(self, until: float) -> None:
        if self._clock.boottime() >= until:
            raise LedgerBusy(
                "Others were quicker, or the remote's limit of pushes is reached; what was asked waits in the"
                " outbox.",
                remedy="Run `invoke recover`, or the command again.",
            )


def withdrawal(entry: Entry) -> dict[str, Any]:
    """Returns the request that undoes what an entry was granted, in the name of the same builder."""
    builder = entry.request.get("builder")
    return {"kind": "withdraw", "op": entry.op} | ({"builder": builder} if builder else {})


def _versions(entries: list[Entry]) -> dict[int, int]:
    return {entry.sequence: entry.version for entry in entries}

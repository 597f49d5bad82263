"""One transaction: from an entry in the outbox to a commit in the branch, exactly once.

`transact` enqueues and waits. Whoever of the builder's processes holds the leader's lock drains all
entries into one commit (group commit). `drain` is the whole algorithm; its steps:

    1. an open attempt first: push the same commit again, then read what became of it
    2. entries whose asker is gone are dropped (attached) or carried (deliver)
    3. decide all on the last tip seen, without fetching; look each up before it is applied
    4. nothing to write: answer, if a tip read begun after the request is still that tip
    5. otherwise write the commit, make the attempt durable, push it with a lease on its parent
    6. landed: answered.  stale: fetch, look up, decide again.  refused: read before believing it.
       unknown: the attempt stays open, and step 1 settles it

Guarantees, as long as no rewind goes unnoticed: an answered entry is in the chain exactly once, a refused
one never; an entry without an answer at most once, and the outbox knows that it is open.
Non-guarantees: no order between entries of different processes but the one that the chain shows; a fresh
store cannot notice a rewind that happened before its birth.
The interleavings that shaped each step stand in docs/explanation/ledger.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.edge.clock import Clock
from pipeline.edge.identity import Processes, Randomness
from pipeline.errors import (
    LedgerBusy,
    LedgerError,
    LedgerMissing,
    LedgerRewound,
    LedgerUnreachable,
    NotALedger,
    OutcomeUnknown,
    StoreError,
)
from pipeline.ledger import chain
from pipeline.ledger.chain import Batch, WriterConflict
from pipeline.ledger.objects import Object, Overlay, TreeView, make, make_commit, parse_commit, write_tree
from pipeline.ledger.ports import Pushed, RefStore
from pipeline.ledger.store import Attempt, Entry, Kind, Store
from pipeline.records import paths
from pipeline.records.decisions import Adopt, Decide, View
from pipeline.records.ledger import Evidence, LedgerState, Transaction


@dataclass(frozen=True)
class Settings:
    """Times in seconds. `leader_deadline`: a leader that shows nothing for so long is passed over."""

    author: str = "pipeline"
    reducer: int = 1
    leader_deadline: float = 15.0
    poll: float = 0.004
    backoff: float = 0.02
    backoff_limit: float = 2.0


@dataclass(frozen=True)
class Standing:
    """What a tip amounts to: the view to decide on.

    After a foreign commit `recorded` is the newest commit below the tip that a transaction made, `tree` is
    its tree, and `adopted` what the next transaction writes of the foreign changes.
    """

    tip: str
    tree: TreeView
    view: View
    state: LedgerState
    recorded: str
    adopted: Mapping[str, bytes | None] = field(default_factory=dict)


@dataclass
class Counts:
    """How much one process has cost the remote so far."""

    pushes: int = 0
    commits: int = 0
    fetches: int = 0
    lost_races: int = 0


@dataclass(frozen=True)
class _Plan:
    standing: Standing
    batch: Batch
    step: chain.Step
    attempt: Attempt | None
    objects: list[Object] = field(default_factory=list)


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
    ) -> None:
        self.store = store
        self.refs = refs
        self.counts = Counts()
        self._decide = decide
        self._adopt = adopt
        self._clock = clock
        self._random = random
        self._processes = processes
        self._settings = settings or Settings()
        self._standing: Standing | None = None

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
        sequence = self.enqueue(request, kind=kind, payloads=payloads, observations=observations)
        try:
            outcome = self._wait(sequence, self._clock.boottime() + patience)
        except BaseException:
            self._give_up(sequence, kind)
            raise
        self.store.take(sequence)
        return outcome

    def enqueue(
        self,
        request: Mapping[str, Any],
        *,
        kind: Kind = "deliver",
        payloads: Mapping[str, bytes] | None = None,
        observations: Mapping[str, Any] | None = None,
    ) -> int:
        """Puts a request into the outbox, durably, and returns its number. Talks to nobody."""
        evidence = Evidence(
            now=self._clock.now(), random=self._random.hex(), observations=dict(observations or {})
        )
        return self.store.enqueue(
            kind, self._random.op(), request, evidence, self._processes.myself(), payloads or {}
        )

    def view(self, *, fresh: bool = True) -> Standing:
        """Returns the state; `fresh` reads the remote first, otherwise the last tip seen will do."""
        if fresh or self.store.marks().tip is None:
            self._fetch()
        return self._stand()

    def deliver(self, patience: float = 60.0) -> list[Entry]:
        """Drains the outbox to its end and takes what dead processes left: their entries, with outcomes.

        Raises as `transact`. After it nothing of an earlier command is waiting here.
        """
        until = self._clock.boottime() + patience
        while self.store.open_entries() or self.store.attempt():
            with self.store.leading() as leads:
                if leads or self._leader_is_stopped():
                    self.drain(until)
                else:
                    self._pause(until)
        left = [
            e for e in self.store.entries() if e.outcome is not None and not self._processes.alive(e.asker)
        ]
        for entry in left:
            if entry.kind == "attached" and entry.outcome and entry.outcome.get("ok"):
                self.enqueue({"kind": "withdraw", "op": entry.op})
            self.store.take(entry.sequence)
        if any(e.kind == "attached" for e in left):
            self.deliver(until - self._clock.boottime())
        return left

    def _wait(self, sequence: int, until: float) -> dict[str, Any]:
        while True:
            answer = self.store.answer(sequence)
            if answer is not None:
                return answer
            with self.store.leading() as leads:
                if leads or self._leader_is_stopped():
                    if self.store.answer(sequence) is None:
                        self.drain(until)
                    continue
            self._pause(until)

    def _pause(self, until: float) -> None:
        if self._clock.boottime() >= until:
            raise OutcomeUnknown(
                "The ledger gave no answer in time; what was asked waits in the outbox.",
                remedy="Run `invoke recover` once the remote answers again.",
            )
        self._clock.sleep(self._settings.poll * (0.5 + self._random.fraction()))

    def _give_up(self, sequence: int, kind: Kind) -> None:
        """Withdraws an attached entry; one that may be on its way is settled by whoever drains next."""
        if kind == "attached":
            self.store.drop(sequence)

    def _leader_is_stopped(self) -> bool:
        return self.store.leader_age(self._clock.now().timestamp()) > self._settings.leader_deadline

    # ------------------------------------------------------------ the transaction

    def drain(self, until: float) -> None:
        """Answers every open entry. Two leaders at once are safe: the store's arrows are compare-and-swap."""
        tries = 0
        while True:
            held = self.store.attempt()
            if held is not None:
                attempt, objects, entries = held
                self.refs.write(objects)
                settled = self._carry(attempt, dict(entries), until)
                tries = 0 if settled else tries + 1
                self._back_off(tries, until)
                continue
            entries_open = self._live(self.store.open_entries())
            if not entries_open:
                return
            try:
                plan = self._plan(self._stand(), entries_open)
            except WriterConflict:
                self._be_reborn(entries_open)
                continue
            if plan is None:
                continue
            if plan.attempt is None:
                self._answer_unpushed(plan)
            elif self.store.begin_attempt(plan.attempt, list(plan.step.outcomes), plan.objects):
                self.refs.write(plan.objects)

    def _plan(self, standing: Standing, entries: list[Entry]) -> _Plan | None:
        """Decides the entries on a standing. None: some were found in the history; look again."""
        marks = self.store.marks()
        known = standing.state.writers.get(marks.writer)
        if marks.known and (known is None or known.closed):
            raise WriterConflict(f"the ledger does not know writer {marks.writer}, or closed it")
        found = self._found_in_history(standing, [e for e in entries if e.searched])
        for entry in entries:
            outcome = chain.lookup(standing.state, marks.writer, entry.sequence, entry.op)
            if outcome is not None:
                found[entry.sequence] = outcome
        if found:
            self.store.answer_unpushed(marks.writer, found)
            return None
        batch = Batch(marks.writer, self.store.floor(), entries, marks.closes)
        step = chain.advance(standing.view, batch, self._decide)
        if not step.changed:
            return _Plan(standing, batch, step, None)
        root, objects = write_tree(standing.tree, {**standing.adopted, **step.writes})
        blobs = {e.sequence: {n: make("blob", d).oid for n, d in e.payloads.items()} for e in entries}
        record = Transaction(
            reducer=self._settings.reducer,
            ordinal=step.ordinal,
            parent=standing.tip,
            tree=root,
            writer=batch.writer,
            settled=batch.settled,
            entries=chain.entry_records(batch, step, blobs),
            closes=list(batch.closes),
            recorded=standing.recorded if standing.recorded != standing.tip else None,
            nonce=self._random.hex(),
        )
        subject = chain.subject_of(
            self._settings.author, [e.request for e in entries], [step.outcomes[e.sequence] for e in entries]
        )
        seconds = int(max(e.evidence.now for e in entries).timestamp())
        author = f"{self._settings.author} <{self._settings.author}@builders.invalid>"
        commit = make_commit(root, [standing.tip], author, seconds, chain.encode_message(subject, record))
        attempt = Attempt(commit.oid, standing.tip, batch.writer, False)
        return _Plan(standing, batch, step, attempt, [*objects, commit])

    def _carry(self, attempt: Attempt, ops: Mapping[int, str], until: float) -> bool:
        """Pushes an attempt until its outcome is known. True: it is in the chain."""
        while True:
            self.counts.pushes += 1
            pushed = self.refs.push(attempt.commit, attempt.parent)
            if pushed.kind == "landed":
                record = self._record_of(attempt.commit)
                outcomes = {e.sequence: e.outcome for e in record.entries}
                self.counts.commits += 1
                self.store.finish_attempt(attempt.commit, outcomes, attempt.commit)
                return True
            if pushed.kind == "unknown":
                self.store.doubt_attempt(attempt.commit)
                attempt = attempt._replace(uncertain=True)
                self._wait_for_remote(pushed, until)
                continue
            return self._read_what_became(attempt, ops, pushed)

    def _read_what_became(self, attempt: Attempt, ops: Mapping[int, str], pushed: Pushed) -> bool:
        """Settles an attempt that was turned down: the remote's words are not believed before its state.

        A push that races with its own success is refused in the same words as a lock left behind, or as
        stale; the completion record in what stands there now is the only proof.
        """
        self._fetch()
        standing = self._stand()
        outcomes: dict[int, dict[str, Any]] = {}
        try:
            for sequence, op in ops.items():
                outcome = chain.lookup(standing.state, attempt.writer, sequence, op)
                if outcome is not None:
                    outcomes[sequence] = outcome
        except WriterConflict:
            if self.store.attempt() is None or self.store.marks().writer != attempt.writer:
                return False
            self.store.rebirth(attempt.writer, self._random.op())
            return False
        if ops and len(outcomes) == len(ops):
            self.store.finish_attempt(attempt.commit, outcomes)
            return True
        if standing.tip == attempt.parent and attempt.uncertain:
            raise pushed.error or LedgerBusy("The remote turned a push down that may still be applied.")
        self.counts.lost_races += 1
        self.store.abandon_attempt(attempt.commit)
        if pushed.kind == "refused":
            assert pushed.error is not None
            raise pushed.error
        return False

    def _answer_unpushed(self, plan: _Plan) -> None:
        """Answers refusals and what was so already: only on a tip read that began after the requests."""
        if self._fetch() == plan.standing.tip:
            self.store.answer_unpushed(plan.batch.writer, plan.step.outcomes)

    def _live(self, entries: list[Entry]) -> list[Entry]:
        """Leaves out, and drops, what nobody waits for: attached entries whose asker is gone."""
        live = []
        for entry in entries:
            if entry.kind == "attached" and not self._processes.alive(entry.asker):
                self.store.drop(entry.sequence)
            else:
                live.append(entry)
        return live

    def _be_reborn(self, seen: list[Entry]) -> None:
        """Takes a new writer id, unless another leader finished these entries or was reborn meanwhile."""
        marks = self.store.marks()
        pending = {e.sequence for e in self.store.open_entries()}
        if self.store.attempt() is not None or not {e.sequence for e in seen} <= pending:
            return
        self._fetch()
        state = self._stand().state
        known = state.writers.get(marks.writer)
        try:
            for entry in seen:
                chain.lookup(state, marks.writer, entry.sequence, entry.op)
            if not (marks.known and (known is None or known.closed)):
                return
        except WriterConflict:
            pass
        self.store.rebirth(marks.writer, self._random.op())

    def _found_in_history(self, standing: Standing, entries: list[Entry]) -> dict[int, dict[str, Any]]:
        """Looks a reborn store's entries up by op id, from the base of each through the parent."""
        found: dict[int, dict[str, Any]] = {}
        for base in {e.base for e in entries}:
            commits = self.refs.since(standing.tip, base)
            if commits is None:
                raise StoreError(
                    f"The history since {base} is cut off: it cannot be told what of the outbox was applied.",
                    remedy="Make the remote's full history reachable, then run `invoke recover`.",
                )
            ops = {e.op: e.outcome for c in commits for e in self._entries_of(c)}
            found.update({e.sequence: ops[e.op] for e in entries if e.base == base and e.op in ops})
        return found

    def _back_off(self, tries: int, until: float) -> None:
        """Waits a random time up to a bound that doubles (full jitter), after a lost race."""
        if tries == 0:
            return
        if self._clock.boottime() >= until:
            raise LedgerBusy(
                f"Others were quicker {tries} times in a row; what was asked waits in the outbox.",
                remedy="Run `invoke recover`, or the command again.",
            )
        bound = min(self._settings.backoff_limit, self._settings.backoff * 2 ** min(tries, 10))
        self._clock.sleep(bound * self._random.fraction())

    def _wait_for_remote(self, pushed: Pushed, until: float) -> None:
        if self._clock.boottime() >= until:
            raise OutcomeUnknown(
                f"The remote did not answer: {pushed.error.message if pushed.error else 'connection lost'}",
                remedy="It waits in the outbox. Run `invoke recover` once the remote answers.",
            ) from pushed.error
        self._clock.sleep(min(1.0, max(0.05, (until - self._clock.boottime()) / 8)))

    # ------------------------------------------------------------ what the remote holds

    def _fetch(self) -> str:
        """Reads the remote's tip and moves the mark to it. Raises LedgerRewound if it lacks the mark.

        The mark is read BEFORE the remote, and moved only to descendants: otherwise a commit of another
        process between the two reads would look like a rewind.
        """
        while True:
            mark = self.store.marks().tip
            tip = self.refs.fetch()
            self.counts.fetches += 1
            if tip is None and mark is None:
                raise LedgerMissing("The remote has no ledger yet.", remedy="Run `invoke ledger.init`.")
            if mark is None:
                assert tip is not None
                self._insist_on_ledger(tip)
            elif tip != mark:
                self._insist_on_descendant(tip, mark)
            assert tip is not None
            if mark == tip or self.store.advance_tip(mark, tip):
                return tip

    def _insist_on_descendant(self, tip: str | None, mark: str) -> None:
        contained = self.refs.contains(tip, mark) if tip is not None else False
        if contained is None:
            raise LedgerError(
                f"The history between {mark[:12]} and the remote's tip is cut off.",
                remedy="Make the full history reachable on the remote.",
            )
        if not contained:
            raise LedgerRewound(
                f"The remote was rewound: it is at {(tip or 'nothing')[:12]}, which lacks {mark[:12]}, the last "
                "commit that this machine has seen. Nothing is written any more.",
                remedy=f"Push {mark[:12]} back from a clone that has it, or run `invoke ledger.raise_epoch`.",
            )

    def _insist_on_ledger(self, tip: str) -> None:
        if TreeView(self._read, self._commit(tip).tree).read(paths.LEDGER) is None:
            raise NotALedger(
                f"The branch holds something else: its tip {tip[:12]} has no `{paths.LEDGER}`.",
                remedy="Point `ledger` at another repository, or run `invoke ledger.init` on an empty one.",
            )

    def _stand(self) -> Standing:
        """Returns what the last tip seen amounts to; foreign commits on it are adopted or quarantined."""
        tip = self.store.marks().tip
        if tip is None:
            tip = self._fetch()
        if self._standing is not None and self._standing.tip == tip:
            return self._standing
        recorded = self._last_recorded(tip)
        tree = TreeView(self._read, self._commit(recorded).tree)
        view: View = tree
        adopted: Mapping[str, bytes | None] = {}
        if recorded != tip:
            foreign = TreeView(self._read, self._commit(tip).tree)
            ordinal = chain.read_state(tree).ordinal + 1
            view = overlay = chain.adopt_foreign(tree, foreign, tip, self._adopt, ordinal)
            adopted = overlay.writes
        self._standing = Standing(tip, tree, view, chain.read_state(view), recorded, adopted)
        return self._standing

    def _last_recorded(self, tip: str) -> str:
        """Walks ALL parents of foreign commits to the newest recorded one.

        A merge made by hand can hide the ledger's side behind its second parent. A recorded commit ends
        the walk: its own writer has looked at what was below.
        """
        pending, seen, recorded = [tip], {tip}, {}
        while pending:
            oid = pending.pop()
            commit = self._commit(oid)
            transaction = chain.read_record(commit, self._settings.reducer)
            if transaction is not None:
                recorded[oid] = transaction.ordinal
                continue
            for parent in commit.parents:
                if parent not in seen:
                    seen.add(parent)
                    pending.append(parent)
        if not recorded:
            raise NotALedger(
                f"No commit below {tip[:12]} was made by a ledger.",
                remedy="Run `invoke ledger.init` on an empty repository.",
            )
        newest = max(recorded.values())
        best = sorted(oid for oid, ordinal in recorded.items() if ordinal == newest)
        if len(best) > 1:
            raise LedgerError(
                f"Two chains meet below {tip[:12]}: {best[0][:12]} and {best[1][:12]} are transaction {newest}.",
                remedy="Reset the branch to the right one, then run `invoke ledger.raise_epoch`.",
            )
        return best[0]

    def _read(self, oid: str) -> Object | None:
        return self.refs.read(oid)

    def _commit(self, oid: str) -> Any:
        found = self.refs.read(oid)
        if found is None or found.kind != "commit":
            raise LedgerError(
                f"Commit {oid} is missing from the local clone.", remedy="Run `invoke recover`."
            )
        return parse_commit(found.data)

    def _record_of(self, oid: str) -> Transaction:
        record = chain.read_record(self._commit(oid), self._settings.reducer)
        assert record is not None
        return record

    def _entries_of(self, oid: str) -> list[Any]:
        record = chain.read_record(self._commit(oid), self._settings.reducer)
        return list(record.entries) if record is not None else []


def initialise(
    refs: RefStore, files: Mapping[str, bytes], author: str, clock: Clock, random: Randomness, reducer: int
) -> str:
    """Makes a ledger on a branch that does not exist yet, from its initial files, and returns its commit.

    Raises NotALedger if the branch is there already.
    """
    root, objects = write_tree(TreeView(refs.read, make("tree", b"").oid), files)
    record = Transaction(
        reducer=reducer,
        ordinal=0,
        kind="genesis",
        parent=None,
        tree=root,
        writer="",
        settled=0,
        nonce=random.hex(),
    )
    message = chain.encode_message(f"{author}: the ledger begins", record)
    commit = make_commit(
        root, [], f"{author} <{author}@builders.invalid>", int(clock.now().timestamp()), message
    )
    refs.write([*objects, commit])
    pushed = refs.push(commit.oid, None)
    if pushed.kind == "landed":
        return commit.oid
    tip = refs.fetch()
    if tip == commit.oid:
        return tip
    if tip is not None:
        raise NotALedger("The branch exists already.", remedy="Use it as it is, or name another branch.")
    raise pushed.error or LedgerUnreachable("The remote did not take the first commit.")


__all__ = ["Counts", "Ledger", "Overlay", "Settings", "Standing", "initialise", "replace"]
Told = Callable[[str], None]

"""One transaction: from an entry in the outbox to a commit in the branch, exactly once.

`transact` enqueues and waits. Whoever of the builder's processes holds the leader's lock drains all
entries into one commit (group commit). `drain` is the whole algorithm; its steps:

    1. look: the entries, the writer id and the last tip seen, as of one moment
    2. settle what is in the chain already; drop what nobody waits for and what was never pushed
    3. decide the others on that tip, without fetching; what may be on its way for a dead asker is withdrawn
    4. nothing to write, and no push of these entries can still land: answer, if a read of the tip begun
       after the requests is that tip
    5. otherwise write the commit, note the attempt durably, push it with a lease on its parent
    6. landed: answered.  stale: fetch and begin again.  refused: read before believing it.
       unknown: push it again while this process waits; whoever comes later begins at 1

Two pushes of one entry, by whomever, are commits on the same parent, of which one lands at most, or the
later one is decided on a state in which the earlier is looked up. So nothing but the entries outlives a
process: no attempt has to be found again, and one that a hook refuses holds nothing up.

Guarantees, as long as no rewind goes unnoticed: an answered entry is in the chain exactly once, a refused
one never; an entry without an answer at most once, and the outbox knows that it is open.
Non-guarantees: no order between entries of different processes but the one that the chain shows; a fresh
store cannot notice a rewind that happened before its birth; a store restored from a backup does not know
of a push that was under way when it was lost, so what it refuses meanwhile may still be applied.
The interleavings that shaped each step stand in docs/explanation/ledger.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.edge.clock import Clock
from pipeline.edge.git_objects import (
    RENEW,
    Commit,
    Object,
    TreeView,
    make,
    make_commit,
    parse_commit,
    write_tree,
)
from pipeline.edge.identity import Processes, Randomness
from pipeline.edge.ref_store import RefStore
from pipeline.errors import (
    LedgerBusy,
    LedgerError,
    LedgerMissing,
    LedgerRefLocked,
    LedgerRewound,
    LedgerUnreachable,
    NotALedger,
    OutcomeUnknown,
    StoreError,
)
from pipeline.ledger import chain
from pipeline.ledger.chain import Batch, WriterConflict
from pipeline.ledger.check import recompute
from pipeline.ledger.store import Entry, Kind, Outbox, Store
from pipeline.records import paths
from pipeline.records.decisions import Adopt, Decide, View
from pipeline.records.ledger import EntryRecord, Evidence, LedgerState, Transaction

#: Returns a request as it may be written. What it raises is raised to the asker, and nothing is kept.
Admit = Callable[[Mapping[str, Any]], Mapping[str, Any]]

#: So often a ref's lock may be another push at work; then it was left behind.
_LOCKED_TRIES = 4


@dataclass(frozen=True)
class Settings:
    """Times in seconds. `leader_deadline`: a leader that shows no life for so long is passed over.

    `pushes_per_minute` is this builder's share of what the remote allows; what waits for it is coalesced.
    """

    author: str = "pipeline"
    reducer: int = 1
    leader_deadline: float = 15.0
    poll: float = 0.012
    backoff: float = 0.02
    backoff_limit: float = 2.0
    pushes_per_minute: float | None = None


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
    """What became of the entries on one tip. No commit: nothing has to be written, so nothing pushed.

    `lands` is what stands once the commit has landed.
    """

    tip: str
    writer: str
    entries: list[Entry]
    versions: Mapping[int, int]
    outcomes: Mapping[int, dict[str, Any]]
    commit: str = ""
    objects: list[Object] = field(default_factory=list)
    lands: Standing | None = None


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
    ) -> None:
        """`admit` sees every request before the outbox does, and may refuse it."""
        self.store = store
        self.refs = refs
        self.counts = Counts()
        self._decide = decide
        self._adopt = adopt
        self._clock = clock
        self._random = random
        self._processes = processes
        self._settings = settings or Settings()
        self._admit = admit
        self._standing: Standing | None = None
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
        return self._enqueue(request, kind, payloads, observations, durable=True)

    def view(self, *, fresh: bool = True) -> Standing:
        """Returns the state; `fresh` reads the remote first, otherwise the last tip seen will do."""
        tip = None if fresh else self.store.tip()
        return self._stand(tip if tip and self.refs.read(tip) else self._fetch())

    def deliver(self, patience: float = 60.0) -> list[Entry]:
        """Drains the outbox to its end and takes what dead processes left: their entries, with outcomes.

        What an *attached* one was granted is withdrawn. Raises as `transact`; after it nothing of an
        earlier command is waiting here.
        """
        until = self._clock.boottime() + patience
        while self.store.look().entries:
            self._lead_or_pause(until)
        left = [e for e in self.store.entries() if e.outcome and not self._processes.alive(e.asker)]
        for entry in left:
            if entry.kind == "attached" and entry.outcome and entry.outcome.get("ok"):
                self.transact(_withdrawal(entry), patience=until - self._clock.boottime())
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
        mark, tip = self.store.tip(), self.refs.fetch()
        if mark is None or tip is None or self.refs.contains(tip, mark):
            raise LedgerError(
                f"The remote's tip {(tip or 'none')[:12]} is no rewind of {(mark or 'nothing')[:12]}.",
                remedy="Run `invoke ledger.check`.",
            )
        self._insist_on_ledger(tip)
        known = self.refs.read(mark)
        abandoned = TreeView(self.refs.read, parse_commit(known.data).tree) if known else None
        sequence = self.enqueue(request_of(mark, abandoned))
        self.store.accept_rewind(mark, tip, self._random.op())
        outcome = self._wait(sequence, self._clock.boottime() + patience)
        self.store.take(sequence)
        return outcome

    def maintain(self) -> None:
        """Keeps the clone, and a remote of our own, small. Costs nothing unless it is due."""
        with self.store.leading(self._clock.boottime(), self._settings.leader_deadline) as leads:
            if leads:
                self.refs.maintain()

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
        while True:
            answer = self.store.answer(sequence)
            if answer is not None:
                return answer
            self._lead_or_pause(until, sequence)

    def _lead_or_pause(self, until: float, own: int | None = None) -> None:
        with self.store.leading(self._clock.boottime(), self._settings.leader_deadline) as leads:
            if leads:
                self.drain(until, own)
                return
        if self._clock.boottime() >= until:
            raise OutcomeUnknown(
                "The ledger gave no answer in time; what was asked waits in the outbox.",
                remedy="Run `invoke recover` once the remote answers again.",
            )
        self._clock.sleep(self._settings.poll * (0.5 + self._random.fraction()))

    # ------------------------------------------------------------ the transaction

    def drain(self, until: float, own: int | None = None) -> None:
        """Answers every open entry; a leader who only wants its `own` leaves what came later to the next.

        Two leaders at once are safe: the store's arrows are compare-and-swap.
        """
        tries = 0
        read: tuple[str, int] | None = None  # a tip, and the last entry that was there before it was read
        while True:
            self.store.show_life(self._clock.boottime())
            outbox = self.store.look()
            if not any(own in (None, entry.sequence) for entry in outbox.entries):
                return
            try:
                plan = self._plan(outbox)
            except WriterConflict:
                self.store.rebirth(outbox.writer, self._random.op(), _versions(outbox.entries))
                continue
            if plan is None:
                continue
            last = plan.entries[-1].sequence
            if not plan.commit and read is not None and read[0] == plan.tip and last <= read[1]:
                self.store.answer_unpushed(plan.writer, plan.versions, plan.outcomes)
            elif not plan.commit:
                read = (self._fetch(), last)
                self._insist_on_time(until)
            elif self._may_push(until):
                self.refs.write(plan.objects)
                if self.store.begin_attempt(plan.tip, plan.writer, plan.versions):
                    tries = 0 if self._carry(plan, tries, until) else tries + 1
                    self._back_off(tries, until)

    def _plan(self, outbox: Outbox) -> _Plan | None:
        """Decides the entries on the last tip seen. None: some were settled or dropped; look again.

        Raises WriterConflict where the ledger's record of this writer is not this store's.
        """
        if outbox.tip is None or self.refs.read(outbox.tip) is None:
            self._fetch()
            return None
        standing = self._stand(outbox.tip)
        if outbox.known:
            chain.insist_on_writer(standing.state, outbox.writer)
        done = self._found_in_history(standing.tip, [e for e in outbox.entries if e.writer != outbox.writer])
        for entry in outbox.entries:
            outcome = chain.lookup(standing.state, outbox.writer, entry.sequence, entry.op)
            if outcome is not None:
                done[entry.op] = outcome
        if done:
            self.store.settle(outbox.writer, done)
            return None
        attached = [e for e in outbox.entries if e.kind == "attached" and e.asker != self._me]
        gone = [e for e in attached if not self._processes.alive(e.asker)]
        dropped = [self.store.drop(entry.sequence) for entry in gone if entry.doubt is None]
        if any(dropped):
            return None
        entries = [replace(e, request=_withdrawal(e)) if e in gone else e for e in outbox.entries]
        batch = Batch(outbox.writer, outbox.floor, entries, outbox.closes)
        step = chain.advance(standing.view, batch, self._decide, standing.state)
        if not step.changed and all(entry.doubt != standing.tip for entry in entries):
            return _Plan(standing.tip, outbox.writer, entries, _versions(entries), step.outcomes)
        return self._commit_of(standing, batch, entries, step)

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
        subject = chain.subject_of(
            self._settings.author, [e.request for e in entries], [step.outcomes[e.sequence] for e in entries]
        )
        seconds = int(max(e.evidence.now for e in entries).timestamp())
        author = f"{self._settings.author} <{self._settings.author}@builders.invalid>"
        commit = make_commit(root, [standing.tip], author, seconds, chain.encode_message(subject, record))
        tree = TreeView(self.refs.read, root, standing.tree)
        return _Plan(
            standing.tip,
            batch.writer,
            entries,
            _versions(entries),
            step.outcomes,
            commit.oid,
            [*objects, commit],
            Standing(commit.oid, tree, tree, step.state, commit.oid),
        )

    def _carry(self, plan: _Plan, tries: int, until: float) -> bool:
        """Pushes a commit until its outcome is known. True: it is in the chain.

        A push that races with its own success is refused in the same words as a lock left behind, or as
        stale; what stands on the remote then is the only proof.
        """
        uncertain = False
        while True:
            self.counts.pushes += 1
            pushed = self.refs.push(plan.commit, plan.tip)
            if pushed.kind == "landed":
                self.counts.commits += 1
                outcomes = {e.op: plan.outcomes[e.sequence] for e in plan.entries}
                self.store.settle(plan.writer, outcomes, (plan.tip, plan.commit))
                self._standing = plan.lands
                return True
            if pushed.kind != "unknown":
                break
            uncertain = True
            if not isinstance(pushed.error, LedgerUnreachable):
                break
            if self._clock.boottime() >= until:
                raise OutcomeUnknown(
                    f"The remote did not answer: {pushed.error.message if pushed.error else 'cut off'}",
                    remedy="It waits in the outbox. Run `invoke recover` once the remote answers.",
                ) from pushed.error
            self._clock.sleep(min(1.0, max(0.05, (until - self._clock.boottime()) / 8)))
            self.store.show_life(self._clock.boottime())
        if not uncertain:
            self.store.clear_attempt(plan.versions, {e.sequence: e.doubt for e in plan.entries})
        self.counts.lost_races += pushed.kind == "stale"
        believed = tries >= _LOCKED_TRIES or not isinstance(pushed.error, LedgerRefLocked)
        if self._fetch() == plan.tip and pushed.error is not None and believed:
            raise pushed.error
        return False

    def _may_push(self, until: float) -> bool:
        """Keeps to the budget. False, after a wait: more may have been asked meanwhile, for the same push."""
        allowed = self._settings.pushes_per_minute
        if allowed is None:
            return True
        wait = self.store.spend(self._clock.boottime(), 60.0 / allowed, max(1, int(allowed / 6)))
        if wait > 0:
            self._insist_on_time(until)
            self._clock.sleep(min(wait, 1.0))
        return wait <= 0

    def _back_off(self, tries: int, until: float) -> None:
        """Waits a random time up to a bound that doubles (full jitter), after a lost race."""
        if tries > 0:
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

    def _found_in_history(self, tip: str, entries: list[Entry]) -> dict[str, dict[str, Any]]:
        """Looks entries of an earlier life up by op id, from the base of each through the tip."""
        found: dict[str, dict[str, Any]] = {}
        for base in {e.base for e in entries}:
            commits = self.refs.since(tip, base)
            if commits is None:
                raise StoreError(
                    f"The history since {base} is cut off: it cannot be told what of the outbox was applied.",
                    remedy="Make the remote's full history reachable, then run `invoke recover`.",
                )
            wanted = {e.op for e in entries if e.base == base}
            found.update((r.op, r.outcome) for c in commits for r in self._entries_of(c) if r.op in wanted)
        return found

    # ------------------------------------------------------------ what the remote holds

    def _fetch(self) -> str:
        """Reads the remote's tip and moves the mark to it. Raises LedgerRewound if it lacks the mark.

        The mark is read BEFORE the remote, and moved only to descendants: otherwise a commit of another
        process between the two reads would look like a rewind.
        """
        while True:
            mark = self.store.tip()
            tip = self.refs.fetch()
            self.counts.fetches += 1
            if tip is None and mark is None:
                raise LedgerMissing("The remote has no ledger yet.", remedy="Run `invoke ledger.init`.")
            if tip is not None and tip == mark:
                return tip
            if mark is None:
                assert tip is not None
                self._insist_on_ledger(tip)
            elif tip is None or not self._descends(tip, mark):
                self._join_repair(tip, mark)
                continue
            if self.store.advance_tip(mark, tip):
                return tip

    def _descends(self, tip: str, mark: str) -> bool:
        contained = self.refs.contains(tip, mark)
        if contained is None:
            raise LedgerError(
                f"The history between {mark[:12]} and the remote's tip is cut off.",
                remedy="Make the full history reachable on the remote.",
            )
        return contained

    def _join_repair(self, tip: str | None, mark: str) -> None:
        """Follows a repair that names what this store has seen as abandoned. Raises LedgerRewound for none.

        Believed only if every transaction since then can be computed again: the repair is one of them.
        """
        standing = self._stand(tip) if tip is not None else None
        if standing is not None and any(
            abandoned == mark or self.refs.contains(abandoned, mark)
            for abandoned in standing.state.abandoned_tips
        ):
            since = self.refs.since(standing.recorded, mark)
            records = [r for r in map(self._record_of, since or []) if r is not None]
            if since is not None and not any(
                recompute(self.refs, r, self._decide, self._adopt) for r in records if r.parent
            ):
                self.store.accept_rewind(mark, standing.tip, self._random.op())
                return
        raise LedgerRewound(
            f"The remote was rewound: it is at {(tip or 'nothing')[:12]}, which lacks {mark[:12]}, the last "
            "commit that this machine has seen. Nothing is written any more.",
            remedy=f"Push {mark[:12]} back from a clone that has it, or run `invoke ledger.raise-epoch`.",
        )

    def _insist_on_ledger(self, tip: str) -> None:
        if TreeView(self.refs.read, self._commit(tip).tree).read(paths.LEDGER) is None:
            raise NotALedger(
                f"The branch holds something else: its tip {tip[:12]} has no `{paths.LEDGER}`.",
                remedy="Point `ledger` at another repository, or run `invoke ledger.init` on an empty one.",
            )

    def _stand(self, tip: str) -> Standing:
        """Returns what a tip amounts to; foreign commits on it are adopted or quarantined."""
        if self._standing is not None and self._standing.tip == tip:
            return self._standing
        recorded = self._last_recorded(tip)
        tree = TreeView(self.refs.read, self._commit(recorded).tree)
        view: View = tree
        adopted: Mapping[str, bytes | None] = {}
        if recorded != tip:
            foreign = TreeView(self.refs.read, self._commit(tip).tree)
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
                f"Two chains meet below {tip[:12]}: {best[0][:12]} and {best[1][:12]} are both {newest}.",
                remedy="Reset the branch to the right one, then run `invoke ledger.raise-epoch`.",
            )
        return best[0]

    def _commit(self, oid: str) -> Commit:
        found = self.refs.read(oid)
        if found is None or found.kind != "commit":
            raise LedgerError(f"Commit {oid} is missing from the local clone.", remedy=RENEW)
        return parse_commit(found.data)

    def _record_of(self, oid: str) -> Transaction | None:
        return chain.read_record(self._commit(oid), self._settings.reducer)

    def _entries_of(self, oid: str) -> list[EntryRecord]:
        record = self._record_of(oid)
        return record.entries if record is not None else []


def _withdrawal(entry: Entry) -> dict[str, Any]:
    """Returns the request that undoes what an entry was granted, in the name of the same builder."""
    builder = entry.request.get("builder")
    return {"kind": "withdraw", "op": entry.op} | ({"builder": builder} if builder else {})


def _versions(entries: list[Entry]) -> dict[int, int]:
    return {entry.sequence: entry.version for entry in entries}


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

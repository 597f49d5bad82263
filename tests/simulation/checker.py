"""The checker: follows the branch commit by commit, computes each again, and applies every invariant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.coordination.draft import Draft
from pipeline.edge.git_objects import EMPTY_TREE, Object, TreeView, changed_paths
from pipeline.ledger import chain
from pipeline.ledger.check import recompute
from pipeline.records import paths
from pipeline.records.decisions import Context, View
from pipeline.records.ledger import Evidence, Transaction
from pipeline.records.locks import Token
from tests.simulation.invariants import INVARIANTS, History, State, Step, grants, violated

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.notary import Notary
    from tests.simulation.world import World

#: A newer version of the records than every node's: the checker reads what any of them wrote.
NEWEST = 99
#: The product's own functions as they were when this was imported: a mutant is judged by the right ones.
_read_record = chain.read_record
_FILES = (paths.JOBS, paths.LOCKS, paths.LEDGER, paths.MESSAGES, paths.MAILBOX)


class Link:
    """One commit of the chain, and what its tree holds."""

    __slots__ = ("commit", "foreign", "highest", "ops", "record", "recorded", "state", "tree")

    def __init__(self, commit: str, tree: TreeView, state: State) -> None:
        self.commit, self.tree, self.state = commit, tree, state
        self.record: Transaction | None = None
        self.ops: list[str] = []
        self.highest = Token(0, 0, "-")
        self.foreign = False
        #: Of one that was made by hand, the last recorded one below it.
        self.recorded: Link | None = None


class Checker:
    """The chain as it stands. `applied` are its operations and what came of each, `abandoned` those that
    rewinds took back, each with the commits that were lost and what it had come to there.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.links: list[Link] = []
        #: Every tip that ever stood, and since when; what a rewind lost stood until then.
        self._stood: list[tuple[float, Link]] = []
        self.where: dict[str, int] = {}
        self.applied: dict[str, dict[str, Any]] = {}
        self.abandoned: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        #: When the remote was rewound last.
        self.rewound_at = float("-inf")
        self.history = History()
        self.commits = 0
        self.transactions = 0
        #: The last tip that each node's store has seen, kept apart from the store.
        self.seen: dict[str, str] = {}
        self._refs = _Refs(world)
        #: Who signed what, where something is signed.
        self.notary: Notary | None = None

    @property
    def state(self) -> State:
        return self.links[-1].state

    def begin(self, commit: str) -> None:
        """Starts with the ledger's first commit."""
        tree = TreeView(self._refs.read, self._commit(commit).tree)
        self.links.append(Link(commit, tree, self._state(tree, None)))
        self.where[commit] = 0
        self._stands()

    def views_since(self, moment: float) -> Iterator[View]:
        """Yields the states that were the tip's at some time since a moment, the latest first."""
        for since, link in reversed(self._stood):
            yield self.standing(link)
            if since < moment:
                return

    # ------------------------------------------------------------ what moves the branch

    def landed(self, commit: str, before: str | None) -> None:
        """A push moved the branch: everything is checked here."""
        witness, last = self.world.witness, self.links[-1]
        self.commits += 1
        if before != last.commit or before not in self._commit(commit).parents:
            violated("only-children-land", f"{commit[:10]} replaced {str(before)[:10]} and is no child of it")
        record = _read_record(self._commit(commit), NEWEST)
        if record is None:
            violated("only-transactions-land", f"{commit[:10]} carries no record that is bound to it")
            return
        link = Link(commit, TreeView(self._refs.read, record.tree, last.tree), last.state)
        base = last.recorded or last
        link.state, link.record = self._state(link.tree, base), record
        problem = recompute(self._refs, record, self.world.decide, self.world.adopt)
        if problem:
            violated("trees-compute-again", problem)
        for entry in record.entries:
            self.transactions += 1
            if entry.op in self.applied:
                violated("applied-once", f"{entry.op} ({entry.request}) lands again in {commit[:10]}")
            self.applied[entry.op] = entry.outcome
            link.ops.append(entry.op)
            witness.landed(entry.op, entry.request, entry.outcome, commit)
        step = self._step(link, base, record, last)
        pusher, seen, _ = witness.pushers.get(commit, (None, None, None))
        self._facts(step, pusher, last.foreign)
        if pusher is not None:
            self._writer(step, pusher, seen)
        for check in INVARIANTS:
            check(step)
        self._epochs(step)
        link.highest = self._highest(step)
        self._append(link)
        self._stands()

    def foreign(self, commit: str) -> None:
        """Somebody committed by hand on the tip."""
        last = self.links[-1]
        link = Link(commit, last.tree, last.state)
        link.foreign, link.highest, link.recorded = True, last.highest, last.recorded or last
        self._append(link)
        self._stands()

    def rewound(self, commit: str) -> None:
        """The remote lost everything after a commit of the chain."""
        position = self.where[commit]
        for link in self.links[position + 1 :]:
            for op in link.ops:
                self.abandoned.setdefault(op, []).append((link.commit, self.applied.pop(op)))
            del self.where[link.commit]
        del self.links[position + 1 :]
        self.history.rewind(position)
        self.rewound_at = self.world.scheduler.now
        self._stands()

    def put_back(self, link: list[Link]) -> None:
        """The remote has again what it had lost."""
        for each in link:
            for op in each.ops:
                self.applied[op] = next(out for oid, out in self.abandoned[op] if oid == each.commit)
                self.abandoned[op].remove((each.commit, self.applied[op]))
            self._append(each)
        self._stands()

    def came_to(self, op: str, node: str) -> tuple[list[dict[str, Any]], bool]:
        """Returns what its machine can know that an operation came to, and whether that is all there is.

        It is on the chain that stands, or on one that was lost after the machine had seen it. What the
        machine has given up, and what it never saw, leaves the answer to the chain that stands.
        """
        lost, mark = self.abandoned.get(op, []), self.seen.get(node)
        found = [outcome for commit, outcome in lost if self.world.witness.has_seen(op, commit)]
        if op in self.applied:
            return [*found, self.applied[op]], True
        return found, any(mark and self.world.server.contains(mark, commit) for commit, _ in lost)

    def lost(self, commit: str) -> bool:
        """Says whether a rewind took back a commit that once stood."""
        return commit not in self.where

    def untold(self, op: str, lost: str, again: str) -> bool:
        """Says whether a rewind took back what a commit gave to an operation, and nobody had been told of it.

        Nobody: the machine that asked had seen no tip with that commit when the push of the one that gives it
        `again` was begun. Whoever works under it has seen such a tip first. A push that is under way nobody
        can call back; it lands if the remote goes back to its parent.
        """
        witness = self.world.witness
        return self.lost(lost) and not witness.has_seen(op, lost, before=witness.begun(again))

    def late(self, commit: str) -> bool:
        """Says whether the remote was rewound after the push of a commit was begun."""
        return self.world.witness.begun(commit) < self.rewound_at

    def landed_late(self, op: str) -> bool:
        """Says whether an operation of the chain that stands came there by such a push."""
        return any(op in link.ops and self.late(link.commit) for link in self.links)

    def forgets(self, node: Node) -> None:
        """A machine lost power: of tips it has seen the one that was on its disk."""
        found = node.disk.execute("select value from meta where key='tip'").fetchone()
        self.seen.pop(node.name, None)
        if found is not None:
            self.seen[node.name] = found[0]

    def _stands(self) -> None:
        self._stood.append((self.world.scheduler.now, self.links[-1]))

    def _append(self, link: Link) -> None:
        self.where[link.commit] = len(self.links)
        self.links.append(link)
        if len(self.links) > 3:
            self.links[-3].tree = TreeView(self._refs.read, self.links[-3].tree.root)

    # ------------------------------------------------------------ beside the step itself

    def _facts(self, step: Step, pusher: Node | None, adopting: bool) -> None:
        """history-grows-by-facts: a commit changes a fact, or ends the doubt of a push that came before."""
        if adopting or step.record.closes or any(path != paths.LEDGER for path in step.changed):
            return
        bare = {"ordinal": 0, "writers": {}}
        if step.after.ledger.model_copy(update=bare) != step.before.ledger.model_copy(update=bare):
            return
        attempts = self.world.witness.attempts
        keys = [
            (pusher.name if pusher else "", step.record.parent or "", e.sequence) for e in step.record.entries
        ]
        if all(attempts.get(key, 0) < 2 for key in keys) and (
            pusher and pusher.name not in self.world.witness.odd_disks
        ):
            violated(
                "history-grows-by-facts",
                f"{step.commit[:10]} says nothing new: {step.record.entries[0].request}",
            )

    def _writer(self, step: Step, pusher: Node, seen: str | None) -> None:
        """settled-below-what-is-held, result-goes-first and rewind-is-noticed, of the store that pushed."""
        for entry in step.record.entries:
            if (
                entry.request["kind"] == "job.requeue"
                and entry.outcome["ok"]
                and pusher.builder == entry.request["builder"]
            ):
                waits = f'%"kind": "job.complete"%"token": "{entry.request["token"]}"%'
                asked = (
                    "select count(*) from entries where outcome is null and sequence < ? and request like ?"
                )
                if pusher.disk.execute(asked, (entry.sequence, waits)).fetchone()[0]:
                    violated(
                        "result-goes-first", f"{entry.request} overtook a result that waits in the outbox"
                    )
        record, odd = step.record, self.world.witness.odd_disks
        held = pusher.disk.execute("select min(sequence) from entries").fetchone()[0]
        mine = step.after.ledger.writers.get(record.writer)
        writer = pusher.disk.execute("select value from meta where key='writer'").fetchone()
        own = writer is not None and writer[0] == record.writer and pusher.name not in odd
        if own and mine is not None and held is not None and mine.settled >= held:
            violated("settled-below-what-is-held", f"{record.writer} settled {mine.settled} and holds {held}")
        if seen is not None and pusher.name not in odd and seen not in self.where:
            given_up = step.after.ledger.abandoned_tips
            if not any(tip == seen or self.world.server.contains(tip, seen) for tip in given_up):
                violated(
                    "rewind-is-noticed",
                    f"{pusher.name} has seen {seen[:10]}, which the branch lacks, and writes",
                )

    def _epochs(self, step: Step) -> None:
        """epochs-differ: every repair begins an epoch that no other ever began, nor itself in sight of anyone
        who asked for it.
        """
        epoch = step.after.ledger.epoch
        if epoch != step.before.ledger.epoch:
            op = next((e.op for e in step.record.entries if _begins(e.outcome) == epoch), "")
            begun = self.history.epochs.setdefault(epoch, [])
            again = [one for one in begun if one[1] != step.commit]
            if epoch < step.before.ledger.epoch or any(
                one != op or not self.untold(op, commit, step.commit) for one, commit in again
            ):
                violated("epochs-differ", f"{step.commit[:10]} begins epoch {epoch} again")
            begun.append((op, step.commit))

    def _highest(self, step: Step) -> Token:
        highest = step.highest
        if step.after.jobs is step.before.jobs and step.after.locks is step.before.locks:
            return highest
        before = {e.token for e in (*step.before.jobs.jobs, *step.before.locks.locks)}
        for text, whose in grants(step.after).items():
            if text not in before:
                self.history.tokens.setdefault(text, {})[step.commit] = whose
                token = Token.parse(text)
                if (token.epoch, token.counter) > (highest.epoch, highest.counter):
                    highest = token
        return highest

    # ------------------------------------------------------------ states

    def _step(self, link: Link, base: Link, record: Transaction, last: Link) -> Step:
        paths_changed = changed_paths(base.tree, link.tree)
        before = base.state
        if last.foreign:
            draft = Draft(self.standing(last), _EVIDENCE, _CONTEXT)
            before = State(draft.jobs, draft.locks, draft.ledger, draft.messages, draft.mailbox)
        return Step(
            commit=link.commit,
            position=len(self.links),
            before=before,
            after=link.state,
            record=record,
            changed={path: link.tree.read(path) for path in paths_changed},
            existed=frozenset(path for path in paths_changed if base.tree.entry(path) is not None),
            history=self.history,
            highest=last.highest,
            by_hand=last.foreign,
            alive=self.world.alive,
            lost=self.lost,
            untold=self.untold,
            tree_before=base.tree,
            tree=link.tree,
            notary=self.notary,
        )

    def _state(self, tree: TreeView, like: Link | None) -> State:
        draft = Draft(tree, _EVIDENCE, _CONTEXT)
        if like is None:
            return State(draft.jobs, draft.locks, draft.ledger, draft.messages, draft.mailbox)
        same = [tree.entry(path) == like.tree.entry(path) for path in _FILES]
        old = like.state
        return State(
            old.jobs if same[0] else draft.jobs,
            old.locks if same[1] else draft.locks,
            old.ledger if same[2] else draft.ledger,
            old.messages if same[3] else draft.messages,
            old.mailbox if same[4] else draft.mailbox,
        )

    def standing(self, link: Link) -> View:
        """Returns what a decision on a commit sees: by hand, the recorded state and what was adopted."""
        base = link.recorded
        if base is None:
            return link.tree
        by_hand = TreeView(self._refs.read, self._commit(link.commit).tree)
        ordinal = base.state.ledger.ordinal + 1
        return chain.adopt_foreign(base.tree, by_hand, link.commit, self.world.adopt, ordinal)

    def _commit(self, oid: str) -> Any:
        return self.world.server.commit(oid)


def _begins(outcome: Any) -> int | None:
    """Returns the epoch that a repair began; None for one that joined another's, and for anything else."""
    value = outcome["value"] if outcome["ok"] else None
    return value.get("epoch") if isinstance(value, dict) and value.get("joined") is False else None


_EVIDENCE = Evidence(now=datetime(2026, 1, 1, tzinfo=UTC), random="0" * 32)
_CONTEXT = Context("checker", 0)


class _Refs:
    """Everything that was ever written, to read from."""

    def __init__(self, world: World) -> None:
        self._objects = world.server.objects

    def read(self, oid: str) -> Object | None:
        return self._objects.get(oid) or (EMPTY_TREE if oid == EMPTY_TREE.oid else None)

"""The branch as this builder sees it: the last tip seen, what it amounts to, whether it was rewound.

Guarantee: the mark (the last tip that this store has SEEN) moves only to descendants, or by a repair that
names what is abandoned. Non-guarantee: a fresh store cannot notice a rewind that happened before its birth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.edge.git_objects import TreeView
from pipeline.edge.identity import Randomness
from pipeline.edge.ref_store import RefStore
from pipeline.errors import LedgerError, LedgerMissing, LedgerReplaced, LedgerRewound, NotALedger
from pipeline.ledger import history
from pipeline.ledger.check import recompute
from pipeline.ledger.history import Standing
from pipeline.ledger.store import Store
from pipeline.records import paths
from pipeline.records.decisions import Adopt, Decide


@dataclass
class Counts:
    """How much one process has cost the remote so far."""

    pushes: int = 0
    commits: int = 0
    fetches: int = 0
    lost_races: int = 0


class Branch:
    """One branch, with this store's mark on it. `decide` and `adopt` are those of version `reducer`."""

    def __init__(
        self,
        store: Store,
        refs: RefStore,
        decide: Decide,
        adopt: Adopt,
        random: Randomness,
        reducer: int,
    ) -> None:
        self.store = store
        self.refs = refs
        self.decide = decide
        self.reducer = reducer
        self.counts = Counts()
        self._adopt = adopt
        self._random = random
        self._standing: Standing | None = None

    def fetch(self, read: Callable[[], str | None] | None = None) -> str:
        """Reads the remote's tip and moves the mark to it. Raises LedgerRewound if it lacks the mark,
        LedgerReplaced if there is no branch any more, or another ledger's.

        `read` is another way to read it, where there is more to read with it.

        The mark is read BEFORE the remote, and moved only to descendants: otherwise a commit of another
        process between the two reads would look like a rewind.
        """
        while True:
            mark = self.store.tip()
            tip = read() if read else self.refs.fetch()
            self.counts.fetches += 1
            if tip is None and mark is None:
                raise LedgerMissing("The remote has no ledger yet.", remedy="Run `invoke ledger.init`.")
            if tip is not None and tip == mark:
                return tip
            if mark is None:
                assert tip is not None
                self._insist_on_ledger(tip)
            elif tip is None:
                raise self._gone(mark)
            elif not self._descends(tip, mark):
                self._insist_on_same(tip, mark)
                self._join_repair(tip, mark)
                continue
            if self.store.advance_tip(mark, tip):
                return tip

    def stand(self, tip: str) -> Standing:
        """Returns what a tip amounts to; foreign commits on it are adopted or quarantined."""
        if self._standing is None or self._standing.tip != tip:
            recorded = history.last_recorded(self.refs, tip, self.reducer)
            self._standing = history.stand(self.refs, tip, recorded, self._adopt)
        return self._standing

    def stand_on(self, landed: Standing) -> None:
        """Takes over what a commit of our own amounts to, which is known without reading."""
        self._standing = landed

    def rewound(self) -> tuple[str, str, TreeView | None]:
        """Returns the mark, the remote's tip that lacks it, and the mark's tree if it can still be read.

        Raises LedgerError for a remote that was not rewound, LedgerReplaced for one without the branch or
        with another ledger, NotALedger for one that holds something else.
        """
        mark, tip = self.store.tip(), self.refs.fetch()
        if mark is not None and tip is None:
            raise self._gone(mark)
        if mark is None or tip is None or self.refs.contains(tip, mark):
            raise LedgerError(
                f"The remote's tip {(tip or 'none')[:12]} is no rewind of {(mark or 'nothing')[:12]}.",
                remedy="Run `invoke ledger.check`.",
            )
        self._insist_on_ledger(tip)
        self._insist_on_same(tip, mark)
        return mark, tip, history.tree_at(self.refs, mark) if self.refs.read(mark) else None

    def _descends(self, tip: str, mark: str) -> bool:
        contained = self.refs.contains(tip, mark)
        if contained is None:
            raise LedgerError(
                f"The history between {mark[:12]} and the remote's tip is cut off.",
                remedy="Make the full history reachable on the remote.",
            )
        return contained

    def _gone(self, mark: str) -> LedgerReplaced:
        return LedgerReplaced(
            f"The remote has no such branch any more: it was deleted. {mark[:12]} is the last commit that"
            " this machine has seen of it. Nothing is written any more.",
            remedy=f"Push {mark[:12]} back from a clone that has it; this machine's lies beside its outbox."
            " `invoke ledger.init` would begin another ledger.",
        )

    def _insist_on_same(self, tip: str, mark: str) -> None:
        """Raises for a tip that has no commit in common with the mark: a ledger is what grew from ONE first
        commit. Where the mark cannot be read any more nothing is known, and nothing raised.
        """
        every, above = self.refs.since(tip, None), self.refs.since(tip, mark)
        if every is None or above is None or len(every) != len(above):
            return
        self._insist_on_ledger(tip)
        roots = [
            next((oid for oid in chain or [] if not history.commit_at(self.refs, oid).parents), "?")
            for chain in (every, self.refs.since(mark, None))
        ]
        raise LedgerReplaced(
            f"The branch is another ledger: {tip[:12]} grew from {roots[0][:12]}, and the ledger that this"
            f" machine knows, last seen at {mark[:12]}, from {roots[1][:12]}. Nothing is written into it.",
            remedy=f"Point `ledger` at the right repository, or push {mark[:12]} back. If it was begun anew"
            " on purpose, move `stores` in this machine's home away: what waits there is for the old one.",
        )

    def _join_repair(self, tip: str, mark: str) -> None:
        """Follows a repair that names what this store has seen as abandoned. Raises LedgerRewound for none.

        Believed only if every transaction since then can be computed again: the repair is one of them.
        """
        standing = self.stand(tip)
        if any(
            abandoned == mark or self.refs.contains(abandoned, mark)
            for abandoned in standing.state.abandoned_tips
        ):
            since = self.refs.since(standing.recorded, mark)
            records = [history.record_at(self.refs, oid, self.reducer) for oid in since or []]
            if since is not None and not any(
                recompute(self.refs, record, self.decide, self._adopt)
                for record in records
                if record is not None and record.parent
            ):
                self.store.accept_rewind(mark, standing.tip, self._random.op())
                return
        raise LedgerRewound(
            f"The remote was rewound: it is at {tip[:12]}, which lacks {mark[:12]}, the last "
            "commit that this machine has seen. Nothing is written any more.",
            remedy=f"Push {mark[:12]} back from a clone that has it, or run `invoke ledger.raise-epoch`.",
        )

    def _insist_on_ledger(self, tip: str) -> None:
        if history.tree_at(self.refs, tip).read(paths.LEDGER) is None:
            raise NotALedger(
                f"The branch holds something else: its tip {tip[:12]} has no `{paths.LEDGER}`.",
                remedy="Point `ledger` at another repository, or run `invoke ledger.init` on an empty one.",
            )

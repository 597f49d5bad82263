"""What bare pushes reach on this machine while a run goes on: the same kind of commit, plain `git push`.

The cluster stands still meanwhile (`Run._measure`): they take turns, and a busy machine is busy for both.
Both remotes are made alike (`core.fsync`). Only the pushes are timed, not the making of their commits.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from pipeline.coordination.reducer import REDUCER_VERSION, genesis
from pipeline.edge.bare import make_bare
from pipeline.edge.clock import SystemClock
from pipeline.edge.git_objects import TreeView, make_commit, parse_commit, write_tree
from pipeline.edge.git_refs import GitRefs
from pipeline.edge.identity import SystemRandomness
from pipeline.edge.process import run
from pipeline.ledger.genesis import initialise
from pipeline.records import paths
from pipeline.records.builders import Builder


class Bare:
    """A clone and a remote to push to, by one writer after the other's answer."""

    def __init__(self, folder: Path) -> None:
        self.remote = folder / "bare.git"
        make_bare(self.remote)
        self.refs = GitRefs(folder / "bare-clone.git", str(self.remote))
        files = genesis([Builder(name="build1")], b"{}\n", datetime(2026, 1, 1, tzinfo=UTC))
        self.tip = initialise(self.refs, files, "bare", SystemClock(), SystemRandomness(), REDUCER_VERSION)
        self.number = 0
        #: In seconds: of the pushes of the last call; for how long the cluster stood still in all.
        self.seconds = 0.0
        self.lost = 0.0

    def push_for(self, seconds: float) -> int:
        """Pushes for about so long and returns how many there were."""
        self.seconds, count = 0.0, 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._commit()
            begun = time.monotonic()
            words = ["push", "--quiet", str(self.remote), f"{self.tip}:{self.refs.ref}"]
            run(["git", "--git-dir", self.refs.clone.folder, *words], env=self.refs.remote.env)
            self.seconds += time.monotonic() - begun
            count += 1
        return count

    def _commit(self) -> None:
        """Makes a commit like a transaction's: three files of the ledger's own sizes change."""
        found = self.refs.read(self.tip)
        assert found is not None
        tree = TreeView(self.refs.read, parse_commit(found.data).tree)
        self.number += 1
        text = (f"{self.number} branch ExternalNew, commit 0123456789, 8 packages\n" * 300).encode()
        changes: dict[str, bytes | None] = {
            path: text + path.encode() for path in (paths.MESSAGES, paths.LEDGER, paths.JOBS)
        }
        root, objects = write_tree(tree, changes)
        commit = make_commit(
            root, [self.tip], "bare <bare@x.invalid>", 1_700_000_000 + self.number, "bare\n" * 40
        )
        self.refs.write([*objects, commit])
        self.tip = commit.oid

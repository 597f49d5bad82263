"""What befalls the bare repository itself: rewinds and commits by hand, under the lock that git itself takes.

A ref is moved as git moves it: `<ref>.lock` is made, which no other can, written, and renamed. So between
the read of the tip and the move no push lands, and what is given up is known for certain.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

from pipeline.edge.git_objects import Object, TreeView, parse_commit
from pipeline.operations import site as sites
from pipeline.records import paths
from pipeline.records.messages import Message, Messages
from tests.cluster.nodes import BRANCH_REF
from tests.simulation.dice import Dice
from tests.simulation.faults import FAULTS
from tests.simulation.world import World


class Made(NamedTuple):
    """A commit that was made by hand on the tip `before`."""

    commit: str
    before: str
    style: str


def lock_of(remote: Path) -> Path:
    """Returns the lock of the ledger's ref."""
    return remote / f"{BRANCH_REF}.lock"


def git(repository: Path, *words: str, input: bytes = b"") -> str:
    """Runs git there and returns what it prints."""
    done = subprocess.run(
        ["git", "--git-dir", str(repository), *words], input=input, capture_output=True, check=True
    )
    return done.stdout.decode(errors="replace").strip()


@contextmanager
def locked(remote: Path) -> Iterator[Path | None]:
    """Holds the ref's lock, None where others hold it. What is written into it is the new tip."""
    place = lock_of(remote)
    place.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(200):
        with suppress(FileExistsError):
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            break
        time.sleep(0.005)
    else:
        yield None
        return
    try:
        yield place
    finally:
        if place.stat().st_size:
            place.rename(place.with_name(place.name.removesuffix(".lock")))
        else:
            place.unlink()


def tip_of(remote: Path) -> str:
    """Returns the tip."""
    return git(remote, "rev-parse", BRANCH_REF)


def keep(remote: Path, witness: Path, name: str) -> None:
    """Copies everything that the branch reaches into the witness's repository, under a ref of its own."""
    if not witness.exists():
        subprocess.run(["git", "init", "--quiet", "--bare", str(witness)], check=True)
    words = ["fetch", "--quiet", "--no-auto-maintenance", str(remote), f"+{BRANCH_REF}:refs/heads/{name}"]
    git(witness, *words)


def rewind(remote: Path, witness: Path, most: int) -> str | None:
    """Puts the branch back by up to so many commits, and returns the tip that is given up."""
    with locked(remote) as lock:
        if lock is None:
            return None
        tip = tip_of(remote)
        line = git(remote, "rev-list", "--first-parent", f"--max-count={most + 1}", tip).split()
        if len(line) < 2:
            return None
        keep(remote, witness, f"lost-{tip}")
        lock.write_text(f"{line[-1]}\n")
        return tip


def commit_by_hand(remote: Path, dice: Dice) -> Made | None:
    """Lets the virtual cluster's people commit here: notes, reverts, nonsense, merges, amended commits."""
    with locked(remote) as lock:
        if lock is None:
            return None
        tip = tip_of(remote)
        server = _Server(remote, tip)
        styles: list[str] = []
        world = SimpleNamespace(
            server=server,
            checker=SimpleNamespace(links=server.links(), state=server, foreign=lambda oid: None),
            hit=lambda name, style: styles.append(style),
            tell=lambda text: None,
            letter=server.letter,
        )
        strike = FAULTS["by-hand"].strike
        assert strike is not None
        strike(cast(World, world), dice)
        assert server.put_oid is not None
        lock.write_text(f"{server.put_oid}\n")
        return Made(server.put_oid, tip, styles[0])


class _Server:
    """A repository as the virtual server shows itself to people."""

    def __init__(self, remote: Path, tip: str) -> None:
        self.remote, self.tip = remote, tip
        self.objects = SimpleNamespace(get=self._get)
        self.put_oid: str | None = None

    def _get(self, oid: str) -> Object | None:
        kind = git(self.remote, "cat-file", "-t", oid)
        words = ["git", "--git-dir", str(self.remote), "cat-file", kind, oid]
        return Object(oid, kind, subprocess.run(words, capture_output=True, check=True).stdout)

    def commit(self, oid: str) -> object:
        found = self._get(oid)
        assert found is not None
        return parse_commit(found.data)

    def links(self) -> list[SimpleNamespace]:
        """Returns the last commits, oldest first."""
        line = git(self.remote, "rev-list", "--first-parent", "--max-count=25", self.tip).split()
        return [SimpleNamespace(commit=oid) for oid in reversed(line)]

    @property
    def messages(self) -> Messages:
        found = self._get(self.tip)
        assert found is not None
        view = TreeView(self._get, parse_commit(found.data).tree)
        return sites.record(view, Messages, paths.MESSAGES)

    def letter(self, dice: Dice) -> Message:
        """A message as somebody writes it into the file by hand."""
        return Message(
            id=f"hand_{dice.bits(40):010x}", sender="build1", to="build2", subject="by hand", body="",
            timestamp=datetime.now(UTC).replace(microsecond=0), recipients=["build2"],
        )  # fmt: skip

    def write(self, objects: list[Object]) -> None:
        for each in objects:
            made = git(self.remote, "hash-object", "-w", "-t", each.kind, "--stdin", input=each.data)
            assert made == each.oid

    def put(self, oid: str) -> None:
        self.put_oid = oid

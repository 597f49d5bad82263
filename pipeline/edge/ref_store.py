"""The thin port below which a real remote and the in-memory one differ, and nothing else does."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.edge.git_objects import FILE_MODE, Object, TreeEntry, make, make_commit, make_tree
from pipeline.errors import LedgerError

#: What a heartbeat may have. That of a builder with a hundred waiting processes has a hundredth of it.
BEAT_BYTES = 1 << 20


class Unread(bytes):
    """Stands for a heartbeat that is too large to be read, and says so; another one, another text."""

    @classmethod
    def of(cls, ref: str, oid: str, size: int) -> Unread:
        """Returns what stands for a blob of `size` bytes."""
        words = (
            f"`{ref}` is not read: it holds {size:,} bytes, and a heartbeat has {BEAT_BYTES:,} at the most"
        )
        return cls(f"{words} (object {oid[:12]})".encode())


@dataclass(frozen=True)
class Pushed:
    """What became of one push.

    landed: the remote says that the ref is at the commit. stale: the ref was elsewhere. refused: the
    remote said no for another reason, in `error`. unknown: no answer; it may be applied LATER.
    """

    kind: Literal["landed", "stale", "refused", "unknown"]
    error: LedgerError | None = None


class RefStore(Protocol):
    """One branch of a remote, with the objects that are known locally.

    Guarantee: `push` moves the branch if and only if it stood at `expected`, as one step.
    Non-guarantee: nothing local is durable; every method may raise LedgerUnreachable and leave the
    remote in any state that one push of it could have made.
    """

    def read(self, oid: str) -> Object | None:
        """Returns an object that is known locally, or None. Raises LedgerTooLarge for what is not read."""

    def write(self, objects: Iterable[Object]) -> None:
        """Makes objects known locally. Not durable."""

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Bounds how long the methods called in the block wait for the remote, all together.

        Each may take two seconds all the same, so that what is asked too late is asked at all.
        """

    def abandon(self) -> None:
        """Ends another thread's wait for the remote: from now on that does not answer this store."""

    def tip(self) -> str | None:
        """Asks the remote for the branch's commit now; None for a branch that does not exist."""

    def fetch(self) -> str | None:
        """As `tip`, and brings everything that the commit reaches."""

    def push(self, commit: str, expected: str | None) -> Pushed:
        """Moves the branch from `expected` (None: it must not exist) to a commit known locally."""

    def contains(self, tip: str, commit: str) -> bool | None:
        """Says whether `commit` is `tip` or an ancestor of it; None where the history is cut."""

    def since(self, tip: str, base: str | None) -> list[str] | None:
        """Returns the commits reachable from tip but not from base, by ALL parents; None where cut."""

    def beat(self, ref: str, data: bytes, after: bytes | None) -> Pushed:
        """Points a heartbeat ref at new content, without history, if it still holds `after` (None: nothing).

        So a push that was held up on the way never puts an old nonce back.
        """

    def beats(self, prefix: str) -> tuple[str | None, dict[str, str]]:
        """Returns the branch's commit and the ids of all refs below `prefix`, in one round trip."""

    def survey(self, prefix: str) -> tuple[str | None, dict[str, bytes]]:
        """As `fetch`, and returns the content of every ref below `prefix` as of the same read.

        Of one with more than BEAT_BYTES it is an `Unread`.
        """

    def beat_data(self, refs: Collection[str]) -> dict[str, bytes]:
        """Returns the content of heartbeat refs, as they are on the remote now; see `survey`."""

    def maintain(self) -> None:
        """Keeps what is local, and a remote of our own, small. Does nothing unless it is due."""


def beat_objects(data: bytes) -> list[Object]:
    """Returns the blob, the tree and the parentless commit of a heartbeat; the commit comes last."""
    blob = make("blob", data)
    tree = make_tree({"heartbeat.json": TreeEntry(FILE_MODE, blob.oid)})
    return [blob, tree, make_commit(tree.oid, [], "heartbeat <heartbeat@builders.invalid>", 0, "heartbeat\n")]

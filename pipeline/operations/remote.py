"""What the ledger's git host really does, tried out on refs of our own that are removed again.

Tried: a ref outside refs/heads, a lease on it (the right one and a wrong one), two refs in one atomic push,
its deletion, the branch as it is, and how long an answer takes. Each finding says what the pipeline does
where the host does not do it. The ledger's branch is not changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from pipeline.builds.checks import Check
from pipeline.edge.git_objects import Object
from pipeline.edge.ref_store import beat_objects
from pipeline.operations.site import Site

_PLACE = "refs/pipeline/probe"
_SLOW_SECONDS = 3.0


@runtime_checkable
class Probed(Protocol):
    """A ref store over a real host, on which any push can be tried."""

    def write(self, objects: Iterable[Object]) -> None: ...

    def try_push(self, refspecs: list[str], *options: str) -> str | None: ...

    def beats(self, prefix: str) -> tuple[str | None, dict[str, str]]: ...


def probe(site: Site) -> list[Check]:
    """Tries the remote out and returns what it does. Raises LedgerUnreachable where it cannot be reached."""
    refs = site.ledger.refs
    if not isinstance(refs, Probed):
        return [Check("remote", False, "this kind of remote cannot be probed")]
    begun = site.clock.boottime()
    tip, left = refs.beats(f"{_PLACE}/")
    seconds = site.clock.boottime() - begun
    checks = [
        Check(
            "remote: answers",
            seconds < _SLOW_SECONDS,
            f"after {seconds:.2f} s",
            None if seconds < _SLOW_SECONDS else "Each transaction waits twice as long; look at the network.",
        )
    ]
    return [*checks, *_try_refs(site, refs), *_try_branch(site, refs, tip), *_left_behind(left)]


def _try_refs(site: Site, refs: Probed) -> list[Check]:
    name = site.random.hex()[:12]
    one, two = f"{_PLACE}/{name}-a", f"{_PLACE}/{name}-b"
    first, second = beat_objects(b"first\n"), beat_objects(b"second\n")
    refs.write([*first, *second])
    a, b = first[-1].oid, second[-1].oid
    outside = refs.try_push([f"{a}:{one}"])
    if outside is not None:
        return [
            Check(
                "remote: refs outside refs/heads",
                False,
                f"refused: {outside}",
                "Allow pushes to refs/pipeline/* (hooks, permissions), or use another host. Without them a"
                " builder shows no sign of life while it builds, and others take its jobs for lost.",
            )
        ]
    checks = [Check("remote: refs outside refs/heads", True, "taken: heartbeats have refs of their own")]
    right = refs.try_push([f"{b}:{one}"], f"--force-with-lease={one}:{a}")
    # Not `+`: git lets that override the lease.
    wrong = refs.try_push([f"{a}:{one}"], f"--force-with-lease={one}:{'1' * 40}")
    held = right is None and wrong is not None
    checks.append(
        Check(
            "remote: leases",
            held,
            "a push with the right lease is taken, with a wrong one refused"
            if held
            else f"right lease: {right or 'taken'}; wrong lease: {wrong or 'TAKEN'}",
            None if held else "Do not use this host: transactions would overwrite each other.",
        )
    )
    atomic = refs.try_push([f"{a}:{two}", f"+{a}:{one}"], "--atomic")
    said = "taken" if atomic is None else f"not offered ({atomic})"
    checks.append(Check("remote: atomic pushes", True, f"{said}; not needed: every transaction is one ref"))
    removed = [refs.try_push([f":{ref}"]) for ref in ((one,) if atomic else (one, two))]
    refused = next((said for said in removed if said is not None), None)
    checks.append(
        Check(
            "remote: removal of our own refs",
            True,
            "taken" if refused is None else f"refused ({refused}); {one} stays, which does no harm",
        )
    )
    return checks


def _try_branch(site: Site, refs: Probed, tip: str | None) -> list[Check]:
    """Pushes the branch to where it stands, in a dry run: the host's permissions, without its hooks."""
    if tip is None:
        return []
    branch = f"refs/heads/{site.settings.ledger_branch}"
    refused = refs.try_push([f"{tip}:{branch}"], "--dry-run", f"--force-with-lease={branch}:{tip}")
    return [
        Check(
            "remote: the ledger's branch",
            refused is None,
            f"`{site.settings.ledger_branch}` can be pushed to, as far as a dry run shows"
            if refused is None
            else f"refused: {refused}",
            None if refused is None else "Give this machine's key or token the right to push.",
        )
    ]


def _left_behind(left: dict[str, str]) -> list[Check]:
    if not left:
        return []
    return [Check("remote: earlier probes", True, f"{len(left)} refs of earlier probes stand below {_PLACE}")]

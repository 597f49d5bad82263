"""What the ledger's git host really does, tried out on refs of our own that are removed again.

Tried: a ref outside refs/heads, a lease on it (the right one and a wrong one), two refs in one atomic push,
its deletion. Each answer says what the pipeline does where the host does not do it.
"""

from __future__ import annotations

from pipeline.builds.checks import Check
from pipeline.ledger.memory import beat_objects
from pipeline.ledger.objects import Object
from pipeline.operations.site import Site

_PLACE = "refs/pipeline/probe"


def probe(site: Site) -> list[Check]:
    """Tries the remote out and returns what it does. Raises LedgerUnreachable where it cannot be reached."""
    refs = site.ledger.refs
    name = site.random.hex()[:12]
    one, two = f"{_PLACE}/{name}-a", f"{_PLACE}/{name}-b"
    first, second = _commit(b"first\n"), _commit(b"second\n")
    refs.write([*first, *second])
    a, b = first[-1].oid, second[-1].oid
    outside = refs.try_push([f"{a}:{one}"])
    if outside is not None:
        return [
            Check(
                "remote: refs outside refs/heads",
                False,
                f"refused: {outside}",
                "Heartbeats need them; allow refs/pipeline/* on the host, or use another host.",
            )
        ]
    checks = [Check("remote: refs outside refs/heads", True, "taken: heartbeats have refs of their own")]
    right = refs.try_push([f"+{b}:{one}"], f"--force-with-lease={one}:{a}")
    wrong = refs.try_push([f"+{a}:{one}"], f"--force-with-lease={one}:{'1' * 40}")
    checks.append(
        Check(
            "remote: leases",
            right is None and wrong is not None,
            "a push with the right lease is taken, with a wrong one refused"
            if right is None and wrong is not None
            else f"right lease: {right or 'taken'}; wrong lease: {wrong or 'TAKEN'}",
            "Do not use this host: transactions would overwrite each other.",
        )
    )
    atomic = refs.try_push([f"{a}:{two}", f"+{a}:{one}"], "--atomic")
    checks.append(
        Check(
            "remote: atomic pushes",
            True,
            "taken"
            if atomic is None
            else f"not offered ({atomic}); not needed: every transaction is one ref",
        )
    )
    removed = refs.try_push([f":{one}", f":{two}"])
    checks.append(
        Check(
            "remote: deletion of our own refs",
            True,
            "taken" if removed is None else f"refused ({removed}); {one} stays, which does no harm",
        )
    )
    return checks


def _commit(data: bytes) -> list[Object]:
    return beat_objects(data)

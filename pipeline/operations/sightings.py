"""What this machine saw of a nonce, kept in the store: commands minutes apart make one observation.

Whatever lies on the disk is looked at before it is believed. A sighting that is not whole is no evidence: it
is said and forgotten, and the observation begins anew, which only makes a silent holder wait longer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.coordination.leases import Silence
from pipeline.operations.site import Site


def recall(site: Site, name: str, **known: str) -> Silence | None:
    """Returns the sighting kept under a name, if it is of what is `known` (a token, for instance)."""
    kept = site.ledger.store.observation(name)
    if kept is None or any(kept.get(key, value) != value for key, value in known.items()):
        return None
    seen = _whole(kept) if all(key in kept for key in known) else None
    if seen is not None and (seen.boot_id != site.boot() or seen.until <= site.clock.boottime()):
        return seen
    site.say(f"What was seen of `{name}` before cannot be read: it is observed anew.")
    site.ledger.store.observe(name, None)
    return None


def keep(site: Site, name: str, seen: Silence, **known: str) -> None:
    """Keeps a sighting for a later command."""
    times = {"since": seen.since, "until": seen.until, "boot_id": seen.boot_id}
    site.ledger.store.observe(name, {"nonce": seen.nonce, **times, **known})


def _whole(kept: Mapping[str, Any]) -> Silence | None:
    nonce, since, until, boot = (kept.get(key) for key in ("nonce", "since", "until", "boot_id"))
    if not (isinstance(nonce, str | None) and isinstance(boot, str)):
        return None
    if not (isinstance(since, int | float) and isinstance(until, int | float)):
        return None
    return Silence(nonce, since, until, boot) if 0 <= since <= until < math.inf else None

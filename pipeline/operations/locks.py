"""Locks as people see them, and a lease held around work on something outside."""

from __future__ import annotations

from pipeline.operations import site as sites
from pipeline.operations.site import Site
from pipeline.records.locks import Lock
from pipeline.records.names import check_name


def list_locks(site: Site) -> list[Lock]:
    """Returns the held locks."""
    return list(sites.locks(site.state().view).locks)


def break_lock(site: Site, name: str, token: str, reason: str = "") -> str:
    """Frees a lock by its exact token and returns a sentence that names who held it."""
    request = {
        "kind": "lock.break",
        "name": check_name("lock", name),
        "token": token or None,
        "reason": reason,
    }
    broken = site.ask(request)
    return f"Lock {name} is free. It was held by {broken.get('owner')} (token {broken.get('token')})."

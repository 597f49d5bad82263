"""Locks as people see them: who holds what, and an end by force."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.operations import site as sites
from pipeline.operations.site import Site
from pipeline.records.locks import Lock, Waiter
from pipeline.records.names import check_name


@dataclass(frozen=True)
class LockTable:
    """Held locks by name, and those who wait, in the order in which they are served."""

    locks: list[Lock]
    waiters: list[Waiter]


def list_locks(site: Site) -> LockTable:
    """Returns who holds what, and who waits for it."""
    standing = site.state()
    return LockTable(list(sites.locks(standing.view).locks), list(standing.state.waiters))


def break_lock(site: Site, name: str, token: str, reason: str = "") -> str:
    """Frees a lock by its exact token and returns a sentence that names who held it.

    No token stands for a lock that has none: an older tool wrote it. Raises UsageError where the lock has
    one, NotFound where nobody holds it, Fenced where the token is another's.
    """
    check_name("lock", name)
    if not token:
        held = next((lock for lock in list_locks(site).locks if lock.name == name), None)
        if held is not None and held.token is not None:
            raise UsageError(
                f"Lock `{name}` is held by {held.owner}; breaking it needs its token.",
                remedy=f"If {held.owner} is really gone: `invoke lock.break {name} --token {held.token}`.",
            )
    request = {"kind": "lock.break", "name": name, "token": token or None, "reason": reason}
    broken = site.ask(request)
    return f"Lock {name} is free. It was held by {broken.get('owner')} (token {broken.get('token')})."

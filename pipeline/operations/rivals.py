"""Is another store at work under this builder's name? A copy of this one that runs too, or another machine.

Both stay correct without a word: a copied outbox is reborn, and a builder's own lock lets one job run. But
whoever gave two machines one name has to hear of it. It is known for certain only from what is WRITTEN: a
transaction in this builder's name, of another writer, which came after this store's last look in the same
life of its outbox. That alone tells a second store at work from a backup that was restored, whose later
self wrote before. So a machine that took over the name of one that is gone never hears of it.

What was seen is kept in the store, so that commands minutes apart make one observation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from pipeline.coordination.leases import MACHINE
from pipeline.errors import Refused, StoreCloned
from pipeline.ledger.history import record_at
from pipeline.operations import site as sites
from pipeline.operations.site import Site
from pipeline.records.ledger import Transaction

#: For so long after its last transaction a rival is shown by `status` and `doctor`.
_SHOWN = timedelta(days=1)
#: So many transactions are looked through at most; after a longer absence the look begins anew.
_LOOKED_THROUGH = 2000
_NAME = "rival"

REMEDY = (
    "Give each machine a name of its own (`invoke config` shows where this one's comes from), or end the use"
    " of the other one. Never copy this machine's home to another."
)


@dataclass(frozen=True)
class Rival:
    """Another store's last transaction in this builder's name: what it was, and when this machine saw it."""

    writer: str
    commit: str
    what: str
    seen: str

    def words(self, builder: str) -> str:
        """Returns what there is to say about it."""
        return (
            f"Another store is at work as {builder}: a copy of this one's, or another machine under this"
            f" name. Its last transaction is {self.commit[:12]} ({self.what}), of writer {self.writer[:12]}."
        )


def look_for_rival(site: Site) -> Rival | None:
    """Returns what another store wrote in this builder's name between this store's last look and the tip
    that it has seen.
    """
    standing, outbox = site.state(fresh=False), site.ledger.store.look()
    record = standing.state.writers.get(outbox.writer)
    if record is None or record.closed:
        return None  # not born yet, or about to be reborn: nothing that was written proves anything
    kept = _kept(site)
    looked = {"writer": outbox.writer, "tip": standing.recorded, "ordinal": standing.state.ordinal}
    if kept and (kept.tip, kept.writer) == (standing.recorded, outbox.writer):
        return None
    known = kept if kept and kept.writer == outbox.writer else None
    near = known and 0 <= standing.state.ordinal - known.ordinal <= _LOOKED_THROUGH
    found = _written(site, standing.recorded, known.tip, outbox.writer) if known and near else None
    last = found or (known.rival if known else None)
    site.ledger.store.observe(_NAME, {**looked, "rival": asdict(last) if last else None})
    return found


def known_rival(site: Site) -> Rival | None:
    """Returns a rival that was seen within a day. Looks at nothing."""
    kept = _kept(site)
    if kept is None or kept.rival is None or kept.writer != site.ledger.store.look().writer:
        return None
    age = site.clock.now() - datetime.fromisoformat(kept.rival.seen)
    return kept.rival if age <= _SHOWN else None


class _Kept(NamedTuple):
    """The last look: which life of this outbox looked, how far the ledger was, and the rival known then."""

    writer: str
    tip: str
    ordinal: int
    rival: Rival | None


def _kept(site: Site) -> _Kept | None:
    """Reads the last look; what cannot be read is none, and the look begins anew."""
    kept = site.ledger.store.observation(_NAME) or {}
    writer, tip, ordinal, told = (kept.get(name) for name in ("writer", "tip", "ordinal", "rival"))
    if not (isinstance(writer, str) and isinstance(tip, str) and type(ordinal) is int):
        return None
    if told is None:
        return _Kept(writer, tip, ordinal, None)
    try:
        rival = Rival(**told)
        whole = all(isinstance(text, str) for text in asdict(rival).values())
        whole = whole and datetime.fromisoformat(rival.seen).tzinfo is not None
        return _Kept(writer, tip, ordinal, rival) if whole else None
    except (TypeError, ValueError):
        return None


def busy_elsewhere(site: Site, refused: Refused) -> Refused | StoreCloned:
    """Returns what a refusal as busy means to a process that holds this machine's lock.

    Nothing else builds here then, so a builder that is at work is at work elsewhere.
    """
    held = sites.locks(site.state(fresh=False).view).locks
    lock = next((each for each in held if each.name == MACHINE + site.builder), None)
    if refused.reason != "busy" or lock is None:
        return refused
    machine, _, process = lock.holder.partition("/")
    if machine == site.machine()[:16] and not site.processes.alive(process):
        return refused  # it was ours, and `recover` puts it back
    where = "on another machine" if machine != site.machine()[:16] else "from another home on this machine"
    return StoreCloned(
        f"{site.builder} is at work {where}: it runs job `{lock.job_id}` (token {lock.token}).",
        remedy=f"{REMEDY} If the other one is gone for good:"
        f" `invoke lock.break {lock.name} --token {lock.token}`.",
    )


def _written(site: Site, tip: str, since: str, mine: str) -> Rival | None:
    """Returns the newest transaction of others in this builder's name; None where the history is cut."""
    refs = site.ledger.refs
    found: tuple[int, str, Transaction] | None = None
    for oid in refs.since(tip, since) or []:
        record = record_at(refs, oid, site.reducer)
        if record is None or record.writer == mine or (found is not None and record.ordinal < found[0]):
            continue
        if any(entry.request.get("builder") == site.builder for entry in record.entries):
            found = record.ordinal, oid, record
    if found is None:
        return None
    _, oid, record = found
    what = str(record.entries[0].request.get("kind"))
    return Rival(record.writer, oid, what, site.clock.now().isoformat())

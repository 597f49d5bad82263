"""What every operation works with: this machine's settings, its name, and its ledger."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.edge.clock import Clock
from pipeline.edge.identity import Processes, Randomness, boot_id, machine_id
from pipeline.edge.ref_store import RefStore
from pipeline.errors import (
    Fenced,
    LeaseHeld,
    LedgerMissing,
    LedgerUnreachable,
    NotALedger,
    NotFound,
    Refused,
)
from pipeline.ledger.history import Standing
from pipeline.ledger.ledger import Ledger
from pipeline.operations.heart import Heart
from pipeline.operations.pulse import Pulse, read_beat
from pipeline.operations.settings import LocalSettings, masked
from pipeline.records import lists, paths
from pipeline.records.base import R, load
from pipeline.records.builders import Heartbeat, Registry, Status
from pipeline.records.builds import BuildConfig
from pipeline.records.decisions import Adopt, Decide, View
from pipeline.records.jobs import Job, Jobs
from pipeline.records.ledger import Quarantine
from pipeline.records.locks import Locks

if TYPE_CHECKING:  # a build's own business: most commands never load it
    from pipeline.builds.variation import Variation

#: What to do about a change by hand that was not adopted.
BY_HAND_REMEDY = (
    "Nothing is lost: the last good content counts, and the next transaction puts the changed bytes aside in"
    " `coordination/quarantine/`. To make the change, ask for it with a task, or commit a valid file."
)

_ERRORS: dict[str, type[Refused]] = {
    "not-found": NotFound,
    "not-held": NotFound,
    "held": LeaseHeld,
    "busy": LeaseHeld,
    "fenced": Fenced,
}


#: Takes a job, its token, its attempt and the payloads of its report; returns those of a commitment to them.
Seal = Callable[[Job, str, int, Mapping[str, bytes]], dict[str, bytes]]


@dataclass
class Site:
    """One machine with its ledger.

    `say` shows progress to a person; results are returned, never said. `live` takes a running build's facts
    as they change, where there is a line that can. `step` is told each point on which a crash could fall.
    `open_refs` opens another ref store on the same remote, for another thread. `machine` and `boot` tell
    this machine, and this boot of it, from every other. A lease is renewed at most every `least_interval`
    seconds. `shows` marks a task that only shows: while the remote does not answer it settles for what this
    machine saw last, which is said, and `away` then holds why. With `variation` builds run in an environment
    that is another one on purpose. `seal` keeps a report back and returns a commitment to it, where this
    machine has a key to sign with, and `check_seal` raises what keeps it from that; `sign` signs what a build
    made, once it is reported, and raises nothing. `commits_first` says of a branch whether the policy that
    this machine trusts has its builders commit before they reveal.
    """

    settings: LocalSettings
    builder: str
    ledger: Ledger
    clock: Clock
    random: Randomness
    processes: Processes
    decide: Decide
    adopt: Adopt
    reducer: int
    say: Callable[[str], None] = field(default=lambda text: None)
    step: Callable[[str], None] = field(default=lambda name: None)
    live: Callable[[Mapping[str, Any]], None] | None = None
    open_refs: Callable[[], RefStore] | None = None
    least_interval: float = 0.0
    machine: Callable[[], str] = machine_id
    boot: Callable[[], str] = boot_id
    shows: bool = False
    variation: Variation | None = None
    seal: Seal | None = None
    check_seal: Callable[[], object] | None = None
    sign: Callable[[str], object] | None = None
    commits_first: Callable[[str], bool] = field(default=lambda branch: False)
    away: LedgerUnreachable | None = None

    def ask(self, request: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Transacts one request in this builder's name; returns the outcome's value.

        Raises Refused (NotFound, LeaseHeld, Fenced) with the ledger's own words, or a LedgerError.
        """
        options.setdefault("patience", self.settings.patience_seconds)
        try:
            return accepted(self.ledger.transact({"builder": self.builder, **request}, **options))
        except LedgerMissing as exc:
            raise missing(self.ledger.refs, self.settings, exc) from exc

    def holder(self) -> str:
        """Returns this process's name as a lock keeps it: the machine first, so no other declares it dead."""
        return f"{self.machine()[:16]}/{self.processes.myself()}"

    def make_heart(self, job_id: str, token: str, progress: Callable[[], dict[str, Any]]) -> Heart:
        """Returns the heart of a job that runs here; not beating yet."""
        pulse = self.make_pulse(own=True)
        return Heart(pulse, job_id, token, self.settings.heartbeat_seconds, self.random, progress)

    def make_pulse(self, *, own: bool = False) -> Pulse:
        """Returns this builder's pulse; with a ref store of its `own` for another thread."""
        refs = self.open_refs() if own and self.open_refs else self.ledger.refs
        return Pulse(self.ledger.store.folder / "pulse", refs, self.builder, self.clock, self.processes)

    def state(self, *, fresh: bool = True) -> Standing:
        """Returns the ledger's state; by default as the remote has it now."""
        try:
            return self.ledger.view(fresh=fresh and self.away is None)
        except LedgerMissing as exc:
            raise missing(self.ledger.refs, self.settings, exc) from exc
        except LedgerUnreachable as exc:
            if not self.shows or self.ledger.store.tip() is None:
                raise
            standing = self.ledger.view(fresh=False)
            self.away = exc
            self.say(f"{exc.message}\n{self._last_seen(standing.tip)}")
            return standing

    def survey(self) -> tuple[Standing, dict[str, Heartbeat]]:
        """Returns the ledger's state and every builder's heartbeat as the remote has them now: one read."""
        try:
            standing, there = self.ledger.survey(paths.HEARTBEAT_PREFIX)
        except LedgerMissing as exc:
            raise missing(self.ledger.refs, self.settings, exc) from exc
        return standing, {
            ref.removeprefix(paths.HEARTBEAT_PREFIX): read_beat(data, ref) for ref, data in there.items()
        }

    def _last_seen(self, tip: str) -> str:
        """Says in words how old the state of a commit is."""
        found = self.ledger.refs.read(tip)
        made = re.search(rb"^committer .* (\d{1,12}) [+-]\d{4}$", found.data, re.MULTILINE) if found else None
        when = datetime.fromtimestamp(int(made[1]), UTC) if made else None
        age = f", {_age((self.clock.now() - when).total_seconds())} ago" if when else ""
        of = f" of {when:%Y-%m-%d %H:%M:%S} UTC" if when else ""
        return f"Shown is what this machine saw last: commit {tip[:12]}{of}{age}."


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def accepted(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an outcome's value, or raises the refusal that it is."""
    if outcome.get("ok"):
        return dict(outcome.get("value") or {})
    reason = str(outcome.get("reason", "refused"))
    error = _ERRORS.get(reason, Refused)
    raise error(str(outcome.get("message")), reason=reason, remedy=outcome.get("remedy"))


def missing(refs: RefStore, settings: LocalSettings, error: LedgerMissing) -> LedgerMissing | NotALedger:
    """Returns what it means that there is no ledger: an empty repository, or one of something else."""
    address, branch = masked(settings.ledger), settings.ledger_branch
    others = sorted(refs.beats("refs/heads/")[1])
    if not others:
        return LedgerMissing(f"{address} is an empty repository, not a ledger yet.", remedy=error.remedy)
    names = ", ".join(f"`{ref.removeprefix('refs/heads/')}`" for ref in others[:5])
    return NotALedger(
        f"{address} holds something else: it has no branch `{branch}`, but {names}.",
        remedy="Point `ledger` at another repository, or `ledger_branch` at the branch that is the ledger.",
    )


def told_of(each: Quarantine) -> str:
    """Returns in words what was done by hand and not adopted, with file and field."""
    where = f"`{each.path}`"
    reason = each.reason if each.reason.startswith(where) else f"{where}: {each.reason}"
    return f"commit {each.commit[:12]}, made by hand, is not used in full. {reason.rstrip('.')}."


def insist_on_ledger(view: View, settings: LocalSettings) -> None:
    """Raises NotALedger for a branch that holds something else."""
    if view.read(paths.LEDGER) is None:
        raise NotALedger(
            f"The branch `{settings.ledger_branch}` of {masked(settings.ledger)} holds something else: it has"
            f" no `{paths.LEDGER}`.",
            remedy="Point `ledger` at another repository, or run `invoke ledger.init` on an empty one.",
        )


def record(view: View, model: type[R], path: str) -> R:
    """Reads one state file; an absent one is an empty record."""
    data = view.read(path)
    return lists.read(model, data, path) if data is not None else model.model_validate({})


def jobs(view: View) -> Jobs:
    return record(view, Jobs, paths.JOBS)


def locks(view: View) -> Locks:
    return record(view, Locks, paths.LOCKS)


def registry(view: View) -> Registry:
    return record(view, Registry, paths.REGISTRY)


def build_config(view: View) -> BuildConfig:
    return record(view, BuildConfig, paths.BUILD_CONFIG)


def status(view: View, builder: str) -> Status | None:
    """Reads what a builder last said of itself; None for one that has said nothing."""
    data = view.read(paths.status(builder))
    return load(Status, data, paths.status(builder)) if data is not None else None

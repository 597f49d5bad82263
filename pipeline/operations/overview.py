"""What `status` shows: the builders, what runs, what waits, and what this machine has not reported yet."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from pipeline.coordination.presence import Health, derive_health
from pipeline.edge.ref_store import Unread
from pipeline.errors import PipelineError
from pipeline.ledger.exposure import exposed_above
from pipeline.operations import journal, waiting
from pipeline.operations import site as sites
from pipeline.operations.comparisons import latest
from pipeline.operations.environments import drift
from pipeline.operations.queue import waiting as where
from pipeline.operations.rivals import REMEDY, known_rival, look_for_rival
from pipeline.operations.rounds import WaitingRound, waiting_rounds
from pipeline.operations.settings import masked
from pipeline.operations.site import Site
from pipeline.records import paths
from pipeline.records.base import load
from pipeline.records.builders import Builder, Heartbeat, Status
from pipeline.records.comparison import KeptComparison
from pipeline.records.decisions import View
from pipeline.records.jobs import Job
from pipeline.records.locks import Lock

#: Of so many branches the last comparison is shown.
_COMPARISONS = 3


@dataclass(frozen=True)
class BuilderView:
    """One builder as a reader sees it."""

    name: str
    registered: Builder
    status: Status | None
    health: Health
    problem: str | None = None


@dataclass(frozen=True)
class Overview:
    """The whole picture. `waiting` counts what this machine's outbox still has to deliver.

    `away` says why the ledger's remote could not be asked, if it could not: then all of this is what was seen
    last. `orphans` are the jobs that a dead process of this machine has left running, `unreported` those that
    were built here and not reported: `recover` sees to both. `abandoned` are in the queue still, ordered by a
    command of this machine that has ended. `comparisons` are the last of each branch, the newest first;
    `rounds` are those that wait for a builder to commit or to reveal.
    """

    ledger: str
    tip: str
    here: str
    builders: list[BuilderView]
    running: list[Job]
    queued: list[Job]
    locks: list[Lock]
    waiting: int
    orphans: list[str] = field(default_factory=list)
    unreported: list[str] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    away: str | None = None
    comparisons: list[KeptComparison] = field(default_factory=list)
    rounds: list[WaitingRound] = field(default_factory=list)


def overview(site: Site) -> Overview:
    """Reads everything once. Changes nothing, kills nothing; it only announces what `recover` would do."""
    standing = site.state()
    view = standing.view
    jobs = sites.jobs(view).jobs
    beats = _heartbeats(site)
    shown = [_builder_view(site, b, view, beats) for b in sites.registry(view).builders]
    undelivered = len(site.ledger.store.entries())
    unreported = _unreported(site)
    orphans = [job for job in _orphans(site, view) if job not in unreported]
    notices = [f"{job} was left running by a dead process: `invoke recover` puts it back." for job in orphans]
    abandoned = waiting.abandoned(site, view)
    notices += [waiting.told_of(job) for job in abandoned]
    notices += [f"{job} was built here and not reported: `invoke recover` reports it." for job in unreported]
    notices += [f"Lost before: {where(job)}" for job in jobs if job.status == "queued" and job.losses]
    notices += drift({each.name: each.status for each in shown})
    if undelivered:
        words = "1 entry waits" if undelivered == 1 else f"{undelivered} entries wait"
        notices.append(f"{words} in this machine's outbox: `invoke recover` delivers what is there.")
    if site.builder not in {b.name for b in sites.registry(view).builders}:
        notices.append(f"This machine is {site.builder}, which the registry does not know: `invoke doctor`.")
    if rival := look_for_rival(site) or known_rival(site):
        notices.append(f"{rival.words(site.builder)} {REMEDY}")
    unread = {name: beat for name, (_, beat) in (beats or {}).items() if isinstance(beat, Unread)}
    for name, beat in unread.items():
        delete = f"git push REMOTE :{paths.heartbeat_ref(name)}"
        notices.append(f"{beat.decode()}. Look who pushed it, then delete it on the remote: `{delete}`.")
    if standing.recorded != standing.tip:
        notices.append("Somebody changed the ledger by hand; the next transaction puts it in order.")
        aside = [each for each in standing.state.quarantined if each.commit == standing.tip]
        notices += [f"Not adopted: {sites.told_of(each)} {sites.BY_HAND_REMEDY}" for each in aside]
        notices += [
            f"Commit {each.commit[:12]}, made by hand: {each.words()}"
            for each in exposed_above(site.ledger.refs, standing, site.reducer)
        ]
    return Overview(
        ledger=masked(site.settings.ledger),
        tip=standing.tip,
        here=site.builder,
        builders=shown,
        running=[j for j in jobs if j.status == "running"],
        queued=sorted((j for j in jobs if j.status == "queued"), key=lambda j: j.priority),
        locks=list(sites.locks(view).locks),
        waiting=undelivered,
        orphans=orphans,
        unreported=unreported,
        abandoned=abandoned,
        notices=notices,
        away=site.away.message if site.away else None,
        comparisons=latest(view, _COMPARISONS),
        rounds=waiting_rounds(view),
    )


def _orphans(site: Site, view: View) -> list[str]:
    """Returns this machine's running jobs whose process is dead. Only looks."""
    mine = [j for j in sites.jobs(view).jobs if j.status == "running" and j.assigned_to == site.builder]
    holders = {lock.job_id: lock.holder for lock in sites.locks(view).locks if lock.job_id}
    found = []
    for job in mine:
        machine, _, process = holders.get(job.id, "").partition("/")
        if machine == site.machine()[:16] and not site.processes.alive(process):
            found.append(job.id)
    return found


def _unreported(site: Site) -> list[str]:
    """Returns the jobs whose report is kept on this machine, its process being gone."""
    notes = [
        note
        for folder in journal.attempts(site.settings.work)
        if journal.keeps_report(folder) and (note := journal.read(folder)) is not None
    ]
    return [n.job_id for n in notes if n.builder == site.builder and not site.processes.alive(n.process)]


def _builder_view(
    site: Site, builder: Builder, view: View, beats: dict[str, tuple[str, Heartbeat | Unread]] | None
) -> BuilderView:
    problem, said = None, None
    try:
        said = sites.status(view, builder.name)
    except PipelineError as exc:
        problem = exc.message
    if beats is None:
        health = Health("unknown", None, "the ledger does not answer")
        return BuilderView(builder.name, builder, said, health, problem)
    oid, beat = beats.get(builder.name, ("", None))
    if isinstance(beat, Unread):
        health = Health("unknown", None, "its heartbeat is too large to be read")
        return BuilderView(builder.name, builder, said, health, problem)
    unchanged, changed = 0.0, False
    if beat is not None:
        unchanged, changed = _observe(site, builder.name, oid)
    age = (site.clock.now() - beat.timestamp).total_seconds() if beat is not None else 0.0
    health = derive_health(
        beat,
        unchanged_seconds=unchanged,
        seen_to_change=changed,
        claimed_age_seconds=max(0.0, age),
    )
    return BuilderView(builder.name, builder, said, health, problem)


def _observe(site: Site, builder: str, oid: str) -> tuple[float, bool]:
    """Returns for how long this machine has seen a heartbeat unchanged, and whether it ever saw it change."""
    name, now = f"heartbeat/{builder}", site.clock.boottime()
    kept = site.ledger.store.observation(name) or {}
    since, here = kept.get("since"), kept.get("boot") == site.boot()
    if here and kept.get("oid") == oid and isinstance(since, int | float):
        return now - since, kept.get("changed") is True
    site.ledger.store.observe(name, {"oid": oid, "since": now, "boot": site.boot(), "changed": here})
    return 0.0, here


def _heartbeats(site: Site) -> dict[str, tuple[str, Heartbeat | Unread]] | None:
    """Reads every builder's heartbeat; None while the remote does not answer."""
    if site.away is not None:
        return None
    _, refs = site.ledger.refs.beats(paths.HEARTBEAT_PREFIX)
    data = site.ledger.refs.beat_data(list(refs))
    found: dict[str, tuple[str, Heartbeat | Unread]] = {}
    for ref, content in data.items():
        with suppress(PipelineError):
            beat = content if isinstance(content, Unread) else load(Heartbeat, content, ref)
            found[ref.removeprefix(paths.HEARTBEAT_PREFIX)] = (refs.get(ref, ""), beat)
    return found

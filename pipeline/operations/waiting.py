"""Whose command ordered a job and waits for the machine with it: a note on this machine's disk.

    <work>/waiting/<job>.json     which ledger, which builder, which process

A command that ends takes its note along. One that was killed leaves it, and its job in the queue: nobody
takes the job back, because it was asked for, but `status` and `recover` tell of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.edge.disk import replace_file
from pipeline.edge.plain_file import read_plain
from pipeline.errors import PipelineError
from pipeline.operations import site as sites
from pipeline.operations.settings import masked
from pipeline.operations.site import Site
from pipeline.records.base import dump_json, load_json
from pipeline.records.decisions import View

_NOTE_BYTES = 16 * 1024


def ledger_name(site: Site) -> str:
    """Returns what tells ledgers apart on this machine."""
    return f"{masked(site.settings.ledger)} {site.settings.ledger_branch}"


def note(site: Site, job_id: str) -> None:
    """Notes that this process waits with a job. Where that cannot be written, nobody is told of it later."""
    raw = {"ledger": ledger_name(site), "builder": site.builder, "process": site.processes.myself()}
    place = _folder(site) / f"{job_id}.json"
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, dump_json(raw))


def forget(site: Site, job_id: str) -> None:
    """Takes a note away again, if there is one."""
    with suppress(OSError):
        (_folder(site) / f"{job_id}.json").unlink(missing_ok=True)


def abandoned(site: Site, view: View) -> list[str]:
    """Returns the queued jobs of this builder whose command has ended without a word. Only looks."""
    queued = {job.id for job in sites.jobs(view).jobs if job.status == "queued"}
    return [place.stem for place in _of_the_dead(site) if place.stem in queued]


def tidy(site: Site, view: View) -> None:
    """Removes the notes of commands that have ended whose jobs do not wait any more."""
    left = set(abandoned(site, view))
    for place in _of_the_dead(site):
        if place.stem not in left:
            place.unlink(missing_ok=True)


def told_of(job_id: str) -> str:
    """Returns in words what an abandoned job is and what can be done with it."""
    return (
        f"{job_id} waits, queued by a command that has ended: `invoke work --once` runs it,"
        f" `invoke job.cancel {job_id}` removes it."
    )


def _of_the_dead(site: Site) -> Iterator[Path]:
    """Yields the notes of this ledger and builder whose processes are gone."""
    for place in sorted(_folder(site).glob("*.json")):
        try:
            raw = load_json(read_plain(place, limit=_NOTE_BYTES), str(place))
            mine = (raw["ledger"], raw["builder"]) == (ledger_name(site), site.builder)
            if mine and not site.processes.alive(str(raw["process"])):
                yield place
        except (OSError, PipelineError, KeyError, TypeError):
            continue  # nobody's note


def _folder(site: Site) -> Path:
    return site.settings.work / "waiting"

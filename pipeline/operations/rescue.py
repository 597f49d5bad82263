"""Jobs whose builder never comes back: another builder puts them back, by silence and never by age.

Silence is that a running job's nonce on its builder's heartbeat ref stays the same (or is absent) between two
looks of THIS machine that lie far enough apart, on this machine's own clock. Nobody's wall clock is compared.
A builder that was only cut off builds on and is fenced when it reports: its result is kept as late.
"""

from __future__ import annotations

from pipeline.coordination.leases import Silence
from pipeline.coordination.presence import STALE_SECONDS
from pipeline.errors import Refused
from pipeline.operations import site as sites
from pipeline.operations.pulse import read_beat
from pipeline.operations.sightings import keep, recall
from pipeline.operations.site import Site
from pipeline.records import paths


def rescue(site: Site) -> list[str]:
    """Looks at other builders' running jobs once; returns those that were put back.

    What was seen is kept in the store, so that one-shot commands minutes apart make one observation.
    """
    running = [
        job
        for job in sites.jobs(site.state(fresh=False).view).jobs
        if job.status == "running" and job.assigned_to not in (None, site.builder) and job.token
    ]
    if not running:
        return []
    wanted = [paths.heartbeat_ref(job.assigned_to or "") for job in running]
    begun = site.clock.boottime()
    beats = site.ledger.refs.beat_data(wanted)
    read = begun, site.clock.boottime()
    rescued = []
    for job in running:
        token = job.token or ""
        nonce = _nonce(beats.get(paths.heartbeat_ref(job.assigned_to or "")), token)
        silence = _observe(site, token, nonce, read)
        if silence.seconds < STALE_SECONDS:
            continue
        request = {"kind": "job.requeue", "job_id": job.id, "token": token, "reason": "its builder is silent"}
        try:
            site.ask(request, kind="attached", observations={"silence_seconds": silence.seconds})
        except Refused:
            continue  # it moved meanwhile
        site.ledger.store.observe(f"job/{token}", None)
        rescued.append(job.id)
    return rescued


def _observe(site: Site, token: str, nonce: str | None, read: tuple[float, float]) -> Silence:
    """Keeps what a read from one boot time to another has shown; what came after it shows nothing."""
    name = f"job/{token}"
    after = Silence.observed(recall(site, name), nonce, site.boot(), read)
    keep(site, name, after)
    return after


def _nonce(data: bytes | None, token: str) -> str | None:
    return read_beat(data, "heartbeat.json").leases.get(token) if data else None

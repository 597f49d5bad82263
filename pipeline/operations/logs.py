"""The raw log of a build, while it runs on this machine and after."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

from pipeline.errors import NotFound
from pipeline.operations import artifacts
from pipeline.operations.queue import find
from pipeline.operations.site import Site
from pipeline.records.names import check_name

RAW_LOG = "raw.log"
_BLOCK = 64 * 1024


def follow_log(site: Site, job_id: str) -> Iterator[str]:
    """Yields a job's raw log as it grows, until the attempt is over; then whatever is kept of it.

    Raises NotFound where the job does not run here and left no log here.
    """
    job, _ = find(site.state().view, check_name("job", job_id))
    place = site.settings.work / "jobs" / f"{job.id}.{job.attempt}" / RAW_LOG
    if not place.exists():
        folder = artifacts.folder_of(site, job_id)
        packed = next(iter(sorted(folder.glob("*.log.gz"))), None) if folder else None
        if packed is None:
            raise NotFound(f"No raw log of {job_id} on this machine.", reason="not-found")
        with gzip.open(packed, "rt", encoding="utf-8", errors="replace") as file:
            while block := file.read(_BLOCK):
                yield block
        return
    with place.open("r", encoding="utf-8", errors="replace") as file:
        while True:
            block = file.read(_BLOCK)
            if block:
                yield block
            elif job.ended or not place.exists():
                return
            else:
                site.clock.sleep(0.5)
                job, _ = find(site.state().view, job_id)

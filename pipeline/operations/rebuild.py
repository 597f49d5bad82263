"""Has builds made again for a comparison that found differences: which, where, and under whose lock.

The job that is built again is this machine's own. Where both builds were made here the other side is built
again as well, in the environment that its manifest states; elsewhere it is not, and that is said. The ledger
hears nothing of it: no job, no lock and no status of a builder changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from pipeline.compare.wire import Line
from pipeline.edge.machine_lock import MachineLock
from pipeline.edge.waiting_room import WaitingRoom
from pipeline.errors import ComparisonIncomplete, MachineBusy, UsageError
from pipeline.operations.agreement import Reach
from pipeline.operations.attempt import Interruption
from pipeline.operations.comparisons import keep
from pipeline.operations.queue import find, manifest_path
from pipeline.operations.site import Site
from pipeline.operations.trials import Original, differing, explain_by_building
from pipeline.operations.workshop import Maker, open_workshop
from pipeline.records.base import dump_json, load
from pipeline.records.builds import Manifest
from pipeline.records.comparison import Comparison, Verdict
from pipeline.records.decisions import View
from pipeline.records.jobs import Job

Find = Callable[[Site, Comparison, Sequence[Reach]], tuple[Original, Original]]
OpenMaker = Callable[[Site, Job, Manifest, Callable[[], str | None]], AbstractContextManager[Maker]]


def rebuild(
    site: Site,
    found: Comparison,
    ways: Sequence[Reach],
    open_folder: Callable[[str], Line],
    open_maker: OpenMaker = open_workshop,
    find_originals: Find | None = None,
) -> Comparison:
    """Returns a comparison with what building again tells of its leaves, and keeps it so.

    Where nothing differs, or builds cannot be compared, nothing is built, and that is said. Raises UsageError
    where neither build is this machine's, MachineBusy, Interrupted, and what keeps any build from beginning.
    """
    if found.verdict == Verdict.INCOMPARABLE or not differing(found):
        site.say(_nothing(found))
        return found
    originals = (find_originals or originals_of)(site, found, ways)
    own = next((each for each in originals if each.here), None)
    if own is None:
        names = " and ".join(str(each.side.job.assigned_to) for each in originals)
        raise UsageError(
            f"Neither build was made on this machine, so none can be made again: they are {names}'s.",
            remedy=f"Run it on the machine of {names.replace(' and ', ' or ')}.",
        )
    stop = Interruption()
    builder = replace(site, builder=own.side.job.assigned_to or site.builder)
    with (
        stop.listening(),
        _holding(site),
        open_maker(builder, own.side.job, own.manifest, stop.reason) as maker,
    ):
        told = explain_by_building(site, found, originals, maker, open_folder)
    keep(site, told, [each.side.job for each in originals])
    return told


def _nothing(found: Comparison) -> str:
    if found.verdict == Verdict.INCOMPARABLE:
        return "Nothing was built again: the inputs are not the same, and that is why the builds differ."
    if found.verdict == Verdict.AGREE:
        return "Nothing was built again: nothing differs."
    return "Nothing was built again: there is no place that is known to differ."


def originals_of(site: Site, found: Comparison, ways: Sequence[Reach]) -> tuple[Original, Original]:
    """Finds the builds that were compared, by the ledger's jobs. Raises ComparisonIncomplete, NotFound."""
    assert found.left_build is not None
    assert found.right_build is not None
    view = site.state().view
    builds = found.left_build, found.right_build
    one, two = (_original(site, view, each.job_id, ways) for each in builds)
    return one, two


def _original(site: Site, view: View, job_id: str, ways: Sequence[Reach]) -> Original:
    job, _ = find(view, job_id)
    side = next((found for way in ways if (found := way(job)) is not None), None)
    path = manifest_path(job)
    data = view.read(path) if path else None
    if side is None or path is None or data is None:
        raise ComparisonIncomplete(f"What {job.assigned_to} made in {job.id} cannot be read any more.")
    manifest = load(Manifest, data, path)
    machine = manifest.environment.machine if manifest.environment else None
    return Original(side, manifest, here=machine == site.machine()[:16])


@contextmanager
def _holding(site: Site) -> Iterator[None]:
    """Holds the machine: builds and rebuilds do not run beside each other. Raises MachineBusy."""
    lock = MachineLock(site.settings.machine_lock)
    note = {"builder": site.builder, "process": site.processes.myself(), "for": "a comparison's rebuilds"}
    waiters = WaitingRoom(site.settings.machine_lock).waiters(site.clock.boottime())
    if waiters or not lock.try_hold(dump_json(note).decode()):
        raise MachineBusy(
            "Another build runs on this machine, or waits for it: nothing was built again.",
            remedy="The comparison itself is kept. Give --rebuild when the machine is free: `invoke status`.",
        )
    try:
        yield
    finally:
        lock.release()

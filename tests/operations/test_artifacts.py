"""What of the finished builds on this machine may go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pipeline.builds import artifacts as store
from pipeline.ledger.history import Standing
from pipeline.operations import artifacts
from pipeline.operations.recover import recover
from pipeline.operations.site import Site
from tests.operations.conftest import COMMIT, WHEN, MakeSite
from tests.operations.test_attempt import keep
from tests.operations.test_recover import complete, die, start


def keep_set(site: Site, job_id: str, token: str, minutes: int) -> None:
    """Leaves an empty set of artifacts, made so many minutes after the beginning."""
    manifest = store.new_manifest(
        job_id=job_id,
        server=site.builder,
        branch="b",
        commit=COMMIT,
        created_at=WHEN + timedelta(minutes=minutes),
        token=token,
    )
    store.collect(site.settings.artifacts, manifest, [], None)


def test_a_builders_last_build_stays(make_site: MakeSite) -> None:
    """Nothing that a status or an open job names is pruned, however few builds are to be kept."""
    one = make_site("build1")
    for minutes, job_id in enumerate(["job_old", "job_last"]):
        token = start(one, job_id)
        keep_set(one, job_id, token, minutes)
        one.ask(complete(job_id, token))
    one.ask({"kind": "job.create", "id": "job_open", "branch": "b", "commit": COMMIT})
    keep_set(one, "job_open", "1.9.given-back", -1)
    plan = artifacts.prune(one, keep=0, really=True)
    assert [each.manifest.job_id for each in plan.remove if each.manifest] == ["job_old"]
    assert sorted(each.name.split(".")[0] for each in artifacts.kept(one)) == ["job_last", "job_open"]


def test_what_is_still_to_be_reported_stays(make_site: MakeSite) -> None:
    """A build that others have overtaken keeps its set as long as its report is on this machine alone."""
    one, two = make_site("build1"), make_site("build2")
    token = start(one, "job_a")
    keep_set(one, "job_a", token, 0)
    keep(one, "job_a", token)
    silent = {"kind": "job.requeue", "job_id": "job_a", "token": token, "reason": "silent"}
    two.ask(silent, observations={"silence_seconds": 10_000})
    two.ask({"kind": "job.cancel", "job_id": "job_a"})
    assert artifacts.prune(one, keep=0, really=False).remove == ()
    die(one)
    back = make_site("build1", "p2")
    assert recover(back).reported == ["job_a"]
    gone = artifacts.prune(back, keep=0, really=False).remove
    assert [each.manifest.job_id for each in gone if each.manifest] == ["job_a"]


@dataclass
class Overtaken(Site):
    """A site on which another process builds just after the ledger was read."""

    built: str = ""

    def state(self, *, fresh: bool = True) -> Standing:
        standing = super().state(fresh=fresh)
        if not self.built:
            self.built = "job_new"
            keep_set(self, self.built, start(self, self.built), 0)
        return standing


def test_a_set_that_comes_while_the_ledger_is_read_stays(make_site: MakeSite) -> None:
    """Nothing is removed of a job that the ledger did not have yet when it was asked."""
    one = Overtaken(**vars(make_site("build1")))
    assert artifacts.prune(one, keep=0, really=True).remove == ()
    assert [each.name.split(".")[0] for each in artifacts.kept(one)] == ["job_new"]


def test_what_was_granted_last_is_the_newest(make_site: MakeSite) -> None:
    """A build that was made while the clock was years ahead takes no place from those that came after it."""
    one = make_site("build1")
    for minutes, job_id in ((0, "job_first"), (3_000_000, "job_ahead"), (5, "job_third"), (9, "job_last")):
        token = start(one, job_id)
        keep_set(one, job_id, token, minutes)
        one.ask(complete(job_id, token))
    keep_set(one, "job_foreign", "7.9.other", 7)  # of another ledger: its date is all that is known
    plan = artifacts.prune(one, keep=3, really=False)
    assert [why for each, why in plan.keep if each.manifest and each.manifest.job_id == "job_last"] == [
        "among the newest 3"
    ]
    assert sorted(each.manifest.job_id for each in plan.remove if each.manifest) == ["job_ahead", "job_first"]


def test_a_set_younger_than_a_running_job_stays_whatever_its_date(make_site: MakeSite) -> None:
    """What was granted after the job that runs is not older than it, although its clock says so."""
    one, two = make_site("build1"), make_site("build2")
    start(two, "job_runs")
    token = start(one, "job_a")
    keep_set(one, "job_a", token, -1_000_000)
    one.ask(complete("job_a", token))
    last = start(one, "job_b")
    one.ask(complete("job_b", last))
    assert artifacts.prune(one, keep=0, really=False).remove == ()

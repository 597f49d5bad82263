"""Rounds that need nobody's hand: ordered in one, revealed and signed by themselves, waited for in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.edge.machine_lock import MachineLock
from pipeline.errors import ComparisonIncomplete, Interrupted, NotRevealed, Outdated, PolicyInvalid
from pipeline.operations import history, queue
from pipeline.operations.agreement import compare_builds
from pipeline.operations.attempt import Claimed, Interruption, run_attempt
from pipeline.operations.build import Order
from pipeline.operations.choosing import Asked
from pipeline.operations.everywhere import build_everywhere, timings, watch
from pipeline.operations.overview import overview
from pipeline.operations.promoted import verify_set
from pipeline.operations.recover import recover
from pipeline.operations.report import Report
from pipeline.operations.rounds import waiting_rounds
from pipeline.operations.secret import commits_first, reveal_ready, sealed
from pipeline.operations.site import Site
from pipeline.operations.trust import POLICY
from pipeline.records import paths
from tests.operations.test_everywhere import Clock
from tests.operations.test_secret import secretly
from tests.operations.yard import BRANCH, Yard, commit


class Killed(BaseException):
    """The end of a process, where nothing catches it."""


def signing(yard: Yard, *names: str) -> None:
    """Gives builders a key that they sign with by themselves."""
    for name in names:
        yard.sites[name].sign = lambda job, name=name: yard.attest(name, job)  # type: ignore[misc]


def ordered(yard: Yard, *names: str, id: str = "r1", number: int = 1) -> dict[str, str]:
    """Orders a round, as `compare --build` does."""
    jobs = {name: f"{id}-{name}" for name in names}
    asked = {"kind": "round.order", "id": id, "branch": BRANCH, "commit": commit(number), "jobs": jobs}
    done = yard.sites["build1"].ask(asked)
    assert done["jobs"] == jobs
    return jobs


def attested(yard: Yard) -> list[str]:
    """Returns who has signed something of the commit."""
    view = yard.sites["build1"].state().view
    folder = paths.attestations(commit(1))
    return sorted(name for name in view.names(folder) if not name.endswith(".sig"))


def killed_at(site: Site, name: str) -> Site:
    """Returns a site whose process ends at a step."""

    def step(at: str) -> None:
        if at == name:
            raise Killed

    return replace(site, step=step)


def test_a_whole_round_needs_no_hand(yard: Yard) -> None:
    """Who commits last reveals and signs at once, the other with its next command; then it is promoted."""
    secretly(yard)
    signing(yard, "build1", "build2")
    jobs = ordered(yard, "build1", "build2")
    yard.commit("build1", jobs["build1"])
    assert reveal_ready(yard.sites["build1"]) == []
    assert recover(yard.sites["build1"]).revealed == []
    assert attested(yard) == []
    yard.commit("build2", jobs["build2"])
    assert [each.job_id for each in reveal_ready(yard.sites["build2"])] == [jobs["build2"]]
    found = recover(yard.sites["build1"])
    assert found.revealed == [jobs["build1"]]
    assert "Revealed what was built as r1-build1: all have committed." in found.lines()
    assert len(attested(yard)) == 2
    assert [sealed(yard.sites[name]) for name in jobs] == [[], []]
    done = yard.promote(list(jobs.values()))
    assert done.entry.witnessed
    assert verify_set(done.folder, yard.trust("anybody")).builders == ["build1", "build2"]
    assert history.check(yard.sites["build1"]).findings == []


@pytest.mark.parametrize("point", ["revealed", "signed"])
def test_a_crash_on_the_way_is_gone_over_again(yard: Yard, point: str) -> None:
    """Killed after the reveal or after the signature, `recover` ends it; the ledger has each once."""
    secretly(yard)
    signing(yard, "build1", "build2")
    jobs = ordered(yard, "build1", "build2")
    for name, job in jobs.items():
        yard.commit(name, job)
    one = yard.sites["build1"]
    with pytest.raises(Killed):
        reveal_ready(killed_at(one, point))
    assert sealed(one) == [jobs["build1"]]
    assert len(attested(yard)) == (0 if point == "revealed" else 1)
    assert recover(one).revealed == [jobs["build1"]]
    assert (sealed(one), len(attested(yard))) == ([], 1)
    tip = one.state().tip
    assert recover(one).revealed == []
    assert one.state().tip == tip


def test_a_machine_that_is_busy_reveals_as_well(yard: Yard) -> None:
    """To reveal takes no machine: while one of its builds runs, `recover` does it all the same."""
    jobs = ordered(yard, "build1", "build2")
    for name, job in jobs.items():
        yard.commit(name, job)
    one = yard.sites["build1"]
    lock = MachineLock(one.settings.machine_lock)
    assert lock.try_hold("{}")
    try:
        found = recover(one)
    finally:
        lock.release()
    assert (found.busy, found.revealed) == (True, [jobs["build1"]])


def test_only_what_is_ones_own_is_revealed(yard: Yard) -> None:
    """What another builder of this disk has sealed, or of another ledger, is left alone."""
    jobs = ordered(yard, "build1", "build2")
    for name, job in jobs.items():
        yard.commit(name, job)
    one, two = yard.sites["build1"], yard.sites["build2"]
    (one.settings.work / "sealed" / "job_elsewhere.1").mkdir()
    both = replace(two, settings=one.settings)
    assert reveal_ready(both) == []
    assert [each.job_id for each in reveal_ready(one)] == [jobs["build1"]]
    assert sealed(one) == ["job_elsewhere"]


def test_what_cannot_be_revealed_is_said_and_kept(yard: Yard) -> None:
    """A sealed report that was changed on disk is not what was committed to: that is told, not raised."""
    jobs = ordered(yard, "build1", "build2")
    for name, job in jobs.items():
        yard.commit(name, job)
    one = yard.sites["build1"]
    said: list[str] = []
    one.say = said.append
    place = one.settings.work / "sealed" / f"{jobs['build1']}.1" / "manifest"
    place.write_bytes(place.read_bytes() + b"\n")
    assert reveal_ready(one) == []
    assert "The manifest is not the one that was committed to." in said[0]
    assert sealed(one) == [jobs["build1"]]


def test_which_branches_commit_first(yard: Yard) -> None:
    """The policy that this machine trusts says so; none says no; one that was swapped or lost is refused."""
    trust = yard.trusts["build2"]
    assert not commits_first(trust, BRANCH)
    secretly(yard)
    assert (commits_first(trust, BRANCH), commits_first(trust, "other")) == (True, False)
    assert not commits_first(yard.trust("anybody"), BRANCH)
    place = trust.folder / POLICY
    good = place.read_bytes()
    place.write_bytes(good.replace(b'"commit_and_reveal": true', b'"commit_and_reveal": false'))
    assert place.read_bytes() != good
    with pytest.raises(PolicyInvalid) as caught:
        commits_first(trust, BRANCH)
    assert caught.value.reason == "bad-signature"
    place.unlink()
    with pytest.raises(Outdated) as lost:
        commits_first(trust, BRANCH)
    assert lost.value.reason == "older"


@pytest.mark.parametrize("yard", ["memory"], indirect=True)
def test_who_cannot_commit_does_not_build(yard: Yard) -> None:
    """In a round a builder without a key, or without a policy, fails before it builds for hours."""
    jobs = ordered(yard, "build1", "build2")
    for name, said in (("build1", "No key is set"), ("build2", "no policy here")):
        site = yard.sites[name]
        if name == "build2":
            site.seal = lambda *of: {}

            def check() -> None:
                raise PolicyInvalid("There is no policy here.", reason="no-policy")

            site.check_seal = check
        value = site.ask({"kind": "job.claim", "job_id": jobs[name], "holder": site.holder()})
        job = queue.show(site, jobs[name])
        report = run_attempt(site, Claimed(job, str(value["token"]), 1, str(value["round"])), None)
        assert (report.status, report.round) == ("failed", "r1")
        assert report.failure is not None
        assert said in report.failure.message


# Who is waited for


def test_a_round_that_waits_is_shown(yard: Yard) -> None:
    """First whoever may still commit is named, then whoever has not revealed; a round that is over is not."""
    jobs = ordered(yard, "build1", "build2", "build3")
    one = yard.sites["build1"]
    seen = waiting_rounds(one.state().view)
    assert [(w.id, w.committing, w.revealing) for w in seen] == [("r1", ["build1", "build2", "build3"], [])]
    yard.commit("build1", jobs["build1"])
    queue.cancel(one, jobs["build3"])
    (waits,) = overview(one).rounds
    assert (waits.committing, waits.revealing) == (["build2"], ["build1"])
    assert "waiting for build2 to build; nobody reveals before" in waits.words()
    yard.commit("build2", jobs["build2"])
    reveal_ready(one)
    (waits,) = overview(one).rounds
    assert (waits.committing, waits.revealing, waits.jobs) == ([], ["build2"], jobs)
    assert "waiting for the reveal of build2" in waits.words()
    reveal_ready(yard.sites["build2"])
    assert overview(one).rounds == []


def test_nothing_is_compared_before_it_is_revealed(yard: Yard) -> None:
    """Comparing, watching and times say whom they wait for, and that it is for a reveal."""
    jobs = ordered(yard, "build1", "build2")
    for name, job in jobs.items():
        yard.commit(name, job)
    one = yard.sites["build1"]
    reveal_ready(one)
    for ask in (lambda: compare_builds(one, Asked(), []), lambda: timings(one, Asked())):
        with pytest.raises(NotRevealed, match="waiting for the reveal of build2") as caught:
            ask()
        assert caught.value.waiting == ["build2"]
        assert caught.value.exit_code == 96
    said: list[str] = []
    stop = Interruption()
    left = [lambda: None, lambda: None, lambda: setattr(stop, "signal", "interrupted")]
    here = replace(one, clock=Clock(lambda: left.pop(0)()), say=said.append)
    assert list(watch(here, Asked(), [], stop)) == []
    assert [each for each in said if "reveal of build2" in each] == said
    assert len(said) == 1


# Ordered, built and waited for by one command


class Rounds:
    """Builds of a round: ordered in one transaction, and built here with a commitment."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.orders: list[Order] = []

    def __call__(self, site: Site, order: Order) -> list[Report]:
        self.orders.append(order)
        if order.job is not None:
            self.yard.commit(site.builder, order.job)
            reveal_ready(site)
            return [Report(order.job, "succeeded", BRANCH, commit(1), site.builder)]
        jobs = ordered(self.yard, *str(order.on).split(","), id=f"r{len(self.orders)}")
        return [Report(job, "queued", BRANCH, commit(1), name) for name, job in jobs.items()]


def test_one_command_orders_builds_and_waits_for_the_reveals(yard: Yard) -> None:
    """All builders are ordered at once, this one builds, and the others' reveals are waited for."""
    secretly(yard)
    one, runs, said = yard.sites["build1"], Rounds(yard), list[str]()
    steps = [
        lambda: yard.commit("build2", "r1-build2"),
        lambda: yard.commit("build3", "r1-build3"),
        lambda: reveal_ready(yard.sites["build3"]),
        lambda: reveal_ready(yard.sites["build2"]),
    ]
    here = replace(
        one,
        clock=Clock(lambda: steps.pop(0)()),
        say=said.append,
        commits_first=lambda branch: commits_first(yard.trusts["build1"], branch),
    )
    asked = build_everywhere(here, Asked(branch=BRANCH), run=runs, resolve=lambda *of: commit(1))
    assert asked.jobs == ("r1-build1", "r1-build2", "r1-build3")
    assert [(each.on, each.job) for each in runs.orders] == [
        ("build1,build2,build3", None),
        (None, "r1-build1"),
    ]
    assert steps == []
    assert any("waiting for the reveal of build2 and build3" in each for each in said)
    again = Rounds(yard)
    assert build_everywhere(here, Asked(branch=BRANCH), run=again, resolve=lambda *of: commit(1)) == asked
    assert again.orders == []


def test_a_wait_for_a_reveal_can_be_left(yard: Yard) -> None:
    """Who no longer waits is told what for; nothing of the round is lost by it."""
    one, stop = yard.sites["build1"], Interruption()
    jobs = ordered(yard, *yard.sites)
    for name, job in jobs.items():
        yard.commit(name, job)
    sleep = Clock(lambda: setattr(stop, "signal", "interrupted by SIGINT"))
    here = replace(one, clock=sleep, commits_first=lambda branch: True)
    with pytest.raises(Interrupted, match="waiting for the reveal of build2 and build3"):
        build_everywhere(
            here, Asked(branch=BRANCH), stop=stop, run=Rounds(yard), resolve=lambda *of: commit(1)
        )
    assert sealed(one) == []


def test_a_round_in_which_one_fails_is_told(yard: Yard) -> None:
    """A participant that does not succeed ends the wait; the others' commitments stand."""
    one, two = yard.sites["build1"], yard.sites["build2"]
    clock = Clock(lambda: queue.cancel(two, "r1-build2") and None)
    here = replace(one, clock=clock, commits_first=lambda branch: True)
    with pytest.raises(ComparisonIncomplete, match=r"build2 has not built .*: r1-build2 is cancelled"):
        build_everywhere(here, Asked(branch=BRANCH), run=Rounds(yard), resolve=lambda *of: commit(1))
    assert sealed(one) == ["r1-build1"]

"""Commit and reveal with stores, keys and files: a report is sealed, a commitment goes out, then it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipeline.errors import NotFound, PromotionRefused, Refused
from pipeline.operations import history
from pipeline.operations.attempt import Claimed, _sealed
from pipeline.operations.construct import Built
from pipeline.operations.promoted import verify_set
from pipeline.operations.queue import find
from pipeline.operations.secret import open_round, reveal, seal, sealed
from pipeline.records.statements import sha256_of
from tests.operations.yard import BRANCH, FILES, OTHER, Yard, commit

NAMES = ("build1", "build2")


def begin(yard: Yard, id: str = "r1") -> dict[str, str]:
    """Orders a job for each of two builders, and makes a round of them."""
    site = yard.sites["build1"]
    jobs = {name: f"{id}-{name}" for name in NAMES}
    for name, job in jobs.items():
        order = {"kind": "job.create", "id": job, "branch": BRANCH, "commit": commit(1), "target": name}
        site.ask(order)
    assert open_round(site, id, list(jobs.values())) == jobs
    return jobs


def secretly(yard: Yard) -> None:
    """Has the policy ask for commitments on the branch."""
    yard.draft(branches={BRANCH: {"commit_and_reveal": True}})
    yard.sign()


def test_from_commitments_to_a_promotion(yard: Yard) -> None:
    """On a branch that asks for it, builds that committed first are promoted; the ledger still computes."""
    secretly(yard)
    jobs = begin(yard)
    for name, job in jobs.items():
        yard.commit(name, job)
        assert sealed(yard.sites[name]) == [job]
    for name, job in jobs.items():
        assert reveal(yard.sites[name], job).unwitnessed == []
        assert sealed(yard.sites[name]) == []
    for name, job in jobs.items():
        yard.attest(name, job)
    done = yard.promote(list(jobs.values()))
    assert done.entry.witnessed
    user = yard.trust("anybody")
    assert verify_set(done.folder, user).builders == list(NAMES)
    assert history.check(yard.sites["build1"]).findings == []


def test_without_commitments_nothing_counts_there(yard: Yard) -> None:
    """Builds that agree, and were reported at once, are unwitnessed on such a branch."""
    secretly(yard)
    with pytest.raises(PromotionRefused) as caught:
        yard.promote(yard.agree())
    assert caught.value.reason == "unwitnessed"


def test_nothing_is_said_before_all_have_committed(yard: Yard) -> None:
    """Neither digests nor a statement get out: the reveal waits, and so does who would sign."""
    jobs = begin(yard)
    yard.commit("build1", jobs["build1"])
    with pytest.raises(Refused) as caught:
        reveal(yard.sites["build1"], jobs["build1"])
    assert caught.value.reason == "not-open"
    with pytest.raises(NotFound) as missing:
        yard.attest("build1", jobs["build1"])
    assert missing.value.reason == "no-manifest"
    view = yard.sites["build1"].state().view
    digests = [sha256_of(data).encode() for data in FILES.values()]
    every = [view.read(path) or b"" for path, _ in view.walk()]  # type: ignore[attr-defined]
    assert not [each for each in digests if any(each in data for data in every)]
    assert sealed(yard.sites["build1"]) == [jobs["build1"]]


def test_a_digest_that_was_known_is_unwitnessed(yard: Yard) -> None:
    """What an earlier build had published already is named, and does not count."""
    secretly(yard)
    yard.build("build3", OTHER | {"agent.jar": FILES["agent.jar"]}, number=7)
    jobs = begin(yard)
    for name, job in jobs.items():
        yard.commit(name, job)
    shown = [reveal(yard.sites[name], job).unwitnessed for name, job in jobs.items()]
    assert shown == [sorted(FILES)] * 2
    for name, job in jobs.items():
        yard.attest(name, job)
    with pytest.raises(PromotionRefused) as caught:
        yard.promote(list(jobs.values()))
    assert caught.value.reason == "unwitnessed"


def test_sealing_again_commits_to_the_same(yard: Yard) -> None:
    """A crash between sealing and reporting leads to the same commitment: there is one that can be opened."""
    jobs = begin(yard)
    yard.commit("build1", jobs["build1"])
    site = yard.sites["build1"]
    job, _ = find(site.state().view, jobs["build1"])
    again = [
        seal(site, yard.trusts["build1"], yard.signers["build1"], job, job.token or "", 1, {})
        for _ in range(2)
    ]
    assert again[0] == again[1]


@pytest.mark.parametrize("yard", ["memory"], indirect=True)
def test_another_token_is_another_attempt(yard: Yard) -> None:
    """After a rewind an attempt may have the number of one that was lost: what that sealed is not kept."""
    jobs = begin(yard)
    yard.commit("build1", jobs["build1"])
    site, trust, signer = yard.sites["build1"], yard.trusts["build1"], yard.signers["build1"]
    job, _ = find(site.state().view, jobs["build1"])
    place = site.settings.work / "sealed" / f"{job.id}.1"
    manifest = (place / "manifest").read_bytes()
    first = seal(site, trust, signer, job, job.token or "", 1, {})
    again = seal(site, trust, signer, job, "9.9.again", 1, {"manifest": manifest})
    assert json.loads(again["statement"])["sha256"] != json.loads(first["statement"])["sha256"]
    assert json.loads((place / "opening").read_bytes())["token"] == "9.9.again"
    assert sorted(each.name for each in place.iterdir()) == ["manifest", "opening"]


def test_who_has_nothing_sealed_reveals_nothing(yard: Yard) -> None:
    """A job of another machine, or one that was reported, is not revealed here."""
    with pytest.raises(NotFound):
        reveal(yard.sites["build1"], yard.build("build1"))


@pytest.mark.parametrize("yard", ["memory"], indirect=True)
def test_what_an_attempt_reports(yard: Yard) -> None:
    """In a round an attempt reports a commitment, a failure without a manifest, and fails without a key."""
    jobs = begin(yard)
    site = yard.sites["build1"]
    job, _ = find(site.state().view, jobs["build1"])
    claimed = Claimed(job, "1.1.x", 1, "r1")
    built = Built(status="succeeded", payloads={"manifest": b"{}", "log": b"x"})
    failed, nothing = _sealed(site, claimed, built)
    assert (failed.status, nothing, failed.failure is not None) == ("failed", {}, True)
    site.seal = lambda *of: {"statement": b"s", "signature": b"t"}
    assert _sealed(site, claimed, built)[1] == {"statement": b"s", "signature": b"t"}
    assert _sealed(site, claimed, replace(built, status="failed"))[1] == {"log": b"x"}
    reported = yard.build("build1")
    outside, _ = find(site.state().view, reported)
    assert _sealed(site, Claimed(outside, "1.1.x", 1), built)[1] == built.payloads

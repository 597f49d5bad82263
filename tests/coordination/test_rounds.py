"""Commit and reveal: nobody says what was made before all have committed, and then just that."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.records import paths
from pipeline.records.base import dump
from pipeline.records.rounds import Commitment, Opening, Round
from pipeline.records.statements import made, sha256_of
from tests.coordination.evidence import BRANCH, COMMIT, FILES, KEYS, LEDGER, promotion
from tests.coordination.test_trust import NORMALISED, OTHER, SIGNATURE, Trusting, manifest
from tests.coordination.world import SILENT

NAMES = ("build1", "build2", "build3")


class Secret(Trusting):
    """A ledger in which three builders take part in a round."""

    def __init__(self) -> None:
        super().__init__()
        self.openings: dict[str, Opening] = {}
        self.manifests: dict[str, bytes] = {}
        self.tokens: dict[str, str] = {}

    def begin(self, *names: str, id: str = "r1") -> dict[str, str]:
        jobs = {name: f"{id}-{name}" for name in names}
        for name, job in jobs.items():
            self.order(job, target=name)
        self.do("round.open", id=id, branch=BRANCH, commit=COMMIT, jobs=jobs)
        return jobs

    def start(self, name: str, job: str) -> str:
        self.tokens[name] = str(
            self.do("job.claim", builder=name, job_id=job, holder=f"process-of-{job}")["token"]
        )
        return self.tokens[name]

    def prepare(
        self, name: str, job: str, files: dict[str, str] | None = None, changes: dict[str, Any] | None = None
    ) -> Commitment:
        """Returns the commitment of a builder, and remembers what it is of."""
        self.manifests[name] = manifest(name, job, FILES if files is None else files)
        value = {
            "domain": "cloudstack-build-pipeline commitment 1",
            "ledger": LEDGER,
            "job": job,
            "token": self.tokens[name],
            "builder": name,
            "key": KEYS[name].public_key.fingerprint,
            "commit": COMMIT,
            "inputs": "11" * 32,
            "salt": sha256_of(f"salt of {name}".encode()),
            "manifest": sha256_of(self.manifests[name]),
        }
        self.openings[name] = made(Opening, value | (changes or {}))
        return self.commitment(name, job)

    def commitment(self, name: str, job: str, **changes: Any) -> Commitment:
        value = {
            "kind": "commitment",
            "format": 1,
            "ledger": LEDGER,
            "job": job,
            "token": self.tokens[name],
            "builder": name,
            "sha256": sha256_of(dump(self.openings[name])),
        }
        return made(Commitment, value | changes)

    def report(self, name: str, job: str, said: Commitment, **more: Any) -> dict[str, Any]:
        payloads = {"statement": dump(said), "signature": SIGNATURE, **more}
        known = {"job_id": job, "token": self.tokens[name], "outcome": "succeeded", "builder": name}
        return {**known, "payloads": payloads}

    def commit(self, name: str, job: str, files: dict[str, str] | None = None) -> None:
        self.start(name, job)
        done = self.do("job.complete", **self.report(name, job, self.prepare(name, job, files)))
        assert done["accepted"]

    def opened(self, name: str, job: str, **changes: Any) -> dict[str, Any]:
        payloads = {"opening": dump(self.openings[name]), "manifest": self.manifests[name], "log": b"log\n"}
        return {"builder": name, "job_id": job, "payloads": payloads | changes}

    def round(self, id: str = "r1") -> Round:
        found: Round = self.load(Round, paths.round(id))
        return found


@pytest.fixture
def world() -> Secret:
    return Secret()


def test_all_commit_and_then_reveal(world: Secret) -> None:
    """Until the last has committed, nothing in the ledger says what was made; then each does."""
    jobs = world.begin("build1", "build2")
    for name, job in jobs.items():
        world.commit(name, job)
    everything = b"".join(world.files.values())
    digests = [*FILES.values(), *(sha256_of(each) for each in world.manifests.values())]
    assert [each for each in digests if each.encode() in everything] == []
    for name, job in jobs.items():
        world.do("build.reveal", **world.opened(name, job))
        assert world.files[world.jobs[job].manifest or ""] == world.manifests[name]
    assert {n: r.unwitnessed for n, r in world.round().revealed.items()} == {"build1": [], "build2": []}
    before = dict(world.files)
    assert world.do("build.reveal", **world.opened("build1", jobs["build1"]))["there"]
    assert world.files == before


def test_nobody_reveals_early(world: Secret) -> None:
    """While another may still commit, a reveal is refused; when its job has failed or was cancelled, not."""
    jobs = world.begin("build1", "build2", "build3")
    world.commit("build1", jobs["build1"])
    asked = world.opened("build1", jobs["build1"])
    assert world.refused("build.reveal", **asked).reason == "not-open"
    world.do("job.cancel", job_id=jobs["build2"])
    assert world.refused("build.reveal", **asked).reason == "not-open"
    token = world.start("build3", jobs["build3"])
    assert world.refused("build.reveal", **asked).reason == "not-open"
    world.finish(jobs["build3"], token, "failed", builder="build3")
    assert not world.do("build.reveal", **asked)["there"]


def test_a_late_commitment_is_none(world: Secret) -> None:
    """A builder whose job was given up commits to nothing any more, and has nothing to reveal."""
    jobs = world.begin("build1", "build2")
    world.commit("build1", jobs["build1"])
    token = world.start("build2", jobs["build2"])
    for _ in range(4):
        world.do("job.requeue", builder="build1", job_id=jobs["build2"], token=token, observations=SILENT)
        if world.jobs[jobs["build2"]].ended:
            break
        token = world.start("build2", jobs["build2"])
    world.do("build.reveal", **world.opened("build1", jobs["build1"]))
    world.tokens["build2"] = token
    late = world.report("build2", jobs["build2"], world.prepare("build2", jobs["build2"]))
    assert world.do("job.complete", **late)["late"]
    assert list(world.round().committed) == ["build1"]
    opened = world.opened("build2", jobs["build2"])
    assert world.refused("build.reveal", **opened).reason == "no-commitment"


def test_a_report_that_tells_is_refused(world: Secret) -> None:
    """Manifest, logs and names of artifacts wait for the reveal, also those of an attempt that comes late."""
    jobs = world.begin("build1", "build2")
    job = jobs["build1"]
    world.start("build1", job)
    said = world.prepare("build1", job)
    for name in ("manifest", "log", "summary", "structured"):
        told = world.report("build1", job, said, **{name: world.manifests["build1"]})
        assert world.refused("job.complete", **told).reason == "secret", name
    told = {**world.report("build1", job, said), "artifacts": ["a.deb"]}
    assert world.refused("job.complete", **told).reason == "secret"
    late = {**world.report("build1", job, said, manifest=world.manifests["build1"]), "token": "1.99.x"}
    assert world.refused("job.complete", **late).reason == "secret"


def test_without_a_commitment_it_does_not_succeed(world: Secret) -> None:
    """Success is reported with a signed commitment of this builder, this job and this attempt."""
    jobs = world.begin("build1", "build2")
    job = jobs["build1"]
    world.start("build1", job)
    good = world.prepare("build1", job)
    bare = world.report("build1", job, good)
    for payloads in (
        {},
        {"statement": dump(good)},
        {"signature": SIGNATURE},
        {"statement": b"{}\n", "signature": b"x"},
    ):
        assert world.refused("job.complete", **{**bare, "payloads": payloads}).reason == "no-commitment"
    for changes in ({"job": "another"}, {"builder": "build2"}, {"token": "1.1.old"}):
        other = world.report("build1", job, made(Commitment, good.model_dump() | changes))
        assert world.refused("job.complete", **other).reason == "not-yours", changes


def test_a_replayed_commitment(world: Secret) -> None:
    """Another builder's commitment, in its name or in one's own, is not taken."""
    jobs = world.begin("build1", "build2")
    world.commit("build1", jobs["build1"])
    world.start("build2", jobs["build2"])
    theirs = sha256_of(dump(world.openings["build1"]))
    world.prepare("build2", jobs["build2"])
    copied = world.commitment("build2", jobs["build2"], sha256=theirs)
    refused = world.refused("job.complete", **world.report("build2", jobs["build2"], copied))
    assert refused.reason == "replayed"
    whole = world.commitment("build1", jobs["build1"])
    refused = world.refused("job.complete", **world.report("build2", jobs["build2"], whole))
    assert refused.reason == "not-yours"


def test_a_swapped_opening(world: Secret) -> None:
    """What is revealed is what was committed to: another opening, manifest or salt is refused."""
    jobs = world.begin("build1", "build2")
    for name, job in jobs.items():
        world.commit(name, job)
    other = manifest("build1", jobs["build1"], OTHER)
    value = world.openings["build1"].model_dump()
    swapped = [
        {"manifest": other},
        {"opening": dump(made(Opening, value | {"manifest": sha256_of(other)})), "manifest": other},
        {"opening": dump(made(Opening, value | {"salt": "99" * 32}))},
        {"opening": dump(world.openings["build1"]) + b"\n"},
        {"opening": b""},
        {"manifest": b""},
        {"opening": dump(world.openings["build2"]), "manifest": world.manifests["build2"]},
    ]
    for changes in swapped:
        asked = world.opened("build1", jobs["build1"], **changes)
        assert world.refused("build.reveal", **asked).reason == "other-opening", changes
    world.do("build.reveal", **world.opened("build1", jobs["build1"]))
    again = world.opened("build1", jobs["build1"], opening=b"x")
    assert world.refused("build.reveal", **again).reason == "revealed"


@pytest.mark.parametrize(
    "changes", [{"job": "another"}, {"builder": "build2"}, {"token": "1.1.old"}, {"commit": "f" * 40}]
)
def test_an_opening_for_another_job(world: Secret, changes: dict[str, Any]) -> None:
    """A commitment whose opening names another job, builder, attempt or commit cannot be revealed."""
    jobs = world.begin("build1", "build2")
    world.start("build1", jobs["build1"])
    said = world.prepare("build1", jobs["build1"], changes=changes)
    world.do("job.complete", **world.report("build1", jobs["build1"], said))
    world.commit("build2", jobs["build2"])
    asked = world.opened("build1", jobs["build1"])
    assert world.refused("build.reveal", **asked).reason == "not-yours"


def test_a_reveal_for_another_builder_or_job(world: Secret) -> None:
    """Nobody reveals for another, and a job that is in no round has nothing to reveal."""
    jobs = world.begin("build1", "build2")
    for name, job in jobs.items():
        world.commit(name, job)
    crossed = world.opened("build1", jobs["build2"])
    assert world.refused("build.reveal", **crossed).reason == "not-yours"
    theirs = {**world.opened("build1", jobs["build1"]), "builder": "build2"}
    assert world.refused("build.reveal", **theirs).reason == "not-yours"
    world.build("build3")
    assert world.refused("build.reveal", builder="build3", job_id="job-build3").reason == "no-round"
    assert world.refused("build.reveal", builder="build3", job_id="nothing").reason == "not-found"


def test_a_round_is_fixed_before_it_begins(world: Secret) -> None:
    """Jobs that have begun, are another's, of another commit or round, or not there make none."""
    world.order("one", target="build1")
    world.order("two", target="build2")
    world.order("free")
    world.order("taken", target="build2")
    asked = {"branch": BRANCH, "commit": COMMIT}
    bad = {
        "not-found": {"build1": "one", "build2": "nothing"},
        "other-job": {"build1": "one", "build2": "free"},
    }
    for reason, jobs in bad.items():
        assert world.refused("round.open", id="r1", jobs=jobs, **asked).reason == reason
    other = {"build1": "one", "build2": "two"}
    assert (
        world.refused("round.open", id="r1", jobs=other, branch=BRANCH, commit="f" * 40).reason == "other-job"
    )
    world.do("job.claim", builder="build2", job_id="taken", holder="h")
    begun = {"build1": "one", "build2": "taken"}
    assert world.refused("round.open", id="r1", jobs=begun, **asked).reason == "begun"
    world.do("round.open", id="r1", jobs=other, **asked)
    before = dict(world.files)
    world.do("round.open", id="r1", jobs=other, **asked)
    assert world.files == before
    assert world.refused("round.open", id="r2", jobs=other, **asked).reason == "other-job"
    world.order("three", target="build3")
    more = other | {"build3": "three"}
    assert world.refused("round.open", id="r1", jobs=more, **asked).reason == "duplicate"


# Ordered in one

ROUND = {"branch": BRANCH, "commit": COMMIT, "source": "https://example.org/c.git"}


def jobs_of(id: str, *names: str) -> dict[str, str]:
    return {name: f"{id}-{name}" for name in names}


def test_orders_and_their_round_are_one(world: Secret) -> None:
    """After the one decision each builder's job is in the queue and in the round; a claim says so."""
    asked = jobs_of("r1", "build1", "build2", "build3")
    done = world.do("round.order", id="r1", jobs=asked, priority=2, **ROUND)
    assert done == {"round": "r1", "jobs": asked, "there": False}
    for name, id in asked.items():
        job = world.jobs[id]
        assert (job.status, job.target, job.priority, job.source) == ("queued", name, 2, ROUND["source"])
        assert world.do("job.claim", builder=name, job_id=id, holder=f"h-{name}")["round"] == "r1"
    before = dict(world.files)
    assert world.do("round.order", id="r1", jobs=asked, priority=2, **ROUND)["there"]
    assert world.files == before
    more = asked | {"build3": "another"}
    assert world.refused("round.order", id="r1", jobs=more, **ROUND).reason == "duplicate"


def test_one_that_cannot_be_ordered_orders_none(world: Secret) -> None:
    """Where one order is refused there is neither a job nor a round of the others."""
    world.order("other")
    bad = [
        ("unknown-builder", jobs_of("r1", "build1", "nobody")),
        ("duplicate", {"build1": "r1-build1", "build2": "other"}),
        ("duplicate", {"build1": "one", "build2": "one"}),
    ]
    for reason, jobs in bad:
        assert world.refused("round.order", id="r1", jobs=jobs, **ROUND).reason == reason
        assert world.files.get(paths.round("r1")) is None
    assert list(world.jobs) == ["other"]


def test_two_who_order_at_once_get_one_round(world: Secret) -> None:
    """The second is given the round that is open; one of other builders, or of something else, is refused."""
    first = world.do("round.order", id="r1", jobs=jobs_of("r1", "build1", "build2"), **ROUND)
    before = dict(world.files)
    again = jobs_of("r2", "build1", "build2")
    assert world.do("round.order", id="r2", builder="build2", jobs=again, **ROUND) == first | {"there": True}
    assert world.files == before
    more = jobs_of("r2", "build1", "build2", "build3")
    assert world.refused("round.order", id="r2", jobs=more, **ROUND).reason == "round-open"
    options = {"packages": False}
    assert world.refused("round.order", id="r2", jobs=again, options=options, **ROUND).reason == "round-open"
    elsewhere = ROUND | {"commit": "f" * 40}
    assert not world.do("round.order", id="r3", jobs=jobs_of("r3", "build1", "build2"), **elsewhere)["there"]


def test_a_round_that_is_over_stands_in_nobodys_way(world: Secret) -> None:
    """Once nobody can commit any more, the commit may be built again, in a round of its own."""
    jobs = jobs_of("r1", "build1", "build2")
    world.do("round.order", id="r1", jobs=jobs, **ROUND)
    world.commit("build1", jobs["build1"])
    again = jobs_of("r2", "build1", "build2")
    assert world.do("round.order", id="r2", jobs=again, **ROUND)["round"] == "r1"
    world.do("job.cancel", job_id=jobs["build2"])
    done = world.do("round.order", id="r2", jobs=again, **ROUND)
    assert done == {"round": "r2", "jobs": again, "there": False}


# What counts


def agreed(world: Secret, files: dict[str, str] | None = None) -> dict[str, str]:
    """Plays a whole round, and returns the digests of what was stated after it."""
    jobs = world.begin("build1", "build2")
    for name, job in jobs.items():
        world.commit(name, job, files)
    for name, job in jobs.items():
        world.do("build.reveal", **world.opened(name, job))
    return {n: world.publish(world.statement(n, files, job))["sha256"] for n, job in jobs.items()}


def entry(stated: dict[str, str], id: str = "r1", **changes: Any) -> Any:
    counted = [{"builder": n, "job": f"{id}-{n}", "attestation": digest} for n, digest in stated.items()]
    return promotion(counted=counted, witnessed=True, **changes)


def test_what_was_committed_to_is_witnessed(world: Secret) -> None:
    """An entry may say so of builds that committed in one round before any digest was to be seen."""
    stated = agreed(world)
    assert world.do("promotion.enter", **world.as_asked(entry(stated)))["number"] == 1


def test_nothing_normalised_is_witnessed(world: Secret) -> None:
    """Who has committed to what it built has not committed to what that comes to when normalised."""
    agreed(world)
    how: dict[str, Any] = {"normalisers": NORMALISED}
    jobs = {name: f"r1-{name}" for name in ("build1", "build2")}
    stated = {n: world.publish(world.statement(n, job=job, **how))["sha256"] for n, job in jobs.items()}
    how["verdict"] = "AGREE-NORMALISED"
    assert world.refused("promotion.enter", **world.as_asked(entry(stated, **how))).reason == "unwitnessed"
    plain = entry(stated, **how).model_copy(update={"witnessed": False})
    assert world.do("promotion.enter", **world.as_asked(plain))["number"] == 1


def test_nothing_is_stated_before_the_reveal(world: Secret) -> None:
    """A signed statement of a job that has not revealed would tell: it is refused."""
    jobs = world.begin("build1", "build2")
    world.commit("build1", jobs["build1"])
    said = world.statement("build1", job=jobs["build1"])
    assert world.refused("attestation.publish", **world.as_asked(said)).reason == "no-manifest"


def test_a_digest_that_was_there_before_is_unwitnessed(world: Secret) -> None:
    """An artifact that another build had published by then could have been copied: it does not count."""
    part = dict(list(FILES.items())[:1])
    world.build("build3", part, job="earlier")
    stated = agreed(world)
    assert world.round().revealed["build1"].unwitnessed == list(part)
    assert world.round().revealed["build2"].unwitnessed == list(part)
    assert world.refused("promotion.enter", **world.as_asked(entry(stated))).reason == "unwitnessed"


def test_what_nobody_that_is_registered_has_told_is_unwitnessed(world: Secret) -> None:
    """A manifest that came late, from a name that nobody registered, tells what it tells all the same."""
    jobs = world.begin("build1", "build2")
    late = {"job_id": "unheard-of", "token": "1.1.x", "outcome": "succeeded", "builder": "ghost"}
    told = manifest("ghost", "unheard-of", FILES)
    assert world.do("job.complete", **late, payloads={"manifest": told})["late"]
    for name, job in jobs.items():
        world.commit(name, job)
    for name, job in jobs.items():
        world.do("build.reveal", **world.opened(name, job))
    assert [each.unwitnessed for each in world.round().revealed.values()] == [sorted(FILES)] * 2


def test_a_build_outside_of_the_round_is_unwitnessed(world: Secret) -> None:
    """Who was in no round, or in another, has not committed with the others."""
    stated = agreed(world)
    third = world.publish(world.build("build3"))["sha256"]
    counted = [{"builder": n, "job": f"r1-{n}", "attestation": digest} for n, digest in stated.items()] + [
        {"builder": "build3", "job": "job-build3", "attestation": third}
    ]
    asked = promotion(counted=counted, witnessed=True)
    assert world.refused("promotion.enter", **world.as_asked(asked)).reason == "unwitnessed"
    assert world.do("promotion.enter", **world.as_asked(promotion(counted=counted, witnessed=False)))


def test_a_commitment_that_is_not_revealed_spoils_the_round(world: Secret) -> None:
    """Who has committed and holds back what it made may dissent: the others do not count as witnessed."""
    jobs = world.begin("build1", "build2", "build3")
    for name, job in jobs.items():
        world.commit(name, job)
    for name in ("build1", "build2"):
        world.do("build.reveal", **world.opened(name, jobs[name]))
    stated = {n: world.publish(world.statement(n, job=jobs[n]))["sha256"] for n in ("build1", "build2")}
    asked = world.as_asked(entry(stated))
    assert world.refused("promotion.enter", **asked).reason == "unwitnessed"
    world.do("build.reveal", **world.opened("build3", jobs["build3"]))
    assert world.do("promotion.enter", **asked | {"basis": world.basis()})["number"] == 1

"""What the ledger enforces of promotion, whoever writes to it and whatever keys there are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.coordination.adoption import adopt
from pipeline.coordination.trust import basis_of
from pipeline.errors import RecordInvalid
from pipeline.records import paths
from pipeline.records.attestation import Attestation
from pipeline.records.base import dump, validate
from pipeline.records.builds import Manifest
from pipeline.records.promotion import Promotion
from pipeline.records.statements import Statement, sha256_of
from tests.coordination.evidence import BRANCH, COMMIT, FILES, SIZES, attestation, promotion, revocations
from tests.coordination.world import Tree, World

OTHER = FILES | {"debs/agent_1_all.deb": "cc" * 32}
NORMALISED = ["rewrites:" + "ab" * 32, "zip-times"]
SIGNATURE = b"-----BEGIN SSH SIGNATURE-----\n"


def manifest(builder: str, job: str, files: dict[str, str], **fields: Any) -> bytes:
    """What a builder reports of its build."""
    artifacts = [
        {
            "name": name.rpartition("/")[2],
            "path": name,
            "size_bytes": SIZES.get(name, 1),
            "checksums": {"sha256": digest},
        }
        for name, digest in files.items()
    ]
    whole = {
        "job_id": job,
        "server": builder,
        "branch": BRANCH,
        "commit": COMMIT,
        "created_at": "2025-10-29T12:00:00Z",
        "build_dir": "/x",
        "artifacts": artifacts,
        "artifact_count": len(artifacts),
        "total_size_bytes": sum(SIZES.get(name, 1) for name in files),
        **fields,
    }
    return dump(validate(Manifest, whole, "manifest"))


class Trusting(World):
    """A ledger in which builders build, state and promote."""

    def build(
        self, builder: str, files: dict[str, str] | None = None, job: str = "", **fields: Any
    ) -> Attestation:
        """Builds and reports, and returns what the builder would state; nothing is published yet."""
        job = job or f"job-{builder}"
        made = manifest(builder, job, FILES if files is None else files, **fields)
        token = self.run(job, builder=builder)
        self.finish(job, token, builder=builder, payloads={"manifest": made})
        return self.statement(builder, files, job)

    def statement(
        self, builder: str, files: dict[str, str] | None = None, job: str = "", **facts: Any
    ) -> Attestation:
        job = job or f"job-{builder}"
        path = self.jobs[job].manifest or ""
        known = {
            "job": job,
            "token": self.jobs[job].token,
            "manifest": sha256_of(self.files.get(path, b"")),
        }
        return attestation(builder, files, **{**known, **facts})

    def publish(self, said: Attestation, **fields: Any) -> dict[str, Any]:
        return self.do("attestation.publish", **self.as_asked(said, **fields))

    def as_asked(self, said: Statement, **fields: Any) -> dict[str, Any]:
        known: dict[str, Any] = {"payloads": {"statement": dump(said), "signature": SIGNATURE}}
        if isinstance(said, Attestation):
            known |= {"builder": said.builder, "job_id": said.facts.job}
        if isinstance(said, Promotion):
            known |= {"branch": said.branch, "basis": self.basis()}
        return known | fields

    def basis(self) -> str:
        return basis_of(Tree(self.files), BRANCH, COMMIT)

    def agreed(self) -> dict[str, str]:
        """Lets two builders state the same, and returns the digests of their statements."""
        return {each: self.publish(self.build(each))["sha256"] for each in ("build1", "build2")}

    def entry(self, counted: dict[str, str], **changes: Any) -> Promotion:
        builds = [
            {"builder": name, "job": f"job-{name}", "attestation": digest} for name, digest in counted.items()
        ]
        return promotion(counted=builds, **changes)


@pytest.fixture
def world() -> Trusting:
    return Trusting()


# Attestations


def test_a_statement_is_kept_as_it_was_signed(world: Trusting) -> None:
    """Statement and signature lie in the ledger byte for byte; the same again changes nothing."""
    said = world.build("build1")
    first = world.publish(said)
    assert world.files[first["path"]] == dump(said)
    assert world.files[paths.signature(first["path"])] == SIGNATURE
    before = dict(world.files)
    again = world.publish(said)
    assert (again["there"], world.files) == (True, before)


def test_a_builder_states_only_what_it_built(world: Trusting) -> None:
    """A statement about another builder's job, in its name or in one's own, is refused."""
    theirs = world.build("build1")
    assert (
        world.refused("attestation.publish", **world.as_asked(theirs, builder="build2")).reason == "not-yours"
    )
    mine = world.statement("build2", job="job-build1")
    assert world.refused("attestation.publish", **world.as_asked(mine)).reason == "not-yours"
    world.build("build2")
    crossed = world.as_asked(theirs, job_id="job-build2")
    assert world.refused("attestation.publish", **crossed).reason == "not-yours"


def test_a_statement_of_another_attempt_or_commit_is_refused(world: Trusting) -> None:
    """Job, token, attempt, branch and commit are those of the job as it ended."""
    world.build("build1")
    for facts in ({"token": "9.9.op"}, {"attempt": 2}, {"commit": "f" * 40}, {"branch": "main"}):
        said = world.statement("build1", **facts)
        assert world.refused("attestation.publish", **world.as_asked(said)).reason == "not-yours", facts


def test_a_statement_of_other_bytes_than_were_reported_is_refused(world: Trusting) -> None:
    """What a builder signs is what its manifest says, file by file; part of it may be left out."""
    world.build("build1")
    for said in (
        world.statement("build1", OTHER),
        world.statement("build1", FILES | {"more.deb": "dd" * 32}),
        world.statement("build1", manifest="33" * 32),
        world.statement("build1", {"another.deb": "aa" * 32}, normalisers=["zip-times"]),
    ):
        assert world.refused("attestation.publish", **world.as_asked(said)).reason == "other-bytes"
    assert world.publish(world.statement("build1", dict(list(FILES.items())[:1])))
    assert world.publish(world.statement("build1", OTHER, normalisers=["zip-times"]))


def test_what_is_no_evidence_is_refused(world: Trusting) -> None:
    """A job that failed, one that was resumed, one without a manifest, and one that is not there."""
    resumed = world.build("build1", complete=False)
    assert world.refused("attestation.publish", **world.as_asked(resumed)).reason == "incomplete"
    world.finish("bare", world.run("bare", builder="build2"), builder="build2")
    bare = world.statement("build2", job="bare")
    assert world.refused("attestation.publish", **world.as_asked(bare)).reason == "no-manifest"
    world.finish("failed", world.run("failed", builder="build3"), "failed", builder="build3")
    failed = world.statement("build3", job="failed")
    assert world.refused("attestation.publish", **world.as_asked(failed)).reason == "not-succeeded"
    unknown = world.as_asked(bare, job_id="nothing")
    assert world.refused("attestation.publish", **unknown).reason == "not-found"


def test_a_statement_comes_with_its_bytes(world: Trusting) -> None:
    """Without statement or signature, or with another spelling of it, nothing is kept."""
    said = world.build("build1")
    whole = world.as_asked(said)
    data = dump(said)
    for payloads in (
        {},
        {"statement": data},
        {"signature": SIGNATURE},
        {"statement": data, "signature": b""},
        {"statement": data, "signature": b"x" * 9000},
        {"statement": data + b"\n", "signature": SIGNATURE},
        {"statement": json.dumps(json.loads(data)).encode(), "signature": SIGNATURE},
    ):
        with pytest.raises(RecordInvalid):
            world.ask("attestation.publish", **{**whole, "payloads": payloads})


def test_what_is_normalised_comes_after_what_was_built(world: Trusting) -> None:
    """A builder says what it made before it says what that comes to: else it could not contradict."""
    world.build("build1")
    world.build("build2")
    said = world.statement("build1", OTHER, normalisers=NORMALISED)
    assert world.refused("attestation.publish", **world.as_asked(said)).reason == "alone"
    world.publish(world.statement("build2"))
    assert world.refused("attestation.publish", **world.as_asked(said)).reason == "alone"
    world.publish(world.statement("build1"))
    assert world.publish(said)["there"] is False


# Promotions


def test_entries_are_numbered_and_name_the_one_before(world: Trusting) -> None:
    """The first is 1 and has no predecessor; the next is 2 and names it; the peers are told."""
    first = world.entry(world.agreed())
    done = world.do("promotion.enter", **world.as_asked(first))
    assert (done["number"], done["sha256"]) == (1, sha256_of(dump(first)))
    assert world.messages.messages[-1].subject.startswith("Promoted: ExternalNew")
    second = world.entry(
        {each.builder: each.attestation for each in first.counted},
        number=2,
        predecessor=done["sha256"],
        action="rollback",
        restores=1,
    )
    assert world.do("promotion.enter", **world.as_asked(second))["number"] == 2
    assert world.files[paths.promotion(BRANCH, 1)] == dump(first)


def test_an_older_entry_is_not_replayed(world: Trusting) -> None:
    """An entry that was there, one with its number, one with a gap, one on another predecessor: refused."""
    counted = world.agreed()
    first = world.entry(counted)
    done = world.do("promotion.enter", **world.as_asked(first))
    reasons = {
        "there": first,
        "replayed": world.entry(counted, checks=["install"]),
        "gap": world.entry(counted, number=3, predecessor=done["sha256"]),
    }
    for reason, entry in reasons.items():
        assert world.refused("promotion.enter", **world.as_asked(entry)).reason == reason
    forked = world.entry(counted, number=2, predecessor="ab" * 32)
    assert world.refused("promotion.enter", **world.as_asked(forked)).reason == "replayed"
    second = world.entry(counted, number=2, predecessor=done["sha256"])
    world.do("promotion.enter", **world.as_asked(second))
    assert world.refused("promotion.enter", **world.as_asked(first)).reason == "replayed"


def test_an_entry_is_for_its_branch(world: Trusting) -> None:
    """An entry of one branch does not become another's; branches whose names are alike do not meet."""
    entry = world.entry(world.agreed())
    assert world.refused("promotion.enter", **world.as_asked(entry, branch="main")).reason == "other-branch"
    assert paths.promotion("a/b", 1) != paths.promotion("a%2Fb", 1)


def test_what_comes_meanwhile_has_it_decided_again(world: Trusting) -> None:
    """A statement, a revocation, a report or another entry since it was decided: the ledger refuses it."""
    counted = world.agreed()
    entry = world.entry(counted)
    basis = world.basis()
    stale = []
    world.publish(world.build("build3"))
    stale.append(world.refused("promotion.enter", **world.as_asked(entry, basis=basis)).reason)
    basis = world.basis()
    payloads = {"statement": dump(revocations()), "signature": SIGNATURE}
    world.do("revocation.publish", payloads=payloads)
    stale.append(world.refused("promotion.enter", **world.as_asked(entry, basis=basis)).reason)
    basis = world.basis()
    world.build("build3", OTHER, job="unsigned")
    stale.append(world.refused("promotion.enter", **world.as_asked(entry, basis=basis)).reason)
    assert stale == ["moved"] * 3
    world.run("another", builder="build3")
    assert world.do("promotion.enter", **world.as_asked(entry))


def test_dissent_cannot_be_withheld(world: Trusting) -> None:
    """An entry that is silent about a statement of dissent is refused; one that names it is written."""
    counted = world.agreed()
    against = world.publish(world.build("build3", OTHER))
    silent = world.entry(counted)
    assert world.refused("promotion.enter", **world.as_asked(silent)).reason == "dissent"
    wrong = world.entry(counted, dismissed=["ff" * 32])
    assert world.refused("promotion.enter", **world.as_asked(wrong)).reason == "dissent"
    named = world.entry(counted, dismissed=[against["sha256"]])
    assert world.do("promotion.enter", **world.as_asked(named))["number"] == 1


def normalised(world: Trusting, *builders: str) -> dict[str, str]:
    """Lets builders build other bytes each, and say of them that they come to the same."""
    said = {}
    for number, name in enumerate(builders):
        built = FILES | {"debs/agent_1_all.deb": f"{number}d" * 32}
        world.publish(world.build(name, built))
        said[name] = world.publish(world.statement(name, FILES, normalisers=NORMALISED))["sha256"]
    return said


def test_what_each_has_built_does_not_contradict_what_all_come_to(world: Trusting) -> None:
    """Two builders whose builds differ say the same of them when normalised: that is entered."""
    entry = world.entry(
        normalised(world, "build1", "build2"), normalisers=NORMALISED, verdict="AGREE-NORMALISED"
    )
    assert world.do("promotion.enter", **world.as_asked(entry))["number"] == 1


def test_a_build_that_was_never_normalised_cannot_be_passed_over(world: Trusting) -> None:
    """A third that has stated other bytes, and not what they come to, is dissent until it agrees or is
    dismissed; one that says other bytes when normalised is so for good.
    """
    counted = normalised(world, "build1", "build2")
    how: dict[str, Any] = {"normalisers": NORMALISED, "verdict": "AGREE-NORMALISED"}
    silent = world.publish(world.build("build3", OTHER))
    assert world.refused("promotion.enter", **world.as_asked(world.entry(counted, **how))).reason == "dissent"
    named = world.entry(counted, dismissed=[silent["sha256"]], **how)
    elsewhere = {"normalisers": ["rewrites:" + "0" * 64, "zip-times"]}
    world.publish(world.statement("build3", FILES, **elsewhere))
    assert world.refused("promotion.enter", **world.as_asked(world.entry(counted, **how))).reason == "dissent"
    against = world.publish(world.statement("build3", OTHER, normalisers=NORMALISED))
    assert world.refused("promotion.enter", **world.as_asked(named)).reason == "dissent"
    both = [silent["sha256"], against["sha256"]]
    done = world.do("promotion.enter", **world.as_asked(world.entry(counted, dismissed=both, **how)))
    assert done["number"] == 1


def test_a_third_that_agrees_is_no_dissent(world: Trusting) -> None:
    """Once it has said the same of its own build, nothing has to be dismissed."""
    counted = normalised(world, "build1", "build2", "build3")
    counted.pop("build3")
    entry = world.entry(counted, normalisers=NORMALISED, verdict="AGREE-NORMALISED")
    assert world.do("promotion.enter", **world.as_asked(entry))["number"] == 1


def test_an_entry_rests_on_what_is_here(world: Trusting) -> None:
    """Every statement that it counts is in the ledger, of that builder, these bytes and these inputs."""
    counted = world.agreed()
    third = world.build("build3")
    other_inputs = world.publish(world.statement("build3", inputs="33" * 32))["sha256"]
    part = world.publish(world.statement("build3", dict(list(FILES.items())[:1]), inputs="44" * 32))["sha256"]
    unfounded = [
        world.entry(counted | {"build3": sha256_of(dump(third))}),
        world.entry(counted | {"build3": counted["build1"]}),
        world.entry(counted | {"build3": other_inputs}),
        world.entry({"build3": part}),
        world.entry(counted, normalisers=["zip-times"], verdict="AGREE-NORMALISED"),
    ]
    for entry in unfounded:
        assert world.refused("promotion.enter", **world.as_asked(entry)).reason == "unfounded"


def test_a_rollback_restores_what_it_names(world: Trusting) -> None:
    """Bytes or commit other than those of the entry that comes back are refused."""
    counted = world.agreed()
    done = world.do("promotion.enter", **world.as_asked(world.entry(counted)))
    smaller = dict(list(FILES.items())[:1])
    part = {n: world.publish(world.statement(n, smaller, inputs="44" * 32))["sha256"] for n in counted}
    artifacts = [{"name": name, "size_bytes": 1, "sha256": digest} for name, digest in smaller.items()]
    next_one: dict[str, Any] = {
        "number": 2,
        "predecessor": done["sha256"],
        "restores": 1,
        "action": "rollback",
    }
    other = world.entry(part, artifacts=artifacts, **next_one)
    assert world.refused("promotion.enter", **world.as_asked(other)).reason == "other-bytes"


# Changes by hand


@pytest.mark.parametrize("before", [None, b"{}\n"])
def test_nobody_writes_it_by_hand(before: bytes | None) -> None:
    """Statements, entries and the pointer to the last are written by transactions only."""
    for path in (
        paths.attestation(COMMIT, "build1", "ab" * 32),
        paths.revocations(1, "ab" * 32),
        paths.promotion(BRANCH, 1),
        paths.promotion_head(BRANCH),
        paths.signature(paths.promotion(BRANCH, 1)),
    ):
        assert adopt(path, before, dump(promotion())).data is None
        assert adopt(path, before, None).data is None

"""Dissent against bytes that were normalised: nobody is passed over who has not agreed himself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.coordination.counting import Case, Rules, Seen, Stated
from pipeline.coordination.dissent import Claim, contradicting
from pipeline.coordination.promotion import Ruling, decide
from pipeline.records.comparison import ComparedArtifact, ComparedSide, Comparison, Rewrite, Verdict
from pipeline.records.policy import Policy
from pipeline.records.rewriting import names_of, normalisers_in, normalisers_of
from tests.coordination.evidence import BRANCH, COMMIT, FILES, attestation, policy, revocations
from tests.coordination.test_promotion import allowed, case, comparison, refused, signed

#: What each builder built, and what all of it comes to: `FILES`.
BUILT = {
    name: dict.fromkeys(FILES, digit * 64)
    for name, digit in {"build1": "1", "build2": "2", "build3": "3"}.items()
}
OTHER = FILES | {"debs/agent_1_all.deb": "cc" * 32}


def normalised(use: str = "zip-times", **changes: Any) -> Comparison:
    """That two builds agree when their packages are normalised in this way."""
    artifacts = [
        ComparedArtifact(
            name=name,
            verdict=Verdict.AGREE_NORMALISED,
            left=ComparedSide(size_bytes=1, sha256=BUILT["build1"][name]),
            right=ComparedSide(size_bytes=1, sha256=BUILT["build2"][name]),
            normalisers=[use],
            normalised_sha256=digest,
            rewrites=[Rewrite(path=[], use=[use])],
        )
        for name, digest in FILES.items()
    ]
    return comparison(artifacts=artifacts, verdict=Verdict.AGREE_NORMALISED, **changes)


HOW = normalisers_in(normalised().artifacts)
OTHERWISE = normalisers_in(normalised("tar-times").artifacts)
ALLOWING = policy(normalisers=["tar-times", "zip-times"])


def built(builder: str, **facts: Any) -> Seen:
    """What a builder says of its build as it is."""
    return signed(attestation(builder, BUILT[builder], **facts))


def said(builder: str, files: dict[str, str] = FILES, **facts: Any) -> Seen:
    """What a builder says of its build when normalised."""
    return signed(attestation(builder, files, **{"normalisers": HOW, **facts}))


#: Two builders whose builds differ, and who have both said what they come to.
AGREED = (built("build1"), built("build2"), said("build1"), said("build2"))


def asked(*more: Seen, rules: Policy = ALLOWING, seen: tuple[Seen, ...] = AGREED, **changes: Any) -> Case:
    """A case in which those are to be promoted."""
    changes = {"comparisons": [normalised()], "normalisers": HOW, **changes}
    return case(*seen, *more, rules=rules, **changes)


def manifest(builder: str, files: dict[str, str], job: str = "") -> Stated:
    return Stated(builder, job or f"job-{builder}", "ab" * 32, "11" * 32, files)


def test_two_that_agree_when_normalised() -> None:
    """What each has built is no dissent against what both have said that it comes to; none of the plain
    statements is told as one that does not count.
    """
    stated = [manifest(name, BUILT[name]) for name in ("build1", "build2")]
    ruling = allowed(asked(stated=stated))
    assert (ruling.verdict, names_of(ruling.normalisers)) == ("AGREE-NORMALISED", ["zip-times"])
    assert ruling.normalisers == HOW
    assert [each.builder for each in ruling.tally.counted] == ["build1", "build2"]
    assert (ruling.tally.excluded, ruling.dismissed) == ([], [])


def test_normalised_statements_say_nothing_against_plain_bytes() -> None:
    """Where the same bytes were built, that a builder has said more of its own is no dissent."""
    plain = [signed(attestation(name)) for name in ("build1", "build2")]
    ruling = allowed(case(*plain, said("build1", OTHER), said("build2")))
    assert (ruling.verdict, ruling.tally.excluded) == ("AGREE", [])


def test_a_builder_that_was_never_normalised_blocks() -> None:
    """A third whose build is another one, and who has said nothing of what it comes to, has not agreed:
    signed or not, with a key or without.
    """
    for third in (
        built("build3"),
        replace(built("build3"), signer=None, key=None),
        signed(attestation("stranger", BUILT["build3"])),
    ):
        assert refused(asked(third)) == "dissent"
    assert refused(asked(stated=[manifest("build3", BUILT["build3"])])) == "dissent"
    passed = policy(
        normalisers=["zip-times"], dismissed=[{"sha256": built("build3").sha256, "reason": "a broken disk"}]
    )
    assert allowed(asked(built("build3"), rules=passed)).dismissed == [built("build3").sha256]


def test_a_builder_that_says_the_same_of_its_own_build_agrees() -> None:
    """It has been normalised in the same way, and is the same then: counted as well, and no dissent."""
    third = built("build3"), said("build3")
    stated = [manifest("build3", BUILT["build3"])]
    ruling = allowed(asked(*third, stated=stated, comparisons=[normalised(), _with_third()]))
    assert [each.builder for each in ruling.tally.counted] == ["build1", "build2", "build3"]
    without = allowed(asked(*third, stated=stated))
    assert [each.builder for each in without.tally.counted] == ["build1", "build2"]
    assert [(each.builder, each.reason) for each in without.tally.excluded] == [("build3", "comparison")]


def test_who_was_not_compared_is_not_the_second() -> None:
    """One that was compared and one that was not are not two."""
    seen = (built("build1"), said("build1"), built("build3"), said("build3"))
    assert refused(asked(seen=seen)) == "comparison"


def _with_third() -> Comparison:
    third = normalised()
    assert third.right_build is not None
    build = third.right_build.model_copy(update={"builder": "build3", "job_id": "job-build3"})
    return third.model_copy(update={"right_build": build})


def test_a_builder_that_has_these_very_bytes_agrees() -> None:
    """What was built as the others are when normalised needs no normalising to be the same."""
    third = signed(attestation("build3"))
    assert allowed(asked(third, stated=[manifest("build3", dict(FILES))]))


def test_nobody_agrees_in_anothers_name() -> None:
    """A statement that the dissenter has not signed does not silence it: forged, of a revoked key, of
    another ledger, of another job of its own, or of files that were normalised otherwise.
    """
    third = built("build3")
    stated = [manifest("build3", BUILT["build3"])]
    forged = (
        replace(said("build3"), signer=None, key=None, problem="bad-signature"),
        signed(attestation("build3", FILES, normalisers=HOW), by="build1"),
        signed(attestation("build3", FILES, normalisers=HOW, machine="machine-build1")),
        said("build3", ledger="f" * 40),
        said("build3", job="another"),
        said("build3", inputs="33" * 32),
        said("build3", normalisers=OTHERWISE),
        said("build1", job="job-build3"),
    )
    for each in forged:
        assert refused(asked(third, each)) == "dissent"
        assert refused(asked(each, stated=stated)) == "dissent"
    revoked = Rules(ALLOWING, asked().rules.sha256, revocations("build3"))
    assert refused(replace(asked(third, said("build3")), rules=revoked)) == "dissent"


def test_two_cannot_silence_a_third_that_built_as_one_of_them() -> None:
    """That a third has the bytes of a builder that agrees does not say that it agrees: it may be that one
    which does not tell what its own come to.
    """
    third = signed(attestation("build3", BUILT["build1"]))
    assert refused(asked(third)) == "dissent"


def test_another_build_of_a_builder_that_agrees_blocks() -> None:
    """Each build has to come to these bytes, also the second one of the same builder."""
    again = built("build1", job="job-2")
    assert refused(asked(again)) == "dissent"
    assert refused(asked(stated=[manifest("build1", BUILT["build1"], "job-2")])) == "dissent"
    assert allowed(asked(again, said("build1", job="job-2")))


def test_other_bytes_when_normalised_are_dissent() -> None:
    """A payload that differs comes out of the normalisers: that one is wrong is certain."""
    against = said("build3", OTHER)
    assert refused(asked(built("build3"), against)) == "dissent"
    one_of_two = (built("build1"), built("build2"), said("build1"), said("build2", OTHER))
    assert refused(asked(seen=one_of_two)) == "dissent"


def test_who_says_two_things_of_one_build_contradicts() -> None:
    """That it says these bytes as well does not take back that it says others."""
    assert refused(asked(built("build3"), said("build3"), said("build3", OTHER))) == "dissent"


def test_what_was_normalised_otherwise_does_not_count() -> None:
    """The same normalisers in other places of the packages are something else; so are other normalisers."""
    other_places = normalised()
    artifact = other_places.artifacts[0]
    moved = artifact.model_copy(
        update={"rewrites": [Rewrite(path=["a.jar"], use=["zip-times"]), *artifact.rewrites]}
    )
    of_others = normalisers_in([moved, *other_places.artifacts[1:]])
    assert names_of(of_others) == names_of(HOW)
    assert of_others != HOW
    for how in (of_others, OTHERWISE, [], ["zip-times"]):
        seen = (built("build1"), built("build2"), said("build1"), said("build2", normalisers=how))
        assert refused(asked(seen=seen)) == "other-normalisers"


def test_the_policy_allows_a_normaliser_or_it_does_not_count() -> None:
    """Whoever signed, and whatever the comparison calls it: what was done to the bytes has to be allowed."""
    assert refused(asked(rules=policy())) == "normaliser"
    lying = normalised("payload")
    named = [each.model_copy(update={"normalisers": ["zip-times"]}) for each in lying.artifacts]
    how = normalisers_in(named)
    assert names_of(how) == ["payload"]
    seen = tuple(said(name, normalisers=how) for name in ("build1", "build2"))
    told = lying.model_copy(update={"artifacts": named, "normalisers": ["zip-times"]})
    assert refused(asked(seen=seen, comparisons=[told], normalisers=how)) == "normaliser"
    assert refused(asked(seen=seen, comparisons=[told])) == "other-normalisers"
    smuggled = [signed(attestation(n, normalisers=HOW)) for n in ("build1", "build2")]
    assert refused(asked(*smuggled, comparisons=[told])) in ("comparison", "normaliser")


@pytest.mark.parametrize(
    "how",
    [
        ["rewrites:" + "0" * 64],
        ["rewrites:" + "0" * 64, "rewrites:" + "1" * 64, "zip-times"],
        ["zip-times"],
    ],
)
def test_how_it_was_done_is_known_or_it_is_not_promoted(how: list[str]) -> None:
    """Without names, without what was written anew, or with two of these, whoever signed it."""
    seen = tuple(said(name, normalisers=how) for name in ("build1", "build2"))
    assert refused(asked(*seen, normalisers=how)) == "rewrites"


def test_a_name_that_looks_like_a_digest_is_a_name() -> None:
    """A normaliser cannot be called so that no policy has to allow it."""
    for name in ("rewrites:", "rewrites:payload", "rewrites:" + "0" * 63, "rewrites:" + "0" * 65):
        how = sorted([*HOW, name])
        seen = tuple(said(builder, normalisers=how) for builder in ("build1", "build2"))
        assert refused(asked(*seen, normalisers=how)) == "normaliser"


def test_a_comparison_that_was_forged_promotes_nothing() -> None:
    """Without steps, of digests that nobody signed, or with an artifact that is another one."""
    good = normalised()
    first = good.artifacts[0]
    for change in (
        {"rewrites": []},
        {"normalised_sha256": "ff" * 32},
        {"normalised_sha256": None},
        {"verdict": Verdict.AGREE},
        {"verdict": Verdict.DIFFER},
        {"name": "debs/another_1_all.deb"},
    ):
        forged = good.model_copy(update={"artifacts": [first.model_copy(update=change), *good.artifacts[1:]]})
        assert refused(asked(comparisons=[forged])) == "comparison", change


def _further() -> Comparison:
    """That build1 and build3 agree when normalised in another way, and come to other bytes by that."""
    pair = _with_third()
    artifacts = [
        each.model_copy(
            update={
                "right": ComparedSide(size_bytes=1, sha256=BUILT["build3"][str(each.name)]),
                "rewrites": [Rewrite(path=[], use=["tar-times"])],
                "normalised_sha256": "ee" * 32,
            }
        )
        for each in pair.artifacts
    ]
    return pair.model_copy(update={"artifacts": artifacts})


def test_of_several_comparisons_all_steps_count() -> None:
    """What three come to stands in neither comparison, and in the statements of all three; each comparison
    has to be of the bytes that its builders have signed of these builds.
    """
    pairs = [normalised(), _further()]
    how = normalisers_of(pairs)
    assert names_of(how) == ["tar-times", "zip-times"]
    names = ("build1", "build2", "build3")
    seen = tuple(each for name in names for each in (built(name), said(name, normalisers=how)))
    good = asked(seen=seen, comparisons=pairs, normalisers=how)
    assert [each.builder for each in allowed(good).tally.counted] == list(names)
    assert refused(replace(good, comparisons=pairs[:1])) == "comparison"
    for side in ("left", "right"):
        first = pairs[1].artifacts[0]
        for digest in ("ff" * 32, None):
            other = first.model_copy(update={side: ComparedSide(size_bytes=1, sha256=digest)})
            spoiled = pairs[1].model_copy(update={"artifacts": [other, *pairs[1].artifacts[1:]]})
            assert refused(replace(good, comparisons=[pairs[0], spoiled])) == "comparison"
    unsigned = tuple(each for each in seen if each.statement.facts.normalisers or each.signer != "build3")
    assert refused(replace(good, attestations=unsigned)) == "comparison"


def test_nothing_normalised_was_committed_to() -> None:
    """On a branch that asks for commitments there is none to what a build comes to when normalised."""
    secret = [
        signed(attestation(n, branch="secret", normalisers=HOW), witnessed=True) for n in ("build1", "build2")
    ]
    assert refused(asked(seen=tuple(secret), branch="secret")) == "unwitnessed"


def test_a_forged_statement_does_not_hide_a_manifest() -> None:
    """A statement in a builder's name about other inputs, which it never made, takes nothing from what the
    builder has reported.
    """
    forged = signed(attestation("build3", OTHER, inputs="33" * 32), signer=None, key=None)
    plain = [signed(attestation(name)) for name in ("build1", "build2")]
    stated = [manifest("build3", OTHER)]
    assert refused(case(*plain, forged, stated=stated)) == "dissent"


#: Of every two builds a comparison.
PAIRS = [
    normalised(
        left_build=normalised().left_build.model_copy(update={"builder": one, "job_id": job}),  # type: ignore[union-attr]
        right_build=normalised().right_build.model_copy(update={"builder": two, "job_id": other}),  # type: ignore[union-attr]
    )
    for one, two in (("build1", "build2"), ("build2", "build3"))
    for job in "ab"
    for other in "ab"
]
#: Of each statement: who, whose signature, which job, how normalised, which bytes.
Chosen = list[tuple[str, str | None, str, int, str]]
BYTES = {"same": FILES, "other": OTHER, **BUILT}


BASE: Chosen = [
    (name, name, "a", how, which) for name in ("build1", "build2") for how, which in ((0, name), (1, "same"))
]


@given(
    chosen=st.lists(
        st.tuples(
            st.sampled_from(["build1", "build2", "build3"]),
            st.sampled_from(["build1", "build2", "build3", None]),
            st.sampled_from(["a", "b"]),
            st.sampled_from([0, 1, 1, 2]),
            st.sampled_from(["same", "same", *sorted(BYTES)]),
        ),
        max_size=6,
    ),
    reported=st.lists(
        st.tuples(st.sampled_from(["build1", "build2", "build3"]), st.sampled_from(["a", "b"])), unique=True
    ),
)
@example(chosen=[], reported=[])
@example(chosen=[("build3", "build3", "a", 1, "same")], reported=[("build3", "a")])
@example(chosen=[("build3", None, "a", 1, "same")], reported=[("build3", "a")])
def test_each_build_has_to_agree(chosen: Chosen, reported: list[tuple[str, str]]) -> None:
    """Whatever is said and reported beside two that agree: they are promoted if, and only if, of every build
    that is known its own builder has signed that it comes to these bytes, or it has these very bytes, and
    nobody says that one comes to others.
    """
    hows: list[list[str]] = [[], HOW, OTHERWISE]
    seen = []
    for builder, by, job, how, which in [*BASE, *chosen]:
        statement = attestation(builder, BYTES[which], job=job, normalisers=hows[how])
        seen.append(signed(statement, by) if by else signed(statement, signer=None, key=None))
    stated = [manifest(builder, BUILT[builder], job) for builder, job in reported]
    answer = decide(asked(seen=tuple(seen), stated=stated, comparisons=PAIRS))
    every = [*BASE, *chosen]
    agree = {(b, job) for b, by, job, how, which in every if b == by and how == 1 and which == "same"}
    silent = {(b, job) for b, _, job, how, which in every if how == 0 and which != "same"} | set(reported)
    others = any(how == 1 and which != "same" for _, _, _, how, which in every)
    assert isinstance(answer, Ruling) == (silent <= agree and not others), answer
    assert isinstance(answer, Ruling) or answer.reason == "dissent"


def test_plain_bytes_are_contradicted_by_plain_statements_alone() -> None:
    """For bytes that were built, statements of other ones are dissent, and nothing else, good or not."""
    claim = Claim(BRANCH, COMMIT, "11" * 32, [], FILES)
    plain, other, of_others = (
        attestation("build1"),
        attestation("build2", OTHER),
        attestation("build3", OTHER, normalisers=HOW),
    )
    for good in (True, False):
        assert contradicting(claim, [plain, other, of_others], good=lambda _, it=good: it) == [other]

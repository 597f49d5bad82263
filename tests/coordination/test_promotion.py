"""The decision to promote: every attempt to cheat is refused for a reason of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.coordination.counting import Case, Rules, Seen, Stated, Tally, count
from pipeline.coordination.promotion import Ruling, changes, decide
from pipeline.records.attestation import Attestation
from pipeline.records.base import dump
from pipeline.records.comparison import (
    ComparedArtifact,
    ComparedBuild,
    ComparedSide,
    Comparison,
    Difference,
    Rewrite,
    Verdict,
    Wire,
)
from pipeline.records.decisions import Refusal
from pipeline.records.policy import Policy
from pipeline.records.rewriting import normalisers_in
from pipeline.records.statements import sha256_of
from tests.coordination.evidence import (
    BRANCH,
    COMMIT,
    FILES,
    KEYS,
    LEDGER,
    attestation,
    policy,
    promotion,
    revocations,
)

OTHER = FILES | {"debs/agent_1_all.deb": "cc" * 32}


def signed(statement: Attestation, by: str = "", **changes: Any) -> Seen:
    """A statement with a good signature, by its own builder unless another is named."""
    signer = by or statement.builder
    key = KEYS[signer].public_key.fingerprint
    return replace(Seen(statement, sha256_of(dump(statement)), signer, key, ""), **changes)


def comparison(left: str = "build1", right: str = "build2", **changes: Any) -> Comparison:
    """That two builders' builds agree."""
    artifacts = [
        ComparedArtifact(
            name=name,
            verdict=Verdict.AGREE,
            left=ComparedSide(size_bytes=1, sha256=digest),
            right=ComparedSide(size_bytes=1, sha256=digest),
        )
        for name, digest in FILES.items()
    ]
    builds = [ComparedBuild(builder=n, job_id=f"job-{n}", commit=COMMIT) for n in (left, right)]
    made = Comparison(
        verdict=Verdict.AGREE,
        scope="builds",
        independent=True,
        left=left,
        right=right,
        artifacts=artifacts,
        left_build=builds[0],
        right_build=builds[1],
        wire=Wire(bytes=1, round_trips=1),
        duration_seconds=1.0,
    )
    return made.model_copy(update=changes)


def case(*seen: Seen, rules: Policy | None = None, **changes: Any) -> Case:
    """A case in which build1 and build2 agree, unless other statements are given."""
    under = rules or policy()
    statements = seen or (signed(attestation("build1")), signed(attestation("build2")))
    made = Case(
        Rules(under, sha256_of(dump(policy()))),
        LEDGER,
        BRANCH,
        COMMIT,
        FILES,
        statements,
        [comparison()],
    )
    return replace(made, **changes)


def refused(asked: Case) -> str:
    """Asks for what must be refused, and returns the reason."""
    answer = decide(asked)
    assert isinstance(answer, Refusal), answer
    assert answer.message
    return answer.reason


def allowed(asked: Case) -> Ruling:
    answer = decide(asked)
    assert isinstance(answer, Ruling), answer
    return answer


def test_two_that_agree_are_enough() -> None:
    """k builders that signed these bytes, compared, and nobody against it: promoted."""
    ruling = allowed(case())
    assert [each.builder for each in ruling.tally.counted] == ["build1", "build2"]
    assert (ruling.verdict, ruling.tally.keys, ruling.dismissed) == ("AGREE", "separate", [])


# Who does not count. Each leaves one of the two that are needed.

ONE = signed(attestation("build1"))
CHEATS: dict[str, tuple[Seen, ...]] = {
    "too-few": (),
    "unsigned": (signed(attestation("build2"), signer=None, key=None, problem="unsigned"),),
    "unknown-key": (signed(attestation("build2"), signer=None, key=None, problem="unknown-key"),),
    "bad-signature": (signed(attestation("build2"), signer=None, key=None, problem="bad-signature"),),
    "other-builder": (signed(attestation("build2", key=KEYS["build1"].public_key.fingerprint), by="build1"),),
    "other-key": (signed(attestation("build2"), by="build1"),),
    "other-machine": (signed(attestation("build2", machine="machine-build3")),),
    "other-ledger": (signed(attestation("build2", ledger="f" * 40)),),
    "other-policy": (signed(attestation("build2", policy="ff" * 32)),),
    "other-commit": (signed(attestation("build2", commit="f" * 40)),),
    "other-inputs": (signed(attestation("build2", inputs="33" * 32)),),
    "other-normalisers": (signed(attestation("build2", normalisers=["zip-times"])),),
}


@pytest.mark.parametrize("reason", CHEATS)
def test_what_does_not_count(reason: str) -> None:
    """A statement that is anything but this builder's, of this build, under this policy: one is too few."""
    assert refused(case(ONE, *CHEATS[reason])) == reason


def test_a_revoked_key_does_not_count() -> None:
    """What a revoked key signed counts for nothing, whenever it was."""
    rules = Rules(policy(), sha256_of(dump(policy())), revocations("build2"))
    assert refused(replace(case(), rules=rules)) == "revoked-key"


def test_another_branch_is_another_build() -> None:
    """A statement about the same commit on another branch is about another build."""
    assert refused(case(ONE, signed(attestation("build2", branch="main")))) == "other-commit"


def test_two_keys_are_one_builder() -> None:
    """Two good signatures of one builder, by two keys of its own, count once."""
    again = attestation("build1", job="job-2")
    assert refused(case(ONE, signed(again, key=again.facts.key))) == "too-few"
    tally = count(case(ONE, signed(again), signed(attestation("build2"))))
    assert isinstance(tally, Tally)
    assert len(tally.counted) == 2
    assert [each.reason for each in tally.excluded] == ["counted"]


def test_one_machine_is_one_builder() -> None:
    """Two builders on one machine count once, unless the policy permits it."""
    under = policy()
    shared = under.model_copy(
        update={"builders": [b.model_copy(update={"machine": "machine-build1"}) for b in under.builders]}
    )
    second = signed(attestation("build2", machine="machine-build1"))
    assert refused(case(ONE, second, rules=shared)) == "same-machine"
    permitting = shared.model_copy(update={"allow_shared_machine": True})
    assert allowed(case(ONE, second, rules=permitting)).tally.keys == "separate"


def test_shared_keys() -> None:
    """Who can read the other's key could have signed for both: by its own word, or by the operator's."""
    admits = signed(attestation("build2", readable_keys=["build1"]))
    assert refused(case(ONE, admits)) == "shared-keys"
    under = policy()
    builders = [
        under.builders[0].model_copy(update={"reads_keys_of": ["build2"]}),
        *under.builders[1:],
    ]
    told = under.model_copy(update={"builders": builders})
    assert refused(case(rules=told)) == "shared-keys"
    permitting = told.model_copy(update={"allow_shared_keys": True})
    assert allowed(case(rules=permitting)).tally.keys == "shared"


def test_a_key_that_nobody_needs_is_not_shared() -> None:
    """Only keys of builders that count together matter; everyone reads its own."""
    reads = signed(attestation("build2", readable_keys=["build2", "build3"]))
    assert allowed(case(ONE, reads)).tally.keys == "separate"


def test_k_is_the_policys() -> None:
    """Three are needed if the policy says three, whatever else anybody wrote."""
    assert refused(case(rules=policy(k=3))) == "too-few"
    third = signed(attestation("build3"))
    pair = [comparison(), comparison("build1", "build3")]
    assert (
        len(allowed(case(*case().attestations, third, rules=policy(k=3), comparisons=pair)).tally.counted)
        == 3
    )


def test_a_builder_that_the_policy_does_not_name() -> None:
    """A builder that enrolled itself, with a key of its own, is none."""
    under = policy()
    without = under.model_copy(update={"builders": [b for b in under.builders if b.name != "build2"]})
    assert refused(case(rules=without)) == "unknown-builder"


def test_unwitnessed_digests_do_not_count() -> None:
    """On a branch that asks for it, what was not committed to beforehand counts for nothing."""
    secret = [attestation(n, branch="secret") for n in ("build1", "build2")]
    asked = case(*map(signed, secret), branch="secret")
    assert refused(asked) == "unwitnessed"
    half = [signed(secret[0], witnessed=True), signed(secret[1])]
    assert refused(replace(asked, attestations=half)) == "unwitnessed"
    both = [signed(each, witnessed=True) for each in secret]
    assert len(allowed(replace(asked, attestations=both)).tally.counted) == 2


# Dissent


def test_one_dissenter_blocks() -> None:
    """Two agree, and a third has other bytes: nothing is promoted, signed or not, known key or not."""
    for by in (
        signed(attestation("build3", OTHER)),
        signed(attestation("build3", OTHER), signer=None, key=None),
        signed(attestation("stranger", OTHER)),
    ):
        assert refused(case(*case().attestations, by)) == "dissent"


def test_dissent_of_a_revoked_key_blocks_until_it_is_dismissed() -> None:
    """A revocation takes a voice for, not one against: the policy passes over that by name."""
    third = signed(attestation("build3", OTHER))
    seen = (*case().attestations, third)
    rules = Rules(policy(), sha256_of(dump(policy())), revocations("build3"))
    assert refused(replace(case(*seen), rules=rules)) == "dissent"
    passed = policy(dismissed=[{"sha256": third.sha256, "reason": "a broken disk"}])
    assert allowed(case(*seen, rules=passed)).dismissed == [third.sha256]
    another = policy(dismissed=[{"sha256": "ff" * 32, "reason": "another one"}])
    assert refused(case(*seen, rules=another)) == "dissent"


def test_a_builder_that_contradicts_itself_dissents() -> None:
    """A second build of the same inputs on the same builder with other bytes is dissent."""
    again = signed(attestation("build1", OTHER, job="job-2"))
    assert refused(case(*case().attestations, again)) == "dissent"


def test_a_file_more_or_less_is_dissent() -> None:
    """Dissent is about the whole set, not about the files that both have."""
    for files in (FILES | {"debs/more_1_all.deb": "dd" * 32}, dict(list(FILES.items())[:1])):
        assert refused(case(*case().attestations, signed(attestation("build3", files)))) == "dissent"


def test_who_built_from_other_inputs_does_not_dissent() -> None:
    """Another recipe gives other bytes; so does another commit."""
    others = signed(attestation("build3", OTHER, inputs="33" * 32))
    earlier = signed(attestation("build3", OTHER, commit="f" * 40))
    assert allowed(case(*case().attestations, others, earlier)).dismissed == []


def test_a_manifest_that_nobody_signed_dissents_as_well() -> None:
    """A builder that reported other bytes and signed nothing is heard all the same."""
    stated = Stated("build3", "job-build3", "ab" * 32, "11" * 32, OTHER)
    assert refused(case(stated=[stated])) == "dissent"
    assert allowed(case(stated=[replace(stated, artifacts=FILES)])).dismissed == []
    assert allowed(case(stated=[replace(stated, inputs="33" * 32)])).dismissed == []
    passed = policy(dismissed=[{"sha256": "ab" * 32, "reason": "a broken disk"}])
    assert allowed(case(stated=[stated], rules=passed)).dismissed == ["ab" * 32]


def test_two_that_differ_dissent_from_each_other() -> None:
    """If one of two signed these bytes and the other one others, the reason is dissent, not a lack."""
    assert refused(case(ONE, signed(attestation("build2", OTHER)))) == "dissent"


def test_bytes_that_were_swapped() -> None:
    """Files that nobody signed are not promoted, however well the builders agree about others."""
    assert refused(case(files=OTHER)) == "other-bytes"
    assert refused(case(files={})) == "empty"
    assert refused(case(files=dict(list(FILES.items())[:1]))) == "other-bytes"


# Comparisons

UNFIT: dict[str, list[Comparison]] = {
    "none": [],
    "of files": [comparison(scope="files")],
    "without builds": [comparison(left_build=None)],
    "of one host": [comparison(independent=False)],
    "of one builder": [comparison("build1", "build1")],
    "that differs": [comparison(verdict=Verdict.DIFFER)],
    "that is incomplete": [comparison(verdict=Verdict.INCOMPLETE)],
    "with a problem": [comparison(problems=["a side is empty"])],
    "of other inputs": [comparison(inputs=[Difference(name="commit", left="1", right="2")])],
    "without artifacts": [comparison(artifacts=[])],
    "of fewer": [comparison(artifacts=comparison().artifacts[:1])],
    "of one twice": [comparison(artifacts=[*comparison().artifacts, comparison().artifacts[0]])],
    "of other builds": [comparison("build1", "build3")],
    "of another job": [
        comparison(right_build=ComparedBuild(builder="build2", job_id="another", commit=COMMIT))
    ],
    "of another commit": [
        comparison(right_build=ComparedBuild(builder="build2", job_id="job-build2", commit="f" * 40))
    ],
    "one good, one bad": [comparison(), comparison("build1", "build3", verdict=Verdict.DIFFER)],
}


@pytest.mark.parametrize("which", UNFIT)
def test_a_comparison_that_shows_nothing(which: str) -> None:
    """Agreement has to have been found, of exactly these builds and these files."""
    assert refused(case(comparisons=UNFIT[which])) == "comparison"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("digest", ["cc" * 32, None])
def test_a_comparison_of_other_bytes(side: str, digest: str | None) -> None:
    """The digests of both sides are those that are promoted; one that is missing is not."""
    artifacts = comparison().artifacts
    spoiled = artifacts[0].model_copy(update={side: ComparedSide(size_bytes=1, sha256=digest)})
    assert refused(case(comparisons=[comparison(artifacts=[spoiled, artifacts[1]])])) == "comparison"


def test_normalisers_are_the_policys() -> None:
    """What agrees only when it is normalised needs the policy's leave, and signatures of what comes out."""
    artifacts = [
        each.model_copy(
            update={
                "verdict": Verdict.AGREE_NORMALISED,
                "normalisers": ["zip-times"],
                "normalised_sha256": FILES[str(each.name)],
                "left": ComparedSide(size_bytes=1, sha256="01" * 32),
                "rewrites": [Rewrite(path=[], use=["zip-times"])],
            }
        )
        for each in comparison().artifacts
    ]
    how = normalisers_in(artifacts)
    agreed = comparison(artifacts=artifacts, verdict=Verdict.AGREE_NORMALISED)
    normal = [signed(attestation(n, normalisers=how)) for n in ("build1", "build2")]
    asked = case(*normal, comparisons=[agreed], normalisers=how)
    assert refused(asked) == "normaliser"
    permitting = replace(asked, rules=replace(asked.rules, policy=policy(normalisers=["zip-times"])))
    assert allowed(permitting).verdict == "AGREE-NORMALISED"
    raw = replace(permitting, attestations=case().attestations)
    assert refused(raw) == "other-normalisers"
    assert refused(replace(permitting, comparisons=[comparison()])) == "comparison"


# History


def test_what_stands_is_not_promoted_again() -> None:
    """The last entry again is refused; under a new policy it is another entry."""
    assert refused(case(history=[promotion()])) == "promoted"
    assert allowed(case(history=[promotion(policy="ff" * 32)]))


def test_what_was_replaced_comes_back_by_a_rollback_only() -> None:
    """A commit that something newer has replaced is not promoted as if it were new."""
    newer = promotion(number=2, predecessor="ab" * 32, commit="f" * 40)
    assert refused(case(history=[promotion(), newer])) == "older"


def test_the_difference_from_the_last_one() -> None:
    """What is new, gone or other than last time is named with both digests."""
    found = {
        each.name: (each.before, each.after) for each in changes(promotion(), OTHER | {"new": "ee" * 32})
    }
    assert found == {"debs/agent_1_all.deb": ("bb" * 32, "cc" * 32), "new": (None, "ee" * 32)}
    assert len(changes(None, FILES)) == 2
    assert changes(promotion(), {}) != []


# In general

#: Builder, whose signature, whether of these bytes, inputs.
Chosen = list[tuple[str, str | None, bool, str]]


@given(
    chosen=st.lists(
        st.tuples(
            st.sampled_from(["build1", "build2", "build3"]),
            st.sampled_from(["build1", "build2", "build3", None]),
            st.booleans(),
            st.sampled_from(["11" * 32, "33" * 32]),
        ),
        max_size=7,
    ),
    k=st.integers(1, 3),
)
def test_nothing_is_promoted_without_k_good_signatures(chosen: Chosen, k: int) -> None:
    """Whatever comes together: promoted only if k signed these bytes and no equal build differs."""
    seen = []
    for number, (builder, by, same, inputs) in enumerate(chosen):
        said = attestation(
            builder, FILES if same else OTHER, inputs=inputs, job=f"job-{builder}", attempt=number + 1
        )
        seen.append(signed(said, by) if by else signed(said, signer=None, key=None))
    pairs = [comparison("build1", "build2"), comparison("build2", "build3")]
    asked = case(rules=policy(k=k), comparisons=pairs)
    answer = decide(replace(asked, attestations=seen))
    if isinstance(answer, Ruling):
        inputs = answer.tally.inputs
        honest = {b for b, by, same, of in chosen if b == by and same and of == inputs}
        assert len(honest) >= k
        assert {each.builder for each in answer.tally.counted} == honest
        assert all(same for _, _, same, of in chosen if of == inputs)

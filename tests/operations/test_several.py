"""Promotion where more than two have built: all that counts was compared, and dissent stays dissent."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pipeline.coordination.pairs import agreeing
from pipeline.coordination.queue import TAIL
from pipeline.errors import PromotionRefused
from pipeline.operations.promote import Order, Promoted, promote
from pipeline.operations.promoted import verify_set
from pipeline.operations.queue import find
from pipeline.operations.secret import reveal_ready
from pipeline.records.comparison import ComparedPair, Comparison, Verdict
from tests.operations.yard import BRANCH, FILES, NAMES, OTHER, Yard, commit, installed


def together(*pairs: Comparison) -> Comparison:
    """Returns one comparison of several builds: the first of these pairs, and the others beside it."""
    names = ComparedPair.model_fields
    others = [ComparedPair.model_validate({n: getattr(each, n) for n in names}) for each in pairs[1:]]
    return pairs[0].model_copy(update={"pairs": others})


def pair(yard: Yard, left: str, right: str, **changes: object) -> Comparison:
    """Returns what comparing two jobs says that agree with build1's."""
    one = next(yard.sites["build1"].settings.artifacts.glob("*/*/*")).name.partition(".")[0]
    found = yard.compared(one, right, **changes)
    assert found.right_build is not None
    build = found.right_build.model_copy(update={"builder": left.rpartition("-")[2], "job_id": left})
    return found.model_copy(update={"left": left, "left_build": build})


def built(yard: Yard, files: Mapping[str, dict[str, bytes]] | None = None) -> dict[str, str]:
    """Lets three builders build and sign. Returns their jobs."""
    jobs = {name: yard.build(name, (files or {}).get(name)) for name in NAMES}
    for name, job in jobs.items():
        yard.attest(name, job)
    return jobs


def every_two(yard: Yard, jobs: Mapping[str, str], verdict: Verdict = Verdict.AGREE) -> Comparison:
    """Returns what comparing three says, of whom the third agrees or does not; what tells most is first."""
    one, two, three = jobs.values()
    pairs = [
        pair(yard, one, three, verdict=verdict),
        pair(yard, two, three, verdict=verdict),
        pair(yard, one, two),
    ]
    return together(*pairs)


def promoted(yard: Yard, found: Comparison, job: str) -> Promoted:
    order = Order([found], job)
    return promote(yard.sites["build1"], yard.trusts["build1"], yard.signers["operator"], order, installed)


def test_three_of_three(yard: Yard) -> None:
    """With k of three one comparison of all of them is enough, and who verifies finds all three."""
    yard.draft(k=3)
    yard.sign()
    jobs = built(yard)
    done = promoted(yard, every_two(yard, jobs), jobs["build1"])
    assert [each.builder for each in done.entry.counted] == list(NAMES)
    assert verify_set(done.folder, yard.trust("anybody")).builders == list(NAMES)


def test_one_that_was_not_compared_does_not_count(yard: Yard) -> None:
    """With k of three a comparison of two of them is not enough, whatever the third has signed."""
    yard.draft(k=3)
    yard.sign()
    jobs = built(yard)
    with pytest.raises(PromotionRefused, match="build3 counts, and none is of its build") as caught:
        promoted(yard, pair(yard, jobs["build1"], jobs["build2"]), jobs["build1"])
    assert caught.value.reason == "comparison"
    found = every_two(yard, jobs, Verdict.INCOMPLETE)
    with pytest.raises(PromotionRefused, match="build3 counts, and none is of its build") as caught:
        promoted(yard, found, jobs["build1"])
    assert caught.value.reason == "comparison"


def test_dissent_blocks_until_it_is_dismissed(yard: Yard) -> None:
    """Two of three agree: the third blocks by what it has signed, until that is dismissed by name."""
    jobs = built(yard, {"build3": OTHER})
    found = every_two(yard, jobs, Verdict.DIFFER)
    with pytest.raises(PromotionRefused, match="Somebody who built the same has other bytes") as caught:
        promoted(yard, found, jobs["build1"])
    assert caught.value.reason == "dissent"
    wrong = yard.attest("build3", jobs["build3"]).sha256
    yard.draft(k=2, dismissed=[{"sha256": wrong, "reason": "its disk is broken"}])
    yard.sign()
    for name in ("build1", "build2"):
        yard.attest(name, jobs[name])
    done = promoted(yard, found, jobs["build1"])
    assert [each.builder for each in done.entry.counted] == ["build1", "build2"]
    assert done.entry.dismissed == [wrong]


def test_unsigned_dissent_blocks_as_well(yard: Yard) -> None:
    """A third build that nobody has signed is dissent by its manifest, though no pair with it is used."""
    jobs = {name: yard.build(name, OTHER if name == "build3" else FILES) for name in NAMES}
    for name in ("build1", "build2"):
        yard.attest(name, jobs[name])
    with pytest.raises(PromotionRefused) as caught:
        promoted(yard, every_two(yard, jobs, Verdict.DIFFER), jobs["build1"])
    assert caught.value.reason == "dissent"


@pytest.mark.parametrize("point", ["", "copied", "prepared"])
@pytest.mark.parametrize("yard", ["memory"], indirect=True)
def test_dissent_that_is_revealed_late_blocks_as_well(yard: Yard, point: str) -> None:
    """What is revealed after its job went into the archive is dissent like any other, also where it comes
    while the promotion is decided.
    """
    one, three = yard.sites["build1"], yard.sites["build3"]
    jobs = {"build1": "r1-build1", "build3": "r1-build3"}
    one.ask({"kind": "round.order", "id": "r1", "branch": BRANCH, "commit": commit(1), "jobs": jobs})
    for name, job in jobs.items():
        yard.commit(name, job, OTHER if name == "build3" else FILES)
    for number in range(2 * TAIL + 1):
        one.ask({"kind": "job.create", "id": f"job-{number}", "branch": "b", "commit": commit(9)})
        one.ask({"kind": "job.cancel", "job_id": f"job-{number}"})
    assert find(three.state().view, jobs["build3"])[1] is not None
    agreed, revealed = yard.agree(), list[str]()

    def step(at: str) -> None:
        if at == point and not revealed:
            revealed.extend(each.job_id for each in reveal_ready(three))

    one.step = step
    step("")
    with pytest.raises(PromotionRefused, match="build3, job r1-build3, in its manifest") as caught:
        yard.promote(agreed)
    assert caught.value.reason == "dissent"
    assert revealed == [jobs["build3"]]


def test_other_inputs_neither_support_nor_contradict(yard: Yard) -> None:
    """A third build of other inputs is incomparable: it keeps nobody from promoting what two agree about."""
    jobs = {"build1": yard.build("build1"), "build2": yard.build("build2")}
    jobs["build3"] = yard.build("build3", OTHER, maven_opts="-Xmx9g")
    for name, job in jobs.items():
        yard.attest(name, job)
    done = promoted(yard, every_two(yard, jobs, Verdict.INCOMPARABLE), jobs["build1"])
    assert [each.builder for each in done.entry.counted] == ["build1", "build2"]


@pytest.mark.parametrize("yard", ["memory"], indirect=True)
def test_which_pairs_say_something(yard: Yard) -> None:
    """Of several builds as few agreeing pairs as join them; independent ones first; else what was said."""
    jobs = built(yard)
    one, two, three = jobs.values()

    def kept(found: Comparison) -> list[tuple[str, str]]:
        pairs = agreeing([found])
        assert all(each.pairs == [] for each in pairs) or pairs == [found]
        return [(str(each.left), str(each.right)) for each in pairs]

    four = "job-9-build4"
    ends = [pair(yard, one, two), pair(yard, three, four), pair(yard, one, three), pair(yard, two, four)]
    assert kept(together(*ends)) == [
        (one, two),
        (three, four),
        (one, three),
    ]  # each two would leave two halves
    alone = pair(yard, one, two, verdict=Verdict.DIFFER)
    assert agreeing([alone]) == [alone]
    assert kept(every_two(yard, jobs)) == [(one, three), (two, three)]
    assert kept(every_two(yard, jobs, Verdict.DIFFER)) == [(one, two)]
    shared = together(pair(yard, one, two, independent=False), pair(yard, one, three), pair(yard, two, three))
    assert kept(shared) == [(one, three), (two, three)]
    spoiled = together(pair(yard, one, two, problems=["x"]), pair(yard, one, three), pair(yard, two, three))
    assert kept(spoiled) == [(one, three), (two, three)]
    apart = together(*(each.model_copy(update={"verdict": Verdict.DIFFER}) for each in shared.each_pair()))
    assert agreeing([apart]) == [apart]
    normalised = together(
        pair(yard, one, two),
        pair(yard, one, three, verdict=Verdict.AGREE_NORMALISED),
        pair(yard, two, three, verdict=Verdict.AGREE_NORMALISED),
    )
    assert kept(normalised) == [(one, three), (two, three)]

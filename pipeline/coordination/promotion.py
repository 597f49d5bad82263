"""May these bytes be promoted? PURE: (policy, statements, comparisons, history, bytes) -> yes, or why not.

Guarantees (`tests/coordination/test_promotion.py`): at least k builders of the policy, on as many machines,
have signed exactly these bytes; nobody who built from the same inputs has stated others, unless the operator
has dismissed that statement by name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.coordination.counting import Case, Digests, Excluded, Tally, count
from pipeline.coordination.dissent import dissent, is_of_builds
from pipeline.records.comparison import Comparison, Verdict
from pipeline.records.decisions import Refusal
from pipeline.records.policy import Policy
from pipeline.records.promotion import Promotion
from pipeline.records.rewriting import is_one_way, names_of, normalisers_of


@dataclass(frozen=True)
class Ruling:
    """That these bytes may be promoted, and what the entry has to say."""

    tally: Tally
    verdict: Literal["AGREE", "AGREE-NORMALISED"]
    normalisers: list[str]
    dismissed: list[str]


# What a promoter asks


def decide(case: Case) -> Ruling | Refusal:
    """Says whether these bytes may be promoted as the branch's next entry."""
    counted = not_allowed(case.rules.policy, case.normalisers) or _counted(case)
    if isinstance(counted, Refusal):
        return counted
    tally, dismissed = counted
    found = compared(case)
    if isinstance(found, Refusal):
        return found
    if missing := _uncompared(case, tally):
        return _unfit(f"{missing} counts, and none is of its build")
    verdict, normalisers = found
    return _again(case) or Ruling(tally, verdict, normalisers, dismissed)


def restore(case: Case, old: Promotion) -> Ruling | Refusal:
    """Says whether what an earlier entry promoted may come back: by the rules of today, as if it were new.

    It was compared then; whether its builders' keys still count, and what others say, is looked at now.
    """
    last = case.history[-1] if case.history else None
    if last and (last.commit, last.digests) == (old.commit, old.digests):
        return Refusal("promoted", f"That is what stands already, as number {last.number}.")
    counted = not_allowed(case.rules.policy, old.normalisers) or _counted(case)
    if isinstance(counted, Refusal):
        return counted
    tally, dismissed = counted
    return Ruling(tally, old.verdict, list(old.normalisers), dismissed)


def _counted(case: Case) -> tuple[Tally, list[str]] | Refusal:
    """Returns who counts, and the digests of the dissent that the policy dismisses: other dissent refuses."""
    tally = count(case)
    if isinstance(tally, Refusal):
        return _or_dissent(case, tally)
    against = dissent(case, tally.inputs)
    dismissed = {each.sha256 for each in case.rules.policy.dismissed}
    if open_ones := [each for each in against if each.sha256 not in dismissed]:
        return _dissenting(open_ones)
    return tally, sorted(each.sha256 for each in against)


def _or_dissent(case: Case, tally: Refusal) -> Refusal:
    """Returns why too few count: it is dissent if one signed these bytes, and another one others."""
    inputs = {
        s.statement.facts.inputs for s in case.attestations if s.statement.artifacts == dict(case.files)
    }
    against = [each for one in sorted(inputs) for each in dissent(case, one)]
    return _dissenting(against) if tally.reason == "other-bytes" and against else tally


def _dissenting(against: Sequence[Excluded]) -> Refusal:
    lines = ["Somebody who built the same has other bytes, so nothing is promoted, whatever the others say:"]
    lines += [f"  {each.message}" for each in against]
    remedy = "Find out who is right. A statement that is wrong is passed over by its digest in the policy."
    return Refusal("dissent", "\n".join(lines), remedy)


def compared(case: Case) -> tuple[Literal["AGREE", "AGREE-NORMALISED"], list[str]] | Refusal:
    """Holds the comparisons to what promotion asks of them, and returns the verdict over all of them."""
    if not case.comparisons and case.rules.policy.k > 1:
        return _unfit("there is none")
    for each in case.comparisons:
        if why := _why_unfit(case, each):
            return _unfit(why)
    normalisers = normalisers_of(case.comparisons)
    if refused := not_allowed(case.rules.policy, normalisers):
        return refused
    if normalisers != sorted(case.normalisers):
        return _unfit("it is of files that are normalised otherwise")
    return ("AGREE-NORMALISED" if normalisers else "AGREE"), normalisers


def not_allowed(policy: Policy, normalisers: Collection[str]) -> Refusal | None:
    """Refuses what agrees only by what the policy does not allow, or in nobody knows which way."""
    if foreign := sorted(set(names_of(normalisers)) - set(policy.normalisers)):
        return Refusal(
            "normaliser",
            f"They agree only when normalised by {foreign[0]!r}, which the policy does not allow.",
            "Remove the cause by the recipe, or allow it in the policy.",
        )
    if not is_one_way(normalisers):
        return Refusal("rewrites", "They were not all normalised in one way.", "Promote by one comparison.")
    return None


def _why_unfit(case: Case, found: Comparison) -> str | None:
    builds = found.left_build, found.right_build
    if found.scope != "builds" or None in builds:
        return "it is of files, not of builds"
    if any(build.commit != case.commit for build in builds if build):
        return "it is of another commit"
    if len({build.builder for build in builds if build}) < 2:
        return "it is of one builder"
    if not found.independent and not case.rules.policy.allow_shared_machine:
        return "nothing shows that two machines made its two sides"
    if found.verdict not in (Verdict.AGREE, Verdict.AGREE_NORMALISED) or found.problems or found.inputs:
        return f"its verdict is {found.verdict}"
    if {each.name for each in found.artifacts} != set(case.files) or len(found.artifacts) != len(case.files):
        return "it is of other files"
    for artifact in found.artifacts:
        if artifact.verdict == Verdict.AGREE and not artifact.rewrites:
            digests = {artifact.left.sha256, artifact.right.sha256}
        elif artifact.verdict == Verdict.AGREE_NORMALISED and artifact.rewrites:
            digests = {artifact.normalised_sha256}
        else:
            return f"of {artifact.name} its verdict is {artifact.verdict}"
        if digests != {case.files[artifact.name]} and not is_of_builds(case, found, artifact):
            return f"{artifact.name} has other bytes now than when it was compared"
    return None


def _unfit(why: str) -> Refusal:
    return Refusal(
        "comparison",
        f"No comparison shows that the builders agree about these bytes: {why}.",
        "Run `invoke compare`, and promote what it says AGREE of.",
    )


def _uncompared(case: Case, tally: Tally) -> str | None:
    """Returns a builder that counts for a build that was not compared, where several have to agree."""
    builds = {(b.builder, b.job_id) for c in case.comparisons for b in (c.left_build, c.right_build) if b}
    if case.rules.policy.k == 1:
        return None
    return next((each.builder for each in tally.counted if (each.builder, each.job) not in builds), None)


def _again(case: Case) -> Refusal | None:
    """Refuses what stands already, and what stood before something newer: that is a rollback."""
    digests = dict(case.files)
    last = case.history[-1] if case.history else None
    if last and (last.commit, last.digests, last.policy) == (case.commit, digests, case.rules.sha256):
        return Refusal("promoted", f"These bytes are promoted already, as number {last.number}.")
    older = next((each for each in case.history[:-1] if each.commit == case.commit), None)
    if older and last and last.commit != case.commit:
        return Refusal(
            "older",
            f"{case.commit[:12]} was promoted as number {older.number}; what stands now came after it.",
            f"To go back on purpose: `invoke rollback --branch {case.branch} --number {older.number}`.",
        )
    return None


# What is different from the last one


@dataclass(frozen=True)
class Change:
    """One artifact that is not as it was: digests before and after, None where there is none."""

    name: str
    before: str | None
    after: str | None


def changes(before: Promotion | None, files: Digests) -> list[Change]:
    """Returns how a set differs from the last promoted one."""
    old = before.digests if before else {}
    names = sorted({*old, *files})
    return [Change(n, old.get(n), files.get(n)) for n in names if old.get(n) != files.get(n)]

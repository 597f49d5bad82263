"""May these bytes be promoted? PURE: (policy, statements, comparisons, history, bytes) -> yes, or why not.

Guarantees (`tests/coordination/test_promotion.py`): at least k builders of the policy, on as many machines,
have signed exactly these bytes; nobody who built from the same inputs has stated others, unless the operator
has dismissed that statement by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.coordination.counting import Case, Digests, Excluded, Tally, count, first_difference
from pipeline.records.attestation import Attestation
from pipeline.records.comparison import Comparison, Verdict
from pipeline.records.decisions import Refusal
from pipeline.records.promotion import Promotion


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
    counted = _counted(case)
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
    counted = _counted(case)
    if isinstance(counted, Refusal):
        return counted
    tally, dismissed = counted
    if foreign := sorted(set(old.normalisers) - set(case.rules.policy.normalisers)):
        return Refusal("normaliser", f"The policy does not allow the normaliser {foreign[0]!r} any more.")
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


def dissent(case: Case, inputs: str) -> list[Excluded]:
    """Returns the statements, signed or not, by which a build of the same inputs has other bytes."""
    found = []
    attested = {(each.statement.builder, each.statement.facts.job) for each in case.attestations}
    for each in case.attestations:
        if differs(each.statement, case.branch, case.commit, inputs, case.normalisers, case.files):
            where = first_difference(each.statement.artifacts, case.files)
            words = f"{each.statement.builder}, job {each.statement.facts.job} ({each.sha256[:12]}): {where}."
            found.append(Excluded(each.statement.builder, each.sha256, "dissent", words))
    compared_jobs = {
        (b.builder, b.job_id) for c in case.comparisons for b in (c.left_build, c.right_build) if b
    }
    for one in case.stated:
        key = one.builder, one.job
        if key in attested or one.inputs != inputs or (case.normalisers and key in compared_jobs):
            continue
        if case.normalisers or dict(one.artifacts) != dict(case.files):
            words = f"{one.builder}, job {one.job}, in its manifest ({one.sha256[:12]})."
            found.append(Excluded(one.builder, one.sha256, "dissent", words))
    return found


def differs(
    statement: Attestation,
    branch: str,
    commit: str,
    inputs: str,
    normalisers: Iterable[str],
    files: Digests,
) -> bool:
    """Says whether a statement is about the same build and states other bytes."""
    same = (statement.order.branch, statement.order.commit) == (branch, commit)
    return (
        same
        and statement.facts.inputs == inputs
        and sorted(statement.facts.normalisers) == sorted(normalisers)
        and statement.artifacts != dict(files)
    )


def compared(case: Case) -> tuple[Literal["AGREE", "AGREE-NORMALISED"], list[str]] | Refusal:
    """Holds the comparisons to what promotion asks of them, and returns the verdict over all of them."""
    if not case.comparisons and case.rules.policy.k > 1:
        return _unfit("there is none")
    normalisers: set[str] = set()
    for each in case.comparisons:
        if why := _why_unfit(case, each):
            return _unfit(why)
        normalisers |= {name for artifact in each.artifacts for name in artifact.normalisers}
    if foreign := sorted(normalisers - set(case.rules.policy.normalisers)):
        return Refusal(
            "normaliser",
            f"They agree only when normalised by {foreign[0]!r}, which the policy does not allow.",
            "Remove the cause by the recipe, or allow it in the policy.",
        )
    if sorted(normalisers) != sorted(case.normalisers):
        return _unfit("it is of files that are normalised otherwise")
    return ("AGREE-NORMALISED" if normalisers else "AGREE"), sorted(normalisers)


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
        if artifact.verdict == Verdict.AGREE and not artifact.normalisers:
            digests = {artifact.left.sha256, artifact.right.sha256}
        elif artifact.verdict == Verdict.AGREE_NORMALISED and artifact.normalisers:
            digests = {artifact.normalised_sha256}
        else:
            return f"of {artifact.name} its verdict is {artifact.verdict}"
        if digests != {case.files[artifact.name]}:
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

"""May these bytes be promoted? PURE: (policy, statements, comparisons, history, bytes) -> yes, or why not.

`count` is the part that whoever verifies a promoted set does again, with nothing but files. `decide` is what
a promoter asks before an entry is written. Neither looks at a signature: each statement comes with what its
signature has shown, and with who that makes its author.

Guarantees (`tests/coordination/test_promotion.py`): at least k builders of the policy, on as many machines,
have signed exactly these bytes; nobody who built from the same inputs has stated others, unless the operator
has dismissed that statement by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.records.comparison import Comparison, Verdict
from pipeline.records.decisions import Refusal
from pipeline.records.policy import Attestation, CountedBuild, Policy, PolicyBuilder, Promotion, Revocations

#: The SHA-256 of each file by its name in the set.
Digests = Mapping[str, str]


@dataclass(frozen=True)
class Rules:
    """What is in force: the policy with the SHA-256 of its bytes, and the root's list of revoked keys."""

    policy: Policy
    sha256: str
    revocations: Revocations | None = None

    @property
    def revoked(self) -> frozenset[str]:
        """Returns the fingerprints of keys that count for nothing."""
        return self.revocations.keys if self.revocations else frozenset()

    def builder(self, name: str | None) -> PolicyBuilder | None:
        """Returns a builder of the policy."""
        return next((each for each in self.policy.builders if each.name == name), None)


@dataclass(frozen=True)
class Seen:
    """An attestation as it was found. `signer` and `key` are whose signature it has, None without a good one;
    `problem` is then why. `witnessed`: it was committed to before its digests could be seen.
    """

    statement: Attestation
    sha256: str
    signer: str | None = None
    key: str | None = None
    problem: str = "unsigned"
    witnessed: bool = False


@dataclass(frozen=True)
class Stated:
    """A build's manifest, which nobody has signed. `sha256` is that of the manifest's bytes."""

    builder: str
    job: str
    sha256: str
    inputs: str
    artifacts: Digests


@dataclass(frozen=True)
class Excluded:
    """A statement that does not count, and why: one stable word, and a sentence."""

    builder: str
    sha256: str
    reason: str
    message: str


@dataclass(frozen=True)
class Tally:
    """Who counts. `inputs` is what they all built from."""

    counted: list[CountedBuild]
    inputs: str
    keys: Literal["separate", "shared"]
    excluded: list[Excluded] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """What a promotion is asked for with. `files` are the digests of the bytes that would be published.

    `dissent` are manifests of this branch and commit that nobody has signed, `history` the branch's entries,
    oldest first.
    """

    rules: Rules
    ledger: str
    branch: str
    commit: str
    files: Digests
    attestations: Sequence[Seen]
    comparisons: Sequence[Comparison] = ()
    stated: Sequence[Stated] = ()
    history: Sequence[Promotion] = ()
    normalisers: Sequence[str] = ()


@dataclass(frozen=True)
class Ruling:
    """That these bytes may be promoted, and what the entry has to say."""

    tally: Tally
    verdict: Literal["AGREE", "AGREE-NORMALISED"]
    normalisers: list[str]
    dismissed: list[str]


# Who counts


def count(case: Case) -> Tally | Refusal:
    """Counts the builders that have signed exactly these bytes. Too few, or shared keys, are refused."""
    policy = case.rules.policy
    if not case.files:
        return Refusal("empty", "There is nothing to promote: no file at all.")
    if policy.ledger != case.ledger:
        return Refusal("other-ledger", f"The policy is for another ledger, {policy.ledger[:12]}.")
    excluded: list[Excluded] = []
    good: list[Seen] = []
    for each in case.attestations:
        why = next((found for rule in _RULES if (found := rule(case, each))), None)
        if why is None:
            good.append(each)
        else:
            excluded.append(Excluded(each.statement.builder, each.sha256, *why))
    inputs = _of_most(good)
    counted: list[Seen] = []
    machines: set[str] = set()
    for each in sorted(good, key=lambda seen: (seen.statement.builder, seen.sha256)):
        facts, builder = each.statement.facts, each.statement.builder
        if facts.inputs != inputs:
            why = "other-inputs", f"{builder} built from other inputs, of job {facts.job}."
        elif any(one.statement.builder == builder for one in counted):
            why = "counted", f"{builder} counts once, however many keys it has."
        elif facts.machine in machines and not policy.allow_shared_machine:
            why = "same-machine", f"{builder} is on the machine of another builder that counts."
        else:
            counted.append(each)
            machines.add(facts.machine)
            continue
        excluded.append(Excluded(builder, each.sha256, *why))
    if len(counted) < policy.k:
        return _too_few(policy, counted, excluded)
    return _with_keys(case.rules, counted, inputs or "", excluded)


def _too_few(policy: Policy, counted: list[Seen], excluded: list[Excluded]) -> Refusal:
    names = ", ".join(each.statement.builder for each in counted) or "nobody"
    lines = [
        f"{len(counted)} of the {policy.k} builders that the policy asks for signed these bytes: {names}."
    ]
    lines += [f"  {each.message}" for each in excluded]
    # A second key of a builder that counts is no reason for another one to be missing.
    reasons = [each.reason for each in excluded if each.reason != "counted"]
    reason = reasons[0] if reasons else "too-few"
    return Refusal(reason, "\n".join(lines), "Let another builder of the policy build it, and sign.")


def _with_keys(rules: Rules, counted: list[Seen], inputs: str, excluded: list[Excluded]) -> Tally | Refusal:
    names = {each.statement.builder for each in counted}
    shared = []
    for each in counted:
        builder = rules.builder(each.statement.builder)
        reads = {*each.statement.facts.readable_keys, *(builder.reads_keys_of if builder else ())}
        shared += [
            f"{each.statement.builder} reads the key of {name}"
            for name in sorted(reads & names - {each.statement.builder})
        ]
    if shared and not rules.policy.allow_shared_keys:
        return Refusal(
            "shared-keys",
            f"Keys are shared: {'; '.join(shared)}. One of them could have signed for both.",
            "Keep each key where its builder alone reads it, or permit it in the policy.",
        )
    builds = [
        CountedBuild(builder=each.statement.builder, job=each.statement.facts.job, attestation=each.sha256)
        for each in counted
    ]
    return Tally(builds, inputs, "shared" if shared else "separate", excluded)


def _of_most(good: Sequence[Seen]) -> str | None:
    """Returns the inputs that most builders built from; of several the smallest, so for whoever counts."""
    builders: dict[str, set[str]] = {}
    for each in good:
        builders.setdefault(each.statement.facts.inputs, set()).add(each.statement.builder)
    return min(builders, key=lambda inputs: (-len(builders[inputs]), inputs), default=None)


# Why a statement does not count

Why = tuple[str, str]


def _signature(case: Case, seen: Seen) -> Why | None:
    if seen.signer is None:
        return seen.problem, f"What is said in {seen.statement.builder}'s name shows no good signature."
    if seen.key in case.rules.revoked:
        return "revoked-key", f"{seen.signer}'s key {seen.key} is revoked."
    if seen.key != seen.statement.facts.key:
        return "other-key", f"{seen.signer} signed with another key than its statement names."
    return None


def _author(case: Case, seen: Seen) -> Why | None:
    said = seen.statement.builder
    builder = case.rules.builder(said)
    if seen.signer != said:
        return "other-builder", f"{seen.signer} signed a statement in {said}'s name."
    if builder is None:
        return "unknown-builder", f"{said} is no builder of the policy."
    if seen.statement.facts.machine != builder.machine:
        return "other-machine", f"{said} built on another machine than the policy names."
    return None


def _object(case: Case, seen: Seen) -> Why | None:
    said, facts, order = seen.statement.builder, seen.statement.facts, seen.statement.order
    if facts.ledger != case.ledger:
        return "other-ledger", f"{said}'s statement is about a job of another ledger."
    if facts.policy != case.rules.sha256:
        return "other-policy", f"{said} signed under another policy; `invoke attest {facts.job}` signs again."
    if (order.branch, order.commit) != (case.branch, case.commit):
        return "other-commit", f"{said}'s statement is about {order.branch} at {order.commit[:12]}."
    return None


def _content(case: Case, seen: Seen) -> Why | None:
    said, statement = seen.statement.builder, seen.statement
    if sorted(statement.facts.normalisers) != sorted(case.normalisers):
        return "other-normalisers", f"{said} signed files that were normalised otherwise."
    if statement.artifacts != dict(case.files):
        return (
            "other-bytes",
            f"{said} signed other bytes: {_first_difference(statement.artifacts, case.files)}.",
        )
    rule = case.rules.policy.branches.get(case.branch)
    if rule is not None and rule.commit_and_reveal and not seen.witnessed:
        return "unwitnessed", f"{said} did not commit to these bytes before they could be seen."
    return None


_RULES: tuple[Callable[[Case, Seen], Why | None], ...] = (_signature, _author, _object, _content)


def _first_difference(left: Digests, right: Digests) -> str:
    name = next(name for name in sorted({*left, *right}) if left.get(name) != right.get(name))
    return f"{name} is {(left.get(name) or 'not there')[:12]}, not {(right.get(name) or 'there')[:12]}"


# What a promoter asks


def decide(case: Case) -> Ruling | Refusal:
    """Says whether these bytes may be promoted as the branch's next entry."""
    tally = count(case)
    if isinstance(tally, Refusal):
        return _or_dissent(case, tally)
    against = dissent(case, tally.inputs)
    dismissed = {each.sha256 for each in case.rules.policy.dismissed}
    if open_ones := [each for each in against if each.sha256 not in dismissed]:
        return _dissenting(open_ones)
    found = compared(case)
    if isinstance(found, Refusal):
        return found
    if missing := _uncompared(case, tally):
        return _unfit(f"{missing} counts, and none is of its build")
    verdict, normalisers = found
    return _again(case) or Ruling(tally, verdict, normalisers, sorted(each.sha256 for each in against))


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
            where = _first_difference(each.statement.artifacts, case.files)
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

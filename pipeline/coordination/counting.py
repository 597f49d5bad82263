"""Who counts: the builders of the policy that have signed exactly these bytes. PURE.

Whoever verifies a promoted set does this again, with nothing but files. No signature is looked at here: each
statement comes with what its signature has shown, and whose that is.

Guarantee (`tests/coordination/test_promotion.py`): a builder counts once, however many keys it has; so does a
machine, however many builders are on it; and what counts is the same for whoever counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.records.attestation import Attestation
from pipeline.records.comparison import Comparison
from pipeline.records.decisions import Refusal
from pipeline.records.policy import Policy, PolicyBuilder, Revocations
from pipeline.records.promotion import CountedBuild, Promotion

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
    witnessed: bool
    excluded: list[Excluded] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """What a promotion is asked for with. `files` are the digests of the bytes that would be published.

    `stated` are the manifests that builds of this branch and commit have reported, `history` the branch's
    entries, oldest first. `normalisers`: what `records.rewriting` calls the way in which `files` came about.
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
        elif not (why[0] == "other-normalisers" and _says_both(case, each.statement)):
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


def _says_both(case: Case, said: Attestation) -> bool:
    """Says whether of the same build something is said as well that is about files like these."""
    of, like = (said.builder, said.facts.job), sorted(case.normalisers)
    every = (each.statement for each in case.attestations)
    return any((s.builder, s.facts.job) == of and sorted(s.facts.normalisers) == like for s in every)


#: What tells the least of why too few count: statements that time has overtaken.
_LITTLE = frozenset({"other-policy", "other-commit"})


def _too_few(policy: Policy, counted: list[Seen], excluded: list[Excluded]) -> Refusal:
    names = ", ".join(each.statement.builder for each in counted) or "nobody"
    lines = [
        f"{len(counted)} of the {policy.k} builders that the policy asks for signed these bytes: {names}."
    ]
    lines += [f"  {each.message}" for each in excluded]
    # A second key of a builder that counts is no reason for another one to be missing.
    reasons = [each.reason for each in excluded if each.reason != "counted"]
    reason = min(reasons, key=lambda each: each in _LITTLE, default="too-few")
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
    witnessed = all(each.witnessed for each in counted)
    return Tally(builds, inputs, "shared" if shared else "separate", witnessed, excluded)


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


def is_good(case: Case, seen: Seen) -> bool:
    """Says whether a statement is what its builder says of a job of this ledger, by a key that counts."""
    own = seen.statement.facts.ledger == case.ledger
    return own and _signature(case, seen) is None and _author(case, seen) is None


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
        return (
            "other-policy",
            f"{said} signed under another policy; `invoke attest --id {facts.job}` signs again.",
        )
    if (order.branch, order.commit) != (case.branch, case.commit):
        return "other-commit", f"{said}'s statement is about {order.branch} at {order.commit[:12]}."
    return None


def _content(case: Case, seen: Seen) -> Why | None:
    said, statement = seen.statement.builder, seen.statement
    if sorted(statement.facts.normalisers) != sorted(case.normalisers):
        return "other-normalisers", _otherwise(said, statement, case)
    if statement.artifacts != dict(case.files):
        return (
            "other-bytes",
            f"{said} signed other bytes: {first_difference(statement.artifacts, case.files)}.",
        )
    rule = case.rules.policy.branches.get(case.branch)
    if rule is not None and rule.commit_and_reveal and (case.normalisers or not seen.witnessed):
        return "unwitnessed", f"{said} did not commit to these bytes before they could be seen."
    return None


def _compared(case: Case, seen: Seen) -> Why | None:
    """Of files that were normalised what counts is what was compared; another one that says so agrees."""
    of = seen.statement.builder, seen.statement.facts.job
    builds = {(b.builder, b.job_id) for c in case.comparisons for b in (c.left_build, c.right_build) if b}
    if case.normalisers and builds and of not in builds:
        return "comparison", f"{of[0]} agrees, and its job {of[1]} was not compared, so it does not count."
    return None


def _otherwise(said: str, statement: Attestation, case: Case) -> str:
    if statement.facts.normalisers and case.normalisers:
        return f"{said} signed files that were normalised otherwise, of job {statement.facts.job}."
    if statement.facts.normalisers:
        return f"{said} signed files that were normalised, of job {statement.facts.job}."
    again = f"`invoke attest --id {statement.facts.job} --comparison FILE`"
    return f"{said} signed its files as they are, not normalised; {again} there does."


_RULES: tuple[Callable[[Case, Seen], Why | None], ...] = (
    _signature,
    _author,
    _object,
    _content,
    _compared,
)


def first_difference(left: Digests, right: Digests) -> str:
    name = next(name for name in sorted({*left, *right}) if left.get(name) != right.get(name))
    return f"{name} is {(left.get(name) or 'not there')[:12]}, not {(right.get(name) or 'there')[:12]}"

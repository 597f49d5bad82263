"""Who contradicts: builds of the same inputs that have other bytes than those that would be promoted. PURE.

Bytes that were normalised are nobody's build, so no build contradicts them by being other ones. But a builder
that was never asked has not agreed either: of each build of the same inputs its own builder has to have said
that, normalised in the same way, it is these bytes. Nobody else says it in its place.

Guarantee (`tests/coordination/test_dissent.py`): whatever is said beside it, a build that is silent, or says
something else, is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.coordination.counting import Case, Digests, Excluded, first_difference, is_good
from pipeline.records.attestation import Attestation
from pipeline.records.comparison import ComparedArtifact, Comparison

#: A build: its builder, and the job.
Build = tuple[str, str]


@dataclass(frozen=True)
class Claim:
    """What would be promoted: which bytes, of what, and how they were normalised."""

    branch: str
    commit: str
    inputs: str
    normalisers: Sequence[str]
    files: Digests

    def is_about(self, said: Attestation) -> bool:
        """Says whether a statement is about a build that should have come to these bytes."""
        here = (self.branch, self.commit, self.inputs)
        return (said.order.branch, said.order.commit, said.facts.inputs) == here

    def is_alike(self, said: Attestation) -> bool:
        """Says whether a statement is about files that were normalised in the same way."""
        return sorted(said.facts.normalisers) == sorted(self.normalisers)

    def holds(self, said: Attestation) -> bool:
        """Says whether a statement supports this, whatever its signature."""
        return self.is_about(said) and self.is_alike(said) and said.artifacts == dict(self.files)


def contradicting(
    claim: Claim, statements: Sequence[Attestation], *, good: Callable[[Attestation], bool]
) -> list[Attestation]:
    """Returns the statements of builds that contradict.

    `good` says which statements their builders have really made, as far as whoever asks can know. A statement
    contradicts whoever made it; to agree it has to be good.
    """
    about = [each for each in statements if claim.is_about(each)]
    if not claim.normalisers:
        return [each for each in about if claim.is_alike(each) and not claim.holds(each)]
    agree = {build_of(each) for each in about if claim.holds(each) and good(each)}
    found = []
    for each in about:
        other = each.artifacts != dict(claim.files)
        silent = not each.facts.normalisers and build_of(each) not in agree
        if other and (claim.is_alike(each) or silent):
            found.append(each)
    return found


def build_of(said: Attestation) -> Build:
    """Returns which build a statement is about."""
    return said.builder, said.facts.job


def dissent(case: Case, inputs: str) -> list[Excluded]:
    """Returns the statements, signed or not, by which a build of the same inputs has other bytes."""
    claim = Claim(case.branch, case.commit, inputs, case.normalisers, case.files)
    seen = {id(each.statement): each for each in case.attestations}
    good = {at for at, each in seen.items() if is_good(case, each)}
    statements = [each.statement for each in case.attestations]
    found, heard = [], set()
    for said in contradicting(claim, statements, good=lambda each: id(each) in good):
        heard.add(build_of(said))
        digest = seen[id(said)].sha256
        where = first_difference(said.artifacts, case.files) if claim.is_alike(said) else _silent(said)
        words = f"{said.builder}, job {said.facts.job} ({digest[:12]}): {where}."
        found.append(Excluded(said.builder, digest, "dissent", words))
    if case.normalisers:
        heard |= {build_of(each) for each in statements if claim.holds(each) and id(each) in good}
    for one in case.stated:
        other = one.inputs == inputs and dict(one.artifacts) != dict(case.files)
        if other and (one.builder, one.job) not in heard:
            words = f"{one.builder}, job {one.job}, in its manifest ({one.sha256[:12]})."
            found.append(Excluded(one.builder, one.sha256, "dissent", words))
    return found


def is_of_builds(case: Case, found: Comparison, artifact: ComparedArtifact) -> bool:
    """Says whether one of several comparisons is of the bytes that its builders have signed of these builds.

    Of more than two builds each pair is normalised as far as it differs, and all of them further; what all
    come to stands in no comparison, but in what is signed.
    """
    if len(case.comparisons) < 2 or not case.normalisers:
        return False
    plain = (
        each for each in case.attestations if not each.statement.facts.normalisers and is_good(case, each)
    )
    made = {build_of(each.statement): each.statement.artifacts for each in plain}
    sides = ((found.left_build, artifact.left), (found.right_build, artifact.right))
    return all(
        build is not None
        and side.sha256 is not None
        and made.get((build.builder, build.job_id), {}).get(str(artifact.name)) == side.sha256
        for build, side in sides
    )


def _silent(said: Attestation) -> str:
    return (
        "it has not said what its bytes are when normalised; on that builder"
        f" `invoke attest --id {said.facts.job} --comparison FILE` does"
    )

"""What rounds, statements and promotions can leave out: the rules that a cheat relies on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.coordination import counting, promotion, reveals, rounds, trust
from pipeline.coordination.draft import replaced
from pipeline.ledger import check
from pipeline.operations import attest, promote, promoted, secret
from pipeline.operations.trust import Trust
from pipeline.records import paths
from pipeline.records.statements import sha256_of
from tests.simulation.mutants.registry import instead, mutant


class _Blind(dict[str, str]):
    """Commitments of which a decision sees no value."""

    def values(self) -> Any:
        return ()


mutant(
    "commitment-replayed",
    "rounds",
    "cheats",
    "a commitment that somebody has made already is taken from another",
    (
        rounds,
        "_commit",
        lambda real: (
            lambda draft, found, job: real(draft, replaced(found, committed=_Blind(found.committed)), job)
        ),
    ),
)


def _anybodys(real: Any) -> Any:
    """Takes whatever names are in a commitment for those that have to be there."""

    def commit(draft: Any, found: Any, job: Any) -> Any:
        read = rounds.read_statement
        names = {"job": job.id, "token": job.token, "builder": job.assigned_to}
        rounds.read_statement = lambda *words: read(*words).model_copy(update=names)  # type: ignore[assignment]
        try:
            return real(draft, replaced(found, committed=_Blind(found.committed)), job)
        finally:
            rounds.read_statement = read

    return commit


mutant(
    "commitment-of-anybody",
    "rounds",
    "cheats",
    "nobody looks whose commitment a report brings, and whether it was made before",
    (rounds, "_commit", _anybodys),
)


def _late_too(real: Any) -> Any:
    def keep_secret(draft: Any, request: Any, job: Any) -> Any:
        found = rounds.of_job(draft, request.job_id)
        if found is None or job is None or not job.ended or request.outcome != "succeeded":
            return real(draft, request, job)
        builder = job.assigned_to or job.target
        return rounds._commit(draft, found, replaced(job, token=request.token, assigned_to=builder))

    return keep_secret


mutant(
    "commits-late",
    "rounds",
    "cheats",
    "a commitment counts although its job has ended",
    (rounds, "keep_secret", _late_too),
)
mutant(
    "reveals-early",
    "rounds",
    "cheats",
    "who has committed may reveal, whoever else may still commit",
    (rounds, "waited_for", instead(lambda draft, found: [])),
)
mutant(
    "report-tells",
    "rounds",
    "cheats",
    "a report of a round's job may bring what was made",
    (rounds, "_TELLING", instead(())),
)
mutant(
    "reveals-anything",
    "reveals",
    "cheats",
    "what is revealed is not held against what was committed to",
    (
        reveals,
        "_open",
        lambda real: (
            lambda draft, request, found, job, committed, data: real(
                draft, request, found, job, sha256_of(data), data
            )
        ),
    ),
)
mutant(
    "copies-unseen",
    "reveals",
    "cheats",
    "nobody looks whether a digest was in the ledger before",
    (reveals, "_seen_before", instead(lambda draft, found, digests: [])),
)


def _of_the_registered(draft: Any) -> list[str]:
    found = []
    for each in draft.registry.builders:
        folder = paths.manifest(each.name, "00", 0).rsplit("/", 2)[0]
        for group in draft.names(folder):
            found += [f"{folder}/{group}/{name}" for name in draft.names(f"{folder}/{group}")]
    return found


mutant(
    "strangers-unseen",
    "reveals",
    "cheats",
    "manifests of names that nobody registered are not looked at",
    (reveals, "_manifests", instead(_of_the_registered)),
)
mutant(
    "withheld-passes",
    "rounds",
    "promotion",
    "who has committed and not revealed is not waited for",
    (rounds, "withheld", instead(lambda found: [])),
    (attest, "withheld", instead(lambda found: [])),
)
mutant(
    "witnessed-by-word",
    "trust",
    "cheats",
    "an entry is witnessed if it says so",
    (rounds, "is_witnessed", instead(lambda draft, counted, entry: True)),
)
mutant(
    "states-anybodys-job",
    "trust",
    "cheats",
    "a statement may be of another builder's job",
    (trust, "_not_theirs", instead(lambda said, job, builder: None)),
)
mutant(
    "states-other-bytes",
    "trust",
    "cheats",
    "a statement is not held against what was reported",
    (trust, "_not_reported", instead(lambda draft, said, job: None)),
)
mutant(
    "number-again",
    "trust",
    "cheats",
    "an entry may have any number",
    (trust, "_not_next", instead(lambda draft, entry, data: None)),
)
mutant(
    "dissent-unheard",
    "trust",
    "cheats",
    "the ledger takes an entry that is silent about dissent",
    (trust, "contradicting", instead(lambda *words, **named: [])),
)
mutant(
    "counts-from-nothing",
    "trust",
    "cheats",
    "the ledger takes an entry that counts what nobody has stated",
    (trust, "_unfounded", instead(lambda draft, entry: None)),
)
mutant(
    "dissent-overlooked",
    "promotion",
    "promotion",
    "a promoter does not look for dissent",
    (promotion, "dissent", instead(lambda case, inputs: [])),
)


def _with_policy(**changes: Any) -> Any:
    """Counts by a policy in which something is otherwise."""

    def make(real: Any) -> Any:
        def count(case: Any) -> Any:
            policy = case.rules.policy.model_copy(update=changes)
            return real(replace(case, rules=replace(case.rules, policy=policy)))

        return count

    return make


mutant(
    "one-is-enough",
    "counting",
    "promotion",
    "one builder is enough, whatever k is",
    (promotion, "count", _with_policy(k=1)),
)
mutant(
    "revoked-counts",
    "counting",
    "cheats",
    "a revoked key counts",
    (counting.Rules, "revoked", instead(property(lambda self: frozenset()))),
)
mutant(
    "unsigned-counts",
    "counting",
    "cheats",
    "a statement counts without a good signature of its builder",
    (counting, "_RULES", lambda real: real[2:]),
)
mutant(
    "unwitnessed-counts",
    "counting",
    "promotion",
    "on a branch that asks for commitments a build counts without one",
    (
        counting,
        "_RULES",
        lambda real: (
            *real[:3],
            lambda case, seen: real[3](case, replace(seen, witnessed=True)),
            *real[4:],
        ),
    ),
)
mutant(
    "older-policy-counts",
    "counting",
    "promotion",
    "a statement that was signed under another policy counts",
    (counting, "_RULES", lambda real: (*real[:2], *real[3:])),
)
mutant(
    "root-of-anybody",
    "trust",
    "cheats",
    "a policy is believed without the root's signature",
    (
        Trust,
        "_of_root",
        lambda real: lambda self, model, found, kind, place: model.model_validate_json(found.data),
    ),
)
mutant(
    "seen-forgotten",
    "trust",
    "cheats",
    "a machine does not remember which numbers it has seen",
    (Trust, "note", instead(lambda self, what, number, sha256: None)),
)
mutant(
    "seal-unsynced",
    "secret",
    "cheats",
    "the folder of a sealed report is not on disk when its commitment is sent",
    (secret, "_flush", instead(lambda *folders: None)),
)


def _set_unsynced(private: Any, prepared: Any) -> None:
    private.rename(prepared)


mutant(
    "set-unsynced",
    "promoted",
    "promotion",
    "the folder of a set is not on disk when its entry is sent",
    (promote, "prepare", instead(_set_unsynced)),
    (promoted, "flush_folder", instead(lambda folder: None)),
)
mutant(
    "refused-bytes-wanted",
    "chain",
    "cheats",
    "the bytes of what was refused are needed to compute its commit again",
    (check, "_as_recorded", instead(lambda record, payload, decide: decide)),
)

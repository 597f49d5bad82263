"""Rounds that wait: who has not committed yet, and who has not revealed. Only looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.coordination.rounds import read_round, still_committing, withheld
from pipeline.errors import NotRevealed
from pipeline.operations import site as sites
from pipeline.records.decisions import View
from pipeline.records.jobs import Job
from pipeline.records.rounds import Round


@dataclass(frozen=True)
class WaitingRound:
    """A round that is not over. `committing` may commit yet; only once there is none of them do those that
    have committed reveal: `revealing` have not. `jobs` maps a builder to its job.
    """

    id: str
    branch: str
    commit: str
    jobs: dict[str, str]
    committing: list[str]
    revealing: list[str]

    def words(self) -> str:
        """Says who is waited for."""
        of = f"Round {self.id}, {self.branch} at {self.commit[:10]}"
        if self.committing:
            return f"{of}: waiting for {_and(self.committing)} to build; nobody reveals before."
        who = _and(self.revealing)
        return f"{of}: waiting for the reveal of {who}: `invoke recover` there, or whatever builds next."


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)


def waiting_rounds(view: View) -> list[WaitingRound]:
    """Returns the rounds of the queue's jobs that are not over, in the order in which they were made."""
    jobs = sites.jobs(view).jobs
    found: list[Round] = []
    known: set[str] = set()
    for job in jobs:
        its = read_round(view, job.id) if job.id not in known else None
        if its is not None:
            found.append(its)
            known.update(its.participants.values())
    every = [_as_waiting(its, jobs) for its in found]
    return [each for each in every if each.committing or each.revealing]


def waiting_round(view: View, job_id: str) -> WaitingRound | None:
    """Returns the round in which a job takes part; None where that is over, or where there is none."""
    its = read_round(view, job_id)
    found = _as_waiting(its, sites.jobs(view).jobs) if its else None
    return found if found and (found.committing or found.revealing) else None


def _as_waiting(its: Round, jobs: Sequence[Job]) -> WaitingRound:
    committing = still_committing(its, jobs)
    return WaitingRound(its.id, its.branch, its.commit, its.participants, committing, withheld(its))


def insist_on_reveals(view: View, jobs: Sequence[Job]) -> None:
    """Raises NotRevealed where the builder of one has committed to what it made and not said it yet."""
    for job in jobs:
        its = read_round(view, job.id)
        if its is None or job.assigned_to in its.revealed:
            continue
        waits = _as_waiting(its, sites.jobs(view).jobs)
        raise NotRevealed(
            waits.words(),
            waits.committing or waits.revealing,
            remedy="`invoke status` shows who is waited for, `invoke compare --build` waits; `--job` names"
            " builds that are revealed.",
        )


def round_of_all(
    view: View, jobs: Sequence[Job], branch: str, commit: str, names: Sequence[str]
) -> Round | None:
    """Returns the newest round of a commit in which all of these builders, and no others, have committed."""
    for job in reversed(jobs):
        its = read_round(view, job.id) if (job.branch, job.commit) == (branch, commit) else None
        if its is not None and set(its.participants) == set(its.committed) == set(names):
            return its
    return None

"""Commitments and reveals that are replayed, swapped, too early or too late."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.builds.artifacts import new_manifest
from pipeline.coordination.rounds import read_round
from pipeline.operations import queue, secret
from pipeline.operations import site as sites
from pipeline.records import paths
from pipeline.records.base import dump, load
from pipeline.records.builds import Artifact
from pipeline.records.jobs import Job
from pipeline.records.rounds import Commitment, Opening, Round
from pipeline.records.statements import Kind, made, read_statement, sha256_of
from tests.simulation.actors import build_claimed
from tests.simulation.cheats.base import TAKEN, Attempt, cheat, refused, sent
from tests.simulation.disk import VirtualPath
from tests.simulation.node import MachineLock
from tests.simulation.promoting import (
    SECRET,
)

# ---------------------------------------------------------------- rounds


def _rounds(attempt: Attempt) -> Iterator[tuple[Round, Job]]:
    """Yields the rounds in which this builder takes part, with its job, the newest first."""
    for job in reversed(sites.jobs(attempt.view).jobs):
        its = read_round(attempt.view, job.id) if job.target == attempt.me else None
        if its is not None:
            yield its, job


def _sealed(attempt: Attempt) -> Iterator[tuple[Round, Job, dict[str, bytes]]]:
    """Yields what this builder has committed to and not revealed: opening, manifest and so on."""
    for its, job in _rounds(attempt):
        place = VirtualPath(attempt.node, "work", "sealed", f"{job.id}.{job.attempt}")
        if attempt.me in its.committed and attempt.me not in its.revealed and (place / "opening").exists():
            yield its, job, {one.name: one.read_bytes() for one in place.iterdir() if one.name[0] != "."}


def _others_may_commit(attempt: Attempt, its: Round) -> bool:
    jobs = {job.id: job for job in sites.jobs(attempt.view).jobs}
    missing = [job for builder, job in its.participants.items() if builder not in its.committed]
    return any(not jobs[id].ended for id in missing if id in jobs)


def _commitment(attempt: Attempt, job: str, token: str, sha256: str) -> tuple[bytes, bytes]:
    value = {"kind": "commitment", "format": 1, "ledger": attempt.mine.ledger, "job": job, "token": token}
    data = dump(made(Commitment, value | {"builder": attempt.me, "sha256": sha256}))
    return data, attempt.mine.key(attempt.me).sign(data, Kind.COMMITMENT)


#: What may have become of the job meanwhile.
_GONE = ("busy", "taken", "ended", "begun", "not-found")


def _instead_of_building(
    attempt: Attempt, forge: Callable[[Round, str, str], dict[str, bytes]], committed: int = 1
) -> str | None:
    """Takes part in a round, waits until so many have committed, reports what is forged, and then builds."""
    site, lock = attempt.site, MachineLock(attempt.node, attempt.program)
    if not lock.try_hold("{}"):
        return None
    mine, names = attempt.mine, [each.name for each in sites.registry(attempt.view).builders]
    of = mine.next_campaign(SECRET)
    jobs = mine.order(site, of, names)
    id = f"round_{site.random.op()}"
    secret.open_round(site, id, list(jobs.values()))
    request = {"kind": "job.claim", "job_id": jobs[attempt.me], "holder": site.holder()}
    value = site.ask(request, kind="attached")
    its = _wait(attempt, id, lambda its: len(its.committed) >= committed)
    if its is None:
        build_claimed(site, value)
        return None
    report = {"kind": "job.complete", "job_id": jobs[attempt.me], "token": value["token"]}
    payloads = forge(its, jobs[attempt.me], str(value["token"]))
    reason = refused(lambda: sent(site, {**report, "outcome": "succeeded"}, **payloads))
    if reason != TAKEN:
        build_claimed(site, value)
    return reason


def _wait(attempt: Attempt, round_id: str, until: Callable[[Round], bool]) -> Round | None:
    """Looks at a round every now and then, and returns it once it is as wanted; None if it does not come."""
    for _ in range(12):
        view = attempt.site.state().view
        data = view.read(paths.round(round_id))
        its = load(Round, data, "the round") if data else None
        if its is not None and until(its):
            return its
        attempt.site.clock.sleep(60.0)
    return None


@cheat("another's commitment is made again, in one's own name", "replayed", late=_GONE)
def replayed_commitment(attempt: Attempt) -> str | None:
    def forge(its: Round, job: str, token: str) -> dict[str, bytes]:
        sha256 = attempt.dice.pick(sorted(its.committed.values()))
        data, signature = _commitment(attempt, job, token, sha256)
        return {"statement": data, "signature": signature}

    return _instead_of_building(attempt, forge)


@cheat("another's commitment is handed in as it is", "not-yours", late=_GONE)
def anothers_commitment(attempt: Attempt) -> str | None:
    def forge(its: Round, job: str, token: str) -> dict[str, bytes]:
        path = paths.commitment(its.id, attempt.dice.pick(sorted(its.committed)))
        view = attempt.site.state(fresh=False).view
        return {
            "statement": view.read(path) or b"",
            "signature": view.read(paths.signature(path)) or b"",
        }

    return _instead_of_building(attempt, forge)


@cheat("a report that tells what was made before all have committed", "secret", late=_GONE)
def early_report(attempt: Attempt) -> str | None:
    def forge(its: Round, job: str, token: str) -> dict[str, bytes]:
        files = {"a.deb": f"what {job} made".encode()}
        attempt.mine.notary.built.setdefault(job, {})[0] = {n: sha256_of(each) for n, each in files.items()}
        sums = [
            Artifact(name=name, path=name, size_bytes=len(each), checksums={"sha256": sha256_of(each)})
            for name, each in files.items()
        ]
        of = {"job_id": job, "server": attempt.me, "branch": SECRET, "commit": its.commit, "token": token}
        plain = new_manifest(**of, created_at=attempt.site.clock.now(), attempt=1)
        told = dump(plain.model_copy(update={"artifacts": sums, "build_dir": "/set"}))
        data, signature = _commitment(attempt, job, token, sha256_of(told))
        return {"statement": data, "signature": signature, "manifest": told}

    return _instead_of_building(attempt, forge, committed=0)


@cheat("a commitment for a job that has ended", "late")
def late_commitment(attempt: Attempt) -> str | None:
    for its, job in _rounds(attempt):
        if attempt.me in its.committed or job.status == "running":
            continue
        if not job.ended:
            queue.cancel(attempt.site, job.id)
        token = job.token or "1.1.never"
        data, signature = _commitment(attempt, job.id, token, sha256_of(b"whatever"))
        report = {"kind": "job.complete", "job_id": job.id, "token": token, "outcome": "succeeded"}
        done = sent(attempt.site, report, statement=data, signature=signature)
        return "late" if done["late"] and not done["accepted"] else TAKEN
    return None


#: What a reveal may be refused for that is not its turn.
_NO_TURN = ("not-open", "revealed", "not-found", "no-commitment", "there")


def _revealed(attempt: Attempt, job_id: str, found: Mapping[str, bytes]) -> str:
    """Returns what a reveal is refused as; `there` where its builder has revealed, and nothing is written."""
    request = {"kind": "build.reveal", "job_id": job_id}
    answer: dict[str, Any] = {}
    reason = refused(lambda: answer.update(sent(attempt.site, request, **found)))
    return "there" if answer.get("there") else reason


@cheat("a reveal before all have committed", "not-open", late=(*_NO_TURN, TAKEN))
def early_reveal(attempt: Attempt) -> str | None:
    # By the time it is asked all may have committed: then it is honest.
    for its, job, found in _sealed(attempt):
        if _others_may_commit(attempt, its):
            return _revealed(attempt, job.id, found)
    return None


@cheat("a reveal of something else than was committed to", "other-opening", late=_NO_TURN)
def swapped_commitment(attempt: Attempt) -> str | None:
    for its, job, found in _sealed(attempt):
        if _wait(attempt, its.id, lambda its: len(its.committed) == len(its.participants)) is None:
            continue
        if attempt.dice.chance(0.5):
            # The manifest of other bytes, with a new opening of it.
            evil = found["manifest"].replace(b'"size_bytes": ', b'"size_bytes": 1')
            opening = read_statement(Opening, found["opening"], "the opening")
            changed = opening.model_copy(update={"manifest": sha256_of(evil)})
            return _revealed(attempt, job.id, {**found, "manifest": evil, "opening": dump(changed)})
        return _revealed(attempt, job.id, {**found, "manifest": found["manifest"] + b" "})
    return None


@cheat("a reveal for another builder's job", "not-yours", late=_NO_TURN)
def reveal_for_another_job(attempt: Attempt) -> str | None:
    for its, _, found in _sealed(attempt):
        others = sorted(set(its.participants) - {attempt.me})
        if others:
            return _revealed(attempt, its.participants[attempt.dice.pick(others)], found)
    return None


@cheat("the manifest of a round's build is published by a name that nobody registered", "late")
def told_by_a_stranger(attempt: Attempt) -> str | None:
    # It is taken, as work that came late; what it tells has to be known at the reveal.
    for its, job, found in _sealed(attempt):
        if _others_may_commit(attempt, its):
            stranger = {
                "kind": "job.complete",
                "job_id": f"of-{job.id[-8:]}",
                "builder": "ghost",
                "token": "0.0.x",
            }
            done = sent(attempt.site, {**stranger, "outcome": "succeeded"}, manifest=found["manifest"])
            return "late" if done["late"] else TAKEN
    return None

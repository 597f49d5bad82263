"""Tokens: never twice, never in two hands, and what they fence."""

from __future__ import annotations

from pipeline.records.locks import Token
from tests.simulation.invariants.base import State, Step, fail


def _tokens(state: State) -> dict[str, str]:
    found = {job.token: f"job {job.id}" for job in state.jobs.jobs if job.token}
    return found | {lock.token: f"lock {lock.name}" for lock in state.locks.locks if lock.token}


def grants(state: State) -> dict[str, str]:
    """Returns by token what it stands for: which job, or locks, in whose hands.

    Which locks is left out: who waits for two in one request may be given the other one first, where a rewind
    took the first back. Fences are compared for each lock alone, so that lets nobody in elsewhere.
    """
    found = {
        job.token: f"job {job.id} {job.attempt} {job.assigned_to}" for job in state.jobs.jobs if job.token
    }
    held: dict[str, set[str]] = {}
    for lock in state.locks.locks:
        if lock.token:
            held.setdefault(lock.token, set()).add(str(lock.holder))
    for text, holders in held.items():
        found[text] = f"{found.get(text, '')} locks of {', '.join(sorted(holders))}"
    return found


def tokens_increase(step: Step) -> None:
    """Whatever token is new is above all before it in the chain, and was given in no other chain.

    But after a rewind the same operation may be given it again: in the same hands, the same job or a lock
    that it asked for, since who has not seen what was lost cannot know better; or whatever it is, if nobody
    had been told of the first.
    """
    if step.after.jobs is step.before.jobs and step.after.locks is step.before.locks:
        return None
    before = _tokens(step.before)
    for text, whose in grants(step.after).items():
        given = step.history.tokens.get(text, {})
        if text in before or step.commit in given:
            continue
        token = Token.parse(text)
        if (token.epoch, token.counter) <= (step.highest.epoch, step.highest.counter):
            return fail("tokens-increase", step, f"{whose} got {text} after {step.highest}")
        for commit, first in given.items():
            same = step.lost(commit) and first == whose
            if not same and not step.untold(token.op, commit, step.commit):
                return fail("tokens-increase", step, f"{text} was given before, in {commit[:10]}")
    return None


def token_changes_with_hands(step: Step) -> None:
    """Who gets a job or a lock, or gets it back, does so under another token than the one before."""
    if step.after.jobs is not step.before.jobs:
        old = {job.id: job for job in step.before.jobs.jobs}
        for job in step.after.jobs.jobs:
            was = old.get(job.id)
            if was is None or was is job or job.ended:
                continue
            if (was.status, was.attempt) != (job.status, job.attempt) and was.token == job.token:
                return fail("token-changes-with-hands", step, f"job {job.id} keeps {job.token}")
    if step.after.locks is not step.before.locks:
        held = {lock.name: lock for lock in step.before.locks.locks}
        for lock in step.after.locks.locks:
            had = held.get(lock.name)
            if had is not None and had.holder != lock.holder and had.token == lock.token:
                return fail("token-changes-with-hands", step, f"lock {lock.name} keeps {lock.token}")
    return None


def result_by_current_token(step: Step) -> None:
    """A result is accepted if and only if it presents the token that its job has."""
    for entry in step.record.entries:
        if entry.request["kind"] != "job.complete" or not entry.outcome["ok"]:
            continue
        value, presented = entry.outcome["value"], entry.request["token"]
        job = next((j for j in step.before.jobs.jobs if j.id == entry.request["job_id"]), None)
        ops = {each.op for each in step.record.entries}
        right = job is not None and job.status == "running" and job.token == presented
        right = right or presented.split(".", 2)[2] in ops
        alone = len(step.record.entries) == 1
        if value["accepted"] and not right:
            return fail("result-by-current-token", step, f"{presented} was accepted for {job and job.token}")
        if right and not value["accepted"] and alone and not step.by_hand:
            return fail("result-by-current-token", step, f"{presented} was turned down though current")
    return None


INVARIANTS = (
    tokens_increase,
    token_changes_with_hands,
    result_by_current_token,
)

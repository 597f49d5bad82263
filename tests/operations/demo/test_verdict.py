"""The verdict: a chain is replayed into attempts, and each breach is noticed by its promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.edge.memory_refs import MemoryRemote
from pipeline.operations import site as sites
from pipeline.operations.demo.verdict import Attempt, Facts, JobStory, judge, replay
from pipeline.records import paths
from pipeline.records.messages import Message, Messages
from tests.operations.conftest import MakeSite
from tests.operations.demo.test_story import claim, complete, order, records

Played = tuple[list[JobStory], Facts]


@pytest.fixture
def played(make_site: MakeSite, remote: MemoryRemote) -> Played:
    """A chain with a job that was lost by death, one that was lost by force and came late, and a message."""
    order(make_site, "job_a", "build1")
    order(make_site, "job_b", "build2")
    first, other = claim(make_site, "job_a"), claim(make_site, "job_b", "build2")
    make_site("build1").ask(
        {"kind": "job.requeue", "job_id": "job_a", "token": first, "reason": "its process is dead"},
        observations={"process_dead": "boot/ns/77/1"},
    )
    complete(make_site, "job_a", claim(make_site, "job_a"))
    make_site("build1").ask({"kind": "lock.break", "name": "builder/build2", "token": other, "reason": "x"})
    complete(make_site, "job_b", other, "build2")
    complete(make_site, "job_b", claim(make_site, "job_b", "build2"), "build2")
    message = {"kind": "message.send", "id": "msg_1", "to": "build2", "type": "info", "subject": "hello"}
    make_site("build1").ask({**message, "body": "x"})
    make_site("build2").ask({"kind": "message.read", "ids": ["msg_1"]})
    view = make_site("build1").state().view
    facts = Facts(
        jobs=sites.jobs(view).jobs,
        messages=sites.record(view, Messages, paths.MESSAGES).messages,
        sent=["msg_1"],
        digests={"job_a": "d" * 64, "job_b": "d" * 64},
        waiting={"build1": 0, "build2": 0},
        processes=0,
        transactions=len(records(remote)),
        chain_holds=True,
    )
    return replay(records(remote)), facts


def test_a_chain_is_replayed(played: Played) -> None:
    """Every attempt has its builder, its token, how it ended, and whether its result came too late."""
    stories, facts = played
    assert [job.id for job in stories] == ["job_a", "job_b"]
    assert [job.results for job in stories] == [1, 1]
    seen = [(j.name, a.number, a.builder, a.ending, a.late) for j in stories for a in j.attempts]
    assert seen == [
        ("job 1", 1, "build1", "lost: its process was dead", False),
        ("job 1", 2, "build1", "succeeded", False),
        ("job 2", 1, "build2", "lost: its lock was broken", True),
        ("job 2", 2, "build2", "succeeded", False),
    ]
    current = {job.id: job.token for job in facts.jobs}
    assert {job.id: job.attempts[-1].token for job in stories} == current


def test_a_good_chain_holds(played: Played) -> None:
    """Where nothing is wrong every promise holds, and each says what shows it."""
    promises = judge(*played)
    assert [p.promise for p in promises if not p.held] == []
    assert len(promises) == 10
    assert all(p.shown for p in promises)


def test_an_empty_chain_shows_nothing(make_site: MakeSite, remote: MemoryRemote) -> None:
    """A play in which nothing happened passes for no proof: what has to be seen was not."""
    facts = Facts([], [], [], {}, {}, processes=0, transactions=1, chain_holds=True)
    held = [p.promise for p in judge(replay(records(remote)), facts) if p.held]
    assert held == ["the whole chain computes again", "nothing is left running"]


def change(stories: list[JobStory], job: int, attempt: int, **fields: object) -> list[JobStory]:
    """Returns the stories with one attempt changed."""
    attempts = list(stories[job].attempts)
    attempts[attempt] = replace(attempts[attempt], **fields)  # type: ignore[arg-type]
    return [*stories[:job], replace(stories[job], attempts=tuple(attempts)), *stories[job + 1 :]]


def with_job(facts: Facts, **fields: object) -> Facts:
    """Returns the facts with the first job changed."""
    return replace(facts, jobs=[facts.jobs[0].model_copy(update=fields), *facts.jobs[1:]])


def twice(messages: list[Message]) -> list[Message]:
    """Returns messages of which the one that was sent is there twice."""
    return [*messages, *(m for m in messages if m.id == "msg_1")]


Breach = Callable[[list[JobStory], Facts], Played]
BREACHES: dict[str, tuple[Breach, str]] = {
    "two results": (
        lambda s, f: ([replace(s[0], results=2), s[1]], f),
        "every job ends exactly once, with success",
    ),
    "no end": (
        lambda s, f: (s, with_job(f, status="running", outcome=None)),
        "every job ends exactly once, with success",
    ),
    "a failure": (
        lambda s, f: (s, with_job(f, status="failed", outcome="failed")),
        "every job ends exactly once, with success",
    ),
    "a token again": (
        lambda s, f: (change(s, 1, 1, token=s[1].attempts[0].token), f),
        "every attempt has a higher token than all before it",
    ),
    "a builder with two jobs": (
        lambda s, f: (change(s, 0, 0, closed=s[0].attempts[1].opened + 1), f),
        "no job and no builder is ever held twice at once",
    ),
    "an attempt that never ended": (
        lambda s, f: (change(s, 0, 0, closed=None), f),
        "no job and no builder is ever held twice at once",
    ),
    "given up for silence": (
        lambda s, f: ([replace(s[0], proofs=("silence",)), s[1]], f),
        "what was killed is given up for proof of death, not for age",
    ),
    "a late result that counts": (
        lambda s, f: (change(s, 0, 1, late=True), f),
        "a result that comes late is kept, and does not count",
    ),
    "a message lost": (lambda s, f: (s, replace(f, messages=[])), "every message arrives exactly once"),
    "a message doubled": (
        lambda s, f: (s, replace(f, messages=twice(list(f.messages)))),
        "every message arrives exactly once",
    ),
    "other bytes": (
        lambda s, f: (s, replace(f, digests={"job_a": "d" * 64, "job_b": "e" * 64})),
        "both builders make the same bytes",
    ),
    "a package missing": (
        lambda s, f: (s, replace(f, digests={"job_a": "d" * 64})),
        "both builders make the same bytes",
    ),
    "an outbox that holds back": (
        lambda s, f: (s, replace(f, waiting={"build1": 0, "build2": 1})),
        "no outbox holds anything back",
    ),
    "a chain that differs": (
        lambda s, f: (s, replace(f, chain_holds=False)),
        "the whole chain computes again",
    ),
    "a process left": (lambda s, f: (s, replace(f, processes=1)), "nothing is left running"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_noticed(played: Played, name: str) -> None:
    """Each breach is noticed by the promise that it breaks, and by no other."""
    breach, promise = BREACHES[name]
    assert [p.promise for p in judge(*breach(*played)) if not p.held] == [promise]


def test_tokens_are_compared_as_numbers() -> None:
    """1.10 comes after 1.9, and any of a later epoch after those."""
    tokens = ["1.9.a", "1.10.b", "2.1.c"]
    attempts = tuple(
        Attempt(n, "build1", token, opened=2 * n, closed=2 * n + 1, ending="succeeded")
        for n, token in enumerate(tokens)
    )
    stories = [JobStory("job 1", "job_a", None, attempts, results=1)]
    facts = Facts([], [], [], {}, {}, processes=0, transactions=1, chain_holds=True)
    promise = next(p for p in judge(stories, facts) if "higher token" in p.promise)
    assert promise.held
    assert promise.shown == "1.9 < 1.10 < 2.1"

"""The story: what each transaction and each line of a builder is told as."""

from __future__ import annotations

import pytest

from pipeline.coordination.reducer import REDUCER_VERSION
from pipeline.edge.memory_refs import MemoryRefs, MemoryRemote
from pipeline.errors import Fenced
from pipeline.ledger.history import history
from pipeline.operations.demo.story import MADE, Narrator, heard, progress, short
from pipeline.records.ledger import Transaction
from tests.operations.conftest import COMMIT, MakeSite


def records(remote: MemoryRemote) -> list[Transaction]:
    """Returns the transactions of the ledger, oldest first."""
    refs = MemoryRefs(remote)
    tip = refs.fetch()
    assert tip is not None
    return [story.record for story in history(refs, tip, REDUCER_VERSION) if story.record is not None]


def order(make_site: MakeSite, id: str, target: str | None = "build1") -> None:
    """Puts a job into the queue."""
    request = {"kind": "job.create", "id": id, "branch": "main", "commit": COMMIT, "target": target}
    make_site("build2").ask(request)


def claim(make_site: MakeSite, id: str, builder: str = "build1") -> str:
    """Has a builder take a job; returns the token."""
    request = {"kind": "job.claim", "holder": f"m/boot/ns/77/{builder}", "job_id": id}
    return str(make_site(builder).ask(request)["token"])


def complete(make_site: MakeSite, id: str, token: str, builder: str = "build1") -> None:
    """Has a builder report success."""
    make_site(builder).ask(
        {
            "kind": "job.complete",
            "job_id": id,
            "token": token,
            "outcome": "succeeded",
            "duration_seconds": 4.5,
        }
    )


def told(remote: MemoryRemote) -> list[tuple[str, str]]:
    """Returns the whole story of a ledger."""
    narrator = Narrator()
    return [line for record in records(remote) for line in narrator.tell(record)]


def test_a_death_and_its_proof_are_told(make_site: MakeSite, remote: MemoryRemote) -> None:
    """Order, claim, death with its proof, second claim, result: one line each, in order."""
    order(make_site, "job_a")
    first = claim(make_site, "job_a")
    make_site("build1").ask(
        {"kind": "job.requeue", "job_id": "job_a", "token": first, "reason": "its process is dead"},
        observations={"process_dead": "boot/ns/77/1"},
    )
    second = claim(make_site, "job_a")
    complete(make_site, "job_a", second)
    assert told(remote) == [
        ("ledger", "begins"),
        ("build2", "orders job 1 for build1"),
        ("build1", f"takes job 1: attempt 1, token {short(first)}"),
        ("build1", f"puts job 1 back, token {short(first)} is void: its process 77 is dead"),
        ("build1", f"takes job 1: attempt 2, token {short(second)}"),
        ("build1", f"reports job 1 under token {short(second)}: succeeded after 4.5 s"),
    ]


def test_a_late_result_is_told_as_late(make_site: MakeSite, remote: MemoryRemote) -> None:
    """A lock that was broken, and the result under the void token, are told as what they are."""
    order(make_site, "job_a")
    token = claim(make_site, "job_a")
    make_site("build2").ask(
        {"kind": "lock.break", "name": "builder/build1", "token": token, "reason": "silent"}
    )
    complete(make_site, "job_a", token)
    assert told(remote)[-2:] == [
        ("build2", f"frees builder/build1 by force; job 1 waits again, token {short(token)} is void"),
        (
            "build1",
            f"reports job 1 under token {short(token)}, which is void: kept as late, it does not count",
        ),
    ]


def test_jobs_are_numbered_as_they_are_ordered(make_site: MakeSite, remote: MemoryRemote) -> None:
    """Each job keeps the number of its order, whoever takes it first."""
    order(make_site, "job_b", "build1")
    order(make_site, "job_a", "build2")
    claim(make_site, "job_a", "build2")
    claim(make_site, "job_b", "build1")
    lines = [text for _, text in told(remote)]
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "orders job 1 for build1",
        "orders job 2 for build2",
        "takes job 2",
        "takes job 1",
    ]


def test_messages_are_told(make_site: MakeSite, remote: MemoryRemote) -> None:
    """Who wrote what to whom, and that it was read."""
    message = {"kind": "message.send", "id": "msg_1", "to": "build2", "type": "info", "subject": "hello"}
    make_site("build1").ask({**message, "body": "x"})
    make_site("build2").ask({"kind": "message.read", "ids": ["msg_1"]})
    assert told(remote)[1:] == [("build1", "writes to build2: hello"), ("build2", "has read its message")]


def test_what_was_refused_is_not_told(make_site: MakeSite, remote: MemoryRemote) -> None:
    """A refused request changes nothing, and so has no line."""
    order(make_site, "job_a")
    token = claim(make_site, "job_a")
    before = told(remote)
    with pytest.raises(Fenced) as caught:
        make_site("build1").ask(
            {"kind": "job.requeue", "job_id": "job_a", "token": f"{token}x"},
            observations={"process_dead": "boot/ns/77/1"},
        )
    assert caught.value.reason == "fenced"
    assert told(remote) == before


@pytest.mark.parametrize(
    ("line", "text", "number"),
    [
        ("[2/3] Demo Core, about 2 s left", "builds Demo Core (2 of 3)", 2),
        ("[3/3] Demo Agent", "builds Demo Agent (3 of 3)", 3),
        ("== packages: success after 0.4 s", MADE, None),
        ("== packages: failed after 0.4 s", None, None),
        ("== maven", None, None),
        ("fetching refs/heads/main from /source.git", None, None),
        ("", None, None),
        ("Put job_1 back: its process is dead.", "Put job_1 back: its process is dead.", None),
    ],
)
def test_a_builders_lines(line: str, text: str | None, number: int | None) -> None:
    """Modules and the package are told; what tells nothing new is not; anything else is told as it is."""
    assert heard(line) == text
    assert progress(line) == number


def test_a_token_is_short_by_what_orders_it() -> None:
    """Epoch and number are kept, the operation's id is left out."""
    assert short("2.17.01a210e79d397016bb75bd165dffdec9") == "2.17"

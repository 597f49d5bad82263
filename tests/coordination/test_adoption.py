"""What changes by hand become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.coordination.adoption import adopt
from pipeline.records import paths
from pipeline.records.base import dump, dump_json
from pipeline.records.jobs import Jobs
from pipeline.records.messages import Messages
from tests.coordination.world import COMMIT, World


@pytest.fixture
def world() -> World:
    world = World()
    world.order("j1")
    world.do("message.send", id="m1", to="all", subject="s", body="b")
    return world


def edited(world: World, path: str, **changes: Any) -> bytes:
    return dump_json({**json.loads(world.files[path]), **changes})


def job(id: str, **fields: Any) -> dict[str, Any]:
    at = "2025-10-29T13:00:00Z"
    return {
        "id": id,
        "type": "build",
        "priority": 5,
        "branch": "b",
        "commit": COMMIT,
        "created_at": at,
        **fields,
    }


def message(id: str, **fields: Any) -> dict[str, Any]:
    at = "2025-10-29T13:00:00Z"
    said = {"from": "build2", "to": "all", "subject": "by hand", "body": "b", "timestamp": at}
    return {"id": id, "type": "info", "read": False, **said, **fields}


def listed(world: World, path: str, name: str) -> list[Any]:
    found: list[Any] = json.loads(world.files[path])[name]
    return found


def test_an_appended_message_is_adopted(world: World) -> None:
    """A message written by hand is a message, and is written canonically from then on."""
    before = world.files[paths.MESSAGES]
    after = edited(
        world, paths.MESSAGES, messages=[*listed(world, paths.MESSAGES, "messages"), message("m2")]
    )
    adopted = adopt(paths.MESSAGES, before, after)
    assert adopted.data is not None
    assert [each["id"] for each in json.loads(adopted.data)["messages"]] == ["m1", "m2"]
    world.files[paths.MESSAGES] = adopted.data
    assert world.do("message.ack", ids=["m2"], builder="build3")["marked"] == ["m2"]
    assert world.refused("message.ack", ids=["m2"], builder="build2").reason == "not-recipient"


@pytest.mark.parametrize(
    ("keep", "added", "reason"),
    [
        (False, [], "changes or drops"),
        (False, [message("m1")], "changes or drops"),
        (True, [message("m1")], "twice"),
        (True, [message("m2", subject="x" * 101)], "subject"),
    ],
)
def test_a_message_is_never_dropped_or_altered(
    world: World, keep: bool, added: list[dict[str, Any]], reason: str
) -> None:
    """Neither removed, nor rewritten, nor doubled, nor made what nobody can read."""
    kept = listed(world, paths.MESSAGES, "messages") if keep else []
    after = edited(world, paths.MESSAGES, messages=[*kept, *added])
    adopted = adopt(paths.MESSAGES, world.files[paths.MESSAGES], after)
    assert adopted.data is None
    assert reason in adopted.reason


def test_an_appended_order_is_adopted(world: World) -> None:
    """A job written by hand is an order, if it says no more than one."""
    jobs = [*listed(world, paths.JOBS, "jobs"), job("j2", status="queued", depends_on=["j1"])]
    adopted = adopt(paths.JOBS, world.files[paths.JOBS], edited(world, paths.JOBS, jobs=jobs))
    assert adopted.data is not None
    world.files[paths.JOBS] = adopted.data
    assert world.do("job.cancel", job_id="j1")["also_ended"] == ["j2"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"status": "running"}, "more than ordered"),
        ({"status": "completed", "outcome": "succeeded"}, "more than ordered"),
        ({"token": "1.1.x"}, "more than ordered"),
        ({"depends_on": ["j9"]}, "depends on one that is not"),
        ({"depends_on": ["j2"]}, "depends on one that is not"),
        ({"id": "j1"}, "is there already"),
        ({"priority": 0}, "priority"),
    ],
)
def test_a_job_by_hand_is_no_more_than_an_order(world: World, more: dict[str, Any], reason: str) -> None:
    """Only a transaction starts or ends a job."""
    jobs = [*listed(world, paths.JOBS, "jobs"), job("j2") | more]
    adopted = adopt(paths.JOBS, world.files[paths.JOBS], edited(world, paths.JOBS, jobs=jobs))
    assert adopted.data is None
    assert reason in adopted.reason


def test_a_job_is_not_changed_by_hand(world: World) -> None:
    """Not even a queued one's priority: its order is asked for anew."""
    before = world.files[paths.JOBS]
    after = before.replace(b'"priority": 5', b'"priority": 1')
    assert before != after
    assert adopt(paths.JOBS, before, after).data is None
    assert adopt(paths.JOBS, before, dump(Jobs())).data is None


@pytest.mark.parametrize(
    "path",
    [
        paths.LEDGER,
        paths.LOCKS,
        paths.MAILBOX,
        paths.message_archive(7),
        paths.job_archive(7),
        paths.quarantine_archive(7),
        paths.quarantine(7, "x"),
    ],
)
def test_what_only_transactions_write_is_not_adopted(path: str) -> None:
    """A lock, a token, a completion record or an archive by hand would break what rests on them."""
    for before, after in ((b"{}", b'{"a": 1}'), (None, b"{}"), (b"{}", None)):
        assert adopt(path, before, after).data is None


def test_what_describes_is_adopted_if_it_is_valid(world: World) -> None:
    """Status, heartbeat, registry, configuration, dashboard: corrected by hand, they are as good."""
    after = edited(world, "build1/status.json", manager="ann")
    assert adopt("build1/status.json", world.files["build1/status.json"], after).data == after
    wrong = adopt("build1/status.json", None, world.files["build2/status.json"])
    assert wrong.data is None
    assert "another builder" in wrong.reason
    unread = adopt(paths.BUILD_CONFIG, world.files[paths.BUILD_CONFIG], b'{"build": 7}')
    assert unread.data is None
    assert "build" in unread.reason
    assert adopt(paths.REGISTRY, None, b'{"builders": [{"name": "b9"}]}').data is not None


@pytest.mark.parametrize(
    ("path", "data", "adopted"),
    [
        ("Features/ceph/README.md", b"\xffanything", True),
        ("docs/x.json", b'{"a":1}', True),
        ("docs/x.json", b"<<<<<<< HEAD", False),
        ("docs/x.json", b"", False),
        ("build1/logs/by-hand.log", b"text", True),
        ("build1/manifests/00/j.1.json", b"{}", False),
        ("coordination/jobs.json", b"[]", False),
        ("coordination/messages.json", b"\xef\xbb\xbf{}", False),
    ],
)
def test_new_files_are_kept_as_they_are_unless_they_cannot_be_read(
    path: str, data: bytes, adopted: bool
) -> None:
    """What the pipeline does not know it keeps; JSON has to be JSON, and a record a record."""
    result = adopt(path, None, data)
    assert result == type(result)(data) if adopted else result.data is None and result.reason


def test_what_a_build_left_is_not_changed_afterwards() -> None:
    """Logs and manifests are evidence."""
    assert adopt("build1/logs/a.log", b"one", b"two").data is None
    assert adopt("build1/manifests/00/j.1.json", b"{}", b"{}\n").data is None


def test_nothing_is_removed_by_hand() -> None:
    """The ledger puts back what a commit by hand removed."""
    for path in ("build1/status.json", paths.MESSAGES, "docs/x.md"):
        assert adopt(path, b"{}", None).data is None


def test_before_there_was_a_file_all_of_it_is_new() -> None:
    """A repository of before has messages that no transaction wrote."""
    first = dump_json({"messages": [message("m1")]})
    adopted = adopt(paths.MESSAGES, None, first)
    assert adopted.data is not None
    assert Messages.model_validate_json(adopted.data).messages[0].id == "m1"

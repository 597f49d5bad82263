"""A ledger that somebody changed by hand: named with file, field and remedy, nothing lost, the rest shown."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.console.driver import Run
from tests.console.test_bad_input import git

FILES = (
    "coordination/ledger.json",
    "coordination/jobs.json",
    "coordination/locks.json",
    "coordination/messages.json",
    "coordination/mailbox.json",
    "shared/build_config.json",
    "shared/builders.json",
    "shared/health_dashboard.json",
    "build1/status.json",
    "build2/heartbeat.json",
)
#: Files that nobody but a transaction may change, whatever is in them.
RESERVED = ("coordination/ledger.json", "coordination/locks.json", "coordination/mailbox.json")

DAMAGES = {
    "empty": (lambda data: b"", "the file is empty"),
    "truncated": (lambda data: data[: len(data) // 2], "not JSON"),
    "marked": (lambda data: b"\xef\xbb\xbf" + data, "starts with a byte-order mark"),
    "conflicting": (
        lambda data: b"<<<<<<< ours\n" + data + b"=======\n{}\n>>>>>>> theirs\n",
        "holds git conflict markers",
    ),
    "not UTF-8": (lambda data: b'{"x": "\xff"}', "not UTF-8 (byte 7)"),
    "a list": (lambda data: b"[]\n", "dictionary"),
    "too deep": (lambda data: b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON"),
}


@pytest.fixture
def clone(run: Run, home: Path, tmp_path: Path) -> Path:
    """A clone by plain git of a ledger in which there is a job, a message and a read one."""
    assert run("sm", "2", "hello").code == 0
    place = tmp_path / "clone"
    git(
        "clone", "--quiet", "--branch", "ledger", str(home / ".pipeline/ledger.git"), str(place), cwd=tmp_path
    )
    return place


def commit(clone: Path, text: str = "by hand") -> str:
    """Commits and pushes everything in a clone; returns the commit."""
    git("add", "--all", cwd=clone)
    git("commit", "--quiet", "-m", text, cwd=clone)
    git("push", "--quiet", cwd=clone)
    return git("rev-parse", "HEAD", cwd=clone)


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_files_are_named_and_kept_aside(run: Run, clone: Path, kind: str) -> None:
    """Every state file damaged at once: each is named, the rest is shown, work goes on, no byte is lost."""
    damage, said = DAMAGES[kind]
    good = {name: (clone / name).read_bytes() for name in FILES}
    for name in FILES:
        (clone / name).write_bytes(damage(good[name]))
    tip = commit(clone)

    shown = run("status", "--json")
    assert shown.code == 0
    assert [each["name"] for each in shown.json["builders"]] == ["build1", "build2"]
    notices = shown.json["notices"]
    for name in FILES:
        (named,) = [notice for notice in notices if f"`{name}`" in notice]
        assert tip[:12] in named
        assert "only transactions write it" in named if name in RESERVED else said in named
        assert "Nothing is lost" in named
    assert run("doctor").code == 60

    assert run("sm", "2", "work goes on").code == 0
    git("pull", "--quiet", cwd=clone)
    for name in FILES:
        if name not in ("coordination/ledger.json", "coordination/messages.json"):
            assert (clone / name).read_bytes() == good[name]
        (kept,) = (clone / "coordination/quarantine").glob(f"*/{name}")
        assert kept.read_bytes() == damage(good[name])
    subjects = [m["subject"] for m in json.loads((clone / FILES[3]).read_bytes())["messages"]]
    assert subjects == ["hello", "work goes on"]
    checked = run("ledger.check")
    assert checked.code == 0
    assert "not adopted: commit" in checked.out


@pytest.mark.parametrize(
    ("name", "field", "change"),
    [
        ("coordination/messages.json", "messages.0.subject", lambda v: v["messages"][0].update(subject=7)),
        ("shared/builders.json", "builders.1.name", lambda v: v["builders"][1].update(name="Build 2")),
        (
            "shared/build_config.json",
            "build.timeout_seconds",
            lambda v: v["build"].update(timeout_seconds="x"),
        ),
        ("build1/status.json", "status", lambda v: v.update(status="dancing")),
        ("build2/heartbeat.json", "timestamp", lambda v: v.update(timestamp="yesterday")),
    ],
)
def test_the_field_is_named(run: Run, clone: Path, name: str, field: str, change: object) -> None:
    """A file whose shape is nearly right is refused by the field that is wrong."""
    value = json.loads((clone / name).read_bytes())
    change(value)  # type: ignore[operator]
    (clone / name).write_text(json.dumps(value))
    commit(clone)
    ended = run("status")
    assert ended.code == 0
    assert f"`{name}`, field `{field}`: " in ended.err


def test_removed_files_come_back(run: Run, clone: Path) -> None:
    """A commit that removes everything removes nothing."""
    git("rm", "--quiet", "-r", "coordination", "shared", "build1", cwd=clone)
    commit(clone)
    ended = run("status")
    assert ended.code == 0
    assert "Somebody changed the ledger by hand" in ended.err
    assert run("sm", "2", "still here").code == 0
    git("pull", "--quiet", cwd=clone)
    assert (clone / "build1/status.json").exists()


def test_a_registry_broken_by_hand_still_tells_who_this_is(
    run: Run, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that has its name from the registry finds it in the last good one."""
    import socket

    value = json.loads((clone / "shared/builders.json").read_bytes())
    value["builders"][1]["host"] = socket.gethostname()
    (clone / "shared/builders.json").write_text(json.dumps(value))
    commit(clone, "build2 is this host")
    (clone / "shared/builders.json").write_bytes(b"{")
    commit(clone, "oops")
    monkeypatch.setenv("PIPELINE_LEDGER", f"file://{git('remote', 'get-url', 'origin', cwd=clone)}")
    assert run("status", "--json").json["here"] == "build2"


@pytest.mark.parametrize("newer", [{"reducer": 99}, {"format": 99}])
def test_a_ledger_of_a_newer_version_is_left_alone(run: Run, clone: Path, newer: dict[str, int]) -> None:
    """A transaction that a newer version made ends with 13, and nothing is written on top of it."""
    head, tree = git("rev-parse", "HEAD", cwd=clone), git("rev-parse", "HEAD^{tree}", cwd=clone)
    record = {"format": 1, "reducer": 1, "tree": tree, "parent": head, **newer}
    made = git("commit-tree", tree, "-p", head, "-m", f"newer\n\n{json.dumps(record)}", cwd=clone)
    git("push", "--quiet", "origin", f"{made}:ledger", cwd=clone)
    for words in (["status"], ["sm", "2", "text"], ["ledger.check"], ["job.list"]):
        ended = run(*words)
        assert ended.code == 13
        assert "Upgrade the pipeline" in ended.err
    assert git("ls-remote", "origin", "refs/heads/ledger", cwd=clone).split()[0] == made


def test_a_rewind_is_noticed_and_repaired_by_hand_only(run: Run, clone: Path, home: Path) -> None:
    """A remote that lacks what was seen ends with 26; the repair wants the abandoned tip named."""
    bare = home / ".pipeline/ledger.git"
    before = git("rev-parse", "ledger~1", cwd=bare)
    lost = git("rev-parse", "ledger", cwd=bare)
    git("update-ref", "refs/heads/ledger", before, cwd=bare)
    ended = run("sm", "2", "text")
    assert ended.code == 26
    assert lost[:12] in ended.err
    assert "invoke ledger.raise-epoch" in ended.err

    for words in ([], ["--abandon", before], ["--abandon", lost[:4]]):
        refused = run("ledger.raise-epoch", *words)
        assert refused.code == 2
        assert f"--abandon {lost[:12]}" in refused.err
    assert git("rev-parse", "ledger", cwd=bare) == before

    raised = run("ledger.raise-epoch", "--abandon", lost[:12], "--json")
    assert raised.code == 0
    assert raised.json["epoch"] > 1
    assert raised.json["abandoned"] == lost
    assert run("sm", "2", "after").code == 0
    assert run("ledger.check").code == 0


def test_a_branch_that_was_deleted_is_pushed_back(run: Run, clone: Path, home: Path) -> None:
    """It ends with 35 whatever is asked, and is mended from the clone beside the outbox."""
    bare = home / ".pipeline/ledger.git"
    seen = git("rev-parse", "ledger", cwd=bare)
    run("status")
    git("update-ref", "-d", "refs/heads/ledger", cwd=bare)
    for words in (["status"], ["sm", "2", "text"], ["ledger.raise-epoch", "--abandon", seen]):
        ended = run(*words)
        assert ended.code == 35, ended.err
        assert seen[:12] in ended.err
        assert "was deleted" in ended.err
    (kept,) = (home / ".pipeline/stores").glob("*/clone.git")
    git("push", "--quiet", str(bare), f"{seen}:refs/heads/ledger", cwd=kept)
    assert run("recover").code == 0
    assert run("ledger.check").code == 0


def test_a_store_from_another_machine_begins_anew(run: Run, clone: Path, home: Path) -> None:
    """A copied store is noticed by the machine's id, and goes on as a writer of its own."""
    (outbox,) = (home / ".pipeline/stores").glob("*/build1/outbox.db")
    with closing(sqlite3.connect(outbox)) as db:
        db.execute("update meta set value = 'another machine' where key = 'identity'")
        db.commit()
    assert run("sm", "2", "from the copy").code == 0
    git("pull", "--quiet", cwd=clone)
    assert len(json.loads((clone / FILES[0]).read_bytes())["writers"]) == 2
    subjects = [m["subject"] for m in json.loads((clone / FILES[3]).read_bytes())["messages"]]
    assert subjects == ["hello", "from the copy"]
    assert run("ledger.check").code == 0


def test_nothing_to_repair_is_said(run: Run, clone: Path) -> None:
    """Where nothing was rewound the repair is refused, even with the right tip."""
    tip = git("rev-parse", "HEAD", cwd=clone)
    ended = run("ledger.raise-epoch", "--abandon", tip)
    assert ended.code == 20
    assert "is no rewind" in ended.err

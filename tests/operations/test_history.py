"""The ledger's story in words, and the proof that it holds."""

from __future__ import annotations

import pytest

from pipeline.coordination.reducer import REDUCER_VERSION
from pipeline.edge.memory_refs import MemoryRemote
from pipeline.errors import UsageError
from pipeline.ledger.chain import read_record
from pipeline.ledger.history import commit_at
from pipeline.operations import history, messages
from pipeline.operations.overview import overview
from pipeline.records import paths
from pipeline.records.schemas import STATE_FILES
from tests.ledger.test_foreign import change_by_hand
from tests.operations.conftest import MakeSite


def test_the_story_is_told_oldest_first(make_site: MakeSite) -> None:
    """Each commit has its number and what was done; a limit leaves the newest."""
    one = make_site("build1")
    messages.send(one, ["build2"], "hello", "")
    messages.send(one, ["build2"], "again", "")
    told = history.log(one)
    assert [(each.ordinal, each.subject) for each in told] == [
        (0, "build1: the ledger begins"),
        (1, "build1: message.send hello"),
        (2, "build1: message.send again"),
    ]
    assert [each.ordinal for each in history.log(one, 1)] == [2]
    with pytest.raises(UsageError):
        history.log(one, 0)


def test_a_sound_ledger_holds(make_site: MakeSite) -> None:
    """Every transaction is computed again, and nothing is found."""
    one = make_site("build1")
    messages.send(one, ["all"], "hello", "")
    checked = history.check(one)
    assert (checked.transactions, checked.findings, checked.aside, checked.holds) == (2, [], [], True)


def test_a_refused_statement_is_no_finding(make_site: MakeSite) -> None:
    """Of what was refused in the same commit as something else nobody keeps the bytes: its outcome stands."""
    site = make_site("build1")
    unreadable = {"statement": b'{"kind": "revocations"}', "signature": b"anybody's"}
    site.ledger.enqueue({"kind": "revocation.publish", "builder": "build1"}, payloads=unreadable)
    site.ask({"kind": "message.send", "id": "m1", "to": "build2", "subject": "s", "body": "b"})
    tip = site.state().tip
    record = read_record(commit_at(site.ledger.refs, tip), REDUCER_VERSION)
    assert record is not None
    assert [(each.request["kind"], each.outcome["ok"]) for each in record.entries] == [
        ("revocation.publish", False),
        ("message.send", True),
    ]
    found = history.check(make_site("build2"))
    assert (found.holds, found.findings) == (True, [])


def test_a_secret_that_was_committed_by_hand_is_told(make_site: MakeSite, remote: MemoryRemote) -> None:
    """The check names it for good, and holds; `status` does until the next transaction. No value is shown."""
    token = "glpat-" + "x1Y2z3" * 4
    oid = change_by_hand(remote, {"notes.md": f"# Notes\n\n{token}\n".encode()})
    one = make_site("build1")
    place = "`notes.md`, line 3: this looks like a password or a key (rule `gitlab_token`)."
    assert [line for line in overview(one).notices if place in line and oid[:12] in line] != []
    messages.send(one, ["all"], "hello", "")
    change_by_hand(remote, {"notes.md": None})
    checked = history.check(one)
    (told,) = (each for each in checked.findings if "looks like" in each.problem)
    assert (told.commit, told.foreign, checked.holds) == (oid, True, True)
    assert told.problem.startswith(f"made by hand: {place} Rotate it")
    assert token not in repr(checked) + repr(overview(one))
    assert not any("looks like" in line for line in overview(one).notices)


def test_every_kind_of_state_file_is_validated() -> None:
    """No file that has a schema is passed over by the check."""
    for file in STATE_FILES:
        if file.path.endswith(".json") and file.record.__name__ not in ("Transaction",):
            assert history.model_of(file.path) is not None, file.path


def test_what_is_wrong_is_said_with_its_field() -> None:
    """A wrong field is named, a sound file is not, and bytes put aside are not looked at."""
    assert "`jobs`" in (history.validate(paths.JOBS, b'{"jobs": 7}') or "")
    assert history.validate(paths.JOBS, b'{"jobs": []}') is None
    assert history.validate(paths.quarantine(3, paths.JOBS), b"{") is None
    assert history.validate("docs/notes.txt", b"\xff") is None
    assert "valid list" in (history.validate(paths.AUTO_REPLIES, b"{}") or "")

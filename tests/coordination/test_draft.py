"""Drafts: only what changed is written, nothing is lost, and memos change nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.coordination.draft import Draft, replaced
from pipeline.coordination.reducer import decide
from pipeline.errors import RecordInvalid
from pipeline.records import lists, paths
from pipeline.records.base import dump, load
from pipeline.records.decisions import Change, Context
from pipeline.records.ledger import Evidence
from pipeline.records.messages import Message, Messages
from tests.coordination.world import NOW, Tree, World

EVIDENCE = Evidence(now=NOW, random="0" * 32)


def begin(world: World) -> Draft:
    return Draft(Tree(world.files), EVIDENCE, Context("op-x", 77))


def note(id: str, body: str = "b") -> Message:
    return Message(id=id, sender="build1", to="build2", subject="s", body=body, timestamp=NOW)


def test_a_draft_that_changes_nothing_writes_nothing() -> None:
    """Looking writes nothing, and neither does putting the same record back."""
    draft = begin(World())
    draft.jobs = replaced(draft.jobs)
    draft.ledger = replaced(draft.ledger, epoch=2)
    draft.ledger = replaced(draft.ledger, epoch=1)
    assert draft.writes() == {}


def test_tokens_rise_and_bear_their_operation() -> None:
    """Each new token is above the one before, and names to whom it was given."""
    draft = begin(World())
    assert [draft.new_token("a"), draft.new_token("b")] == ["1.1.a", "1.2.b"]
    assert list(draft.writes()) == [paths.LEDGER]


def test_a_draft_that_would_lose_a_message_is_not_written() -> None:
    """What leaves the file must be in an archive of the same change."""
    world = World()
    world.do("message.send", id="m1", to="all", subject="s")
    draft = begin(world)
    draft.messages = replaced(draft.messages, messages=[])
    with pytest.raises(RecordInvalid, match="would lose m1") as caught:
        draft.writes()
    assert (caught.value.path, caught.value.field) == (paths.MESSAGES, "messages")


def test_a_draft_that_would_double_an_id_is_not_written() -> None:
    """One id, one record."""
    draft = begin(World())
    draft.messages = replaced(draft.messages, messages=[note("m1"), note("m1", "other")])
    with pytest.raises(RecordInvalid, match="twice"):
        draft.writes()


def test_a_record_that_does_not_validate_is_not_written() -> None:
    """A rule that makes nonsense fails before anything is committed."""
    draft = begin(World())
    draft.ledger = replaced(draft.ledger, waiters=[{"op": "x"}])
    with pytest.warns(UserWarning, match="serializ"), pytest.raises(RecordInvalid) as caught:
        draft.writes()
    assert caught.value.path == paths.LEDGER
    draft = begin(World())
    draft.messages = replaced(draft.messages, messages=[replaced(note("m1"), subject="x" * 101)])
    with pytest.raises(RecordInvalid):
        draft.writes()


@pytest.mark.parametrize("path", [paths.LEDGER, paths.JOBS, paths.LOCKS, paths.MESSAGES, paths.REGISTRY])
@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"<<<<<<< ours\n>>>>>>> theirs\n", b"[]", b'{"jobs": 7}']
)
def test_a_file_that_cannot_be_read_is_named_and_left_alone(path: str, data: bytes) -> None:
    """Who needs the file gets an error with its name; who does not is not troubled."""
    world = World()
    world.files[path] = data
    request = {"builder": "build1", "id": "x", "holder": "h", "branch": "b", "commit": "0" * 40}
    if path == paths.MESSAGES:
        request = {"builder": "build1", "id": "x", "kind": "message.send", "to": "all", "subject": "s"}
    if data == b'{"jobs": 7}' and path != paths.JOBS:
        return  # an unknown field, which is kept
    with pytest.raises(RecordInvalid) as caught:
        world.ask(str(request.pop("kind", "job.start")), **request)
    assert caught.value.path == path
    assert world.files[path] == data


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(
    bodies=st.lists(TEXT, max_size=5),
    extra=st.dictionaries(TEXT.filter(lambda name: name not in Messages.model_fields), TEXT, max_size=2),
)
def test_a_file_by_element_is_the_file_as_a_whole(bodies: list[str], extra: dict[str, str]) -> None:
    """Cut, memoised and joined again, a file is what one dump of it would be, unknown fields and all."""
    whole = Messages(messages=[note(f"m{n}", body) for n, body in enumerate(bodies)], **extra)
    world = World()
    world.files[paths.MESSAGES] = dump(whole)
    draft = begin(world)
    assert draft.messages == whole
    after = replaced(whole, messages=[*draft.messages.messages, note("new", "".join(bodies))])
    draft.messages = after
    assert draft.writes() == {paths.MESSAGES: dump(after)}


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_a_file_that_is_not_canonical_becomes_so(indent: int | None) -> None:
    """A file that another tool wrote is read as it is, and written canonically when it changes."""
    world = World()
    world.do("message.send", id="m1", to="all", subject="s")
    canonical = json.loads(world.files[paths.MESSAGES])
    world.files[paths.MESSAGES] = json.dumps(canonical, indent=indent).encode()
    world.do("message.send", id="m2", to="all", subject="s")
    data = world.files[paths.MESSAGES]
    assert dump(load(Messages, data, paths.MESSAGES)) == data
    assert [message.id for message in world.messages.messages] == ["m1", "m2"]


def test_unknown_fields_of_an_element_survive() -> None:
    """What a newer version wrote into a message stays in it when another is marked, and when it is."""
    world = World()
    newer = {**note("m1").model_dump(mode="json", by_alias=True), "priority": {"level": 3}}
    world.files[paths.MESSAGES] = json.dumps({"messages": [newer], "newer": [1]}).encode()
    world.do("message.send", id="m2", to="all", subject="s")
    world.do("message.ack", ids=["m1"], builder="build2")
    raw = json.loads(world.files[paths.MESSAGES])
    assert raw["newer"] == [1]
    assert raw["messages"][0]["priority"] == {"level": 3}


def test_a_memo_is_bounded() -> None:
    """Neither memo grows with the length of history."""
    for memo in (lists.element_of, lists.whole, lists.read_parts):
        assert memo.cache_info().maxsize is not None


def test_the_shared_records_are_not_touched() -> None:
    """Two decisions on one view see the same state, whatever the first decided."""
    world = World()
    world.order("a")
    world.order("b", depends_on=["a"])
    view = Tree(dict(world.files))
    request = {"kind": "job.cancel", "builder": "build1", "job_id": "a"}
    first = decide(view, request, EVIDENCE, Context("op-1", 9))
    second = decide(view, request, EVIDENCE, Context("op-1", 9))
    assert isinstance(first, Change)
    assert first == second
    assert view.files == world.files

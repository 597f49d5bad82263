"""Messages: sent, marked by each recipient, answered automatically at most once, sealed without loss."""

from __future__ import annotations

import pytest

from pipeline.coordination import mailbox
from pipeline.errors import RecordInvalid
from pipeline.records import paths
from pipeline.records.messages import Message, MessageArchive
from tests.coordination.world import BUILDERS, NOW, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def full(world: World) -> World:
    """A mailbox of which the first tail is sealed: m0 to m99, all to everybody."""
    world.twice = False
    for n in range(2 * mailbox.TAIL + 1):
        send(world, f"m{n}")
    world.twice = True
    return world


def send(world: World, id: str, to: str = "all", **fields: object) -> dict[str, object]:
    return world.do("message.send", id=id, to=to, **{"subject": "about", "body": f"text of {id}", **fields})


def message(world: World, id: str) -> Message:
    return next(each for each in world.messages.messages if each.id == id)


def test_a_message_to_all_is_for_all_others(world: World) -> None:
    """The sender is not among the recipients; they are those of the moment."""
    assert send(world, "m1", builder="build2") == {"id": "m1", "recipients": ["build1", "build3"]}
    assert message(world, "m1").sender == "build2"


def test_read_is_each_recipients_own(world: World) -> None:
    """`read` is true once all have read it; who has not is not spoken for."""
    send(world, "m1")
    assert world.do("message.read", ids=["m1"], builder="build2") == {"marked": ["m1"], "as": "read"}
    assert (message(world, "m1").read, list(message(world, "m1").read_by)) == (False, ["build2"])
    world.do("message.ack", ids=["m1"], builder="build3")
    assert (message(world, "m1").read, list(message(world, "m1").acknowledged_by)) == (True, ["build3"])


def test_a_mark_never_goes_back(world: World) -> None:
    """Reading again, or reading what was acknowledged, changes nothing."""
    send(world, "m1", to="build2")
    world.do("message.ack", ids=["m1"], builder="build2")
    before = dict(world.files)
    assert world.do("message.read", ids=["m1", "m1"], builder="build2")["marked"] == []
    assert world.do("message.ack", ids=["m1"], builder="build2")["marked"] == []
    assert world.files == before


def test_only_a_recipient_marks(world: World) -> None:
    """Not the sender, not a third."""
    send(world, "m1", to="build2")
    assert world.refused("message.read", ids=["m1"], builder="build3").reason == "not-recipient"
    assert world.refused("message.ack", ids=["m1"], builder="build1").reason == "not-recipient"
    assert world.refused("message.read", ids=["m9"], builder="build2").reason == "not-found"


def test_several_are_marked_or_none(world: World) -> None:
    """One id that is unknown refuses the whole request."""
    send(world, "m1", to="build2")
    world.refused("message.read", ids=["m1", "m9"], builder="build2")
    assert not message(world, "m1").read


def test_an_id_means_one_message(world: World) -> None:
    """The same message again is answered as before; another one under its id is refused."""
    send(world, "m1")
    before = dict(world.files)
    assert send(world, "m1")["id"] == "m1"
    assert world.files == before
    other = {"id": "m1", "to": "all", "subject": "about", "body": "another text"}
    assert world.refused("message.send", **other).reason == "duplicate"


def test_a_recipient_must_be_there(world: World) -> None:
    """A mistyped name is refused with near ones; nobody writes to itself."""
    refusal = world.refused("message.send", id="m1", to="build22", subject="s")
    assert refusal.reason == "unknown-builder"
    assert refusal.remedy is not None
    assert "build2" in refusal.remedy
    assert world.refused("message.send", id="m1", to="build1", subject="s").reason == "own-message"


def test_alone_there_is_nobody_to_write_to() -> None:
    """One builder alone is told so; its builds still leave their notes."""
    alone = World(builders=BUILDERS[:1])
    assert alone.refused("message.send", id="m1", to="all", subject="s").reason == "nobody"
    alone.finish("j1", alone.run("j1"))
    assert alone.messages.messages[0].read


@pytest.mark.parametrize(("field", "length"), [("subject", 101), ("body", 10_001)])
def test_a_text_that_is_too_long_is_refused(world: World, field: str, length: int) -> None:
    """Subjects have up to 100 characters, bodies up to 10,000; one less is taken."""
    request = {"to": "all", "subject": "s"}
    send(world, "fits", **{field: "ü" * (length - 1)})
    with pytest.raises(RecordInvalid) as caught:
        world.ask("message.send", id="long", **{**request, field: "x" * length})
    assert caught.value.field == field


def test_any_text_survives(world: World) -> None:
    """Quotes, backticks, line separators, options: text is text."""
    body = '--all `rm -rf /` "$HOME" \\n \u2028 \x00 },\n    {\n  ]\n'
    send(world, "m1", body=body)
    send(world, "m2")
    assert message(world, "m1").body == body


def test_text_that_is_not_unicode_is_refused(world: World) -> None:
    """A lone surrogate, as a broken argument gives it, reaches no file."""
    with pytest.raises(RecordInvalid):
        world.ask("message.send", id="m1", to="all", subject="s", body="\udcff")


# Threads and automatic replies


def test_a_reply_belongs_to_the_thread_of_what_it_answers(world: World) -> None:
    """The thread is the first message's id, whatever the sender says."""
    send(world, "m1")
    send(world, "m2", to="build1", in_reply_to="m1", builder="build2")
    send(world, "m3", in_reply_to="m2", thread="other")
    assert [each.thread for each in world.messages.messages] == [None, "m1", "m1"]


def test_nothing_automatic_answers_what_is_automatic(world: World) -> None:
    """Two machines that greet each other stop at the first greeting."""
    send(world, "m1", to="build2", auto=True)
    reply = {"to": "build1", "subject": "re", "auto": True, "builder": "build2"}
    assert world.refused("message.send", id="m2", in_reply_to="m1", **reply).reason == "auto-loop"
    assert world.refused("message.send", id="m2", in_reply_to="m0", **reply).reason == "auto-loop"


def test_one_automatic_reply_a_thread(world: World) -> None:
    """However often a person writes on, and whichever message is answered."""
    send(world, "m1", to="build2")
    send(world, "m2", to="build1", in_reply_to="m1", auto=True, builder="build2")
    send(world, "m3", to="build2", in_reply_to="m1")
    reply = {"to": "build1", "subject": "re", "auto": True, "builder": "build3", "in_reply_to": "m3"}
    assert world.refused("message.send", id="m4", **reply).reason == "auto-loop"


def test_the_automatic_reply_of_a_thread_is_remembered_when_sealed(world: World) -> None:
    """Sealing does not give a thread another automatic reply."""
    send(world, "first", to="build2")
    send(world, "auto", to="build1", in_reply_to="first", auto=True, builder="build2")
    world.twice = False
    for n in range(2 * mailbox.TAIL):
        send(world, f"m{n}")
    world.twice = True
    assert world.mailbox.auto_threads == ["first"]
    send(world, "again", to="build2", in_reply_to="first")
    reply = {"to": "build1", "subject": "re", "auto": True, "builder": "build2", "in_reply_to": "again"}
    assert world.refused("message.send", id="auto2", **reply).reason == "auto-loop"


# Archives


def test_the_older_tail_is_sealed(full: World) -> None:
    """In the same decision the messages leave the file, appear in one archive, and are counted."""
    (path,) = full.archives(mailbox.ARCHIVES)
    archive = full.load(MessageArchive, path)
    assert path == paths.message_archive(archive.ordinal)
    assert [each.id for each in archive.messages] == [f"m{n}" for n in range(mailbox.TAIL)]
    assert [each.id for each in full.messages.messages] == [f"m{n}" for n in range(100, 201)]
    assert full.mailbox.sealed == mailbox.TAIL
    assert full.mailbox.unread["build2"]["m0"] == path
    assert "build1" not in full.mailbox.unread


def test_a_sealed_message_is_read_and_acknowledged(full: World) -> None:
    """Its archive is never written again: receipts are kept aside, and go into the next archive."""
    (path,) = full.archives(mailbox.ARCHIVES)
    sealed = full.files[path]
    assert full.do("message.read", ids=["m0"], builder="build2")["marked"] == ["m0"]
    assert full.mailbox.read["build2"] == ["m0"]
    assert full.do("message.read", ids=["m0"], builder="build2")["marked"] == []
    assert full.do("message.ack", ids=["m0"], builder="build2")["marked"] == ["m0"]
    assert "m0" not in full.mailbox.unread["build2"]
    assert "m0" in full.mailbox.unread["build3"]
    assert [each.acknowledged_at for each in full.mailbox.receipts] == [None, NOW]
    assert full.files[path] == sealed
    full.twice = False
    for n in range(mailbox.TAIL):
        send(full, f"n{n}")
    archive = full.load(MessageArchive, full.archives(mailbox.ARCHIVES)[-1])
    assert [each.id for each in archive.receipts] == ["m0", "m0"]
    assert full.mailbox.receipts == []


def test_the_index_of_what_is_unread_is_bounded(full: World) -> None:
    """Of many sealed messages the latest are listed; the others are counted, and marked by their archive."""
    full.twice = False
    for n in range(2 * mailbox.TAIL):
        send(full, f"n{n}")
    first = full.archives(mailbox.ARCHIVES)[0]
    assert len(full.mailbox.unread["build2"]) == mailbox.UNREAD
    assert full.mailbox.unindexed == {"build2": 100, "build3": 100}
    assert full.refused("message.read", ids=["m0"], builder="build2").reason == "not-found"
    archives = {"m0": first, "m1": paths.MESSAGES}
    assert full.do("message.ack", ids=["m0"], archives=archives, builder="build2")["marked"] == ["m0"]
    assert full.do("message.ack", ids=["m0"], archives=archives, builder="build2")["marked"] == []
    assert full.refused("message.ack", ids=["m1"], archives=archives, builder="build2").reason == "not-found"


def test_receipts_are_bounded(full: World) -> None:
    """Receipts for sealed messages are sealed themselves, without a message if need be."""
    full.twice = False
    for by in ("build2", "build3"):
        for kind in ("message.read", "message.ack"):
            full.do(kind, ids=[f"m{n}" for n in range(mailbox.TAIL)], builder=by)
    assert len(full.mailbox.receipts) <= 2 * mailbox.TAIL
    kept = [len(full.load(MessageArchive, path).receipts) for path in full.archives(mailbox.ARCHIVES)]
    assert sum(kept) + len(full.mailbox.receipts) == 4 * mailbox.TAIL

"""Messages as their users send, list and acknowledge them."""

from __future__ import annotations

import pytest

from pipeline.errors import NotFound, Refused, UsageError
from pipeline.operations import messages
from tests.operations.conftest import MakeSite


def test_a_message_arrives_unharmed(make_site: MakeSite) -> None:
    """Backticks, quotes, leading dashes, newlines and other alphabets arrive as they were written."""
    body = "--flag `rm -rf /` $(reboot) \"quoted\" 'single'\n\\n 日本 \U0001f6a7"
    one, two = make_site("build1"), make_site("build2")
    messages.send(one, ["build2"], "-- a subject", body)
    arrived = messages.listed(two, unread=True)
    assert [(m.sender, m.subject, m.body) for m in arrived] == [("build1", "-- a subject", body)]


def test_read_and_acknowledged_are_per_recipient(make_site: MakeSite) -> None:
    """A message to all that one recipient acknowledged is still unread for the others and for `read`."""
    one, two = make_site("build1"), make_site("build2")
    two.ask({"kind": "registry.set", "entry": {"name": "build3"}})
    (id,) = messages.send(one, ["all"], "to everybody", "text")
    messages.mark(two, [id], acknowledge=True)
    three = make_site("build3")
    assert messages.listed(two, unread=True) == []
    assert [m.id for m in messages.listed(three, unread=True)] == [id]
    assert not messages.listed(three)[0].read
    messages.mark(three, [id], acknowledge=False)
    assert messages.listed(three)[0].read


@pytest.mark.parametrize(
    ("short", "meant"),
    [("2", ["build2"]), ("12", ["build2"]), ("21", ["build2"]), ("1", ["build1"]), ("all", ["all"])],
)
def test_short_recipients(make_site: MakeSite, short: str, meant: list[str]) -> None:
    """`sm`'s digits stand for the ends of builders' names; among several the sender is left out."""
    assert messages.recipients(make_site("build1"), short) == meant


@pytest.mark.parametrize("short", ["7", "../etc", "--help", "", "1 2"])
def test_unknown_recipients_are_named(make_site: MakeSite, short: str) -> None:
    """A recipient that nobody is leads to an error that lists who there is."""
    with pytest.raises(UsageError) as caught:
        messages.recipients(make_site("build1"), short)
    assert "build1, build2" in (caught.value.remedy or "")


def test_unknown_recipient_is_refused_by_the_ledger(make_site: MakeSite) -> None:
    """The shared store refuses a recipient that is not registered, whoever asks."""
    with pytest.raises(Refused) as caught:
        messages.send(make_site("build1"), ["build9"], "hello", "text")
    assert caught.value.reason == "unknown-builder"


@pytest.mark.parametrize(
    ("to", "reason"),
    [(["build2", "build9"], "unknown-builder"), (["build2", "build1"], "own-message")],
)
def test_of_several_recipients_all_get_it_or_none(make_site: MakeSite, to: list[str], reason: str) -> None:
    """Where one recipient cannot be sent to, the others get nothing that a second try would double."""
    one = make_site("build1")
    with pytest.raises(Refused) as caught:
        messages.send(one, to, "hello", "text")
    assert caught.value.reason == reason
    assert messages.listed(one) == []


@pytest.mark.parametrize(
    ("to", "subject", "body", "said"),
    [
        ("../x", "hello", "", "'../x' cannot be the name of a builder"),
        ("build2", "x" * 101, "", "The subject has 101 characters; 100 are allowed."),
        ("build2", "hello", "x" * 10_001, "The body has 10001 characters; 10000 are allowed."),
    ],
)
def test_what_cannot_be_sent_is_said_here(
    make_site: MakeSite, to: str, subject: str, body: str, said: str
) -> None:
    """A recipient that nobody can be and a text that is too long are usage errors, in words for a person."""
    with pytest.raises(UsageError) as caught:
        messages.send(make_site("build1"), [to], subject, body)
    assert said in caught.value.message


def test_the_longest_message_is_sent(make_site: MakeSite) -> None:
    """100 characters of subject and 10,000 of body arrive whole, letters of several bytes included."""
    messages.send(make_site("build1"), ["build2"], "ß" * 100, "日" * 10_000)
    (arrived,) = messages.listed(make_site("build2"))
    assert (arrived.subject, arrived.body) == ("ß" * 100, "日" * 10_000)


def test_subject_comes_from_the_first_line() -> None:
    """The first line that says something is the subject, cut with a sign if it is too long."""
    assert messages.split_subject("\n  hello \nworld") == ("hello", "\n  hello \nworld")
    subject, _ = messages.split_subject("x" * 300)
    assert len(subject) == 100
    assert subject.endswith("…")
    with pytest.raises(UsageError):
        messages.split_subject("  \n ")


def test_archives_lose_nothing(make_site: MakeSite) -> None:
    """Past the point where the oldest are sealed, each can be listed, and unread ones stay unread."""
    one, two = make_site("build1"), make_site("build2")
    sent = []
    for number in range(230):
        request = {
            "kind": "message.send",
            "builder": "build1",
            "id": f"m{number:03d}",
            "to": "build2",
            "subject": str(number),
        }
        one.ledger.enqueue(request)
        sent.append(f"m{number:03d}")
        if number % 40 == 39:
            one.ledger.deliver()
    one.ledger.deliver()
    assert [m.id for m in messages.listed(one, everything=True, limit=1000)] == sent
    assert [m.id for m in messages.listed(two, unread=True, limit=1000)] == sent
    messages.mark(two, ["m000"], acknowledge=True)
    assert [m.id for m in messages.listed(two, unread=True, limit=1000)] == sent[1:]


def test_a_reply_to_what_was_never_sent_is_refused(make_site: MakeSite) -> None:
    """It is refused before anything is sent, and the ids near it are offered."""
    one = make_site("build1")
    (id,) = messages.send(one, ["build2"], "hello", "text")
    with pytest.raises(NotFound, match=rf"^No message `{id}x` was ever sent, .*; nothing was sent") as caught:
        messages.send(make_site("build2"), ["build1"], "re", "text", in_reply_to=f"{id}x")
    assert (caught.value.reason, caught.value.remedy) == ("not-found", f"Near it: {id}.")
    assert [m.subject for m in messages.listed(one)] == ["hello"]
    with pytest.raises(NotFound) as caught:
        messages.send(one, ["build2"], "re", "text", in_reply_to="-")
    assert caught.value.remedy == "`invoke message.list --all` shows them all."


def test_a_reply_to_a_sealed_message_is_in_its_thread(make_site: MakeSite) -> None:
    """What was archived, and is listed for nobody any more, can be answered as well as the day it came."""
    one, two = make_site("build1"), make_site("build2")
    (first,) = messages.send(one, ["build2"], "hello", "text")
    (again,) = messages.send(two, ["build1"], "re", "text", in_reply_to=first)
    messages.mark(one, [again], acknowledge=True)
    for number in range(200):
        messages.send(one, ["build2"], f"{number}", "")
    assert again not in {m.id for m in messages.listed(one, limit=1000)}
    (reply,) = messages.send(one, ["build2"], "re: re", "text", in_reply_to=again)
    found = messages.show(one, reply)
    assert (found.in_reply_to, found.thread) == (again, first)

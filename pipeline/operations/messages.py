"""Messages: send, list, read and acknowledge. They are text; nothing here executes one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from pipeline.errors import NotFound, Refused, UsageError
from pipeline.operations import site as sites
from pipeline.operations.site import Site
from pipeline.records import paths
from pipeline.records.base import load
from pipeline.records.decisions import View
from pipeline.records.messages import (
    MAXIMUM_BODY,
    MAXIMUM_SUBJECT,
    Mailbox,
    Message,
    MessageArchive,
    Messages,
)
from pipeline.records.names import check_name

_ARCHIVE = "coordination/archive/messages"
_TYPES = ("info", "warning", "error", "request")


def send(
    site: Site,
    to: Sequence[str],
    subject: str,
    body: str,
    *,
    type: str = "info",
    in_reply_to: str | None = None,
) -> list[str]:
    """Sends one message to each recipient ("all" counts as one) and returns their ids.

    Raises UsageError for what can be seen here, NotFound for a reply to what was never sent, Refused for what
    only the ledger knows. Where one of several recipients cannot be sent to, none is.
    """
    if type not in _TYPES:
        raise UsageError(f"A message cannot be of type {type!r}.", remedy=f"One of: {', '.join(_TYPES)}.")
    if not subject.strip() or "\n" in subject:
        raise UsageError("A message needs a subject of one line.")
    _insist_on_length("subject", subject, MAXIMUM_SUBJECT, "Put the rest into the body.")
    _insist_on_length("body", body, MAXIMUM_BODY, "Send the rest as another message, or say where it lies.")
    if not to:
        raise UsageError("Nobody is named to send it to.", remedy="`all`, or builders with commas.")
    answered = _answered(site, in_reply_to) if in_reply_to else None
    everybody = list(dict.fromkeys(to))
    _insist_on_recipients(site, everybody)
    ids = []
    for recipient in everybody:
        request = {
            "kind": "message.send",
            "id": f"msg_{site.random.op()}",
            "to": recipient,
            "type": type,
            "subject": subject,
            "body": body,
        }
        if answered:
            # The thread too: the ledger itself does not look into every archive.
            request |= {"in_reply_to": answered.id, "thread": answered.thread or answered.id}
        site.ask(request)
        ids.append(request["id"])
    return ids


def _answered(site: Site, message_id: str) -> Message:
    """Returns the message that a reply answers, sealed or not. Raises NotFound, which offers near ones."""
    view = site.state().view
    live = sites.record(view, Messages, paths.MESSAGES).messages
    ids = []
    for message in itertools.chain(reversed(live), archived(view)):
        if message.id == message_id:
            return message
        ids.append(message.id)
    near = ", ".join(get_close_matches(message_id, ids))
    raise NotFound(
        f"No message `{message_id}` was ever sent, so nothing can answer it; nothing was sent.",
        reason="not-found",
        remedy=f"Near it: {near}." if near else "`invoke message.list --all` shows them all.",
    )


def _insist_on_length(what: str, text: str, most: int, remedy: str) -> None:
    if len(text) > most:
        raise UsageError(f"The {what} has {len(text)} characters; {most} are allowed.", remedy=remedy)


def _insist_on_recipients(site: Site, to: Sequence[str]) -> None:
    """Refuses names that no builder can have; of several, also those that the ledger would refuse.

    Of one alone the ledger itself says no, on the state as it is then.
    """
    for name in to:
        if name != "all":
            check_name("builder", name)
    if len(to) == 1:
        return
    known = [b.name for b in sites.registry(site.state().view).builders]
    for name in to:
        if name == site.builder:
            raise Refused(
                f"{name} would send this to itself; nothing was sent.",
                reason="own-message",
                remedy="Leave it out.",
            )
        if name not in ("all", *known):
            raise Refused(
                f"No builder `{name}` is registered; nothing was sent.",
                reason="unknown-builder",
                remedy=f"Use some of: {', '.join(known)}.",
            )


def recipients(site: Site, short: str) -> list[str]:
    """Reads `sm`'s recipients: `all`, a builder's name, or digits that end names (`12`: 1 and 2).

    A builder that is among several digits itself is left out.
    """
    if short == "all":
        return ["all"]
    names = [b.name for b in sites.registry(site.state().view).builders]
    if short in names:
        return [short]
    if re.fullmatch(r"\d{1,9}", short):
        found = {digit: [n for n in names if re.fullmatch(rf"\D+{digit}", n)] for digit in short}
        if all(len(n) == 1 for n in found.values()):
            meant = [found[digit][0] for digit in dict.fromkeys(short)]
            return [name for name in meant if name != site.builder] or meant
    raise UsageError(
        f"{short!r} names no builder.",
        remedy=f"`all`, or one of: {', '.join(names)}; digits stand for their ends.",
    )


def split_subject(text: str) -> tuple[str, str]:
    """Returns the subject that a text's first line gives, and the body: all of the text."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if not first:
        raise UsageError(
            "The message is empty.", remedy='`invoke sm 2 "text"`, or the text on standard input with -.'
        )
    return (first if len(first) <= MAXIMUM_SUBJECT else first[: MAXIMUM_SUBJECT - 1] + "…"), text


def listed(site: Site, *, unread: bool = False, everything: bool = False, limit: int = 50) -> list[Message]:
    """Returns the newest messages, oldest first: of everybody, or only those unread by this builder.

    Raises UsageError for a limit below 1.
    """
    if limit < 1:
        raise UsageError(f"{limit} messages cannot be listed.", remedy="Give a number, 1 or more.")
    view = site.state().view
    live = list(sites.record(view, Messages, paths.MESSAGES).messages)
    if unread:
        waiting = [m for m in live if site.builder in m.recipients and site.builder not in m.read_by]
        return [*_unread_sealed(view, site.builder), *waiting][-limit:]
    if everything:
        live = [*reversed(list(archived(view))), *live]
    return live[-limit:]


def show(site: Site, message_id: str) -> Message:
    """Returns one message, sealed or not; it stays unread. Raises NotFound."""
    view = site.state().view
    live = reversed(sites.record(view, Messages, paths.MESSAGES).messages)
    for message in itertools.chain(live, archived(view)):
        if message.id == message_id:
            return message
    raise NotFound(
        f"No message `{message_id}`.",
        reason="not-found",
        remedy="`invoke message.list --all` shows them all.",
    )


def archived(view: View) -> Iterator[Message]:
    """Yields sealed messages, newest first."""
    for folder in reversed(view.names(_ARCHIVE)):
        for name in reversed(view.names(f"{_ARCHIVE}/{folder}")):
            path = f"{_ARCHIVE}/{folder}/{name}"
            yield from reversed(load(MessageArchive, view.read(path) or b"", path).messages)


def _unread_sealed(view: View, builder: str) -> list[Message]:
    mailbox = sites.record(view, Mailbox, paths.MAILBOX)
    read = set(mailbox.read.get(builder, []))
    wanted = {id: path for id, path in mailbox.unread.get(builder, {}).items() if id not in read}
    found = []
    for path in sorted(set(wanted.values())):
        archive = load(MessageArchive, view.read(path) or b"", path)
        found += [m for m in archive.messages if m.id in wanted]
    return found


def mark(site: Site, ids: Sequence[str], *, acknowledge: bool) -> dict[str, object]:
    """Marks messages as read, or acknowledged, by this builder alone."""
    if not ids:
        raise UsageError("Which message?", remedy="`invoke message.list --unread` shows the ids.")
    return site.ask({"kind": "message.ack" if acknowledge else "message.read", "ids": list(ids)})

"""The mailbox: messages to one builder or to all, which each recipient reads and acknowledges for itself.

Guarantees: a message that was sent is for ever in `messages.json` or in one sealed archive; a mark never
goes back; nothing automatic answers what is automatic, nor one thread twice. Sending costs the same however
much was ever sent: what grows is sealed, and every index of what is sealed is bounded.
"""

from __future__ import annotations

from typing import Any

from pipeline.coordination.draft import Answer, Draft, replaced
from pipeline.coordination.presence import unknown_builder
from pipeline.records import paths, requests
from pipeline.records.decisions import Refusal
from pipeline.records.messages import (
    MAXIMUM_BODY,
    MAXIMUM_SUBJECT,
    Mailbox,
    Message,
    MessageArchive,
    MessageType,
    Receipt,
)

#: `messages.json` holds between one and two tails; of two the older one is sealed.
TAIL = 100
#: How many sealed messages are listed as unread per recipient, and how many threads as answered.
UNREAD = 200
ANSWERED = 1000

#: The folder of what is sealed.
ARCHIVES = paths.message_archive(0).rsplit("/", 2)[0] + "/"

_WRITTEN = {"id", "to", "type", "subject", "body", "in_reply_to", "auto"}


def send(draft: Draft, request: requests.MessageSend) -> Answer:
    """Sends a message. The same again changes nothing; another under its id is refused."""
    answered = _find(draft, request.in_reply_to) if request.in_reply_to else None
    message = Message(
        **request.model_dump(include=_WRITTEN),
        sender=request.builder,
        timestamp=draft.now,
        thread=(answered.thread or answered.id) if answered else request.thread or request.in_reply_to,
        recipients=_addressed(draft, request.builder, request.to),
    )
    known = next((each for each in draft.messages.messages if each.id == message.id), None)
    if known is None:
        refused = _address_refused(draft, message) or _loop_refused(draft, message, answered)
        return refused or _post(draft, message)
    if known.model_dump(include={*_WRITTEN, "sender"}) == message.model_dump(include={*_WRITTEN, "sender"}):
        return {"id": known.id, "recipients": known.recipients}
    return Refusal(
        "duplicate", f"Another message has the id `{known.id}`.", "Send it under an id of its own."
    )


def notify(draft: Draft, sender: str, type: MessageType, subject: str, body: str) -> None:
    """Tells all others of a fact, in the decision that made it one; at most once a decision."""
    message = Message(
        id=draft.context.op,
        sender=sender,
        to="all",
        type=type,
        subject=subject[:MAXIMUM_SUBJECT],
        body=body[:MAXIMUM_BODY],
        timestamp=draft.now,
        recipients=_addressed(draft, sender, "all"),
        auto=True,
    )
    _post(draft, message)


def mark(draft: Draft, request: requests.MessageRead | requests.MessageAck) -> Answer:
    """Marks messages, sealed ones too, as read by one recipient, or as acknowledged, which is more."""
    by, acknowledge = request.builder, request.kind == "message.ack"
    marked = []
    for id in dict.fromkeys(request.ids):
        live = next((each for each in draft.messages.messages if each.id == id), None)
        archive = draft.mailbox.unread.get(by, {}).get(id) or request.archives.get(id, "")
        message = live or _sealed(draft, archive, id)
        if message is None:
            what = f"No message `{id}` waits for {by}: there is none, or it is sealed and acknowledged."
            return Refusal("not-found", what, "Run `invoke message.list`.")
        if by not in recipients_of(draft, message):
            return Refusal("not-recipient", f"Message `{id}` is for {message.to}, not for {by}.")
        news = _mark_live(draft, live, by, acknowledge) if live else _mark_sealed(draft, id, by, acknowledge)
        marked += [id] * news
    _seal(draft)
    return {"marked": marked, "as": "acknowledged" if acknowledge else "read"}


def recipients_of(draft: Draft, message: Message) -> list[str]:
    """Returns whom a message is for; one that was written by hand may not say it itself."""
    return message.recipients or _addressed(draft, message.sender, message.to)


def _addressed(draft: Draft, sender: str, to: str) -> list[str]:
    names = [builder.name for builder in draft.registry.builders if builder.name != sender]
    return names if to == "all" else [to]


def _post(draft: Draft, message: Message) -> dict[str, Any]:
    message = replaced(message, read=not message.recipients)
    draft.messages = replaced(draft.messages, messages=[*draft.messages.messages, message])
    _seal(draft)
    return {"id": message.id, "recipients": message.recipients}


def _mark_live(draft: Draft, message: Message, by: str, acknowledge: bool) -> bool:
    if by in message.read_by and (by in message.acknowledged_by or not acknowledge):
        return False
    read_by = {by: draft.now} | message.read_by
    acknowledged_by = {by: draft.now} | message.acknowledged_by if acknowledge else message.acknowledged_by
    read = all(name in read_by for name in recipients_of(draft, message))
    after = replaced(message, read_by=read_by, acknowledged_by=acknowledged_by, read=read)
    messages = [after if each is message else each for each in draft.messages.messages]
    draft.messages = replaced(draft.messages, messages=messages)
    return True


# Sealed messages


def _seal(draft: Draft) -> None:
    """Moves the oldest tail, and the receipts for sealed messages, into an archive of this transaction.

    A transaction that has sealed already leaves the rest to the next one: an archive is written once.
    """
    messages, box, path = draft.messages.messages, draft.mailbox, paths.message_archive(draft.context.ordinal)
    due = len(messages) > 2 * TAIL
    if not (due or len(box.receipts) > 2 * TAIL) or draft.exists(path):
        return
    sealed = messages[:TAIL] if due else []
    draft.put(path, MessageArchive(ordinal=draft.context.ordinal, messages=sealed, receipts=box.receipts))
    draft.messages = replaced(draft.messages, messages=messages[len(sealed) :])
    answered = [*box.auto_threads, *(each.thread for each in sealed if each.auto and each.thread)]
    box = replaced(box, sealed=box.sealed + len(sealed), receipts=[], auto_threads=answered[-ANSWERED:])
    for name in sorted({name for message in sealed for name in recipients_of(draft, message)}):
        box = _index(box, name, [each for each in sealed if name in recipients_of(draft, each)], path)
    draft.mailbox = box


def _index(box: Mailbox, name: str, sealed: list[Message], path: str) -> Mailbox:
    """Lists what a recipient has not acknowledged of what is sealed: the latest UNREAD."""
    unread = box.unread.get(name, {}) | {each.id: path for each in sealed if name not in each.acknowledged_by}
    read = [*box.read.get(name, []), *(each.id for each in sealed if name in each.read_by)]
    latest = sorted(unread, key=lambda id: (unread[id], id))[-UNREAD:]  # paths ascend with the ordinal
    dropped = box.unindexed.get(name, 0) + len(unread) - len(latest)
    return replaced(
        box,
        unread=box.unread | {name: {id: unread[id] for id in latest}},
        read=box.read | {name: [id for id in read if id in latest]},
        unindexed=box.unindexed | ({name: dropped} if dropped else {}),
    )


def _sealed(draft: Draft, archive: str, id: str) -> Message | None:
    record = draft.get(MessageArchive, archive) if archive.startswith(ARCHIVES) else None
    return next((each for each in record.messages if each.id == id), None) if record else None


def _mark_sealed(draft: Draft, id: str, by: str, acknowledge: bool) -> bool:
    """Keeps a receipt for a message whose archive is never written again; says whether it is news."""
    box = draft.mailbox
    unread, read = box.unread.get(by, {}), box.read.get(by, [])
    earlier = [each for each in box.receipts if (each.id, each.recipient) == (id, by)]
    if (id in read and not acknowledge) or any(each.acknowledged_at or not acknowledge for each in earlier):
        return False
    if acknowledge:
        unread = {each: path for each, path in unread.items() if each != id}
    read = [each for each in [*read, id] if each in unread]
    time = draft.now if acknowledge else None
    receipt = Receipt(id=id, recipient=by, read_at=draft.now, acknowledged_at=time)
    draft.mailbox = replaced(
        box,
        unread=box.unread | {by: unread},
        read=box.read | {by: read},
        receipts=[*box.receipts, receipt],
    )
    return True


def _find(draft: Draft, id: str) -> Message | None:
    """Returns a message that is live, or sealed and still listed for somebody."""
    for message in draft.messages.messages:
        if message.id == id:
            return message
    listed = (unread[id] for unread in draft.mailbox.unread.values() if id in unread)
    return _sealed(draft, next(listed, ""), id)


# Refusals


def _address_refused(draft: Draft, message: Message) -> Refusal | None:
    if message.to == message.sender:
        return Refusal("own-message", f"{message.sender} would send this to itself.", "Name another builder.")
    if message.to != "all":
        return unknown_builder(draft, message.to)
    remedy = "Register one in `shared/builders.json`."
    return None if message.recipients else Refusal("nobody", "No other builder is registered.", remedy)


def _loop_refused(draft: Draft, reply: Message, answered: Message | None) -> Refusal | None:
    """Refuses an automatic reply to what is automatic, to what is unknown, and the second in a thread."""
    if not reply.auto or reply.in_reply_to is None:
        return None
    had_one = (each.thread for each in draft.messages.messages if each.auto)
    if answered is None:
        why = f"no message `{reply.in_reply_to}` is at hand that would show who wrote it"
    elif answered.auto:
        why = f"`{answered.id}` was itself sent automatically"
    elif reply.thread in draft.mailbox.auto_threads or reply.thread in had_one:
        why = f"thread `{reply.thread}` had its automatic reply"
    else:
        return None
    return Refusal("auto-loop", f"An automatic reply is not sent: {why}.", "Answer in person, or not at all.")

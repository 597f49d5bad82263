"""Messages: none is lost or doubled, and marks are their reader's own."""

from __future__ import annotations

from pipeline.coordination import mailbox
from pipeline.records.messages import Message, MessageArchive
from tests.simulation.invariants.base import Step, fail, read


def messages_are_conserved(step: Step) -> None:
    if step.after.messages is step.before.messages:
        return None
    sealed: list[Message] = []
    for path, data in step.changed.items():
        if path.startswith(mailbox.ARCHIVES) and data is not None:
            sealed += read(MessageArchive, data, path).messages
    now = {message.id for message in step.after.messages.messages}
    gone = {message.id for message in sealed}
    for message in step.before.messages.messages:
        if message.id not in now and message.id not in gone:
            return fail("messages-are-conserved", step, f"message {message.id} is gone")
    for id in sorted(gone):
        if id in now or id in step.history.sealed_messages:
            return fail("messages-are-conserved", step, f"message {id} is sealed twice, or sealed and live")
        step.history.sealed_messages[id] = step.position
    if len(now) != len(step.after.messages.messages):
        return fail("messages-are-conserved", step, "a message is there twice")
    if step.after.mailbox.sealed != step.before.mailbox.sealed + len(sealed):
        return fail("messages-are-conserved", step, f"{step.after.mailbox.sealed} are said to be sealed")
    for message in step.after.messages.messages:
        if step.history.sealed_messages.get(message.id, step.position) != step.position:
            return fail("messages-are-conserved", step, f"message {message.id} is back from its archive")
        step.history.messages.setdefault(message.id, step.position)
    for entry in step.record.entries:
        sent = entry.request["kind"] == "message.send" and entry.outcome["ok"]
        if sent and entry.request["id"] not in step.history.messages:
            return fail("messages-are-conserved", step, f"{entry.request['id']} was sent, and is not there")
    return None


def marks_never_go_back(step: Step) -> None:
    """Read and acknowledged are each recipient's own, and once said stay said."""
    by = {(e.request.get("builder"), e.request["kind"]) for e in step.record.entries}
    marking = {name for name, kind in by if kind in ("message.read", "message.ack")}
    if step.after.messages is not step.before.messages:
        old = {message.id: message for message in step.before.messages.messages}
        for message in step.after.messages.messages:
            was = old.get(message.id)
            if was is message:
                continue
            before = (was.read_by, was.acknowledged_by) if was else ({}, {})
            after = (message.read_by, message.acknowledged_by)
            for one, two in zip(before, after, strict=True):
                if any(two.get(name) != time for name, time in one.items()):
                    return fail("marks-never-go-back", step, f"message {message.id}: {one} became {two}")
                if was is not None and not marking.issuperset(two.keys() - one.keys()):
                    return fail("marks-are-ones-own", step, f"message {message.id} marked for {two.keys()}")
            whole = set(message.recipients) <= message.read_by.keys()
            if not message.acknowledged_by.keys() <= message.read_by.keys() or message.read != whole:
                return fail("marks-never-go-back", step, f"message {message.id} contradicts itself")
    if step.after.mailbox is not step.before.mailbox:
        known = len(step.before.mailbox.receipts)
        sealing = any(path.startswith(mailbox.ARCHIVES) for path in step.changed)
        if not sealing and step.after.mailbox.receipts[:known] != step.before.mailbox.receipts:
            return fail("marks-never-go-back", step, "a receipt of a sealed message is gone")
        for receipt in step.after.mailbox.receipts[0 if sealing else known :]:
            if not sealing and receipt.recipient not in marking:
                return fail(
                    "marks-are-ones-own", step, f"message {receipt.id} marked for {receipt.recipient}"
                )
    return None


def automatic_replies_are_bounded(step: Step) -> None:
    """Nothing automatic answers what is automatic, nor one thread twice."""
    for entry in step.record.entries:
        request = entry.request
        if request["kind"] != "message.send" or not entry.outcome["ok"] or not request.get("auto"):
            continue
        answered = request.get("in_reply_to")
        if not answered:
            continue
        live = {message.id: message for message in step.after.messages.messages}
        message, reply = live.get(answered), live.get(request["id"])
        if message is not None and message.auto:
            return fail("automatic-replies-are-bounded", step, f"{request['id']} answers {answered}")
        thread = (reply.thread if reply else None) or answered
        if step.history.automatic.get(thread, step.position) != step.position:
            return fail("automatic-replies-are-bounded", step, f"thread {thread} was answered before")
        step.history.automatic[thread] = step.position
    return None


INVARIANTS = (
    messages_are_conserved,
    marks_never_go_back,
    automatic_replies_are_bounded,
)

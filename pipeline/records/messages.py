"""Messages between builders: text, which nothing executes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.records.base import Record, Timestamp
from pipeline.records.names import BuilderName

MessageType = Literal["info", "warning", "error", "request"]
MAXIMUM_SUBJECT = 100
MAXIMUM_BODY = 10_000


class Message(Record):
    """One message. `to` is a builder or "all". `read` is true once every recipient has read it.

    `recipients` are the builders it was addressed to when it was sent. `auto` marks a message that no
    person or agent wrote: nothing automatic ever answers one.
    """

    id: str
    sender: BuilderName = Field(alias="from")
    to: str
    type: MessageType = "info"
    subject: str = Field(max_length=MAXIMUM_SUBJECT)
    body: str = Field(max_length=MAXIMUM_BODY)
    timestamp: Timestamp
    read: bool = False

    recipients: list[BuilderName] = Field(default_factory=list)
    thread: str | None = None
    in_reply_to: str | None = None
    auto: bool = False
    read_by: dict[str, Timestamp] = Field(default_factory=dict)
    acknowledged_by: dict[str, Timestamp] = Field(default_factory=dict)


class Messages(Record):
    """`coordination/messages.json`: a recent tail, in commit order."""

    messages: list[Message] = Field(default_factory=list)


class Receipt(Record):
    """That a recipient read or acknowledged a message which is sealed already."""

    id: str
    recipient: BuilderName
    read_at: Timestamp
    acknowledged_at: Timestamp | None = None


class MessageArchive(Record):
    """A sealed file of messages, and of receipts for messages sealed before. Never written again."""

    ordinal: int
    messages: list[Message]
    receipts: list[Receipt] = Field(default_factory=list)


class Mailbox(Record):
    """`coordination/mailbox.json`: what the sealed archives alone cannot say.

    `sealed` counts messages in archives, so that live + sealed = ever sent can be checked by arithmetic.
    `unread` maps a recipient to the sealed messages that it has not acknowledged: id -> archive path.
    `read` lists, per recipient, those of them that it has read. `receipts` go into the next archive.
    Both indices are bounded: `unindexed` counts, per recipient, what fell out of `unread` (it is still in
    its archive). `auto_threads` are the threads whose automatic reply is sealed, the latest last.
    """

    sealed: int = 0
    unread: dict[str, dict[str, str]] = Field(default_factory=dict)
    read: dict[str, list[str]] = Field(default_factory=dict)
    receipts: list[Receipt] = Field(default_factory=list)
    unindexed: dict[str, int] = Field(default_factory=dict)
    auto_threads: list[str] = Field(default_factory=list)

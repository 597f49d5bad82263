"""Files that builders share beside the queue: reply rules, exchanged files, branches with their settings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, RootModel

from pipeline.records.base import Record, Timestamp
from pipeline.records.messages import MessageType


class AutoReply(Record):
    """What an automatic reply says. It is always marked `auto`, and nothing automatic answers it."""

    subject: str
    body: str
    type: MessageType = "info"


class AutoReplyRule(Record):
    """Applies to a message whose subject or body contains a text, and of this type if one is named."""

    contains: str
    type: MessageType | None = None
    action: Literal["reply", "mark"]
    reply: AutoReply | None = None


class AutoReplyRules(RootModel[list[AutoReplyRule]]):
    """`shared/auto_reply_rules.json`: a list; the first rule that applies counts."""

    model_config = ConfigDict(frozen=True)


class FileDownload(Record):
    """That a builder fetched an exchanged file."""

    server: str
    timestamp: Timestamp


class SharedFile(Record):
    """One file that builders exchange. `sender` is `from` on the wire."""

    id: str
    sender: str = Field(alias="from")
    to: str
    category: Literal["config", "code", "log", "build", "artifact", "doc", "other"]
    filename: str
    path: str
    size_bytes: int
    description: str = ""
    timestamp: Timestamp
    downloaded_by: list[FileDownload] = Field(default_factory=list)


class FileRegistry(Record):
    """`shared/file_registry.json`."""

    files: list[SharedFile] = Field(default_factory=list)


class BranchSettings(Record):
    """One branch that builders watch."""

    enabled: bool = True
    priority: int = 5
    auto_build: bool = False
    build_triggers: list[str] = Field(default_factory=list)
    schedule: str | None = None
    repo_path: str | None = None
    artifact_types: list[str] = Field(default_factory=list)


class BranchesConfig(Record):
    """`shared/branches_config.json`. `defaults` lie under every branch's own settings."""

    branches: dict[str, BranchSettings] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)

"""What the mailbox can leave out."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from pipeline.coordination import mailbox
from pipeline.coordination.draft import Draft, replaced
from pipeline.records import paths
from tests.simulation.mutants.registry import instead, mutant


def _for_all(real: Any) -> Any:
    def mark(draft: Any, message: Any, by: str, acknowledge: bool) -> bool:
        for name in mailbox.recipients_of(draft, message):
            live = next(each for each in draft.messages.messages if each.id == message.id)
            real(draft, live, name, acknowledge)
        return True

    return mark


def _forgetting(real: Any) -> Any:
    def mark(draft: Any, message: Any, by: str, acknowledge: bool) -> bool:
        return _only(draft, message, by)

    return mark


def _only(draft: Any, message: Any, by: str) -> bool:
    after = replaced(message, read_by={by: draft.now}, acknowledged_by={}, read=message.recipients == [by])
    messages = [after if each is message else each for each in draft.messages.messages]
    draft.messages = replaced(draft.messages, messages=messages)
    return True


def _hasty(real: Any) -> Any:
    def seal(draft: Any) -> None:
        if len(draft.messages.messages) > 10:
            draft.messages = replaced(draft.messages, messages=draft.messages.messages[1:])

    return seal


def _overwritten(real: Any) -> Any:
    def seal(draft: Any) -> None:
        with (
            patch.multiple(mailbox, TAIL=3),
            patch.object(Draft, "exists", lambda self, path: False),
            patch.object(
                paths,
                "message_archive",
                lambda ordinal: "coordination/archive/messages/000000/000000000.json",
            ),
        ):
            real(draft)

    return seal


mutant(
    "read-for-all",
    "mailbox",
    "mail",
    "what one has read is marked for all",
    (mailbox, "_mark_live", _for_all),
)
mutant(
    "marks-forgotten",
    "mailbox",
    "mail",
    "a mark replaces those of the others",
    (mailbox, "_mark_live", _forgetting),
)
mutant(
    "automatic-loop",
    "mailbox",
    "mail",
    "an automatic reply is answered automatically",
    (mailbox, "_loop_refused", instead(lambda *words: None)),
)
mutant(
    "message-dropped",
    "mailbox",
    "mail",
    "the oldest message leaves the file, and is sealed by another commit",
    (mailbox, "_seal", _hasty),
    (Draft, "_check_conserved", instead(lambda *words: None)),
)
mutant(
    "archive-overwritten",
    "mailbox",
    "mail",
    "sealed messages go to a path that was sealed before",
    (mailbox, "_seal", _overwritten),
    (Draft, "_check_conserved", instead(lambda *words: None)),
)

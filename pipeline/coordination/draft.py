"""A draft of the ledger's next tree: records to read and replace, tokens to give, files to write.

What lives here: loading, replacing and writing records. What must not: a rule about what they mean.

List files are read and printed by element (`records.lists`): what a decision leaves alone costs nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from pipeline.errors import RecordInvalid
from pipeline.records import lists, paths
from pipeline.records.base import Record
from pipeline.records.builders import Registry, Status
from pipeline.records.decisions import Context, Refusal, View
from pipeline.records.jobs import Jobs
from pipeline.records.ledger import Evidence, LedgerState
from pipeline.records.locks import Locks, Token
from pipeline.records.messages import Mailbox, Messages

R = TypeVar("R", bound=Record)

#: What a decision answers: the outcome for the asker, or why not.
Answer = dict[str, Any] | Refusal


class _Slot(Generic[R]):
    """A file of the draft as an attribute: read when it is first looked at, replaced by assignment."""

    def __init__(self, model: type[R], path: str) -> None:
        self._model, self._path = model, path

    def __get__(self, draft: Draft, owner: type) -> R:
        return draft.get(self._model, self._path) or self._model()

    def __set__(self, draft: Draft, record: R) -> None:
        draft.put(self._path, record)


class Draft:
    """One decision's view of the ledger, and its changes to it. A draft that is dropped changes nothing.

    Records are shared between decisions: never change one, replace it. A file that is absent reads as
    empty; a file that cannot be read raises RecordInvalid, which names it, when it is first looked at.
    """

    jobs = _Slot(Jobs, paths.JOBS)
    locks = _Slot(Locks, paths.LOCKS)
    messages = _Slot(Messages, paths.MESSAGES)
    mailbox = _Slot(Mailbox, paths.MAILBOX)
    ledger = _Slot(LedgerState, paths.LEDGER)
    registry = _Slot(Registry, paths.REGISTRY)

    def __init__(self, view: View, evidence: Evidence, context: Context) -> None:
        self.evidence = evidence
        self.context = context
        self._view = view
        self._before: dict[str, Record | None] = {}
        self._after: dict[str, Record] = {}
        self._kept: dict[str, bytes] = {}
        self._known: dict[int, bytes] = {}

    @property
    def now(self) -> datetime:
        """The asker's wall clock: for people to read, never to decide by."""
        return self.evidence.now

    def get(self, model: type[R], path: str) -> R | None:
        """Returns a file's record as drafted so far, or None where there is no such file."""
        if path in self._after:
            return cast(R, self._after[path])
        if path not in self._before:
            data = self._view.read(path)
            self._before[path] = None if data is None else self._parse(model, data, path)
        return cast("R | None", self._before[path])

    def put(self, path: str, record: Record) -> None:
        """Replaces a file's record."""
        self.get(type(record), path)
        self._after[path] = record

    def keep(self, path: str, data: bytes, model: type[Record] | None = None) -> None:
        """Writes bytes as they are. Raises RecordInvalid if they are not what `model` says."""
        if model is not None:
            lists.whole(model, data, path)
        self._kept[path] = data

    def read(self, path: str) -> bytes | None:
        """Returns a file's bytes as they were before this decision."""
        return self._view.read(path)

    def names(self, folder: str) -> list[str]:
        """Returns the sorted names in a folder as they were before this decision."""
        return self._view.names(folder)

    def exists(self, path: str) -> bool:
        """Says whether a file is there, or will be."""
        return path in self._after or path in self._kept or self._view.read(path) is not None

    def status(self, builder: str) -> Status:
        """Returns a builder's status; an idle one where none was written yet."""
        path = paths.status(builder)
        return self.get(Status, path) or Status(server=builder, timestamp=self.now)

    def new_token(self, op: str) -> str:
        """Returns a fencing token above every one before it, granted to an operation."""
        state = self.ledger
        self.ledger = replaced(state, next_token=state.next_token + 1)
        return str(Token(state.epoch, state.next_token, op))

    def writes(self) -> dict[str, bytes | None]:
        """Returns the files that really change.

        Raises RecordInvalid for a record that does not validate, and for a list that would lose or double
        a job or a message that is not sealed in the same change.
        """
        for path, record in self._after.items():
            if isinstance(record, Jobs | Messages):
                self._check_conserved(path, lists.LISTS[type(record)][0])
        printed = {path: lists.print_parts(each, path, self._known) for path, each in self._after.items()}
        files = printed | self._kept
        return {path: data for path, data in sorted(files.items()) if data != self._view.read(path)}

    def _check_conserved(self, path: str, name: str) -> None:
        before = [each.id for each in getattr(self._before[path], name, ())]
        after = [each.id for record in self._after.values() for each in getattr(record, name, ())]
        if lost := set(before) - set(after):
            raise RecordInvalid(path, name, f"this change would lose {min(lost)}")
        if len(after) - len(set(after)) > len(before) - len(set(before)):
            raise RecordInvalid(path, name, "this change would write an id twice")

    def _parse(self, model: type[R], data: bytes, path: str) -> R:
        if model not in lists.LISTS:
            return lists.read(model, data, path)
        record, fragments = lists.read_parts(model, data, path)
        self._known.update(fragments)
        return cast(R, record)


def replaced(record: R, **changes: Any) -> R:
    """Returns a copy of a record with fields replaced; it is validated when it is written."""
    return record.model_copy(update=changes)

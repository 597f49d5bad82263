"""The chain and its receipts: what every commit of a ledger keeps."""

from __future__ import annotations

from functools import lru_cache

from pipeline.coordination import mailbox, queue
from pipeline.records.base import Record, dump, load
from pipeline.records.jobs import Job, Jobs
from pipeline.records.messages import Message, Messages
from tests.coordination.world import model_of
from tests.simulation.invariants.base import Step, fail


def ordinal_follows(step: Step) -> None:
    if not step.after.ledger.ordinal == step.record.ordinal == step.before.ledger.ordinal + 1:
        fail("ordinal-follows", step, f"{step.record.ordinal} follows {step.before.ledger.ordinal}")


def receipts_are_kept(step: Step) -> None:
    """A receipt stays until its writer's `settled` has passed it, and every entry leaves one."""
    for name, before in step.before.ledger.writers.items():
        after = step.after.ledger.writers.get(name)
        if after is before:
            continue
        if after is None:
            return fail("receipts-are-kept", step, f"writer {name} is forgotten")
        if after.settled < before.settled or (before.closed and not after.closed):
            return fail("receipts-are-kept", step, f"writer {name} goes back")
        if not after.closed:
            for number, done in before.completed.items():
                if int(number) > after.settled and after.completed.get(number) != done:
                    return fail("receipts-are-kept", step, f"{name}/{number} lost its receipt")
    mine = step.after.ledger.writers.get(step.record.writer)
    for entry in step.record.entries:
        receipt = mine.completed.get(str(entry.sequence)) if mine else None
        if receipt is None or (receipt.op, receipt.outcome) != (entry.op, entry.outcome):
            return fail("receipts-are-kept", step, f"{entry.op} left no receipt")
    return None


_LISTS: dict[type[Record], tuple[str, type[Record]]] = {Jobs: ("jobs", Job), Messages: ("messages", Message)}


@lru_cache(maxsize=4000)
def _is_canonical(model: type[Record], data: bytes, path: str, indented: bool) -> bool:
    """Says whether bytes are a record in its one form; an element of a list stands further in."""
    printed = dump(load(model, data, path))
    return (printed[:-1].replace(b"\n", b"\n    ") if indented else printed) == data


def _is_valid(model: type[Record], data: bytes, path: str, whole: bool) -> bool:
    """Checks a file; of one that is a long list as a rule only what is new in it."""
    if whole or model not in _LISTS:
        return _is_canonical(model, data, path, False)
    name, element = _LISTS[model]
    head = f'  "{name}": [\n    {{'.encode()
    start, end = data.find(head), data.find(b"\n    }\n  ]")
    if start < 0 or end < 0:
        return _is_canonical(model, data, path, False)
    first, *rest = data[start + len(head) : end + 6].split(b",\n    {")
    shell = data[: start + len(head) - 6] + data[end + 9 :]
    return _is_canonical(model, shell, path, False) and all(
        _is_canonical(element, b"{" + each, path, True) for each in (first, *rest)
    )


def records_validate(step: Step) -> None:
    for path, data in step.changed.items():
        model = model_of(path) if path.startswith(("coordination/", "build", "shared/")) else None
        if data is None or model is None or path.startswith("coordination/quarantine/"):
            continue
        try:
            ok = _is_valid(model, data, path, step.position % 50 == 0)
        except ValueError as exc:
            return fail("records-validate", step, f"{path}: {exc}")
        except Exception as exc:
            return fail("records-validate", step, f"{path}: {exc}")
        if not ok:
            return fail("records-validate", step, f"{path} is not in its one form")
    return None


def archives_are_sealed(step: Step) -> None:
    for path in step.changed:
        if path.startswith((queue.ARCHIVES, mailbox.ARCHIVES)) and path in step.existed:
            fail("archives-are-sealed", step, f"{path} was written again")


INVARIANTS = (
    ordinal_follows,
    receipts_are_kept,
    records_validate,
    archives_are_sealed,
)

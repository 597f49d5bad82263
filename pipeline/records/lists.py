"""State files that are one long list, read and printed by element.

Reading and printing are most of what a decision costs, and most of a list stays as it was. So a canonical
file is cut into the bytes of its elements, each parsed once (memos of pure functions of bytes), and an
element that was left alone is printed from the bytes that it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from pipeline.errors import RecordInvalid
from pipeline.records.base import R, Record, dump, load
from pipeline.records.jobs import Job, JobArchive, Jobs
from pipeline.records.messages import Message, MessageArchive, Messages

#: The list's name, and what it is made of.
LISTS: dict[type[Record], tuple[str, type[Record]]] = {
    Jobs: ("jobs", Job),
    JobArchive: ("jobs", Job),
    Messages: ("messages", Message),
    MessageArchive: ("messages", Message),
}

# Memos of their own, so that a flood of elements does not push out the few files that everybody reads.
element_of = lru_cache(maxsize=1024)(load)
whole = lru_cache(maxsize=64)(load)


def read(model: type[R], data: bytes, path: str) -> R:
    """Reads a record, of a list by element. Raises RecordInvalid as `base.load` does."""
    if issubclass(model, Record) and model in LISTS:
        return cast(R, read_parts(model, data, path)[0])
    return cast(R, whole(model, data, path))


@lru_cache(maxsize=4)
def read_parts(model: type[Record], data: bytes, path: str) -> tuple[Record, dict[int, bytes]]:
    """Reads a list file: its record, and the bytes of its elements by the identity of each."""
    name, element = LISTS[model]
    shell, fragments = _cut(data, name)
    try:
        around = whole(model, shell, path)
        elements = [element_of(element, fragment, path) for fragment in fragments]
    except RecordInvalid:
        return load(model, data, path), {}
    if getattr(around, name):
        return load(model, data, path), {}
    record = around.model_copy(update={name: elements})
    return record, dict(zip(map(id, elements), fragments, strict=True))


def print_parts(record: Record, path: str, known: Mapping[int, bytes]) -> bytes:
    """Returns the canonical bytes of a record of any kind, validated; `known` elements are not printed again.

    Raises RecordInvalid for one that does not validate, or that is not to be had as JSON.
    """
    name, _ = LISTS.get(type(record), ("", Record))
    elements: list[Record] = getattr(record, name, [])
    shell = _printed(record.model_copy(update={name: []}) if elements else record, path)
    whole(type(record), shell, path)
    if not elements:
        return shell
    return _join(shell, name, [known.get(id(each)) or _fragment(each, path) for each in elements])


def _cut(data: bytes, name: str) -> tuple[bytes, list[bytes]]:
    """Cuts a canonical file into what is around its list, and the bytes of each element.

    Indentation tells where an element ends, because a JSON string holds no newline. A file that is
    written otherwise stays whole.
    """
    opening = f'\n  "{name}": ['.encode()
    start = data.find(opening + b"\n    {")
    end = data.find(b"\n    }\n  ]", start)
    if start < 0 or end < 0:
        return data, []
    first, *rest = data[start + len(opening) + 5 : end + 6].split(b",\n    {")
    shell = data[:start] + opening + data[end + 9 :]
    return shell, [first, *(b"{" + each for each in rest)]


def _join(shell: bytes, name: str, fragments: list[bytes]) -> bytes:
    """Puts elements back into what is around their list."""
    opening = f'\n  "{name}": ['.encode()
    full = opening + b"\n    " + b",\n    ".join(fragments) + b"\n  ]"
    return shell.replace(opening + b"]", full, 1)


def _fragment(record: Record, path: str) -> bytes:
    fragment = _printed(record, path)[:-1].replace(b"\n", b"\n    ")
    element_of(type(record), fragment, path)
    return fragment


def _printed(record: Any, path: str) -> bytes:
    try:
        return dump(record)
    except (ValueError, RecursionError) as exc:
        raise RecordInvalid(path, "", f"cannot be written as JSON: {exc}") from exc

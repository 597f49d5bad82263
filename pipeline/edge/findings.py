"""What was found out about this machine, kept from one command to the next.

Asking a program for its version or dpkg for its list takes longer than all the rest of a preflight. So an
answer is kept with the facts that it depends on, and used again as long as every one of them is the same.

Guarantee: an answer is never used after one of the facts named with it has changed
(`test_an_answer_is_found_again_only_with_the_same_facts`), nor one that a file's damage has changed.
Non-guarantee: a fact that nobody named. Losing the folder costs the time of asking again.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.edge.disk import replace_file
from pipeline.edge.plain_file import open_plain

Facts = Sequence[Any]
_LONGEST_BYTES = 4 << 20


class Findings:
    """Answers by name, each a file. Any number of threads and processes may use one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """Names the folder, made when something is kept; None keeps nothing."""
        self._folder = folder

    def of(self, name: str, facts: Facts | None, find: Callable[[], Any]) -> Any:
        """Returns the kept answer, or finds it and keeps it. Answers and facts are values of JSON.

        None is never kept, and without facts nothing is.
        """
        if self._folder is None or facts is None:
            return find()
        place, wanted = self._folder / f"{name}.json", json.dumps(facts)
        kept = _read(place)
        if kept is not None and kept[0] == wanted:
            return kept[1]
        answer = find()
        if answer is not None:
            told = json.dumps(answer)
            _write(place, json.dumps({"facts": wanted, "answer": told, "sum": zlib.crc32(told.encode())}))
        return answer


def file_facts(path: Path | str) -> list[Any] | None:
    """Returns what changes when a file is replaced or written to; None where there is none."""
    try:
        whole = os.path.realpath(path)
        found = os.stat(whole)  # noqa: PTH116 (three of these stand between a command and its build)
    except OSError:
        return None
    return [whole, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def program_facts(path: Path) -> list[Any] | None:
    """Returns the facts of a compiled program; None for what may decide anew at each start.

    A script may, and so may a version manager's stand-in, which answers to another name than its file has.
    """
    facts = file_facts(path)
    if facts is None or not Path(facts[0]).name.startswith(path.name):
        return None
    try:
        with Path(facts[0]).open("rb", buffering=0) as file:
            return facts if file.read(4) == b"\x7fELF" else None
    except OSError:
        return None


def _read(place: Path) -> tuple[str, Any] | None:
    """Returns facts and answer of a file; None for one that is not whole, or holds another answer by now."""
    try:
        with open_plain(place) as file:
            kept = json.loads(file.read(_LONGEST_BYTES))
        facts, told = kept["facts"], kept["answer"]
        if not isinstance(told, str) or zlib.crc32(told.encode()) != kept["sum"]:
            return None
        return facts, json.loads(told)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write(place: Path, text: str) -> None:
    # A full disk, or a folder that is none: the next command asks again.
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, text.encode())

"""What a reader takes at most, so that no archive can make it run for ever, fill a disk or eat the memory."""

from __future__ import annotations

from typing import NamedTuple


class Unreadable(Exception):
    """A file or container that cannot be read whole. `reason` is for a person and holds no path.

    Never a reason to believe anything about the content: who asks takes it for INCOMPLETE.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Limits(NamedTuple):
    """Bounds of one reader. Sizes in bytes.

    `entries` of one container; `depth` of containers in containers; `expanded` of all that is unpacked for
    one comparison; `decoder` is the memory of one xz decoder; `name` of one entry's name; `field` of what
    one header may add (PAX records, extra fields, comments) before it is refused; `told` of an answer that
    lists files.
    """

    entries: int = 2_000_000
    depth: int = 24
    expanded: int = 64 << 30
    decoder: int = 100 << 20
    name: int = 64 << 10
    field: int = 1 << 20
    told: int = 32 << 20


def check_entries(count: int, limits: Limits) -> None:
    """Raises Unreadable where a container has more entries than are read."""
    if count > limits.entries:
        raise Unreadable("has more than %d entries" % limits.entries)


def check_name(name: bytes, limits: Limits) -> None:
    """Raises Unreadable where an entry's name is longer than any that is meant."""
    if len(name) > limits.name:
        raise Unreadable("has an entry whose name is %d bytes long" % len(name))

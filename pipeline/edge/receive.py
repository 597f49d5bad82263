"""One push in git's own protocol, as bytes to and from `git receive-pack`. Pure.

For a remote on this machine the push needs one git process instead of three: what is pushed is known here,
object by object, so nobody has to look for it. The server does what it always does: it compares the old id
under the ref's lock, checks that the new commit is complete, runs its hooks.
Formats: `gitprotocol-pack(5)` ("Pushing Data To a Server") and `gitformat-pack(5)`.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline.edge.git_objects import Object

_ZERO = "0" * 40
_TYPES = {"commit": 1, "tree": 2, "blob": 3}


class Report(NamedTuple):
    """What the server said: where the ref was when it began, and its verdict ("" where there is none)."""

    before: str | None
    verdict: str


def push_request(ref: str, old: str | None, new: str, objects: Sequence[Object]) -> bytes:
    """Returns what a client says that moves `ref` from `old` (None: it must not exist) to `new`."""
    command = f"{old or _ZERO} {new} {ref}\0report-status".encode()
    packed = b"PACK" + struct.pack(">II", 2, len(objects)) + b"".join(map(_packed, objects))
    return b"%04x%s0000" % (len(command) + 4, command) + packed + hashlib.sha1(packed).digest()


def read_report(said: bytes, ref: str) -> Report:
    """Reads a server's answer to `push_request`. The verdict is `ok`, `ng` with a reason, or missing."""
    before, verdict = None, ""
    for line in _lines(said):
        words = line.partition(b"\0")[0].decode(errors="replace").strip().split(" ", 2)
        if words[0] in ("ok", "ng") and words[1:2] == [ref]:
            verdict = " ".join([words[0], *words[2:]])
        elif words[1:2] == [ref]:
            before = words[0]
        elif words[0] == "unpack" and words[1:] != ["ok"]:
            verdict = f"ng unpacker error: {' '.join(words[1:])}"
            break
    return Report(before, verdict)


def _packed(item: Object) -> bytes:
    size = len(item.data)
    byte, size = _TYPES[item.kind] << 4 | size & 15, size >> 4
    head = bytearray()
    while size:
        head.append(byte | 128)
        byte, size = size & 127, size >> 7
    return bytes([*head, byte]) + zlib.compress(item.data, 1)


def _lines(said: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(said):
        try:
            length = int(said[at : at + 4], 16)
        except ValueError:
            return
        if at + length > len(said):
            return
        if length > 4:
            yield said[at + 4 : at + length]
        at += max(length, 4)

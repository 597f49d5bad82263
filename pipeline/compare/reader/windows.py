"""Shows where two leaves part: digests of pieces to find the place, then a window of bytes around it.

Of a leaf that is to be shown whole, or a longer part of it, the bytes themselves are told, packed.

Nothing that is shown here decides anything.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import Any, Callable, Dict, Iterable, List

from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.regions import Region

#: So many pieces are told of one leaf in one answer, and so much of it is shown, in bytes.
PIECES = 32
WHOLE = 4096
_BEFORE, _WINDOW = 256, 1024
#: So many bytes are told at once at the most, whatever is asked.
_MOST = 16 << 20
_TEXT = 4 << 20
#: Words, and each byte that belongs to none.
_WORDS = re.compile(rb"[\w.$/-]+|[^\w.$/-]")

Answer = Dict[str, Any]


def pieces(question: Answer, at: Callable[[List[Any]], Any]) -> Answer:
    """Returns short digests of the pieces of leaves: of `step` bytes each, from the byte `begin` on."""
    told: List[Any] = []
    for path, begin, step in question["spots"]:
        try:
            region = at(path).region
            ends = range(begin, min(region.length, begin + step * PIECES), step)
            told.append([_digest(region, start, min(step, region.length - start)) for start in ends])
            region.release()
        except Unreadable:
            told.append(None)
    return {"pieces": told}


def windows(question: Answer, at: Callable[[List[Any]], Any]) -> Answer:
    """Returns what stands around one byte of each leaf, or all of a small one."""
    told: List[Any] = []
    for path, spot in question["spots"]:
        try:
            told.append(_window(at(path).region, spot))
        except Unreadable:
            told.append(None)
    return {"windows": told}


def part(question: Answer, at: Callable[[List[Any]], Any]) -> Answer:
    """Returns some bytes of a leaf, packed: from `begin` on, `most` at the most; and its whole size."""
    region: Region = at(question["path"]).region
    begin = min(question["begin"], region.length)
    shown = region.read(begin, min(question["most"], _MOST, region.length - begin))
    region.release()
    return {"size": region.length, "data": base64.b64encode(zlib.compress(shown, 6)).decode("ascii")}


def _digest(region: Region, start: int, length: int) -> str:
    digest = hashlib.sha256()
    while length:
        block = region.read(start, min(length, 1 << 17))
        digest.update(block)
        start, length = start + len(block), length - len(block)
    return digest.hexdigest()[:16]


def _window(region: Region, spot: int) -> Answer:
    whole = region.length <= WHOLE
    begin = 0 if whole else max(0, min(spot, region.length) - _BEFORE)
    stop = region.length if whole else min(region.length, begin + _WINDOW)
    shown = region.read(begin, stop - begin)
    window: Answer = {"begin": begin, "whole": whole, "text": shown.decode("utf-8", "surrogateescape")}
    if region.length <= _TEXT:
        data = region.read(0, region.length)
        window["line"] = data.count(b"\n", 0, spot) + 1
        window["alike"] = _alike(data)
    region.release()
    return window


def _alike(data: bytes) -> Answer:
    """Returns digests of a text with one property left out: equal ones show that it alone differs."""
    try:
        decoded = data.decode("utf-8")
    except UnicodeDecodeError:
        decoded = data.decode("latin-1")
    return {
        "line endings": _short(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")),
        "encoding": _short(decoded.encode("utf-8")),
        "order of lines": _sum(data.splitlines()),
        "order of words": _sum(_WORDS.findall(data)),
    }


def _sum(parts: Iterable[bytes]) -> str:
    total = 0
    for part in parts:
        total += int.from_bytes(hashlib.sha256(part).digest()[:16], "big")
    return "%x" % (total % (1 << 128))


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]

"""One header of a tar: its fields, how they are spelled, and the records that may stand in front of it.

A field is told as its value. How the value is spelled (leading zeros, what ends it, base 256) and every byte
that is no field's stay in the header's `shape`; value and shape together give the header's bytes back.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Collection, Dict, List, Mapping, NamedTuple, Tuple

from pipeline.compare.reader.limits import Unreadable

BLOCK = 512

_NUMBERS = {
    "mode": slice(100, 108),
    "uid": slice(108, 116),
    "gid": slice(116, 124),
    "size": slice(124, 136),
    "mtime": slice(136, 148),
    "checksum": slice(148, 156),
    "major": slice(329, 337),
    "minor": slice(337, 345),
}
_STRINGS = {
    "name": slice(0, 100),
    "link": slice(157, 257),
    "uname": slice(265, 297),
    "gname": slice(297, 329),
    "prefix": slice(345, 500),
}
_SPELLED = re.compile(rb" *([0-7]*)[ \0]*")
_TO_ZERO = bytes.maketrans(b"1234567", b"0000000")
_RECORD = re.compile(rb"([1-9][0-9]*) ([^=\0]+)=")

USTAR, GNU = b"ustar\x0000", b"ustar  \0"
_DIALECTS = {USTAR: b"ustar", GNU: b"gnu"}


class Head(NamedTuple):
    """A header: the block itself, its type, its dialect ("v7" has no magic), and the values of its fields."""

    raw: bytes
    type: bytes
    dialect: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    major: int
    minor: int
    name: bytes
    link: bytes
    uname: bytes
    gname: bytes
    prefix: bytes

    def shape(self, told: Tuple[str, ...]) -> bytes:
        """Returns dialect and digest of the header without the values of the fields that are `told`."""
        raw, at = self.raw, 0
        parts: List[bytes] = []
        for where, is_number in _places(told):
            value = raw[where]
            if is_number:
                # Of a number in base 256 the first byte is kept, of one in octal a zero for each digit.
                based = value[0] >= 0x80
                value = value[:1] + bytes(len(value) - 1) if based else value.translate(_TO_ZERO)
            elif not value.partition(b"\0")[2].strip(b"\0"):
                value = bytes(len(value))
            parts += (raw[at : where.start], value)
            at = where.stop
        parts.append(raw[at:])
        return self.dialect + b" " + _digest(b"".join(parts))


@lru_cache(64)
def _places(told: Tuple[str, ...]) -> List[Tuple[slice, bool]]:
    """Returns where fields lie, in the order of the header, and which of them are numbers."""
    found = [(_NUMBERS[one], True) if one in _NUMBERS else (_STRINGS[one], False) for one in told]
    return sorted(found, key=lambda one: int(one[0].start))


@lru_cache(64)
def _digest(parts: bytes) -> bytes:
    """Most headers of a tar have one shape."""
    return hashlib.sha256(parts).hexdigest().encode()


def parse(raw: bytes) -> Head:
    """Returns what a header says. Raises Unreadable where its checksum or a number is wrong."""
    if not right(raw):
        raise Unreadable("has a header whose checksum is wrong")
    dialect = _DIALECTS.get(raw[257:265], b"v7")
    modern = dialect != b"v7"
    return Head(
        raw,
        raw[156:157],
        dialect,
        number(raw[100:108]),
        number(raw[108:116]),
        number(raw[116:124]),
        number(raw[124:136]),
        number(raw[136:148]),
        number(raw[329:337]) if modern else 0,
        number(raw[337:345]) if modern else 0,
        _string(raw[0:100]),
        _string(raw[157:257]),
        _string(raw[265:297]) if modern else b"",
        _string(raw[297:329]) if modern else b"",
        _string(raw[345:500]) if dialect == b"ustar" else b"",
    )


def right(raw: bytes) -> bool:
    """Says whether a block's checksum is that of its bytes."""
    spelled = _SPELLED.fullmatch(raw[148:156])
    return bool(spelled and spelled.group(1)) and int(raw[148:156].strip(b" \0"), 8) == _sum(raw)


@lru_cache(8)
def fields(dialect: bytes) -> Tuple[str, ...]:
    """Returns the names of the fields that a header of this dialect has, beside its type."""
    old = ("mode", "uid", "gid", "size", "mtime", "checksum", "name", "link")
    if dialect == b"v7":
        return old
    return (*old, "major", "minor", "uname", "gname", *(("prefix",) if dialect == b"ustar" else ()))


@lru_cache(1024)
def number(raw: bytes) -> int:
    """Returns a number in octal or base 256. Raises Unreadable where it is neither."""
    match = _SPELLED.fullmatch(raw)
    if match:
        return int(match.group(1) or b"0", 8)
    if raw[0] == 0x80:
        return int.from_bytes(raw[1:], "big")
    if raw[0] == 0xFF:
        return int.from_bytes(raw, "big", signed=True)
    raise Unreadable("has a number that is none: %r" % raw)


def resized(raw: bytes, size: int) -> bytes:
    """Returns a header with another size, spelled as it was, and its checksum right.

    Raises Unreadable where the size has no room in that spelling.
    """
    where = _NUMBERS["size"]
    return _summed(raw[: where.start] + _respelled(raw[where], size) + raw[where.stop :])


def fixed(raw: bytes, zero: Collection[str], strings: Mapping[str, bytes]) -> bytes:
    """Returns a header with these numbers 0, spelled the one usual way, and these strings in it."""
    parts = bytearray(raw)
    for field in zero:
        where = _NUMBERS[field]
        parts[where] = b"0" * (where.stop - where.start - 1) + b"\0"
    for field, text in strings.items():
        where = _STRINGS[field]
        parts[where] = text.ljust(where.stop - where.start, b"\0")
    return _summed(bytes(parts))


class Record(NamedTuple):
    """One PAX record, and its bytes as they stand."""

    key: bytes
    value: bytes
    raw: bytes


def records(data: bytes) -> List[Record]:
    """Returns a PAX header's records in their order. Raises Unreadable where they are not well formed."""
    found, at = [], 0
    while at < len(data):
        match = _RECORD.match(data, at)
        length = int(match.group(1)) if match and len(match.group(1)) < 10 else 0
        end = at + length
        if match is None or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            raise Unreadable("has a PAX record that is none at byte %d of its header" % at)
        found.append(Record(match.group(2), data[match.end() : end - 1], data[at:end]))
        at = end
    return found


def recorded(found: List[Record], values: Mapping[bytes, bytes]) -> bytes:
    """Returns the bytes of records with other values for some keys, where they are there."""
    return b"".join(_record(one.key, values[one.key]) if one.key in values else one.raw for one in found)


def latest(found: List[Record]) -> Dict[bytes, bytes]:
    """Returns the value that counts for each key: the last."""
    return {one.key: one.value for one in found}


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _string(raw: bytes) -> bytes:
    return raw.split(b"\0", 1)[0]


def _sum(raw: bytes) -> int:
    return sum(raw) - sum(raw[148:156]) + 8 * 32


def _summed(raw: bytes) -> bytes:
    return raw[:148] + _respelled(raw[148:156], _sum(raw)) + raw[156:]


def _respelled(raw: bytes, value: int) -> bytes:
    match = _SPELLED.fullmatch(raw)
    if match is None:
        return raw[:1] + value.to_bytes(len(raw) - 1, "big")
    begin, end = match.span(1)
    digits = b"%0*o" % (end - begin, value)
    if len(digits) > end or value < 0:
        raise Unreadable("has no room for the number %d in a header" % value)
    return b" " * (end - len(digits)) + digits + raw[end:]

"""Java class files, opened as a table so that a difference has a name: a text, a field, a method.

The format is chapter 4 of the Java Virtual Machine Specification. Constants are told by what they say and not
by their number, and so is the code that uses them: one more constant shifts all numbers behind it, and then
only `coding` differs, not every method's `content`.

A class file that this cannot read to its last byte is no class file here: it stays one leaf.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Collection, Dict, Iterator, List, NamedTuple, Tuple

from pipeline.compare.reader.limits import Unreadable
from pipeline.compare.reader.listings import STORED, UNKNOWN, Inside, Known, Listing, Place
from pipeline.compare.reader.regions import Region, Spool

KIND = "class"

#: None: nothing in a class file is without meaning for somebody.
NORMALISERS: Dict[str, str] = {}

COLUMNS = ("access", "coding", "content")

#: Larger ones stay one leaf. A class of the largest size that compilers can be brought to make is smaller.
_LARGEST = 16 << 20
_MAGIC = b"\xca\xfe\xba\xbe"
#: Below it the same magic number begins Apple's fat binaries: their count of architectures stands there.
_FIRST_MAJOR = 45
_SHOWN = 200

_UTF8, _CLASS, _STRING, _NAME_AND_TYPE = 1, 7, 8, 12
#: Of each kind of constant: its name, and what follows its tag. `u` text, `c` a number, the others refer.
_CONSTANTS: Dict[int, Tuple[str, str]] = {
    3: ("int", "4"),
    4: ("float", "4"),
    5: ("long", "8"),
    6: ("double", "8"),
    _CLASS: ("class", "t"),
    _STRING: ("string", "t"),
    9: ("field", "kn"),
    10: ("method", "kn"),
    11: ("interface method", "kn"),
    _NAME_AND_TYPE: ("name and type", "tt"),
    15: ("method handle", "1m"),
    16: ("method type", "t"),
    17: ("dynamic", "2n"),
    18: ("invoke dynamic", "2n"),
    19: ("module", "t"),
    20: ("package", "t"),
}
_NUMBERS = {"int": ">i", "float": ">f", "long": ">q", "double": ">d"}
#: What a letter above refers to.
_REFERRED = {"t": (_UTF8,), "k": (_CLASS,), "n": (_NAME_AND_TYPE,), "m": (9, 10, 11)}

#: Attributes that are a count and rows, or one row (section 4.7).
_ROWS = {"InnerClasses": "ccc2", "Exceptions": "c", "NestMembers": "c", "PermittedSubclasses": "c"}
_ONE = {"SourceFile": "c", "Signature": "c", "ConstantValue": "c", "NestHost": "c", "EnclosingMethod": "cc"}
#: Those that hold constants' numbers, and say nothing that the code does not: they count as `coding` alone.
_NUMBERED = frozenset(["StackMapTable", "LocalVariableTable", "LocalVariableTypeTable"])

#: The lengths of all instructions by their number (section 6.5); 0: another rule, or there is none.
_LENGTHS = bytes(
    [1] * 16 + [2, 3, 2, 3, 3] + [2] * 5 + [1] * 28 + [2] * 5 + [1] * 73 + [3] + [1] * 20 + [3] * 16
    + [2, 0, 0] + [1] * 6 + [3] * 7 + [5, 5, 3, 2, 3, 1, 1, 3, 3, 1, 1, 0, 4, 3, 3, 5, 5] + [0] * 54
)  # fmt: skip
_LDC, _TABLESWITCH, _LOOKUPSWITCH, _WIDE, _IINC = 0x12, 0xAA, 0xAB, 0xC4, 0x84
#: Those in which the number of a constant follows, in two bytes.
_WITH_CONSTANT = frozenset([0x13, 0x14, *range(0xB2, 0xBC), 0xBD, 0xC0, 0xC1, 0xC5])


class _Member(NamedTuple):
    """A field, a method or an attribute: what it is called, its flags, where it lies, what it says."""

    name: str
    access: int
    offset: int
    length: int
    content: bytes


class _Bad(Exception):
    """These bytes are no class file."""


def matches(region: Region, name: bytes) -> bool:
    """Says whether these bytes are a class file that can be read to its last byte."""
    if not 24 <= region.length <= _LARGEST or region.read(0, 4) != _MAGIC:
        return False
    if int.from_bytes(region.read(6, 2), "big") < _FIRST_MAJOR:
        return False
    try:
        _Class(region.read(0, region.length))
    except (_Bad, struct.error, IndexError):
        return False
    return True


def read(region: Region, spool: Spool) -> Listing:
    """Returns texts and numbers, fields, methods and attributes, in the file's order. Raises Unreadable."""
    try:
        found = _Class(region.read(0, region.length))
    except (_Bad, struct.error, IndexError) as exc:
        raise Unreadable("is no class file") from exc
    listing = Listing(KIND, COLUMNS, spool)
    for what, value in found.facts:
        listing.field(what, value)
    for told in found.texts:
        listing.add(os.fsencode(told), (b"", b"", b""), None)
    for member in found.members:
        raw = region.part(member.offset, member.length)
        digests = (raw.sha256().hex().encode(), hashlib.sha256(member.content).hexdigest().encode())
        place = Place(member.offset, member.length, STORED, member.length)
        listing.add(os.fsencode(member.name), (b"%04x" % member.access, *digests), place)
    return listing.finish()


def rewrite(
    region: Region, normalisers: Collection[str], inside: Inside, spool: Spool, known: Known = UNKNOWN
) -> Iterator[bytes]:
    """Raises Unreadable: a class file is not written anew."""
    raise Unreadable("is a class file, of which nothing is normalised")


class _Class:
    """A class file, parsed whole. Raises _Bad, struct.error or IndexError where it is none."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 4
        self._digests: Dict[int, bytes] = {}
        self._long: Dict[bytes, str] = {}
        minor, major = self._u2(), self._u2()
        self.texts: List[str] = []
        begin = self._at
        self._constants = self._pool()
        pool = data[begin : self._at]
        access, this, above = self._u2(), self._u2(), self._u2()
        interfaces = [self._text(self._u2()) for _ in range(self._u2())]
        self.facts: List[Tuple[str, str]] = [
            ("version", "%d.%d" % (major, minor)),
            ("constants", "%d, sha256 %s" % (len(self._constants), hashlib.sha256(pool).hexdigest())),
            ("access", "%04x" % access),
            ("class", self._text(this)),
            ("superclass", self._text(above) if above else "none"),
            ("interfaces", ", ".join(interfaces[:20]) + " ..." * (len(interfaces) > 20)),
        ]
        self.members: List[_Member] = []
        for what in ("field", "method"):
            for _ in range(self._u2()):
                self._member(what)
        for _ in range(self._u2()):
            self._attribute_of_class()
        if self._at != len(data):
            raise _Bad

    def _take(self, length: int) -> bytes:
        begin, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise _Bad
        return self._data[begin : self._at]

    def _u2(self) -> int:
        return int.from_bytes(self._take(2), "big")

    def _pool(self) -> Dict[int, Tuple[int, bytes]]:
        """Returns the constants by number: the tag, and what follows it."""
        found: Dict[int, Tuple[int, bytes]] = {}
        count, number = self._u2(), 1
        while number < count:
            tag = self._take(1)[0]
            if tag == _UTF8:
                value = self._take(self._u2())
                self.texts.append("text " + self._short(value))
            elif tag in _CONSTANTS:
                what, shape = _CONSTANTS[tag]
                value = self._take(sum(int(each) if each.isdigit() else 2 for each in shape))
                if shape in ("4", "8"):
                    self.texts.append(_number(what, value))
            else:
                raise _Bad
            found[number] = (tag, value)
            number += 2 if tag in (5, 6) else 1
        return found

    def _said(self, number: int, among: Tuple[int, ...] = ()) -> bytes:
        """Returns a digest of what a constant says, whatever its number. References end: each leads to
        another kind. Each constant is digested once, so that no file makes much work of few bytes.
        """
        tag, value = self._constant(number, among)
        known = self._digests.get(number)
        if known is not None:
            return known
        parts, at = [b"%d" % tag], 0
        for each in _CONSTANTS[tag][1] if tag != _UTF8 else "":
            if each.isdigit():
                parts.append(value[at : at + int(each)])
                at += int(each)
            else:
                parts.append(self._said(int.from_bytes(value[at : at + 2], "big"), _REFERRED[each]))
                at += 2
        self._digests[number] = found = hashlib.sha256(b"\0".join(parts) + value[at:]).digest()
        return found

    def _text(self, number: int) -> str:
        """Returns a text, or the name of a class, shortened."""
        tag, value = self._constant(number, (_UTF8, _CLASS))
        if tag == _CLASS:
            tag, value = self._constant(int.from_bytes(value, "big"), (_UTF8,))
        return self._short(value)

    def _short(self, value: bytes) -> str:
        """Returns a text as it is shown: a long one by its beginning and its digest."""
        told = value[:_SHOWN].decode("utf-8", "surrogateescape")
        if len(value) <= _SHOWN:
            return told
        if value not in self._long:
            self._long[value] = hashlib.sha256(value).hexdigest()
        return "%s... %d bytes, sha256 %s" % (told, len(value), self._long[value])

    def _constant(self, number: int, among: Tuple[int, ...] = ()) -> Tuple[int, bytes]:
        found = self._constants.get(number)
        if found is None or (among and found[0] not in among):
            raise _Bad
        return found

    def _member(self, what: str) -> None:
        begin = self._at
        access = self._u2()
        name, kind = self._text(self._u2()), self._text(self._u2())
        content = b"".join(self._attribute() for _ in range(self._u2()))
        told = "%s %s%s%s" % (what, name, "" if what == "method" else " ", kind)
        self.members.append(_Member(told, access, begin, self._at - begin, content))

    def _attribute_of_class(self) -> None:
        begin = self._at
        content = self._attribute()
        name = content.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
        self.members.append(_Member("attribute " + name, 0, begin, self._at - begin, content))

    def _attribute(self) -> bytes:
        """Returns an attribute as far as it is understood: code by what it says, others as they stand."""
        name = self._text(self._u2())
        length = int.from_bytes(self._take(4), "big")
        end = self._at + length
        told = name.encode("utf-8", "surrogateescape") + b"\0"
        if name == "Code":
            told += self._take(4) + self._code(self._take(int.from_bytes(self._take(4), "big")))
            handlers = self._u2()
            for _ in range(handlers):
                told += self._take(6)
                caught = self._u2()
                told += self._said(caught, (_CLASS,)) if caught else b"any"
            told += b"".join(self._attribute() for _ in range(self._u2()))
        elif name in _ROWS:
            told += self._rows(_ROWS[name], self._u2())
        elif name in _ONE:
            told += self._rows(_ONE[name], 1)
        elif name == "BootstrapMethods":
            for _ in range(self._u2()):
                told += self._said(self._u2()) + self._rows("c", self._u2())
        elif name in _NUMBERED:
            self._take(length)
        else:
            told += self._take(length)
        if self._at != end:
            raise _Bad
        return told

    def _rows(self, shape: str, count: int) -> bytes:
        """Returns rows of numbers: `c` of a constant, or 0 for none; `2` of two bytes."""
        told = []
        for each in shape * count:
            number = self._u2()
            told.append(self._said(number) if each == "c" and number else b"%d" % number)
        return b" ".join(told)

    def _code(self, code: bytes) -> bytes:
        """Returns instructions with each constant by what it says."""
        told, at = [], 0
        while at < len(code):
            number = code[at]
            length = _LENGTHS[number] or _length(code, at)
            instruction = code[at : at + length]
            if not length or len(instruction) != length:
                raise _Bad
            if number == _LDC:
                instruction = self._saying(instruction, instruction[1], 2)
            elif number in _WITH_CONSTANT:
                instruction = self._saying(instruction, int.from_bytes(instruction[1:3], "big"), 3)
            told.append(instruction)
            at += length
        return b"".join(told)

    def _saying(self, instruction: bytes, constant: int, behind: int) -> bytes:
        return instruction[:1] + self._said(constant) + instruction[behind:]


def _number(what: str, value: bytes) -> str:
    """Returns a constant as a number; one that is none, which has many forms, by its bytes."""
    (number,) = struct.unpack(_NUMBERS[what], value)
    return "%s %r" % (what, number) if number == number else "%s %s" % (what, value.hex())


def _length(code: bytes, at: int) -> int:
    """Returns the length of an instruction that depends on its place or its operands; 0 for none."""
    number = code[at]
    if number == _WIDE:
        return 6 if code[at + 1] == _IINC else 4
    operands = at + 4 - at % 4
    if number == _TABLESWITCH:
        low, high = struct.unpack_from(">ii", code, operands + 4)
        return operands + 12 + 4 * (high - low + 1) - at if low <= high else 0
    if number == _LOOKUPSWITCH:
        (pairs,) = struct.unpack_from(">i", code, operands + 4)
        return operands + 8 + 8 * pairs - at if pairs >= 0 else 0
    return 0

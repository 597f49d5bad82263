"""ELF files: one as small as can be, and a program of this machine."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from pipeline.compare.reader import elfs, formats
from tests.compare.containers import Bytes, each_flip_shows, listing, opened, program, rows, said


def elf(*sections: tuple[str, bytes], order: str = "<", bits: int = 64) -> bytes:
    """Returns an ELF file of these sections and one with their names, and no program headers."""
    names, offsets = b"\0", []
    for name, _ in (*sections, (".shstrtab", b"")):
        offsets.append(len(names))
        names += name.encode() + b"\0"
    size = 64 if bits == 64 else 52
    body, headers = b"", [bytes(64 if bits == 64 else 40)]
    form = order + ("IIQQQQIIQQ" if bits == 64 else "IIIIIIIIII")
    for at, data in zip(offsets, [*(data for _, data in sections), names], strict=True):
        headers.append(struct.pack(form, at, 1, 2, 0, size + len(body), len(data), 0, 0, 1, 0))
        body += data
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    head = struct.pack(
        order + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"),
        *(
            3,
            62,
            1,
            0,
            size,
            size + len(body),
            0,
            size,
            56,
            0,
            len(headers[0]),
            len(headers),
            len(headers) - 1,
        ),
    )
    return ident + head + body + b"".join(headers)


SMALL = elf((".text", b"\x90\xc3"), (".comment", b"made on monday\0"))


@pytest.mark.parametrize(("order", "bits"), [("<", 64), (">", 64), ("<", 32), (">", 32)])
def test_sections_are_entries_by_their_names(order: str, bits: int) -> None:
    """Of both classes and both byte orders."""
    made = elf((".text", b"\x90\xc3"), (".comment", b"made on monday\0"), order=order, bits=bits)
    assert [row["name"] for row in rows(elfs, made)] == ["", ".text", ".comment", ".shstrtab"]
    assert opened(elfs, made)[:2] == [(b".text", b"\x90\xc3"), (b".comment", b"made on monday\0")]


def test_one_section_that_differs_is_the_one_that_is_told() -> None:
    other = elf((".text", b"\x90\xc3"), (".comment", b"made on friday\0"))
    pairs = zip(rows(elfs, SMALL), rows(elfs, other), strict=True)
    assert [one["name"] for one, two in pairs if one != two] == [".comment"]
    assert listing(elfs, SMALL).fields == listing(elfs, other).fields


@pytest.mark.parametrize(("order", "bits"), [("<", 64), (">", 32)])
def test_every_byte_has_a_name(order: str, bits: int) -> None:
    """Between two sections as well."""
    made = elf((".text", b"\x90\xc3"), (".data", b"x" * 9), order=order, bits=bits)
    assert each_flip_shows(elfs, made) == len(made)


def test_a_program_of_this_machine_has_the_sections_that_readelf_tells() -> None:
    """Where there is no readelf, its sections are there at least."""
    data = Path("/bin/true").resolve().read_bytes()
    names = [row["name"] for row in rows(elfs, data)]
    assert {".text", ".rodata", ".dynamic"} <= set(names)
    if shutil.which("readelf"):
        told = program("readelf", "-SW", "{}", data=data)
        assert all(name in told for name in names)


@pytest.mark.parametrize(
    "data", [SMALL[:-1], SMALL[:60], b"\x7fELF" + bytes(60), SMALL[:4] + b"\x07" + SMALL[5:], bytes(100)]
)
def test_what_is_damaged_is_one_leaf(data: bytes) -> None:
    assert said(elfs, data) == ("a leaf", data)
    with Bytes() as held:
        assert formats.recognise(held.region(data), b"a.so") is None

"""What is signed, as a shape: a *statement* is canonical JSON whose stored bytes are signed.

Nothing is filled in and nothing ignored: a field that is missing, unknown, of another type or there twice
makes it unreadable, and so does any other way to write the same JSON. `read_statement` is the only way in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from pipeline.errors import RecordInvalid
from pipeline.records.base import Record, dump, load, validate

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]
MachineId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
TokenText = Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+\.[A-Za-z0-9_.-]{1,100}$")]
Words = Annotated[str, StringConstraints(max_length=500)]
Number = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Kind(StrEnum):
    """What a signature is of. Each has one constant namespace, so that it means nothing elsewhere."""

    POLICY = "policy@cloudstack-build-pipeline"
    REVOCATIONS = "revocations@cloudstack-build-pipeline"
    ATTESTATION = "attestation@cloudstack-build-pipeline"
    PROMOTION = "promotion@cloudstack-build-pipeline"
    COMMITMENT = "commitment@cloudstack-build-pipeline"


def _file_name(value: str) -> str:
    parts = value.split("/")
    plain = all(p.isascii() and p[0].isalnum() and not set(p) - _NAME for p in parts if p)
    if not all(parts) or not plain or len(value) > 200 or len(parts) > 4:
        raise ValueError("an artifact is named by a plain path inside its set")
    return value


_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+~%-")
FileName = Annotated[str, AfterValidator(_file_name)]


class Part(Record):
    """A shape inside a statement: nothing in it but what is named."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Statement(Part):
    """Something that is signed, as a whole."""


S = TypeVar("S", bound=Statement)


def read_statement(model: type[S], data: bytes, path: str) -> S:
    """Reads a statement's bytes. Raises RecordInvalid, also where they are not the canonical ones."""
    found = load(model, data, path)
    if dump(found) != data:
        raise RecordInvalid(path, "", "these are not the canonical bytes of what it says")
    return found


def made(model: type[S], value: object) -> S:
    """Returns a statement of its fields as they are on the wire. Raises RecordInvalid."""
    return validate(model, value, model.__name__.lower())


def sha256_of(data: bytes) -> str:
    """Returns a SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def insist_once(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"the {what} {value[:80]!r} is there twice")
        seen.add(value)

"""What every record shares: frozen, unknown fields kept, one canonical JSON form, one way to read it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from pipeline.errors import RecordInvalid

_REMEDY = (
    "Restore it from an earlier commit of the ledger (`git log -- {path}`), or run `invoke ledger.check`."
)


def _read_time(value: object) -> object:
    if isinstance(value, str) and not value.endswith(("Z", "+00:00")):
        raise ValueError("expected a UTC time such as 2025-10-29T12:00:00Z")
    return value


def _in_utc(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


#: A moment in UTC, whole seconds on the wire: `2025-10-29T12:00:00Z`.
Timestamp = Annotated[datetime, BeforeValidator(_read_time), PlainSerializer(_in_utc, when_used="json")]


class Record(BaseModel):
    """A frozen model of one JSON shape. Fields that a newer version wrote are kept and written again."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, use_enum_values=True)


R = TypeVar("R", bound=Record)


def dump_json(value: Any) -> bytes:
    """Returns the canonical bytes: UTF-8, two-space indent, sorted keys, a trailing newline."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def dump(record: Record) -> bytes:
    """Returns a record's canonical bytes."""
    return dump_json(record.model_dump(mode="json", by_alias=True))


def load_json(data: bytes, path: str) -> Any:
    """Parses a state file's bytes. Raises RecordInvalid that names the file and what is wrong with it."""
    remedy = _REMEDY.format(path=path)
    if not data.strip():
        raise RecordInvalid(path, "", "the file is empty", remedy=remedy)
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise RecordInvalid(path, "", f"not UTF-8 (byte {exc.start})", remedy=remedy) from exc
    if text.startswith("\ufeff"):
        raise RecordInvalid(path, "", "starts with a byte-order mark", remedy=remedy)
    if "\n<<<<<<< " in "\n" + text and "\n>>>>>>> " in text:
        raise RecordInvalid(path, "", "holds git conflict markers", remedy=remedy)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise RecordInvalid(path, "", f"not JSON: {exc}", remedy=remedy) from exc


def load(model: type[R], data: bytes, path: str) -> R:
    """Reads one record. Raises RecordInvalid with the file, the field and the remedy."""
    return validate(model, load_json(data, path), path)


def validate(model: type[R], value: Any, path: str) -> R:
    """Makes a record of parsed JSON. Raises RecordInvalid with the file, the field and the remedy."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RecordInvalid(path, field, first["msg"], remedy=_REMEDY.format(path=path)) from exc

"""What every record shares: frozen, unknown fields kept, one canonical JSON form, one way to read it."""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import Annotated, Any, TypeVar

# Pydantic would look through every installed distribution for plugins. Nobody's may change our records.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from pipeline.errors import RecordInvalid

_DEEPEST = 100
#: The largest JSON file that is parsed. In memory jobs take six times as much, `[[],[],...` 28 times.
LARGEST_RECORD_BYTES = 16 << 20
_REMEDY = (
    "Restore it from an earlier commit of the ledger (`git log -- {path}`), or run `invoke ledger.check`."
)


def _read_time(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and value.endswith(("Z", "+00:00"))):
        return value
    raise ValueError("expected a UTC time such as 2025-10-29T12:00:00Z")


def _in_utc(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


#: A moment in UTC, whole seconds on the wire: `2025-10-29T12:00:00Z`.
Timestamp = Annotated[datetime, BeforeValidator(_read_time), PlainSerializer(_in_utc, when_used="json")]


class Record(BaseModel):
    """A frozen model of one JSON shape. Fields that a newer version wrote are kept and written again.

    Its validator is made on first use: no command uses all of them, and all take 60 ms.
    """

    model_config = ConfigDict(
        frozen=True, extra="allow", populate_by_name=True, use_enum_values=True, defer_build=True
    )


R = TypeVar("R", bound=BaseModel)

_CONSTANTS: dict[bool | None, str] = {None: "null", True: "true", False: "false"}


def dump_json(value: Any) -> bytes:
    """Returns the canonical bytes: UTF-8, two-space indent, sorted keys, a trailing newline."""
    return (_canonical(value, "\n") + "\n").encode()


def _canonical(value: Any, newline: str) -> str:
    """Returns what `json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)` does, several times as
    fast: with an indent the standard encoder works in Python, one piece of text at a time.
    """
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is dict:
        if not value:
            return "{}"
        keys = sorted(value)
        if all(type(key) is str for key in keys):
            inner = newline + "  "
            pairs = [f"{encode_basestring(key)}: {_canonical(value[key], inner)}" for key in keys]
            return "{" + inner + ("," + inner).join(pairs) + newline + "}"
    elif kind is list:
        if not value:
            return "[]"
        inner = newline + "  "
        return "[" + inner + ("," + inner).join([_canonical(each, inner) for each in value]) + newline + "]"
    elif value is None or value is True or value is False:
        return _CONSTANTS[value]
    elif kind is int:
        return int.__repr__(value)
    elif kind is float and math.isfinite(value):
        return float.__repr__(value)
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    return text.replace("\n", newline) if "\n" in text else text


def dump(record: BaseModel) -> bytes:
    """Returns a record's canonical bytes."""
    return dump_json(record.model_dump(mode="json", by_alias=True))


def load_json(data: bytes, path: str, *, remedy: str | None = None) -> Any:
    """Parses a file's bytes. Raises RecordInvalid that names the file and what is wrong with it.

    `remedy` is for a file that is no state file of the ledger.
    """
    remedy = remedy or _REMEDY.format(path=path)
    if len(data) > LARGEST_RECORD_BYTES:
        problem = f"{len(data):,} bytes; more than {LARGEST_RECORD_BYTES:,} are not read"
        raise RecordInvalid(path, "", problem, remedy=remedy)
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
        value = STRICT_JSON.decode(text)
        # What is read must be writable again: half a surrogate pair is not, nor deep nesting.
        if "\\u" in text:
            dump_json(value)
        _insist_on_depth(value)
    except (ValueError, RecursionError) as exc:
        raise RecordInvalid(path, "", f"not JSON: {exc}", remedy=remedy) from exc
    return value


def _insist_on_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_DEEPEST):
        if not level:
            return
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    raise ValueError(f"nested more than {_DEEPEST} levels deep")


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {double[:40]!r} occurs twice")
    return found


#: Refuses a name that occurs twice, NaN and what is too large. Depth and encoding are the caller's.
STRICT_JSON = json.JSONDecoder(
    parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_without_doubles
)


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

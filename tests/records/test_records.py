"""Records: what is read is written again, and what cannot be read is named."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel

from pipeline.errors import RecordInvalid
from pipeline.records.base import LARGEST_RECORD_BYTES, Record, dump, dump_json, load, load_json
from pipeline.records.builders import Heartbeat
from pipeline.records.jobs import Jobs
from pipeline.records.locks import Locks
from pipeline.records.messages import Message, Messages
from pipeline.records.schemas import STATE_FILES, StateFile
from tests.records.examples import EXAMPLES, NOON

PATH = "coordination/some.json"
files = pytest.mark.parametrize("file", STATE_FILES, ids=lambda file: file.name)

#: The names that other tools read, file by file. They are fixed.
FIXED_NAMES = {
    "status": "server ip manager timestamp status current_job last_build system",
    "heartbeat": "server timestamp uptime_seconds healthy",
    "jobs": "jobs",
    "jobs/Job": "id type priority branch commit assigned_to status created_at started_at completed_at",
    "locks": "locks",
    "locks/Lock": "name owner timestamp",
    "messages": "messages",
    "messages/Message": "id from to type subject body timestamp read",
    "build_config": "cloudstack build java notifications last_updated",
    "build_config/BuildSettings": "maven_opts profiles skip_tests parallel_builds",
    "manifest": "job_id server branch commit created_at build_dir artifacts artifact_count total_size_bytes",
    "manifest/Artifact": "name path size_bytes checksums",
    "structured_log": "log_id job_id server branch commit started_at events status exit_code completed_at "
    "duration_seconds",
    "structured_log/LogEvent": "timestamp level message details",
    "ledger": "format epoch next_token writers waiters quarantined",
}


def example(file: StateFile) -> BaseModel:
    """Returns the example of a state file as a record."""
    return load(file.record, dump_json(EXAMPLES[file.name]), PATH)


def with_unknown_fields(record: BaseModel) -> Any:
    """Returns a record as JSON, with a field that no version knows in it and in each record inside it."""
    found: Any = record.model_dump(mode="json", by_alias=True)
    if isinstance(record, RootModel):
        return [with_unknown_fields(item) for item in record.root]
    for name, info in type(record).model_fields.items():
        value, key = getattr(record, name), info.alias or name
        if isinstance(value, Record):
            found[key] = with_unknown_fields(value)
        elif isinstance(value, list) and value and isinstance(value[0], Record):
            found[key] = [with_unknown_fields(item) for item in value]
        elif isinstance(value, dict) and any(isinstance(item, Record) for item in value.values()):
            found[key] = {word: with_unknown_fields(item) for word, item in value.items()}
    found["from_a_newer_version"] = {"deep": [1, None, "é", {"b": 1.5}]}
    return found


def check_words(error: RecordInvalid) -> None:
    """Checks what each refusal of a file has to say."""
    assert error.path == PATH
    assert PATH in error.message
    assert error.problem
    assert error.remedy is not None
    assert PATH in error.remedy


def refused(data: bytes, model: type[Record] = Heartbeat) -> RecordInvalid:
    """Returns the error with which a file is refused."""
    with pytest.raises(RecordInvalid) as caught:
        load(model, data, PATH)
    check_words(caught.value)
    return caught.value


@files
def test_what_is_read_is_written_again(file: StateFile) -> None:
    """A file that was written is read and written without any change."""
    data = dump(example(file))
    assert dump(load(file.record, data, PATH)) == data


@files
def test_unknown_fields_survive_a_rewrite(file: StateFile) -> None:
    """Fields that a newer version wrote, at any depth, are still there after a rewrite."""
    wanted = with_unknown_fields(example(file))
    assert json.loads(dump(load(file.record, dump_json(wanted), PATH))) == wanted


@files
def test_fields_given_by_an_example_are_kept(file: StateFile) -> None:
    """Nothing that a file says is lost or changed by reading it."""

    def within(part: Any, whole: Any) -> bool:
        if isinstance(part, dict):
            return all(name in whole and within(value, whole[name]) for name, value in part.items())
        if isinstance(part, list):
            return len(part) == len(whole) and all(map(within, part, whole))
        return bool(part == whole)

    assert within(EXAMPLES[file.name], json.loads(dump(example(file))))


@pytest.mark.parametrize("where", FIXED_NAMES)
def test_names_that_other_tools_read_are_there(where: str) -> None:
    """The field names of the published formats are in the records, spelled as there."""
    name, _, inside = where.partition("/")
    (record,) = [file.record for file in STATE_FILES if file.name == name]
    schema = record.model_json_schema(by_alias=True)
    properties = schema["$defs"][inside]["properties"] if inside else schema["properties"]
    assert set(FIXED_NAMES[where].split()) <= set(properties)


def test_records_are_frozen() -> None:
    """A record cannot be changed after it was made."""
    beat = load(Heartbeat, dump_json(EXAMPLES["heartbeat"]), PATH)
    with pytest.raises(ValueError, match="frozen"):
        beat.server = "build9"  # type: ignore[misc]


def test_canonical_form() -> None:
    """The bytes are UTF-8 with two-space indent, sorted keys and a trailing newline, times whole and UTC."""
    elsewhere = datetime(2025, 10, 29, 14, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    beat = Heartbeat(server="build1", timestamp=elsewhere, uptime_seconds=1.5, progress={"ö": 1})
    assert dump(beat).decode() == (
        "{\n"
        '  "healthy": true,\n'
        '  "leases": {},\n'
        '  "progress": {\n'
        '    "ö": 1\n'
        "  },\n"
        '  "server": "build1",\n'
        '  "timestamp": "2025-10-29T12:00:00Z",\n'
        '  "uptime_seconds": 1.5,\n'
        '  "waiting": {}\n'
        "}\n"
    )


def test_python_names_and_wire_names() -> None:
    """`from` is called `sender` in code and `from` in the file."""
    message = Message(
        id="m1", sender="build1", to="build2", subject="s", body="b", timestamp=datetime.now(UTC)
    )
    written = json.loads(dump(message))
    assert written["from"] == "build1"
    assert "sender" not in written


BAD_FILES = {
    "empty": (b"", "empty"),
    "blank": (b" \r\n\t\n", "empty"),
    "truncated": (dump_json(EXAMPLES["heartbeat"])[:60], "not JSON"),
    "two documents": (b"{}\n{}\n", "not JSON"),
    "prose": (b"Already up to date.\n", "not JSON"),
    "byte-order mark": (b"\xef\xbb\xbf" + dump_json(EXAMPLES["heartbeat"]), "byte-order mark"),
    "UTF-16": ('{"server": "build1"}'.encode("utf-16"), "not UTF-8 (byte 0)"),
    "Latin-1": ('{"server": "Grüße"}'.encode("latin-1"), "not UTF-8 (byte 14)"),
    "NUL bytes": (b"\0" * 40, "not JSON"),
    "conflict markers": (
        b'{\n<<<<<<< HEAD\n  "server": "build1"\n=======\n  "server": "build2"\n>>>>>>> origin/main\n}\n',
        "conflict markers",
    ),
    "conflict markers at the start": (b"<<<<<<< HEAD\n{}\n=======\n[]\n>>>>>>> main\n", "conflict markers"),
    "nested too deeply": (b"[" * 200_000 + b"]" * 200_000, "not JSON"),
    "a number of 5,000 digits": (b'{"server": ' + b"9" * 5000 + b"}", "not JSON"),
    "an array": (b"[]", "dictionary"),
    "a number": (b"7", "dictionary"),
    "null": (b"null", "dictionary"),
    "text": (b'"build1"', "dictionary"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_record_is_named(name: str) -> None:
    """A file that is damaged as a whole is refused by its path, with what is wrong and a remedy."""
    data, problem = BAD_FILES[name]
    error = refused(data)
    assert problem in error.problem
    assert error.field == ""


BAD_FIELDS: list[tuple[type[Record], dict[str, Any], str]] = [
    (Heartbeat, {"server": "build1"}, "timestamp"),
    (Heartbeat, {"server": None, "timestamp": NOON}, "server"),
    (Heartbeat, {"server": "../build1", "timestamp": NOON}, "server"),
    (Heartbeat, {"server": "$(hostname)", "timestamp": NOON}, "server"),
    (Heartbeat, {"server": "build1", "timestamp": "2025-11-03 16:21"}, "timestamp"),
    (Heartbeat, {"server": "build1", "timestamp": "2025-02-30T12:00:00Z"}, "timestamp"),
    (Heartbeat, {"server": "build1", "timestamp": "$(date -u)Z"}, "timestamp"),
    (Heartbeat, {"server": "build1", "timestamp": 1e300}, "timestamp"),
    (Heartbeat, {"server": "build1", "timestamp": NOON, "uptime_seconds": 10**4000}, "uptime_seconds"),
    (Heartbeat, {"server": "build1", "timestamp": NOON, "leases": []}, "leases"),
    (Jobs, {"jobs": {}}, "jobs"),
    (Jobs, {"jobs": [EXAMPLES["jobs"]["jobs"][0], {"id": "x"}]}, "jobs.1.branch"),
    (Jobs, {"jobs": [{**EXAMPLES["jobs"]["jobs"][0], "status": "cancelled"}]}, "jobs.0.status"),
    (Jobs, {"jobs": [{**EXAMPLES["jobs"]["jobs"][0], "priority": 0}]}, "jobs.0.priority"),
    (Jobs, {"jobs": [{**EXAMPLES["jobs"]["jobs"][0], "commit": "HEAD"}]}, "jobs.0.commit"),
    (Jobs, {"jobs": [{**EXAMPLES["jobs"]["jobs"][0], "branch": "--upload-pack=x"}]}, "jobs.0.branch"),
    (Locks, {"locks": {"job_assignment": {"locked_by": None}}}, "locks"),
    (Locks, {"locks": [{"name": "a b", "owner": "build1", "timestamp": NOON}]}, "locks.0.name"),
    (
        Messages,
        {"messages": [{**EXAMPLES["messages"]["messages"][0], "subject": "s" * 101}]},
        "messages.0.subject",
    ),
    (
        Messages,
        {"messages": [{**EXAMPLES["messages"]["messages"][0], "body": "b" * 10_001}]},
        "messages.0.body",
    ),
]


@pytest.mark.parametrize(
    ("model", "value", "field"), BAD_FIELDS, ids=lambda part: part if isinstance(part, str) else ""
)
def test_a_field_that_is_wrong_is_named(model: type[Record], value: dict[str, Any], field: str) -> None:
    """A field of the wrong shape is refused by file and field, with a remedy."""
    error = refused(dump_json(value), model)
    assert error.field == field
    assert f"field `{field}`" in error.message


#: What JSON readers disagree about.
UNWRITABLE = {
    "NaN": b"NaN",
    "minus infinity": b"-Infinity",
    "a float that overflows": b"1e999",
    "half a surrogate pair": b'"\\ud800"',
    "nesting that could not be written again": b"[" * 400 + b"]" * 400,
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_could_not_be_written_again_is_refused(name: str) -> None:
    """What is read can be written again as JSON, in fields that nobody knows as well."""
    whole = b'{"server": "build1", "timestamp": "2025-10-29T12:00:00Z", "note": %s}' % UNWRITABLE[name]
    refused(whole)


def test_a_name_that_occurs_twice_is_refused() -> None:
    """Of two values for one name, neither is taken silently."""
    refused(b'{"server": "build1", "server": "build2", "timestamp": "2025-10-29T12:00:00Z"}')


def test_a_time_is_text() -> None:
    """A number is no time, though some readers would take it for one."""
    error = refused(dump_json({"server": "build1", "timestamp": 1_761_739_200}))
    assert error.field == "timestamp"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def readable_or_refused(file: StateFile, data: bytes) -> None:
    """Reads a file: it is either refused in the one way, or what was read can be written and read again."""
    try:
        record = load(file.record, data, PATH)
    except RecordInvalid as error:
        check_words(error)
        return
    written = dump(record)
    assert dump(load(file.record, written, PATH)) == written


@given(st.sampled_from(STATE_FILES), st.binary(max_size=200))
def test_any_bytes(file: StateFile, data: bytes) -> None:
    """No bytes raise anything but RecordInvalid."""
    readable_or_refused(file, data)


@given(st.sampled_from(STATE_FILES), values)
def test_any_json(file: StateFile, value: Any) -> None:
    """No JSON raises anything but RecordInvalid."""
    readable_or_refused(file, dump_json(value))


@given(st.sampled_from(STATE_FILES), st.data())
def test_any_damage_to_the_bytes(file: StateFile, draw: st.DataObject) -> None:
    """A valid file with a stretch of it cut out, doubled or overwritten raises nothing but RecordInvalid."""
    data = dump_json(EXAMPLES[file.name])
    begin = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(begin, min(len(data), begin + 40)))
    middle = draw.draw(st.just(b"") | st.just(data[begin:end] * 2) | st.binary(max_size=8))
    readable_or_refused(file, data[:begin] + middle + data[end:])


@given(st.sampled_from(STATE_FILES), values, st.data())
def test_any_value_in_any_place(file: StateFile, value: Any, draw: st.DataObject) -> None:
    """A valid file with any value in any one place raises nothing but RecordInvalid."""
    whole = {"whole": copy.deepcopy(EXAMPLES[file.name])}
    place: Any = whole
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw.draw(st.sampled_from(keys))
        inside = place[key]
        if not isinstance(inside, (dict, list)) or not inside or draw.draw(st.booleans()):
            place[key] = value
            break
        place = inside
    readable_or_refused(file, dump_json(whole["whole"]))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=25,
    )
)
def test_canonical_bytes_are_those_of_the_standard_encoder(value: Any) -> None:
    """Whatever JSON holds is printed byte for byte as the standard library prints it, only sooner."""
    assert (
        dump_json(value) == (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
    )


def test_a_file_that_is_too_large_is_not_parsed() -> None:
    """Its size is told, and what is allowed; what is as large as that is read."""
    with pytest.raises(RecordInvalid) as raised:
        load_json(b"[" + b" " * LARGEST_RECORD_BYTES + b"]", "coordination/jobs.json")
    assert raised.value.path == "coordination/jobs.json"
    assert raised.value.problem == "16,777,218 bytes; more than 16,777,216 are not read"
    assert load_json(b"[" + b" " * (LARGEST_RECORD_BYTES - 2) + b"]", "x") == []

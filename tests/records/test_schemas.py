"""The JSON Schemas: those that are committed are those of the records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.records.base import Record, load
from pipeline.records.builders import Dashboard, Heartbeat, Registry, Status
from pipeline.records.builds import BuildConfig
from pipeline.records.jobs import Jobs
from pipeline.records.ledger import LedgerState
from pipeline.records.locks import Locks
from pipeline.records.messages import Mailbox, Messages
from pipeline.records.schemas import (
    FOLDER,
    STATE_FILES,
    STATEMENTS,
    drift,
    generate,
    main,
    run_generator,
    write,
)
from tests.records.examples import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]

RECORD_OF: dict[str, type[Record]] = {
    "status.json": Status,
    "heartbeat.json": Heartbeat,
    "jobs.json": Jobs,
    "locks.json": Locks,
    "messages.json": Messages,
    "mailbox.json": Mailbox,
    "health_dashboard.json": Dashboard,
    "ledger.json": LedgerState,
    "build_config.json": BuildConfig,
    "builders.json": Registry,
}


def initial_tree() -> list[Path]:
    """Returns the files of the initial tree of a ledger that this repository ships, which recipes are not."""
    folders = ("build1", "build2", "coordination", "shared")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.json")]
    return sorted(path for path in found if "recipes" not in path.parts)


def test_committed_schemas_are_those_of_the_records() -> None:
    """A change of a record without a change of its schema is noticed."""
    assert drift(generate(), ROOT / FOLDER) == []
    assert main(["--check"]) == 0


def test_schemas_are_the_same_bytes_each_time() -> None:
    """Generating twice gives the same bytes."""
    assert generate() == generate()


def test_every_state_file_has_an_example_and_a_name_of_its_own() -> None:
    """No state file is left out of the tests over examples."""
    assert sorted(EXAMPLES) == sorted(file.name for file in STATE_FILES)


def test_schemas_allow_fields_that_they_do_not_name() -> None:
    """A file with a newer version's fields is valid; a statement, which is signed, is not."""
    signed = {f"{file.name}.json" for file in STATEMENTS}
    for name, data in generate().items():
        schema = json.loads(data)
        top = [] if schema.get("type") == "array" else [schema]
        shapes = [*top, *(shape for shape in schema.get("$defs", {}).values() if "properties" in shape)]
        assert all(shape["additionalProperties"] is (name not in signed) for shape in shapes), name


def test_the_initial_tree_is_valid() -> None:
    """Every JSON file of the tree that a new ledger starts from can be read."""
    for path in initial_tree():
        load(RECORD_OF[path.name], path.read_bytes(), str(path))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.json", None, "is missing"),
        ("a.json", b"{ }\n", "is not what the code says"),
        ("old.json", b"{}\n", "is left over"),
    ],
)
def test_drift_is_named(
    name: str, data: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing, a changed and a left-over file are each named, with the command that repairs it."""
    wanted = {"a.json": b"{}\n"}
    write(wanted, tmp_path)
    assert drift(wanted, tmp_path) == []
    if data is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(data)
    assert run_generator("some.module", wanted, tmp_path, ["--check"]) == 1
    printed = capsys.readouterr().err
    assert f"{tmp_path / name} {said}" in printed
    assert "python -m some.module" in printed
    assert run_generator("some.module", wanted, tmp_path, []) == 0
    assert drift(wanted, tmp_path) == []


def test_files_of_other_kinds_are_left_alone(tmp_path: Path) -> None:
    """Writing generated files removes none that it could not have written."""
    (tmp_path / "page.md").write_text("by hand")
    write({"a.json": b"{}\n"}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "page.md"]


def test_an_argument_that_is_not_known_is_refused() -> None:
    """A misspelt --check does not rewrite the files."""
    assert main(["--chek"]) == 2

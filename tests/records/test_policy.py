"""Statements: read only as they were signed, and one key is one name."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pipeline.errors import RecordInvalid
from pipeline.records.attestation import Attestation
from pipeline.records.base import dump_json
from pipeline.records.keys import read_public_key
from pipeline.records.policy import Policy, Revocations
from pipeline.records.promotion import Promotion
from pipeline.records.statements import Statement, made, read_statement
from tests.contracts.signing import FakeSigner, key_line, packed
from tests.coordination.evidence import attestation, policy, promotion, revocations

STATEMENTS: dict[str, tuple[type[Statement], Any]] = {
    "policy": (Policy, policy()),
    "revocations": (Revocations, revocations()),
    "attestation": (Attestation, attestation("build1")),
    "promotion": (Promotion, promotion()),
}


def wire(statement: Statement) -> Any:
    return statement.model_dump(mode="json", by_alias=True)


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the way to every field of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, each in inner for way in [(*path, key), *spots(each, (*path, key))]]


def spoiled(value: Any, way: tuple[Any, ...], how: str) -> Any:
    """Returns a copy in which one field is spoiled; None where that way of spoiling changes nothing."""
    value = json.loads(json.dumps(value))
    at = value
    for key in way[:-1]:
        at = at[key]
    key = way[-1]
    before = json.dumps(value)
    if how == "missing":
        del at[key]
    elif how == "renamed" and isinstance(at, dict):
        at[f"{key}_"] = at.pop(key)
    elif how == "null":
        at[key] = None
    elif how == "text for a number" and isinstance(at[key], int):
        at[key] = str(at[key])
    elif how == "number for a truth" and isinstance(at[key], bool):
        at[key] = int(at[key])
    elif how == "one more" and isinstance(at, dict):
        at["extra"] = 1
    return None if json.dumps(value) == before else value


#: How each field is spoiled.
WAYS = ["missing", "renamed", "null", "text for a number", "number for a truth", "one more"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", STATEMENTS)
def test_no_spoiled_field_is_read(name: str, how: str) -> None:
    """Whatever field is missing, renamed, null, of another type, or one too many: it is not read."""
    model, good = STATEMENTS[name]
    value, tried = wire(good), 0
    for way in spots(value):
        bad = spoiled(value, way, how)
        if bad is None or (how in ("missing", "null", "renamed") and _may_be_left_out(value, way, how)):
            continue
        tried += 1
        with pytest.raises(RecordInvalid):
            read_statement(model, dump_json(bad), "x")
    assert tried or how in ("text for a number", "number for a truth")


def _may_be_left_out(value: Any, way: tuple[Any, ...], how: str) -> bool:
    """Says whether a field stands for itself in another valid statement: an element of a list, or a None."""
    at = value
    for key in way[:-1]:
        at = at[key]
    open_map = len(way) > 1 and way[-2] == "branches"
    return (isinstance(at, list) and how == "missing") or (how == "null" and at[way[-1]] is None) or open_map


@pytest.mark.parametrize("name", STATEMENTS)
def test_one_way_to_write_it(name: str) -> None:
    """The same JSON with other spaces, another order or a name twice is not what was signed."""
    model, good = STATEMENTS[name]
    data = dump_json(wire(good))
    assert read_statement(model, data, "x") == good
    first = next(iter(wire(good)))
    double = data.replace(b"{\n", f'{{\n  "{first}": 1,\n'.encode(), 1)
    others = [
        data + b"\n",
        data[:-1],
        json.dumps(wire(good)).encode(),
        b" " + data,
        double,
        b"\xef\xbb\xbf" + data,
    ]
    for other in others:
        with pytest.raises(RecordInvalid):
            read_statement(model, other, "x")


def test_two_keys_of_one_builder_are_its_own() -> None:
    """A builder may have two keys, for a change of keys; they are one builder's."""
    one = FakeSigner("one").public_key.text
    value = wire(policy())
    value["builders"][0]["keys"].append(FakeSigner("another").public_key.text)
    assert made(Policy, value).builder_keys["build1"][0] == one


@pytest.mark.parametrize("holder", ["builders", "promoters"])
def test_one_key_is_not_two_names(holder: str) -> None:
    """A key that is listed a second time, for a builder or a promoter, makes the policy invalid."""
    value = wire(policy())
    value[holder][-1]["keys"] = [value["builders"][0]["keys"][0]]
    with pytest.raises(RecordInvalid, match="twice"):
        made(Policy, value)


@pytest.mark.parametrize("name", ["build*", "build1,build2", "!build1", "build?", "Build1", "build 1", ""])
def test_a_builders_name_is_literal(name: str) -> None:
    """What ssh-keygen would read as a pattern or as a list is no name."""
    value = wire(policy())
    value["builders"][0]["name"] = name
    with pytest.raises(RecordInvalid):
        made(Policy, value)


def test_more_than_there_are_cannot_agree() -> None:
    """k lies between 1 and the number of builders."""
    for k in (0, -1, 4):
        with pytest.raises(RecordInvalid):
            made(Policy, {**wire(policy()), "k": k})


def test_revocations_are_never_empty() -> None:
    """A list of no keys is no list: there is none before the first."""
    with pytest.raises(RecordInvalid):
        made(Revocations, {**wire(revocations()), "revoked": []})


@pytest.mark.parametrize(
    "name", ["", "/a.deb", "../a.deb", "a/../b", "a//b", ".hidden", "a b", "a\nb", "ä.deb", "a/"]
)
def test_an_artifacts_name_stays_in_its_set(name: str) -> None:
    """No path that leads elsewhere, and nothing that a terminal or a shell would read otherwise."""
    value = wire(attestation("build1"))
    value["subject"][0]["name"] = name
    with pytest.raises(RecordInvalid):
        made(Attestation, value)


# Keys


def point(first: int = 7) -> bytes:
    return bytes([first]) + bytes(31)


def test_a_key_is_known_by_its_bytes() -> None:
    """A comment does not make another key, nor does a security token's application."""
    plain = read_public_key(key_line(point()))
    assert read_public_key(key_line(point()) + " a comment\n") == plain
    token = key_line(point(), "sk-ssh-ed25519@openssh.com", b"ssh:")
    other = key_line(point(), "sk-ssh-ed25519@openssh.com", b"ssh:other")
    assert read_public_key(token).point == read_public_key(other).point == plain.point
    value = wire(policy())
    value["builders"][0]["keys"], value["builders"][1]["keys"] = [token], [other]
    with pytest.raises(RecordInvalid, match="twice"):
        made(Policy, value)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "one line"),
        ("ssh-ed25519", "one line"),
        (key_line(point()) + "\n" + key_line(point(8)), "one line"),
        ("cert-authority " + key_line(point()), "not 'cert-authority'"),
        ("ssh-rsa AAAA", "not 'ssh-rsa'"),
        ("ssh-ed25519 !!!!", "base64"),
        ("ssh-ed25519 " + base64.b64encode(packed(b"ssh-ed25519", point())).decode() + "==", "base64"),
        ("ssh-ed25519 " + key_line(point()).split()[1][:-4], "too early"),
        (key_line(point() + b"x"), "too many"),
        (key_line(point(), "ssh-ed25519", b"more"), "too many"),
        ("ssh-ed25519 " + key_line(point(), "ssh-other").split()[1], "says that it is"),
        (key_line((2**255 - 19 + 3).to_bytes(32, "little")), "second way"),
        (key_line((2**255 + 2**255 - 19 + 3).to_bytes(32, "little")), "second way"),
    ],
)
def test_what_is_no_key_is_refused(line: str, why: str) -> None:
    """A line that is anything but one Ed25519 key in its only spelling is refused with the reason."""
    with pytest.raises(ValueError, match=why):
        read_public_key(line)

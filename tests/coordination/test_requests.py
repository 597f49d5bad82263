"""Requests: what can be asked, and nothing else."""

from __future__ import annotations

import contextlib
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.coordination import reducer
from pipeline.errors import RecordInvalid
from pipeline.records import requests
from pipeline.records.requests import parse_request
from tests.coordination.world import COMMIT, World

KINDS = [
    get_args(model.model_fields["kind"].annotation)[0] for model in get_args(get_args(requests.AnyRequest)[0])
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted({name for model in get_args(get_args(requests.AnyRequest)[0]) for name in model.model_fields})


def test_every_request_is_decided() -> None:
    """What can be asked is what the reducer knows."""
    assert sorted(KINDS) == sorted(reducer._DECISIONS)


@pytest.mark.parametrize("value", [None, [], {}, {"kind": "job.explode"}, {"kind": []}, {"kind": None}])
def test_an_unknown_kind_is_an_error(value: object) -> None:
    """A request of a newer version, or of none, is never passed over."""
    with pytest.raises(RecordInvalid):
        parse_request(value)


def test_a_request_survives_its_commit() -> None:
    """Written as JSON and read again, it is the same request."""
    order = {"kind": "job.create", "builder": "build1", "id": "j1", "branch": "b", "commit": COMMIT}
    request = parse_request({**order, "retries": {"test": 2}, "options": {"a": [1.5, None]}})
    assert parse_request(json.loads(request.model_dump_json())) == request


@given(kind=st.sampled_from(KINDS), fields=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_any_request_is_answered_or_refused_in_words(kind: str, fields: dict[str, Any]) -> None:
    """Whatever is asked, the answer is a change, a refusal, or an error that names the place."""
    world = World()
    valid = {"id": "j1", "branch": "b", "commit": COMMIT, "holder": "h", "job_id": "j0", "token": "1.1.x"}
    valid |= {"name": "a", "op": "o", "to": "all", "subject": "s", "ids": ["m"], "names": ["a"]}
    valid |= {"ttl_seconds": 3, "interval_seconds": 1, "facts": {}, "config": {}, "outcome": "succeeded"}
    valid |= {"locks": {"a": "1.1.x"}, "entry": {"name": "b"}, "abandoned_tips": ["0" * 40]}
    model = next(m for m in get_args(get_args(requests.AnyRequest)[0]) if kind in str(m.model_fields["kind"]))
    asked = {name: value for name, value in (valid | fields).items() if name in model.model_fields}
    asked.pop("kind", None)
    as_op = {"as_op": "op-1"}
    with contextlib.suppress(RecordInvalid):
        world.ask(kind, **as_op, **asked)


def test_what_cannot_be_written_is_an_error() -> None:
    """Half a surrogate pair in free options fails before anything is committed."""
    with pytest.raises(RecordInvalid, match="JSON"):
        World().ask("job.create", id="j", branch="b", commit=COMMIT, options={"a": "\udcff"})

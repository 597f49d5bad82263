"""A push in git's own protocol, as bytes."""

from __future__ import annotations

import pytest

from pipeline.edge.git_objects import make
from pipeline.edge.receive import push_request, read_report


def test_request_is_as_the_protocol_says() -> None:
    """A push is one command line, a flush, and a pack that carries its own checksum."""
    said = push_request("refs/heads/x", None, "1" * 40, [make("blob", b"x" * 300)])
    assert said[4:].startswith(b"0" * 40 + b" " + b"1" * 40 + b" refs/heads/x\0report-status0000PACK")
    assert int(said[:4], 16) == said.index(b"0000PACK")


@pytest.mark.parametrize(
    ("said", "before", "verdict"),
    [
        (b"", None, ""),
        (b"0032" + b"2" * 40 + b" re", None, ""),
        (b"003f" + b"2" * 40 + b" refs/heads/x\0caps0000", "2" * 40, ""),
        (b"000eunpack ok\n0014ok refs/heads/x\n0000", None, "ok"),
        (b"000eunpack ok\n0022ng refs/heads/x hook declined\n0000", None, "ng hook declined"),
        (b"0019unpack unpacker error\n", None, "ng unpacker error: unpacker error"),
        (b"zzzz", None, ""),
    ],
)
def test_report_is_read_or_missing(said: bytes, before: str | None, verdict: str) -> None:
    """Only a whole report is a verdict; anything cut or garbled is none."""
    assert read_report(said, "refs/heads/x") == (before, verdict)

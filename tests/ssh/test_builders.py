"""Two builders over SSH, from the words that are typed to the verdict."""

from __future__ import annotations

from pipeline.records.comparison import Verdict
from tests.ssh.servers import Builder, compared


def test_equal_builders_agree_after_one_question(builders: tuple[Builder, Builder]) -> None:
    """Equal files agree after one question to each side; both are one machine, and none of it is sent."""
    one, two = builders
    found = compared(one.place, two.place)
    assert (found.verdict, found.independent, found.scope) == (Verdict.AGREE, False, "files")
    assert [each.name for each in found.artifacts] == ["a.txt", "sub `x`/-rf $(y).bin"]
    assert found.wire.round_trips == 1
    assert 500 < found.wire.bytes < 4000
    assert found.wire.handshake_bytes > 2000
    assert found.wire.program_bytes > 10_000

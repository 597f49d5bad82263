from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.edge.lines import LINE_LIMIT, Lines, strip_ansi


def _all(chunks: list[bytes], limit: int = LINE_LIMIT) -> list[str]:
    lines = Lines(limit)
    found = [line for chunk in chunks for line in lines.feed(chunk)]
    return found + lines.close()


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b"\r\n", "ü".encode(), b"\xff"])))
def test_chunks_make_no_difference(chunks: list[bytes]) -> None:
    """However a stream is chunked, lines over the limit included, the lines are the same."""
    assert _all(chunks, limit=16) == _all([b"".join(chunks)], limit=16)


@given(st.binary(max_size=3000))
def test_every_line_end_counts(data: bytes) -> None:
    """Line n of the text is line n of the raw log, whatever its bytes are."""
    lines = Lines(10)
    assert len(lines.feed(data)) == data.count(b"\n")
    assert all(len(line) <= 10 for line in lines.close())


def test_an_endless_line_takes_constant_memory() -> None:
    """Of a line without an end no more than the limit is kept, and the next line is whole again."""
    lines = Lines()
    for _ in range(1000):
        assert lines.feed(b"x" * 65536) == []
    assert len(lines._rest) == LINE_LIMIT
    first, second = lines.feed(b"tail\nnext\n")
    assert (len(first), second) == (LINE_LIMIT, "next")


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    """A program that prints Latin-1 does not stop the log."""
    assert _all([b"caf\xe9\r\n", b"\xe2\x82", b"\xac\n"]) == ["caf\ufffd", "€"]


def test_ansi_is_stripped() -> None:
    """Colours, cursor movements and window titles go; the text stays."""
    assert (
        strip_ansi("\x1b[0m\x1b[0m[\x1b[1;34mINFO\x1b[m] \x1b]0;title\x07Building\x1b[2K")
        == "[INFO] Building"
    )


@given(st.text())
def test_text_without_escapes_is_left_alone(text: str) -> None:
    """Only what an escape character begins is taken out."""
    plain = text.replace("\x1b", "")
    assert strip_ansi(plain) == plain

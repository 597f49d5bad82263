"""The program of `lock.run` as it stands on a command line: word for word, and no shell unless asked for."""

from __future__ import annotations

import pytest

from pipeline.console.input import program_words
from pipeline.errors import UsageError

BEFORE = ["invoke", "lock.run", "a"]


@pytest.mark.parametrize(
    ("after", "command", "expected"),
    [
        (["--", "prog", "--help", "x  y", ""], "", ["prog", "--help", "x  y", ""]),
        (["--", "prog", "--", "-x"], "", ["prog", "--", "-x"]),
        ([], "prog --help 'x  y' \"$HOME;ls\"", ["prog", "--help", "x  y", "$HOME;ls"]),
        ([], "", []),
    ],
)
def test_words_are_passed_on_as_they_are(after: list[str], command: str, expected: list[str]) -> None:
    """Options, blanks and quotes arrive; nothing is expanded."""
    assert program_words(command, False, [*BEFORE, *after]) == expected


def test_a_shell_is_used_when_it_is_asked_for() -> None:
    """With --shell the text goes to /bin/sh as one argument."""
    assert program_words("a && b", True, BEFORE) == ["/bin/sh", "-c", "a && b"]


@pytest.mark.parametrize(
    ("after", "command", "shell", "words"),
    [
        (["--", "x"], "y", False, "after `--`"),
        (["--", "x"], "", True, "after `--`"),
        ([], "", True, "without --command"),
        ([], "echo 'open", False, "No closing quotation"),
    ],
)
def test_what_is_said_twice_or_left_open_is_refused(
    after: list[str], command: str, shell: bool, words: str
) -> None:
    """Nobody guesses which of two programs was meant."""
    with pytest.raises(UsageError, match=words):
        program_words(command, shell, [*BEFORE, *after])

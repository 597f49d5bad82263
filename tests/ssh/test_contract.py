"""What every conversation promises, held by a program of this machine and by one behind a real sshd."""

from __future__ import annotations

import random
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.compare.bundle import READER
from pipeline.compare.wire import Line
from pipeline.edge.conversation import Conversation, LocalConversation
from pipeline.edge.hosts import Host
from pipeline.edge.ssh import SshConversation
from pipeline.errors import CommandFailed, CommandTimedOut
from tests.ssh.servers import Builder

Start = Callable[..., Conversation]
ECHO = "import os\nwhile True:\n d = os.read(0, 65536)\n if not d: break\n os.write(1, d)"
SAYS = "import sys; sys.stdout.write('12'); sys.stdout.flush(); sys.stderr.write('why'); sys.exit(7)"


@pytest.fixture(params=["local", "ssh"])
def start(request: pytest.FixtureRequest, builders: tuple[Builder, Builder]) -> Iterator[Start]:
    """Starts Python with these options, here or behind sshd; what was started is closed at the end."""
    opened: list[Any] = []

    def begin(*options: str) -> Conversation:
        talk: Conversation
        if request.param == "local":
            talk = LocalConversation([sys.executable, *options], "there")
        else:
            command = f"cd / && exec {shlex.join([sys.executable, *options])}"
            talk = SshConversation(Host(builders[0].name), command, "there")
        opened.append(talk)
        return talk

    yield begin
    for each in opened:
        each.close()


def test_bytes_come_back_as_they_were_sent(start: Start) -> None:
    """Megabytes travel both ways, in whatever pieces they are asked for, and are counted."""
    talk = start("-c", ECHO)
    before = talk.travelled
    sent = random.Random(1).randbytes(100_000)  # which no compression makes shorter
    for _ in range(10):
        talk.send(sent)
        assert talk.receive(1, 10) + talk.receive(len(sent) - 1, 10) == sent
    assert 20 * len(sent) <= talk.travelled - before < 21 * len(sent)


def test_it_starts_in_the_root_folder(start: Start) -> None:
    """The program runs in `/`, where nobody but root can put a module."""
    talk = start("-c", "import os; os.write(1, os.getcwd().encode()); os.read(0, 1)")
    assert talk.receive(1, 10) == b"/"


def test_silence_has_an_end(start: Start) -> None:
    """What was sent in time does not help: the whole has to come within its seconds."""
    talk = start("-c", ECHO)
    talk.send(b"half")
    with pytest.raises(CommandTimedOut, match=r"there gave no answer within 0\.5 s"):
        talk.receive(8, 0.5)


def test_an_end_in_the_middle_is_told(start: Start) -> None:
    """A program that ends while somebody waits is told with its status; nothing is filled in."""
    talk = start("-c", SAYS)
    assert talk.receive(2, 10) == b"12"
    with pytest.raises(CommandFailed, match="there ended in the middle") as caught:
        talk.receive(1, 10)
    assert caught.value.returncode == 7


def is_reader(process: psutil.Process) -> bool:
    """Says whether a process is a reader; one that has ended meanwhile is none."""
    with suppress(psutil.Error):
        return READER[-1] in process.cmdline()
    return False


def test_closing_ends_a_reader_that_is_at_work(start: Start, tmp_path: Path) -> None:
    """A reader that hashes a file without end is gone as soon as nobody listens any more."""
    with (tmp_path / "endless").open("wb") as file:
        file.truncate(1 << 42)
    talk = start(*READER)
    line = Line("there", talk, root="/")
    children = psutil.Process().children(recursive=True)
    line.begin({"ask": "files", "root": str(tmp_path)})
    readers = [child for child in children if is_reader(child)]
    assert len(readers) == 1
    talk.close()
    readers[0].wait(timeout=10)


def test_closing_twice_is_closing(start: Start) -> None:
    """Closing raises nothing, however often, and whatever the program did."""
    talk = start("-c", SAYS)
    talk.close()
    talk.close()

"""Each way in which a builder cannot be asked: an error of its own, at the step where it happens."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.edge.clock import SystemClock
from pipeline.edge.hosts import Host
from pipeline.edge.ssh import SshConversation
from pipeline.errors import (
    ComparisonIncomplete,
    HostRefused,
    HostUnreachable,
    LoginRefused,
    ReaderMissing,
    exit_code_of,
)
from pipeline.operations.compare import compare_files
from pipeline.operations.places import place_of
from pipeline.records.comparison import Comparison, Verdict
from pipeline.runtime.comparison import read_there
from tests.mounts import needs_mounts
from tests.ssh.servers import Builder, compared

ASKED = 'eval "$SSH_ORIGINAL_COMMAND"'
#: What `python3` is there, as its shell runs it: an interpreter that says it is 3.7.
OLD = "import sys; sys.version_info = (3, 7, 9, 'final', 0); exec(sys.argv[1])"


def within(left: str, right: str, seconds: float) -> Comparison:
    """Compares as the task does, with less patience."""
    places = place_of(left, "--left"), place_of(right, "--right")
    return compare_files(*places, read_there, SystemClock(), lambda text: None, seconds)


@contextmanager
def answering(greeting: bytes) -> Iterator[int]:
    """Somebody who answers at a port with these bytes, and then says nothing more. Yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            talk, _ = server.accept()
            with talk:
                talk.sendall(greeting)
                ended.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def test_a_port_that_nobody_listens_at(builders: tuple[Builder, Builder]) -> None:
    """A refused connection names the side, the machine and the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(HostUnreachable, match=f"127.0.0.1, port {port} .*refused") as caught:
        compared(builders[0].place, f"ssh://127.0.0.1:{port}/x")
    assert (caught.value.step, exit_code_of(caught.value)) == ("connect", 92)


def test_a_name_that_nobody_has() -> None:
    """A name without an address is told as such."""
    with pytest.raises(HostUnreachable, match=r"the name nobody\.invalid is not known") as caught:
        SshConversation(Host("nobody.invalid"), "true", "build2")
    assert caught.value.step == "connect"


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_somebody_else_at_that_port(greeting: bytes, home: Path) -> None:
    """Silence, another protocol, a server that stops in the middle: told in time."""
    with answering(greeting) as port, pytest.raises(HostUnreachable, match=f"port {port}") as caught:
        SshConversation(Host("127.0.0.1", port=port), "true", "build2", seconds=1)
    assert caught.value.step in ("connect", "login")


def test_an_unknown_host_key(builders: tuple[Builder, Builder]) -> None:
    """An unknown key is refused, not added, told by its fingerprint; the remedy works as it is."""
    one, two = builders
    two.knows("")
    with pytest.raises(HostRefused, match="is not known") as caught:
        compared(one.place, two.place)
    assert (caught.value.reason, exit_code_of(caught.value)) == ("unknown", 93)
    assert two.known_hosts.read_text() == ""
    public = two.server.identity.with_name("host_key.pub")
    printed = subprocess.run(["ssh-keygen", "-lf", public], capture_output=True, text=True, check=True).stdout
    assert printed.split()[1] in caught.value.message
    remedy = re.findall(r"`(ssh-keyscan [^`]*)`", str(caught.value.remedy))
    assert len(remedy) == 1
    subprocess.run(["sh", "-c", remedy[0]], check=True, stderr=subprocess.DEVNULL)
    assert compared(one.place, two.place).verdict == Verdict.AGREE


def test_a_changed_host_key(builders: tuple[Builder, Builder]) -> None:
    """Another key than the known one is refused with the line that is known, whatever else is known."""
    one, two = builders
    name = two.server.known_hosts.read_text().split()[0]
    two.knows(f"# a comment\n{name} {one.key}\n")
    with pytest.raises(HostRefused, match="has changed") as caught:
        compared(one.place, two.place)
    assert caught.value.reason == "changed"
    assert f"{two.known_hosts}:2" in caught.value.message
    assert f"ssh-keygen -R '{name}' -f {two.known_hosts}" in str(caught.value.remedy)


def test_a_revoked_host_key(builders: tuple[Builder, Builder]) -> None:
    """A key that is known and revoked is refused."""
    one, two = builders
    two.knows(f"{two.known_hosts.read_text()}@revoked * {two.key}\n")
    with pytest.raises(HostRefused, match="is revoked") as caught:
        compared(one.place, two.place)
    assert caught.value.reason == "revoked"


def test_a_wrong_user(builders: tuple[Builder, Builder]) -> None:
    """A user who may not log in is named, with the keys that were tried."""
    one, two = builders
    with pytest.raises(LoginRefused, match=f"nobody@127.0.0.1 .*{two.server.identity}") as caught:
        compared(one.place, f"nobody@{two.name}:{two.root}")
    assert exit_code_of(caught.value) == 94


def test_a_wrong_key(builders: tuple[Builder, Builder]) -> None:
    """A key that the side does not take."""
    one, two = builders
    text = two.config.read_text().replace(str(two.server.identity), str(one.server.identity))
    two.config.write_text(text)
    with pytest.raises(LoginRefused, match=str(one.server.identity)):
        compared(one.place, two.place)


def test_no_key_at_all(builders: tuple[Builder, Builder]) -> None:
    """Without a key nobody is asked for a password."""
    one, two = builders
    two.config.write_text(two.config.read_text().replace(str(two.server.identity), "/does/not/exist"))
    with pytest.raises(LoginRefused, match="there is none that can be used"):
        compared(one.place, two.place)


MISSING = {
    "no python3": ("PATH=/nowhere; " + ASKED, "not found"),
    "an old one": (
        f'python3() {{ {sys.executable} -c {shlex.quote(OLD)} "$5"; }}; exec() {{ "$@"; }}; {ASKED}',
        "Python 3.7",
    ),
    "one that fails": ("echo no space left >&2; exit 1", "no space left"),
}


@pytest.mark.parametrize("name", MISSING)
def test_no_reader_can_start(builders: tuple[Builder, Builder], name: str) -> None:
    """No Python, too old a Python, one that cannot run: told with its last words and what is needed."""
    one, two = builders
    command, words = MISSING[name]
    with two.running(command), pytest.raises(ReaderMissing, match=words) as caught:
        compared(one.place, two.place)
    assert "3.8" in str(caught.value.remedy)
    assert exit_code_of(caught.value) == 95


EMPTY = (
    "import sys; sys.stdout.buffer.write(bytes([0, 0, 0, 2]) + b'{}'); sys.stdout.flush(); sys.stdin.read()"
)
NONSENSE = {
    "a greeting before it": "echo Welcome to this machine; " + ASKED,
    "zeros": "cat /dev/zero",
    "noise": "yes",
    "no protocol": f'{sys.executable} -c "{EMPTY}"',
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_not_believed(builders: tuple[Builder, Builder], name: str) -> None:
    """Whatever comes that is no answer, also without end: nothing of it is believed."""
    one, two = builders
    with two.running(NONSENSE[name]), pytest.raises(ComparisonIncomplete, match="answers nonsense"):
        compared(one.place, two.place)


def test_a_slow_builder(builders: tuple[Builder, Builder]) -> None:
    """One that does not answer in time is told, and the other side is not kept."""
    one, two = builders
    with two.running("sleep 30"), pytest.raises(ComparisonIncomplete, match="gave no answer within 1 s"):
        within(one.place, two.place, 1)


#: What becomes of the reader after so many bytes of its answers. The answer to the greeting is shorter than
#: 350 bytes, and both together are longer than 400.
BREAKS: dict[str, tuple[str, type[ComparisonIncomplete], str]] = {
    "the reader ends": ("kill -9 0", ComparisonIncomplete, "ended in the middle"),
    "the connection breaks": ("kill -9 $PPID", HostUnreachable, "broke off"),
}


@pytest.mark.parametrize("length", [3, 100, 400])
@pytest.mark.parametrize("name", BREAKS)
def test_an_end_in_the_middle(builders: tuple[Builder, Builder], name: str, length: int) -> None:
    """In the greeting, in the answer: the reader's end and the connection's are told apart."""
    one, two = builders
    then, error, words = BREAKS[name]
    cut = f"{ASKED} | (stdbuf -o0 head -c {length}; {then})"
    with two.running(cut), pytest.raises(error, match=words) as caught:
        within(one.place, two.place, 10)
    assert two.name in caught.value.message


def test_no_program_may_be_started(builders: tuple[Builder, Builder]) -> None:
    """A user whose shell is none, as servers have them, is told with what it said."""
    one, two = builders
    with (
        two.running("echo This account is not available.; exit 1"),
        pytest.raises(ComparisonIncomplete) as caught,
    ):
        compared(one.place, two.place)
    assert "This" in caught.value.message


Spoil = Callable[[Path], None]


def _link(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))
    root.symlink_to("elsewhere")


def _gone(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


@pytest.mark.parametrize(("spoil", "words"), [(_link, "is a symbolic link"), (_gone, "No such file")])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_root_that_is_none(builders: tuple[Builder, Builder], spoil: Spoil, words: str, end: str) -> None:
    """A root that is a link, or not there, is told; a slash at its end changes nothing."""
    one, two = builders
    spoil(two.root)
    with pytest.raises(ComparisonIncomplete, match=words):
        compared(one.place, two.place + end)


def test_many_files_under_a_low_limit(builders: tuple[Builder, Builder]) -> None:
    """A soft limit of open files is raised; past the hard one it is said how many may be open."""
    one, two = builders
    for each in builders:
        for number in range(100):
            (each.root / str(number)).write_bytes(b"%d" % number)
    with two.running(f"ulimit -Sn 50; {ASKED}"):
        assert compared(one.place, two.place).verdict == Verdict.AGREE
    words = r"more files than may be open at once here \(50\)"
    with two.running(f"ulimit -n 50; {ASKED}"), pytest.raises(ComparisonIncomplete, match=words):
        compared(one.place, two.place)


@needs_mounts
def test_a_full_disk(builders: tuple[Builder, Builder]) -> None:
    """Equal files need no disk. What cannot be unpacked is INCOMPLETE, and says that the disk is full."""
    one, two = builders
    full = f"exec unshare --mount sh -c 'mount -t tmpfs -o size=64k none /mnt; export TMPDIR=/mnt; {ASKED}'"
    with two.running(full):
        assert compared(one.place, two.place).verdict == Verdict.AGREE
        for number, each in enumerate(builders):
            words = ["xz", "-c", "-0"]
            data = bytes([number]) * 200_000
            packed = subprocess.run(words, input=data, capture_output=True, check=True).stdout
            (each.root / "a.xz").write_bytes(packed)
        found = compared(one.place, two.place)
    assert found.verdict == Verdict.INCOMPLETE
    assert "the disk of /mnt is full" in str([each.problem for each in found.artifacts])

"""Promises of the stand-in server and its tools: pinned files, refusals, a record of every request."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.builds import standin_client
from pipeline.builds.standin import Pinned, StandIn, pin
from pipeline.edge.process import Finished, run
from pipeline.errors import ConfigInvalid
from pipeline.records.builds import DownloadSubstitute


def pinned(url: str, content: bytes) -> Pinned:
    return Pinned(url, content, hashlib.sha256(content).hexdigest(), len(content))


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def server() -> Iterator[StandIn]:
    files = [
        pinned("https://example.org/a/file.bin", b"abc\n"),
        pinned("{loopback}/4.20/md5sum.txt", b"sums\n"),
    ]
    with StandIn(files, refuse_unpinned=True) as running:
        yield running


def client(server: StandIn, tool: str, *arguments: str, cwd: Path | None = None, real: str = "") -> Finished:
    """Runs the stand-in of a tool as a build would."""
    words = [sys.executable, "-I", "-S", standin_client.__file__, server.address, tool, real, *arguments]
    return run(words, cwd=cwd, check=False)


def get(server: StandIn, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_a_pinned_path_is_served_and_recorded(server: StandIn) -> None:
    """What Maven's download plugin asks the loopback address for is the pinned file, and written down."""
    assert get(server, "/4.20/md5sum.txt") == (200, b"sums\n")
    (record,) = server.downloads()
    assert (record.url, record.tool, record.status, record.size_bytes) == (
        "{loopback}/4.20/md5sum.txt",
        "loopback",
        "served",
        5,
    )
    assert record.sha256 == hashlib.sha256(b"sums\n").hexdigest()


def test_another_path_is_not_found_and_recorded_as_refused(server: StandIn) -> None:
    """An address of the server that nothing is pinned for is a refusal that can be read afterwards."""
    assert get(server, "/4.21/md5sum.txt")[0] == 404
    assert [(one.url, one.status) for one in server.downloads()] == [
        ("{loopback}/4.21/md5sum.txt", "refused")
    ]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("wget", ["-O", "-", "URL"]),
        ("wget", ["-qO-", "URL"]),
        ("wget", ["--output-document=-", "--header", "A: b", "URL"]),
        ("wget", ["URL", "-nv", "-t", "3", "-O", "-"]),
        ("curl", ["URL"]),
        ("curl", ["-fsSL", "-H", "Accept: x", "--retry", "3", "URL"]),
        ("curl", ["--location", "--silent", "--url", "URL", "-o", "-"]),
    ],
)
def test_a_pinned_url_goes_to_standard_output(server: StandIn, tool: str, arguments: list[str]) -> None:
    """However the command line is written, standard output is the file and nothing but the file."""
    words = [word.replace("URL", "https://example.org/a/file.bin") for word in arguments]
    done = client(server, tool, *words)
    assert (done.returncode, done.stdout) == (0, b"abc\n")
    assert [(one.tool, one.status) for one in server.downloads()] == [(tool, "served")]


@pytest.mark.parametrize(
    ("tool", "arguments", "name"),
    [
        ("wget", ["URL"], "file.bin"),
        ("wget", ["-q", "URL", "-O", "out"], "out"),
        ("wget", ["-P", "deep/down", "URL"], "deep/down/file.bin"),
        ("curl", ["-sO", "URL"], "file.bin"),
        ("curl", ["-s", "-o", "out", "URL"], "out"),
        ("curl", ["-s", "--create-dirs", "-o", "deep/out", "URL"], "deep/out"),
    ],
)
def test_a_pinned_url_goes_to_the_file_that_is_named(
    server: StandIn, tmp_path: Path, tool: str, arguments: list[str], name: str
) -> None:
    """-O, -o, -P and the name in the URL mean what they mean to the tools themselves."""
    words = [word.replace("URL", "https://example.org/a/file.bin") for word in arguments]
    done = client(server, tool, *words, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == b""
    assert (tmp_path / name).read_bytes() == b"abc\n"


@pytest.mark.parametrize(("tool", "code"), [("wget", 8), ("curl", 22)])
def test_an_unpinned_url_is_refused_with_the_tool_s_own_code(
    server: StandIn, tmp_path: Path, tool: str, code: int
) -> None:
    """A refusal leaves no file, says which URL it was, and is written down."""
    done = (
        client(server, tool, "-O", "https://example.org/other", cwd=tmp_path)
        if tool == "curl"
        else client(server, tool, "https://example.org/other", "-O", "out", cwd=tmp_path)
    )
    assert done.returncode == code
    assert "https://example.org/other" in done.errors
    assert list(tmp_path.iterdir()) == []
    assert [(one.url, one.status) for one in server.downloads()] == [("https://example.org/other", "refused")]


def test_something_sent_is_not_answered_with_a_file(server: StandIn) -> None:
    """A POST to a pinned URL is no download of it."""
    assert client(server, "curl", "-d", "x=1", "https://example.org/a/file.bin").returncode == 22


def test_an_allowed_url_is_left_to_the_real_tool(tmp_path: Path) -> None:
    """Where the recipe does not refuse, the tool itself gets all its arguments, and it is written down."""
    real = program(tmp_path / "wget", 'for word; do printf "[%s]" "$word"; done')
    with StandIn([], refuse_unpinned=False) as server:
        done = client(server, "wget", "-q", "https://example.org/a b", "-O", "-", real=str(real))
        assert done.text == "[-q][https://example.org/a b][-O][-]"
        assert [(one.url, one.status) for one in server.downloads()] == [
            ("https://example.org/a b", "passed")
        ]


def test_without_the_server_the_tool_says_so() -> None:
    """A server that is gone is the tool's own code for no network."""
    server = StandIn([], refuse_unpinned=True)
    server.close()
    assert client(server, "wget", "https://example.org/").returncode == 4
    assert client(server, "curl", "https://example.org/").returncode == 7


GARBAGE = [
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"GET /fetch?url=" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET http://[bad/ HTTP/1.0\r\n\r\n",
    b"GET /fetch?url=%FF%FE&tool=%00 HTTP/1.0\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.0\r\nContent-Length: 99999999999\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"",
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_harms_nobody(server: StandIn, data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever arrives, the server goes on serving and prints nothing."""
    port = int(server.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        with contextlib.suppress(OSError):  # the server may have hung up already
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    assert get(server, "/4.20/md5sum.txt") == (200, b"sums\n")
    assert capfd.readouterr() == ("", "")


def test_a_client_that_leaves_in_the_middle_harms_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    """A connection that is cut while a large file is sent is no error of the build."""
    with StandIn([pinned("{loopback}/big", b"x" * 20_000_000)], refuse_unpinned=True) as server:
        port = int(server.address.rpartition(":")[2])
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(b"GET /big HTTP/1.0\r\n\r\n")
                connection.recv(10)
        assert get(server, "/nothing")[0] == 404
    assert capfd.readouterr() == ("", "")


def test_many_at_the_same_time_are_all_served(server: StandIn) -> None:
    """Twenty requests at once give twenty answers and twenty records."""
    answers: list[tuple[int, bytes]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(get(server, "/4.20/md5sum.txt"))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(200, b"sums\n")] * 20
    assert len(server.downloads()) == 20


def test_what_is_written_down_is_bounded() -> None:
    """A build that asks without end does not fill the memory of the pipeline."""
    server = StandIn([], refuse_unpinned=True)
    for number in range(3000):
        server.decide(f"https://example.org/{number}" + "x" * 5000, "wget", None, asking=False)
    server.close()
    assert len(server.downloads()) == 1000
    assert max(len(one.url) for one in server.downloads()) <= 2000


def test_it_listens_on_loopback_only(server: StandIn) -> None:
    """Nobody else on the network is served."""
    assert server.address.startswith("http://127.0.0.1:")


WORDS = ["-O", "-o", "--output", "--", "-", "-qO", "-nv", "--header=", "https://a/b", "-d", "--url"]


@given(st.sampled_from(["wget", "curl"]), st.lists(st.text(max_size=8) | st.sampled_from(WORDS), max_size=6))
def test_no_command_line_makes_a_traceback(tool: str, words: list[str]) -> None:
    """Any words are understood somehow, and a place follows for every URL."""
    command = standin_client.understand(tool, words)
    for index in range(len(command.urls)):
        try:
            standin_client.place(command, index)
        except ValueError:
            assert (
                "[" in command.urls[index] or "]" in command.urls[index] or not command.urls[index].isascii()
            )


def test_a_pinned_file_with_other_bytes_is_not_served(tmp_path: Path) -> None:
    """The digest is held against the bytes before the server starts."""
    (tmp_path / "f").write_bytes(b"changed")
    with pytest.raises(ConfigInvalid, match="has the digest"):
        pin(DownloadSubstitute(url="https://e.org/f", sha256="0" * 64, file="f"), tmp_path)


def test_a_pinned_file_is_streamed_from_disk(tmp_path: Path) -> None:
    """A file is not held in memory: what is kept of it is its path."""
    (tmp_path / "f").write_bytes(b"content")
    made = pin(
        DownloadSubstitute(url="{loopback}/f", sha256=hashlib.sha256(b"content").hexdigest(), file="f"),
        tmp_path,
    )
    assert made.content == tmp_path / "f"
    with StandIn([made], refuse_unpinned=True) as server:
        assert get(server, "/f") == (200, b"content")

"""`wget` and `curl` as a build sees them: pinned files from the stand-in server, and nothing else unasked.

    python -I -S standin_client.py ADDRESS TOOL REAL [argument …]

ADDRESS is the server's, TOOL is `wget` or `curl`, REAL the file of the real tool or empty. A pinned URL is
written where the arguments say; one that the server allows is left to the real tool, with all the arguments;
one that it refuses ends the command with the tool's own code for a server that said no (wget 8, curl 22).

Runs as a program of its own inside the build and therefore imports nothing of the pipeline, and little
besides: it starts in about 20 ms.
"""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import quote, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would take longer than the request
    from typing import IO

_REFUSED = {"wget": 8, "curl": 22}
_NO_ANSWER = {"wget": 4, "curl": 7}
_BAD_USAGE = {"wget": 2, "curl": 2}
_CANNOT_WRITE = {"wget": 3, "curl": 23}

#: Letters and words that take a value. Any other option takes none.
_VALUED_LETTERS = {"wget": "OoaeiBtTwQPUARDIXl", "curl": "oAbcCdDeEFHKmPQrtTuUwxXyYz"}
_WGET_WORDS = """
    output-document output-file append-output execute input-file base tries timeout dns-timeout
    connect-timeout read-timeout wait waitretry quota directory-prefix user-agent accept reject domains level
    header user password http-user http-password referer post-data post-file method body-data body-file
    load-cookies save-cookies ca-certificate ca-directory certificate private-key limit-rate max-redirect
    progress bind-address retry-on-http-error secure-protocol
"""
_CURL_WORDS = """
    output output-dir header retry retry-delay retry-max-time connect-timeout max-time user-agent referer
    cookie cookie-jar data data-raw data-binary data-urlencode json form user proxy url request range
    write-out cacert capath cert key upload-file config resolve interface limit-rate max-redirs ciphers
    dump-header stderr trace continue-at noproxy proto time-cond speed-limit speed-time
"""
_VALUED_WORDS = {"wget": frozenset(_WGET_WORDS.split()), "curl": frozenset(_CURL_WORDS.split())}
#: Options that send something: what comes back for them is no pinned file.
_SENDING_WORDS = "post-data post-file body-data body-file data data-raw data-binary data-urlencode json form"
_SENDING = {
    "wget": frozenset(_SENDING_WORDS.split()),
    "curl": frozenset([*_SENDING_WORDS.split(), "upload-file", "d", "F", "T"]),
}


class Command:
    """What the arguments ask for. `outputs` are files in the order of the URLs; `-` is standard output.

    A plain class: dataclasses would cost half of the program's start.
    """

    def __init__(self, tool: str) -> None:
        self.urls: list[str] = []
        self.outputs: list[str] = []
        self.remote_names = tool == "wget"
        self.folder = ""
        self.make_folders = tool == "wget"
        self.quiet = False
        self.discard = False
        self.method = "GET"
        self.write_out = ""


def understand(tool: str, arguments: list[str]) -> Command:
    """Reads a command line. Knows which options take a value, and acts on the few that matter."""
    command = Command(tool)
    words = list(arguments)
    plain = False
    while words:
        word = words.pop(0)
        if plain or not word.startswith("-") or word == "-":
            _take_url(command, word)
        elif word == "--":
            plain = True
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and name in _VALUED_WORDS[tool]:
                value = words.pop(0) if words else ""
            _apply(command, tool, name, value)
        else:
            _letters(command, tool, word[1:], words)
    return command


def _letters(command: Command, tool: str, letters: str, words: list[str]) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        if tool == "wget" and letter == "n":  # -nv, -nc, -nd: two letters, one option
            command.quiet = command.quiet or letters[:1] == "v"
            letters = letters[1:]
        elif letter in _VALUED_LETTERS[tool]:
            value = letters or (words.pop(0) if words else "")
            letters = ""
            _apply(command, tool, letter, value)
        else:
            _apply(command, tool, letter, "")


def _apply(command: Command, tool: str, name: str, value: str) -> None:
    key = f"{tool} {name}"
    if key in ("wget O", "wget output-document"):
        command.outputs = [value]
    elif key in ("curl o", "curl output"):
        command.outputs.append(value)
    elif key in ("curl O", "curl remote-name", "curl remote-name-all"):
        command.remote_names = True
    elif key in ("wget P", "wget directory-prefix", "curl output-dir"):
        command.folder = value
    elif key == "curl create-dirs":
        command.make_folders = True
    elif key in ("wget q", "wget quiet", "wget no-verbose", "curl s", "curl silent"):
        command.quiet = True
    elif key in ("wget spider", "curl I", "curl head"):
        command.discard = True
    elif key in ("wget method", "curl X", "curl request"):
        command.method = value.upper()
    elif key in ("curl w", "curl write-out"):
        command.write_out = value
    elif key == "curl url":
        _take_url(command, value)
    if name in _SENDING[tool]:
        command.method = "POST"


def _take_url(command: Command, word: str) -> None:
    command.urls.append(word if "://" in word else f"http://{word}")


class Refused(Exception):
    """The server's answer was no file. `code` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def ask(address: str, tool: str, url: str, method: str, verb: str) -> tuple[int, int, IO[bytes]]:
    """Sends one request. Returns the status, the length of the body and the stream it is read from."""
    target = f"/fetch?url={quote(url, safe='')}&tool={tool}&method={quote(method, safe='')}"
    parts = urlsplit(address)
    try:
        connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)
        with connection:
            connection.sendall(f"{verb} {target} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
            stream = connection.makefile("rb")
        status = int(stream.readline().split(b" ")[1])
        length = 0
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
    except (OSError, ValueError, IndexError) as exc:
        raise Refused(f"the pipeline's stand-in server gives no answer ({exc})", _NO_ANSWER[tool]) from exc
    return status, length, stream


def copy(stream: IO[bytes], length: int, target: IO[bytes]) -> None:
    """Copies a body of a known length. Raises EOFError if it ends too early."""
    while length:
        block = stream.read(min(length, 1 << 20))
        if not block:
            raise EOFError
        target.write(block)
        length -= len(block)


def place(command: Command, index: int) -> str:
    """Returns the file that a URL goes to; `-` is standard output."""
    if command.outputs:
        name = command.outputs[min(index, len(command.outputs) - 1)]
        if name == "-" or name.startswith("/"):
            return name
    elif command.remote_names:
        name = urlsplit(command.urls[index]).path.rpartition("/")[2] or "index.html"
    else:
        return "-"
    return os.path.join(command.folder, name) if command.folder else name  # noqa: PTH118


def fetch(address: str, tool: str, command: Command, index: int, written: set[str]) -> None:
    """Fetches one pinned URL and puts it where it belongs."""
    status, length, stream = ask(address, tool, command.urls[index], command.method, "GET")
    if status != 200:
        raise Refused(f"{command.urls[index]}: status {status}", _REFUSED[tool])
    where = place(command, index)
    with stream:
        if command.discard:
            return
        if where == "-":
            copy(stream, length, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        folder = os.path.dirname(where)  # noqa: PTH120
        if folder and command.make_folders:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        # wget -O with several URLs puts them one after the other into the one file.
        with open(where, "ab" if where in written else "wb") as target:  # noqa: PTH123
            written.add(where)
            copy(stream, length, target)
    if not command.quiet:
        print(f"{tool}: {command.urls[index]}: {length} bytes, pinned by the recipe", file=sys.stderr)


def main(argv: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    address, tool, real, *arguments = argv
    command = understand(tool, arguments)
    if not command.urls:
        if real:
            os.execv(real, [tool, *arguments])
        print(f"{tool}: no URL", file=sys.stderr)
        return _BAD_USAGE[tool]
    try:
        answers = [ask(address, tool, url, command.method, "HEAD")[0] for url in command.urls]
        for url, status in zip(command.urls, answers, strict=True):
            if status == 204 and not real:
                raise Refused(f"{url}: {tool} is not installed", _REFUSED[tool])
            if status not in (200, 204):
                raise Refused(f"{url} is not pinned by the recipe, and it refuses all else", _REFUSED[tool])
        if 204 in answers:
            os.execv(real, [tool, *arguments])
        written: set[str] = set()
        for index in range(len(command.urls)):
            fetch(address, tool, command, index, written)
            if command.write_out:
                sys.stdout.write(command.write_out.replace("%{http_code}", "200").replace("\\n", "\n"))
    except Refused as refused:
        print(f"{tool}: {refused}", file=sys.stderr)
        return refused.code
    except (OSError, EOFError) as exc:
        print(f"{tool}: cannot write: {exc}", file=sys.stderr)
        return _CANNOT_WRITE[tool]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

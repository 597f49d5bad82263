"""A loopback server that stands in for what a build downloads outside Maven and npm.

    GET /some/path               a pinned file whose URL is `{loopback}/some/path`
    GET /fetch?url=U&tool=T      the pinned file of that URL: 200 and its bytes
                                 else 403 (refused) or 204 (allowed: the tool may go there itself)

It listens on 127.0.0.1 at a port that the kernel picks, in threads of the pipeline's own process, and writes
down every request. What must not live here: what the tools' command lines mean (`standin_client`, a program
of its own that runs in the build as `wget` and `curl`).

Non-guarantee: a program that opens a connection without `wget`, `curl` or an address of this server is not
seen.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import parse_qs, urlsplit

from pipeline.errors import ConfigInvalid
from pipeline.records.builds import Download, DownloadSubstitute

LOOPBACK: Final = "{loopback}"
#: Requests that are written down; a build that makes more is told apart by the last one's text.
_MAXIMUM_RECORDED: Final = 1000
_MAXIMUM_URL: Final = 2000
_READ_TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Pinned:
    """One file with the URL under which it is served. `content` is its bytes, or the file that holds them."""

    url: str
    content: bytes | Path
    sha256: str
    size_bytes: int

    def open(self) -> BinaryIO:
        """Opens the bytes for reading."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")


def pin(substitute: DownloadSubstitute, folder: Path) -> Pinned:
    """Reads a recipe's download and holds it against its digest. Raises ConfigInvalid if they differ."""
    content: bytes | Path
    if substitute.text is not None:
        content = substitute.text.encode()
        found, size = hashlib.sha256(content).hexdigest(), len(content)
    else:
        content = folder / (substitute.file or "")
        try:
            with content.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError as exc:
            raise ConfigInvalid(
                f"The pinned file {substitute.file!r} cannot be read ({exc.strerror})",
                remedy="Put it beside the recipe.",
            ) from exc
    if found != substitute.sha256:
        raise ConfigInvalid(
            f"What is pinned for {substitute.url} has the digest {found}, not {substitute.sha256}",
            remedy="Restore the file, or write the new digest into the recipe.",
        )
    return Pinned(substitute.url, content, found, size)


class StandIn:
    """The server. Use it in a `with` statement; `downloads` may be asked at any time."""

    def __init__(self, pinned: Sequence[Pinned], *, refuse_unpinned: bool) -> None:
        self._pinned = {one.url: one for one in pinned}
        self._refuse = refuse_unpinned
        self._requests: list[Download] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.standin = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="stand-in", daemon=True
        )

    @property
    def address(self) -> str:
        """Returns `http://127.0.0.1:PORT`, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening. May be called twice, and before the server was started."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def downloads(self) -> list[Download]:
        """Returns what was asked for so far, in order, at most `_MAXIMUM_RECORDED` requests."""
        with self._lock:
            return list(self._requests)

    def look_up(self, url: str) -> Pinned | None:
        """Returns the pinned file of a URL, which may be one of this server itself."""
        return self._pinned.get(self._without_port(url))

    def _without_port(self, url: str) -> str:
        """Returns a URL as it is in the recipe: this server's address changes with every build."""
        own = self.address + "/"
        return f"{LOOPBACK}/{url.removeprefix(own)}" if url.startswith(own) else url

    def decide(self, url: str, tool: str, pinned: Pinned | None, *, asking: bool) -> HTTPStatus:
        """Decides on a request and writes it down. `asking`: the tool only asks whether it may."""
        shown = self._without_port(url)[:_MAXIMUM_URL]
        if pinned is not None:
            if not asking:
                digest, size = pinned.sha256, pinned.size_bytes
                self._record(Download(url=shown, tool=tool, status="served", sha256=digest, size_bytes=size))
            return HTTPStatus.OK
        self._record(Download(url=shown, tool=tool, status="refused" if self._refuse else "passed"))
        return HTTPStatus.FORBIDDEN if self._refuse else HTTPStatus.NO_CONTENT

    def _record(self, download: Download) -> None:
        with self._lock:
            if len(self._requests) < _MAXIMUM_RECORDED - 1:
                self._requests.append(download)
            elif len(self._requests) == _MAXIMUM_RECORDED - 1:
                more = {"url": "(more requests than are written down)", "status": "refused"}
                self._requests.append(download.model_copy(update=more))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    standin: StandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of the build, and nothing may be printed over its progress."""


class _Handler(BaseHTTPRequestHandler):
    """One connection. Garbage is answered by the base class with 400 or 501, and leaves no trace."""

    server: _Server
    server_version = "stand-in"
    sys_version = ""
    timeout = _READ_TIMEOUT_SECONDS

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        standin = self.server.standin
        try:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query, errors="replace", max_num_fields=20)
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        asking = self.command == "HEAD"
        if parts.path == "/fetch" and "url" in query:
            url, tool = query["url"][0], query.get("tool", ["unknown"])[0][:20]
            plain = query.get("method", ["GET"])[0] in ("GET", "HEAD")
            pinned = standin.look_up(url) if plain else None
            status = standin.decide(url, tool, pinned, asking=asking)
        else:
            url = LOOPBACK + parts.path
            pinned = standin.look_up(url)
            status = HTTPStatus.OK if pinned else HTTPStatus.NOT_FOUND
            if pinned or not asking:
                standin.decide(url, "loopback", pinned, asking=asking)
        self._send(status, pinned, body=not asking)

    def _send(self, status: HTTPStatus, pinned: Pinned | None, *, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(pinned.size_bytes if pinned else 0))
        self.send_header("Content-Type", "application/octet-stream")
        if pinned:
            self.send_header("ETag", f'"{pinned.sha256}"')
        self.end_headers()
        if pinned and body:
            with pinned.open() as file:
                shutil.copyfileobj(file, self.wfile)

    def version_string(self) -> str:
        return self.server_version

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the requests are in the manifest."""

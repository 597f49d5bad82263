"""The HTTP of the stand-in server: see `standin`, which decides what is served."""

from __future__ import annotations

import shutil
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from pipeline.builds.standin import LOOPBACK, Pinned, StandIn

_READ_TIMEOUT_SECONDS: Final = 30.0


class Server(ThreadingHTTPServer):
    """Answers what comes in on a socket that listens already. Each connection has a thread of its own."""

    daemon_threads = True
    timeout = 0  # `handle_request` never waits: whoever calls it knows that there is something

    def __init__(self, listening: socket.socket, standin: StandIn) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        listening.setblocking(False)
        self.socket = listening
        self.standin = standin

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of the build, and nothing may be printed over its progress."""


class _Handler(BaseHTTPRequestHandler):
    """One connection. Garbage is answered by the base class with 400 or 501, and leaves no trace."""

    server: Server
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

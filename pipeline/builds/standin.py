"""A loopback server that stands in for what a build downloads outside Maven and npm.

    GET /some/path               a pinned file whose URL is `{loopback}/some/path`
    GET /fetch?url=U&tool=T      the pinned file of that URL: 200 and its bytes
                                 else 403 (refused) or 204 (allowed: the tool may go there itself)

It listens on 127.0.0.1 at a port that the kernel picks, in threads of the pipeline's own process, and writes
down every request. The HTTP of it (`standin_server`) is imported when the first connection comes: most builds
make none. What must not live here: what the tools' command lines mean (`standin_client`, a program of its own
that runs in the build as `wget` and `curl`).

Non-guarantee: a program that opens a connection without `wget`, `curl` or an address of this server is not
seen.
"""

from __future__ import annotations

import hashlib
import io
import selectors
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.errors import ConfigInvalid
from pipeline.records.builds import Download, DownloadSubstitute

LOOPBACK: Final = "{loopback}"
#: Requests that are written down; a build that makes more is told apart by the last one's text.
_MAXIMUM_RECORDED: Final = 1000
_MAXIMUM_URL: Final = 2000


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
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._port = int(self._socket.getsockname()[1])
        self._wakeup, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="stand-in", daemon=True)

    @property
    def address(self) -> str:
        """Returns `http://127.0.0.1:PORT`, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening. May be called twice, and before the server was started."""
        if self._thread.is_alive():
            self._waker.send(b"x")
            self._thread.join()
        for each in (self._socket, self._wakeup, self._waker):
            each.close()

    def _serve(self) -> None:
        """Waits for connections, without looking up now and then, until it is closed."""
        server = None
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._wakeup, selectors.EVENT_READ)
            while not any(key.fileobj is self._wakeup for key, _ in selector.select()):
                if server is None:
                    from pipeline.builds.standin_server import Server

                    server = Server(self._socket, self)
                server.handle_request()

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

"""A git host that asks for a password: `git http-backend` and an LFS store behind Basic authentication."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from tests.contracts.web import _Backend

USER = "builder"
PASSWORD = "correct-horse-7-battery"
#: What must be nowhere: the password, and the header that carries it.
SECRETS = (PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())


@dataclass
class Seen:
    """What a host saw: requests without the right password, and command lines of this machine with it."""

    refused: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    command_lines: set[str] = field(default_factory=set)


class _Host(_Backend):
    root: ClassVar[Path]
    seen: ClassVar[Seen]
    broken_lfs: ClassVar[bool] = False

    def do_GET(self) -> None:
        self._look_at_processes()
        if self.headers.get("Authorization") != f"Basic {SECRETS[1]}":
            self.seen.refused.append(self.path)
            self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="git"'})
            return
        self.seen.accepted.append(self.path)
        if self.path.startswith("/lfs/"):
            self._answer(200, (self.root / "lfs" / Path(self.path).name).read_bytes(), {})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._batch()
        elif "/info/lfs/" in self.path:
            self._answer(404, b"{}", {"Content-Type": "application/vnd.git-lfs+json"})
        else:
            self.path = f"{self.root}{self.path}"
            super().do_GET()

    do_POST = do_GET

    def _batch(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.broken_lfs:
            self._answer(500, b"broken", {})
            return
        base = f"http://{self.headers['Host']}/lfs"
        objects = [
            {**each, "actions": {"download": {"href": f"{base}/{each['oid']}"}}} for each in asked["objects"]
        ]
        body = json.dumps({"transfer": "basic", "objects": objects}).encode()
        self._answer(200, body, {"Content-Type": "application/vnd.git-lfs+json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _look_at_processes(self) -> None:
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = place.read_bytes()
            except OSError:
                continue
            if any(secret.encode() in words for secret in SECRETS):
                self.seen.command_lines.add(words.decode(errors="replace"))


class Host:
    """One running host. Repositories lie below `root`, LFS objects in `root/lfs` by their digest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen = Seen()
        (root / "lfs").mkdir(parents=True)
        self._handler = type("Handler", (_Host,), {"root": root, "seen": self.seen})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler)
        self.server.daemon_threads = True

    def address(self, path: str, *, password: bool = True) -> str:
        """Returns a repository's address, with the password in it or without."""
        user = f"{USER}:{PASSWORD}@" if password else ""
        return f"http://{user}127.0.0.1:{self.server.server_address[1]}/{path}"

    def break_lfs(self) -> None:
        """Lets every question for an LFS object end with an error of the server."""
        self._handler.broken_lfs = True  # type: ignore[attr-defined]

    def keep_lfs(self, data: bytes) -> None:
        """Puts an object into the LFS store."""
        (self.root / "lfs" / hashlib.sha256(data).hexdigest()).write_bytes(data)


@contextmanager
def serve_with_password(root: Path) -> Iterator[Host]:
    """Runs a host until the block ends."""
    host = Host(root)
    thread = threading.Thread(target=host.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.server.shutdown()
        thread.join()
        host.server.server_close()

"""Two builders: an sshd each, and this user's ssh configuration in which both can be reached by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.records.comparison import Comparison
from pipeline.runtime.comparison import compare_here
from tests.sshd import Sshd

_HOST = """\
Host {name}
    HostName {server.host}
    Port {server.port}
    User {server.user}
    IdentityFile "{server.identity}"
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile "{known_hosts}"
    GlobalKnownHostsFile /dev/null
"""


@dataclass(frozen=True)
class Builder:
    """A server as a builder: under which name, and where its files lie."""

    name: str
    server: Sshd
    root: Path
    config: Path
    known_hosts: Path

    @property
    def place(self) -> str:
        """Returns its folder as it is typed."""
        return f"{self.server.user}@{self.name}:{self.root}"

    @property
    def key(self) -> str:
        """Returns its host key as `known_hosts` has it."""
        return " ".join(self.server.identity.with_name("host_key.pub").read_text().split()[:2])

    def knows(self, line: str) -> None:
        """Replaces what this machine knows of its host key."""
        self.known_hosts.write_text(line)

    def with_option(self, line: str) -> None:
        """Puts an option before all others of this user's ssh configuration for it."""
        self.config.write_text(f"Host {self.name}\n    {line}\n{self.config.read_text()}")

    @contextmanager
    def running(self, command: str) -> Iterator[None]:
        """Makes it run this instead of what it is asked to; that is in $SSH_ORIGINAL_COMMAND."""
        quoted = command.replace("\\", "\\\\").replace('"', '\\"')
        with self.allowing(f'command="{quoted}"'):
            yield

    @contextmanager
    def allowing(self, options: str) -> Iterator[None]:
        """Lets the key in with these options alone."""
        allowed = self.server.identity.with_name("authorized_keys")
        before = allowed.read_text()
        allowed.write_text(f"{options} {before}")
        try:
            yield
        finally:
            allowed.write_text(before)


def reached(name: str, server: Sshd, home: Path, root: Path) -> Builder:
    """Writes a server into this user's ssh configuration and returns it as a builder."""
    (home / ".ssh").mkdir(exist_ok=True, mode=0o700)
    config, known_hosts = home / ".ssh/config", home / ".ssh" / f"known-{name}"
    known_hosts.write_text(server.known_hosts.read_text())
    with config.open("a") as file:
        file.write(_HOST.format(name=name, server=server, known_hosts=known_hosts))
    root.mkdir(exist_ok=True)
    return Builder(name, server, root, config, known_hosts)


def configured(home: Path, host_key: str = "", machine_id: str = "", **builders: Builder) -> None:
    """Writes these builders into this machine's settings, all with the same pins."""
    pins = {"host_key": host_key, "machine_id": machine_id}
    lines = []
    for name, builder in builders.items():
        words = {"address": builder.name, "root": str(builder.root), **{k: v for k, v in pins.items() if v}}
        lines += [f"[builders.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in words.items())]
    (home / ".pipeline").mkdir(exist_ok=True)
    (home / ".pipeline/config.toml").write_text("\n".join(lines))


def compared(left: str, right: str) -> Comparison:
    """Compares two sides as the task does."""
    return compare_here(left, right, lambda text: None)

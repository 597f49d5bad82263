"""Whom ssh lets in here: which keys a machine is known by, and which are tried to log in on it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

from paramiko import Agent, PKey, SSHConfig, SSHException
from paramiko.auth_strategy import AuthStrategy, InMemoryPrivateKey
from paramiko.client import MissingHostKeyPolicy

from pipeline.edge.hosts import Host, HostKey, KnownKey, check_key, find_keys
from pipeline.edge.identity import expanded
from pipeline.edge.plain_file import read_plain
from pipeline.edge.ssh_config import read_text
from pipeline.errors import ConfigInvalid, UsageError

_KNOWN_BYTES: Final = 16 << 20
_USUAL_KEYS: Final = tuple(f"~/.ssh/id_{kind}" for kind in ("ed25519", "ecdsa", "rsa"))
_USUAL_KNOWN: Final = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
_SYSTEM_KNOWN: Final = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"


class OnlyKnown(MissingHostKeyPolicy):  # type: ignore[misc]
    """Asked about every host key, for the client itself is told none."""

    def __init__(self, host: Host, name: str, known: Sequence[KnownKey], file: str, scan: bool) -> None:
        self._asked = (host, name, known)
        self._file, self._scan = file, scan

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        check_key(*self._asked, HostKey(key.get_name(), key.asbytes()), file=self._file, scan=self._scan)


class _Key(InMemoryPrivateKey):  # type: ignore[misc]
    """A key that is tried, with what is told of it."""

    def __init__(self, username: str, key: Any, told: str) -> None:
        super().__init__(username, key)
        self.told = told


class Keys(AuthStrategy):  # type: ignore[misc]
    """The agent's keys and those of files, in ssh's order, and never a question."""

    def __init__(self, ssh_config: Any, fabric_config: Any, username: str) -> None:
        super().__init__(ssh_config)
        self._user = username

    def get_sources(self) -> Iterator[_Key]:
        """Yields the keys to try: files that the agent holds, the other files, the rest of the agent."""
        files = dict(self._files())
        only = self.ssh_config.get("identitiesonly", "no") == "yes"
        asked = self.ssh_config.get("identityagent", "").lower() != "none"
        agent = Agent() if asked else None
        try:
            held = {key.asbytes(): key for key in agent.get_keys()} if agent else {}
            for path, (blob, key) in files.items():
                if blob in held:
                    yield _Key(self._user, held.pop(blob), f"{path} from the agent")
                elif key is not None:
                    yield _Key(self._user, key, path)
            for key in () if only else held.values():
                yield _Key(self._user, key, f"{key.comment or key.get_name()} from the agent")
        finally:
            if agent is not None:
                agent.close()

    def _files(self) -> Iterator[tuple[str, tuple[bytes | None, Any]]]:
        """Yields each file of keys with its public bytes, and the key unless it is encrypted."""
        for path in self.ssh_config.get("identityfile", _USUAL_KEYS):
            place = expanded(path)
            key = None
            with contextlib.suppress(Exception):  # encrypted, of another form, or not there
                key = PKey.from_path(place)
            blob = key.asbytes() if key is not None else _public(place)
            if blob is not None:
                yield str(place), (blob, key)


def _public(place: Path) -> bytes | None:
    """Returns the public half of an encrypted key, which lies beside it, or None."""
    try:
        words = read_plain(place.with_name(place.name + ".pub"), limit=_KNOWN_BYTES, follow=True)
    except OSError:
        return None
    found = find_keys("key", f"key {words.decode(errors='replace')}", "")
    return found[0].key.blob if found else None


def read_hop(text: str) -> Host:
    """Reads one machine as `ProxyJump` has it: `[user@]host[:port]`, or `ssh://…`. Raises UsageError."""
    user, at, rest = text.strip().removeprefix("ssh://").rpartition("@")
    address, colon, port = rest.rpartition(":")
    if not colon or (rest.count(":") > 1 and not rest.startswith("[")):
        address, port = rest, ""
    if rest.startswith("[") and rest.endswith("]"):
        address, port = rest, ""
    try:
        return Host(address.strip("[]"), user if at else None, int(port) if port else None)
    except ValueError:
        raise UsageError(
            f"{text!r} is no machine to jump over.", remedy="Write [user@]host[:port]."
        ) from None


def read_config() -> Any:
    """Reads ssh's configuration, the user's before the machine's. Raises ConfigInvalid."""
    config = SSHConfig()
    for file in (expanded("~/.ssh/config"), Path("/etc/ssh/ssh_config")):
        try:
            config.parse(StringIO(read_text(file)))
        except (SSHException, OSError, ValueError) as exc:
            raise ConfigInvalid(f"`{file}` cannot be read: {in_words(exc)}.", remedy="Correct it.") from exc
    return config


def known_files(words: Any) -> list[str]:
    """Returns the files of known keys, the user's first, as ssh's configuration of a machine names them."""
    files = shlex.split(words.get("userknownhostsfile", _USUAL_KNOWN))
    return files + shlex.split(words.get("globalknownhostsfile", _SYSTEM_KNOWN))


def known_keys(words: Any, name: str) -> list[KnownKey]:
    """Returns the keys that this machine knows another by."""
    found: list[KnownKey] = []
    for file in known_files(words):
        try:
            text = read_plain(expanded(file), limit=_KNOWN_BYTES, follow=True)
        except OSError:  # what cannot be read makes no key known
            continue
        found += find_keys(name, text.decode(errors="replace"), file)
    return found


def in_words(exc: BaseException) -> str:
    """Returns an error in words, on one line."""
    told = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return " ".join(str(told).split())[:300].rstrip(".")

"""Machines that SSH reaches: how one is written, and what is known of its key. PURE.

The keys of `known_hosts` are looked up as OpenSSH does it: patterns, `!`, hashed names, `@revoked`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Final

from pipeline.errors import HostRefused, UsageError

USUAL_PORT: Final = 22
#: Nothing that begins like an option, and nothing that means anything to a shell.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|[0-9A-Fa-f:]{2,45}(?:%[A-Za-z0-9_.-]+)?")
_USER: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@$-]{0,63}")
_FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_KIND: Final = re.compile(r"[a-z0-9][a-z0-9@.-]{0,63}")


@dataclass(frozen=True)
class Host:
    """A machine that SSH reaches. None: as ssh's own configuration says.

    `key` is its pinned host key: a fingerprint `SHA256:…`, or a line `ssh-ed25519 AAAA…`.
    """

    address: str
    user: str | None = None
    port: int | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.address):
            raise UsageError(
                f"{self.address!r} is no address of a machine.",
                remedy="Give a host name or an IP address: letters, digits, dots and hyphens, no option.",
            )
        if self.user is not None and not _USER.fullmatch(self.user):
            raise UsageError(f"{self.user!r} is no user's name.", remedy="Write USER@HOST:/PATH.")
        if self.port is not None and not 0 < self.port < 65536:
            raise UsageError(f"{self.port} is no port.", remedy="Give a number from 1 to 65535.")
        if self.key is not None and _pinned(self.key) is None:
            raise UsageError(
                f"{self.key!r} is no host key.",
                remedy="Give what `ssh-keygen -lf` prints (`SHA256:…`), or the key (`ssh-ed25519 AAAA…`).",
            )


@dataclass(frozen=True)
class HostKey:
    """A key that a machine shows: its kind, as `ssh-ed25519`, and its bytes."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """Returns it as `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    @property
    def line(self) -> str:
        """Returns it as a line of `known_hosts` has it, behind the name."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"


@dataclass(frozen=True)
class KnownKey:
    """A key of `known_hosts`, with the file and line that has it."""

    key: HostKey
    place: str
    revoked: bool


def known_name(address: str, port: int, alias: str | None = None) -> str:
    """Returns the name under which a machine stands in `known_hosts`."""
    if alias is not None:
        return alias
    return address.lower() if port == USUAL_PORT else f"[{address.lower()}]:{port}"


def find_keys(name: str, text: str, place: str) -> list[KnownKey]:
    """Returns the keys of one `known_hosts` file for a name. Lines that are none are passed over."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked"):
            continue  # certificate authorities are not asked: without one, a key is unknown
        if not _names(words[0], name):
            continue
        try:
            blob = base64.b64decode(words[2], validate=True)
        except binascii.Error:
            continue
        found.append(KnownKey(HostKey(words[1], blob), f"{place}:{number}", bool(marker)))
    return found


def _names(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(each, validate=True) for each in patterns.split("|")[2:])
        except (ValueError, binascii.Error):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
    matched = False
    for pattern in patterns.lower().split(","):
        wanted = pattern.removeprefix("!").replace("[", "[[]")
        if re.match(translate(wanted), name.lower()):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def preferred_kinds(host: Host, known: Sequence[KnownKey]) -> list[str]:
    """Returns the kinds of key that a machine is asked for first: those by which it is known."""
    pinned = _pinned(host.key) if host.key else None
    if isinstance(pinned, HostKey):
        return [pinned.kind]
    return [each.key.kind for each in known if not each.revoked]


def check_key(
    host: Host, name: str, known: Sequence[KnownKey], shown: HostKey, *, file: str, scan: bool
) -> None:
    """Lets the key pass that is pinned or known. Raises HostRefused for every other, with what to do.

    `name` is the machine's in `known_hosts`, `file` the user's; `scan`: `ssh-keyscan` reaches it from here.
    """
    told = f"{shown.kind} {shown.fingerprint}"
    if any(each.revoked and each.key.blob == shown.blob for each in known):
        raise HostRefused(
            f"{name}: its host key {told} is revoked.", "revoked", remedy="Give that machine a new host key."
        )
    if host.key is not None:
        if _pinned(host.key) in (shown, shown.fingerprint):
            return
        raise HostRefused(
            f"{name}: its host key is {told}, not the pinned {host.key}.",
            "changed",
            remedy="Somebody else may answer in its place. If the machine was set up anew, pin its new key.",
        )
    if any(each.key == shown for each in known if not each.revoked):
        return
    compare = f"`ssh-keygen -lf /etc/ssh/ssh_host_{_stem(shown.kind)}_key.pub` on that machine prints"
    add = f"add the line `{name} {shown.line}` to {file}"
    if scan:
        port = f" -p {host.port}" if host.port not in (None, USUAL_PORT) else ""
        add = f"`ssh-keyscan{port} -t {_stem(shown.kind)} {host.address} >> {file}`"
    others = [each for each in known if not each.revoked]
    if others:
        places = ", ".join(each.place for each in others)
        old = others[0].place.rpartition(":")[0]
        raise HostRefused(
            f"{name}: its host key has changed: it is {told}, and another is known ({places}).",
            "changed",
            remedy=f"Somebody else may answer in its place. Only if {compare} {shown.fingerprint}:"
            f" `ssh-keygen -R '{name}' -f {old}`, then {add}.",
        )
    raise HostRefused(
        f"{name}: its host key is not known: {told}.",
        "unknown",
        remedy=f"If {compare} the same: {add}.",
    )


def _stem(kind: str) -> str:
    return {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(kind, "ecdsa" if "ecdsa" in kind else kind)


def _pinned(text: str) -> HostKey | str | None:
    """Reads a pinned key: a fingerprint, a whole key, or None for what is neither."""
    words = text.split()
    if len(words) == 1 and _FINGERPRINT.fullmatch(words[0]):
        return words[0]
    if len(words) < 2 or not _KIND.fullmatch(words[0]):
        return None
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        return None
    return HostKey(words[0], blob) if blob else None

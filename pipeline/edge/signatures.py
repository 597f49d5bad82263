"""Signatures over stored bytes: the port, and ssh-keygen behind it.

Only `-Y sign` and `-Y verify` are used: `check-novalidate` passes keys that nobody knows, an empty
file of revoked keys passes everything, and `verify-time` revives what has expired. The file of allowed
signers is made for each verification, out of a statement that was verified before: literal names, each key
once.

Guarantee: what `verify` returns was made with the private half of the key that it names, for these bytes and
this kind of statement (`tests/contracts/test_signatures.py`).
Non-guarantee: when. A signature's age is its place in the ledger.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.edge.process import run
from pipeline.errors import CommandFailed, SignatureInvalid
from pipeline.records.keys import PublicKey, read_public_key, signing_key
from pipeline.records.names import is_name
from pipeline.records.statements import Kind

_SECONDS = 30.0
#: What ssh-keygen may see of the environment: where its agent is, and nothing that steers it.
_PASSED = ("PATH", "SSH_AUTH_SOCK", "HOME")


@dataclass(frozen=True)
class Signed:
    """Who made a signature: the name that the key belongs to, and the key's fingerprint."""

    name: str
    key: str


class Signer(Protocol):
    """One private key."""

    @property
    def public_key(self) -> PublicKey:
        """Returns its public half."""

    def sign(self, data: bytes, kind: Kind) -> bytes:
        """Returns an armoured signature. Raises SignatureInvalid where the key cannot be used."""


class Verifier(Protocol):
    """Looks at signatures. Trusts nothing but the keys that it is handed."""

    def verify(
        self, data: bytes, signature: bytes | None, kind: Kind, keys: Mapping[str, Sequence[str]]
    ) -> Signed:
        """Returns who signed these bytes as that kind of statement, of the keys by name.

        Raises SignatureInvalid: `unsigned`, `unknown-key`, `bad-signature`.
        """


class SshSigner:
    """Signs with a key file, or with the agent that holds the key of a `.pub` file."""

    def __init__(self, place: Path) -> None:
        """Reads the public half. Raises SignatureInvalid where there is none that can be used."""
        self._place = place
        public = place if place.suffix == ".pub" else place.with_name(f"{place.name}.pub")
        try:
            self._public = read_public_key(public.read_text())
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            raise SignatureInvalid(
                f"`{public}` is no public key that can be used: {why}.",
                reason="no-key",
                remedy="Make one with `ssh-keygen -t ed25519 -f FILE`.",
            ) from exc

    @property
    def public_key(self) -> PublicKey:
        return self._public

    def sign(self, data: bytes, kind: Kind) -> bytes:
        argv = ["ssh-keygen", "-Y", "sign", "-q", "-f", str(self._place), "-n", kind.value]
        try:
            made = run(argv, input=data, timeout=_SECONDS, env=_environment()).stdout
        except CommandFailed as exc:
            raise SignatureInvalid(
                f"`{self._place}` did not sign: {(exc.stderr_tail.splitlines() or [exc.message])[-1]}.",
                reason="no-key",
                remedy="Is it readable, and without a passphrase or in an agent?",
            ) from exc
        if signing_key(made).text != self._public.text:
            raise SignatureInvalid(f"`{self._place}` and its .pub are two different keys.", reason="no-key")
        return made


class SshVerifier:
    """Verifies with ssh-keygen."""

    def verify(
        self, data: bytes, signature: bytes | None, kind: Kind, keys: Mapping[str, Sequence[str]]
    ) -> Signed:
        name, key = signer_of(signature, keys)
        with tempfile.TemporaryDirectory(prefix="pipeline-signature-") as folder:
            allowed, armour = Path(folder) / "allowed_signers", Path(folder) / "signature"
            allowed.write_text(allowed_signers(keys, kind))
            armour.write_bytes(signature or b"")
            argv = ["ssh-keygen", "-Y", "verify", "-q", "-f", str(allowed), "-I", name, "-n", kind.value]
            argv += ["-s", str(armour)]
            done = run(argv, input=data, timeout=_SECONDS, check=False, env=_environment())
        if done.returncode != 0:
            raise bad_signature(name, kind)
        return Signed(name, key.fingerprint)


def allowed_signers(keys: Mapping[str, Sequence[str]], kind: Kind) -> str:
    """Returns the file that ssh-keygen believes. Raises ValueError for what would make one key two names."""
    lines: list[str] = []
    seen: set[bytes] = set()
    for name, texts in sorted(keys.items()):
        if not is_name("builder", name):
            raise ValueError(f"{name!r} is no literal name")
        for text in texts:
            key = read_public_key(text)
            if key.point in seen:
                raise ValueError(f"the key {key.fingerprint} is there twice")
            seen.add(key.point)
            lines.append(f'{name} namespaces="{kind.value}" {key.text}\n')
    return "".join(lines)


def signer_of(signature: bytes | None, keys: Mapping[str, Sequence[str]]) -> tuple[str, PublicKey]:
    """Returns whose key a signature says it is by, of those that are known. Verifies nothing.

    Raises SignatureInvalid.
    """
    if not signature:
        raise SignatureInvalid("It is not signed.", reason="unsigned")
    try:
        key = signing_key(signature)
    except ValueError as exc:
        raise SignatureInvalid(f"Its signature cannot be read: {exc}.", reason="bad-signature") from exc
    for name, texts in keys.items():
        if key.text in texts:
            return name, key
    raise SignatureInvalid(
        f"It is signed with the key {key.fingerprint}, which nobody is known by here.", reason="unknown-key"
    )


def bad_signature(name: str, kind: Kind) -> SignatureInvalid:
    """Returns the error for a signature that is not of these bytes."""
    what = kind.value.partition("@")[0]
    return SignatureInvalid(
        f"The signature in {name}'s name is not one of these bytes as a statement of the kind `{what}`.",
        reason="bad-signature",
    )


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED if name in os.environ} | {"LC_ALL": "C"}

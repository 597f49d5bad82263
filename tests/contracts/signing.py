"""Signers and verifiers for tests: a fake that is quick, and OpenSSH's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.edge.process import run
from pipeline.edge.signatures import Signed, SshSigner, bad_signature, signer_of
from pipeline.records.keys import PublicKey, read_public_key
from pipeline.records.statements import Kind


def packed(*parts: bytes) -> bytes:
    """Returns strings as SSH writes them: each after its length."""
    return b"".join(struct.pack(">I", len(each)) + each for each in parts)


def key_line(point: bytes, kind: str = "ssh-ed25519", *more: bytes) -> str:
    """Returns the line of a public key."""
    return f"{kind} {base64.b64encode(packed(kind.encode(), point, *more)).decode()}"


def armour(key: PublicKey, kind: str, signature: bytes) -> bytes:
    """Returns a signature in the form in which OpenSSH writes it."""
    blob = b"SSHSIG" + struct.pack(">I", 1) + packed(base64.b64decode(key.text.split()[1]), kind.encode())
    blob += packed(b"", b"sha512", signature)
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""]).encode()


class FakeSigner:
    """A key that is made from its name."""

    def __init__(self, name: str) -> None:
        digest = hashlib.sha256(name.encode()).digest()
        self._key = read_public_key(key_line(digest[:31] + bytes([digest[31] & 0x3F])))

    @property
    def public_key(self) -> PublicKey:
        return self._key

    def sign(self, data: bytes, kind: Kind) -> bytes:
        return armour(self._key, kind.value, _code(self._key, data, kind))


class FakeVerifier:
    """Knows what each fake key would have signed."""

    def verify(
        self, data: bytes, signature: bytes | None, kind: Kind, keys: Mapping[str, Sequence[str]]
    ) -> Signed:
        name, key = signer_of(signature, keys)
        if signature != armour(key, kind.value, _code(key, data, kind)):
            raise bad_signature(name, kind)
        return Signed(name, key.fingerprint)


def _code(key: PublicKey, data: bytes, kind: Kind) -> bytes:
    return hmac.digest(b"private half of " + key.point, kind.value.encode() + b"\0" + data, "sha256")


def ssh_signer(folder: Path, name: str) -> SshSigner:
    """Makes a key with ssh-keygen, and returns it."""
    place = folder / name
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", place], timeout=30)
    return SshSigner(place)

"""Public keys of OpenSSH, read strictly: one key has one text here, and is known by its 32 bytes.

Only Ed25519, in a file or in a security token. Two lines that ssh-keygen takes for different keys can be one
key: a comment, base64 that is written otherwise, the same point under another application's name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

_PLAIN, _TOKEN = "ssh-ed25519", "sk-ssh-ed25519@openssh.com"
#: A coordinate is smaller than this; a larger one would be a second way to write the same point.
_FIELD = 2**255 - 19
_POINT_BYTES = 32
_MAGIC = b"SSHSIG"
_ARMOR = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")
_LARGEST_SIGNATURE_BYTES = 8192


@dataclass(frozen=True)
class PublicKey:
    """One key. `text` is its only spelling here: type and base64, without a comment."""

    text: str
    point: bytes

    @property
    def fingerprint(self) -> str:
        """Returns what `ssh-keygen -l` prints: `SHA256:` and the digest of the key's blob."""
        digest = hashlib.sha256(base64.b64decode(self.text.split(" ")[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def read_public_key(text: str) -> PublicKey:
    """Reads a line of a `.pub` file. Raises ValueError that says what is wrong with it."""
    words = text.split()
    if text.count("\n") > text.endswith("\n") or len(words) < 2:
        raise ValueError("expected one line: a key's type, its base64, and perhaps a comment")
    if words[0] not in (_PLAIN, _TOKEN):
        raise ValueError(f"a key is {_PLAIN} or {_TOKEN}, not {words[0][:40]!r}")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError("the key is not base64") from exc
    if base64.b64encode(blob).decode() != words[1]:
        raise ValueError("the key's base64 is not the canonical one")
    return _read_blob(blob, words[0])


def signing_key(signature: bytes) -> PublicKey:
    """Returns the key that an armoured signature says it was made with; nothing is verified.

    Raises ValueError for what is no signature of OpenSSH.
    """
    if len(signature) > _LARGEST_SIGNATURE_BYTES:
        raise ValueError(f"{len(signature):,} bytes are no signature")
    try:
        lines = signature.decode("ascii").split("\n")
        begin, *body, end, last = lines
        if (begin, end, last) != (*_ARMOR, ""):
            raise ValueError("it is not between the lines that begin and end one")
        blob = base64.b64decode("".join(body), validate=True)
    except (UnicodeDecodeError, binascii.Error, ValueError) as exc:
        raise ValueError(f"no signature of OpenSSH: {exc}") from exc
    if not blob.startswith(_MAGIC + struct.pack(">I", 1)):
        raise ValueError("no signature of OpenSSH, version 1")
    key, _ = _take(blob[len(_MAGIC) + 4 :])
    return _read_blob(key, _word(_take(key)[0]))


def _read_blob(blob: bytes, wanted: str) -> PublicKey:
    kind, rest = _take(blob)
    point, rest = _take(rest)
    if _word(kind) != wanted or wanted not in (_PLAIN, _TOKEN):
        raise ValueError(f"the key says that it is {_word(kind)[:40]!r}")
    if wanted == _TOKEN:
        _, rest = _take(rest)
    if len(point) != _POINT_BYTES or rest:
        raise ValueError("the key has bytes too many or too few")
    if int.from_bytes(point, "little") & ((1 << 255) - 1) >= _FIELD:
        raise ValueError("the key is a second way to write another one")
    return PublicKey(f"{wanted} {base64.b64encode(blob).decode()}", point)


def _word(data: bytes) -> str:
    return data.decode("ascii", "replace")


def _take(data: bytes) -> tuple[bytes, bytes]:
    """Takes one length-prefixed string off, and returns it and the rest."""
    if len(data) < 4:
        raise ValueError("the key ends too early")
    end = 4 + int(struct.unpack_from(">I", data)[0])
    if end > len(data):
        raise ValueError("the key ends too early")
    return data[4:end], data[end:]


def _key_text(value: str) -> str:
    found = read_public_key(value)
    if found.text != value:
        raise ValueError("a key is written as type and base64, without a comment")
    return value


#: A public key in a statement, in its only spelling.
KeyText = Annotated[str, AfterValidator(_key_text)]

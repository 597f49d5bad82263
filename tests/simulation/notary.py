"""Keys of a simulated cluster, and who truly signed what with them.

Signer and verifier are the quick fakes that pass the contract suite of ssh-keygen's
(`tests/contracts/test_signatures.py`). Every signature is noted here when it is made, so the checker knows by
whom a statement in the ledger was signed without asking a verifier; what nobody has signed is not here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from pipeline.edge.signatures import Signed
from pipeline.records.keys import PublicKey
from pipeline.records.statements import Kind, sha256_of
from tests.contracts.signing import FakeSigner, FakeVerifier

ROOT = "root"


@lru_cache(256)
def _key(name: str) -> FakeSigner:
    return FakeSigner(f"simulated {name}")


class Verifier:
    """The quick fake, which remembers what it has verified. Implements the product's port Verifier."""

    def __init__(self) -> None:
        self._verifier = FakeVerifier()
        self._known: dict[object, Signed] = {}

    def verify(
        self, data: bytes, signature: bytes | None, kind: Kind, keys: Mapping[str, Sequence[str]]
    ) -> Signed:
        about = data, signature, kind, tuple((name, *each) for name, each in keys.items())
        if about not in self._known:
            self._known[about] = self._verifier.verify(data, signature, kind, keys)
        return self._known[about]


class NotedSigner:
    """A key whose signatures are noted. Implements the product's port Signer."""

    def __init__(self, notary: Notary, name: str) -> None:
        self._notary, self.name, self._signer = notary, name, _key(name)

    @property
    def public_key(self) -> PublicKey:
        return self._signer.public_key

    @property
    def fingerprint(self) -> str:
        return self.public_key.fingerprint

    def sign(self, data: bytes, kind: Kind) -> bytes:
        signature = self._signer.sign(data, kind)
        self._notary.note(self, data, kind, signature)
        return signature

    def sign_unnoted(self, data: bytes, kind: Kind) -> bytes:
        """Signs what cannot be a statement, so that nobody may take it for one."""
        return self._signer.sign(data, kind)


class Notary:
    """What was truly signed, and truly built, in one run.

    `policies` and `revocations` are those that the root signed, by SHA-256; `built` is what each attempt of a
    job made: the SHA-256 of each file.
    """

    def __init__(self) -> None:
        self._signers: dict[str, NotedSigner] = {}
        self._signatures: dict[tuple[str, bytes], dict[bytes, str]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.revocations: dict[str, dict[str, Any]] = {}
        self.built: dict[str, dict[int, Mapping[str, str]]] = {}

    def signer(self, name: str) -> NotedSigner:
        """Returns the key of a name, which is made when it is first asked for."""
        if name not in self._signers:
            self._signers[name] = NotedSigner(self, name)
        return self._signers[name]

    def note(self, signer: NotedSigner, data: bytes, kind: Kind, signature: bytes) -> None:
        self._signatures.setdefault((kind.value, data), {})[signature] = signer.fingerprint
        if signer.name == ROOT and kind is Kind.POLICY:
            self.policies[sha256_of(data)] = json.loads(data)
        elif signer.name == ROOT and kind is Kind.REVOCATIONS:
            self.revocations[sha256_of(data)] = json.loads(data)

    def signed_by(self, data: bytes, signature: bytes | None, kind: Kind) -> str | None:
        """Returns the fingerprint of the key with which these bytes were signed so; None: with none."""
        return self._signatures.get((kind.value, data), {}).get(signature or b"")

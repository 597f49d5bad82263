"""One suite over every implementation of the port for signatures; and what ssh-keygen does when it is let."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.edge.process import run
from pipeline.edge.signatures import Signer, SshSigner, SshVerifier, Verifier, allowed_signers
from pipeline.errors import SignatureInvalid
from pipeline.records.statements import Kind
from tests.contracts.signing import FakeSigner, FakeVerifier, ssh_signer

Make = Callable[[str], Signer]
DATA = b'{\n  "kind": "attestation"\n}\n'


@pytest.fixture(params=["fake", "ssh-keygen"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Make, Verifier]:
    """A maker of keys, and a verifier of what they sign."""
    if request.param == "fake":
        return FakeSigner, FakeVerifier()
    return lambda name: ssh_signer(tmp_path, name), SshVerifier()


def known(**signers: Signer) -> dict[str, list[str]]:
    return {name: [signer.public_key.text] for name, signer in signers.items()}


#: Where the key ends in what is between the armour's lines: magic, version, and 51 bytes after their length.
KEY_END = 6 + 4 + 4 + 51


def opened(signature: bytes) -> bytes:
    return base64.b64decode(b"".join(signature.split(b"\n")[1:-2]))


def closed(blob: bytes) -> bytes:
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    begin, end = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
    return "\n".join([begin, *lines, end, ""]).encode()


def refused(verifier: Verifier, data: bytes, signature: bytes | None, keys: dict[str, list[str]]) -> str:
    with pytest.raises(SignatureInvalid) as caught:
        verifier.verify(data, signature, Kind.ATTESTATION, keys)
    return caught.value.reason


def test_it_says_who_signed(port: tuple[Make, Verifier]) -> None:
    """Of several that are known, the one is named whose key it was, with the key."""
    make, verifier = port
    one, two = make("one"), make("two")
    signed = verifier.verify(
        DATA, two.sign(DATA, Kind.ATTESTATION), Kind.ATTESTATION, known(build1=one, build2=two)
    )
    assert (signed.name, signed.key) == ("build2", two.public_key.fingerprint)


def test_what_is_not_signed_is_refused(port: tuple[Make, Verifier]) -> None:
    """No signature, and an empty one, are none."""
    make, verifier = port
    keys = known(build1=make("one"))
    assert [refused(verifier, DATA, each, keys) for each in (None, b"")] == ["unsigned", "unsigned"]


def test_a_key_that_nobody_has_is_refused(port: tuple[Make, Verifier]) -> None:
    """A good signature by a key that is not among those known shows nothing; nor where none is known."""
    make, verifier = port
    signature = make("stranger").sign(DATA, Kind.ATTESTATION)
    assert refused(verifier, DATA, signature, known(build1=make("one"))) == "unknown-key"
    assert refused(verifier, DATA, signature, {}) == "unknown-key"


def test_other_bytes_are_refused(port: tuple[Make, Verifier]) -> None:
    """One byte more, less or other, and the signature is not of these."""
    make, verifier = port
    one = make("one")
    signature = one.sign(DATA, Kind.ATTESTATION)
    for data in (DATA + b"\n", DATA[:-1], DATA.replace(b"att", b"aTt"), b""):
        assert refused(verifier, data, signature, known(build1=one)) == "bad-signature"


def test_a_signature_means_nothing_for_another_kind(port: tuple[Make, Verifier]) -> None:
    """What was signed as one kind of statement is not signed as any other."""
    make, verifier = port
    one = make("one")
    for kind in set(Kind) - {Kind.ATTESTATION}:
        assert refused(verifier, DATA, one.sign(DATA, kind), known(build1=one)) == "bad-signature"


def test_a_signature_under_another_key_is_refused(port: tuple[Make, Verifier]) -> None:
    """The key that a signature names is the one that it is verified with."""
    make, verifier = port
    one, two = make("one"), make("two")
    first, second = (opened(each.sign(DATA, Kind.ATTESTATION)) for each in (one, two))
    mixed = closed(first[:KEY_END] + second[KEY_END:])
    assert first[:KEY_END] != second[:KEY_END]
    assert closed(first) == one.sign(DATA, Kind.ATTESTATION)
    assert refused(verifier, DATA, mixed, known(build1=one, build2=two)) == "bad-signature"


def test_what_is_no_signature_is_refused(port: tuple[Make, Verifier]) -> None:
    """Garbage, a cut one, one with text around it: none is read for what it might mean."""
    make, verifier = port
    one = make("one")
    good = one.sign(DATA, Kind.ATTESTATION)
    spoiled = [b"yes", b"\0" * 9000, good[:-40], b"x" + good, good + b"x", good.replace(b"SSH", b"PGP")]
    reasons = {refused(verifier, DATA, each, known(build1=one)) for each in spoiled}
    assert reasons == {"bad-signature"}


# ssh-keygen alone, as it was seen; the file that we write lets none of it through.


class Seen:
    """A signature by one key, and ssh-keygen with whatever file of allowed signers it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signer = ssh_signer(folder, "one")
        self.key = self.signer.public_key.text
        (folder / "signature").write_bytes(self.signer.sign(DATA, Kind.ATTESTATION))

    def passes(self, *lines: str, name: str = "build1", also: tuple[str, ...] = ()) -> bool:
        (self.folder / "allowed").write_text("".join(f"{line}\n" for line in lines))
        argv = ["ssh-keygen", "-Y", "verify", *also, "-f", self.folder / "allowed", "-I", name]
        argv += ["-n", Kind.ATTESTATION.value, "-s", self.folder / "signature"]
        return run(argv, input=DATA, check=False, timeout=30).returncode == 0


@pytest.fixture
def seen(tmp_path: Path) -> Seen:
    """One key that has signed."""
    return Seen(tmp_path)


def test_seen_a_pattern_makes_one_key_every_builder(seen: Seen) -> None:
    """ssh-keygen takes `build*` for build1 and for build9; our file has no pattern in it."""
    assert all(seen.passes(f"build* {seen.key}", name=name) for name in ("build1", "build9"))
    with pytest.raises(ValueError, match="no literal name"):
        allowed_signers({"build*": [seen.key]}, Kind.ATTESTATION)


def test_seen_a_list_makes_one_key_two_builders(seen: Seen) -> None:
    """ssh-keygen takes `build1,build2` for both; our file has no list in it."""
    assert all(seen.passes(f"build1,build2 {seen.key}", name=name) for name in ("build1", "build2"))
    with pytest.raises(ValueError, match="no literal name"):
        allowed_signers({"build1,build2": [seen.key]}, Kind.ATTESTATION)


def test_seen_a_key_that_is_listed_twice_is_two_builders(seen: Seen) -> None:
    """ssh-keygen takes a key on two lines for both names; ours is refused, with another comment as well."""
    lines = [f"build1 {seen.key}", f"build2 {seen.key} another comment"]
    assert all(seen.passes(*lines, name=name) for name in ("build1", "build2"))
    with pytest.raises(ValueError, match="twice"):
        allowed_signers({"build1": [seen.key], "build2": [f"{seen.key} another"]}, Kind.ATTESTATION)


def test_seen_check_novalidate_passes_an_unknown_key(seen: Seen) -> None:
    """`check-novalidate` says Good for any key; nothing here asks it."""
    argv = ["ssh-keygen", "-Y", "check-novalidate", "-n", Kind.ATTESTATION.value]
    done = run([*argv, "-s", seen.folder / "signature"], input=DATA, check=False, timeout=30)
    assert done.returncode == 0
    source = Path(SshVerifier.verify.__code__.co_filename).read_text()
    assert '"check-novalidate"' not in source
    assert refused(SshVerifier(), DATA, (seen.folder / "signature").read_bytes(), {}) == "unknown-key"


def test_seen_an_empty_revocation_file_passes(seen: Seen) -> None:
    """ssh-keygen passes everything with an empty file of revoked keys; none is handed to it."""
    (seen.folder / "revoked").write_bytes(b"")
    assert seen.passes(f"build1 {seen.key}", also=("-r", str(seen.folder / "revoked")))


def test_seen_verify_time_revives_an_expired_key(seen: Seen) -> None:
    """A key that has expired passes again for whoever names an earlier time; our file has no times in it."""
    line = f'build1 valid-before="20200101" {seen.key}'
    assert not seen.passes(line)
    assert seen.passes(line, also=("-O", "verify-time=20190101"))
    assert "valid" not in allowed_signers({"build1": [seen.key]}, Kind.ATTESTATION)


def test_seen_a_certificate_authority_stands_for_anybody(seen: Seen) -> None:
    """`cert-authority` would let a key make others; our lines have a name, a namespace and a key."""
    made = allowed_signers({"build1": [seen.key]}, Kind.ATTESTATION)
    assert made == f'build1 namespaces="attestation@cloudstack-build-pipeline" {seen.key}\n'


def test_a_key_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A key that is not there, or that has a passphrase, says so; nobody is asked for one."""
    with pytest.raises(SignatureInvalid, match=r"absent\.pub"):
        SshSigner(tmp_path / "absent")
    locked = tmp_path / "locked"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a long phrase", "-f", locked], timeout=30)
    with pytest.raises(SignatureInvalid, match="did not sign") as caught:
        SshSigner(locked).sign(DATA, Kind.POLICY)
    assert caught.value.reason == "no-key"


def test_a_key_with_another_ones_public_half_is_refused(tmp_path: Path) -> None:
    """What a file signs with is what its .pub says, or nothing is signed."""
    one, two = ssh_signer(tmp_path, "one"), ssh_signer(tmp_path, "two")
    (tmp_path / "one.pub").write_text(two.public_key.text)
    with pytest.raises(SignatureInvalid):
        SshSigner(tmp_path / "one").sign(DATA, Kind.POLICY)
    assert one.public_key != two.public_key

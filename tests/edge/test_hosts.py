"""How a machine is written, and which of its keys is known: as OpenSSH itself says."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from pipeline.edge.hosts import Host, HostKey, check_key, find_keys, known_name, preferred_kinds
from pipeline.errors import HostRefused, UsageError

KEY = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0 " + b"k" * 32)
OTHER = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0 " + b"o" * 32)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "-oProxyCommand=x",
        "a b",
        "a;b",
        "a`b`",
        "$(a)",
        "a/b",
        "a@b",
        "a\nb",
        "é",
        "--",
        "[a]",
        "a:b:z",
        "x" * 300,
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """Nothing that a shell or a program would take for something else is an address."""
    with pytest.raises(UsageError, match="is no address of a machine"):
        Host(address)


@pytest.mark.parametrize("address", ["build2", "10.1.3.177", "a-b.example.org", "::1", "fe80::1%eth0", "A_b"])
def test_addresses_are_taken(address: str) -> None:
    """Names and numbers of both kinds are."""
    assert Host(address).address == address


@pytest.mark.parametrize("user", ["", "-l", "a b", "a;b", "`a`", "a\n", "a:b"])
def test_what_is_no_user_is_refused(user: str) -> None:
    """A user's name is no option and no command."""
    with pytest.raises(UsageError, match="is no user's name"):
        Host("a", user)


@pytest.mark.parametrize("key", ["", "SHA256:abc", "MD5:00:11", "ssh-ed25519", "ssh-ed25519 !!!", "-x AAAA"])
def test_what_is_no_key_is_refused(key: str) -> None:
    """A pin that pins nothing is not taken."""
    with pytest.raises(UsageError, match="is no host key"):
        Host("a", key=key)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port_is_refused(port: int) -> None:
    """A port is a number that there is."""
    with pytest.raises(UsageError, match="is no port"):
        Host("a", port=port)


#: The patterns of a line, and of the names which of them it is for.
PATTERNS = {
    "one": ("build1", {"build1"}),
    "several": ("build1,10.0.0.1", {"build1", "10.0.0.1"}),
    "a star": ("build*", {"build1", "build2"}),
    "a question mark": ("build?", {"build1", "build2"}),
    "all but one": ("build*,!build2", {"build1"}),
    "a port": ("[build1]:2222", {"[build1]:2222"}),
    "upper case": ("BUILD1", {"build1"}),
    "brackets are no set": ("build[12]", set()),
}
NAMES = {"build1", "build2", "10.0.0.1", "[build1]:2222", "other"}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_mean_what_openssh_means(name: str, tmp_path: Path) -> None:
    """Each line is for those names for which `ssh-keygen -F` finds it."""
    patterns, expected = PATTERNS[name]
    text = f"{patterns} {KEY.line}\n"
    assert {each for each in NAMES if find_keys(each, text, "f")} == expected
    (tmp_path / "known").write_text(text)
    for each in NAMES:
        words = ["ssh-keygen", "-F", each, "-f", str(tmp_path / "known")]
        assert (subprocess.run(words, capture_output=True).returncode == 0) == (each in expected)


def test_hashed_names_are_found(tmp_path: Path) -> None:
    """A file whose names are hashed tells the same."""
    file = tmp_path / "known"
    file.write_text(f"[build1]:2222 {KEY.line}\nbuild2 {OTHER.line}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    text = file.read_text()
    assert "build" not in text
    assert [each.key for each in find_keys("[build1]:2222", text, "f")] == [KEY]
    assert [each.key for each in find_keys("build2", text, "f")] == [OTHER]
    assert find_keys("build1", text, "f") == []


@pytest.mark.parametrize(
    "line",
    ["", "#x y z", "build1", "build1 ssh-ed25519", "build1 ssh-ed25519 !!!", "|1|x|y ssh-ed25519 AAAA",
     "|1| a b", f"@cert-authority build1 {KEY.line}", f"@else build1 {KEY.line}"],
)  # fmt: skip
def test_a_line_that_is_none_makes_no_key_known(line: str) -> None:
    """Whatever stands there that is no key of that machine is passed over, and the next line is read."""
    found = find_keys("build1", f"{line}\nbuild1 {OTHER.line}\n", "f")
    assert [(each.key, each.place) for each in found] == [(OTHER, "f:2")]


def refusal(known: str, *, pin: str | None = None, name: str = "build1") -> str:
    """Returns why a key is refused, or nothing."""
    try:
        check_key(Host("build1", key=pin), name, find_keys(name, known, "f"), KEY, file="f", scan=True)
    except HostRefused as exc:
        return exc.reason if KEY.fingerprint in exc.message else "not told"
    return ""


@pytest.mark.parametrize(
    ("known", "pin", "expected"),
    [
        ("", None, "unknown"),
        (f"build1 {KEY.line}", None, ""),
        (f"build1 {OTHER.line}", None, "changed"),
        (f"build1 {OTHER.line}\nbuild1 {KEY.line}", None, ""),
        ("build1 ssh-rsa AAAA", None, "changed"),
        (f"build2 {KEY.line}", None, "unknown"),
        (f"build1 {KEY.line}\n@revoked * {KEY.line}", None, "revoked"),
        (f"@revoked build1 {KEY.line}", KEY.fingerprint, "revoked"),
        ("", KEY.fingerprint, ""),
        ("", KEY.line, ""),
        ("", f"{KEY.line} root@build1", ""),
        (f"build1 {KEY.line}", OTHER.fingerprint, "changed"),
        (f"build1 {KEY.line}", OTHER.line, "changed"),
        ("", f"ssh-rsa {base64.b64encode(KEY.blob).decode()}", "changed"),
    ],
)
def test_only_what_is_known_or_pinned_passes(known: str, pin: str | None, expected: str) -> None:
    """A key passes that is known, or pinned; with a pin, nothing else does; revoked, none."""
    assert refusal(known, pin=pin) == expected


def test_a_machine_is_asked_for_the_key_that_is_known() -> None:
    """Of several kinds of key, the known kind is asked for: another would look like a changed one."""
    known = find_keys("a", f"a ssh-rsa AAAA\n@revoked a ecdsa-sha2-nistp256 AAAA\na {KEY.line}", "f")
    assert preferred_kinds(Host("a"), known) == ["ssh-rsa", "ssh-ed25519"]
    assert preferred_kinds(Host("a", key="ecdsa-sha2-nistp256 AAAA"), known) == ["ecdsa-sha2-nistp256"]


def test_names_in_known_hosts() -> None:
    """As ssh writes them: lower case, another port in brackets, an alias as it is."""
    assert known_name("Build1", 22) == "build1"
    assert known_name("::1", 2222) == "[::1]:2222"
    assert known_name("10.0.0.1", 2222, "build1") == "build1"

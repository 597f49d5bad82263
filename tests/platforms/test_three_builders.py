"""Three builders from their builds to a promotion: each is held against each, and none is the right one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.edge.bare import make_bare
from tests.cluster.tiny import BRANCH, Host
from tests.test_signed_builds import builder, enforce, keys, ran

__all__ = ["builder", "keys"]

pytestmark = pytest.mark.skipif(
    shutil.which("dpkg-buildpackage") is None, reason="dpkg-dev is not installed: ./bootstrap installs it"
)

Make = Callable[..., Host]
NAMES = ("build1", "build2", "build3")


def three(builder: Make, keys: Path) -> list[Host]:
    """Makes three builders over one ledger, each with a key."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "build3", "-f", str(keys / "build3")]
    subprocess.run(words, check=True)
    make_bare(keys / "ledger.git")
    one = builder("build1", ledger=str(keys / "ledger.git"))
    hosts = [one]
    hosts += [builder(n, ledger=str(keys / "ledger.git"), source=str(one.source)) for n in NAMES[1:]]
    ran(one, "ledger.init", "--builders", ",".join(NAMES))
    return hosts


def make(host: Host, word: str) -> None:
    """Has a builder's Maven put another word into its jar, as a broken disk or an attacker would."""
    program = host.folder / "maven/bin/mvn"
    text = program.read_text()
    assert "echo jar >" in text
    program.write_text(text.replace("echo jar >", f"echo {word} >"))


def test_three_of_three_are_promoted(builder: Make, keys: Path) -> None:
    """With k of three, `promote` compares all that it needs by itself, and whoever verifies counts three."""
    hosts = three(builder, keys)
    enforce(hosts[0], keys, 3, *NAMES)
    for host in hosts:
        ran(host, "build", "--branch", BRANCH)
    done = ran(hosts[0], "promote", "--key", str(keys / "operator"), "--json").json()
    assert [each["builder"] for each in done["entry"]["counted"]] == list(NAMES)
    (current,) = hosts[0].home.glob("promoted/*/current")
    verified = ran(hosts[0], "verify", str(current), "--root-key", str(keys / "root.pub")).out
    assert "built alike by build1, build2, build3" in verified


def test_two_of_three_with_dissent(builder: Make, keys: Path) -> None:
    """The third blocks what two agree about, until the operator dismisses its statement by name."""
    hosts = three(builder, keys)
    one, two, other = hosts
    make(other, "another")
    enforce(one, keys, 2, *NAMES)
    for host in hosts:
        ran(host, "build", "--branch", BRANCH)
    found = ran(one, "compare", "--json", code=88).json()
    assert [each["builders"] for each in found["groups"]] == [["build1", "build2"], ["build3"]]
    assert [each["verdict"] for each in found["pairs"]] == ["DIFFER", "AGREE"]
    promote = ("promote", "--key", str(keys / "operator"), "--json")
    assert "Somebody who built the same has other bytes" in ran(one, *promote, code=103).err
    wrong = ran(other, "attest", "--json").json()["sha256"]
    dismissed = [{"sha256": wrong, "reason": "its disk is broken"}]
    enforce(one, keys, 2, *NAMES, dismissed=dismissed)
    for host in (one, two):
        ran(host, "attest")
    entry = ran(one, *promote).json()["entry"]
    assert [each["builder"] for each in entry["counted"]] == ["build1", "build2"]
    assert entry["dismissed"] == [wrong]
    assert one.facts().problems == []

"""A builder that has a key signs what it has built, by itself, from the command line to the ledger."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.tiny import BRANCH, Host, remove

pytestmark = pytest.mark.skipif(
    shutil.which("dpkg-buildpackage") is None, reason="dpkg-dev is not installed: ./bootstrap installs it"
)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A builder with a key, and with the operator's root key pinned."""
    for name in ("root", "build1"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name)]
        subprocess.run(command, check=True)
    root_key = (tmp_path / "root.pub").read_text().strip()
    found = Host(tmp_path / "host", signing_key=str(tmp_path / "build1"), root_key=root_key)
    yield found
    remove(found)


def test_a_build_is_signed_when_it_is_reported(host: Host, tmp_path: Path) -> None:
    """Without a policy that is said and nothing else; with one the statement is in the ledger at once."""
    first = host.invoke("build", "--branch", BRANCH, "--json")
    assert first.code == 0, first.err
    assert "Built, and not signed: " in first.err
    machine = host.invoke("policy.show", "--machine").out.strip()
    draft = host.invoke(
        "policy.init", "-k", "1", "--builder", f"build1={machine}={tmp_path / 'build1.pub'}",
        "--promoter", f"operator={tmp_path / 'root.pub'}",
    )  # fmt: skip
    assert draft.code == 0, draft.err
    signed = host.invoke("policy.sign", "--key", str(tmp_path / "root"))
    assert signed.code == 0, signed.err
    second = host.invoke("build", "--branch", BRANCH, "--json")
    assert second.code == 0, second.err
    assert "not signed" not in second.err
    again = host.invoke("attest", "--json")
    assert again.code == 0, again.err
    told = again.json()
    assert (told["job_id"], told["there"]) == (second.json()["job_id"], True)

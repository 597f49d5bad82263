"""From a key to a promoted set, as an operator types it: builds are signed by themselves, and compared."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.tiny import BRANCH, Ended, Host, remove

pytestmark = pytest.mark.skipif(
    shutil.which("dpkg-buildpackage") is None, reason="dpkg-dev is not installed: ./bootstrap installs it"
)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder of keys: the operator's root key, a promoter's, and two builders'."""
    for name in ("root", "operator", "build1", "build2"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name)]
        subprocess.run(command, check=True)
    return tmp_path


@pytest.fixture
def builder(keys: Path) -> Iterator[Callable[..., Host]]:
    """Makes builders, each with its key and with the root key pinned, which keep their sets in one folder."""
    made: list[Host] = []

    def make(name: str, **settings: str) -> Host:
        shared = {"root_key": (keys / "root.pub").read_text().strip(), "artifacts": str(keys / "artifacts")}
        own = {"signing_key": str(keys / name), "policy": str(keys / "policy")}
        made.append(Host(keys / f"{name}.host", builder=name, **shared, **own, **settings))
        return made[-1]

    yield make
    for host in made:
        remove(host)


def ran(host: Host, *words: str, code: int = 0) -> Ended:
    """Runs a task that ends with this code."""
    done = host.invoke(*words)
    assert done.code == code, (words, done.out, done.err)
    return done


def enforce(host: Host, keys: Path, k: int, *names: str, **more: object) -> None:
    """Puts a policy in force as an operator does, for builders that are on one machine and one disk."""
    machine = ran(host, "policy.show", "--machine").out.strip()
    words = [f"--builder={name}={machine}={keys / name}.pub" for name in names]
    ran(host, "policy.init", "-k", str(k), *words, "--promoter", f"operator={keys / 'operator.pub'}")
    draft = keys / "policy/draft.json"
    said = json.loads(draft.read_text())
    allowed = {"allow_shared_machine": True, "allow_shared_keys": True}
    assert set(said) > {*allowed, *more}
    draft.write_text(json.dumps(said | allowed | more))
    ran(host, "policy.sign", "--key", str(keys / "root"))


def test_a_build_is_signed_when_it_is_reported(builder: Callable[..., Host], keys: Path) -> None:
    """Without a policy that is said and nothing else; with one the statement is in the ledger at once."""
    host = builder("build1")
    first = ran(host, "build", "--branch", BRANCH, "--json")
    assert "Built, and not signed: " in first.err
    enforce(host, keys, 1, "build1")
    second = ran(host, "build", "--branch", BRANCH, "--json")
    assert "not signed" not in second.err
    told = ran(host, "attest", "--json").json()
    assert (told["job_id"], told["there"]) == (second.json()["job_id"], True)


def test_what_two_builders_made_alike_is_promoted_and_verified(
    builder: Callable[..., Host], keys: Path
) -> None:
    """From two builds to a set that anybody can check: compared on the way, refused as long as one has not
    built, and not verified when a byte of it has changed.
    """
    one = builder("build1")
    ran(one, "build", "--branch", BRANCH)
    two = builder("build2", ledger=str(one.ledger), source=str(one.source))
    enforce(one, keys, 2, "build1", "build2")
    ran(one, "attest")
    promote = ("promote", "--key", str(keys / "operator"), "--json")
    assert "No commit has been built by two builders" in ran(one, *promote, code=87).err
    ran(two, "build", "--branch", BRANCH)
    ran(one, *promote)
    (current,) = one.home.glob("promoted/*/current")
    verify = ("verify", str(current), "--root-key", str(keys / "root.pub"))
    assert "built alike by build1, build2" in ran(one, *verify).out
    package = next((current / "files").iterdir())
    package.write_bytes(package.read_bytes() + b"x")
    assert "has other bytes than were promoted" in ran(one, *verify, code=104).err


def date_it(host: Host) -> None:
    """Has the tree write the time of its build into a package, as `java.util.Properties` does."""
    rules = host.source / "debian/rules"
    dated = (
        "\tprintf '#%s\\nversion=1\\n' \"$$(LC_ALL=C TZ=UTC date '+%a %b %d %H:%M:%S %Z %Y')\""
        " > debian/tiny/usr/share/tiny/built.properties\n"
    )
    text = rules.read_text()
    assert "\tdpkg-gencontrol" in text
    rules.write_text(text.replace("\tdpkg-gencontrol", dated + "\tdpkg-gencontrol"))
    who = ("-c", "user.name=Sample Author", "-c", "user.email=sample@example.invalid")
    subprocess.run(["git", "-C", str(host.source), *who, "commit", "-qam", "dated"], check=True)


def test_what_differs_in_its_date_is_promoted_as_what_it_comes_to(
    builder: Callable[..., Host], keys: Path
) -> None:
    """Two builds of which each has its own date are promoted without it, once the policy allows that and both
    builders have signed what their own comes to; nothing before.
    """
    one = builder("build1")
    date_it(one)
    ran(one, "build", "--branch", BRANCH)
    two = builder("build2", ledger=str(one.ledger), source=str(one.source))
    ran(two, "build", "--branch", BRANCH)
    found = keys / "comparison.json"
    found.write_text(ran(one, "compare", "--json", code=3).out)
    enforce(one, keys, 2, "build1", "build2")
    promote = ("promote", "--key", str(keys / "operator"))
    sign = ("attest", "--comparison", str(found))
    assert "'properties-date', which the policy does not allow" in ran(one, *sign, code=107).err
    assert "'properties-date', which the policy does not allow" in ran(one, *promote, code=103).err
    enforce(one, keys, 2, "build1", "build2", normalisers=["properties-date"])
    digests = [ran(host, *sign, "--json").json()["artifacts"] for host in (one, two)]
    assert digests[0] == digests[1]
    ran(one, *promote)  # compares by itself, to the same
    (current,) = one.home.glob("promoted/*/current")
    verify = ("verify", str(current), "--root-key", str(keys / "root.pub"))
    told = ran(one, *verify).out
    assert "built alike, but for what was normalised, by build1, build2" in told
    assert "the same bytes: properties-date." in told

"""`invoke compare --rebuild` on real builds: what was planted in a tree is named, each by itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.tiny import BRANCH, Ended, Host, finish, remove, wait_until
from tests.test_main_job import invoke

pytestmark = [pytest.mark.timeout(900)]

#: What each file of the package is made by, and what has to be named for it.
PLANTED: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "host": ("hostname", "host-dependent", ("host",)),
    "user": ("id -un", "host-dependent", ("user",)),
    "folder": ("pwd", "host-dependent", ("folder",)),
    "zone": ("date -d @1748736000 +%H:%M:%S", "host-dependent", ("timezone",)),
    "sorted": ("printf 'b\\nA\\na\\nB\\n' | sort", "host-dependent", ("locale",)),
    "threads": ("for each in $(seq $(nproc)); do echo part $each; done", "host-dependent", ("cores",)),
    "both": ('echo "$(id -un)@$(hostname)"', "host-dependent", ("user", "host")),
    "random": ("cat /proc/sys/kernel/random/uuid", "random", ()),
    "clock": ("date -u '+Generated %Y-%m-%d %H:%M:%S'; sleep 1", "time-dependent", ("clock",)),
    "gone": ("cat {switches}/gone || echo no more", "transient", ()),
    "same": ("uname -m", "", ()),
}
#: A machine with other work takes its time.
SECONDS = 800.0

#: Builds as `build2`, which differs in all that can differ on one machine.
AS_BUILD2 = """
import sys
from dataclasses import replace
from pathlib import Path
from pipeline.builds.variation import Variation
from pipeline.operations.build import Order, build
from pipeline.runtime import make_site
site = make_site(lambda text: print(text, file=sys.stderr), builder="build2")
more = dict({more})
work = more.pop("work", site.settings.work.with_name("work-build2"))
varied = Variation("Asia/Kathmandu", "ann", "elsewhere", **more)
site = replace(site, settings=replace(site.settings, work=work), variation=varied)
(report,) = build(site, Order(branch=sys.argv[1]))
sys.exit(report.status != "succeeded")
"""


def plant(host: Host, lines: Mapping[str, str]) -> None:
    """Puts lines of shell into the packaging: each writes a file of the package."""
    rules = host.source / "debian" / "rules"
    text = rules.read_text()
    more = "".join(
        f"\t( {line.replace('{switches}', str(host.switches)).replace('$', '$$')} )"
        f" > debian/tiny/usr/share/tiny/{name}\n"
        for name, line in lines.items()
    )
    text = text.replace("\tdpkg-gencontrol", f"{more}\tdpkg-gencontrol")
    # dpkg-deb wants this one to be readable, whatever the umask.
    rules.write_text(text.replace("\tdpkg-deb", "\tchmod 0755 debian/tiny/DEBIAN; dpkg-deb"))
    words = ["git", "-C", str(host.source), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run([*words, "commit", "-qam", "plants"], check=True)


def build_both(host: Host, more: str = "", wrapper: tuple[str, ...] = ()) -> None:
    """Has build1 build as it is, and build2 in another environment, where what was there is gone."""
    host.switch("gone", value="still there")
    built = finish(host.start("build", "--branch", BRANCH), SECONDS)
    assert built.code == 0, built.err
    host.unswitch()
    program = AS_BUILD2.replace("{more}", more)
    second = host._start([*wrapper, sys.executable, "-c", program, BRANCH], {})
    ended = finish(second, SECONDS)
    assert ended.code == 0, ended.err


def findings(done: Ended) -> dict[str, dict[str, Any]]:
    """Returns what was told of each file of the package, by its name."""
    found = json.loads(done.out)
    return {
        leaf["path"][-1].rsplit("/", 1)[-1]: leaf["rebuilt"]
        for artifact in found["artifacts"]
        for leaf in artifact["leaves"]
        if leaf.get("rebuilt")
    }


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A builder whose tree is there and whose processes are all ended with the test."""
    made = Host(tmp_path / "host")
    yield made
    made.unswitch()
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)
    remove(made)


def test_each_thing_is_named(host: Host, tmp_path: Path) -> None:
    """Of builds that differ in everything at once, each file has the thing that makes it, and no other."""
    locales = tmp_path / "locales"
    locales.mkdir()
    words = ["localedef", "-i", "en_US", "-f", "UTF-8", str(locales / "en_US.UTF-8")]
    planted = dict(PLANTED)
    if shutil.which("localedef") is None or subprocess.run(words, capture_output=True).returncode != 0:
        del planted["sorted"]
    recipe = host.folder / "recipe.json"
    settings = json.loads(recipe.read_text()) | {"environment": {"LOCPATH": str(locales)}}
    recipe.write_text(json.dumps(settings))
    host.env["LOCPATH"] = str(locales)
    plant(host, {name: line for name, (line, _, _) in planted.items()})
    more = 'number=4321, umask="077", processors=(0,)'
    build_both(host, more + (', locale="en_US.UTF-8"' if "sorted" in planted else ""))
    before = everything(host)
    done = finish(host.start("compare", "--rebuild", "--json"), SECONDS)
    assert done.code == 88, done.err
    found = findings(done)
    made = {name: (each["kind"], set(each["makes"])) for name, each in found.items()}
    wanted = {name: (kind, set(makes)) for name, (_, kind, makes) in planted.items() if kind}
    modes = made.pop("data.tar")
    assert modes == ("host-dependent", {"umask"})
    assert made == wanted, json.dumps(json.loads(done.out)["rebuilds"], indent=1)
    assert found["both"]["how"] == "together"
    # Nothing of it is anywhere but in what was printed, and in the comparison that is kept.
    assert everything(host) - before == {"coordination/comparisons.json"}
    assert left_behind(host) == []
    (kept,) = host.home.glob("artifacts/.comparisons/*.json")
    assert json.loads(kept.read_text())["rebuilds"] == json.loads(done.out)["rebuilds"]


def test_the_order_of_files_is_named(host: Host) -> None:
    """What lists a folder as the file system does is found out by a build that lists it backwards."""
    shared = Path("/dev/shm")
    if shutil.which("disorderfs") is None or os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("disorderfs is not installed, or this user may not mount")
    if "tmpfs" not in subprocess.check_output(["stat", "-f", "-c", "%T", shared], text=True):
        pytest.skip("there is no other kind of file system")
    plant(host, {"listed": "mkdir -p many; for each in $(seq 40); do : > many/$each; done; ls -U many"})
    with tempfile.TemporaryDirectory(dir=shared) as other:
        build_both(host, f"number=4321, work=Path({other!r})")
        done = finish(host.start("compare", "--rebuild", "--json"), SECONDS)
    assert done.code == 88, done.err
    found = findings(done)
    assert found["listed"]["makes"] == ["order"], done.out
    assert found["listed"]["text"].endswith("the order in which folders list their files changes it")


def test_another_machines_values_are_tried_on_this_one(host: Host, tmp_path: Path) -> None:
    """What another machine made is not built again; what it had is tried here, and names what makes the
    difference. What only it has stays unknown, and it is said what was not done.
    """
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can be another machine for one process")
    machine = tmp_path / "machine-id"
    machine.write_text(f"{'5e' * 16}\n")
    plant(host, {"zone": PLANTED["zone"][0], "user": PLANTED["user"][0], "only": "cat /etc/machine-id"})
    mount = f'mount --bind {machine} /etc/machine-id && exec "$@"'
    build_both(host, "number=4321", ("unshare", "-m", "sh", "-c", mount, "sh"))
    done = finish(host.start("compare", "--rebuild", "--json"), SECONDS)
    assert done.code == 88, done.err
    found, again = findings(done), json.loads(done.out)["rebuilds"]
    made = {name: (each["kind"], each["makes"]) for name, each in found.items()}
    assert made == {
        "zone": ("host-dependent", ["timezone"]),
        "user": ("host-dependent", ["user"]),
        "only": ("unknown", []),
    }
    assert {each["side"] for each in again["builds"]} == {"left"}
    assert again["notes"] == [
        "build2 is another machine: nothing was built there, its values were tried here."
    ]


@pytest.fixture
def random(host: Host) -> Host:
    """One whose builds hold a random number, and which both builders have built."""
    plant(host, {"random": PLANTED["random"][0]})
    build_both(host)
    return host


def everything(host: Host) -> set[str]:
    """Returns the paths of all that the ledger and the artifacts hold."""
    return {*host.files(""), *map(str, host.home.glob("artifacts/build*/*/*/*"))}


def left_behind(host: Host) -> list[Path]:
    """Returns what lies where builds run."""
    return [each for work in host.home.glob("work*/jobs") for each in work.iterdir()]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interruption_leaves_nothing_behind(random: Host, how: signal.Signals) -> None:
    """Ended in the middle of a build, it has ended that build's processes, removed its files and freed the
    machine; killed, the next recovery removes them.
    """
    facts = random.facts()
    random.switch("hold-maven")
    running = random.start("compare", "--rebuild")
    random.wait_for("at-maven", running)
    assert left_behind(random)
    running.send_signal(how)
    done = finish(running)
    assert done.code == (-9 if how is signal.SIGKILL else 130)
    assert "Traceback" not in done.err
    assert wait_until(lambda: not random.processes())
    random.unswitch()
    if how is signal.SIGKILL:
        assert random.invoke("recover").code == 0
    else:
        assert "interrupted by" in done.err
    assert left_behind(random) == []
    after = random.facts()
    assert (after.jobs, after.locks, after.status) == (facts.jobs, facts.locks, facts.status)
    assert finish(random.start("build", "--branch", BRANCH, "--wait", "0"), SECONDS).code == 0


def test_what_no_longer_builds_is_said(random: Host) -> None:
    """A build that fails now tells nothing of the leaf; the verdict is what it was."""
    random.switch("fail-maven")
    done = finish(random.start("compare", "--rebuild"), SECONDS)
    assert done.code == 88
    assert "build1, again (1 of 2): " in done.out
    assert "failed: unknown in Tiny Core" in done.out or "failed: " in done.out
    assert "Builds made again: 4, 4 of which failed" in done.out
    assert "not known" in done.out
    assert left_behind(random) == []


def test_packages_that_are_gone_are_not_built_again(random: Host) -> None:
    """Where there is nothing left to compare with, nothing is built."""
    for folder in random.home.glob("artifacts/build2/*/*"):
        shutil.rmtree(folder)
    done = random.invoke("compare", "--rebuild")
    assert (done.code, "again" in done.err) == (87, False)
    assert "is not on this machine" in done.err


def test_builds_that_agree_are_left_alone(host: Host) -> None:
    """There is nothing to find out, which is said, and the exit code is that of agreement."""
    built = host.invoke("build", "--branch", BRANCH)
    assert built.code == 0, built.err
    done = finish(host.start("compare", "--rebuild"), SECONDS)
    assert done.code == 0, done.out + done.err
    assert "Nothing was built again: nothing differs." in done.err
    assert "Building build1" not in done.err


@pytest.mark.maven
@pytest.mark.skipif(shutil.which("mvn") is None, reason="Maven is not installed: ./bootstrap installs it")
@pytest.mark.parametrize(
    ("branch", "code", "kind", "makes"),
    [("differs-random", 88, "random", []), ("differs-time", 3, "time-dependent", ["clock"])],
)
def test_the_samples_branches(tmp_path: Path, branch: str, code: int, kind: str, makes: list[str]) -> None:
    """With Maven and debhelper: the random number is random, and the date is the clock's."""
    home = tmp_path / "home"
    built = invoke(home, "build", "--branch", branch)
    assert built.returncode == 0, built.stderr
    done = invoke(home, "compare", "--rebuild", "--json", seconds=SECONDS)
    assert done.returncode == code, done.stderr
    told = [leaf["rebuilt"] for each in json.loads(done.stdout)["artifacts"] for leaf in each["leaves"]]
    assert {(each["kind"], *each["makes"]) for each in told if each} == {(kind, *makes)}

"""`invoke compare --rebuild` on real builds: what was planted in a tree is named, each by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.tiny import BRANCH, Ended, Host, finish, remove

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
#: Kept as modes of files, which is not what they hold.
MODE = "mode"

#: Builds as `build2`, which differs in all that can differ on one machine.
AS_BUILD2 = """
import sys
from dataclasses import replace
from pipeline.builds.variation import Variation
from pipeline.operations.build import Order, build
from pipeline.runtime import make_site
site = make_site(lambda text: print(text, file=sys.stderr), builder="build2")
varied = Variation("Asia/Kathmandu", "ann", "elsewhere", number=4321, {more})
work = site.settings.work.with_name("work-build2")
site = replace(site, settings=replace(site.settings, work=work), variation=varied)
(report,) = build(site, Order(branch=sys.argv[1]))
sys.exit(report.status != "succeeded")
"""


def plant(host: Host, lines: Mapping[str, str]) -> None:
    """Puts lines of shell into the packaging: each writes a file of the package."""
    rules = host.source / "debian" / "rules"
    text = rules.read_text()
    more = "\t" + "\n\t".join(
        f"( {line.replace('$', '$$')} ) > debian/tiny/usr/share/tiny/{name}" for name, line in lines.items()
    )
    text = text.replace(
        "\tdpkg-gencontrol", f"{more}\n\tchmod -R u=rwX,go=rX debian/tiny/DEBIAN\n\tdpkg-gencontrol"
    )
    rules.write_text(text.replace("dpkg-deb --root", "chmod 0755 debian/tiny/DEBIAN; dpkg-deb --root"))
    words = ["git", "-C", str(host.source), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run([*words, "commit", "-qam", "plants"], check=True)


def build_both(host: Host, more: str = "") -> None:
    """Has build1 build as it is, and build2 in another environment."""
    built = host.invoke("build", "--branch", BRANCH)
    assert built.code == 0, built.err
    program = AS_BUILD2.replace("{more}", more)
    second = host._start([sys.executable, "-c", program, BRANCH], {})
    assert finish(second).code == 0


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


def test_each_thing_is_named(tmp_path: Path) -> None:
    """Of a build that depends on everything at once, each file has the thing that makes it, and no other."""
    locales = tmp_path / "locales"
    locales.mkdir()
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "UTF-8", str(locales / "en_US.UTF-8")],
        check=False,
        capture_output=True,
    )
    planted = dict(PLANTED)
    if made.returncode != 0 or not (locales / "en_US.UTF-8").is_dir():
        del planted["sorted"]
    host = Host(tmp_path / "host", recipe=json.dumps({"environment": {"LOCPATH": str(locales)}}))
    host.env["LOCPATH"] = str(locales)
    plant(
        host, {name: line.replace("{switches}", str(host.switches)) for name, (line, _, _) in planted.items()}
    )
    host.switch("gone", value="still there")
    more = 'umask="077", processors=(0,)'
    build_both(host, more + (', locale="en_US.UTF-8"' if "sorted" in planted else ""))
    host.unswitch()
    done = finish(host.start("compare", "--rebuild", "--json"), 800)
    assert done.code == 88, done.err
    print(done.err)
    print(json.dumps(json.loads(done.out)["rebuilds"], indent=1))
    found = findings(done)
    print(json.dumps(found, indent=1))

"""Two builders over SSH, from the words that are typed to the verdict."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pipeline.compare.bundle import READER
from pipeline.compare.showing import Wanted
from pipeline.console.comparison import show_comparison
from pipeline.edge.hosts import find_keys
from pipeline.errors import HostRefused, HostUnreachable
from pipeline.records.comparison import Verdict
from pipeline.runtime.comparison import compare_here
from tests.mounts import needs_mounts
from tests.ssh.servers import Builder, compared, configured

ASKED = 'eval "$SSH_ORIGINAL_COMMAND"'


def test_equal_builders_agree_after_one_question(builders: tuple[Builder, Builder]) -> None:
    """Equal files agree after one question to each side; both are one machine, and none of it is sent."""
    one, two = builders
    found = compared(one.place, two.place)
    assert (found.verdict, found.independent, found.scope) == (Verdict.AGREE, False, "files")
    assert [each.name for each in found.artifacts] == ["a.txt", "sub `x`/-rf $(y).bin"]
    assert found.wire.round_trips == 1
    assert 500 < found.wire.bytes < 4000
    assert found.wire.handshake_bytes > 2000
    assert found.wire.program_bytes > 10_000


def test_what_differs_is_found(builders: tuple[Builder, Builder]) -> None:
    """A side here and one over SSH: one byte differs, and which file that is."""
    one, two = builders
    (two.root / "a.txt").write_bytes(b"samE")
    found = compared(str(one.root), two.place)
    assert [each.verdict for each in found.artifacts] == [Verdict.DIFFER, Verdict.AGREE]
    assert [leaf.what for leaf in found.artifacts[0].leaves] == ["content"]


def test_what_is_shown_travels_over_ssh(builders: tuple[Builder, Builder]) -> None:
    """Both leaves' bytes come from where they lie, packed, and are counted with all that travels."""
    one, two = builders
    lines = [b"line %d\n" % number for number in range(2_000)]
    (one.root / "a.txt").write_bytes(b"".join(lines))
    (two.root / "a.txt").write_bytes(b"".join((*lines[:1_000], b"other\n", *lines[1_001:])))
    without = compared(one.place, two.place)
    found = compare_here(one.place, two.place, lambda text: None, Wanted())
    (display,) = found.artifacts[0].displays
    assert [line for line in display.lines if line[0] in "-+"] == ["-line 1000", "+other"]
    assert found.artifacts[0].model_copy(update={"displays": []}) == without.artifacts[0]
    assert found.wire.round_trips == without.wire.round_trips + 1
    assert 5_000 < found.wire.bytes - without.wire.bytes < 30_000


def test_the_wire_is_told(builders: tuple[Builder, Builder], capsys: pytest.CaptureFixture[str]) -> None:
    """Round trips and bytes are shown, those of the connection and of the readers apart, here and as JSON."""
    found = compared(builders[0].place, builders[1].place)
    assert show_comparison(found) == 0
    shown = capsys.readouterr().out
    assert "in 1 round trip, and " in shown
    assert " to begin (" in shown
    assert show_comparison(found, "json") == 0
    assert set(json.loads(capsys.readouterr().out)["wire"]) == {
        "bytes", "round_trips", "handshake_bytes", "program_bytes", "connect_seconds"
    }  # fmt: skip


def test_a_path_is_only_a_path(builders: tuple[Builder, Builder], home: Path) -> None:
    """Whatever a folder is called, no shell reads its name, and the way to it may go up."""
    one, two = builders
    name = "two words `touch planted` $(touch planted) -rf;touch planted &é\n'\""
    for each in builders:
        (each.root / name).mkdir()
        (each.root / name / "file").write_bytes(b"same")
    found = compared(f"{one.place}/{name}", f"{two.place}/../{two.root.name}/{name}")
    assert [(each.name, each.verdict) for each in found.artifacts] == [("file", Verdict.AGREE)]
    for place in (one.root, one.root.parent, one.server.home, two.server.home, home, Path("/")):
        assert not (place / "planted").exists()


def test_two_files_over_ssh_are_compared_whatever_they_are_called(builders: tuple[Builder, Builder]) -> None:
    """A file against a file, as here."""
    one, two = builders
    (two.root / "b.txt").write_bytes(b"same")
    found = compared(f"{one.place}/a.txt", f"{two.place}/b.txt")
    assert [(each.name, each.verdict) for each in found.artifacts] == [("a.txt", Verdict.AGREE)]


def test_one_folder_by_two_ways_is_incomparable(builders: tuple[Builder, Builder]) -> None:
    """A folder does not agree with itself, also not where it is reached through two servers."""
    one, two = builders
    by_two = f"{two.name}:{one.root}"
    for left, right in ((one.place, f"root@{by_two}"), (str(one.root), one.place), (one.place, one.place)):
        found = compared(left, right)
        assert (found.verdict, found.independent) == (Verdict.INCOMPARABLE, False)


def test_builders_are_found_in_this_machines_settings(builders: tuple[Builder, Builder], home: Path) -> None:
    """A builder's name alone is enough where its folder is set; two on one host are not independent."""
    one, two = builders
    configured(home, build1=one, build2=two)
    found = compared("build1", "build2")
    assert (found.verdict, found.independent) == (Verdict.AGREE, False)
    assert (found.left, found.right) == ("build1", "build2")


def test_a_builder_does_not_agree_with_itself(builders: tuple[Builder, Builder], home: Path) -> None:
    """Not with a copy of its files either; what differs between two of its folders is told all the same."""
    one, two = builders
    configured(home, build1=one)
    found = compared("build1", f"build1:{two.root}")
    assert found.verdict == Verdict.INCOMPARABLE
    assert {each.problem for each in found.artifacts} == {"both sides are the same builder's"}
    (two.root / "a.txt").write_bytes(b"other")
    assert compared("build1", f"build1:{two.root}").verdict == Verdict.DIFFER


def test_a_pinned_key_is_the_only_one(builders: tuple[Builder, Builder], home: Path) -> None:
    """A pinned key needs no `known_hosts`, and where another is pinned, a known one is refused."""
    one, two = builders
    known = find_keys("x", f"x {two.key}", "")[0].key
    configured(home, build1=one, build2=two, host_key=known.fingerprint)
    with pytest.raises(HostRefused, match=r"build1.*not the pinned SHA256") as caught:
        compared("build1", str(two.root))
    assert caught.value.reason == "changed"
    two.knows("")
    assert compared(one.place, "build2").verdict == Verdict.AGREE
    configured(home, build2=two, host_key=two.key)
    assert compared(one.place, "build2").verdict == Verdict.AGREE


def test_a_pinned_machine_is_the_only_one(builders: tuple[Builder, Builder], home: Path) -> None:
    """A machine with another id than the pinned one is refused, and both ids are told."""
    one, two = builders
    configured(home, build2=two, machine_id="0123456789abcdef" * 2)
    with pytest.raises(HostRefused, match="not the pinned 0123456789abcdef") as caught:
        compared(one.place, "build2")
    assert caught.value.reason == "machine"


@contextmanager
def elsewhere(builder: Builder, tmp_path: Path, number: int) -> Iterator[None]:
    """Gives a builder a machine id and a boot id of its own."""
    machine, boot = tmp_path / f"machine-{number}", tmp_path / f"boot-{number}"
    machine.write_text(f"{number}" * 32 + "\n")
    boot.write_text(f"{number:08}-0000-4000-8000-000000000000\n")
    mounts = f"mount --bind {boot} /proc/sys/kernel/random/boot_id; mount --bind {machine} /etc/machine-id"
    with builder.running(f"exec unshare --mount sh -c '{mounts}; {ASKED}'"):
        yield


@needs_mounts
def test_two_machines_are_independent(builders: tuple[Builder, Builder], tmp_path: Path) -> None:
    """Two machines with ids of their own are independent; of one file through both, it is still said."""
    one, two = builders
    with elsewhere(one, tmp_path, 1), elsewhere(two, tmp_path, 2):
        found = compared(one.place, two.place)
        assert (found.verdict, found.independent) == (Verdict.AGREE, True)
        found = compared(one.place, f"root@{two.name}:{one.root}")
        assert (found.verdict, found.independent) == (Verdict.INCOMPARABLE, False)
        assert {each.problem for each in found.artifacts} == {"both machines see one and the same file"}


def test_a_jump_host_is_passed(builders: tuple[Builder, Builder]) -> None:
    """`ProxyJump` of ssh's configuration counts, and `ProxyCommand`."""
    one, two = builders
    two.with_option(f"ProxyJump {one.name}")
    found = compared(str(one.root), two.place)
    assert (found.verdict, found.wire.round_trips) == (Verdict.AGREE, 1)
    words = ["ssh", "-F", str(one.server.config_file), "-W", "%h:%p", one.server.host]
    two.with_option(f"ProxyCommand {shlex.join(words)}")
    assert compared(str(one.root), two.place).verdict == Verdict.AGREE


def test_jump_hosts_are_passed_in_their_order(builders: tuple[Builder, Builder]) -> None:
    """Of several the first is the nearest, as for ssh: each may open nothing but the way to the next."""
    one, two = builders
    server = one.server
    extra = f"    HostName {server.host}\n    Port {server.port}\n    User {server.user}"
    files = f"    IdentityFile {server.identity}\n    UserKnownHostsFile {one.known_hosts}"
    hops = f"Host far3\n    ProxyJump {one.name},{two.name}\n{extra}\n{files}\n"
    one.config.write_text(hops + one.config.read_text())
    to_two, to_three = (f'permitopen="{each.host}:{each.port}"' for each in (two.server, server))
    with one.allowing(to_two), two.allowing(to_three):
        assert compared(str(two.root), f"root@far3:{one.root}").verdict == Verdict.AGREE
        one.config.write_text(one.config.read_text().replace("far1,far2", "far2,far1"))
        with pytest.raises(HostUnreachable, match="cannot be reached from"):
            compared(str(two.root), f"root@far3:{one.root}")


def test_a_jump_host_is_refused_as_well(builders: tuple[Builder, Builder]) -> None:
    """An unknown key on the way is refused like one at its end, and named."""
    one, two = builders
    two.with_option(f"ProxyJump {one.name}")
    one.knows("")
    with pytest.raises(HostRefused, match=str(one.server.port)):
        compared(str(one.root), two.place)
    one.knows(one.server.known_hosts.read_text())
    two.knows("")
    with pytest.raises(HostRefused, match=str(two.server.port)) as caught:
        compared(str(one.root), two.place)
    assert "ssh-keyscan" not in str(caught.value.remedy)


def test_a_circle_of_jumps_ends(builders: tuple[Builder, Builder]) -> None:
    """Two machines that are each reached through the other are reached by nobody."""
    one, two = builders
    two.with_option(f"ProxyJump {one.name}")
    one.with_option(f"ProxyJump {two.name}")
    with pytest.raises(HostUnreachable, match="circle"):
        compared(str(one.root), two.place)


def test_a_proxy_that_fails_is_told(builders: tuple[Builder, Builder]) -> None:
    """A command that ends at once does not keep anybody waiting."""
    one, two = builders
    two.with_option("ProxyCommand false")
    with pytest.raises(HostUnreachable) as caught:
        compared(str(one.root), two.place)
    assert caught.value.step in ("connect", "login")


def test_the_agent_is_asked(
    builders: tuple[Builder, Builder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encrypted key that the agent holds lets in; without the agent nobody is asked for its password."""
    one, two = builders
    key = tmp_path / "encrypted"
    key.write_bytes(two.server.identity.read_bytes())
    key.chmod(0o600)
    key.with_name("encrypted.pub").write_bytes(two.server.identity.with_name("identity.pub").read_bytes())
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", key], check=True, stdout=subprocess.DEVNULL
    )
    two.config.write_text(
        two.config.read_text().replace(str(two.server.identity), str(key)).replace("IdentityAgent none", "")
    )
    sock = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    try:
        while not sock.exists():
            assert agent.poll() is None
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        subprocess.run(["ssh-add", "-q", two.server.identity], check=True)
        assert compared(str(one.root), two.place).verdict == Verdict.AGREE
    finally:
        agent.kill()
        agent.wait()


KILLED = """
import sys
from pipeline.runtime.comparison import read_there
from pipeline.operations.places import place_of
from pipeline.compare.wire import Line
place = place_of(sys.argv[1], "--left")
line = Line(place.name, read_there(place))
line.begin({"ask": "files", "root": str(place.path)})
print("asked", flush=True)
line.finish()
"""


def test_a_reader_ends_when_we_are_killed(builders: tuple[Builder, Builder]) -> None:
    """Killed in the middle of a question, this side leaves no reader at work on the other."""
    _one, two = builders
    with (two.root / "endless").open("wb") as file:
        file.truncate(1 << 42)
    asking = subprocess.Popen([sys.executable, "-c", KILLED, two.place], stdout=subprocess.PIPE)
    assert asking.stdout is not None
    try:
        assert asking.stdout.readline() == b"asked\n"
        found = psutil.Process(two.server.pid).children(recursive=True)
        readers = [each for each in found if READER[-1] in each.cmdline()]
    finally:
        asking.kill()
        asking.wait()
        asking.stdout.close()
    assert len(readers) == 1
    readers[0].wait(timeout=10)

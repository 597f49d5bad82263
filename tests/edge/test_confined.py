"""A program that nobody vouches for can print, and nothing else, and ends."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.edge.confined import Bounds, Confinement, Ran, confined_here, run_confined

LIMITED = Bounds(seconds=100, output_bytes=100_000)


@pytest.fixture(scope="module")
def confined() -> Confinement:
    """What this machine permits; without util-linux there is nothing to test."""
    how = confined_here()
    if not how.usable:
        pytest.skip(how.lacks[-1])
    return how


@pytest.fixture
def spaced(confined: Confinement) -> Confinement:
    """What it permits, where that has namespaces."""
    if not confined.space:
        pytest.skip(confined.lacks[0])
    return confined


@pytest.fixture(params=["strictest", "without namespaces"])
def either(request: pytest.FixtureRequest, confined: Confinement) -> Iterator[Confinement]:
    """Both kinds, and that nothing is left of what ran in it."""
    plain = Confinement((), confined.user, "", space=False)
    before = psutil.Process().children()
    yield confined if request.param == "strictest" else plain
    assert [each for each in psutil.Process().children() if each not in before] == []


def sh(script: str, how: Confinement, bounds: Bounds = LIMITED, **files: bytes) -> Ran:
    """Runs a shell's script, with files in the folder `in`."""
    return run_confined(
        ["sh", "-c", script], {f"in/{name}": data for name, data in files.items()}, bounds, how
    )


def test_it_reads_its_files_and_prints(either: Confinement) -> None:
    """Output, errors and status come back; there is nothing on its standard input."""
    ran = sh("cat in/one - ; echo why >&2; exit 3", either, one=b"some bytes\n")
    assert ran == Ran(3, b"some bytes\n", "why")


def test_it_is_nobody(either: Confinement) -> None:
    """As root started, it runs as another user with no right of root's, and can get none back."""
    ran = sh("grep -E '^(Cap(Prm|Eff)|NoNewPrivs)' /proc/self/status; cat /etc/shadow", either)
    assert ran.output.split() == [
        *(b"CapPrm:", b"0000000000000000", b"CapEff:", b"0000000000000000", b"NoNewPrivs:", b"1")
    ]
    assert "ermission denied" in ran.errors


def test_its_folder_may_be_where_nobody_may_look(
    spaced: Confinement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever temporary files are made, by its absolute path as well it reads its own."""
    (tmp_path / "private").mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "private"))
    assert sh('cat "$(pwd)/in/one"', spaced, one=b"here\n").output == b"here\n"


def test_there_is_no_network(spaced: Confinement) -> None:
    """Not even its own loopback device is up."""
    ran = sh("grep : /proc/net/dev; tail -n +2 /proc/net/route; cat /proc/net/if_inet6", spaced)
    assert ran.output.split()[0] == b"lo:"
    assert len(ran.output.splitlines()) == 1


def test_it_sees_and_signals_nobody(spaced: Confinement) -> None:
    """No process but its own exists for it."""
    ran = sh(f"kill -0 {os.getpid()} && echo seen; ls /proc | grep -c '^[0-9]'", spaced)
    assert int(ran.output) < 8


def test_it_writes_into_memory_alone(spaced: Confinement) -> None:
    """What everybody may write to is its own and gone afterwards; its files and the machine's stay."""
    name = f"pipeline-witness-{os.getpid()}"
    script = (
        f"echo x > /tmp/{name} && cat /tmp/{name}; echo x > /var/tmp/{name}; for at in in/one . / /etc; do"
    )
    ran = sh(
        f'{script} [ -d "$at" ] && at="$at/{name}"; echo y >> "$at"; done; cat in/one', spaced, one=b"1\n"
    )
    assert ran.output == b"x\n1\n"
    assert [os.path.exists(f"{folder}/{name}") for folder in ("/tmp", "/var/tmp", "/", "/etc")] == [False] * 4  # noqa: PTH110
    ran = sh("head -c 70m /dev/zero | split -b 50k - /tmp/part", spaced)
    assert "No space left" in ran.errors


@pytest.mark.parametrize(
    "script",
    [
        *("sleep 60", "trap '' TERM INT HUP; while :; do sleep 1; done", "kill -STOP $$; sleep 60"),
        "setsid sleep 60 & (setsid sleep 60 &) & sleep 60",
    ],
)
def test_its_time_ends(either: Confinement, script: str) -> None:
    """What hangs, ignores signals, stops itself or hides in other sessions is ended, with all it started."""
    begun = time.monotonic()
    ran = sh(script, either, Bounds(seconds=0.3))
    assert (ran.status, ran.errors) == (None, "it took longer than 0.3 s")
    assert time.monotonic() - begun < 30


def test_what_it_leaves_running_is_ended(either: Confinement) -> None:
    """A program that ends and leaves others behind has its status, and they are gone (see the fixture)."""
    assert sh("(setsid sleep 60 &) ; exit 5", either).status == 5


def test_its_output_is_bounded(either: Confinement) -> None:
    """However much it prints, so much is kept, and it is said."""
    ran = sh("yes | head -c 10m", either)
    assert (len(ran.output), ran.cut) == (100_000, True)


def test_its_memory_is_bounded(either: Confinement) -> None:
    """A process that asks for more gets none."""
    small = Bounds(memory_bytes=100 << 20, seconds=100)
    ran = sh("head -c 150m /dev/zero | tail -n 1 | wc -c", either, small)
    assert int(ran.output or b"0") < 150 << 20


def test_it_cannot_fork_for_ever(spaced: Confinement) -> None:
    """It has so many processes at once, and the machine has the others."""
    few = Bounds(seconds=1.0, processes=20)
    ran = sh("bomb() { bomb & bomb; }; bomb", spaced, few)
    assert ran.status != 0


def test_a_program_that_is_none(either: Confinement) -> None:
    """What cannot be started says so, and raises nothing."""
    ran = run_confined(["/nowhere/at/all"], {}, LIMITED, either)
    assert ran.status in (126, 127)
    assert "/nowhere/at/all" in ran.errors

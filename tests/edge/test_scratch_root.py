"""Packages are installed for real, with their scripts, and nothing of this machine is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.edge.process import run
from pipeline.edge.scratch_root import install_packages
from pipeline.errors import InstallFailed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a root to copy")


def package(folder: Path, name: str, **scripts: str) -> None:
    """Makes a package with these maintainer scripts."""
    tree = folder.parent / f"tree-{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = (
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    (tree / "DEBIAN/control").write_text(control)
    (tree / "opt").mkdir()
    (tree / f"opt/{name}").write_text("x\n")
    for script, text in scripts.items():
        (tree / "DEBIAN" / script).write_text(f"#!/bin/sh\nset -e\n{text}\n")
        (tree / "DEBIAN" / script).chmod(0o755)
    folder.mkdir(exist_ok=True)
    run(["dpkg-deb", "--root-owner-group", "--build", tree, folder / f"{name}_1_all.deb"], timeout=60)


def install(folder: Path) -> list[str]:
    try:
        return install_packages(folder)
    except InstallFailed as exc:
        if exc.reason == "not-here":
            pytest.skip(exc.message)
        raise


def test_real_scripts_run_and_leave_nothing(tmp_path: Path) -> None:
    """Configured, checked and purged; what scripts write is gone with the copy."""
    debs = tmp_path / "debs"
    witness = "/var/lib/pipeline-scratch-witness"
    script = (
        f'test "$1" = configure\ntest -f /opt/pipeline-one\ntest -f /opt/pipeline-two\necho x > {witness}'
    )
    package(debs, "pipeline-one", postinst=script, postrm=f"test -f {witness}")
    package(debs, "pipeline-two")
    assert install(debs) == ["pipeline-one_1_all.deb", "pipeline-two_1_all.deb"]
    assert not Path(witness).exists()
    assert not Path("/opt/pipeline-one").exists()
    assert run(["dpkg-query", "-W", "pipeline-one"], check=False, timeout=30).returncode != 0


@pytest.mark.parametrize("script", ["postinst", "preinst", "postrm", "prerm"])
def test_a_script_that_fails_is_named(tmp_path: Path, script: str) -> None:
    """Whichever maintainer script ends with another status than 0, the packages are not promoted."""
    debs = tmp_path / "debs"
    package(debs, "pipeline-broken", **{script: "echo because >&2\nexit 3"})
    with pytest.raises(InstallFailed, match="pipeline-broken") as caught:
        install(debs)
    assert caught.value.reason == "install"


def test_a_script_does_not_get_out(tmp_path: Path) -> None:
    """It sees none of this machine's processes, has no network, cannot mount, and starts no service."""
    debs = tmp_path / "debs"
    script = (
        f"test ! -d /proc/{os.getpid()} -o /proc/{os.getpid()}/cwd -ef /\n"
        "test $(ls /proc | grep -c '^[0-9]*$') -lt 20\n"
        "! mount -t tmpfs x /mnt 2>/dev/null\n"
        "! mknod /tmp/disk b 8 0 2>/dev/null\n"
        "test $(ls /sys/class/net 2>/dev/null | wc -l) -le 1\n"
        "status=0; /usr/sbin/policy-rc.d x start || status=$?; test $status = 101\n"
        "! touch /packages/x 2>/dev/null\n"
    )
    package(debs, "pipeline-curious", postinst=script)
    assert install(debs) == ["pipeline-curious_1_all.deb"]


def test_without_packages_nothing_was_tested(tmp_path: Path) -> None:
    """A set without a package passes no test of installation."""
    with pytest.raises(InstallFailed) as caught:
        install_packages(tmp_path)
    assert caught.value.reason == "empty"
